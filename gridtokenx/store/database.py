"""The node's database: state and trie at the last checkpoint, their history, and the chain (CONSENSUS 6).

    data directory/
      lock           held by the one process that writes
      state.lmdb/    LMDB: everything of this module
      leases/        who needs which history until when
      log/           the durable log (store/log.py)

One writer, any number of readers, in this and other processes. A checkpoint is one synced transaction: after a
crash the database is at the last one or the one before, never between.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, TypeVar

import lmdb
from attrs import define, field, frozen

from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.store import chain
from gridtokenx.store.checkpoint import FinalizedBlock, check_blocks, write_blocks
from gridtokenx.store.disk import make_durable_directory, sync_directory
from gridtokenx.store.environment import (
    DATA_FILE,
    DEFAULT_MAP_BYTES,
    ENVIRONMENT_DIRECTORY,
    DirectoryLock,
    Tables,
    Transaction,
    acquire_environment,
    check_size,
    extend_file,
    open_tables,
    release_environment,
    tables_once,
    translate,
    translated,
)
from gridtokenx.store.errors import (
    AlreadyInitialised,
    DatabaseDamaged,
    HeightUnknown,
    HistoryPruned,
    NotInitialised,
    StoreBusy,
    StoreClosed,
    StoreError,
    WrongChain,
    WrongVersion,
)
from gridtokenx.store.leases import Lease, read_leases, write_lease
from gridtokenx.store.meta import read_meta, write_meta
from gridtokenx.store.migrations import bring_up_to_date
from gridtokenx.store.pruning import Pruned, delete_history
from gridtokenx.store.restoring import NEW_DIRECTORY, install
from gridtokenx.store.schema import (
    FORMAT_VERSION,
    HEADERS,
    META,
    META_CHAIN,
    META_EXECUTED,
    META_FIRST,
    META_FLOOR,
    META_FORMAT,
    META_GENESIS,
    META_PRUNE_TARGET,
    META_RULES,
    STATE,
    TABLES,
    height_key,
)
from gridtokenx.store.snapshot import Between, HistoricSnapshot, Snapshot

LEASES_DIRECTORY = "leases"
ALARM_FRACTION = 0.8
WRITER_WAIT_S = 120.0
MAX_BOUNDARIES = 4096

_Answer = TypeVar("_Answer")


@frozen
class Usage:
    """How full the map is. `used_bytes` counts free pages inside the file too, which LMDB uses again."""

    map_bytes: int
    used_bytes: int
    file_bytes: int
    readers: int

    @property
    def fraction(self) -> float:
        """Of the map, 0 to 1."""
        return self.used_bytes / self.map_bytes

    @property
    def alarm(self) -> bool:
        """More than 80 % of the map is used: start again with a larger one, soon."""
        return self.fraction > ALARM_FRACTION


def _checked_tables(environment: lmdb.Environment, place: Path, writable: bool) -> Tables:
    check_size(environment, place)
    bring_up_to_date(environment, place, writable=writable)
    return open_tables(environment, place)


@define(eq=False)
class Database:
    """An open data directory. Make it with `create`, `open` or `open_read_only`; methods may be called from any
    thread. Every method raises StoreClosed after `close`, and DatabaseDamaged for contents that contradict
    themselves."""

    path: Path
    _environment: lmdb.Environment | None
    _tables: Tables
    _lock: DirectoryLock | None
    chain_id: bytes = field(init=False)
    first_height: int = field(init=False)
    """Of the blocks that are held whole: 1, or in a database that began with a snapshot the one after it."""
    _writer: Lock = field(factory=Lock)
    _between: dict[int, Between] = field(factory=dict)

    # ------------------------------------------------------------ opening

    @classmethod
    def create(cls, path: Path, chain_id: bytes, genesis: bytes, *, state: Mapping[bytes, bytes],
               pages: Mapping[bytes, bytes | None], header: bytes, header_hash: bytes, rules_version: int = 1,
               map_bytes: int = DEFAULT_MAP_BYTES) -> Database:
        """A new chain at height 0: `genesis` is the genesis record's bytes, `state` and `pages` what it makes,
        `header` the header of block 0. All in one transaction.

        Raises AlreadyInitialised, DirectoryInUse, KeyRefused.
        """
        if len(chain_id) != HASH_BYTES or len(header_hash) != HASH_BYTES:
            raise StoreError(f"chain_id and header hash have {HASH_BYTES} bytes")
        block = FinalizedBlock(0, header_hash, header, changes=dict(state), pages=dict(pages))
        check_blocks([block], -1)
        make_durable_directory(path)
        lock = DirectoryLock(path)
        try:
            place = path / ENVIRONMENT_DIRECTORY
            environment = acquire_environment(place, writable=True, map_bytes=map_bytes)
            try:
                with translated(place), environment.begin(write=True) as transaction:
                    tables = {name: environment.open_db(name, txn=transaction) for name in TABLES}
                    if transaction.stat(db=tables[META])["entries"]:
                        found = read_meta(transaction, tables, META_CHAIN, bytes)
                        raise AlreadyInitialised(f"{path} already holds chain {found.hex()}; choose an empty directory")
                    write_genesis(transaction, tables, block, chain_id, genesis, rules_version)
                extend_file(environment, place)
                sync_directory(place)
                sync_directory(path)
                return cls._opened(path, environment, tables_once(environment, lambda: tables), lock, chain_id, None)
            except BaseException:
                release_environment(environment)
                raise
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path, expected_chain_id: bytes | None = None, *, known_rules: Collection[int] | None = None,
             map_bytes: int = DEFAULT_MAP_BYTES) -> Database:
        """Opens for reading and writing; only one process may.

        Raises NotInitialised, WrongChain, WrongVersion (another format, or rules that are not in `known_rules`),
        DatabaseDamaged, DirectoryInUse.
        """
        if not (path / NEW_DIRECTORY).exists():
            _require_data(path)
        lock = DirectoryLock(path)
        try:
            install(path)
            return cls._open(path, lock, expected_chain_id, known_rules, map_bytes)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open_read_only(cls, path: Path, expected_chain_id: bytes | None = None, *,
                       known_rules: Collection[int] | None = None) -> Database:
        """Opens for reading, also while a node writes. Raises as `open` does, but never DirectoryInUse."""
        _require_data(path)
        return cls._open(path, None, expected_chain_id, known_rules, 0)

    @classmethod
    def _open(cls, path: Path, lock: DirectoryLock | None, expected_chain_id: bytes | None,
              known_rules: Collection[int] | None, map_bytes: int) -> Database:
        place = path / ENVIRONMENT_DIRECTORY
        environment = acquire_environment(place, writable=lock is not None, map_bytes=map_bytes)
        try:
            with translated(place):
                tables = tables_once(environment, lambda: _checked_tables(environment, place, lock is not None))
            return cls._opened(path, environment, tables, lock, expected_chain_id, known_rules)
        except BaseException:
            release_environment(environment)
            raise

    @classmethod
    def _opened(cls, path: Path, environment: lmdb.Environment, tables: Tables, lock: DirectoryLock | None,
                expected_chain_id: bytes | None, known_rules: Collection[int] | None) -> Database:
        database = cls(path, environment, tables, lock)
        with database._read() as transaction:
            database.chain_id = read_meta(transaction, tables, META_CHAIN, bytes)
            if expected_chain_id is not None and database.chain_id != expected_chain_id:
                raise WrongChain(path, database.chain_id, expected_chain_id)
            rules = read_meta(transaction, tables, META_RULES, int)
            if known_rules is not None and rules not in known_rules:
                raise WrongVersion(f"{path} is on rules version {rules}; this program knows "
                                   f"{', '.join(map(str, sorted(known_rules)))}. Use a newer program")
            database.first_height = read_meta(transaction, tables, META_FIRST, int)
            executed = read_meta(transaction, tables, META_EXECUTED, int)
            with transaction.cursor(db=tables[HEADERS]) as cursor:
                if not cursor.last() or cursor.key() != height_key(executed):
                    raise DatabaseDamaged(f"{path} says that block {executed} was executed, but its last stored block "
                                          "is another one")
            if not 0 <= read_meta(transaction, tables, META_FLOOR, int) <= executed:
                raise DatabaseDamaged(f"{path}: the history floor lies above the executed height {executed}")
        return database

    def close(self) -> None:
        """Closes the environment, once no other user in this process has it, and gives the directory free.
        Snapshots of it must have been closed. Harmless when called again."""
        with self._writing():
            environment, self._environment = self._environment, None
            if environment is not None:
                release_environment(environment)
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ meta

    @property
    def read_only(self) -> bool:
        return self._lock is None

    @property
    def genesis(self) -> bytes:
        """The genesis record, which is as long as the list of its accounts: read when asked for."""
        return self._query(lambda transaction, tables: read_meta(transaction, tables, META_GENESIS, bytes))

    @property
    def executed_height(self) -> int:
        """Height of the last checkpoint (C)."""
        return self._query(lambda transaction, tables: read_meta(transaction, tables, META_EXECUTED, int))

    @property
    def history_floor(self) -> int:
        """The lowest height whose state can still be read."""
        return self._query(lambda transaction, tables: read_meta(transaction, tables, META_FLOOR, int))

    @property
    def rules_version(self) -> int:
        """The rules that the next block after the checkpoint is executed by."""
        return self._query(lambda transaction, tables: read_meta(transaction, tables, META_RULES, int))

    # ------------------------------------------------------------ writing

    def checkpoint(self, blocks: Sequence[FinalizedBlock], *, rules_version: int | None = None) -> None:
        """Stores finalized blocks, which follow the last checkpoint without a gap, in one synced transaction.

        Blocks for the time of the disk; meant for a worker thread. When it returns, `executed_height` is the
        last block's, durably; when it raises, nothing was written.
        Raises CheckpointRefused, KeyRefused, DatabaseFull, StoreBusy.
        """
        if not blocks:
            return
        with self._write() as transaction:
            check_blocks(blocks, read_meta(transaction, self._tables, META_EXECUTED, int))
            write_blocks(transaction, self._tables, blocks)
            write_meta(transaction, self._tables, META_EXECUTED, blocks[-1].height)
            if rules_version is not None:
                write_meta(transaction, self._tables, META_RULES, rules_version)

    def prune_history(self, to_height: int, max_rows: int, now_ms: int) -> Pruned:
        """Gives up the state as of heights below `to_height`, as far as no lease that holds at `now_ms` (Unix ms)
        needs it, deleting about `max_rows` rows at most; call it again while `done` is false.

        Raises LeaseError for an unreadable lease.
        """
        limit = min([to_height, self.executed_height, *self._leased(now_ms)])
        if limit > self._query(lambda transaction, tables: read_meta(transaction, tables, META_PRUNE_TARGET, int)):
            with self._write() as transaction:
                write_meta(transaction, self._tables, META_PRUNE_TARGET, limit)
        limit = min([limit, *self._leased(now_ms)])
        with self._write() as transaction:
            floor = read_meta(transaction, self._tables, META_FLOOR, int)
            floor, rows = delete_history(transaction, self._tables, floor, limit, max_rows)
            write_meta(transaction, self._tables, META_FLOOR, floor)
            write_meta(transaction, self._tables, META_PRUNE_TARGET, max(limit, floor))
        return Pruned(floor, rows, floor >= to_height)

    def _leased(self, now_ms: int) -> Iterable[int]:
        return [lease.height for lease in read_leases(self.path / LEASES_DIRECTORY, now_ms)]

    def take_lease(self, height: int, expires_ms: int, owner: str) -> Path:
        """Keeps the state as of `height` and later until `expires_ms` (Unix ms); also for read-only users.

        Returns the lease's file, to be removed when done. Raises HistoryPruned if it is too late, HeightUnknown.
        """
        self._check_height(height)
        path = write_lease(self.path / LEASES_DIRECTORY, Lease(height, expires_ms, owner))
        target = self._query(lambda transaction, tables: read_meta(transaction, tables, META_PRUNE_TARGET, int))
        if height < target:
            path.unlink()
            raise HistoryPruned(height, target)
        return path

    # ------------------------------------------------------------ reading state

    def snapshot(self) -> Snapshot:
        """The state at the last checkpoint; close it, and take a new one within a second or so."""
        transaction = self._begin()
        try:
            height = read_meta(transaction, self._tables, META_EXECUTED, int)
            return Snapshot(height, self.path, self._tables, transaction)
        except BaseException:
            transaction.abort()
            raise

    def state_at(self, height: int) -> HistoricSnapshot:
        """The state as of `height`, from history. Raises HistoryPruned, HeightUnknown."""
        transaction = self._begin()
        try:
            floor = read_meta(transaction, self._tables, META_FLOOR, int)
            executed = read_meta(transaction, self._tables, META_EXECUTED, int)
            if not 0 <= height <= executed:
                raise HeightUnknown(f"no state as of height {height}; the last checkpoint is at {executed}")
            if height < floor:
                raise HistoryPruned(height, floor)
            return HistoricSnapshot(height, self.path, self._tables, transaction, executed, self._between)
        except BaseException:
            transaction.abort()
            raise

    def state_slices(self, height: int, rows: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """All (key, value) as of `height`, ascending, up to `rows` at a time, each in a read transaction of its own:
        a long look that keeps no pages from being used again. Take a lease on the height first.

        Raises HistoryPruned, HeightUnknown.
        """
        start = b""
        while True:
            with self.state_at(height) as past:
                found = list(islice(past.scan(b"", start), rows))
            if found:
                yield found
            if len(found) < rows:
                return
            start = found[-1][0] + b"\x00"

    def state_bytes(self) -> int:
        """About how many bytes the present state takes."""
        with self._read() as transaction:
            facts = transaction.stat(db=self._tables[STATE])
        return int((facts["leaf_pages"] + facts["overflow_pages"]) * facts["psize"])

    def last_change(self, key: bytes) -> int | None:
        """Height of the last block that changed a state key, as far as history is kept; 0 for one of genesis."""
        return self._query(chain.read_last_change, key)

    # ------------------------------------------------------------ reading the chain

    def changed(self, height: int) -> list[bytes] | None:
        """The state keys that a block changed, ascending; None above the checkpoint and where history was pruned."""
        return self._query(chain.read_changed, height) if height >= 0 else None

    def header(self, height: int) -> bytes | None:
        """The header's bytes, or None above the checkpoint."""
        return self._query(chain.read_header, height) if height >= 0 else None

    def block(self, height: int) -> chain.StoredBlock | None:
        """(header, transactions, certificate, receipts), or None above the checkpoint and below `first_height`."""
        return self._query(chain.read_block, height, self.first_height) if height >= 0 else None

    def certificate(self, height: int) -> bytes | None:
        """The block's own finalization certificate, where it has one."""
        return self._query(chain.read_certificate, height) if height >= 0 else None

    def boundaries(self, first_epoch: int = 0, limit: int = MAX_BOUNDARIES) -> list[chain.StoredBoundary]:
        """The ends of the epochs from `first_epoch` on that are held, oldest first."""
        return self._query(chain.read_boundaries, first_epoch, limit)

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of the block with this hash."""
        return self._query(chain.read_height_of, block_hash) if block_hash else None

    def transaction(self, transaction_id: bytes) -> chain.StoredTransaction | None:
        """(height, position in the block, raw bytes, receipt) of a transaction in a block."""
        return self._query(chain.read_transaction, transaction_id) if transaction_id else None

    def proof_of_finality(self, height: int, *, max_headers: int = chain.MAX_PROOF_HEADERS) -> chain.FinalityProof:
        """(headers, certificate): from `height` to the nearest block at or above it that has a certificate.

        Raises ProofUnavailable if there is none within `max_headers`, HeightUnknown.
        """
        self._check_height(height)
        return self._query(chain.read_finality, height, max_headers)

    def index_scan(self, prefix: bytes, limit: int, *, reverse: bool = False,
                   after: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (at most 10 000) index rows (key, value) with the prefix, by key, ascending or, with
        `reverse`, descending; `after` is the last key of the page before."""
        return self._query(chain.read_index, prefix, limit, reverse, after)

    # ------------------------------------------------------------ care

    def reader_check(self) -> int:
        """Frees the reader slots of processes that died; returns how many. To be called on a timer."""
        with translated(self.path):
            return self._living().reader_check()

    def usage(self) -> Usage:
        """How full the map is."""
        with translated(self.path):
            environment = self._living()
            facts = environment.info()
            page_bytes = environment.stat()["psize"]
        return Usage(facts["map_size"], (facts["last_pgno"] + 1) * page_bytes,
                     (self.path / ENVIRONMENT_DIRECTORY / DATA_FILE).stat().st_size, facts["num_readers"])

    def backup(self, path: Path) -> None:
        """Copies the database at the last checkpoint, compacted, into the new data directory `path`, while the
        node runs. The log is left out on purpose: a restored authority must not vote on old memories.

        Raises AlreadyInitialised if `path` exists.
        """
        if path.exists():
            raise AlreadyInitialised(f"{path} exists already; a backup goes to a new directory")
        unfinished = path.with_name(path.name + ".unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        target = unfinished / ENVIRONMENT_DIRECTORY
        make_durable_directory(target)
        with translated(self.path):
            self._living().copy(str(target), compact=True)
        with (target / DATA_FILE).open("rb") as file:
            os.fsync(file.fileno())
        sync_directory(target)
        unfinished.rename(path)
        sync_directory(path.parent)

    # ------------------------------------------------------------ inside

    def _living(self) -> lmdb.Environment:
        if self._environment is None:
            raise StoreClosed(f"the database in {self.path} is closed")
        return self._environment

    def _begin(self) -> Transaction:
        try:
            return self._living().begin()
        except lmdb.Error as error:
            raise translate(error, self.path) from error

    @contextmanager
    def _read(self) -> Iterator[Transaction]:
        with translated(self.path), self._living().begin() as transaction:
            yield transaction

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._writer.acquire(timeout=WRITER_WAIT_S):
            raise StoreBusy(f"{self.path}: another thread has been writing for {WRITER_WAIT_S:.0f} s")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _write(self) -> Iterator[Transaction]:
        with self._writing(), translated(self.path):
            environment = self._living()
            if self._lock is None:
                raise StoreError(f"{self.path} is open read-only")
            with environment.begin(write=True) as transaction:
                yield transaction
            self._grow_file()

    def _grow_file(self) -> None:
        extend_file(self._living(), self.path / ENVIRONMENT_DIRECTORY)

    def _query(self, read: Callable[..., _Answer], *arguments: Any) -> _Answer:
        with self._read() as transaction:
            return read(transaction, self._tables, *arguments)

    def _check_height(self, height: int) -> None:
        executed = self.executed_height
        if not 0 <= height <= executed:
            raise HeightUnknown(f"no block at height {height}; the last checkpoint is at {executed}")


def write_genesis(transaction: Transaction, tables: Tables, block: FinalizedBlock, chain_id: bytes, genesis: bytes,
                  rules_version: int) -> None:
    """The first contents of a database: block 0, which was checked, and what says which chain it is."""
    write_blocks(transaction, tables, [block])
    for name, value in ((META_FORMAT, FORMAT_VERSION), (META_CHAIN, chain_id), (META_RULES, rules_version),
                        (META_GENESIS, genesis), (META_EXECUTED, 0), (META_FLOOR, 0), (META_PRUNE_TARGET, 0),
                        (META_FIRST, 1)):
        write_meta(transaction, tables, name, value)


def _require_data(path: Path) -> None:
    """Raises NotInitialised if there is no database file, or an empty one left by a crash while creating."""
    data = path / ENVIRONMENT_DIRECTORY / DATA_FILE
    try:
        empty = data.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        empty = True
    if empty:
        raise NotInitialised(f"{path} holds no chain yet: there is no {ENVIRONMENT_DIRECTORY}/{DATA_FILE} in it")
