"""The node's one ordered, append-only, durable log (CONSENSUS 6).

Own votes and proposals, block bodies and certificates go in one order into one log, so that a vote can never be
durable before what it names. `append` buffers; `sync` writes what is buffered as one batch (several, when it is
large) and returns when it is on the disk; batch k + 1 is written only after the sync of batch k returned.

After a crash the last batch may be bad anywhere; it was never acknowledged and is dropped whole. Anything else
that is bad means that durable records are gone: `LogLost`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Lock

from attrs import define, field

from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.store.disk import Disk, File, RealDisk
from gridtokenx.store.errors import LogError, LogFailed, LogLost, StoreBusy, StoreClosed
from gridtokenx.store.segment import (
    BATCH_OVERHEAD,
    BLOCK_BYTES,
    MAX_BATCH_BYTES,
    MAX_RECORD_BYTES,
    MIN_SEGMENT_BYTES,
    RECORD_OVERHEAD,
    SALT_BYTES,
    SEGMENT_BYTES,
    Record,
    SegmentContent,
    SegmentHeader,
    blocks_for,
    encode_batch,
    read_segment,
)

MAX_PENDING_BYTES = 64 << 20
SYNC_WAIT_S = 60.0

_NAME = re.compile(r"(\d{12})\.segment")
_UNFINISHED = ".new"
_FILL_BYTES = 1 << 20


def _name(index: int) -> str:
    return f"{index:012d}.segment"


def _indexes(disk: Disk, path: Path) -> list[int]:
    """The numbers of the segments in `path`, ascending. Raises LogLost if one between them is missing."""
    indexes = sorted(int(match[1]) for match in map(_NAME.fullmatch, disk.names(path)) if match)
    for before, after in pairwise(indexes):
        if after != before + 1:
            raise LogLost(f"{path}: segment {_name(before + 1)} is missing between {_name(before)} and {_name(after)}")
    return indexes


def _read_all(disk: Disk, path: Path, chain_id: bytes) -> Iterator[tuple[int, SegmentContent]]:
    """Each segment's number and content, in order, checked against its neighbours."""
    before: SegmentContent | None = None
    for index in _indexes(disk, path):
        file = disk.open(path / _name(index), write=False)
        try:
            content = read_segment(file.pread(0, file.size()), _name(index), chain_id)
        finally:
            file.close()
        header = content.header
        if before is not None and (header.first_batch, header.first_record) != (before.next_batch, before.next_record):
            raise LogLost(f"{path}: {_name(index)} starts with batch {header.first_batch}, but only batches below "
                          f"{before.next_batch} are good before it")
        yield index, content
        before = content


@define
class _Segment:
    index: int
    header: SegmentHeader


@define(eq=False)
class Log:
    """One writer's log in a directory of its own. Make it with `Log.open`.

    A record's position is its number since the log began. `append` and `sync` may be called from different
    threads; the order of the records is the order of the `append` calls.
    """

    path: Path
    chain_id: bytes
    _disk: Disk
    _segment_bytes: int
    _segments: list[_Segment] = field(factory=list)
    _file: File | None = None
    _offset: int = 0
    _next_batch: int = 0
    _durable: int = 0
    _first: int = 0
    _fresh: bool = False
    _recovered: list[Record] = field(factory=list)
    _pending: list[Record] = field(factory=list)
    _pending_bytes: int = 0
    _end: int = 0
    _failure: str | None = None
    _buffer_lock: Lock = field(factory=Lock)
    _write_lock: Lock = field(factory=Lock)

    @classmethod
    def open(cls, path: Path, chain_id: bytes, *, disk: Disk | None = None,
             segment_bytes: int = SEGMENT_BYTES) -> Log:
        """Opens the log in `path`, making it if there is none, and reads back what is durable.

        A torn last batch is erased, durably, and everything that was read is synced again before this returns:
        what a killed process wrote may so far be in the system's memory alone.
        Raises LogLost, WrongChain, WrongVersion, LogError.
        """
        if len(chain_id) != HASH_BYTES:
            raise LogError(f"a chain_id has {HASH_BYTES} bytes, not {len(chain_id)}")
        if segment_bytes < MIN_SEGMENT_BYTES or segment_bytes % BLOCK_BYTES:
            raise LogError(f"a segment has a multiple of {BLOCK_BYTES} bytes, at least {MIN_SEGMENT_BYTES}; "
                           f"not {segment_bytes}")
        log = cls(path, chain_id, disk or RealDisk(), segment_bytes)
        log._recover()
        return log

    # ------------------------------------------------------------ what is known

    @property
    def recovered(self) -> list[Record]:
        """(kind, payload) of every record that was durable at opening; `recovered[i]` has position
        `first_position + i` (until pruning moves that). Large: call `forget_recovered` once it was replayed."""
        return self._recovered

    def forget_recovered(self) -> None:
        """Frees the memory of `recovered`."""
        self._recovered = []

    @property
    def fresh(self) -> bool:
        """No batch was ever written when it was opened. Beside a database with blocks: the log was lost."""
        return self._fresh

    @property
    def first_position(self) -> int:
        """Position of the oldest record that is still kept."""
        return self._first

    @property
    def durable_position(self) -> int:
        """Records at positions below this one are on the disk."""
        return self._durable

    @property
    def end_position(self) -> int:
        """The position that the next appended record gets."""
        return self._end

    @property
    def max_record_bytes(self) -> int:
        """The longest payload: 2 MiB, less where segments are small."""
        return min(MAX_RECORD_BYTES, self._segment_bytes - BLOCK_BYTES - BATCH_OVERHEAD - RECORD_OVERHEAD)

    # ------------------------------------------------------------ writing

    def append(self, kind: int, payload: bytes) -> int:
        """Buffers a record of type `kind` (0 to 255) and returns its position. Durable after the next `sync`.

        Raises LogError for a record that is too long, or when too much is buffered; LogFailed, StoreClosed.
        """
        if not 0 <= kind <= 255:
            raise LogError(f"record kind {kind}; allowed are 0 to 255")
        if len(payload) > self.max_record_bytes:
            raise LogError(f"a record of {len(payload)} bytes; at most {self.max_record_bytes} are allowed")
        with self._buffer_lock:
            self._check()
            if self._pending_bytes + len(payload) > MAX_PENDING_BYTES:
                raise LogError(f"more than {MAX_PENDING_BYTES} bytes wait to be synced; call sync first")
            position = self._end
            self._pending.append((kind, bytes(payload)))
            self._pending_bytes += RECORD_OVERHEAD + len(payload)
            self._end += 1
            return position

    def sync(self) -> int:
        """Writes and syncs what was appended before this call; returns `durable_position`.

        Blocks for the time of the disk; meant for a worker thread. Raises LogFailed if the disk refused, after
        which the log takes nothing more: what reached the disk is unknown until it is opened again.
        """
        with self._writing():
            with self._buffer_lock:
                self._check()
                records, self._pending, self._pending_bytes = self._pending, [], 0
            try:
                for batch in self._batches(records):
                    self._write(batch)
            except OSError as error:
                self._failure = f"{self.path}: the disk refused: {error}"
                raise LogFailed(self._failure) from error
            return self._durable

    def prune(self, before: int) -> int:
        """Removes the segments that hold only records at positions below `before`; returns how many.

        The newest segment stays. The caller keeps `before` below min(durable finalized height, durable
        checkpoint), as CONSENSUS 6 asks. Raises LogFailed, StoreClosed.
        """
        removed = 0
        with self._writing():
            self._check()
            try:
                while len(self._segments) > 1 and self._segments[1].header.first_record <= before:
                    # One at a time, oldest first: two removals could otherwise reach the disk in the wrong
                    # order and leave a gap that reads as a lost log.
                    self._disk.remove(self.path / _name(self._segments[0].index))
                    self._disk.sync_directory(self.path)
                    del self._segments[0]
                    self._first = self._segments[0].header.first_record
                    removed += 1
            except OSError as error:
                self._failure = f"{self.path}: the disk refused: {error}"
                raise LogFailed(self._failure) from error
        return removed

    def close(self) -> None:
        """Closes the file. Records that were not synced are dropped."""
        with self._writing(), self._buffer_lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    # ------------------------------------------------------------ inside

    def _check(self) -> None:
        if self._failure is not None:
            raise LogFailed(self._failure)
        if self._file is None:
            raise StoreClosed(f"the log in {self.path} is closed")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._write_lock.acquire(timeout=SYNC_WAIT_S):
            raise StoreBusy(f"{self.path}: another thread has been writing the log for {SYNC_WAIT_S:.0f} s")
        try:
            yield
        finally:
            self._write_lock.release()

    def _batches(self, records: list[Record]) -> Iterator[list[Record]]:
        limit = min(MAX_BATCH_BYTES, self._segment_bytes - BLOCK_BYTES - BATCH_OVERHEAD)
        batch: list[Record] = []
        length = 0
        for record in records:
            size = RECORD_OVERHEAD + len(record[1])
            if batch and length + size > limit:
                yield batch
                batch, length = [], 0
            batch.append(record)
            length += size
        if batch:
            yield batch

    def _write(self, records: list[Record]) -> None:
        length = sum(RECORD_OVERHEAD + len(payload) for _, payload in records)
        header = self._segments[-1].header
        if self._offset + blocks_for(length) > header.segment_bytes:
            self._start_segment(self._segments[-1].index + 1)
            header = self._segments[-1].header
        raw = encode_batch(header, self._next_batch, self._durable, records)
        assert self._file is not None
        self._file.pwrite(self._offset, raw)
        self._file.sync()
        self._offset += len(raw)
        self._next_batch += 1
        self._durable += len(records)

    def _start_segment(self, index: int) -> None:
        """A new segment of zeros: written and synced whole under another name, so that a segment with its own
        name is always complete, and so that later syncs have no file metadata to write."""
        header = SegmentHeader(self._segment_bytes, self.chain_id, self._disk.random(SALT_BYTES), self._next_batch,
                               self._durable)
        unfinished = self.path / (_name(index) + _UNFINISHED)
        file = self._disk.create(unfinished)
        try:
            for offset in range(0, self._segment_bytes, _FILL_BYTES):
                file.pwrite(offset, bytes(min(_FILL_BYTES, self._segment_bytes - offset)))
            file.pwrite(0, header.encode())
            file.sync()
            self._disk.rename(unfinished, self.path / _name(index))
            self._disk.sync_directory(self.path)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file
        self._offset = BLOCK_BYTES
        self._segments.append(_Segment(index, header))

    def _recover(self) -> None:
        disk = self._disk
        disk.make_directory(self.path)
        for name in disk.names(self.path):
            if name.endswith(_UNFINISHED):
                disk.remove(self.path / name)
        last: SegmentContent | None = None
        for index, content in _read_all(disk, self.path, self.chain_id):
            self._recovered.extend(content.records)
            self._segments.append(_Segment(index, content.header))
            last = content
        if last is None:
            self._start_segment(0)
        else:
            self._next_batch, self._durable, self._offset = last.next_batch, last.next_record, last.end
            self._file = disk.open(self.path / _name(self._segments[-1].index), write=True)
            if last.torn is not None:
                start, end = last.torn
                for offset in range(start, end, _FILL_BYTES):
                    self._file.pwrite(offset, bytes(min(_FILL_BYTES, end - offset)))
            self._file.sync()
            disk.sync_directory(self.path)
        self._first = self._segments[0].header.first_record
        self._end = self._durable
        self._fresh = self._next_batch == 0


def read_log(path: Path, chain_id: bytes, *, disk: Disk | None = None) -> list[Record]:
    """The durable records of a log that another process may be writing; changes nothing.

    Raises LogLost, WrongChain, WrongVersion; LogError if there is no log.
    """
    disk = disk or RealDisk()
    attempts = 3
    for attempt in range(attempts):
        try:
            records = [record for _, content in _read_all(disk, path, chain_id) for record in content.records]
        except (LogLost, FileNotFoundError):
            # A writer that prunes or writes while we read can look like damage; then the next try differs.
            if attempt == attempts - 1:
                raise
            continue
        if not disk.names(path):
            raise LogError(f"there is no log in {path}")
        return records
    raise AssertionError("the last attempt returns or raises")


def set_aside(path: Path, *, disk: Disk | None = None) -> Path:
    """Renames a lost log's directory, keeping it for diagnosis, so that `Log.open` makes a fresh one.

    Returns the new path. The node signs nothing until the next epoch begins (CONSENSUS 6).
    """
    disk = disk or RealDisk()
    taken = set(disk.names(path.parent))
    number = next(number for number in range(1, len(taken) + 2) if f"{path.name}.lost-{number}" not in taken)
    target = path.with_name(f"{path.name}.lost-{number}")
    disk.rename(path, target)
    disk.sync_directory(path.parent)
    return target
