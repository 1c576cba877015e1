"""What a network is told at its start, what it tells about its peers, and the errors it raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum, StrEnum
from pathlib import Path

from attrs import field, frozen

from gridtokenx.errors import GridTokenXError

PROTOCOL_VERSION = 1
"""Of the wire protocols of this package; a peer with another one is refused at the handshake."""


class NetworkError(GridTokenXError):
    """The root of what this package raises on purpose."""


class ListenError(NetworkError):
    """An address cannot be listened on; the message names it and the reason."""


class AddressError(NetworkError):
    """An address is not a TCP multiaddr of the expected form."""


class PeerGone(NetworkError):
    """The peer is not connected, or its connection ended before the answer."""


class RequestTimeout(NetworkError):
    """No complete answer within the time allowed."""


class TooLarge(NetworkError):
    """A frame, request or answer is longer than its limit."""


class RemoteError(NetworkError):
    """The other side answered with an error of its own: `code` (a short word) and `message`."""

    def __init__(self, message: str, code: str = "error") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class HandshakeRefused(NetworkError):
    """The peer belongs to another chain or speaks another version; the message says which."""


class Channel(IntEnum):
    """The two direct streams of a pair of authorities (CONSENSUS 4)."""

    VOTES = 0
    BODIES = 1


class Topic(StrEnum):
    """What is gossiped (DESIGN 9)."""

    TX = "tx"
    BLOCK = "block"
    GRID = "grid"


FrameHandler = Callable[[bytes, Channel, bytes], Awaitable[None] | None]
"""(public key of the authority, channel, frame)."""
GossipHandler = Callable[[Topic, bytes, bytes, bytes], Awaitable[bool | None]]
"""(topic, data, public key of the forwarder, public key of the origin). False: invalid, do not pass it on."""
RequestHandler = Callable[[bytes, bytes], Awaitable[bytes]]
"""(public key of the peer, payload) -> answer."""


@frozen(kw_only=True)
class Rate:
    """A token bucket: `per_s` on average, `burst` at once."""

    per_s: float
    burst: float


@frozen(kw_only=True)
class NetworkConfig:
    """All limits have values that suit a testnet; a node's configuration file sets the first group.

    Addresses are multiaddrs such as `/ip4/0.0.0.0/tcp/9000`; those of peers end in `/p2p/<peer id>`.
    """

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    """Told to other peers in place of the addresses listened on."""
    bootstrap: tuple[str, ...] = ()
    """Dialled for as long as the network runs; enough to find all others by peer exchange."""
    gossip: bool = True
    topics: frozenset[Topic] = frozenset(Topic)
    """Those subscribed to. Others can still be published to, for the connected peers that subscribe."""
    peer_exchange: bool = True
    mdns: bool = False
    memory_file: Path | None = None
    """Keeps bans and the peers reached last over restarts."""
    psk: str | None = None
    """32 bytes in hex shared by all peers of a private network."""
    max_peers: int = 64
    """Peers that passed the handshake; authorities are admitted beyond it."""
    target_peers: int = 8
    """How many peers other than authorities are dialled, once their addresses are known."""
    max_connections: int = 256
    max_connections_per_address: int = 16
    """Of one IP address; the loopback address has half of `max_connections`, one part of the internet (IPv4 /24,
    IPv6 /48) four times as many as an address."""
    max_unready_connections: int = 48
    """Connections that have not passed the handshake yet."""

    # frames, in bytes
    max_vote_frame: int = 1 << 20
    max_body_frame: int = 4 << 20
    max_request: int = 1 << 20
    max_answer: int = (4 << 20) + 65_536
    max_gossip: int = (2 << 20) + 65_536
    # of one authority, per channel; beyond them it is read more slowly
    link_frames: Rate = field(factory=lambda: Rate(per_s=4000, burst=16_000))
    link_bytes: Rate = field(factory=lambda: Rate(per_s=64 << 20, burst=256 << 20))
    # queue towards one authority, per channel
    queue_frames: int = 4096
    queue_bytes: int = 16 << 20
    # rates of one peer
    peer_gossip_messages: Rate = field(factory=lambda: Rate(per_s=200, burst=600))
    peer_gossip_bytes: Rate = field(factory=lambda: Rate(per_s=8 << 20, burst=32 << 20))
    peer_gossip_control: Rate = field(factory=lambda: Rate(per_s=50, burst=300))
    """Of a neighbour's subscriptions and control messages, in RPCs that have any."""
    origin_gossip_messages: Rate = field(factory=lambda: Rate(per_s=100, burst=300))
    origin_gossip_bytes: Rate = field(factory=lambda: Rate(per_s=4 << 20, burst=16 << 20))
    peer_requests: Rate = field(factory=lambda: Rate(per_s=200, burst=400))
    # rpc
    rpc_max_sessions: int = 64
    rpc_max_sessions_per_peer: int = 8
    rpc_requests: Rate = field(factory=lambda: Rate(per_s=2000, burst=4000))
    """Of one session; beyond it the session is read more slowly."""
    rpc_max_concurrent: int = 32
    """Requests of one session that are handled at once; the rest waits unread."""
    rpc_max_held_bytes: int = 2 << 20
    """What these requests may hold together; a single larger one is taken alone."""
    rpc_queue_frames: int = 2048
    """Answers and pushes waiting for one session; a client that lets it overflow is disconnected."""
    rpc_queue_bytes: int = 16 << 20
    # times, in seconds
    dial_timeout_s: float = 5.0
    handshake_timeout_s: float = 5.0
    link_silence_s: float = 5.0
    """An authority from which nothing came for so long is disconnected and dialled again."""
    authority_backoff_s: tuple[float, float] = (0.25, 3.0)
    """First and longest wait between dials of an authority or bootstrap peer; doubled in between."""
    peer_backoff_s: tuple[float, float] = (1.0, 60.0)
    exchange_interval_s: tuple[float, float] = (1.0, 30.0)
    """Between two questions for addresses: while some authority is missing, doubling; and in the long run."""


@frozen(kw_only=True)
class Hello:
    """What this peer says of itself in the handshake."""

    chain_id: bytes
    genesis_hash: bytes
    name: str = ""
    """Shown to operators; at most 64 characters."""
    protocol_version: int = PROTOCOL_VERSION
    head_height: Callable[[], int] = lambda: 0


@frozen(kw_only=True)
class PeerInfo:
    """One peer as `Network.peers()` shows it; times are trio's clock, in seconds."""

    public: bytes
    address: str
    name: str = ""
    connected: bool = True
    connected_s: float = 0.0
    """How long it has been connected."""
    outbound: bool = False
    authority: bool = False
    linked: bool = False
    """Both of our streams to this authority are open."""
    head_height: int = 0
    """As of its handshake."""
    sent_bytes: int = 0
    received_bytes: int = 0
    dropped: int = 0
    """Frames and messages to or from it that a limit refused."""
    rtt_ms: float | None = None
    score: float = 0.0
    error: str = ""
    """Why it was refused, or why the last dial failed."""
