"""Opening LMDB: one engine, safe flags, one environment per process and directory, LMDB's errors as our own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import lmdb
from attrs import define, field

from gridtokenx.store.errors import (
    DatabaseDamaged,
    DatabaseFull,
    DirectoryInUse,
    DiskFailed,
    KeyRefused,
    NotInitialised,
    StoreBusy,
    StoreClosed,
    StoreError,
    WrongVersion,
)
from gridtokenx.store.schema import MAX_KEY_BYTES, META, TABLES

ENVIRONMENT_DIRECTORY = "state.lmdb"
DATA_FILE = "data.mdb"
DEFAULT_MAP_BYTES = 64 << 30
MAX_READERS = 510

# py-lmdb 3 carries LMDB 0.9 and 1.0, whose files differ; which one makes a new file depends on an environment
# variable. All our files are made and read by 0.9, which other tools read too.
LMDB_ENGINE = 0

WALK_WAIT_S = 60.0
SLOWEST_DISK_BYTES_PER_S = 10e6

_WALK = """
import lmdb, os, sys
environment = lmdb.open(sys.argv[1], map_size=0, readonly=True, lib_version=int(sys.argv[2]))
environment.copyfd(os.open(os.devnull, os.O_WRONLY), compact=True)
"""

Tables = Mapping[bytes, Any]
Transaction: TypeAlias = "lmdb.Transaction[bytes]"
Cursor: TypeAlias = "lmdb.Cursor[bytes]"


def translate(error: lmdb.Error, path: Path) -> StoreError:
    """The store's own error for one of LMDB."""
    if isinstance(error, lmdb.MapFullError):
        return DatabaseFull(f"{path}: the map is full; start again with a larger one (store.map_bytes). Nothing of "
                            "this transaction was written")
    if isinstance(error, lmdb.BadValsizeError):
        return KeyRefused(f"{path}: LMDB keys have 1 to {MAX_KEY_BYTES} bytes: {error}")
    if isinstance(error, lmdb.VersionMismatchError | lmdb.IncompatibleError):
        return WrongVersion(f"{path} was written by another version of LMDB; this program uses 0.9: {error}")
    if isinstance(error, lmdb.DiskError | lmdb.PanicError):
        return DiskFailed(f"{path}: the disk refused to read or write: {error}. Look at the disk, then start again")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError):
        return DatabaseDamaged(f"{path} is damaged or no LMDB file: {error}")
    if isinstance(error, lmdb.ReadersFullError):
        return StoreBusy(f"{path}: all {MAX_READERS} reader slots are taken; are snapshots left open?")
    if "closed" in str(error):
        return StoreClosed(f"{path} was closed, or this snapshot of it")
    return StoreError(f"{path}: {error}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Lets LMDB's errors out as the store's own."""
    try:
        yield
    except lmdb.Error as error:
        raise translate(error, path) from error


@define
class _Shared:
    environment: lmdb.Environment
    writable: bool
    users: int = 0
    tables: Tables | None = None
    opening: Lock = field(factory=Lock)


# LMDB's locks belong to the process: the same file must not be opened twice in one, so its users share it.
_open: dict[tuple[int, int], _Shared] = {}
_open_lock = Lock()


def acquire_environment(path: Path, *, writable: bool, map_bytes: int) -> lmdb.Environment:
    """The environment in directory `path`, shared by all its users in this process.

    Writes are always synced, without WRITEMAP. Raises DirectoryInUse if this process has it open for reading and
    now wants to write; WrongVersion, DatabaseDamaged, StoreError.
    """
    with _open_lock, translated(path):
        if writable:
            path.mkdir(mode=0o750, exist_ok=True)
        status = path.stat()
        place = (status.st_dev, status.st_ino)
        shared = _open.get(place)
        if shared is None:
            try:
                environment = lmdb.Environment(
                    str(path), map_size=map_bytes if writable else 0, subdir=True, readonly=not writable,
                    create=writable, metasync=True, sync=True, writemap=False, map_async=False, readahead=False,
                    meminit=True, max_readers=MAX_READERS, max_dbs=len(TABLES), lock=True, lib_version=LMDB_ENGINE)
            except OSError as error:
                raise StoreError(f"{path} cannot be opened: {error}") from error
            shared = _open[place] = _Shared(environment, writable)
        elif writable and not shared.writable:
            raise DirectoryInUse(f"{path} is open read-only in this process; close that first")
        shared.users += 1
        return shared.environment


def release_environment(environment: lmdb.Environment) -> None:
    """Closes the environment when its last user has gone."""
    with _open_lock:
        for place, shared in _open.items():
            if shared.environment is environment:
                shared.users -= 1
                if not shared.users:
                    del _open[place]
                    environment.close()
                return


def tables_once(environment: lmdb.Environment, opened: Callable[[], Tables]) -> Tables:
    """The handles of an environment's tables: what `opened` returns to the first of its users in this process.

    py-lmdb's `open_db` waits for the writer without letting go of the interpreter. Called while another thread of
    this process writes, it would never return; so a second user must not call it.
    """
    with _open_lock:
        [shared] = [shared for shared in _open.values() if shared.environment is environment]
    with shared.opening:
        if shared.tables is None:
            shared.tables = opened()
        return shared.tables


def _sizes(environment: lmdb.Environment, path: Path) -> tuple[int, int]:
    """Bytes of the data file, and bytes that all its pages would have."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    return (path / DATA_FILE).stat().st_size, needed


def extend_file(environment: lmdb.Environment, path: Path) -> None:
    """Gives the data file its full size after a commit: LMDB leaves trailing pages that are free unwritten, and
    then a file that was cut off could not be told from a whole one at once."""
    found, needed = _sizes(environment, path)
    if found < needed:
        os.truncate(path / DATA_FILE, needed)


def check_size(environment: lmdb.Environment, path: Path) -> None:
    """Raises DatabaseDamaged if the file lacks pages that are in use: reading them would end the process.

    After a crash a whole file can be short (see `extend_file`), so then its pages in use are read, which takes a while.
    """
    found, needed = _sizes(environment, path)
    if found < needed:
        problem = walk_pages(path)
        if problem is not None:
            raise DatabaseDamaged(f"{path / DATA_FILE} has {found} of {needed} bytes and was cut off: {problem}")


def walk_pages(path: Path) -> str | None:
    """Reads every page in use of the environment in directory `path`; says what is wrong, or None.

    LMDB maps the file, so a page that is not there ends the process that reads it: a child does the reading, by
    a compacting copy to nowhere.
    """
    size = (path / DATA_FILE).stat().st_size
    wait_s = WALK_WAIT_S + size / SLOWEST_DISK_BYTES_PER_S
    try:
        done = subprocess.run([sys.executable, "-c", _WALK, str(path), str(LMDB_ENGINE)], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=wait_s, check=False)
    except subprocess.TimeoutExpired:
        return f"reading {size} bytes took longer than {wait_s:.0f} s"
    if done.returncode < 0:
        return f"a page in use is not in the file (signal {-done.returncode} while reading it)"
    if done.returncode:
        return done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return None


def open_tables(environment: lmdb.Environment, path: Path) -> Tables:
    """Handles of all tables. Raises NotInitialised if there is none, DatabaseDamaged if some are missing."""
    tables: dict[bytes, Any] = {}
    for name in TABLES:
        try:
            tables[name] = environment.open_db(name, create=False)
        except (lmdb.NotFoundError, lmdb.ReadonlyError) as error:
            if name == META:
                raise NotInitialised(f"{path} holds no chain yet") from error
            raise DatabaseDamaged(f"{path}: table {name.decode()} is missing") from error
    return tables


def last_key(cursor: Cursor, prefix: bytes) -> bytes | None:
    """The last key of a table that begins with the byte `prefix`; None if there is none."""
    beyond = prefix != b"\xff" and cursor.set_range(bytes((prefix[0] + 1,)))
    found = cursor.prev() if beyond else cursor.last()
    return cursor.key() if found and cursor.key().startswith(prefix) else None


class DirectoryLock:
    """Held by the one writer of a data directory; the system releases it when the process ends."""

    def __init__(self, directory: Path) -> None:
        """Raises DirectoryInUse, naming the process that holds it."""
        path = directory / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DirectoryInUse(f"{directory} is in use by process {holder or 'unknown'}; one node per data "
                                 "directory") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the directory free; harmless when called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
