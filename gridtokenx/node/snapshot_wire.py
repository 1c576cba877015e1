"""Snapshots between peers: the requests, and a node's answers from the files that it keeps (docs/storage.md).

    request = [1]                           which there are        answer = [[height, chunks, bytes], ...], newest first
            | [2, height]                   the manifest           answer = its bytes
            | [3, height, nibbles, index]   a chunk                answer = its bytes

Requests travel as those of sync do, under the same limits; beside these, a peer's bytes per second are bounded here.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import structlog
import trio

from gridtokenx import codec
from gridtokenx.errors import GridTokenXError
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.settings import Rate
from gridtokenx.snapshots.format import MAX_NIBBLES, SnapshotError
from gridtokenx.snapshots.make import SnapshotFile

PROTOCOL = "snapshot"
OFFERS, MANIFEST, CHUNK = 1, 2, 3
MAX_REQUEST_BYTES = 64
MAX_OFFERS = 8
PEER_BYTES = Rate(per_s=16 << 20, burst=32 << 20)
MAX_WAIT_S = 10.0
MAX_PEERS = 256
READERS = 2
_NAME = re.compile(r"(\d{1,18})\.snapshot")


class SnapshotRefused(GridTokenXError):
    """A request that is malformed, for what is not here, or too soon; the message says which."""


def encode_request(*fields: int) -> bytes:
    return codec.encode(list(fields))


def decode_request(raw: bytes) -> list[int]:
    """Raises SnapshotRefused."""
    try:
        fields = codec.decode(raw, max_bytes=MAX_REQUEST_BYTES)
    except codec.CodecError as error:
        raise SnapshotRefused(f"a snapshot request that cannot be read: {error}") from error
    lengths = {OFFERS: 1, MANIFEST: 2, CHUNK: 4}
    if (type(fields) is not list or not fields or any(type(f) is not int or not 0 <= f < 1 << 63 for f in fields)
            or lengths.get(fields[0]) != len(fields)):
        raise SnapshotRefused("a snapshot request is [1], [2, height] or [3, height, nibbles, index]")
    return fields


def decode_offers(raw: bytes) -> list[tuple[int, int, int]]:
    """(height, chunks, bytes), newest first. Raises SnapshotRefused or CodecError."""
    fields: Any = codec.decode(raw, max_bytes=1024)
    if type(fields) is not list or len(fields) > MAX_OFFERS or any(
            type(offer) is not list or len(offer) != 3 or any(type(f) is not int or not 0 <= f < 1 << 63 for f in offer)
            for offer in fields):
        raise SnapshotRefused(f"offers are at most {MAX_OFFERS} times [height, chunks, bytes]")
    return [(offer[0], offer[1], offer[2]) for offer in fields]


class Shelf:
    """The snapshot files in one folder, `<height>.snapshot`; read by their heights, the oldest given away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[int, SnapshotFile] = {}
        self._unreadable: set[int] = set()
        self._log = structlog.get_logger("snapshots")

    def path(self, height: int) -> Path:
        return self.folder / f"{height}.snapshot"

    def look(self, keep: int) -> list[SnapshotFile]:
        """Opens what is new, removes all but the newest `keep`; newest first. What cannot be read is left out."""
        try:
            names = [entry.name for entry in self.folder.iterdir()]
        except FileNotFoundError:
            names = []
        heights = sorted((int(match[1]) for match in map(_NAME.fullmatch, names) if match), reverse=True)
        for height in heights[:keep]:
            if height not in self._open and height not in self._unreadable:
                try:
                    self._open[height] = SnapshotFile(self.path(height))
                except SnapshotError as error:
                    self._unreadable.add(height)
                    self._log.warning("snapshot_unreadable", path=str(self.path(height)), error=str(error))
        for height in [height for height in self._open if height not in heights[:keep]]:
            self._open.pop(height).close()
        for height in heights[keep:]:
            self.path(height).unlink(missing_ok=True)
        return self.files()

    def files(self) -> list[SnapshotFile]:
        return [self._open[height] for height in sorted(self._open, reverse=True)]

    def file(self, height: int) -> SnapshotFile:
        found = self._open.get(height)
        if found is None:
            raise SnapshotRefused(f"no snapshot of height {height} is kept here; there are "
                                  f"{', '.join(str(known) for known in sorted(self._open)) or 'none'}")
        return found

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class SnapshotServer:
    """Answers peers' requests out of a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self._readers = trio.CapacityLimiter(READERS)

    async def handle(self, public: bytes, payload: bytes) -> bytes:
        """One request of one peer. Raises SnapshotRefused."""
        fields = decode_request(payload)
        if fields[0] == OFFERS:
            return codec.encode([[file.height, file.manifest.chunks, file.size]
                                 for file in self._shelf.files()[:MAX_OFFERS]])
        file = self._shelf.file(fields[1])
        if fields[0] == MANIFEST:
            await self._spend(public, len(file.manifest_raw))
            return file.manifest_raw
        _, _, nibbles, index = fields
        if nibbles != file.manifest.nibbles or nibbles > MAX_NIBBLES or index >= file.manifest.chunks:
            raise SnapshotRefused(f"chunk {index} by {nibbles} nibbles; the snapshot of height {file.height} has "
                                  f"{file.manifest.chunks} chunks by {file.manifest.nibbles}")
        await self._spend(public, file.manifest.sizes[index])
        return await trio.to_thread.run_sync(file.chunk, index, limiter=self._readers)

    async def _spend(self, public: bytes, size: int) -> None:
        bucket = self._buckets.pop(public, None) or TokenBucket(PEER_BYTES, trio.current_time())
        self._buckets[public] = bucket
        while len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        wait_s = bucket.wait_s(size, trio.current_time())
        if wait_s > MAX_WAIT_S:
            raise SnapshotRefused(f"more than {PEER_BYTES.per_s / (1 << 20):.0f} MiB/s asked for; go on in "
                                  f"{wait_s:.0f} s")
        if wait_s:
            await trio.sleep(wait_s)
