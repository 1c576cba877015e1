"""What LMDB promises, in memory, so that the store's code runs in the simulator without files.

Modelled: named tables sorted by key; a read transaction sees the last commit before it began, as long as it lasts; a
write transaction changes everything or nothing; a commit is durable when it returned (`synced`), and until then a power
failure leaves the state before it. Without `synced` a commit is visible at once and durable only after the next synced
one: what LMDB says of NOSYNC. A full disk makes the commit fail and changes nothing.

Not modelled: pages, the file's size and growth, reader slots, damage inside the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
from attrs import define, field

from gridtokenx.store.checkpoint import FinalizedBlock, check_blocks
from gridtokenx.store.database import Database, Usage, write_genesis
from gridtokenx.store.schema import TABLES

MAP_BYTES = 1 << 30


@define(eq=False)
class _Table:
    """Rows of one table in one version; never changed once committed."""

    rows: dict[bytes, bytes] = field(factory=dict)
    _keys: list[bytes] | None = None

    def keys(self) -> list[bytes]:
        if self._keys is None:
            self._keys = sorted(self.rows)
        return self._keys

    def changed(self) -> None:
        self._keys = None


Version = dict[bytes, _Table]


@define(eq=False)
class ModelledFile:
    """The database file of one machine; it outlives the processes that use it."""

    durable: Version = field(factory=lambda: {name: _Table() for name in TABLES})
    committed: Version = field(init=False)
    synced: bool = True
    full: bool = False
    step: Callable[[], None] = lambda: None     # each of the commit's two writes; may raise PowerLost

    def __attrs_post_init__(self) -> None:
        self.committed = self.durable

    def commit(self, version: Version) -> None:
        if self.full:
            raise lmdb.DiskError("mdb_txn_commit: No space left on device")
        self.step()                             # pages written; the meta page still names the old root
        self.committed = version
        if self.synced:
            self.durable = version
        self.step()

    def lose_power(self) -> None:
        self.committed = self.durable


class _Cursor:
    def __init__(self, transaction: _Transaction, table: bytes) -> None:
        self._transaction = transaction
        self._name = table
        self._keys: list[bytes] = []
        self._at = -1

    def __enter__(self) -> _Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def _rows(self) -> dict[bytes, bytes]:
        return self._transaction.table(self._name).rows

    def _place(self, at: int) -> bool:
        self._keys = self._transaction.table(self._name).keys()
        self._at = at if 0 <= at < len(self._keys) else -1
        return self._at >= 0

    def set_range(self, key: bytes) -> bool:
        return self._place(bisect_left(self._transaction.table(self._name).keys(), key))

    def first(self) -> bool:
        return self._place(0)

    def last(self) -> bool:
        return self._place(len(self._rows()) - 1)

    def next(self) -> bool:
        return self._place(self._at + 1)

    def prev(self) -> bool:
        return self._place(self._at - 1)

    def key(self) -> bytes:
        return self._keys[self._at] if self._at >= 0 else b""

    def value(self) -> bytes:
        return self._rows()[self._keys[self._at]] if self._at >= 0 else b""

    def item(self) -> tuple[bytes, bytes]:
        return self.key(), self.value()

    def iternext(self) -> Iterator[tuple[bytes, bytes]]:
        while self._at >= 0:
            yield self.item()
            self.next()

    def getmulti(self, keys: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        rows = self._rows()
        return [(key, rows[key]) for key in keys if key in rows]

    def putmulti(self, rows: Iterable[tuple[bytes, bytes]], *, append: bool = False,
                 overwrite: bool = True) -> tuple[int, int]:
        table = self._transaction.writable(self._name)
        last = max(table.rows, default=b"") if append else b""
        consumed = added = 0
        for key, value in rows:
            if append and key <= last:
                raise lmdb.KeyExistsError("mdb_put: appended out of order")
            last = key
            consumed += 1
            if overwrite or key not in table.rows:
                table.rows[key] = value
                added += 1
        table.changed()
        return consumed, added


class _Transaction:
    def __init__(self, file: ModelledFile, write: bool) -> None:
        self._file = file
        self._write = write
        self._version = dict(file.committed)
        self._own: set[bytes] = set()
        self._open = True

    def __enter__(self) -> _Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._write and self._open:
            self._file.commit(self._version)
        self._open = False

    def abort(self) -> None:
        self._open = False

    def table(self, name: bytes) -> _Table:
        if not self._open:
            raise lmdb.Error("this transaction is closed")
        return self._version[name]

    def writable(self, name: bytes) -> _Table:
        if name not in self._own:
            self._own.add(name)
            self._version[name] = _Table(dict(self.table(name).rows))
        return self._version[name]

    def cursor(self, db: bytes) -> _Cursor:
        return _Cursor(self, db)

    def get(self, key: bytes, default: bytes | None = None, *, db: bytes) -> bytes | None:
        return self.table(db).rows.get(key, default)

    def put(self, key: bytes, value: bytes, *, db: bytes) -> bool:
        table = self.writable(db)
        table.rows[key] = value
        table.changed()
        return True

    def delete(self, key: bytes, *, db: bytes) -> bool:
        table = self.writable(db)
        table.changed()
        return table.rows.pop(key, None) is not None

    def pop(self, key: bytes, *, db: bytes) -> bytes | None:
        table = self.writable(db)
        table.changed()
        return table.rows.pop(key, None)

    def stat(self, db: bytes) -> dict[str, int]:
        return {"entries": len(self.table(db).rows)}


class _Environment:
    def __init__(self, file: ModelledFile) -> None:
        self._file = file

    def begin(self, write: bool = False) -> _Transaction:
        return _Transaction(self._file, write)


class _NoLock:
    def release(self) -> None:
        return


class ModelledDatabase(Database):
    """The node's database over the model: everything above LMDB's own calls is the code of the store."""

    @classmethod
    def over(cls, file: ModelledFile, path: Path, chain_id: bytes) -> ModelledDatabase:
        environment: Any = _Environment(file)
        lock: Any = _NoLock()
        database = cls._opened(path, environment, {name: name for name in TABLES}, lock, chain_id, None)
        assert isinstance(database, ModelledDatabase)
        return database

    def _grow_file(self) -> None:
        return

    def _leased(self, now_ms: int) -> Iterable[int]:
        del now_ms
        return ()

    def close(self) -> None:
        self._environment = None

    def reader_check(self) -> int:
        return 0

    def usage(self) -> Usage:
        return Usage(MAP_BYTES, 0, 0, 0)


def new_chain(block: FinalizedBlock, chain_id: bytes, genesis: bytes) -> Version:
    """What a file holds when a chain was begun in it."""
    check_blocks([block], -1)
    file = ModelledFile()
    environment: Any = _Environment(file)
    with environment.begin(write=True) as transaction:
        write_genesis(transaction, {name: name for name in TABLES}, block, chain_id, genesis, 1)
    return file.committed
