"""Bytes that no honest peer sends, into all of a node that takes others' bytes: a typed error, no crash, no leak.

    python tests/fuzz_network.py INPUTS SEED

Three layers: every decoder, on valid encodings that were changed (bits, lengths, and values inside the structure); the
parts that keep state (pubsub, muxer, an authority's replica), driven directly; and a real node's socket, attacked
by hundreds of peers at once. The node must go on making blocks, and memory must stay where it was. A failure names its
layer and seed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import structlog  # noqa: E402
import trio  # noqa: E402
from fuzz_socket import attack_node  # noqa: E402
from google.protobuf.message import DecodeError  # noqa: E402
from libp2p.pubsub.pb import rpc_pb2  # noqa: E402
from libp2p.stream_muxer.yamux.yamux import YAMUX_HEADER_FORMAT  # noqa: E402
from network_support import CHAIN, GENESIS, key, make  # noqa: E402
from node_support import OTHER, PUBLICS, TRADER, Cluster, small_genesis, transfer  # noqa: E402

from gridtokenx import codec  # noqa: E402
from gridtokenx.consensus.messages import decode_message  # noqa: E402
from gridtokenx.crypto.mountain_range import decode_proof as decode_mountain_proof  # noqa: E402
from gridtokenx.errors import GridTokenXError, InvariantError  # noqa: E402
from gridtokenx.ledger.block import decode_header  # noqa: E402
from gridtokenx.ledger.receipts import decode_receipt  # noqa: E402
from gridtokenx.ledger.transaction import decode_transaction, transaction_head  # noqa: E402
from gridtokenx.ledger.trie import decode_proof  # noqa: E402
from gridtokenx.network.handshake import decode_hello, encode_hello  # noqa: E402
from gridtokenx.network.identity import peer_id_of  # noqa: E402
from gridtokenx.network.muxer import GuardedYamux  # noqa: E402
from gridtokenx.network.rpc import _decode_request  # noqa: E402
from gridtokenx.network.settings import Hello, Rate, TooLarge, Topic  # noqa: E402
from gridtokenx.network.standing import Standings  # noqa: E402
from gridtokenx.node.records import decode_block, decode_frame  # noqa: E402
from gridtokenx.node.replica import Channel  # noqa: E402
from gridtokenx.node.serve import answer_for  # noqa: E402
from gridtokenx.node.sync import decode_answer, decode_request, encode_request  # noqa: E402

ODD = [
    0,
    1,
    -1,
    2,
    23,
    24,
    255,
    256,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    -(1 << 63),
    b"",
    bytes(32),
    bytes(33),
    "",
    "x",
    "\x00",
    True,
    False,
    None,
    [],
    [[]],
    {},
    {1: 2},
]
Decoder = Callable[[bytes], object]


def own_mib() -> float:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


# ---------------------------------------------------------------- changed bytes


def changed_value(rng: random.Random, value: object, depth: int = 0) -> object:
    """`value` with something in it replaced, left out, repeated or moved."""
    if isinstance(value, list) and value and rng.random() < 0.85:
        made = list(value)
        at = rng.randrange(len(made))
        match rng.randrange(6):
            case 0:
                del made[at]
            case 1:
                made.insert(at, made[rng.randrange(len(made))])
            case 2:
                made[at] = rng.choice(ODD)
            case _:
                made[at] = changed_value(rng, made[at], depth + 1)
        return made
    if isinstance(value, bytes) and value and rng.random() < 0.7:
        try:
            inner = codec.decode(value)
            if isinstance(inner, list) and rng.random() < 0.8:
                return codec.encode(changed_value(rng, inner, depth + 1))
        except codec.CodecError:
            pass
        return changed_bytes(rng, value)
    return rng.choice(ODD)


def changed_bytes(rng: random.Random, raw: bytes) -> bytes:
    made = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(made)) if made else 0
        match rng.randrange(5):
            case 0 if made:
                made[at] ^= 1 << rng.randrange(8)
            case 1 if made:
                made[at] = rng.randrange(256)
            case 2:
                del made[at : at + rng.randrange(1, 9)]
            case 3:
                made[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                del made[at:]
    return bytes(made)


def changed(rng: random.Random, raw: bytes) -> bytes:
    """Mostly still canonical, so that what lies behind the codec is reached."""
    if rng.random() < 0.7:
        try:
            return codec.encode(changed_value(rng, codec.decode(raw, max_bytes=1 << 24)))
        except codec.CodecError:
            return changed_bytes(rng, raw)
    return rng.randbytes(rng.randrange(80)) if rng.random() < 0.1 else changed_bytes(rng, raw)


# ---------------------------------------------------------------- what valid bytes look like


class Seeds:
    """Frames and records of a small chain that did some work."""

    def __init__(self, folder: Path) -> None:
        self.frames: dict[Channel, list[bytes]] = {channel: [] for channel in Channel}
        cluster = Cluster(small_genesis(4), folder)
        cluster.tamper = self._keep
        self.cluster = cluster
        cluster.run(1_500)
        for nonce in range(4):
            cluster.submit(nonce % 4, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1)])
            cluster.run(700)
        cluster.down.add(3)
        cluster.submit(0, [transfer(cluster.genesis, TRADER, 4, OTHER.public, 1)])
        cluster.run(3_000)
        cluster.down.clear()
        cluster.run(2_000)
        cluster.tamper = None
        self.frames = {channel: rarest_first(frames) for channel, frames in self.frames.items()}

    def _keep(self, sender: int, to: int, channel: Channel, frame: bytes) -> bytes:
        del sender, to
        self.frames[channel].append(frame)
        return frame


def rarest_first(frames: list[bytes]) -> list[bytes]:
    """A few of each kind."""
    kinds: Counter[object] = Counter()
    chosen = []
    for frame in dict.fromkeys(frames):
        value = codec.decode(frame)
        kind = (value[0], len(frame) // 64) if isinstance(value, list) and value else None
        if kinds[kind] < 4:
            chosen.append(frame)
        kinds[kind] += 1
    return chosen


def _same_as_whole(raw: bytes) -> None:
    head = transaction_head(raw)
    whole = decode_transaction(raw)
    assert head == (whole.sender, whole.nonce, whole.fee_uthb, len(whole.operations))


def decoders(seeds: Seeds) -> dict[str, tuple[Decoder, list[bytes]]]:
    member = seeds.cluster.members[0]
    chain, genesis = member.chain, member.genesis
    raw_transaction = transfer(genesis, TRADER, 9, OTHER.public, 5)
    finals = chain.finals()
    hello = Hello(chain_id=CHAIN, genesis_hash=GENESIS, name="n")
    blocks = [codec.encode([block.header.encode(), [t.raw for t in block.transactions]]) for block in finals[:3]]
    receipts = [raw for block in finals if block.result is not None for raw in block.result.receipts_raw]
    table: dict[str, tuple[Decoder, list[bytes]]] = {
        "codec": (codec.decode, [raw_transaction, *seeds.frames[Channel.VOTES][:5]]),
        "transaction": (decode_transaction, [raw_transaction]),
        "transaction's head": (_same_as_whole, [raw_transaction]),
        "header": (decode_header, [block.header.encode() for block in finals[:3]]),
        "vote frame": (decode_message, seeds.frames[Channel.VOTES]),
        "body frame": (decode_frame, seeds.frames[Channel.BODIES]),
        "logged block": (decode_block, blocks),
        "sync request": (decode_request, [encode_request(1)]),
        "sync answer": (decode_answer, [answer_for(member.database, chain, 1, 8)]),
        "hello": (lambda raw: decode_hello(raw, hello), [encode_hello(hello, ["/ip4/1.2.3.4/tcp/5"], "", gossip=True)]),
        "rpc request": (lambda raw: _decode_request(raw, 1 << 20), [codec.encode([1, "status", [1, b"x"]])]),
        "receipt": (decode_receipt, receipts[:3] or [codec.encode([bytes(32), 1, []])]),
        "peers file": (
            lambda raw: Standings().restore(raw, 1.0, 2.0),
            [codec.encode([1, 5, [[bytes(32), 1, 2, 3]], [[b"1.2.3.4", 1, 2, 3]], [[bytes(32), "/ip4/1"]]])],
        ),
        "trie proof": (decode_proof, [codec.encode([[bytes(32)], 3, [bytes(32), bytes(32)]])]),
        "headers proof": (decode_mountain_proof, [codec.encode([3, 1, [bytes(32)], [bytes(32)]])]),
    }
    return table


def fuzz_decoders(seeds: Seeds, inputs: int, seed: int, done: Counter[str]) -> None:
    table = decoders(seeds)
    rng = random.Random(seed)
    names = sorted(table)
    for number in range(inputs):
        name = names[number % len(names)]
        decode, valid = table[name]
        raw = changed(rng, rng.choice(valid))
        try:
            decode(raw)
            done["decoded"] += 1
        except GridTokenXError as error:
            assert str(error), name
            done["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {raw.hex()}") from error


# ---------------------------------------------------------------- parts with state


def fuzz_replica(seeds: Seeds, inputs: int, seed: int, done: Counter[str]) -> None:
    """Frames of an authority that lies, into a replica; what it decides is looked at and thrown away."""
    rng = random.Random(seed)
    cluster = seeds.cluster
    replica = cluster.members[0].replica
    for number in range(inputs):
        channel = rng.choice(list(Channel))
        frames = seeds.frames[channel]
        raw = changed(rng, rng.choice(frames)) if rng.random() < 0.9 else rng.choice(frames)
        replica.at(cluster.now_ms + number, cluster.now_ms + number)
        try:
            replica.receive(PUBLICS[rng.randrange(1, 4)], channel, raw)
            replica.verify_some(8)
            done["taken"] += 1
        except InvariantError:
            raise
        except GridTokenXError:
            done["refused"] += 1
        turn = replica.take_turn()
        for job in turn.jobs:
            job.run()
            replica.job_done(job)


def rpcs(rng: random.Random, topic: str) -> bytes:
    """An RPC of pubsub: well-formed, nearly so, or not at all."""
    rpc = rpc_pb2.RPC()
    for _ in range(rng.randrange(3)):
        rpc.publish.append(
            rpc_pb2.Message(
                data=rng.randbytes(rng.randrange(40)),
                topicIDs=[rng.choice([topic, "", "other"])] * rng.randrange(3),
                from_id=rng.choice([peer_id_of(key(7).public).to_bytes(), b"", b"junk", rng.randbytes(38)]),
                seqno=rng.randbytes(rng.choice([0, 1, 8, 9])),
                key=rng.randbytes(rng.randrange(3)),
                signature=rng.randbytes(rng.choice([0, 64, 65])),
            )
        )
    for _ in range(rng.randrange(4)):
        rpc.subscriptions.append(
            rpc_pb2.RPC.SubOpts(subscribe=rng.random() < 0.5, topicid=rng.choice([topic, "", "t"]))
        )
    for _ in range(rng.randrange(4)):
        name = rng.choice([topic, "", rng.randbytes(5).hex()])
        rpc.control.ihave.append(
            rpc_pb2.ControlIHave(
                topicID=name, messageIDs=[rng.randbytes(rng.randrange(50)) for _ in range(rng.randrange(20))]
            )
        )
        rpc.control.iwant.append(rpc_pb2.ControlIWant(messageIDs=[rng.randbytes(rng.randrange(50))]))
        rpc.control.graft.append(rpc_pb2.ControlGraft(topicID=name))
        rpc.control.prune.append(rpc_pb2.ControlPrune(topicID=name, backoff=rng.choice([0, 1, 1 << 62])))
    raw = rpc.SerializeToString()
    return changed_bytes(rng, raw) if rng.random() < 0.4 else raw


async def fuzz_pubsub(inputs: int, seed: int, done: Counter[str]) -> None:
    rng = random.Random(seed)
    fast = Rate(per_s=1e9, burst=1e9)
    network = make(1, peer_gossip_control=fast, peer_gossip_messages=fast, peer_gossip_bytes=fast)
    async with network.running():
        gossip = network._gossip
        assert gossip is not None
        topic = gossip.names[Topic.TX]
        for number in range(inputs):
            public = key(rng.randrange(60, 90)).public
            try:
                await gossip.pubsub._take(peer_id_of(public), public, rpcs(rng, topic))
                done["taken"] += 1
            except (TooLarge, DecodeError, ValueError):
                done["refused"] += 1
            await trio.lowlevel.checkpoint()
            if number % 1000 == 999:
                gossip.router._trim()


class Wire:
    """A secured connection with the given bytes in it and no end on the other side."""

    is_initiator = False

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        data = self._raw[self._at : self._at + (n or 65_536)]
        self._at += len(data)
        return data

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    def get_remote_address(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)


def frames(rng: random.Random, count: int) -> bytes:
    import struct

    made = []
    for _ in range(count):
        size = rng.choice([0, 0, 1, 12, 64, 5000])
        told = size if rng.random() < 0.9 else rng.choice([0, size + 1, 1 << 20, (1 << 32) - 1])
        kind = rng.choice([0, 0, 1, 1, 2, 3, 4, 255])
        made.append(
            struct.pack(
                YAMUX_HEADER_FORMAT,
                0 if rng.random() < 0.97 else rng.randrange(256),
                kind,
                rng.choice([0, 1, 2, 4, 8, 15, 65_535]),
                rng.choice([0, 1, 1, 3, 5, 7, (1 << 32) - 1]),
                told,
            )
        )
        if kind == 0:
            made.append(rng.randbytes(size))
    return b"".join(made)


async def fuzz_muxer(inputs: int, seed: int, done: Counter[str]) -> None:
    rng = random.Random(seed)
    for _ in range(max(1, inputs // 50)):
        muxed = GuardedYamux(Wire(frames(rng, 50)), peer_id_of(key(3).public), is_initiator=False)  # type: ignore[arg-type]
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_accept, muxed)
                await muxed.start()
                nursery.cancel_scope.cancel()
        held = sum(map(len, muxed.stream_buffers.values()))
        assert held < 1 << 24, held
        done["taken"] += 50


async def _accept(muxed: GuardedYamux) -> None:
    try:
        while True:
            await muxed.accept_stream()
    except Exception:  # noqa: BLE001  the connection has ended
        return


# ---------------------------------------------------------------- all of it


def main(inputs: int, seed: int) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    parts: list[tuple[str, float, Callable[[Seeds, int, int, Counter[str]], None]]] = [
        ("decoders", 0.60, fuzz_decoders),
        ("replica", 0.10, fuzz_replica),
        ("pubsub", 0.10, lambda _, count, at, done: trio.run(fuzz_pubsub, count, at, done)),
        ("muxer", 0.10, lambda _, count, at, done: trio.run(fuzz_muxer, count, at, done)),
        ("a node's socket", 0.10, lambda _, count, at, done: trio.run(attack_node, count, at, done)),
    ]
    total = 0
    with tempfile.TemporaryDirectory() as name:
        seeds = Seeds(Path(name))
        for title, share, fuzz in parts:
            done: Counter[str] = Counter()
            count = max(50, int(inputs * share))
            began, before = time.monotonic(), own_mib()
            half = 0.0
            try:
                fuzz(seeds, count // 2, seed, done)
                half = own_mib()
                fuzz(seeds, count - count // 2, seed + 1, done)
            except BaseException:  # noqa: BLE001  whatever it is, it is the finding
                traceback.print_exc()
                print(f"FAILED in {title}, seed {seed}, after {dict(done)}")
                return 1
            total += count
            print(
                f"{title:16} {count:9,} inputs in {time.monotonic() - began:5.0f} s: "
                + ", ".join(f"{name} {number:,}" for name, number in sorted(done.items()))
                + f"; memory {before:.0f}, {half:.0f}, {own_mib():.0f} MiB",
                flush=True,
            )
        seeds.cluster.close()
    print(f"{total:,} inputs, no crash")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
