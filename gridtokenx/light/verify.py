"""Checks a light proof against the authorities' keys that a chain began with (docs/proofs.md).

What is trusted is `Trust`: chain id and list of authorities from a genesis file, or the hash of block 0 alone. From
there each boundary's certificate is checked by the list before it and commits to the list after it; the last list
checks the certificate of a final header; and that header's roots show records, transactions and earlier headers.
Epochs that kept the list need no boundary of their own: a quorum of the same keys vouches for what they finalized.

Everything here is arithmetic on the proof's bytes. A proof says what was so after its block, not what is so now:
look at the block's height and time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen

from gridtokenx import codec
from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.certificates import certificate_verifies
from gridtokenx.consensus.config import KeyVerifier
from gridtokenx.consensus.messages import Kind, decode_certificate
from gridtokenx.crypto import merkle, mountain_range
from gridtokenx.crypto.hashing import HASH_BYTES, ZERO_HASH, Domain, digest
from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import trie
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.epochs import MAX_AUTHORITIES
from gridtokenx.light.format import (
    MAX_AUTHORITIES_BYTES,
    Claim,
    Finality,
    MalformedProof,
    Proof,
    ProofError,
    StateClaim,
    decode_proof,
    from_json,
)

Members = tuple[tuple[str, bytes], ...]


class ForeignProof(ProofError):
    """A proof of another chain than the one that is trusted."""


class NotFinal(ProofError):
    """The chain of certificates from genesis to the header breaks; the message says where."""


class FalseClaim(ProofError):
    """A claim that the final header's roots do not bear out."""


class NotProven(ProofError):
    """A key that the proof makes no claim about."""


@frozen
class Trust:
    """What a verifier believes beforehand: `members` of epoch 0 with the chain's id, or the hash of block 0."""

    chain_id: bytes = b""
    members: Members = ()
    genesis_hash: bytes = b""

    @classmethod
    def of_genesis(cls, chain_id: bytes, members: Members) -> Trust:
        """(name, public key) of the authorities in the genesis file, in its order, and the chain's id."""
        return cls(chain_id, members)

    @classmethod
    def of_hash(cls, genesis_hash: bytes) -> Trust:
        """The hash of block 0, which commits to chain id and authorities. Raises ProofError for another length."""
        if len(genesis_hash) != HASH_BYTES:
            raise ProofError(f"the hash of block 0 has {HASH_BYTES} bytes, not {len(genesis_hash)}")
        return cls(genesis_hash=genesis_hash)


@frozen
class ProvenTransaction:
    """A transaction of the proven block: its number, bytes, id (hash) and receipt."""

    index: int
    raw: bytes
    id: bytes
    receipt: bytes


@frozen
class Proven:
    """What a proof shows. `header` is the block that the claims are about, `certified` the one with the certificate:
    the same, or a later one. `records` maps keys to values, None for keys that were not in the state."""

    header: Header
    certified: Header
    members: Members
    records: Mapping[bytes, bytes | None]
    transactions: tuple[ProvenTransaction, ...] = ()

    def value(self, key: bytes) -> bytes | None:
        """The record under `key`, or None where there was none. Raises NotProven for a key without a claim."""
        if key not in self.records:
            raise NotProven(f"the proof says nothing of key {key.hex()}; it has "
                            f"{', '.join(known.hex() for known in self.records) or 'no records'}")
        return self.records[key]


def read_proof(data: bytes) -> Proof:
    """A proof in either form, CBOR or JSON. Raises MalformedProof."""
    if data[:1] != b"{":
        return decode_proof(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedProof(f"neither CBOR nor JSON: {error}") from error
    return from_json(text)


def verify(proof: Proof, trust: Trust) -> Proven:
    """All that `proof` shows. Raises ForeignProof, NotFinal, FalseClaim or MalformedProof, naming what failed."""
    certified, members = check_finality(proof.finality, trust)
    header = certified if proof.ancestor is None else _ancestor(proof, certified)
    records: dict[bytes, bytes | None] = {}
    transactions: list[ProvenTransaction] = []
    for number, claim in enumerate(proof.claims):
        if isinstance(claim, StateClaim) and claim.key in records:
            raise MalformedProof(f"claim {number} is about the key of an earlier one")
        _check_claim(number, claim, header, records, transactions)
    return Proven(header, certified, members, MappingProxyType(records), tuple(transactions))


def check_finality(finality: Finality, trust: Trust) -> tuple[Header, Members]:
    """The final header, and the authorities that finalized it.

    Raises ForeignProof when the proof does not begin with what is trusted, NotFinal where it breaks.
    """
    genesis = _header(finality.genesis, "the genesis header")
    members = read_authorities(finality.authorities, "the first list of authorities")
    if genesis.height or genesis.epoch or genesis.parent != ZERO_HASH:
        raise ForeignProof("the genesis header is not that of a block 0")
    if trust.genesis_hash and digest(Domain.HEADER, finality.genesis) != trust.genesis_hash:
        raise ForeignProof(f"the proof begins with block 0 {digest(Domain.HEADER, finality.genesis).hex()}; trusted is "
                           f"{trust.genesis_hash.hex()}")
    if not trust.genesis_hash and (genesis.chain_id != trust.chain_id or members != trust.members):
        raise ForeignProof(f"the proof is of chain {genesis.chain_id.hex()} with {len(members)} first authorities; "
                           f"trusted is chain {trust.chain_id.hex()} with {len(trust.members)}, and one of the two "
                           "differs")
    current = genesis.authorities_hash
    if current != _hash_of(finality.authorities):
        raise ForeignProof("the first list of authorities is not the one that block 0 commits to")
    epoch, height = -1, -1
    for number, boundary in enumerate(finality.boundaries):
        what = f"boundary {number}"
        header = _header(boundary.header, what)
        _follows(header, genesis, current, epoch, height, what)
        _certified(boundary.header, header, boundary.certificate, members, what)
        if _hash_of(boundary.authorities) != header.next_authorities_hash:
            raise NotFinal(f"{what} (epoch {header.epoch}, height {header.height}): its list of authorities is not the "
                           "one that the header commits to")
        members = read_authorities(boundary.authorities, f"the list of {what}")
        current, epoch, height = header.next_authorities_hash, header.epoch, header.height
    header = _header(finality.header, "the certified header")
    _follows(header, genesis, current, epoch, height, "the certified header")
    _certified(finality.header, header, finality.certificate, members, "the certified header")
    return header, members


def read_authorities(raw: bytes, what: str = "the list") -> Members:
    """(name, public key) of an encoded list of authorities. Raises MalformedProof."""
    try:
        fields = codec.decode(raw, max_bytes=MAX_AUTHORITIES_BYTES)
    except codec.CodecError as error:
        raise MalformedProof(f"{what} cannot be read: {error}") from error
    if type(fields) is not list or len(fields) != 1 or type(fields[0]) is not list:
        raise MalformedProof(f"{what} is [[[name, key], ...]]")
    entries = fields[0]
    if not 1 <= len(entries) <= MAX_AUTHORITIES or any(
            type(entry) is not list or len(entry) != 2 or type(entry[0]) is not str or type(entry[1]) is not bytes
            or len(entry[1]) != PUBLIC_KEY_BYTES for entry in entries):
        raise MalformedProof(f"{what} has 1 to {MAX_AUTHORITIES} entries [name, key of {PUBLIC_KEY_BYTES} bytes]")
    if len({entry[1] for entry in entries}) != len(entries):
        raise MalformedProof(f"{what} names a key twice")
    return tuple((entry[0], entry[1]) for entry in entries)


def _hash_of(authorities: bytes) -> bytes:
    return digest(Domain.AUTHORITIES, authorities)


def _header(raw: bytes, what: str) -> Header:
    try:
        return decode_header(raw)
    except GridTokenXError as error:
        raise MalformedProof(f"{what} cannot be read: {error}") from error


def _follows(header: Header, genesis: Header, authorities: bytes, epoch: int, height: int, what: str) -> None:
    place = f"{what} (epoch {header.epoch}, height {header.height})"
    if header.chain_id != genesis.chain_id:
        raise ForeignProof(f"{place} is of chain {header.chain_id.hex()}")
    if header.epoch <= epoch or header.height <= max(height, 0):
        raise NotFinal(f"{place} does not lie above what comes before it, epoch {epoch} and height {height}")
    if header.authorities_hash != authorities:
        raise NotFinal(f"{place} was made under another list of authorities than the one in force")


def _certified(raw: bytes, header: Header, certificate_raw: bytes, members: Members, what: str) -> None:
    try:
        certificate = decode_certificate(codec.decode(certificate_raw, max_bytes=1 << 16))
    except GridTokenXError as error:
        raise MalformedProof(f"the certificate of {what} cannot be read: {error}") from error
    keys = tuple(key for _, key in members)
    if certificate.kind is not Kind.FINALIZE or certificate.digest != digest(Domain.HEADER, raw):
        raise NotFinal(f"{what} (height {header.height}): the certificate is not one of this header's finality")
    if not certificate_verifies(certificate, Authorities(keys, 0), header.epoch, KeyVerifier(keys, header.chain_id)):
        raise NotFinal(f"{what} (height {header.height}): the certificate does not hold the signatures of a quorum of "
                       f"the {len(keys)} authorities")


def _ancestor(proof: Proof, certified: Header) -> Header:
    ancestor = proof.ancestor
    assert ancestor is not None
    header = _header(ancestor.header, "the ancestor's header")
    try:
        path = mountain_range.decode_proof(ancestor.path)
    except GridTokenXError as error:
        raise MalformedProof(f"the ancestor's path cannot be read: {error}") from error
    if header.chain_id != certified.chain_id:
        raise ForeignProof(f"the ancestor is of chain {header.chain_id.hex()}")
    if path.index != header.height or mountain_range.count(path.peaks) != certified.height or not mountain_range.verify(
            certified.headers_root, digest(Domain.HEADER, ancestor.header), path):
        raise NotFinal(f"the header of height {header.height} is not shown to be an ancestor of the certified one at "
                       f"{certified.height}")
    return header


def _check_claim(number: int, claim: Claim, header: Header, records: dict[bytes, bytes | None],
                 transactions: list[ProvenTransaction]) -> None:
    if isinstance(claim, StateClaim):
        try:
            path = trie.decode_proof(claim.path)
        except GridTokenXError as error:
            raise MalformedProof(f"the path of claim {number} cannot be read: {error}") from error
        if not trie.verify_proof(header.state_root, claim.key, claim.value, path):
            said = "is absent" if claim.value is None else f"has the {len(claim.value)} bytes given"
            raise FalseClaim(f"claim {number}: the state after block {header.height} does not show that key "
                             f"{claim.key.hex()} {said}")
        records[claim.key] = claim.value
        return
    name = digest(Domain.TRANSACTION, claim.transaction)
    if not merkle.verify(header.transactions_root, name, claim.index, claim.count, claim.path):
        raise FalseClaim(f"claim {number}: transaction {name.hex()} is not number {claim.index} of {claim.count} in "
                         f"block {header.height}")
    if not merkle.verify(header.receipts_root, claim.receipt, claim.index, claim.count, claim.receipt_path):
        raise FalseClaim(f"claim {number}: the receipt is not number {claim.index} of {claim.count} in block "
                         f"{header.height}")
    transactions.append(ProvenTransaction(claim.index, claim.transaction, name, claim.receipt))
