"""The few file operations that the log needs, so that a simulated disk can stand in for the real one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """An open file. Writes are durable only after `sync` returned."""

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end of the file."""

    def pwrite(self, offset: int, data: bytes) -> None:
        """Writes all of `data`, or raises OSError."""

    def sync(self) -> None:
        """Makes content and size durable (fdatasync)."""

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory tree. Creations, renames and removals are durable after `sync_directory` of their parent."""

    def make_directory(self, path: Path) -> None:
        """Makes `path` and its parents, durably; nothing happens if it exists."""

    def names(self, path: Path) -> list[str]:
        """The names in a directory, sorted; none if it does not exist."""

    def create(self, path: Path) -> File:
        """A new empty file. Raises FileExistsError."""

    def open(self, path: Path, *, write: bool) -> File:
        """An existing file. Raises FileNotFoundError."""

    def rename(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    def random(self, length: int) -> bytes:
        """Bytes that nobody can guess."""


class _RealFile:
    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            part = os.pread(self._descriptor, length, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def pwrite(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view = view[written:]
            offset += written

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_directory(path: Path) -> None:
    """Makes the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_durable_directory(path: Path) -> None:
    """Makes `path` and whatever parents are missing, each durable in its own parent."""
    missing = []
    at = path.absolute()
    while not at.exists():
        missing.append(at)
        at = at.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o750)
        sync_directory(directory.parent)


class RealDisk:
    """The operating system's files."""

    def make_directory(self, path: Path) -> None:
        make_durable_directory(path)

    def names(self, path: Path) -> list[str]:
        try:
            return sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return []

    def create(self, path: Path) -> File:
        return _RealFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))

    def open(self, path: Path, *, write: bool) -> File:
        return _RealFile(os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        sync_directory(path)

    def random(self, length: int) -> bytes:
        return os.urandom(length)
