"""Consensus messages and their bytes (CONSENSUS 4).

A message is a canonical array `[kind, ...]`. Votes are signed over `[epoch, kind, view, digest]` under the
vote domain and the chain's id, so a vote is good on one chain, in one epoch, for one purpose. The PROPOSE
signature is over the NOTARIZE content: it counts as the leader's NOTARIZE.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.crypto.keys import SIGNATURE_BYTES
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import MAX_BODY_TRANSACTIONS, MAX_HEADER_BYTES
from gridtokenx.ledger.epochs import MAX_AUTHORITIES as MAX_AUTHORITIES
from gridtokenx.ledger.votes import vote_content as vote_content

MAX_WAKE_HASHES = 2048
MAX_KNOWN_VOTES = 6
MAX_MESSAGE_BYTES = 1 << 20


class MessageError(GridTokenXError):
    """Bytes that are not a well-formed consensus message."""


class Kind(IntEnum):
    """Wire numbers, frozen."""

    PROPOSE = 1
    NOTARIZE = 2
    NULLIFY = 3
    FINALIZE = 4
    CERT = 5
    STATUS = 6
    GET_CERT = 7
    WAKE = 8
    GET_VOTES = 9
    VOTES = 10


_KINDS = frozenset(int(kind) for kind in Kind)
VOTE_KINDS = (Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE)


@frozen
class Vote:
    """One authority's NOTARIZE, NULLIFY (empty digest) or FINALIZE; `signer` indexes the epoch's list."""

    kind: Kind
    epoch: int
    view: int
    digest: bytes
    signer: int
    signature: bytes


@frozen
class Certificate:
    """q votes of one kind, view and digest. `signers` ascending; `signatures` in the same order."""

    kind: Kind
    epoch: int
    view: int
    digest: bytes
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]

    @property
    def bitmap(self) -> int:
        return sum(1 << signer for signer in self.signers)


@frozen
class Propose:
    """The leader's block: header bytes and the ids of its transactions in execution order.

    `view` is the view it is proposed in; it differs from the header's only when an epoch's boundary block is
    offered again (CONSENSUS 5, epochs).
    """

    epoch: int
    view: int
    header: bytes
    transaction_ids: tuple[bytes, ...]
    signer: int
    signature: bytes


@frozen
class Status:
    """Sent every second: where the sender is and what its clock says (Unix ms)."""

    epoch: int
    view: int
    finalized_height: int
    executed_height: int
    clock_ms: int


@frozen
class GetCertificates:
    """Ask for certificates of views `first..last` (at most 100), notarizations and nullifications alike."""

    epoch: int
    first: int
    last: int


@frozen
class Wake:
    """Ids of pending transactions, so that others have a reason to leave idleness and fetch what they lack."""

    transaction_ids: tuple[bytes, ...]


@frozen
class GetVotes:
    """After a start: which of my votes do you know? Nothing is signed before enough have answered (CONSENSUS 6)."""

    epoch: int


@frozen
class KnownVotes:
    """The answer: the sender's epoch, the last view that is settled there, and of the asker's votes the newest of
    each kind, as (kind, epoch, view, digest, signature)."""

    epoch: int
    settled: int
    votes: tuple[tuple[Kind, int, int, bytes, bytes], ...]


Message = GetVotes | KnownVotes | Vote | Certificate | Propose | Status | GetCertificates | Wake


def encode_certificate(certificate: Certificate) -> list[Any]:
    """The array form used on the wire, in the log and in the store."""
    return [int(certificate.kind), certificate.epoch, certificate.view, certificate.digest, certificate.bitmap,
            list(certificate.signatures)]


def encode_message(message: Message) -> bytes:
    match message:
        case Vote():
            fields: list[Any] = [int(message.kind), message.epoch, message.view, message.digest, message.signer,
                                 message.signature]
        case Certificate():
            fields = [int(Kind.CERT), *encode_certificate(message)]
        case Propose():
            fields = [int(Kind.PROPOSE), message.epoch, message.view, message.header,
                      b"".join(message.transaction_ids), message.signer, message.signature]
        case Status():
            fields = [int(Kind.STATUS), message.epoch, message.view, message.finalized_height,
                      message.executed_height, message.clock_ms]
        case GetCertificates():
            fields = [int(Kind.GET_CERT), message.epoch, message.first, message.last]
        case GetVotes():
            fields = [int(Kind.GET_VOTES), message.epoch]
        case KnownVotes():
            fields = [int(Kind.VOTES), message.epoch, message.settled,
                      [[int(kind), *rest] for kind, *rest in message.votes]]
        case Wake():
            fields = [int(Kind.WAKE), b"".join(message.transaction_ids)]
    return codec.encode(fields)


def _integers(fields: list[Any], *indexes: int) -> None:
    for index in indexes:
        if type(fields[index]) is not int or not 0 <= fields[index] < 1 << 63:
            raise MessageError(f"field {index} must be an integer from 0 to 2^63-1")


def _digest(kind: Kind, value: Any) -> bytes:
    wanted = 0 if kind is Kind.NULLIFY else HASH_BYTES
    if type(value) is not bytes or len(value) != wanted:
        raise MessageError(f"the digest of {kind.name} has {wanted} bytes")
    return value


def _signature(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != SIGNATURE_BYTES:
        raise MessageError(f"a signature has {SIGNATURE_BYTES} bytes")
    return value


def _ids(value: Any, most: int) -> tuple[bytes, ...]:
    if type(value) is not bytes or len(value) % HASH_BYTES or len(value) > most * HASH_BYTES:
        raise MessageError(f"ids are one byte string of at most {most} x {HASH_BYTES} bytes")
    return tuple(value[start:start + HASH_BYTES] for start in range(0, len(value), HASH_BYTES))


def _known_votes(value: Any) -> tuple[tuple[Kind, int, int, bytes, bytes], ...]:
    if type(value) is not list or len(value) > MAX_KNOWN_VOTES:
        raise MessageError(f"at most {MAX_KNOWN_VOTES} votes")
    votes = []
    for entry in value:
        if type(entry) is not list or len(entry) != 5 or entry[0] not in VOTE_KINDS or type(entry[0]) is not int:
            raise MessageError("a known vote is [kind, epoch, view, digest, signature]")
        _integers(entry, 1, 2)
        kind = Kind(entry[0])
        votes.append((kind, entry[1], entry[2], _digest(kind, entry[3]), _signature(entry[4])))
    return tuple(votes)


def _length(fields: list[Any], wanted: int) -> None:
    if len(fields) != wanted:
        raise MessageError(f"{len(fields)} fields; this kind has {wanted}")


def decode_certificate(fields: Any) -> Certificate:
    """Reads the array form; checks shape, not signatures. Raises MessageError."""
    if type(fields) is not list or len(fields) != 6:
        raise MessageError("a certificate is [kind, epoch, view, digest, bitmap, signatures]")
    _integers(fields, 0, 1, 2)
    if fields[0] not in VOTE_KINDS:
        raise MessageError(f"no certificate of kind {fields[0]}; allowed are 2, 3 and 4")
    kind = Kind(fields[0])
    bitmap = fields[4]
    if type(bitmap) is not int or not 0 <= bitmap < 1 << MAX_AUTHORITIES:
        raise MessageError(f"the bitmap has at most {MAX_AUTHORITIES} bits")
    signers = tuple(index for index in range(MAX_AUTHORITIES) if bitmap >> index & 1)
    if type(fields[5]) is not list or len(fields[5]) != len(signers):
        raise MessageError("as many signatures as signers")
    return Certificate(kind, fields[1], fields[2], _digest(kind, fields[3]), signers,
                       tuple(_signature(signature) for signature in fields[5]))


def decode_message(raw: bytes) -> Message:
    """Reads any message. Raises MessageError or CodecError naming what is wrong; verifies no signature."""
    fields = codec.decode(raw, max_bytes=MAX_MESSAGE_BYTES)
    if type(fields) is not list or not fields or type(fields[0]) is not int or fields[0] not in _KINDS:
        raise MessageError("a message is [kind, ...] with kind 1 to 10")
    kind = Kind(fields[0])
    if kind in VOTE_KINDS:
        _length(fields, 6)
        _integers(fields, 1, 2, 4)
        if fields[4] >= MAX_AUTHORITIES:
            raise MessageError(f"signer {fields[4]}; at most {MAX_AUTHORITIES} authorities")
        return Vote(kind, fields[1], fields[2], _digest(kind, fields[3]), fields[4], _signature(fields[5]))
    if kind is Kind.CERT:
        return decode_certificate(fields[1:])
    if kind is Kind.PROPOSE:
        _length(fields, 7)
        _integers(fields, 1, 2, 5)
        if fields[5] >= MAX_AUTHORITIES:
            raise MessageError(f"signer {fields[5]}; at most {MAX_AUTHORITIES} authorities")
        if type(fields[3]) is not bytes or len(fields[3]) > MAX_HEADER_BYTES:
            raise MessageError(f"a header has at most {MAX_HEADER_BYTES} bytes")
        return Propose(fields[1], fields[2], fields[3], _ids(fields[4], MAX_BODY_TRANSACTIONS), fields[5],
                       _signature(fields[6]))
    if kind is Kind.STATUS:
        _length(fields, 6)
        _integers(fields, 1, 2, 3, 4, 5)
        return Status(*fields[1:])
    if kind is Kind.GET_CERT:
        _length(fields, 4)
        _integers(fields, 1, 2, 3)
        return GetCertificates(*fields[1:])
    if kind is Kind.GET_VOTES:
        _length(fields, 2)
        _integers(fields, 1)
        return GetVotes(fields[1])
    if kind is Kind.VOTES:
        _length(fields, 4)
        _integers(fields, 1, 2)
        return KnownVotes(fields[1], fields[2], _known_votes(fields[3]))
    _length(fields, 2)
    return Wake(_ids(fields[1], MAX_WAKE_HASHES))
