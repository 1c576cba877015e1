"""Readers of the state: at the last checkpoint, and as of any height whose history is kept.

Both implement the ledger's `StateReader`. Each holds one LMDB read transaction: usable from any thread, one at a
time. An open one keeps LMDB from reusing pages, so renew it within a second or so (CONSENSUS 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb
from attrs import define

from gridtokenx._native import checkpoint as native
from gridtokenx.ledger import trie
from gridtokenx.store.environment import Cursor, Tables, Transaction, last_key, translate
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
        with self._cursor(STATE_HISTORY) as cursor:
            return self._as_of(height_key(self.height + 1), key, STATE, cursor)

    def page(self, path: bytes) -> bytes | None:
        """A page of the trie as of `height`. Between heights that have pages the first one asked for takes the time
        of going there from the nearest of those."""
        known = self._known.get(self.height)
        if known is None:
            known = self._between()
            if len(self._known) >= MOST_BETWEEN:
                self._known.clear()
            self._known[self.height] = known
        if path in known.pages:
            return known.pages[path]
        with self._cursor(PAGE_HISTORY) as cursor:
            return self._as_of(height_key(known.height + 1), path, PAGES, cursor)

    def _between(self) -> Between:
        """Does or undoes in the trie what blocks changed between the nearest height that has pages and this one."""
        height, keys = self._nearest_with_pages()
        if not keys:
            return Between(height, {})
        above, above_paged = height_key(self.height + 1), height_key(height + 1)
        with self._cursor(STATE_HISTORY) as values, self._cursor(PAGE_HISTORY) as pages:

            def read(path: bytes) -> bytes | None:
                return self._as_of(above_paged, path, PAGES, pages)

            try:
                page = read(trie.ROOT_PATH)
                root = trie.EMPTY_ROOT if page is None else trie.page_hash(trie.ROOT_PATH, page)
                changes = [(key, self._as_of(above, key, STATE, values)) for key in sorted(keys)]
                return Between(height, trie.update(read, root, changes)[1])
            except trie.TrieError as error:
                raise DatabaseDamaged(f"{self._path}: trie pages as of height {self.height} do not follow from those "
                                      f"at {height}: {error}") from error

    def _nearest_with_pages(self) -> tuple[int, set[bytes]]:
        """The nearest height that has pages, and the keys that blocks changed between that and this one."""
        ahead, back = set[bytes](), set[bytes]()
        backward = True                 # as long as no list was pruned
        distance = 0
        while True:
            above, below = self.height + distance, self.height - distance
            if self._has_pages(above):
                return above, ahead
            if backward and self._has_pages(below):
                return below, back
            lists = self._changed_at(above + 1)
            if not lists:
                raise DatabaseDamaged(f"{self._path}: the list of keys that block {above + 1} changed is missing")
            ahead.update(unpack(lists[0]))
            lists = self._changed_at(below) if backward else []
            backward = bool(lists)
            if backward:
                back.update(unpack(lists[0]))
            distance += 1

    def _has_pages(self, height: int) -> bool:
        return height in (0, self._executed) or len(self._changed_at(height)) > 1

    def _changed_at(self, height: int) -> list[bytes]:
        packed = self._present(height_key(height), CHANGED)
        return [] if packed is None else unpack(packed)

    def _as_of(self, above: bytes, key: bytes, table: bytes, history: Cursor) -> bytes | None:
        """What the table has at a key before the heights from `above` on: the first whole row of the key's history from
        there on, or what there is now, less the differences before that."""
        size, whole, differences = len(key) + HEIGHT_BYTES, None, []
        if history.set_range(key + above):
            for row, value in history.iternext():
                if not row.startswith(key):
                    break
                if len(row) == size:
                    if value[:1] != DIFFERENCE:
                        whole = value
                        break
                    differences.append(value)
        made = self._present(key, table) if whole is None else read_before_value(whole)
        for difference in reversed(differences):
            try:
                made = native.restore(made or b"", difference)
            except ValueError as error:
                raise DatabaseDamaged(f"{self._path}: the history of trie page {key.hex()} above height "
                                      f"{int.from_bytes(above) - 1} does not fit together: {error}") from error
        return made

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

    @contextmanager
    def _cursor(self, table: bytes) -> Iterator[Cursor]:
        try:
            with self._reading().cursor(db=self._tables[table]) as cursor:
                yield cursor
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

