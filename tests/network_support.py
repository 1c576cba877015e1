"""Networks on loopback and a hostile peer, for the tests of gridtokenx.network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from libp2p.network.stream.net_stream import NetStream
from libp2p.transport.tcp.tcp import TCP

from gridtokenx import codec
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.network.client import _refuse_streams
from gridtokenx.network.framing import FrameStream
from gridtokenx.network.guarded import make_upgrader, negotiate
from gridtokenx.network.identity import key_pair_of, parse_address, peer_id_of
from gridtokenx.network.muxer import GuardedYamux
from gridtokenx.network.network import HELLO_PROTOCOL, Network
from gridtokenx.network.settings import PROTOCOL_VERSION, Hello, NetworkConfig

CHAIN = b"c" * 32
GENESIS = b"g" * 32


def key(number: int) -> PrivateKey:
    return PrivateKey(bytes([number]) * 32)


def make(number: int, *, chain_id: bytes = CHAIN, protocol_version: int = PROTOCOL_VERSION,
         **options: object) -> Network:
    hello = Hello(chain_id=chain_id, genesis_hash=GENESIS, name=f"node{number}", protocol_version=protocol_version)
    return Network(NetworkConfig(**options), key(number), hello)  # type: ignore[arg-type]


async def until(condition: Callable[[], object], seconds: float = 8.0) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)


class Attacker:
    """A peer that speaks the transport honestly and everything above it as the test likes."""

    def __init__(self, muxed: GuardedYamux) -> None:
        self.muxed = muxed

    async def open(self, protocol: str) -> FrameStream:
        stream = FrameStream(NetStream(await self.muxed.open_stream(), None, None))
        await negotiate(stream, protocol)
        return stream

    async def hello(self) -> None:
        """Becomes an admitted peer."""
        stream = await self.open(HELLO_PROTOCOL)
        await stream.write_frame(codec.encode([PROTOCOL_VERSION, CHAIN, GENESIS, "attacker", 0, True, [], ""]))
        await stream.read_frame(8192)
        await stream.close()


@asynccontextmanager
async def attacker(network: Network, number: int) -> AsyncIterator[Attacker]:
    address, public = parse_address(network.addresses[0], with_peer=True)
    assert public is not None
    upgrader = make_upgrader(key_pair_of(key(number)))
    raw = await TCP().dial(address)
    secured = await upgrader.upgrade_security(raw, True, peer_id_of(public))
    muxed = await upgrader.upgrade_connection(secured, peer_id_of(public))
    assert isinstance(muxed, GuardedYamux)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxed.start)
        await muxed.event_started.wait()
        nursery.start_soon(_refuse_streams, muxed)
        yield Attacker(muxed)
        await muxed.sever()
        nursery.cancel_scope.cancel()


async def works(network: Network) -> None:
    """The network still takes a new peer and serves it."""
    async def echo(public: bytes, payload: bytes) -> bytes:
        return payload

    network.serve("still", echo)
    other = make(250, bootstrap=tuple(network.addresses))
    async with other.running():
        await until(lambda: other.peers() and other.peers()[0].connected)
        assert await other.request(network.public, "still", b"alive") == b"alive"
