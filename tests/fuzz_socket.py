"""Attacks on a real node's socket, many at once, in every way that a stranger has; then: does it still work?"""

from __future__ import annotations

import random
import struct
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from libp2p.network.stream.net_stream import NetStream
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT
from libp2p.transport.tcp.tcp import TCP
from libp2p.utils.varint import encode_uvarint

from benchmarks.cluster import Cluster, benchmark_genesis, running
from gridtokenx import codec
from gridtokenx.client import Account, Client, connect
from gridtokenx.client.errors import ClientError
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.operations import Transfer
from gridtokenx.network.client import _refuse_streams
from gridtokenx.network.framing import FrameStream, frame_bytes
from gridtokenx.network.gossip import MESHSUB
from gridtokenx.network.guarded import make_upgrader, negotiate
from gridtokenx.network.identity import host_and_port, key_pair_of, parse_address, peer_id_of
from gridtokenx.network.muxer import GuardedYamux
from gridtokenx.network.network import HELLO_PROTOCOL
from gridtokenx.network.rpc import RPC_PROTOCOL
from gridtokenx.network.settings import PROTOCOL_VERSION
from testnet.keys import testnet_key

PORT_BASE = 10_890
AT_ONCE = 24
PASSES = 4
RICH = testnet_key("fuzz")
METHODS = (
    "status",
    "submit",
    "transaction",
    "wait",
    "account",
    "participant",
    "meter",
    "order",
    "orders",
    "trades",
    "book",
    "prices",
    "indicative",
    "rates",
    "block",
    "blocks",
    "authorities",
    "peers",
    "bill",
    "window",
    "suspects",
    "subscribe",
    "unsubscribe",
    "flags",
    "energy",
    "claim",
    "nothing",
    "",
)
PROTOCOLS = (
    HELLO_PROTOCOL,
    MESHSUB,
    RPC_PROTOCOL,
    "/gridtokenx/votes/1",
    "/gridtokenx/bodies/1",
    "/gridtokenx/peers/1",
    "/gridtokenx/sync/1",
    "/gridtokenx/blocks/1",
    "/ipfs/id/1.0.0",
    "/ipfs/ping/1.0.0",
)
ODD = [
    0,
    1,
    -1,
    500,
    1 << 62,
    (1 << 64) - 1,
    b"",
    bytes(32),
    b"x" * 5000,
    "",
    "blocks",
    None,
    True,
    [],
    [[]],
    [bytes(32)] * 3,
    {},
    {"zone": 1},
    {"account": bytes(32)},
]


class Target:
    """The node under attack."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.address = cluster.addresses[0]
        self.chain_id = cluster.genesis.chain_id
        self.genesis_hash = cluster.genesis.header().hash
        where, _ = parse_address(self.address, with_peer=True)
        self.port = int(host_and_port(where)[2])

    @asynccontextmanager
    async def muxed(self) -> AsyncIterator[GuardedYamux]:
        """A connection of a peer with a new key, secured and muxed honestly."""
        address, public = parse_address(self.address, with_peer=True)
        assert public is not None
        raw = await TCP().dial(address)
        try:
            upgrader = make_upgrader(key_pair_of(PrivateKey.generate()))
            secured = await upgrader.upgrade_security(raw, True, peer_id_of(public))
            muxed = await upgrader.upgrade_connection(secured, peer_id_of(public))
            assert isinstance(muxed, GuardedYamux)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(muxed.start)
                await muxed.event_started.wait()
                nursery.start_soon(_refuse_streams, muxed)
                yield muxed
                await muxed.sever()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await raw.close()

    async def stream(self, muxed: GuardedYamux, protocol: str) -> FrameStream:
        stream = FrameStream(NetStream(await muxed.open_stream(), None, None))
        await negotiate(stream, protocol)
        return stream

    async def hello(self, muxed: GuardedYamux) -> None:
        stream = await self.stream(muxed, HELLO_PROTOCOL)
        await stream.write_frame(
            codec.encode([PROTOCOL_VERSION, self.chain_id, self.genesis_hash, "fuzz", 0, True, [], ""])
        )
        await stream.read_frame(8192)
        await stream.close()


Attack = Callable[[Target, random.Random, int], Awaitable[int]]


async def tcp_garbage(target: Target, rng: random.Random, most: int) -> int:
    del most
    stream = await trio.open_tcp_stream("127.0.0.1", target.port)
    async with stream:
        await stream.send_all(
            rng.choice(
                [
                    rng.randbytes(rng.randrange(1, 3000)),
                    b"\x13/multistream/1.0.0\n" + rng.randbytes(99),
                    b"\xff" * 20,
                    b"GET / HTTP/1.1\r\n\r\n",
                ]
            )
        )
        with trio.move_on_after(0.05):
            await stream.receive_some(100)
    return 1


async def half_open(target: Target, rng: random.Random, most: int) -> int:
    """Says little or nothing for longer than a negotiation may take."""
    del most
    stream = await trio.open_tcp_stream("127.0.0.1", target.port)
    async with stream:
        await stream.send_all(b"\x13/multistream/1.0.0\n"[: rng.randrange(20)])
        await trio.sleep(rng.choice([0.1, 0.5, 6.0]))
    return 1


async def muxer_frames(target: Target, rng: random.Random, most: int) -> int:
    sent = 0
    async with target.muxed() as muxed:
        for _ in range(min(most, 40)):
            header = struct.pack(
                YAMUX_HEADER_FORMAT,
                rng.choice([0, 0, 0, 9]),
                rng.randrange(6),
                rng.randrange(16),
                rng.randrange(64),
                rng.choice([0, 5, 1 << 31]),
            )
            await muxed._write_frame(header + rng.randbytes(rng.randrange(64)))
            sent += 1
    return sent


async def stream_flood(target: Target, rng: random.Random, most: int) -> int:
    del rng
    sent = 0
    async with target.muxed() as muxed:
        for number in range(101, 101 + 2 * min(most, 300), 2):
            await muxed._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, FLAG_SYN, number, 0))
            sent += 1
    return sent


async def every_protocol(target: Target, rng: random.Random, most: int) -> int:
    sent = 0
    async with target.muxed() as muxed:
        if rng.random() < 0.7:
            await target.hello(muxed)
        for _ in range(min(most, 8)):
            stream = await target.stream(muxed, rng.choice(PROTOCOLS))
            raw = rng.randbytes(rng.randrange(1, 2000))
            await stream.write(
                rng.choice(
                    [
                        raw,
                        frame_bytes(raw),
                        frame_bytes(b""),
                        b"\xff" * 8,
                        frame_bytes(codec.encode([rng.choice(ODD) for _ in range(rng.randrange(9))])),
                    ]
                )
            )
            sent += 1
    return sent


async def pubsub(target: Target, rng: random.Random, most: int) -> int:
    sent = 0
    topic = f"/gridtokenx/{target.chain_id.hex()[:16]}/tx"
    async with target.muxed() as muxed:
        await target.hello(muxed)
        stream = await target.stream(muxed, MESHSUB)
        for _ in range(min(most, 12)):
            rpc = rpc_pb2.RPC()
            match rng.randrange(5):
                case 0:
                    raw = rng.randbytes(200)
                case 1:
                    rpc.publish.append(
                        rpc_pb2.Message(
                            data=b"x",
                            topicIDs=[topic],
                            from_id=b"junk",
                            key=b"\xff\xfe",
                            seqno=bytes(8),
                            signature=bytes(64),
                        )
                    )
                    raw = rpc.SerializeToString()
                case 2:
                    for number in range(200):
                        rpc.control.graft.append(rpc_pb2.ControlGraft(topicID=f"{number}"))
                        rpc.control.ihave.append(rpc_pb2.ControlIHave(topicID=topic, messageIDs=[rng.randbytes(40)]))
                        rpc.control.prune.append(rpc_pb2.ControlPrune(topicID=topic, backoff=1 << 60))
                    raw = rpc.SerializeToString()
                case 3:
                    rpc.subscriptions.extend([rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)] * 5)
                    raw = rpc.SerializeToString()
                case _:
                    await stream.write(encode_uvarint(1 << 27) + bytes(100))
                    raw = b""
            await stream.write(encode_uvarint(len(raw)) + raw)
            sent += 1
    return sent


async def slow_reader(target: Target, rng: random.Random, most: int) -> int:
    """Asks for much and reads nothing."""
    sent = 0
    async with target.muxed() as muxed:
        stream = await target.stream(muxed, RPC_PROTOCOL)
        await stream.write_frame(codec.encode([1, "subscribe", ["blocks"]]))
        with trio.move_on_after(5.0):
            for number in range(2, 2 + min(most, 3000)):
                await stream.write_frame(codec.encode([number, rng.choice(["genesis", "parameters", "peers"]), []]))
                sent += 1
    return sent


async def rpc_requests(target: Target, rng: random.Random, most: int) -> int:
    """Calls with parameters of every wrong kind; many at once, answers read."""
    sent = 0
    async with connect([target.address]) as client, trio.open_nursery() as nursery:
        for _ in range(min(most, 2000) // 20):
            async with trio.open_nursery() as batch:
                for _ in range(20):
                    parameters = [rng.choice(ODD) for _ in range(rng.randrange(4))]
                    batch.start_soon(_call, client, rng.choice(METHODS), parameters)
                    sent += 1
        nursery.cancel_scope.cancel()
    return sent


async def _call(client: Client, method: str, parameters: list[object]) -> None:
    try:
        await client.call(method, *parameters, timeout_s=20)
    except ClientError as error:
        assert "could not be handled" not in str(error), (method, parameters, str(error))


ATTACKS: list[tuple[str, float, Attack]] = [
    ("tcp garbage", 0.006, tcp_garbage),
    ("half-open", 0.0006, half_open),
    ("muxer frames", 0.05, muxer_frames),
    ("stream flood", 0.08, stream_flood),
    ("protocols", 0.02, every_protocol),
    ("pubsub", 0.02, pubsub),
    ("slow reader", 0.12, slow_reader),
    ("rpc", 1.0, rpc_requests),
]


async def attack_node(inputs: int, seed: int, done: Counter[str]) -> None:
    """Attacks a fresh node with about `inputs` inputs; it must make blocks before and after each of the passes.

    What a pass leaves behind (libraries loaded, address books and tables of peers filled to their bounds), the next one
    must not add to much.
    """
    rng = random.Random(seed)
    genesis = benchmark_genesis(1, [RICH], 10**13, 1)
    with tempfile.TemporaryDirectory() as name:
        async with running(Path(name), genesis, PORT_BASE) as cluster:
            target = Target(cluster)
            await pays(target)
            memory = [cluster.own_mib()]
            for _ in range(PASSES):
                for title, share, attack in ATTACKS:
                    await _many(target, rng, attack, title, max(3, int(inputs * share / PASSES)), done)
                await trio.sleep(11)  # what never greeted is gone by then
                await pays(target)
                memory.append(cluster.own_mib())
            for number, mib in enumerate(memory):
                done[f"node MiB after pass {number}" if number else "node MiB before"] = int(mib)
            assert memory[-1] < memory[0] + 120, f"the node's memory grew from {memory[0]:.0f} to {memory[-1]:.0f} MiB"


async def _many(
    target: Target, rng: random.Random, attack: Attack, title: str, inputs: int, done: Counter[str]
) -> None:
    left = [inputs]

    async def one(seed: int) -> None:
        own = random.Random(seed)
        idle = 0
        while left[0] > 0 and idle < 50:
            try:
                sent = await attack(target, own, left[0])
            except* (AssertionError, KeyboardInterrupt):
                raise
            except* Exception:  # noqa: BLE001  the node has closed the connection, as it should
                sent = 1
            idle = 0 if sent else idle + 1
            left[0] -= sent
            done[title] += sent

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE if attack is not rpc_requests else 4):
            nursery.start_soon(one, rng.randrange(1 << 60))


async def pays(target: Target) -> None:
    """A transaction becomes final: the node serves strangers and makes blocks."""
    with trio.fail_after(60):
        while True:
            try:
                async with connect([target.address]) as client:
                    found = await client.account(RICH.public)
                    account = Account(RICH, target.chain_id, 0 if found is None else found["nonce"])
                    signed = account.sign(
                        [Transfer(bytes(31) + b"\x01", 1)], valid_until_height=1 << 40, fee_uthb=100_000
                    )
                    await client.submit([signed.raw])
                    [state] = await client.wait([signed.id], 20_000)
                    assert state["state"] == "final", state
                    return
            except ClientError:
                await trio.sleep(0.2)
