"""Snapshots between peers: bounds on what is asked and given, bad chunks, going on after a stop; a real new node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from attrs import evolve
from click.testing import CliRunner
from ledger_support import EGAT, ISSUER, REGISTRAR, genesis
from node_support import OTHER, TRADER, Cluster, key, small_genesis, transfer
from test_node_rpc import Wallet, client, running, write_node

from gridtokenx import codec
from gridtokenx.cli import cli
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.operations import Transfer
from gridtokenx.light.verify import Trust
from gridtokenx.network.settings import PeerGone, RemoteError
from gridtokenx.node import snapshot_wire
from gridtokenx.node.snapshot_fetch import INCOMING_DIRECTORY, Fetcher, NoSnapshot
from gridtokenx.node.snapshot_wire import (
    CHUNK,
    MANIFEST,
    OFFERS,
    Shelf,
    SnapshotRefused,
    SnapshotServer,
    decode_offers,
    decode_request,
    encode_request,
)
from gridtokenx.node.snapshots import Snapshots
from gridtokenx.snapshots.make import make_snapshot
from gridtokenx.snapshots.restore import restore_snapshot
from gridtokenx.store.database import Database

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(small_genesis(4), tmp_path_factory.mktemp("chain"))
    cluster.run(1_500)
    for nonce in range(3):
        cluster.submit(1, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1)])
        cluster.run(400)
        cluster.checkpoint(0)
    yield cluster
    cluster.close()


@pytest.fixture
def shelf(cluster: Cluster, tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "snapshots")
    shelf.look(2)
    for height in (1, 2, cluster.members[0].database.executed_height):
        make_snapshot(cluster.path / "0", shelf.path(height), height=height, nibbles=1)
    yield shelf
    shelf.close()


class Peers:
    """Servers by key, some of which spoil what they send."""

    def __init__(self, shelf: Shelf) -> None:
        self.server = SnapshotServer(shelf)
        self.spoil: dict[bytes, Callable[[list[int], bytes], bytes]] = {}
        self.reports: list[tuple[bytes, str]] = []
        self.asked: list[tuple[bytes, list[int]]] = []
        self.gone: set[bytes] = set()

    async def request(self, peer: bytes, payload: bytes) -> bytes:
        self.asked.append((peer, decode_request(payload)))
        if peer in self.gone:
            raise PeerGone("gone")
        try:
            answer = await self.server.handle(peer, payload)
        except SnapshotRefused as error:
            raise RemoteError(str(error)) from error
        spoil = self.spoil.get(peer)
        return answer if spoil is None else spoil(decode_request(payload), answer)

    def fetcher(self, cluster: Cluster, data: Path) -> Fetcher:
        return Fetcher(self.request, lambda peer, reason: self.reports.append((peer, reason)),
                       Trust.of_hash(cluster.genesis.header().hash), data)


@pytest.fixture
def peers(shelf: Shelf) -> Peers:
    shelf.look(2)
    return Peers(shelf)


async def test_fetched_from_several_and_restored(cluster: Cluster, peers: Peers, tmp_path: Path) -> None:
    fetcher = peers.fetcher(cluster, tmp_path / "new")
    manifest = await fetcher.fetch([A, B, C], 0)
    header = restore_snapshot(manifest, map(fetcher.chunk, range(manifest.chunks)), cluster.genesis, tmp_path / "new",
                              map_bytes=64 << 20)
    assert header.height == cluster.members[0].database.executed_height
    assert {peer for peer, fields in peers.asked if fields[0] == CHUNK} == {A, B, C}
    fetcher.forget()
    with Database.open(tmp_path / "new", cluster.genesis.chain_id, map_bytes=64 << 20) as database:
        assert database.executed_height == header.height
    assert not (tmp_path / "new" / INCOMING_DIRECTORY).exists() and not peers.reports


async def test_a_bad_chunk_costs_its_giver_its_place(cluster: Cluster, peers: Peers, tmp_path: Path) -> None:
    peers.spoil[B] = lambda fields, answer: answer if fields[0] != CHUNK else answer[:-1] + bytes([answer[-1] ^ 1])
    await peers.fetcher(cluster, tmp_path / "new").fetch([A, B, C], 0)
    assert len(peers.reports) <= 4 and {peer for peer, _ in peers.reports} == {B}
    assert all(reason.startswith("chunk ") for _, reason in peers.reports)
    peers.spoil[A] = peers.spoil[C] = peers.spoil[B]
    with pytest.raises(NoSnapshot, match="no peer is left"):
        await peers.fetcher(cluster, tmp_path / "other").fetch([A, B, C], 0)


async def test_bad_manifests_and_liars_are_passed_over(cluster: Cluster, peers: Peers, tmp_path: Path) -> None:
    def lie(fields: list[int], answer: bytes) -> bytes:
        if fields[0] == OFFERS:
            return codec.encode([[999, 16, 5], *map(list, decode_offers(answer))])
        return answer[:-1] + bytes([answer[-1] ^ 1]) if fields[0] == MANIFEST else answer

    peers.spoil[A] = lambda fields, answer: lie(fields, answer)
    peers.spoil[B] = lambda fields, answer: b"\xff" if fields[0] == OFFERS else answer
    fetcher = peers.fetcher(cluster, tmp_path / "new")
    with pytest.raises(NoSnapshot, match="height above 500"):
        await fetcher.fetch([A, B, C], 500)
    with pytest.raises(NoSnapshot):
        await fetcher.fetch([B], 0)


async def test_goes_on_where_it_was(cluster: Cluster, peers: Peers, tmp_path: Path) -> None:
    limit = 5

    async def request(peer: bytes, payload: bytes) -> bytes:
        if sum(fields[0] == CHUNK for _, fields in peers.asked) >= limit:
            raise PeerGone("the cable is out")
        return await peers.request(peer, payload)

    fetcher = peers.fetcher(cluster, tmp_path / "new")
    fetcher.request = request
    with pytest.raises(NoSnapshot, match="kept for the next start"):
        await fetcher.fetch([A], 0)
    spoiled = tmp_path / "new" / INCOMING_DIRECTORY / "00000"
    spoiled.write_bytes(spoiled.read_bytes()[:-1])
    peers.asked.clear()
    again = peers.fetcher(cluster, tmp_path / "new")
    manifest = await again.fetch([B], 0)
    assert [fields[0] for _, fields in peers.asked].count(MANIFEST) == 0
    assert len([fields for _, fields in peers.asked if fields[0] == CHUNK]) == manifest.chunks - limit + 1


async def test_the_server_keeps_its_bounds(cluster: Cluster, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SnapshotServer(shelf)
    with pytest.raises(SnapshotRefused, match="there are none"):
        await server.handle(A, encode_request(MANIFEST, 1))
    files = shelf.look(2)
    heights = [file.height for file in files]
    assert heights == [cluster.members[0].database.executed_height, 2] and not shelf.path(1).exists()
    assert [height for height, _, _ in decode_offers(await server.handle(A, encode_request(OFFERS)))] == heights
    for bad in (b"", b"\x80", codec.encode([4]), codec.encode([2]), codec.encode([3, 1, 1]), codec.encode([2, -1]),
                codec.encode([2, "x"]), codec.encode([1, 1]), bytes(100)):
        with pytest.raises(SnapshotRefused):
            await server.handle(A, bad)
    for fields in ((CHUNK, heights[0], 1, 16), (CHUNK, heights[0], 2, 0), (CHUNK, 77, 1, 0)):
        with pytest.raises(SnapshotRefused):
            await server.handle(A, encode_request(*fields))
    monkeypatch.setattr(snapshot_wire, "PEER_BYTES", evolve(snapshot_wire.PEER_BYTES, per_s=1, burst=500))
    slow = SnapshotServer(shelf)
    await slow.handle(A, encode_request(CHUNK, heights[0], 1, 0))
    with pytest.raises(SnapshotRefused, match="MiB/s asked for"):
        for index in range(16):
            await slow.handle(A, encode_request(CHUNK, heights[0], 1, index))
    await slow.handle(B, encode_request(CHUNK, heights[0], 1, 0))
    shelf.path(5).write_bytes(b"junk")
    assert len(shelf.look(3)) == 2


# ---------------------------------------------------------------- real nodes


@pytest.fixture
def chain() -> Genesis:
    return evolve(genesis(rate=1), genesis_ms=time.time_ns() // 1_000_000)


async def test_a_new_node_begins_with_its_peers_snapshot(tmp_path: Path, chain: Genesis,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """A real authority makes snapshots; a new observer is far behind, begins with one, follows and restarts."""
    async def make(self: Snapshots, height: int, out: Path) -> None:        # here without a child, which takes a while
        await trio.to_thread.run_sync(lambda: make_snapshot(self.config.node.data_dir, out, height=height))

    monkeypatch.setattr(Snapshots, "_make", make)
    address = write_node(tmp_path / "egat", EGAT, chain, checkpoint_blocks=1, checkpoint_interval_ms=100,
                         snapshot_blocks=5)
    async with running(tmp_path / "egat"), client(address) as session:
        wallet = Wallet(session, chain)
        for _ in range(12):
            await wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
        kept = tmp_path / "egat" / "data" / "snapshots"
        with trio.fail_after(60):
            while not list(kept.glob("*.snapshot")):
                await trio.sleep(0.1)
        follower = write_node(tmp_path / "follower", key(77), chain, address, snapshot_when_behind=2)
        wanted = await session.call("account", [REGISTRAR.public])
        for _ in range(2):
            async with running(tmp_path / "follower"):
                with trio.fail_after(60):
                    while await seen(follower) != (wanted, None):
                        await trio.sleep(0.1)
        with Database.open_read_only(tmp_path / "follower" / "data") as database:
            assert database.first_height > 1


async def seen(address: str) -> object:
    """The account at a node, and block 1, which it does not hold; None while it starts again on its snapshot."""
    try:
        async with client(address) as session:
            return await session.call("account", [REGISTRAR.public]), await session.call("block", [1])
    except PeerGone:
        return None


def test_the_commands_make_check_and_restore(cluster: Cluster, tmp_path: Path) -> None:
    from gridtokenx.ledger.genesis import dump_genesis
    salted = Cluster(evolve(small_genesis(1), salt="s"), tmp_path / "nodes")
    salted.run(1_500)
    salted.submit(0, [transfer(salted.genesis, TRADER, 0, OTHER.public, 1)])
    salted.run(1_000)
    salted.checkpoint(0)
    salted.close()
    file, file_genesis, data = tmp_path / "a.snapshot", tmp_path / "genesis.toml", tmp_path / "data"
    file_genesis.write_text(dump_genesis(salted.genesis))
    runner = CliRunner()

    def good(*arguments: object) -> str:
        result = runner.invoke(cli, ["snapshot", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    good("create", tmp_path / "nodes" / "0", "--out", file)
    height = str(Database.open_read_only(tmp_path / "nodes" / "0").executed_height)
    assert "records" in good("create", tmp_path / "nodes" / "0", "--out", file, "--replace", "--height", height)
    assert "as it should be" in good("check", file, "--genesis", file_genesis)
    assert "next" in good("restore", file, "--genesis", file_genesis, "--data", data)
    with Database.open_read_only(data, salted.genesis.chain_id) as database:
        assert database.executed_height >= 1
    again = runner.invoke(cli, ["snapshot", "restore", str(file), "--genesis", str(file_genesis), "--data", str(data)])
    assert again.exit_code == 1 and "is not empty" in again.output
    spoiled = bytearray(file.read_bytes())
    spoiled[-40] ^= 1
    file.write_bytes(bytes(spoiled))
    bad = runner.invoke(cli, ["snapshot", "restore", str(file), "--genesis", str(file_genesis), "--data",
                              str(tmp_path / "bad")])
    assert bad.exit_code == 1 and "chunk" in bad.output
