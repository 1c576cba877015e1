"""History of trie pages: rows that hold differences give every page of every height back, to the byte."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from test_store_database import make, name

from gridtokenx._native import checkpoint as native
from gridtokenx.ledger import trie
from gridtokenx.store.checkpoint import FinalizedBlock
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DatabaseDamaged
from gridtokenx.store.schema import DIFFERENCE, PAGE_HISTORY, height_key

HEIGHTS = 60


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Database, list[dict[bytes, bytes]]]:
    """A database whose trie grew, shrank and changed, in checkpoints of one block and of several; all its pages by
    height."""
    random = Random(7)
    pages: dict[bytes, bytes] = {}
    root = trie.EMPTY_ROOT
    keys: list[bytes] = []
    held: list[dict[bytes, bytes]] = [{}]
    waiting: list[FinalizedBlock] = []
    database = make(tmp_path)
    with database._write() as transaction:          # the pages that `make` puts there are no trie's
        transaction.drop(database._tables[b"pages"], delete=False)
    for height in range(1, HEIGHTS + 1):
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
