"""From a data directory to a snapshot file, also while a node writes there; and reading such a file."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from time import time_ns
from typing import IO

from attrs import frozen

from gridtokenx.crypto.hashing import ZERO_HASH, Domain, digest
from gridtokenx.ledger import trie
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.genesis import decode_genesis
from gridtokenx.light.format import Finality
from gridtokenx.snapshots.format import (
    MAGIC,
    MAX_CHUNK_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_NIBBLES,
    BadManifest,
    Manifest,
    Pair,
    SnapshotError,
    check_chunk,
    decode_manifest,
    encode_chunk,
    fold,
    place_of,
)
from gridtokenx.store.database import Database
from gridtokenx.store.disk import make_durable_directory, sync_directory
from gridtokenx.store.finality import stored_finality

CHUNK_TARGET_BYTES = 1 << 20
BUFFERED_BYTES = 64 << 20
SLICE_ROWS = 10_000
LEASE_MS = 3600 * 1000

Progress = Callable[[int], None]
_LENGTH = struct.Struct(">I")


def _silent(_: int) -> None:
    pass


@frozen
class Made:
    """A snapshot file that was written."""

    path: Path
    height: int
    keys: int
    chunks: int
    bytes: int


def make_snapshot(data: Path, out: Path, *, height: int | None = None, nibbles: int | None = None,
                  progress: Progress = _silent) -> Made:
    """Writes the state after the block at `height` (default: the last checkpoint) of the data directory `data` to the
    file `out`. Every record is compared with the block's state root on the way.

    Raises SnapshotError, StoreError: no such height, history pruned, a file in the way, a state that does not have
    its root.
    """
    if out.exists():
        raise SnapshotError(f"{out} exists already; choose another name")
    make_durable_directory(out.parent)
    with Database.open_read_only(data) as database:
        genesis = decode_genesis(database.genesis)
        at = database.executed_height if height is None else height
        finality = stored_finality(database, genesis, at)
        lease = database.take_lease(at, time_ns() // 1_000_000 + LEASE_MS, f"snapshot of {at}")
        try:
            if nibbles is None:
                nibbles = _nibbles(database.state_bytes())
            while True:
                unfinished = out.with_name(out.name + ".unfinished")
                try:
                    made = _write(database, finality, at, nibbles, unfinished, progress)
                except _TooBig as error:
                    if nibbles == MAX_NIBBLES:
                        raise SnapshotError(f"a chunk of more than {MAX_CHUNK_BYTES} bytes, though there are "
                                            f"{16 ** nibbles}") from error
                    nibbles += 1
                    continue
                unfinished.rename(out)
                sync_directory(out.parent)
                return Made(out, at, sum(made.keys), made.chunks, out.stat().st_size)
        finally:
            lease.unlink(missing_ok=True)


class _TooBig(Exception):
    """A chunk has more bytes than one may have: more chunks are needed."""


def _nibbles(state_bytes: int) -> int:
    return next((n for n in range(MAX_NIBBLES) if state_bytes <= CHUNK_TARGET_BYTES * 16 ** n), MAX_NIBBLES)


class _Buckets:
    """Pairs by chunk; what does not fit in memory goes to one temporary file."""

    def __init__(self, count: int, folder: Path) -> None:
        self._buffered: list[list[Pair]] = [[] for _ in range(count)]
        self._bytes = 0
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        self._file: IO[bytes] | None = None
        self._folder = folder

    def add(self, index: int, key: bytes, value: bytes) -> None:
        self._buffered[index].append((key, value))
        self._bytes += len(key) + len(value)
        if self._bytes > BUFFERED_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the buckets
        end = self._file.seek(0, os.SEEK_END)
        for index, pairs in enumerate(self._buffered):
            if pairs:
                raw = b"".join(_LENGTH.pack(len(part)) + part for pair in pairs for part in pair)
                self._file.write(raw)
                self._pieces[index].append((end, len(raw)))
                end += len(raw)
                self._buffered[index] = []
        self._bytes = 0

    def take(self, index: int) -> list[Pair]:
        pairs = self._buffered[index]
        self._buffered[index] = []
        for start, length in self._pieces[index]:
            assert self._file is not None
            self._file.seek(start)
            raw, at, parts = self._file.read(length), 0, []
            while at < length:
                (size,) = _LENGTH.unpack_from(raw, at)
                parts.append(raw[at + 4:at + 4 + size])
                at += 4 + size
            pairs += zip(parts[::2], parts[1::2], strict=True)
        return pairs

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _write(database: Database, finality: Finality, height: int, nibbles: int, out: Path,
           progress: Progress) -> Manifest:
    count = 16 ** nibbles
    buckets = _Buckets(count, out.parent)
    try:
        done = 0
        for rows in database.state_slices(height, SLICE_ROWS):
            for key, value in rows:
                buckets.add(place_of(digest(Domain.TRIE_KEY, key), nibbles), key, value)
            done += len(rows)
            progress(done)
        keys, hashes, sizes = [], [], []
        with TemporaryFile(dir=out.parent) as chunks:
            for index in range(count):
                pairs = sorted(buckets.take(index), key=lambda pair: digest(Domain.TRIE_KEY, pair[0]))
                if sum(len(key) + len(value) + 8 for key, value in pairs) > MAX_CHUNK_BYTES - 16:
                    raise _TooBig
                raw = encode_chunk(pairs)
                chunks.write(raw)
                keys.append(len(pairs))
                hashes.append(_subtree(pairs, nibbles))
                sizes.append(len(raw))
            header = decode_header(finality.header)
            if fold([(min(number, 2), found) for number, found in zip(keys, hashes, strict=True)]) != header.state_root:
                raise SnapshotError(f"the state of {database.path} as of block {height} does not have the root of its "
                                    "header: the database is damaged; `gridtokenx repair` says what can be done")
            manifest = Manifest(finality, nibbles, tuple(keys), tuple(hashes), tuple(sizes))
            raw = manifest.encode()
            with out.open("wb") as file:
                file.write(MAGIC + _LENGTH.pack(len(raw)) + raw)
                chunks.seek(0)
                while piece := chunks.read(1 << 20):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        return manifest
    finally:
        buckets.close()


def _subtree(pairs: list[Pair], nibbles: int) -> bytes:
    """The hash of the subtree that these keys, of one chunk, make at its place."""
    if not pairs:
        return ZERO_HASH
    root, pages = trie.update(lambda _: None, trie.EMPTY_ROOT, pairs)
    if len(pairs) == 1 or not nibbles:
        return root
    place = digest(Domain.TRIE_KEY, pairs[0][0])
    size = (nibbles + 1) // 2
    path = bytes((nibbles,)) + place[:size]
    if nibbles % 2:
        path = path[:-1] + bytes((path[-1] & 0xF0,))
    page = pages[path]
    assert page is not None
    return trie.page_hash(path, page)


class SnapshotFile:
    """A snapshot file opened for reading. Raises SnapshotError if it is none, BadManifest if its beginning is bad."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
            head = self._file.read(len(MAGIC) + _LENGTH.size)
        except OSError as error:
            raise SnapshotError(f"{path} cannot be read: {error}") from error
        if not head.startswith(MAGIC) or len(head) < len(MAGIC) + _LENGTH.size:
            self._file.close()
            raise SnapshotError(f"{path} is no snapshot file")
        (length,) = _LENGTH.unpack_from(head, len(MAGIC))
        if length > MAX_MANIFEST_BYTES:
            self._file.close()
            raise BadManifest(f"{path}: a manifest of {length} bytes; at most {MAX_MANIFEST_BYTES} are allowed")
        self.manifest_raw = self._file.read(length)
        try:
            self.manifest = decode_manifest(self.manifest_raw)
        except BadManifest:
            self._file.close()
            raise
        self._offsets = [len(head) + length]
        for size in self.manifest.sizes:
            self._offsets.append(self._offsets[-1] + size)

    @property
    def height(self) -> int:
        return decode_header(self.manifest.finality.header).height

    @property
    def size(self) -> int:
        """Bytes that a whole file of this manifest has."""
        return int(self._offsets[-1])

    def chunk(self, index: int) -> bytes:
        """The bytes of a chunk as the file has them. Raises SnapshotError for one that there is not, or is cut off."""
        if not 0 <= index < self.manifest.chunks:
            raise SnapshotError(f"chunk {index} of {self.manifest.chunks}")
        size = self.manifest.sizes[index]
        raw = os.pread(self._file.fileno(), size, self._offsets[index])
        if len(raw) != size:
            raise SnapshotError(f"{self.path} is cut off within chunk {index}")
        return raw

    def chunks(self) -> Iterator[bytes]:
        for index in range(self.manifest.chunks):
            yield self.chunk(index)

    def check(self) -> None:
        """Reads and checks every chunk against the manifest. Raises BadChunk, SnapshotError."""
        for index, raw in enumerate(self.chunks()):
            check_chunk(self.manifest, index, raw)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SnapshotFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
