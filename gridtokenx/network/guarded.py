"""py-libp2p behind a guard: no message, stream or connection of a peer can end or exhaust the process.

Every trap found in py-libp2p 0.8.1 below pubsub is handled here, each with a test in test_network_guarded.py:

- An exception in a stream handler or muxer ends the trio nursery of the whole swarm: all are caught here.
- The swarm holds a slot of its inbound limiter for ever for every connection it ever accepted, so that it goes
  deaf after `max_connections` of them: `GuardedSwarm` frees slot and task with the connection.
- A peer that ignores the receive window, or opens streams without end, grows memory without bound: the muxer's
  maps refuse it and the connection is closed.
- A cancelled write leaves half an encrypted message on the wire and breaks every other stream of the connection:
  writes to the socket are shielded and have a time limit of their own.
- Every read of a stream sends a window update of 12 bytes, encrypted and flushed by itself: they are batched.
- A writer polls every 10 ms for window credit, which holds a stream to 25 MB/s: it is woken.
- Length prefixes before and during negotiation are believed up to 2^64: reads are capped.
- `connect()` waits 250 ms for a second address even on success, dials only the first TCP address of a peer, and
  after one failure refuses the peer for a minute: addresses are dialled here one by one, without that code.
- Plaintext, TLS and mplex are offered by default: only noise and yamux are.
- Stopping the swarm cancels the task that would close its listeners: the port stays open and accepting, in a system
  task, until the process ends. They are closed here, before.
- The auto-connector dials half of `max_connections` whatever its low watermark: there is none here.
- Listening sockets share their port silently with any other process (SO_REUSEPORT): the port is probed first.
- Identify runs as a system task, in which an exception ends the process: outgoing identify is left out, the
  handshake of this package says what is needed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from typing import Any

import structlog
import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee, IRawConnection
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.host.ping import ID as PING_ID
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY_ID
from libp2p.identity.identify.identify import identify_handler_for
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.tools.anyio_service.api import InternalManagerAPI
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from gridtokenx.network.framing import FrameStream, shielded
from gridtokenx.network.identity import host_and_port
from gridtokenx.network.muxer import YAMUX_ID, GuardedMuxer, GuardedYamux
from gridtokenx.network.settings import ListenError, NetworkConfig, PeerGone

log = structlog.get_logger()

NEGOTIATION_TIMEOUT_S = 5.0
_MAX_READ = 65_536
_READ_AHEAD = 64 << 10
_MAX_NEGOTIATION_READ = 1024
_NEIGHBOURS = 4


def quiet_libp2p() -> None:
    """libp2p logs errors for whatever a stranger sends; what matters is logged by this package.

    LIBP2P_DEBUG, libp2p's own switch, keeps its logs on.
    """
    if not os.environ.get("LIBP2P_DEBUG"):
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)


def make_upgrader(key_pair: KeyPair) -> TransportUpgrader:
    """Offers noise and yamux alone."""
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader(
        secure_transports_by_protocol={NOISE_ID: noise},
        muxer_transports_by_protocol={YAMUX_ID: GuardedYamux},
        negotiate_timeout=int(NEGOTIATION_TIMEOUT_S),
    )
    upgrader.muxer_multistream = GuardedMuxer({YAMUX_ID: GuardedYamux}, int(NEGOTIATION_TIMEOUT_S))
    return upgrader


class _Reading(ReadWriteCloser):
    """A stream whose reading alone is changed, by subclasses."""

    def __init__(self, inner: ReadWriteCloser) -> None:
        self._inner = inner

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._inner.get_remote_address()


class CappedReader(_Reading):
    """For negotiations: one read never asks for more than `most` bytes, all together take no more than `total`."""

    def __init__(self, inner: ReadWriteCloser, most: int, total: int) -> None:
        super().__init__(inner)
        self._most = most
        self._left = total

    async def read(self, n: int | None = None) -> bytes:
        if self._left <= 0:
            raise MultiselectError("too many bytes in a negotiation")
        data = await self._inner.read(min(self._left, self._most if n is None or n < 0 else min(n, self._most)))
        self._left -= len(data)
        if not data:
            self._left = 0  # an endless end of file would keep read_exactly busy
        return data


class BufferedStream(_Reading):
    """A TCP stream that is read ahead, so that the small reads of the layers above need no system call each.

    Also lets a length prefix of a stranger claim what it likes: one read never asks for more than `_MAX_READ`.
    A cancelled read loses nothing.
    """

    def __init__(self, inner: ReadWriteCloser) -> None:
        super().__init__(inner)
        self._ahead = b""
        self._at = 0

    async def read(self, n: int | None = None) -> bytes:
        size = _MAX_READ if n is None or n < 0 else min(n, _MAX_READ)
        if size == 0:
            return b""
        if self._at >= len(self._ahead):
            self._ahead, self._at = await self._inner.read(_READ_AHEAD), 0
        data = self._ahead[self._at:self._at + size]
        self._at += len(data)
        return data


def read_ahead(connection: IRawConnection) -> IRawConnection:
    """Gives a fresh connection a buffer for reading; before anything was read from it."""
    if type(connection) is RawConnection and not isinstance(connection.stream, BufferedStream):
        connection.stream = BufferedStream(connection.stream)
    return connection


class GuardedManager:
    """A libp2p service manager whose tasks cannot take the service down."""

    def __init__(self, inner: InternalManagerAPI) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run_task(self, async_fn: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> None:
        async def guarded() -> None:
            try:
                await async_fn(*args)
            except Exception as error:  # noqa: BLE001  logged; the peer's connection is closed where there is one
                log.warning("network.task_failed", task=getattr(async_fn, "__qualname__", str(async_fn)),
                            error=repr(error))
                owner = getattr(async_fn, "__self__", None)
                if isinstance(owner, SwarmConn):
                    await owner.close()

        options.setdefault("name", getattr(async_fn, "__qualname__", None))
        self._inner.run_task(guarded, **options)


class NoAutoConnector(AutoConnector):
    """Whom to dial is decided by Network alone."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:  # noqa: ARG002
        return

    async def maybe_connect(self) -> None:
        return


def neighbourhood(host: str) -> str:
    """The addresses that one customer of a provider may well have: /24 of IPv4, /48 of IPv6."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


class GuardedSwarm(Swarm):
    """Accepts and dials connections under limits, and gives back all that a closed connection used."""

    def __init__(self, config: NetworkConfig, key_pair: KeyPair) -> None:
        self.config = config
        self.tcp = TCP()
        self.accepted: Counter[str] = Counter()
        """Open inbound connections by IP address."""
        self.refused_connections = 0
        self._upgrading = 0
        self.host_banned_s: Callable[[str], float] = lambda host: 0.0  # noqa: ARG005
        peer_store = PeerStore()
        peer_id = ID.from_pubkey(key_pair.public_key)
        peer_store.add_key_pair(peer_id, key_pair)
        super().__init__(
            peer_id, peer_store, make_upgrader(key_pair), transports=[self.tcp],
            retry_config=RetryConfig(max_retries=0),
            connection_config=ConnectionConfig(
                max_connections=config.max_connections, min_connections=0, low_watermark=0,
                high_watermark=config.max_connections, max_connections_per_peer=4,
                inbound_upgrade_timeout=config.handshake_timeout_s, outbound_upgrade_timeout=config.handshake_timeout_s,
                inbound_stream_protocol_negotiation_timeout=NEGOTIATION_TIMEOUT_S,
            ),
            psk=config.psk,
        )
        self.auto_connector = NoAutoConnector(swarm=self)

    @property
    def manager(self) -> InternalManagerAPI:
        return GuardedManager(self._manager)  # type: ignore[return-value]

    def _admit(self, host: str) -> str:
        """Why a connection from `host` is refused, or nothing."""
        if self._closing:
            return "this node is stopping"
        loopback = host.startswith("127.") or host == "::1"
        most = self.config.max_connections // 2 if loopback else self.config.max_connections_per_address
        if self.accepted[host] >= most:
            return f"{most} connections from that address"
        near = neighbourhood(host)
        if not loopback and sum(count for other, count in self.accepted.items() if neighbourhood(other) == near) >= (
                _NEIGHBOURS * most):
            return f"{_NEIGHBOURS * most} connections from {near}"
        banned_s = self.host_banned_s(host)
        if banned_s:
            return f"that address is banned for another {banned_s:.0f} s"
        if self.accepted.total() >= self.config.max_connections:
            return f"{self.config.max_connections} connections in total"
        if self._upgrading >= self.config.max_unready_connections:
            return f"{self._upgrading} connections not yet secured"
        return ""

    async def upgrade_outbound_raw_conn(self, raw_conn: IRawConnection, peer_id: ID,
                                        pre_scope: Any = None) -> SwarmConn:
        return await super().upgrade_outbound_raw_conn(read_ahead(raw_conn), peer_id, pre_scope)

    async def _handle_inbound_connection(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        remote = read_write_closer.get_remote_address()
        host = remote[0] if remote else "?"
        reason = self._admit(host)
        if reason:
            self.refused_connections += 1
            log.info("network.connection_refused", host=host, reason=reason)
            await read_write_closer.close()
            return
        self.accepted[host] += 1
        try:
            raw = RawConnection(BufferedStream(read_write_closer), False)
            self._upgrading += 1
            try:
                muxed = await self.upgrade_inbound_raw_conn(raw, maddr)
            finally:
                self._upgrading -= 1
            assert isinstance(muxed, GuardedYamux)
            await muxed.event_closed.wait()
        except Exception as error:  # noqa: BLE001  a stranger's bytes; anything may be raised
            log.debug("network.inbound_failed", host=host, error=repr(error))
        finally:
            self.accepted[host] -= 1
            if not self.accepted[host]:
                del self.accepted[host]
            with shielded(1.0):
                await read_write_closer.close()

    async def close_all(self, timeout_s: float) -> None:
        """Says goodbye on all connections and takes no new ones."""
        self._closing = True
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                for connection in self.get_connections():
                    if isinstance(connection.muxed_conn, GuardedYamux):
                        nursery.start_soon(connection.muxed_conn.farewell)
        for listener in list(self.listeners.values()):
            with trio.move_on_after(timeout_s):
                await listener.close()
        self.listeners.clear()

    async def dial(self, address: Multiaddr, peer_id: ID) -> SwarmConn:
        """A new connection to `peer_id` at `address`. Raises PeerGone with the reason, within `dial_timeout_s`."""
        try:
            with trio.fail_after(self.config.dial_timeout_s):
                connection = await self._dial_addr_single_attempt(address, peer_id)
        except trio.TooSlowError as error:
            raise PeerGone(f"{address}: no connection within {self.config.dial_timeout_s} s") from error
        except (BaseLibp2pError, OSError, ValueError) as error:
            reason: BaseException = error
            while reason.__cause__ is not None:
                reason = reason.__cause__
            raise PeerGone(f"{address}: {reason or type(reason).__name__}") from error
        assert isinstance(connection, SwarmConn)
        return connection


class ConnectionWatcher(INotifee):
    """Tells of connections that are up and of those that have gone."""

    def __init__(self, up: Callable[[INetConn], Awaitable[None]], down: Callable[[INetConn], Awaitable[None]]) -> None:
        self._up = up
        self._down = down

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        await self._up(conn)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        await self._down(conn)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not of interest."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not of interest."""

    async def listen(self, network: INetwork, multiaddr: Any) -> None:
        """Not of interest."""

    async def listen_close(self, network: INetwork, multiaddr: Any) -> None:
        """Not of interest."""


class GuardedHost(BasicHost):
    """Negotiates streams under limits; handlers may raise what they like."""

    def __init__(self, swarm: GuardedSwarm) -> None:
        quiet_libp2p()
        self.swarm = swarm
        self.refused_streams = 0
        self.failed_handlers = 0
        super().__init__(swarm, default_protocols=OrderedDict[TProtocol, StreamHandlerFn](),
                         negotiate_timeout=int(NEGOTIATION_TIMEOUT_S), disable_identify_address_discovery=True)
        # The notifees registered so far start identify tasks and keep a record per peer ever seen.
        swarm.notifees.clear()
        self.multiselect.handlers.clear()
        self.set_stream_handler(IDENTIFY_ID, identify_handler_for(self, use_varint_format=True))
        self.set_stream_handler(PING_ID, PingService(self).handle_ping)

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:  # noqa: ARG002
        return

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        protocol: TProtocol | None = None
        muxed = net_stream.muxed_conn
        try:
            if isinstance(muxed, GuardedYamux) and not muxed.stream_bucket.take(1, trio.current_time()):
                self.refused_streams += 1
                await net_stream.reset()
                return
            reader = CappedReader(net_stream, _MAX_NEGOTIATION_READ, total=4 * _MAX_NEGOTIATION_READ)
            protocol, handler = await self.multiselect.negotiate(
                MultiselectCommunicator(reader), int(NEGOTIATION_TIMEOUT_S))
            if protocol is None or handler is None:
                await net_stream.reset()
                return
            net_stream.set_protocol(protocol)
            await handler(net_stream)
        except Exception as error:  # noqa: BLE001  one stream ends, nothing else
            if protocol is not None:
                self.failed_handlers += 1
                log.warning("network.stream_handler_failed", protocol=protocol, peer=str(muxed.peer_id),
                            error=repr(error))
            with shielded(1.0):
                await net_stream.reset()

    async def open_stream(self, connection: INetConn, protocol: str, timeout_s: float) -> FrameStream:
        """A stream of `protocol` on this connection and no other. Raises PeerGone.

        Both lines of the negotiation leave in one write, which saves a round trip (multistream-select allows it).
        """
        stream: FrameStream | None = None
        with trio.move_on_after(timeout_s):
            try:
                stream = FrameStream(await connection.new_stream())
                await negotiate(stream, protocol)
            except (BaseLibp2pError, OSError) as error:
                if stream is not None:
                    await stream.reset()
                raise PeerGone(f"no stream for {protocol}: {error or type(error).__name__}") from error
            except BaseException:
                if stream is not None:
                    await stream.reset()
                raise
            return stream
        raise PeerGone(f"no stream for {protocol} within {timeout_s} s")


def _line(text: str) -> bytes:
    raw = text.encode() + b"\n"
    assert len(raw) < 128  # so that its length is one byte
    return bytes((len(raw),)) + raw


_HEADER = "/multistream/1.0.0"


async def negotiate(stream: FrameStream, protocol: str) -> None:
    """Selects `protocol` on a stream that we opened. Raises PeerGone if the other side does not speak it."""
    await stream.write(_line(_HEADER) + _line(protocol))
    for expected in (_HEADER, protocol):
        size = (await stream.read_exactly(1))[0]
        answer = await stream.read_exactly(size & 0x7F)
        if answer != expected.encode() + b"\n":
            raise PeerGone(f"the peer does not speak {protocol}")


def probe_port(address: Multiaddr) -> None:
    """Raises ListenError if another socket listens there; libp2p would share the port with it silently."""
    kind, host, port = host_and_port(address)
    if kind not in ("ip4", "ip6"):
        raise ListenError(f"{address}: listen on an IP address, not on a name")
    if port == 0:
        return
    with socket.socket(socket.AF_INET6 if kind == "ip6" else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
