"""History against a plain model: the state and the pages as of every height, pruning, leases.

Pages are the trie's: as of a height between two checkpoints they follow from the state.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store_database import MAP, block, make, name

from gridtokenx.ledger import trie
from gridtokenx.store import checkpoint
from gridtokenx.store.checkpoint import FinalizedBlock
from gridtokenx.store.database import Database
from gridtokenx.store.errors import HeightUnknown, HistoryPruned, LeaseError
from gridtokenx.store.leases import Lease, read_leases, write_lease

# Keys as the ledger makes them: the first byte gives the width. Bytes like those of heights are in them.
BYTE = st.sampled_from([0, 1, 2, 255])
KEYS = st.one_of(
    st.tuples(st.just(1), BYTE), st.tuples(st.just(2), *[BYTE] * 4), st.tuples(st.just(3), BYTE, *[st.just(0)] * 8),
).map(bytes)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=3)), max_size=6)
PREFIXES = (b"", b"\x01", b"\x02", b"\x02\x00", b"\x02\x01\xff", b"\x03", b"\x03\x00\x00\x00", b"\xff")

Model = dict[bytes, bytes]


def apply(model: Model, changes: dict[bytes, bytes | None]) -> Model:
    after = dict(model)
    for key, value in changes.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


def check(database: Database, states: list[Model], pages: list[Model]) -> None:
    keys = {key for state in states for key in state} | {b"\x01\x09"}
    paths = {path for page in pages for path in page} | {b"\x04\x07"}
    for height in range(database.history_floor, len(states)):
        with database.state_at(height) as reader:
            assert {key: reader.get(key) for key in keys} == {key: states[height].get(key) for key in keys}
            assert {path: reader.page(path) for path in paths} == {path: pages[height].get(path) for path in paths}
            for prefix in PREFIXES:
                wanted = [(key, states[height][key]) for key in sorted(states[height]) if key.startswith(prefix)]
                assert list(reader.scan(prefix)) == wanted
    with database.snapshot() as now:
        assert dict(now.scan(b"")) == states[-1]
        for prefix in (b"\x00", b"\x01", b"\x02", b"\xff"):
            assert now.last_key(prefix) == max((key for key in states[-1] if key.startswith(prefix)), default=None)
        assert {path: now.page(path) for path in paths} == {path: pages[-1].get(path) for path in paths}


@settings(max_examples=60, deadline=None)
@given(genesis=st.dictionaries(KEYS, st.binary(max_size=3), max_size=4),
       checkpoints=st.lists(st.lists(CHANGES, min_size=1, max_size=4), max_size=4),
       prunes=st.lists(st.tuples(st.integers(0, 14), st.integers(1, 8)), max_size=3), together=st.integers(2, 5))
def test_every_height_equals_a_plain_model(
        genesis: dict[bytes, bytes], prunes: list[tuple[int, int]],
        checkpoints: list[list[dict[bytes, bytes | None]]], together: int) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "PAGED_TOGETHER", together)
        states: list[Model] = [dict(genesis) or {b"\x01\x00": b"first"}]
        root, paged = trie.update({}.get, trie.EMPTY_ROOT, list(states[0].items()))
        pages: list[Model] = [apply({}, paged)]
        database = make(Path(place), states[0], pages[0])
        for blocks in checkpoints:
            finalized = []
            for changes in blocks:
                states.append(apply(states[-1], changes))
                root, paged = trie.update(pages[-1].get, root, list(changes.items()))
                pages.append(apply(pages[-1], paged))
                height = len(states) - 1
                finalized.append(FinalizedBlock(height, name(b"h", height), b"", changes=changes, pages=paged))
            database.checkpoint(finalized)
        check(database, states, pages)
        for to_height, rows in prunes:
            before = database.history_floor
            pruned = database.prune_history(to_height, rows, 0)
            assert before <= pruned.floor == database.history_floor <= max(before, min(to_height, len(states) - 1))
            check(database, states, pages)
        while not database.prune_history(len(states) - 1, 5, 0).done:
            pass
        check(database, states, pages)
        with database._read() as transaction:
            for table in (b"state_history", b"page_history", b"changed"):
                assert transaction.stat(db=database._tables[table])["entries"] == 0, table
        database.close()


def test_heights_that_cannot_be_read(tmp_path: Path) -> None:
    with make(tmp_path) as database:
        database.checkpoint([block(height) for height in range(1, 11)])
        for height in (-1, 11):
            with pytest.raises(HeightUnknown, match="last checkpoint is at 10"):
                database.state_at(height)
        reader = database.state_at(3)
        assert database.prune_history(7, 1000, 0) == (7, 14, True)
        assert reader.get(b"\x01a") == b"3", "an open reader keeps its view"
        reader.close()
        with pytest.raises(HistoryPruned, match="heights from 7 on") as refused:
            database.state_at(6)
        assert refused.value.floor == 7
        with database.state_at(7) as state:
            assert state.get(b"\x01a") == b"7"
        assert database.prune_history(3, 1000, 0) == (7, 0, True)
    with Database.open(tmp_path, map_bytes=MAP) as again:
        assert again.history_floor == 7


def test_pruning_goes_by_whole_blocks_in_pieces(tmp_path: Path) -> None:
    with make(tmp_path) as database:
        database.checkpoint([block(height) for height in range(1, 11)])
        assert database.prune_history(10, 3, 0) == (2, 4, False)
        assert database.prune_history(10, 1000, 0) == (10, 17, True)


def test_leases_hold_history(tmp_path: Path) -> None:
    with make(tmp_path) as database, Database.open_read_only(tmp_path) as reader:
        database.checkpoint([block(height) for height in range(1, 11)])
        lease = reader.take_lease(4, 1000, "a fork")
        other = database.take_lease(6, 5000, "an export")
        assert read_leases(tmp_path / "leases", 999) == [Lease(4, 1000, "a fork"), Lease(6, 5000, "an export")]
        assert database.prune_history(9, 1000, 999)[::2] == (4, False)
        assert reader.state_at(4).get(b"\x01a") == b"4"
        assert database.prune_history(9, 1000, 1000)[::2] == (6, False), "the lease at 4 has expired"
        other.unlink()
        assert database.prune_history(9, 1000, 1000)[::2] == (9, True)
        with pytest.raises(HistoryPruned):
            reader.take_lease(8, 5000, "too late")
        with pytest.raises(HeightUnknown):
            reader.take_lease(11, 5000, "too early")
        assert [path.name for path in (tmp_path / "leases").iterdir()] == [lease.name]
        assert read_leases(tmp_path / "leases", 25 * 3600 * 1000) == []
        assert not lease.exists(), "long expired files are removed"


def test_no_lease_for_a_height_whose_deletion_was_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that comes between the pruner's decision and its deletions is either seen or refused."""
    with make(tmp_path) as database:
        database.checkpoint([block(height) for height in range(1, 11)])
        calls: list[int] = []
        leased = database._leased

        def interrupted(now_ms: int) -> object:
            calls.append(now_ms)
            if len(calls) == 2:
                with pytest.raises(HistoryPruned):
                    database.take_lease(5, 1000, "late")
                database.take_lease(9, 1000, "in time")
            return leased(now_ms)

        monkeypatch.setattr(Database, "_leased", lambda _, now_ms: interrupted(now_ms))
        assert database.prune_history(9, 1000, 0) == (9, 18, True)
        with database.state_at(9) as state:
            assert state.get(b"\x01a") == b"9"


def test_a_lease_between_the_first_look_and_the_announcement_is_honoured(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path) as database:
        database.checkpoint([block(height) for height in range(1, 11)])
        leased = database._leased
        looks: list[list[int]] = []

        def interrupted(now_ms: int) -> list[int]:
            looks.append(list(leased(now_ms)))
            if len(looks) == 1:
                database.take_lease(5, 1000, "just in time")
            return looks[-1]

        monkeypatch.setattr(Database, "_leased", lambda _, now_ms: interrupted(now_ms))
        assert database.prune_history(9, 1000, 0)[::2] == (5, False)
        with database.state_at(5) as state:
            assert state.get(b"\x01a") == b"5"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"height": "4", "expires_ms": 1}', '{"height": -1, "expires_ms": 1}',
                                  "\xff", "[" * 5000, '{"height": 1, "expires_ms": 9, "owner": 3}'])
def test_an_unreadable_lease_stops_pruning(tmp_path: Path, text: str) -> None:
    write_lease(tmp_path / "leases", Lease(3, 10, "good"))
    (tmp_path / "leases" / "bad.json").write_text(text, encoding="latin-1")
    with make(tmp_path) as database:
        database.checkpoint([block(1), block(2)])
        with pytest.raises(LeaseError, match=r"bad\.json is not a lease"):
            database.prune_history(2, 10, 0)
        assert database.history_floor == 0
