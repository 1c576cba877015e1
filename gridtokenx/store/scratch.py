"""A state that only its maker needs, on disk so that it may be large: no history, no blocks, no syncs, gone at the end.

One process, one thread. The height that last changed a key stands before its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lmdb

from gridtokenx.store.environment import DEFAULT_MAP_BYTES, LMDB_ENGINE, Transaction, last_key, translate, translated
from gridtokenx.store.errors import StoreClosed
from gridtokenx.store.schema import HEIGHT_BYTES, PAGES, STATE, height_key


class Scratch:
    """Implements the ledger's `StateReader`, of what was last written. `close` removes nothing: the folder is the
    caller's."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError when `folder`, which exists and is empty, cannot be used."""
        self._path = folder
        with translated(folder):
            self._environment = lmdb.Environment(
                str(folder), map_size=DEFAULT_MAP_BYTES, subdir=True, metasync=False, sync=False, readahead=False,
                meminit=False, max_dbs=2, lock=False, lib_version=LMDB_ENGINE)
            self._tables = {name: self._environment.open_db(name) for name in (STATE, PAGES)}
            self._reading: Transaction | None = self._environment.begin()

    def write(self, changes: Mapping[bytes, bytes | None], heights: Mapping[bytes, int],
              pages: Mapping[bytes, bytes | None]) -> None:
        """Puts what changed (None: it is gone); `heights[key]` says when each key of `changes` did, last.

        Raises DatabaseFull, DiskFailed; then nothing more can be done with it.
        """
        stamps = {height: height_key(height) for height in set(heights.values())}
        rows = [(key, None if value is None else stamps[heights[key]] + value) for key, value in changes.items()]
        with translated(self._path):
            self._transaction().abort()             # its pages may be used again
            self._reading = None
            with self._environment.begin(write=True) as transaction:
                _put(transaction, self._tables[STATE], rows)
                _put(transaction, self._tables[PAGES], pages.items())
            self._reading = self._environment.begin()

    def get(self, key: bytes) -> bytes | None:
        try:
            found = self._transaction().get(key, db=self._tables[STATE])
        except lmdb.Error as error:
            raise translate(error, self._path) from error
        return None if found is None else found[HEIGHT_BYTES:]

    def page(self, path: bytes) -> bytes | None:
        try:
            return self._transaction().get(path, db=self._tables[PAGES])
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def last_key(self, prefix: bytes) -> bytes | None:
        """The last key that begins with the byte `prefix`."""
        with translated(self._path), self._transaction().cursor(db=self._tables[STATE]) as cursor:
            return last_key(cursor, prefix)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) whose key starts with `prefix`, ascending, read as they are asked for."""
        with translated(self._path), self._transaction().cursor(db=self._tables[STATE]) as cursor:
            if not cursor.set_range(prefix):
                return
            for key, value in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield key, value[HEIGHT_BYTES:]

    def pages(self) -> Iterator[tuple[bytes, bytes]]:
        """All (path, page) of the trie, ascending."""
        with translated(self._path), self._transaction().cursor(db=self._tables[PAGES]) as cursor:
            yield from cursor.iternext()

    def last_change(self, key: bytes) -> int | None:
        """Height of the last block that changed a key; None for one that is not there."""
        with translated(self._path):
            found = self._transaction().get(key, db=self._tables[STATE])
        return None if found is None else int.from_bytes(found[:HEIGHT_BYTES], "big")

    def close(self) -> None:
        """Harmless when called again."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.abort()
        self._environment.close()

    def _transaction(self) -> Transaction:
        if self._reading is None:
            raise StoreClosed(f"the scratch state in {self._path} is closed")
        return self._reading


def _put(transaction: Transaction, table: Any, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
    kept = []
    for key, value in rows:
        if value is None:
            transaction.delete(key, db=table)
        else:
            kept.append((key, value))
    kept.sort()
    with transaction.cursor(db=table) as cursor:
        cursor.putmulti(kept)
