"""Opening the durable log, and the mark that outlives the loss of one (CONSENSUS 6).

The mark is a file beside the log: empty until the node has learnt from the others in which epoch its log was lost, then
that epoch's number, up to the end of which nothing may be signed. It is durable before a fresh log has anything in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from attrs import frozen

from gridtokenx.ledger.genesis import Genesis
from gridtokenx.store.database import Database
from gridtokenx.store.disk import Disk, RealDisk
from gridtokenx.store.errors import LogError, LogFailed, LogLost
from gridtokenx.store.log import Log, set_aside
from gridtokenx.store.segment import SEGMENT_BYTES

LOG_DIRECTORY = "log"
LOST_MARK = "log-was-lost"
MOST_MARK_BYTES = 64


@frozen
class OpenedLog:
    """`lost`: it is not known yet up to which epoch nothing may be signed; `barred` is that epoch, or -1."""

    log: Log
    lost: bool
    barred: int


def open_log(data_dir: Path, genesis: Genesis, database: Database, *, listed: bool = True, disk: Disk | None = None,
             segment_bytes: int = SEGMENT_BYTES) -> OpenedLog:
    """The node's log. A lost one is set aside and the mark left; an empty one beside blocks was lost if the node is
    `listed` as an authority at the checkpoint, else it never had anything in it.

    Raises LogError for what does not fit, LogFailed if the disk refuses.
    """
    with _refusals(data_dir):
        return _open(data_dir, genesis, database, listed, disk or RealDisk(), segment_bytes)


@contextmanager
def _refusals(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LogFailed(f"{data_dir}: the disk refused: {error}") from error


def _open(data_dir: Path, genesis: Genesis, database: Database, listed: bool, disk: Disk,
          segment_bytes: int) -> OpenedLog:
    path = data_dir / LOG_DIRECTORY
    fresh = False
    try:
        log = Log.open(path, genesis.chain_id, disk=disk, segment_bytes=segment_bytes)
    except LogLost as error:
        leave_mark(data_dir, disk=disk)
        kept = set_aside(path, disk=disk)
        structlog.get_logger("node").error("log_damaged", error=str(error), kept=str(kept))
        log, fresh = Log.open(path, genesis.chain_id, disk=disk, segment_bytes=segment_bytes), True
    if listed and log.fresh and database.executed_height > 0:
        leave_mark(data_dir, disk=disk)
        fresh = True
    mark = read_mark(data_dir, disk)
    if fresh or mark == "":
        return OpenedLog(log, True, -1)
    try:
        return OpenedLog(log, False, -1 if mark is None else int(mark))
    except ValueError as error:
        log.close()
        raise LogError(f"{data_dir / LOST_MARK} must hold the number of an epoch, or nothing: {error}") from error


def read_mark(data_dir: Path, disk: Disk) -> str | None:
    """What the mark says; None if there is none."""
    if LOST_MARK not in disk.names(data_dir):
        return None
    file = disk.open(data_dir / LOST_MARK, write=False)
    try:
        return file.pread(0, MOST_MARK_BYTES).decode("ascii", "replace").strip()
    finally:
        file.close()


def leave_mark(data_dir: Path, epoch: int | None = None, *, disk: Disk | None = None) -> None:
    """Durable when it returns. Raises LogFailed if the disk refuses."""
    disk = disk or RealDisk()
    new = data_dir / (LOST_MARK + ".new")
    with _refusals(data_dir):
        if new.name in disk.names(data_dir):
            disk.remove(new)
        file = disk.create(new)
        file.pwrite(0, b"" if epoch is None else f"{epoch}\n".encode())
        file.sync()
        file.close()
        disk.rename(new, data_dir / LOST_MARK)
        disk.sync_directory(data_dir)
