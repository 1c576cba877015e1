"""What a node's log proves to be durable, read from the bytes that reached the disk, by a reader of its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote, decode_message
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.node.records import LogKind, decode_block
from gridtokenx.sim.disk import Key, block_key, certificate_key, final_key, vote_key

_BATCH = struct.Struct(">4sIQQQ")
_CHECKSUM_BYTES = 16
_RECORD = struct.Struct(">BI")
_BLOCK_BYTES = 4096


def keys_of_write(data: bytes) -> set[Key]:
    """Of one write to a segment: what its records prove; nothing for a header or a filling of zeros."""
    return {key for kind, payload in _records(data, 0) for key in _keys(kind, payload)}


def keys_of_segment(data: bytes) -> set[Key]:
    """Of a whole segment, which the node itself has found to be good."""
    return {key for start in range(_BLOCK_BYTES, len(data), _BLOCK_BYTES)
            for kind, payload in _records(data, start) for key in _keys(kind, payload)}


def headers_of_write(data: bytes) -> list[Header]:
    """Of the blocks in it."""
    return [decode_header(decode_block(payload)[0]) for kind, payload in _records(data, 0) if kind == LogKind.BLOCK]


def _records(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Of the batch that starts there, if one does."""
    if data[at:at + 4] != b"GTXB":
        return
    _, count, _, _, _ = _BATCH.unpack_from(data, at)
    at += _BATCH.size + _CHECKSUM_BYTES
    for _ in range(count):
        kind, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        yield kind, data[at:at + length]
        at += length


def _keys(kind: int, payload: bytes) -> list[Key]:
    if kind == LogKind.BLOCK:
        return [block_key(digest(Domain.HEADER, decode_block(payload)[0]))]
    if kind != LogKind.MESSAGE:
        return []
    message = decode_message(payload)
    match message:
        case Vote():
            return [vote_key(message.kind, message.epoch, message.view, message.digest)]
        case Propose():
            return [vote_key(Kind.NOTARIZE, message.epoch, message.view, digest(Domain.HEADER, message.header))]
        case Certificate():
            keys = [certificate_key(message.kind, message.epoch, message.view, message.digest)]
            return [*keys, final_key(message.digest)] if message.kind is Kind.FINALIZE else keys
    return []
