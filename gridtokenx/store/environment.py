"""Opening LMDB: one engine, safe flags, one environment per process and directory, LMDB's errors as our own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import lmdb
from attrs import define
from lmdb import verify as lmdb_verify

from gridtokenx.store.errors import (
    DatabaseDamaged,
    DatabaseFull,
    DirectoryInUse,
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

Tables = Mapping[bytes, Any]
Transaction: TypeAlias = "lmdb.Transaction[bytes]"


def translate(error: lmdb.Error, path: Path) -> StoreError:
    """The store's own error for one of LMDB."""
    if isinstance(error, lmdb.MapFullError):
        return DatabaseFull(f"{path}: the map is full; start again with a larger one (store.map_bytes). Nothing of "
                            "this transaction was written")
    if isinstance(error, lmdb.BadValsizeError):
        return KeyRefused(f"{path}: LMDB keys have 1 to {MAX_KEY_BYTES} bytes: {error}")
    if isinstance(error, lmdb.VersionMismatchError | lmdb.IncompatibleError):
        return WrongVersion(f"{path} was written by another version of LMDB; this program uses 0.9: {error}")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError | lmdb.InvalidError):
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


def check_size(environment: lmdb.Environment, path: Path) -> None:
    """Raises DatabaseDamaged if the file lacks pages that are in use: reading them would end the process.

    LMDB may leave trailing free pages unwritten, so a short file alone proves nothing and is walked page by page.
    """
    pages = environment.info()["last_pgno"] + 1
    needed = pages * environment.stat()["psize"]
    found = (path / DATA_FILE).stat().st_size
    if found < needed:
        problems = verify_file(path)
        if problems:
            raise DatabaseDamaged(f"{path / DATA_FILE} has {found} of {needed} bytes and was cut off: {problems[0]}")


def verify_file(path: Path) -> list[str]:
    """Walks every page of the environment in `path` without LMDB; returns what is wrong with it, at best nothing.

    Slow (the whole file is read); nobody may write meanwhile.
    """
    verify: Any = lmdb_verify
    try:
        return list(verify.verify(str(path)))
    except verify.VerifyError as error:
        return [str(error)]


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
