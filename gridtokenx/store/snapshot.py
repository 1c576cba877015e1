"""Readers of the state: at the last checkpoint, and as of any height whose history is kept.

Both implement the ledger's `StateReader`. Each holds one LMDB read transaction: usable from any thread, one at a
time. An open one keeps LMDB from reusing pages, so renew it within a second or so (CONSENSUS 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb
from attrs import define

from gridtokenx._native import checkpoint as native
from gridtokenx.ledger import trie
from gridtokenx.store.environment import Tables, Transaction, last_key, translate
from gridtokenx.store.errors import DatabaseDamaged, StoreClosed
from gridtokenx.store.schema import (
    CHANGED,
    DIFFERENCE,
    HEIGHT_BYTES,
    MAX_STATE_KEY_BYTES,
    PAGE_HISTORY,
    PAGES,
    STATE,
    STATE_HISTORY,
    check_keys,
    height_key,
    read_before_value,
    unpack,
)

_PAST_EVERY_HEIGHT = b"\xff" * HEIGHT_BYTES + b"\x00"
MOST_BETWEEN = 2
"""Heights between those that have trie pages whose pages are remembered: who reads pages of the past stays at one."""


class Between(NamedTuple):
    """Trie pages as of a height: those of `height`, which have history of their own, but for `pages`."""

    height: int
    pages: dict[bytes, bytes | None]


@define(eq=False)
class _Reader:
    """One read transaction. `height` is the block after which the state is read."""

    height: int
    _path: Path
    _tables: Tables
    _transaction: Transaction | None

    def close(self) -> None:
        """Ends the read transaction; harmless when called again."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abort()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reading(self) -> Transaction:
        if self._transaction is None:
            raise StoreClosed(f"this snapshot of {self._path} at height {self.height} is closed")
        return self._transaction

    def _present(self, key: bytes, table: bytes) -> bytes | None:
        try:
            value = self._reading().get(key, db=self._tables[table])
        except lmdb.Error as error:
            raise translate(error, self._path) from error
        if value is None and len(key) > MAX_STATE_KEY_BYTES:
            check_keys((key,), MAX_STATE_KEY_BYTES, "a state key")
        return value

    def _current(self, prefix: bytes, table: bytes = STATE, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._reading().cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(max(prefix, start)):
                for key, value in cursor.iternext():
                    if not key.startswith(prefix):
                        return
                    yield key, value


class Snapshot(_Reader):
    """The state at the last checkpoint."""

    def __enter__(self) -> Snapshot:
        return self

    def get(self, key: bytes) -> bytes | None:
        """The value of a state key. Raises KeyRefused for one that no store holds, StoreClosed."""
        return self._present(key, STATE)

    def page(self, path: bytes) -> bytes | None:
        """A page of the trie."""
        return self._present(path, PAGES)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) whose key starts with `prefix`, ascending, read as they are asked for."""
        try:
            yield from self._current(prefix)
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def last_key(self, prefix: bytes) -> bytes | None:
        """The last state key that begins with the byte `prefix`."""
        try:
            with self._reading().cursor(db=self._tables[STATE]) as cursor:
                return last_key(cursor, prefix)
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def pages(self) -> Iterator[tuple[bytes, bytes]]:
        """All (path, page) of the trie, ascending."""
        try:
            yield from self._current(b"", PAGES)
        except lmdb.Error as error:
            raise translate(error, self._path) from error


@define(eq=False)
class HistoricSnapshot(_Reader):
    """The state as of an earlier height: the first history row above it, else the present value, both of one
    read transaction. `executed` is the height of the present one; `known` what such snapshots remember together."""

    _executed: int
    _known: dict[int, Between]

    def __enter__(self) -> HistoricSnapshot:
        return self

    def get(self, key: bytes) -> bytes | None:
        """The value of a state key as of `height`. Raises KeyRefused, StoreClosed."""
        for row in self._rows_above(key, STATE_HISTORY, self.height):
            return read_before_value(row)
        return self._present(key, STATE)

    def page(self, path: bytes) -> bytes | None:
        """A page of the trie as of `height`. Between heights that have pages the first one asked for takes the time
        of going back from the next of those."""
        known = self._known.get(self.height)
        if known is None:
            known = self._between()
            if len(self._known) >= MOST_BETWEEN:
                self._known.clear()
            self._known[self.height] = known
        return known.pages[path] if path in known.pages else self._page_of(known.height, path)

    def _between(self) -> Between:
        """Undoes in the trie what blocks changed from the next height that has pages back to this one."""
        height, changed = self._next_with_pages()

        def read(path: bytes) -> bytes | None:
            return self._page_of(height, path)

        if not changed:
            return Between(height, {})
        try:
            page = read(trie.ROOT_PATH)
            root = trie.EMPTY_ROOT if page is None else trie.page_hash(trie.ROOT_PATH, page)
            return Between(height, trie.update(read, root, [(key, self.get(key)) for key in sorted(changed)])[1])
        except trie.TrieError as error:
            raise DatabaseDamaged(f"{self._path}: trie pages as of height {self.height} do not follow from those at "
                                  f"{height}: {error}") from error

    def _next_with_pages(self) -> tuple[int, set[bytes]]:
        """The first height from this one on that has pages, and the keys that blocks changed in between."""
        height, changed = self.height, set[bytes]()
        paged = height in (0, self._executed) or len(self._changed_at(height)) > 1      # none if it was pruned: go on
        while not paged:
            height += 1
            lists = self._changed_at(height)
            if not lists:
                raise DatabaseDamaged(f"{self._path}: the list of keys that block {height} changed is missing")
            changed.update(unpack(lists[0]))
            paged = len(lists) > 1
        return height, changed

    def _changed_at(self, height: int) -> list[bytes]:
        packed = self._present(height_key(height), CHANGED)
        return [] if packed is None else unpack(packed)

    def _page_of(self, height: int, path: bytes) -> bytes | None:
        """A page as of `height`, which has pages: the first whole one above it, less the differences before that."""
        differences = []
        for row in self._rows_above(path, PAGE_HISTORY, height):
            if row[:1] != DIFFERENCE:
                page = read_before_value(row)
                break
            differences.append(row)
        else:
            page = self._present(path, PAGES)
        for row in reversed(differences):
            try:
                page = native.restore(page or b"", row)
            except ValueError as error:
                raise DatabaseDamaged(f"{self._path}: the history of trie page {path.hex()} above height "
                                      f"{height} does not fit together: {error}") from error
        return page

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) as of `height` whose key starts with `prefix`, ascending; from key `start` on."""
        try:
            changed = self._changed_since(prefix, start)
            earlier = next(changed, None)
            for key, value in self._current(prefix, start=start):
                while earlier is not None and earlier[0] < key:
                    if earlier[1] is not None:
                        yield earlier[0], earlier[1]
                    earlier = next(changed, None)
                if earlier is not None and earlier[0] == key:
                    if earlier[1] is not None:
                        yield key, earlier[1]
                    earlier = next(changed, None)
                else:
                    yield key, value
            while earlier is not None:
                if earlier[1] is not None:
                    yield earlier[0], earlier[1]
                earlier = next(changed, None)
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def _rows_above(self, key: bytes, history: bytes, height: int) -> Iterator[bytes]:
        """The history rows of a key above a height, ascending."""
        try:
            with self._reading().cursor(db=self._tables[history]) as cursor:
                found = cursor.set_range(key + height_key(height + 1))
                while found:
                    row = cursor.key()
                    if not row.startswith(key):
                        break
                    if len(row) == len(key) + HEIGHT_BYTES:
                        yield cursor.value()
                    found = cursor.next()
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def _changed_since(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys with the prefix that changed after `height`, ascending, with their values as of `height`."""
        above = height_key(self.height + 1)
        with self._reading().cursor(db=self._tables[STATE_HISTORY]) as cursor:
            found = cursor.set_range(max(prefix, start))
            while found:
                row = cursor.key()
                if not row.startswith(prefix):
                    return
                key = row[:-HEIGHT_BYTES]
                if key < start:
                    found = cursor.set_range(key + _PAST_EVERY_HEIGHT)
                    continue
                if row[-HEIGHT_BYTES:] < above:
                    found = cursor.set_range(key + above)
                    continue
                if key.startswith(prefix):
                    yield key, read_before_value(cursor.value())
                found = cursor.set_range(key + _PAST_EVERY_HEIGHT)
