"""Bytes of the node's own making: log records and the frames of the bodies stream.

Log kinds (CONSENSUS 6): one ordered log holds own votes and proposals, certificates, and blocks with their bodies.
Body frames carry transactions and whole blocks between authorities, and travel apart from votes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.errors import GridTokenXError

MAX_BLOCK_BYTES = 1 << 20
MAX_FRAME_BYTES = 2 << 20
MAX_ASKED_TRANSACTIONS = 8192


class RecordError(GridTokenXError):
    """A log record or body frame of the wrong shape."""


class LogKind(IntEnum):
    """Types of log records, frozen: part of the disk format."""

    MESSAGE = 1   # own vote or proposal, or a certificate, as the consensus message it is
    BLOCK = 2     # header and body
    EVIDENCE = 3  # of equivocation, as the operation it is submitted in


def encode_block(header: bytes, transactions: list[bytes]) -> bytes:
    return codec.encode([header, transactions])


def decode_block(raw: bytes) -> tuple[bytes, list[bytes]]:
    """Header bytes and raw transactions. Raises RecordError or CodecError."""
    fields = codec.decode(raw, max_bytes=MAX_FRAME_BYTES)
    if type(fields) is not list or len(fields) != 2:
        raise RecordError("a block is [header, [transaction, ...]]")
    return _bytes(fields[0]), _many(fields[1])


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise RecordError("expected a byte string")
    return value


def _many(value: Any) -> list[bytes]:
    if type(value) is not list or any(type(item) is not bytes for item in value):
        raise RecordError("expected an array of byte strings")
    return value


class FrameKind(IntEnum):
    """Wire numbers of the bodies stream, frozen."""

    TRANSACTIONS = 1
    GET_TRANSACTIONS = 2
    GET_BLOCK = 3
    BLOCK = 4


@frozen
class Transactions:
    """Raw transactions: newly accepted ones, or the answer to GetTransactions."""

    raws: tuple[bytes, ...]


@frozen
class GetTransactions:
    ids: tuple[bytes, ...]


@frozen
class GetBlock:
    digest: bytes


@frozen
class BlockFrame:
    header: bytes
    raws: tuple[bytes, ...]


BodyFrame = Transactions | GetTransactions | GetBlock | BlockFrame


def encode_frame(frame: BodyFrame) -> bytes:
    match frame:
        case Transactions():
            fields: list[Any] = [int(FrameKind.TRANSACTIONS), list(frame.raws)]
        case GetTransactions():
            fields = [int(FrameKind.GET_TRANSACTIONS), b"".join(frame.ids)]
        case GetBlock():
            fields = [int(FrameKind.GET_BLOCK), frame.digest]
        case BlockFrame():
            fields = [int(FrameKind.BLOCK), frame.header, list(frame.raws)]
    return codec.encode(fields)


def decode_frame(raw: bytes) -> BodyFrame:
    """Raises RecordError or CodecError naming what is wrong."""
    fields = codec.decode(raw, max_bytes=MAX_FRAME_BYTES)
    if type(fields) is not list or len(fields) < 2 or type(fields[0]) is not int:
        raise RecordError("a body frame is [kind, ...]")
    if fields[0] == FrameKind.TRANSACTIONS and len(fields) == 2:
        return Transactions(tuple(_many(fields[1])))
    if fields[0] == FrameKind.GET_TRANSACTIONS and len(fields) == 2:
        joined = _bytes(fields[1])
        if len(joined) % HASH_BYTES or len(joined) > MAX_ASKED_TRANSACTIONS * HASH_BYTES:
            raise RecordError(f"at most {MAX_ASKED_TRANSACTIONS} ids of {HASH_BYTES} bytes")
        return GetTransactions(tuple(joined[at:at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)))
    if fields[0] == FrameKind.GET_BLOCK and len(fields) == 2:
        digest = _bytes(fields[1])
        if len(digest) != HASH_BYTES:
            raise RecordError(f"a digest has {HASH_BYTES} bytes")
        return GetBlock(digest)
    if fields[0] == FrameKind.BLOCK and len(fields) == 3:
        return BlockFrame(_bytes(fields[1]), tuple(_many(fields[2])))
    raise RecordError(f"no body frame of kind {fields[0]} with {len(fields)} fields")
