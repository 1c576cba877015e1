"""Snapshots: a new node goes on from the state of a final block, and nothing but that state passes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from node_support import OTHER, Cluster, Member, small_genesis
from test_node_epochs import LENGTH, Chain, let_join

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import trie
from gridtokenx.light.verify import Trust
from gridtokenx.node.audit import AuditError, audit
from gridtokenx.node.serve import NotHeld, answer_for
from gridtokenx.snapshots import make
from gridtokenx.snapshots.format import (
    BadChunk,
    BadManifest,
    Manifest,
    SnapshotError,
    check_chunk,
    check_manifest,
    decode_manifest,
    encode_chunk,
    fold,
    place_of,
    top_pages,
)
from gridtokenx.snapshots.make import SnapshotFile, make_snapshot
from gridtokenx.snapshots.restore import restore_snapshot
from gridtokenx.store.database import Database
from gridtokenx.store.errors import HeightUnknown, HistoryPruned
from gridtokenx.store.restoring import NEW_DIRECTORY

MAP = 64 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A sixth authority joined; three epochs; some blocks above the last checkpoint of member 1."""
    cluster = Cluster(small_genesis(5, epoch_length=LENGTH), tmp_path_factory.mktemp("chain"), extra=1)
    cluster.run(1_500)
    chain = Chain(cluster)
    let_join(cluster, chain)
    for height in (LENGTH + 5, 2 * LENGTH, 2 * LENGTH + 7):
        chain.grow_to(height, follow=(5,))
        chain.level()
        cluster.checkpoint(1)
    chain.grow_to(3 * LENGTH + 2, follow=(5,))
    chain.level()
    yield cluster
    cluster.close()


def certified(cluster: Cluster) -> list[int]:
    database = cluster.members[1].database
    return [height for height in range(1, database.executed_height + 1) if database.certificate(height)]


def made(cluster: Cluster, path: Path, height: int | None = None, nibbles: int | None = None) -> SnapshotFile:
    make_snapshot(cluster.path / "1", path, height=height, nibbles=nibbles)
    return SnapshotFile(path)


def contents(database: Database, height: int) -> tuple[dict[bytes, bytes], set[bytes]]:
    with database.state_at(height) as past:
        rows = dict(past.scan(b""))
        pages: set[bytes] = set()
        waiting = [trie.ROOT_PATH]
        while waiting:
            path = waiting.pop()
            page = past.page(path)
            assert page is not None
            pages.add(path + page)
            waiting += [child for child, _ in trie.page_entries(path, page)[1]]
        return rows, pages


def test_an_audit_goes_through_changes_of_the_list_and_needs_the_whole_chain(cluster: Cluster, tmp_path: Path) -> None:
    report = audit(cluster.path / "1", cluster.genesis.chain_id)
    assert report.agrees, report.findings
    assert report.certificates == len(certified(cluster)) > 2 * LENGTH
    with made(cluster, tmp_path / "a.snapshot") as file:
        restore_snapshot(file.manifest, file.chunks(), cluster.genesis, tmp_path / "new", map_bytes=MAP)
    Database.open(tmp_path / "new", map_bytes=MAP).close()
    with pytest.raises(AuditError, match="began with a snapshot"):
        audit(tmp_path / "new")


@pytest.mark.parametrize("nibbles", [0, 1, 2])
def test_a_restored_node_has_the_state_to_the_byte(cluster: Cluster, tmp_path: Path, nibbles: int) -> None:
    source = cluster.members[1].database
    for number, height in enumerate([*certified(cluster)[::6], 2 * LENGTH, source.executed_height]):
        with made(cluster, tmp_path / f"{number}.snapshot", height, nibbles) as file:
            file.check()
            assert (file.height, file.manifest.chunks, file.size) == (height, 16 ** nibbles, file.path.stat().st_size)
            header = restore_snapshot(file.manifest, file.chunks(), cluster.genesis, tmp_path / str(number),
                                      map_bytes=MAP)
        with Database.open(tmp_path / str(number), cluster.genesis.chain_id, map_bytes=MAP) as database:
            assert header.encode() == database.header(height) == source.header(height)
            assert contents(database, height) == contents(source, height)
            with database.snapshot() as snapshot:
                assert len(list(snapshot.pages())) == len(contents(source, height)[1])
            assert (database.executed_height, database.history_floor, database.first_height) == (
                height, height, height + 1)
            assert database.block(height) is None and database.block(1) is None
            with pytest.raises(HistoryPruned):
                database.state_at(height - 1)


@pytest.mark.parametrize("at_boundary", [False, True])
def test_a_node_from_a_snapshot_follows_restarts_and_serves(cluster: Cluster, tmp_path: Path,
                                                            at_boundary: bool) -> None:
    height = 2 * LENGTH if at_boundary else cluster.members[1].database.executed_height
    with made(cluster, tmp_path / "a.snapshot", height) as file:
        restore_snapshot(file.manifest, file.chunks(), cluster.genesis, tmp_path / "new", map_bytes=MAP)
    member = Member(cluster.genesis, 7, tmp_path / "new")         # a key that is no authority's
    Database.open(tmp_path / "new", map_bytes=MAP).close()        # puts it in its place
    member.start(cluster.now_ms)
    cluster.members.append(member)
    try:
        index = len(cluster.members) - 1
        assert member.chain.head.header.height == height
        while member.chain.head.header.height < cluster.members[0].chain.head.header.height:
            cluster.follow(index)
        assert member.chain.head.header == cluster.members[0].chain.head.header
        blocks = member.chain.checkpoint_blocks()
        member.database.checkpoint(blocks)
        member.chain.checkpoint_done(len(blocks))
        member.crash()
        member.start(cluster.now_ms)
        assert member.chain.head.header == cluster.members[0].chain.head.header
        again = Database.open_read_only(tmp_path / "new")
        assert contents(again, member.chain.head.header.height) == contents(
            member.database, member.chain.head.header.height)
        again.close()
        # It serves what it holds, says what it does not, and makes a snapshot of its own.
        assert answer_for(member.database, member.chain, height + 1, 10)
        with pytest.raises(NotHeld, match=f"from height {height + 1} on"):
            answer_for(member.database, member.chain, height, 10)
        make_snapshot(tmp_path / "new", tmp_path / "b.snapshot")
        with SnapshotFile(tmp_path / "b.snapshot") as second:
            assert check_manifest(second.manifest, Trust.of_hash(cluster.genesis.header().hash)).height > height
    finally:
        cluster.members.remove(member)
        member.crash()


def test_every_flipped_byte_of_every_chunk_is_refused_at_that_chunk(cluster: Cluster, tmp_path: Path) -> None:
    random = Random(3)
    with made(cluster, tmp_path / "a.snapshot", nibbles=1) as file:
        manifest = file.manifest
        assert min(manifest.keys) >= 2
        for index, raw in enumerate(file.chunks()):
            assert len(check_chunk(manifest, index, raw).pairs) == manifest.keys[index]
            for at in range(len(raw)):
                spoiled = bytearray(raw)
                spoiled[at] ^= 1 << random.randrange(8)
                with pytest.raises(BadChunk, match=rf"^chunk {index}: "):
                    check_chunk(manifest, index, bytes(spoiled))
            pairs = check_chunk(manifest, index, raw).pairs
            for at, (name, value) in enumerate(pairs):      # and with the right hash of the wrong bytes
                for wrong in ((name, value[:-1] + bytes([value[-1] ^ 1])), (name[:-1] + bytes([name[-1] ^ 1]), value)):
                    with pytest.raises(BadChunk, match="do not have the hash that the manifest names"):
                        check_chunk(manifest, index, encode_chunk([*pairs[:at], wrong, *pairs[at + 1:]]))
            with pytest.raises(BadChunk, match="two changes of one key"):
                check_chunk(manifest, index, encode_chunk([*pairs[:-1], pairs[0]]))
            with pytest.raises(BadChunk, match="do not have the hash"):
                check_chunk(evolve(manifest, keys=(len(pairs),) * 16), (index + 1) % 16, raw)
            for other in (raw[:-1], raw + b"\0", b"", hashed(zlib.compress(b"\x80")), hashed(raw[32:] + b"\0"),
                          hashed(b"junk"), hashed(zlib.compress(codec.encode([b"a"]))),
                          hashed(zlib.compress(codec.encode([b"", b"a"] * len(pairs))))):
                with pytest.raises(BadChunk):
                    check_chunk(manifest, index, other)


def hashed(packed: bytes) -> bytes:
    return sha256(packed).digest() + packed


def test_a_bad_chunk_leaves_no_database(cluster: Cluster, tmp_path: Path) -> None:
    with made(cluster, tmp_path / "a.snapshot", nibbles=1) as file:
        chunks = list(file.chunks())
        for bad in ([*chunks[:5], chunks[6], *chunks[6:]], chunks[:-1], [*chunks, chunks[0]]):
            with pytest.raises(SnapshotError):
                restore_snapshot(file.manifest, bad, cluster.genesis, tmp_path / "new", map_bytes=MAP)
            assert sorted(path.name for path in (tmp_path / "new").iterdir()) == []


def test_every_flipped_byte_of_the_manifest_is_refused_or_a_hint(cluster: Cluster, tmp_path: Path) -> None:
    trust, random = Trust.of_hash(cluster.genesis.header().hash), Random(4)
    with made(cluster, tmp_path / "a.snapshot", nibbles=1) as file:
        raw, manifest = file.manifest_raw, file.manifest
        chunks = list(file.chunks())
    check_manifest(decode_manifest(raw), trust)
    for at in range(0, len(raw), 5):
        spoiled = bytearray(raw)
        spoiled[at] ^= 1 << random.randrange(8)
        try:
            changed = decode_manifest(bytes(spoiled))
            check_manifest(changed, trust)
        except BadManifest:
            continue
        # Sizes are hints; a number of keys is checked against the chunk itself.
        assert evolve(changed, sizes=manifest.sizes, keys=manifest.keys) == manifest
        if changed.keys != manifest.keys:
            (index,) = [n for n in range(16) if changed.keys[n] != manifest.keys[n]]
            with pytest.raises(BadChunk, match="keys; the manifest names"):
                check_chunk(changed, index, chunks[index])
    fields = codec.decode(raw)
    for bad in ([], [2, *fields[1:]], [*fields[:2], 5, *fields[3:]], [*fields[:2], 0, *fields[3:]],
                [*fields[:5], fields[5][1:]], [*fields[:4], fields[4][1:], fields[5]]):
        with pytest.raises(BadManifest):
            decode_manifest(codec.encode(bad))
    with pytest.raises(BadManifest, match="at most"):
        decode_manifest(bytes(5 << 20))
    other = evolve(cluster.genesis, salt="another")
    with pytest.raises(BadManifest, match="not shown to be final: the proof begins with block 0"):
        restore_snapshot(manifest, chunks, other, tmp_path / "new", map_bytes=MAP)


def test_decompression_is_bounded() -> None:
    bomb = hashed(zlib.compress(bytes(16 << 20), 9))
    assert len(bomb) < 1 << 17
    from gridtokenx.light.format import Finality
    manifest = Manifest(Finality(b"", b"", (), b"", b""), 0, (1,), (b"h" * 32,), (len(bomb),))
    with pytest.raises(BadChunk, match="one zlib stream of at most"):
        check_chunk(manifest, 0, bomb)
    with pytest.raises(BadChunk, match="at most"):
        check_chunk(manifest, 0, bytes(5 << 20))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 400), st.integers(0, 2), st.integers(0, 1 << 30))
def test_any_set_of_keys_folds_to_the_root_and_pages_of_the_whole(count: int, nibbles: int, seed: int) -> None:
    """Chunks with no key, one, two; the pages built from chunks are those of the whole trie."""
    random = Random(seed)
    state = {random.randbytes(random.randrange(1, 9)): random.randbytes(4) for _ in range(count)}
    root, pages = trie.update(lambda _: None, trie.EMPTY_ROOT, list(state.items()))
    parts: list[list[tuple[bytes, bytes]]] = [[] for _ in range(16 ** nibbles)]
    for name, value in state.items():
        parts[place_of(digest(Domain.TRIE_KEY, name), nibbles)].append((name, value))
    hashes = [make._subtree(part, nibbles) for part in parts]
    assert fold([(min(len(part), 2), found) for part, found in zip(parts, hashes, strict=True)]) == root
    from gridtokenx.light.format import Finality
    manifest = Manifest(Finality(b"", b"", (), b"", b""), nibbles, tuple(map(len, parts)), tuple(hashes),
                        (0,) * len(parts))
    chunks = [check_chunk(manifest, index, encode_chunk(part)) for index, part in enumerate(parts)]
    built = top_pages(nibbles, [(chunk.node, chunk.leaf) for chunk in chunks])
    for chunk in chunks:
        built |= chunk.pages
    assert built == pages


def test_what_cannot_be_made_is_said(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = cluster.path / "1"
    for height in (0, 10_000):
        with pytest.raises(HeightUnknown, match=f"no block at height {height} with a certificate"):
            make_snapshot(data, tmp_path / "a", height=height)
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(SnapshotError, match="exists already"):
        make_snapshot(data, tmp_path / "there")
    with pytest.raises(SnapshotError, match="is no snapshot file"):
        SnapshotFile(tmp_path / "there")
    with pytest.raises(SnapshotError, match="cannot be read"):
        SnapshotFile(tmp_path / "nowhere")
    file = made(cluster, tmp_path / "cut", nibbles=1)
    file.close()
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-5])
    with SnapshotFile(tmp_path / "cut") as cut, pytest.raises(SnapshotError, match="cut off within chunk 15"):
        list(cut.chunks())
    real = Database.state_slices

    def flipped(self: Database, height: int, rows: int) -> Iterator[list[tuple[bytes, bytes]]]:
        for found in real(self, height, rows):
            yield [(name, value if name != b"\x04" + OTHER.public else value[:-1] + b"\x01") for name, value in found]

    monkeypatch.setattr(Database, "state_slices", flipped)
    with pytest.raises(SnapshotError, match="the database is damaged"):
        make_snapshot(data, tmp_path / "flipped")
    assert not list((cluster.path / "1" / "leases").glob("*.json"))


def test_small_buffers_and_big_values_give_the_same_file(cluster: Cluster, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    made(cluster, tmp_path / "whole").close()
    monkeypatch.setattr(make, "BUFFERED_BYTES", 300)
    monkeypatch.setattr(make, "SLICE_ROWS", 7)
    made(cluster, tmp_path / "pieces").close()
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()
    monkeypatch.setattr(make, "MAX_CHUNK_BYTES", 1 << 10)
    with made(cluster, tmp_path / "more") as file:
        assert file.manifest.chunks > 1
        file.check()


def test_a_restore_cut_off_anywhere_leaves_the_old_or_the_new(cluster: Cluster, tmp_path: Path) -> None:
    """An older database stands there; the new one is put in its place by the next opening."""
    data = tmp_path / "data"
    genesis = cluster.genesis
    member = Member(genesis, 6, data)
    member.start(0)
    member.crash()
    with made(cluster, tmp_path / "a.snapshot") as file:
        restore_snapshot(file.manifest, file.chunks(), genesis, data, map_bytes=MAP)
        height = file.height
    assert (data / NEW_DIRECTORY).exists()
    with Database.open_read_only(data) as database:
        assert database.executed_height == 0
    (data / "state.lmdb").rename(data / "state.lmdb.replaced")      # cut off between the two renames
    with Database.open(data, genesis.chain_id, map_bytes=MAP) as database:
        assert database.executed_height == height
    assert sorted(path.name for path in data.iterdir()) == ["lock", "log", "state.lmdb"]
