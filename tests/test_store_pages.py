"""History of trie pages: rows that hold differences, one for several blocks, give every page of every height back,
to the byte."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_store_database import CHAIN, MAP, make, name

from gridtokenx import codec
from gridtokenx._native import checkpoint as native
from gridtokenx.ledger import trie
from gridtokenx.store import checkpoint, snapshot
from gridtokenx.store.checkpoint import FinalizedBlock
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DatabaseDamaged
from gridtokenx.store.schema import (
    ABSENT,
    CHANGED,
    DIFFERENCE,
    META,
    META_FORMAT,
    PAGE_HISTORY,
    PRESENT,
    height_key,
    unpack,
)

HEIGHTS = 60


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Database, list[dict[bytes, bytes]]]:
    """A database whose trie grew, shrank and changed, in checkpoints of one block and of several; all its pages by
    height."""
    return made(make(tmp_path, STATE, GENESIS_PAGES))


STATE = {b"\x00abc": b"0"}
GENESIS_ROOT, GENESIS_PAGES = trie.update({}.get, trie.EMPTY_ROOT, list(STATE.items()))


def made(database: Database, change: Callable[[int], None] = lambda _: None
         ) -> tuple[Database, list[dict[bytes, bytes]]]:
    """Blocks for a database of `make`; `change` is called before each."""
    random = Random(7)
    pages = {path: page for path, page in GENESIS_PAGES.items() if page is not None}
    root = GENESIS_ROOT
    keys: list[bytes] = []
    held: list[dict[bytes, bytes]] = [dict(pages)]
    waiting: list[FinalizedBlock] = []
    for height in range(1, HEIGHTS + 1):
        change(height)
        changes: dict[bytes, bytes | None] = {}
        for _ in range(random.choice((1, 5, 300 if height < 4 else 40))):
            kind = random.random()
            if kind < 0.4 or not keys:
                keys.append(random.randbytes(4))
                changes[keys[-1]] = random.randbytes(2)
            else:
                changes[random.choice(keys)] = None if kind < 0.6 else random.randbytes(2)
        root, paged = trie.update(pages.get, root, list(changes.items()))
        for path, page in paged.items():
            if page is None:
                pages.pop(path, None)
            else:
                pages[path] = page
        held.append(dict(pages))
        waiting.append(FinalizedBlock(height, name(b"h", height), b"", changes=changes, pages=paged))
        if random.random() < 0.3 or height == HEIGHTS:
            database.checkpoint(waiting)
            waiting = []
    return database, held


def rows(database: Database) -> list[tuple[bytes, bytes]]:
    with database._read() as transaction, transaction.cursor(db=database._tables[PAGE_HISTORY]) as cursor:
        return list(cursor)


def check(database: Database, held: list[dict[bytes, bytes]]) -> None:
    paths = {path for pages in held for path in pages} | {b"\x04\x07\x77"}
    for height in range(database.history_floor, HEIGHTS + 1):
        with database.state_at(height) as state:
            assert {path: state.page(path) for path in paths} == {path: held[height].get(path) for path in paths}


def test_pages_of_every_height_before_and_after_pruning(chain: tuple[Database, list[dict[bytes, bytes]]]) -> None:
    database, held = chain
    found = [value[:1] for _, value in rows(database)]
    assert found.count(DIFFERENCE) > len(found) // 3
    check(database, held)
    for height in (7, 33, HEIGHTS):
        while not database.prune_history(height, 50, 0).done:
            pass
        check(database, held)
    assert rows(database) == []


def test_rows_that_do_not_fit_together_are_damage(chain: tuple[Database, list[dict[bytes, bytes]]]) -> None:
    database, _ = chain
    key, row = next((key, row) for key, row in rows(database) if row[:1] == DIFFERENCE)
    path, height = key[:-8], int.from_bytes(key[-8:], "big")
    for bad in (row[:-1], row + b"\x00", DIFFERENCE + b"\xff" * 6, DIFFERENCE):
        with database._write() as transaction:
            transaction.put(path + height_key(height), bad, db=database._tables[PAGE_HISTORY])
        with database.state_at(height - 1) as state, pytest.raises(DatabaseDamaged, match=f"page {path.hex()} above"):
            state.page(path)


def test_a_difference_needs_the_page_it_was_made_from() -> None:
    for newer in (b"", b"\x00\x00\x00\x00", b"\x00\x01\x00\x00" + bytes(63)):
        with pytest.raises(ValueError, match="diff"):
            native.restore(newer, DIFFERENCE + b"\x00\x01\x00\x00\x00\x00")


def test_one_row_in_eight_is_a_whole_page_whatever_its_path() -> None:
    """Else reading an old page back would take every row that there has been since."""
    def page(number: int) -> bytes:
        return b"\x00\x00\xff\xff" + b"".join(bytes((1 + slot,)) * 32 for slot in range(15)) + number.to_bytes(32)

    for path in (trie.ROOT_PATH, *(bytes((1, n << 4)) for n in range(16)), *(bytes((2, n)) for n in range(0, 256, 9))):
        for apart in (1, 64):
            blocks = [{path: page(number)} for number in range(1, 600)]
            rows = native.advance([path], native.gather(blocks), [(path, page(0))],
                                  [height_key(apart * number) for number in range(1, 600)], ABSENT, PRESENT, True)[0]
            whole = [at for at, (_, row) in enumerate(rows) if row[:1] == PRESENT]
            assert len(rows) == 599 and 45 <= len(whole) <= 110, (path, apart, len(whole))
            assert max(after - before for before, after in pairwise([-1, *whole, 599])) < 80, (path, apart)


def test_pages_that_were_kept_block_by_block_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Format 3 had the pages of every block; what follows on it has those of several together."""
    place: list[Database] = [make(tmp_path, STATE, GENESIS_PAGES)]

    def change(height: int) -> None:
        monkeypatch.setattr(checkpoint, "PAGED_TOGETHER", 1 if height < HEIGHTS // 2 else 64)

    database, held = made(place[0], change)
    before = len(rows(database))
    with database._write() as transaction:
        transaction.put(META_FORMAT, codec.encode(3), db=database._tables[META])
    database.close()
    with Database.open(tmp_path, CHAIN, map_bytes=MAP) as migrated:
        assert len(rows(migrated)) == before
        check(migrated, held)
        while not migrated.prune_history(HEIGHTS // 2 - 3, 50, 0).done:
            pass
        check(migrated, held)


def test_heights_between_are_remembered_but_few(chain: tuple[Database, list[dict[bytes, bytes]]],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    database, _ = chain
    asked: list[bytes] = []
    update = trie.update

    def counted(*arguments: Any) -> Any:
        asked.append(arguments[1])
        return update(*arguments)

    monkeypatch.setattr(snapshot.trie, "update", counted)
    between = next(height for height in range(1, HEIGHTS)
                   if not paged(database, height) and database.changed(height) and database.changed(height + 1))
    for _ in range(3):
        with database.state_at(between) as state:
            assert state.page(b"\x00") is not None and state.page(b"\x01\x00") is not None
    assert len(asked) == 1
    for height in range(HEIGHTS):
        with database.state_at(height) as state:
            state.page(b"\x00")
    assert len(database._between) <= snapshot.MOST_BETWEEN


def test_pages_between_are_those_of_the_nearest_height_that_has_some(
        chain: tuple[Database, list[dict[bytes, bytes]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done or undone are the keys that blocks changed from there on; before the history floor only undone."""
    database, held = chain
    counts: list[int] = []
    update = trie.update

    def counted(read: Any, root: bytes, changes: Any) -> Any:
        counts.append(len(changes))
        return update(read, root, changes)

    def keys(after: int, up_to: int) -> int:
        return len({key for height in range(after + 1, up_to + 1) for key in database.changed(height) or ()})

    monkeypatch.setattr(snapshot.trie, "update", counted)
    places = [0, *(height for height in range(1, HEIGHTS + 1) if paged(database, height))]
    before, after = max(pairwise(places), key=lambda pair: pair[1] - pair[0])
    assert after - before > 3
    for height in range(before, after + 1):
        counts.clear()
        with database.state_at(height) as state:
            assert {path: state.page(path) for path in held[height]} == held[height]
        nearer = keys(before, height) if height - before < after - height else keys(height, after)
        assert sum(counts) == nearer, height
    while not database.prune_history(before + 1, 50, 0).done:
        pass
    database._between.clear()
    counts.clear()
    with database.state_at(before + 1) as state:
        assert {path: state.page(path) for path in held[before + 1]} == held[before + 1]
    assert counts == [keys(before + 1, after)]


def paged(database: Database, height: int) -> bool:
    with database._read() as transaction:
        return len(unpack(transaction.get(height_key(height), db=database._tables[CHANGED]))) > 1


def test_what_does_not_follow_is_damage(chain: tuple[Database, list[dict[bytes, bytes]]]) -> None:
    """A page that is none, and a list of keys that is missing, above a height between two that have pages."""
    database, _ = chain
    height = next(height for height in range(1, HEIGHTS) if not paged(database, height) and height > 5)
    last = next(at for at in range(height, HEIGHTS + 1) if paged(database, at))
    root_row = b"\x00" + height_key(next(at for at in range(last + 1, HEIGHTS + 1) if paged(database, at)))
    with database._write() as transaction:
        transaction.put(root_row, b"\x01\x00\x01\x00\x00" + bytes(60), db=database._tables[PAGE_HISTORY])
    with database.state_at(height) as state, pytest.raises(DatabaseDamaged, match=f"follow from those at {last}"):
        state.page(b"\x00")
    with database._write() as transaction:
        transaction.delete(height_key(height + 1), db=database._tables[CHANGED])
    with database.state_at(height) as state, pytest.raises(DatabaseDamaged, match=f"block {height + 1} changed is"):
        state.page(b"\x00")
