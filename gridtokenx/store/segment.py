"""Segment files of the log: their header, the batches in them, and how they are read back.

A segment is a file of fixed size, filled with zeros and synced before it gets its name. Its first block is a
header; every batch starts on a block of its own, because a torn write of batch k + 1 must not be able to reach
a sector that holds a part of batch k, which votes already rely on.

    header  magic, format version, segment size, chain_id, salt, number of first batch, position of first record
    batch   magic, record count, batch number, position of first record, payload length, checksum, records
    record  kind (1 byte), length (4 bytes), bytes

The checksum is BLAKE2b-128 keyed with chain_id and the segment's random salt: strong enough against torn,
misdirected and stale writes, and nobody can put bytes into a transaction that read as a batch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

from attrs import frozen

from gridtokenx.store.errors import LogLost, WrongChain, WrongVersion

LOG_FORMAT = 1
BLOCK_BYTES = 4096
SALT_BYTES = 16
SEGMENT_BYTES = 16 << 20
MAX_RECORD_BYTES = 2 << 20
MAX_BATCH_BYTES = 4 << 20
MIN_SEGMENT_BYTES = 8 * BLOCK_BYTES

_CHECKSUM_BYTES = 16
_MAGIC = b"GTXLOG1\n"
_HEADER = struct.Struct(f">8sIQ32s{SALT_BYTES}sQQ")
_BATCH_MAGIC = b"GTXB"
_BATCH = struct.Struct(">4sIQQQ")
_RECORD = struct.Struct(">BI")
RECORD_OVERHEAD = _RECORD.size
BATCH_OVERHEAD = _BATCH.size + _CHECKSUM_BYTES

Record = tuple[int, bytes]


@frozen
class SegmentHeader:
    """`first_batch` and `first_record` are the numbers that the first batch in this segment has or will have."""

    segment_bytes: int
    chain_id: bytes
    salt: bytes
    first_batch: int
    first_record: int

    def encode(self) -> bytes:
        fields = _HEADER.pack(_MAGIC, LOG_FORMAT, self.segment_bytes, self.chain_id, self.salt, self.first_batch,
                              self.first_record)
        return fields + blake2b(fields, digest_size=_CHECKSUM_BYTES).digest()


def decode_segment_header(raw: bytes, name: str, chain_id: bytes) -> SegmentHeader:
    """Raises LogLost for a damaged header, WrongVersion or WrongChain for a good one of another log."""
    if len(raw) < _HEADER.size + _CHECKSUM_BYTES or raw[:8] != _MAGIC:
        raise LogLost(f"segment {name} has no readable header")
    fields = raw[:_HEADER.size]
    _, version, segment_bytes, found_chain, salt, first_batch, first_record = _HEADER.unpack(fields)
    if version != LOG_FORMAT:
        raise WrongVersion(f"log segment {name} has format {version}; this program reads format {LOG_FORMAT}")
    if raw[_HEADER.size:_HEADER.size + _CHECKSUM_BYTES] != blake2b(fields, digest_size=_CHECKSUM_BYTES).digest():
        raise LogLost(f"the header of segment {name} does not fit its checksum")
    if found_chain != chain_id:
        raise WrongChain(f"log segment {name}", found_chain, chain_id)
    return SegmentHeader(segment_bytes, found_chain, salt, first_batch, first_record)


def _checksum(header: SegmentHeader, *parts: bytes | memoryview) -> bytes:
    hasher = blake2b(digest_size=_CHECKSUM_BYTES, key=header.chain_id + header.salt)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def blocks_for(length: int) -> int:
    """Bytes that a batch with `length` bytes of records takes on disk."""
    return -(-(BATCH_OVERHEAD + length) // BLOCK_BYTES) * BLOCK_BYTES


def encode_batch(header: SegmentHeader, number: int, first_record: int, records: Sequence[Record]) -> bytes:
    """A batch, padded with zeros to whole blocks."""
    parts: list[bytes] = []
    for kind, payload in records:
        parts.append(_RECORD.pack(kind, len(payload)))
        parts.append(payload)
    body = b"".join(parts)
    fields = _BATCH.pack(_BATCH_MAGIC, len(records), number, first_record, len(body))
    raw = fields + _checksum(header, fields, body) + body
    return raw.ljust(blocks_for(len(body)), b"\0")


@frozen
class _Batch:
    number: int
    first_record: int
    end: int
    records: list[Record]


def _read_batch(header: SegmentHeader, data: memoryview, offset: int) -> _Batch | None:
    """The batch that starts at `offset`, or None if there is none that fits its checksum."""
    if offset + BATCH_OVERHEAD > len(data) or data[offset:offset + 4] != _BATCH_MAGIC:
        return None
    fields = data[offset:offset + _BATCH.size]
    _, count, number, first_record, length = _BATCH.unpack(fields)
    start = offset + BATCH_OVERHEAD
    if length > len(data) - start:
        return None
    body = data[start:start + length]
    if data[offset + _BATCH.size:start] != _checksum(header, fields, body):
        return None
    records: list[Record] = []
    at = 0
    while at < length:
        kind, size = _RECORD.unpack_from(body, at)
        at += _RECORD.size
        records.append((kind, bytes(body[at:at + size])))
        at += size
    if len(records) != count or at != length:
        return None
    return _Batch(number, first_record, offset + blocks_for(length), records)


@frozen
class SegmentContent:
    """What a segment holds: records in order, the next numbers, the offset `end` after the last good batch, and
    the range of bytes after it that are not zero (a batch torn by a crash), if any."""

    header: SegmentHeader
    records: list[Record]
    next_batch: int
    next_record: int
    end: int
    torn: tuple[int, int] | None


def read_segment(raw: bytes, name: str, chain_id: bytes) -> SegmentContent:
    """Reads a whole segment.

    Raises LogLost if a good batch lies beyond a bad place: batch k + 1 is written only after batch k was synced,
    so then something that was durable is gone. Also for a file that is shorter than its header says, since a
    segment gets its name only at full size.
    """
    header = decode_segment_header(raw[:BLOCK_BYTES], name, chain_id)
    if len(raw) != header.segment_bytes:
        raise LogLost(f"segment {name} has {len(raw)} bytes instead of {header.segment_bytes}")
    data = memoryview(raw)
    records: list[Record] = []
    number, position, offset = header.first_batch, header.first_record, BLOCK_BYTES
    while (batch := _read_batch(header, data, offset)) is not None:
        if batch.number != number or batch.first_record != position:
            raise LogLost(f"segment {name} has batch {batch.number} at byte {offset} where batch {number} belongs")
        records.extend(batch.records)
        number += 1
        position += len(batch.records)
        offset = batch.end
    torn = _used_range(raw, offset)
    if torn is not None:
        for later in range(offset + BLOCK_BYTES, torn[1], BLOCK_BYTES):
            stray = _read_batch(header, data, later)
            if stray is not None:
                raise LogLost(f"segment {name}: batch {number} at byte {offset} is damaged, yet batch {stray.number} "
                              f"follows at byte {later}")
    return SegmentContent(header, records, number, position, offset, torn)


def _used_range(raw: bytes, start: int) -> tuple[int, int] | None:
    """From the first to after the last block at or after `start` that is not all zero."""
    zero = bytes(BLOCK_BYTES)
    used = [at for at in range(start, len(raw), BLOCK_BYTES) if raw[at:at + BLOCK_BYTES] != zero]
    return (used[0], used[-1] + BLOCK_BYTES) if used else None
