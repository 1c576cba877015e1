"""Opening the durable log, and the mark that outlives the loss of one (CONSENSUS 6).

The mark is a file beside the log: empty until the node has learnt from the others in which epoch its log was lost, then
that epoch's number, up to the end of which nothing may be signed. It is durable before a fresh log has anything in it.

A key that has never signed on the chain may sign at once; one whose data directory was deleted must not, and both begin
with nothing. So whoever sets a node up for a new key leaves a permit, a file in the log's directory. It is removed when
the log has something in it, it goes when log or data are deleted, and no backup has it. An empty log without it is a
lost one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from attrs import frozen

from gridtokenx.consensus.messages import Propose, Vote, decode_message
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.node.records import LogKind
from gridtokenx.store.database import Database
from gridtokenx.store.disk import Disk, RealDisk
from gridtokenx.store.errors import LogError, LogFailed, LogLost
from gridtokenx.store.log import Log, read_log, set_aside
from gridtokenx.store.segment import SEGMENT_BYTES

LOG_DIRECTORY = "log"
LOST_MARK = "log-was-lost"
MOST_MARK_BYTES = 64
PERMIT = "never-signed"


@frozen
class OpenedLog:
    """`lost`: it is not known yet up to which epoch nothing may be signed; `barred` is that epoch, or -1."""

    log: Log
    lost: bool
    barred: int


def open_log(data_dir: Path, genesis: Genesis, database: Database, *, listed: bool = True, disk: Disk | None = None,
             segment_bytes: int = SEGMENT_BYTES, permitted: bool | None = None, new: bool = False) -> OpenedLog:
    """The node's log. A lost one is set aside and the mark left.

    `permitted`: whether an empty log may be signed into, or else counts as lost; when that is not known, one beside
    blocks was lost if the node is `listed` as an authority at the checkpoint. `new`: the database was made just now;
    what a log beside it remembers is of epochs that this database does not know, so it counts as lost too.
    Raises LogError for what does not fit, LogFailed if the disk refuses.
    """
    with _refusals(data_dir):
        return _open(data_dir, genesis, database, listed, disk or RealDisk(), segment_bytes, permitted, new)


@contextmanager
def _refusals(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LogFailed(f"{data_dir}: the disk refused: {error}") from error


def _open(data_dir: Path, genesis: Genesis, database: Database, listed: bool, disk: Disk, segment_bytes: int,
          permitted: bool | None, new: bool) -> OpenedLog:
    path = data_dir / LOG_DIRECTORY
    fresh = False
    try:
        log = Log.open(path, genesis.chain_id, disk=disk, segment_bytes=segment_bytes)
    except LogLost as error:
        leave_mark(data_dir, disk=disk)
        kept = set_aside(path, disk=disk)
        structlog.get_logger("node").error("log_damaged", error=str(error), kept=str(kept))
        log, fresh = Log.open(path, genesis.chain_id, disk=disk, segment_bytes=segment_bytes), True
    if permitted is None:
        permitted = not listed or database.executed_height == 0
    if (new and not log.fresh) or (log.fresh and not permitted):
        leave_mark(data_dir, disk=disk)
        fresh = True
    if not log.fresh and PERMIT in disk.names(path):
        disk.remove(path / PERMIT)
        disk.sync_directory(path)
    mark = read_mark(data_dir, disk)
    if fresh or mark == "":
        return OpenedLog(log, True, -1)
    try:
        return OpenedLog(log, False, -1 if mark is None else int(mark))
    except ValueError as error:
        log.close()
        raise LogError(f"{data_dir / LOST_MARK} must hold the number of an epoch, or nothing: {error}") from error


def permit_first_start(data_dir: Path) -> None:
    """Says, durably, that the node's key has never signed on this chain. Only for whoever knows that."""
    disk = RealDisk()
    path = data_dir / LOG_DIRECTORY
    disk.make_directory(path)
    if PERMIT not in disk.names(path):
        disk.create(path / PERMIT).close()
        disk.sync_directory(path)


def has_signed(data_dir: Path, chain_id: bytes) -> bool:
    """Whether the log holds an own vote or proposal. Raises LogError when that cannot be known."""
    path = data_dir / LOG_DIRECTORY
    if not any(name.endswith(".segment") for name in RealDisk().names(path)):
        return False
    return any(kind == LogKind.MESSAGE and isinstance(decode_message(payload), Vote | Propose)
               for kind, payload in read_log(path, chain_id))


def first_start_permitted(data_dir: Path) -> bool:
    """Whether the permit is there."""
    return (data_dir / LOG_DIRECTORY / PERMIT).exists()


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
