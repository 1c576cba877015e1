"""The bytes of a light proof: canonical CBOR, and the same fields as JSON (docs/proofs.md).

    proof     = [1, finality, ancestor, [claim, ...]]
    finality  = [genesis header, authorities, [boundary, ...], header, certificate]
    boundary  = [header, certificate, authorities of the next epoch]
    ancestor  = null | [header, path in the mountain range of headers]
    claim     = [1, key, value | null, path]                                       a record of the state, or its absence
              | [2, index, count, transaction, path, receipt, receipt path]        a transaction of the block

All fields but numbers are byte strings; certificates, authorities, records and receipts are in the form in which the
chain has them. Decoding is bounded and checks shapes only: it proves nothing.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import MAX_HEADER_BYTES
from gridtokenx.ledger.trie import MAX_PROOF_BYTES as MAX_TRIE_BYTES

VERSION = 1
MAX_PROOF_BYTES = 4 << 20
MAX_BOUNDARIES = 4096
MAX_CLAIMS = 64
MAX_KEY_BYTES = 503
MAX_CERTIFICATE_BYTES = 8 << 10
MAX_AUTHORITIES_BYTES = 32 << 10
MAX_MOUNTAIN_BYTES = 8 << 10
MAX_BODY_BYTES = 1 << 20
MAX_SIBLINGS = 32
STATE, TRANSACTION = 1, 2


class ProofError(GridTokenXError):
    """A proof that proves nothing; the message names the part that failed."""


class MalformedProof(ProofError):
    """Bytes that are not a proof, or one of a version that this program does not know."""


@frozen
class Boundary:
    """The last block of an epoch, final by its own certificate, and the list of authorities it hands over to."""

    header: bytes
    certificate: bytes
    authorities: bytes


@frozen
class Finality:
    """From genesis to a final block: the boundaries after which the list of authorities was another one."""

    genesis: bytes
    authorities: bytes
    boundaries: tuple[Boundary, ...]
    header: bytes
    certificate: bytes


@frozen
class Ancestor:
    """An earlier block than the certified one, and its place in the range of all headers before that."""

    header: bytes
    path: bytes


@frozen
class StateClaim:
    """`key` has `value` in the state after the block, or, with None, is not there."""

    key: bytes
    value: bytes | None
    path: bytes


@frozen
class TransactionClaim:
    """Transaction number `index` of the block's `count`, and its receipt."""

    index: int
    count: int
    transaction: bytes
    path: tuple[bytes, ...]
    receipt: bytes
    receipt_path: tuple[bytes, ...]


Claim = StateClaim | TransactionClaim


@frozen
class Proof:
    """Claims about one block: the certified one, or with `ancestor` an earlier one."""

    finality: Finality
    ancestor: Ancestor | None
    claims: tuple[Claim, ...]

    def encode(self) -> bytes:
        return codec.encode([VERSION, finality_fields(self.finality),
                             None if self.ancestor is None else [self.ancestor.header, self.ancestor.path],
                             [_claim_fields(claim) for claim in self.claims]])


def finality_fields(finality: Finality) -> list[Any]:
    """The array form of a proof of finality."""
    return [finality.genesis, finality.authorities,
            [[entry.header, entry.certificate, entry.authorities] for entry in finality.boundaries],
            finality.header, finality.certificate]


def _claim_fields(claim: Claim) -> list[Any]:
    if isinstance(claim, StateClaim):
        return [STATE, claim.key, claim.value, claim.path]
    return [TRANSACTION, claim.index, claim.count, claim.transaction, b"".join(claim.path), claim.receipt,
            b"".join(claim.receipt_path)]


# ---------------------------------------------------------------------- reading


def _array(value: Any, length: int, what: str) -> list[Any]:
    if type(value) is not list or len(value) != length:
        raise MalformedProof(f"{what} is an array of {length} fields")
    return value


def _bytes(value: Any, most: int, what: str) -> bytes:
    if type(value) is not bytes or len(value) > most:
        raise MalformedProof(f"{what} is a byte string of at most {most} bytes")
    return value


def _number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise MalformedProof(f"{what} is an integer from 0 to 2^32-1")
    return value


def _siblings(value: Any, what: str) -> tuple[bytes, ...]:
    joined = _bytes(value, MAX_SIBLINGS * HASH_BYTES, what)
    if len(joined) % HASH_BYTES:
        raise MalformedProof(f"{what} has {HASH_BYTES} bytes per level")
    return tuple(joined[at:at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


def decode_finality(value: Any) -> Finality:
    """Reads the array form. Raises MalformedProof."""
    genesis, authorities, boundaries, header, certificate = _array(value, 5, "the proof of finality")
    if type(boundaries) is not list or len(boundaries) > MAX_BOUNDARIES:
        raise MalformedProof(f"the boundaries are an array of at most {MAX_BOUNDARIES}")
    entries = []
    for number, entry in enumerate(boundaries):
        what = f"boundary {number}"
        fields = _array(entry, 3, what)
        entries.append(Boundary(_bytes(fields[0], MAX_HEADER_BYTES, f"the header of {what}"),
                                _bytes(fields[1], MAX_CERTIFICATE_BYTES, f"the certificate of {what}"),
                                _bytes(fields[2], MAX_AUTHORITIES_BYTES, f"the list of {what}")))
    return Finality(_bytes(genesis, MAX_HEADER_BYTES, "the genesis header"),
                    _bytes(authorities, MAX_AUTHORITIES_BYTES, "the first list of authorities"), tuple(entries),
                    _bytes(header, MAX_HEADER_BYTES, "the certified header"),
                    _bytes(certificate, MAX_CERTIFICATE_BYTES, "the certificate"))


def _decode_claim(value: Any, number: int) -> Claim:
    what = f"claim {number}"
    if type(value) is not list or not value or type(value[0]) is not int or value[0] not in (STATE, TRANSACTION):
        raise MalformedProof(f"{what} begins with 1 (a record) or 2 (a transaction)")
    if value[0] == STATE:
        _, key, record, path = _array(value, 4, what)
        if type(key) is not bytes or not 0 < len(key) <= MAX_KEY_BYTES:
            raise MalformedProof(f"the key of {what} has 1 to {MAX_KEY_BYTES} bytes")
        return StateClaim(key, None if record is None else _bytes(record, MAX_BODY_BYTES, f"the value of {what}"),
                          _bytes(path, MAX_TRIE_BYTES, f"the path of {what}"))
    _, index, count, transaction, path, receipt, receipt_path = _array(value, 7, what)
    return TransactionClaim(
        _number(index, f"the index of {what}"), _number(count, f"the count of {what}"),
        _bytes(transaction, MAX_BODY_BYTES, f"the transaction of {what}"), _siblings(path, f"the path of {what}"),
        _bytes(receipt, MAX_BODY_BYTES, f"the receipt of {what}"),
        _siblings(receipt_path, f"the receipt's path of {what}"))


def decode_proof(raw: bytes) -> Proof:
    """Reads a proof. Raises MalformedProof naming the field that is wrong; proves nothing yet."""
    try:
        fields = codec.decode(raw, max_bytes=MAX_PROOF_BYTES)
    except codec.CodecError as error:
        raise MalformedProof(f"the proof cannot be read: {error}") from error
    if type(fields) is not list or not fields or fields[0] != VERSION or type(fields[0]) is not int:
        raise MalformedProof(f"a proof is an array that begins with its version, {VERSION}")
    _, finality, ancestor, claims = _array(fields, 4, "a proof")
    if type(claims) is not list or not 0 < len(claims) <= MAX_CLAIMS:
        raise MalformedProof(f"a proof makes 1 to {MAX_CLAIMS} claims")
    older = None
    if ancestor is not None:
        header, path = _array(ancestor, 2, "the ancestor")
        older = Ancestor(_bytes(header, MAX_HEADER_BYTES, "the ancestor's header"),
                         _bytes(path, MAX_MOUNTAIN_BYTES, "the ancestor's path"))
    return Proof(decode_finality(finality), older,
                 tuple(_decode_claim(claim, number) for number, claim in enumerate(claims)))


# ---------------------------------------------------------------------- JSON

_FORMAT = "gridtokenx-proof"


def to_json(proof: Proof) -> dict[str, Any]:
    """The same fields by name, byte strings in hexadecimal."""
    finality, ancestor = proof.finality, proof.ancestor
    claims: list[dict[str, Any]] = []
    for claim in proof.claims:
        if isinstance(claim, StateClaim):
            claims.append({"key": claim.key.hex(), "value": None if claim.value is None else claim.value.hex(),
                           "path": claim.path.hex()})
        else:
            claims.append({"index": claim.index, "count": claim.count, "transaction": claim.transaction.hex(),
                           "path": [entry.hex() for entry in claim.path], "receipt": claim.receipt.hex(),
                           "receipt_path": [entry.hex() for entry in claim.receipt_path]})
    return {
        "format": _FORMAT, "version": VERSION,
        "finality": {
            "genesis": finality.genesis.hex(), "authorities": finality.authorities.hex(),
            "boundaries": [{"header": entry.header.hex(), "certificate": entry.certificate.hex(),
                            "authorities": entry.authorities.hex()} for entry in finality.boundaries],
            "header": finality.header.hex(), "certificate": finality.certificate.hex()},
        "ancestor": None if ancestor is None else {"header": ancestor.header.hex(), "path": ancestor.path.hex()},
        "claims": claims,
    }


def from_json(text: str) -> Proof:
    """Reads what `to_json` made, with the bounds of `decode_proof`. Raises MalformedProof."""
    if len(text) > 2 * MAX_PROOF_BYTES + (1 << 20):
        raise MalformedProof(f"a proof of {len(text)} characters is too long")
    try:
        fields = json.loads(text)
        if fields["format"] != _FORMAT or fields["version"] != VERSION:
            raise MalformedProof(f"the JSON has no \"format\": \"{_FORMAT}\" and \"version\": {VERSION}")
        given, ancestor = fields["finality"], fields["ancestor"]
        claims = []
        for claim in fields["claims"]:
            if "key" in claim:
                value = claim["value"]
                claims.append([STATE, bytes.fromhex(claim["key"]), None if value is None else bytes.fromhex(value),
                               bytes.fromhex(claim["path"])])
            else:
                claims.append([TRANSACTION, claim["index"], claim["count"], bytes.fromhex(claim["transaction"]),
                               bytes.fromhex("".join(claim["path"])), bytes.fromhex(claim["receipt"]),
                               bytes.fromhex("".join(claim["receipt_path"]))])
        raw = codec.encode([VERSION, [
            bytes.fromhex(given["genesis"]), bytes.fromhex(given["authorities"]),
            [[bytes.fromhex(entry[name]) for name in ("header", "certificate", "authorities")]
             for entry in given["boundaries"]],
            bytes.fromhex(given["header"]), bytes.fromhex(given["certificate"])],
            None if ancestor is None else [bytes.fromhex(ancestor["header"]), bytes.fromhex(ancestor["path"])], claims])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, codec.CodecError) as error:
        raise MalformedProof(f"not the JSON form of a proof: {type(error).__name__}: {error}") from error
    return decode_proof(raw)
