"""Building a database from parts in no particular order, beside the one in use, which it replaces in one step.

    restoring/state.lmdb   while it is built; of no use to anyone else
    state.lmdb.new         whole and synced; the next opening puts it in its place
    state.lmdb             the database
    state.lmdb.replaced    the former one, until it is removed
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import lmdb

from gridtokenx.store.chain import StoredBoundary
from gridtokenx.store.disk import make_durable_directory, sync_directory
from gridtokenx.store.environment import (
    ENVIRONMENT_DIRECTORY,
    DirectoryLock,
    Tables,
    acquire_environment,
    extend_file,
    release_environment,
    translated,
)
from gridtokenx.store.meta import write_meta
from gridtokenx.store.schema import (
    CERTIFICATES,
    EPOCHS,
    FORMAT_VERSION,
    HEADERS,
    HEIGHTS,
    MAX_STATE_KEY_BYTES,
    META_CHAIN,
    META_EXECUTED,
    META_FIRST,
    META_FLOOR,
    META_FORMAT,
    META_GENESIS,
    META_PRUNE_TARGET,
    META_RULES,
    PAGES,
    STATE,
    TABLES,
    check_keys,
    height_key,
    pack,
)

RESTORING_DIRECTORY = "restoring"
NEW_DIRECTORY = ENVIRONMENT_DIRECTORY + ".new"
REPLACED_DIRECTORY = ENVIRONMENT_DIRECTORY + ".replaced"
BATCH_BYTES = 16 << 20


class Restoring:
    """A database in the making; leaving without `finish` throws it away. Nobody else may be building one there."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        """Raises DirectoryInUse while a node, or another restoring, writes in the directory."""
        self._path = path
        self._place = path / RESTORING_DIRECTORY / ENVIRONMENT_DIRECTORY
        make_durable_directory(path)
        self._building = path / RESTORING_DIRECTORY
        if self._building.exists():
            shutil.rmtree(self._building)
        make_durable_directory(self._building)
        self._lock = DirectoryLock(self._building)
        self._environment: lmdb.Environment | None = None
        try:
            self._environment = acquire_environment(self._place, writable=True, map_bytes=map_bytes)
            with translated(self._place), self._environment.begin(write=True) as transaction:
                self._tables: Tables = {
                    name: self._environment.open_db(name, txn=transaction) for name in TABLES}
        except BaseException:
            self._give_up()
            raise
        self._rows: list[tuple[bytes, bytes]] = []
        self._pages: list[tuple[bytes, bytes]] = []
        self._bytes = 0

    def put(self, rows: Iterable[tuple[bytes, bytes]], pages: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes records of the state and pages of the trie, each key once."""
        for kept, added, what in ((self._rows, list(rows), "a state key"), (self._pages, list(pages), "a page path")):
            check_keys([key for key, _ in added], MAX_STATE_KEY_BYTES, what)
            kept += added
            self._bytes += sum(len(key) + len(value) for key, value in added)
        if self._bytes > BATCH_BYTES:
            self._write()

    def _write(self) -> None:
        assert self._environment is not None
        with translated(self._place), self._environment.begin(write=True) as transaction:
            for table, rows in ((STATE, self._rows), (PAGES, self._pages)):
                with transaction.cursor(db=self._tables[table]) as cursor:
                    cursor.putmulti(sorted(rows))
        self._rows, self._pages, self._bytes = [], [], 0

    def finish(self, *, chain_id: bytes, genesis: bytes, height: int, header: bytes, header_hash: bytes,
               certificate: bytes, boundaries: Sequence[StoredBoundary], rules_version: int) -> None:
        """The block whose state it is; afterwards the database is whole, and `install` puts it in its place."""
        self._write()
        assert self._environment is not None
        key = height_key(height)
        with translated(self._place), self._environment.begin(write=True) as transaction:
            transaction.put(key, header, db=self._tables[HEADERS])
            transaction.put(key, certificate, db=self._tables[CERTIFICATES])
            transaction.put(header_hash, key, db=self._tables[HEIGHTS])
            for row in boundaries:
                transaction.put(height_key(row.epoch), pack([row.header, row.certificate, row.authorities]),
                                db=self._tables[EPOCHS])
            for name, value in ((META_FORMAT, FORMAT_VERSION), (META_CHAIN, chain_id), (META_RULES, rules_version),
                                (META_GENESIS, genesis), (META_EXECUTED, height), (META_FLOOR, height),
                                (META_PRUNE_TARGET, height), (META_FIRST, height + 1)):
                write_meta(transaction, self._tables, name, value)
        extend_file(self._environment, self._place)
        sync_directory(self._place)
        release_environment(self._environment)
        self._environment = None
        new = self._path / NEW_DIRECTORY
        if new.exists():
            shutil.rmtree(new)
        self._place.rename(new)
        sync_directory(self._building)
        sync_directory(self._path)

    def __enter__(self) -> Restoring:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self._environment is not None:
            release_environment(self._environment)
            self._environment = None
        self._lock.release()
        shutil.rmtree(self._building, ignore_errors=True)


def install(path: Path) -> bool:
    """Puts a database that was built into its place, if there is one; whoever calls holds the directory, and nobody
    has its database open. Safe to be cut off at any point and called again."""
    new, present, replaced = path / NEW_DIRECTORY, path / ENVIRONMENT_DIRECTORY, path / REPLACED_DIRECTORY
    found = new.exists()
    if found:
        if present.exists():
            if replaced.exists():
                shutil.rmtree(replaced)
            present.rename(replaced)
            sync_directory(path)
        new.rename(present)
        sync_directory(path)
    if replaced.exists() and present.exists():
        shutil.rmtree(replaced)
    return found
