"""Catch-up by height: the request, the answer, and the checks that make an answer trustworthy.

An answer holds consecutive blocks with the certificates they have, and ends in a proof that its last block is
final: that block's own finalization certificate, or the headers up to a certified descendant (CONSENSUS 5,
catch-up), or, when that is far, the descendant's header alone and the block's place in its range of ancestors.
Nothing of an answer is executed before all of this held.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from attrs import define, frozen

from gridtokenx import codec
from gridtokenx.consensus.messages import Certificate, Kind, decode_certificate, encode_certificate
from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import Header, decode_header

PROTOCOL = "sync"
MAX_ANSWER_BYTES = 3 << 20
MAX_ANSWER_BLOCKS = 256
MAX_TAIL = 256
LEAST_PATIENCE_S = 2.5
MOST_PATIENCE_S = 10.0


class SyncError(GridTokenXError):
    """An answer that proves nothing: the peer that gave it is at fault."""


@define
class Patience:
    """How long a peer may take to answer: not long, so that silent ones hold nothing up; three times what the last
    answer took, and longer and longer while nobody's answer comes in time, since that may be the link."""

    wait_s: float = LEAST_PATIENCE_S

    def answered(self, took_s: float) -> None:
        self.wait_s = min(MOST_PATIENCE_S, max(LEAST_PATIENCE_S, 3 * took_s))

    def all_failed(self) -> None:
        self.wait_s = min(MOST_PATIENCE_S, 2 * self.wait_s)


@frozen
class SyncedBlock:
    """One final block as served: raw header, raw body, and its own certificate where it has one."""

    header: Header
    header_raw: bytes
    raws: tuple[bytes, ...]
    certificate: Certificate | None


@frozen
class SyncAnswer:
    """`blocks` from the asked height on; `tail` and `certificate` prove the last one final. With `path`, the tail is
    one header, among whose ancestors the path shows the last block."""

    head_height: int
    blocks: tuple[SyncedBlock, ...]
    tail: tuple[Header, ...]
    certificate: Certificate | None
    path: bytes | None = None


def encode_request(from_height: int, most: int = MAX_ANSWER_BLOCKS) -> bytes:
    return codec.encode([from_height, most])


def decode_request(raw: bytes) -> tuple[int, int]:
    fields = codec.decode(raw, max_bytes=64)
    if type(fields) is not list or len(fields) != 2 or any(type(f) is not int or f < 0 for f in fields):
        raise SyncError("a sync request is [from height, most blocks]")
    return fields[0], min(fields[1], MAX_ANSWER_BLOCKS)


def encode_answer(head_height: int, blocks: list[tuple[bytes, list[bytes], bytes | None]], tail: list[bytes],
                  certificate: bytes | None, path: bytes | None = None) -> bytes:
    """`certificate`s are in their stored form (canonical arrays)."""
    return codec.encode([head_height, [[header, raws, cert] for header, raws, cert in blocks], tail, certificate, path])


def encode_stored_certificate(certificate: Certificate) -> bytes:
    return codec.encode(encode_certificate(certificate))


def decode_stored_certificate(raw: bytes) -> Certificate:
    return decode_certificate(codec.decode(raw, max_bytes=1 << 16))


def _certificate(value: Any) -> Certificate | None:
    if value is None:
        return None
    if type(value) is not bytes:
        raise SyncError("a certificate is bytes or null")
    return decode_stored_certificate(value)


def decode_answer(raw: bytes) -> SyncAnswer:
    """Raises SyncError, BlockError, MessageError or CodecError naming what is wrong. Proves nothing yet."""
    fields = codec.decode(raw, max_bytes=MAX_ANSWER_BYTES + (1 << 20))
    if type(fields) is not list or len(fields) != 5 or type(fields[0]) is not int:
        raise SyncError("a sync answer is [head height, blocks, tail, certificate, path]")
    if type(fields[1]) is not list or type(fields[2]) is not list or len(fields[2]) > MAX_TAIL:
        raise SyncError(f"blocks and at most {MAX_TAIL} tail headers are arrays")
    blocks = []
    for entry in fields[1]:
        if (type(entry) is not list or len(entry) != 3 or type(entry[0]) is not bytes or type(entry[1]) is not list
                or any(type(item) is not bytes for item in entry[1])):
            raise SyncError("a synced block is [header, [transaction, ...], certificate or null]")
        blocks.append(SyncedBlock(decode_header(entry[0]), entry[0], tuple(entry[1]), _certificate(entry[2])))
    if any(type(item) is not bytes for item in fields[2]):
        raise SyncError("tail headers are byte strings")
    if fields[4] is not None and (type(fields[4]) is not bytes or len(fields[2]) != 1):
        raise SyncError("a path is bytes, beside a tail of one header")
    return SyncAnswer(fields[0], tuple(blocks), tuple(decode_header(item) for item in fields[2]),
                      _certificate(fields[3]), fields[4])


def within_epoch(answer: SyncAnswer, epoch: int) -> SyncAnswer:
    """The blocks of `epoch` that the answer begins with: those after them are checked by a list that is known only
    when these are executed. The last block of an epoch always has a certificate of its own."""
    inside = tuple(takewhile(lambda block: block.header.epoch == epoch, answer.blocks))
    if len(inside) == len(answer.blocks):
        return answer
    return SyncAnswer(answer.head_height, inside, (), None)


def check_answer(answer: SyncAnswer, from_height: int, parent: bytes,
                 verify: Callable[[Certificate], bool]) -> None:
    """Raises SyncError unless the blocks follow on `parent`, bodies are theirs, every certificate verifies and the
    last is final."""
    previous, height = parent, from_height
    hashes = []
    for block in answer.blocks:
        if block.header.height != height or block.header.parent != previous:
            raise SyncError(f"height {height}: the block does not follow on the one before")
        previous = digest(Domain.HEADER, block.header_raw)
        hashes.append(previous)
        height += 1
        certificate = block.certificate
        if certificate is not None and not (
                certificate.kind is Kind.FINALIZE and certificate.digest == previous and verify(certificate)):
            raise SyncError(f"height {block.header.height}: its certificate does not verify")
        if merkle_root([digest(Domain.TRANSACTION, raw) for raw in block.raws]) != block.header.transactions_root:
            raise SyncError(f"height {block.header.height}: the body does not match the transactions root")
    if not answer.blocks:
        return
    if answer.blocks[-1].certificate is not None:
        return
    if answer.path is not None:
        _check_ancestor(answer.path, answer.tail[0], height - 1, previous)
        previous = answer.tail[0].hash
    for header in answer.tail if answer.path is None else ():
        if header.height != height or header.parent != previous:
            raise SyncError(f"height {height}: the tail header does not follow on the one before")
        previous = header.hash
        height += 1
    final = answer.certificate
    if final is None or final.kind is not Kind.FINALIZE or final.digest != previous or not verify(final):
        raise SyncError("no valid certificate shows that the last block is final")


def _check_ancestor(path: bytes, certified: Header, height: int, block_hash: bytes) -> None:
    """Raises SyncError (or MountainError) unless the block is the ancestor of `certified` at that height."""
    proof = mountain_range.decode_proof(path)
    if (proof.index != height or mountain_range.count(proof.peaks) != certified.height
            or not mountain_range.verify(certified.headers_root, block_hash, proof)):
        raise SyncError(f"height {height}: the block is not shown to be an ancestor of the certified one at "
                        f"{certified.height}")
