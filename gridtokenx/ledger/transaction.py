"""Signed transactions: `[payload, [[public key, signature], ...]]`.

`payload` is a byte string holding the canonical array `[version, sender, nonce, valid_until_height, fee_uthb,
flags, operations]`; an operation is `[kind, field, ...]`. Signatures are over the payload with the chain's id
(`crypto.keys`), sorted by public key. The id is a hash of all bytes, signatures included (CONSENSUS 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from gridtokenx import codec
from gridtokenx._native import canonical
from gridtokenx._native.canonical import tuples
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, signed_bytes, verify, verify_all
from gridtokenx.errors import GridTokenXError

VERSION = 1
MAX_OPERATIONS = 64
MAX_SIGNATURES = 16
MAX_TRANSACTION_BYTES = 64 * 1024
FLAG_ALL_OR_NOTHING = 1
MAX_INT64 = (1 << 63) - 1


class TransactionError(GridTokenXError):
    """A transaction that is not well formed; no block may hold it."""


@frozen
class Transaction:
    """One decoded transaction; `raw` are its exact bytes, `id` their hash."""

    sender: bytes
    nonce: int
    valid_until_height: int
    fee_uthb: int
    flags: int
    operations: tuple[tuple[Any, ...], ...]
    payload: bytes
    signatures: tuple[tuple[bytes, bytes], ...]
    raw: bytes = field(repr=False)
    id: bytes

    @property
    def all_or_nothing(self) -> bool:
        return bool(self.flags & FLAG_ALL_OR_NOTHING)

    def signatures_verify(self, chain_id: bytes) -> bool:
        """True iff every signature is good; whether the keys may act for the sender is the ledger's to say."""
        return all(
            verify(public, signature, Domain.TRANSACTION_SIGNATURE, chain_id, self.payload)
            for public, signature in self.signatures
        )


def signatures_verify(chain_id: bytes, transactions: Sequence[Transaction]) -> list[bool]:
    """Per transaction whether all of its signatures are good; the whole batch is verified in one native call."""
    entries = [(public, signature, signed_bytes(Domain.TRANSACTION_SIGNATURE, chain_id, transaction.payload))
               for transaction in transactions for public, signature in transaction.signatures]
    good = verify_all(entries)
    answers, start = [], 0
    for transaction in transactions:
        end = start + len(transaction.signatures)
        answers.append(all(good[start:end]))
        start = end
    return answers


def transaction_head(raw: bytes) -> tuple[bytes, int, int, int] | None:
    """Sender, nonce, fee and number of operations as the first bytes claim, or None if they are no transaction's.

    Costs a fiftieth of decoding. Of what decodes it is the truth; what does not may claim anything.
    """
    return canonical.transaction_head(raw)


def _amount(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INT64:
        raise TransactionError(f"{name} must be an integer from 0 to 2^63-1, not {value!r}")
    return value


def decode_transaction(raw: bytes) -> Transaction:
    """Reads a transaction. Raises TransactionError (or CodecError) naming what is wrong; verifies no signature."""
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise TransactionError(f"{len(raw)} bytes; a transaction has at most {MAX_TRANSACTION_BYTES}")
    outer = codec.decode(raw, max_bytes=MAX_TRANSACTION_BYTES)
    if type(outer) is not list or len(outer) != 2 or type(outer[0]) is not bytes or type(outer[1]) is not list:
        raise TransactionError("a transaction is [payload bytes, [[public key, signature], ...]]")
    payload, entries = outer
    if not 1 <= len(entries) <= MAX_SIGNATURES:
        raise TransactionError(f"{len(entries)} signatures; 1 to {MAX_SIGNATURES} are allowed")
    signatures: list[tuple[bytes, bytes]] = []
    for entry in entries:
        if (type(entry) is not list or len(entry) != 2 or type(entry[0]) is not bytes
                or type(entry[1]) is not bytes or len(entry[0]) != PUBLIC_KEY_BYTES
                or len(entry[1]) != SIGNATURE_BYTES):
            raise TransactionError("a signature entry is [32-byte public key, 64-byte signature]")
        if signatures and signatures[-1][0] >= entry[0]:
            raise TransactionError("signature entries must be sorted by public key, without repeats")
        signatures.append((entry[0], entry[1]))
    body = codec.decode(payload, max_bytes=MAX_TRANSACTION_BYTES)
    if type(body) is not list or len(body) != 7:
        raise TransactionError("a payload is [version, sender, nonce, valid_until_height, fee, flags, "
                               "operations]")
    version, sender, nonce, until, fee, flags, operations = body
    if version != VERSION or type(version) is not int:
        raise TransactionError(f"transaction version {version!r}; this chain reads version {VERSION}")
    if type(sender) is not bytes or len(sender) != PUBLIC_KEY_BYTES:
        raise TransactionError("the sender is a 32-byte address")
    if type(flags) is not int or flags not in (0, FLAG_ALL_OR_NOTHING):
        raise TransactionError(f"flags {flags!r}; allowed are 0 and 1 (all or nothing)")
    if type(operations) is not list or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise TransactionError(f"a transaction carries 1 to {MAX_OPERATIONS} operations")
    frozen_operations = []
    for operation in operations:
        if type(operation) is not list or not operation or type(operation[0]) is not int:
            raise TransactionError("an operation is [kind, field, ...] with an integer kind")
        frozen_operations.append(tuples(operation))
    return Transaction(
        sender, _amount("nonce", nonce), _amount("valid_until_height", until), _amount("fee_uthb", fee),
        flags, tuple(frozen_operations), payload, tuple(signatures), raw, digest(Domain.TRANSACTION, raw),
    )


def encode_payload(sender: bytes, nonce: int, valid_until_height: int, fee_uthb: int, operations: list[Any],
                   flags: int = 0) -> bytes:
    """The bytes that the sender's keys sign."""
    return codec.encode([VERSION, sender, nonce, valid_until_height, fee_uthb, flags, operations])


def make_transaction(sender: bytes, nonce: int, valid_until_height: int, fee_uthb: int,
                     operations: tuple[tuple[Any, ...], ...], flags: int,
                     signatures: tuple[tuple[bytes, bytes], ...]) -> Transaction:
    """What `decode_transaction` reads from the bytes of these fields; signatures by key. Raises TransactionError.

    For whoever makes transactions and executes them in one process.
    """
    if not 1 <= len(operations) <= MAX_OPERATIONS:
        raise TransactionError(f"a transaction carries 1 to {MAX_OPERATIONS} operations, not {len(operations)}")
    for name, value in (("nonce", nonce), ("valid_until_height", valid_until_height), ("fee_uthb", fee_uthb)):
        _amount(name, value)
    payload = codec.encode((VERSION, sender, nonce, valid_until_height, fee_uthb, flags, operations))
    raw = codec.encode((payload, signatures))
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise TransactionError(f"{len(raw)} bytes; a transaction has at most {MAX_TRANSACTION_BYTES}")
    return Transaction(sender, nonce, valid_until_height, fee_uthb, flags, operations, payload, signatures, raw,
                       digest(Domain.TRANSACTION, raw))


def sign_transaction(chain_id: bytes, keys: list[PrivateKey], payload: bytes) -> bytes:
    """The wire bytes of `payload` signed by each of `keys`."""
    entries = [[key.public, key.sign(Domain.TRANSACTION_SIGNATURE, chain_id, payload)]
               for key in sorted(keys, key=lambda key: key.public)]
    return codec.encode([payload, entries])
