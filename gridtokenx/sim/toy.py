"""A ledger small enough to simulate: transactions are their own ids, the state root is a hash chain."""

from __future__ import annotations

from collections.abc import Sequence

from gridtokenx.crypto.hashing import ZERO_HASH, Domain, digest
from gridtokenx.ledger.block import Header

CHAIN_ID = digest(Domain.GENESIS, b"simulation")
GENESIS_MS = 1_750_000_000_000
WEIGHT_PER_TRANSACTION = 100
BYTES_PER_TRANSACTION = 250


def transaction(number: int) -> bytes:
    return digest(Domain.TRANSACTION, number.to_bytes(8, "big"))


def genesis() -> Header:
    return Header(CHAIN_ID, 1, 0, 0, 0, ZERO_HASH, GENESIS_MS, b"", ZERO_HASH, ZERO_HASH, ZERO_HASH, ZERO_HASH,
                  ZERO_HASH, ZERO_HASH, ())


def header_of(parent: Header, parent_digest: bytes, view: int, timestamp_ms: int, proposer: bytes,
              transaction_ids: Sequence[bytes]) -> Header:
    """Executes: the header that a block with these transactions on this parent has."""
    transactions_root = digest(Domain.MERKLE_LEAF, *transaction_ids)
    state_root = digest(Domain.TRIE_INNER, parent.state_root, transactions_root)
    return Header(CHAIN_ID, 1, 0, view, parent.height + 1, parent_digest, timestamp_ms, proposer, transactions_root,
                  ZERO_HASH, state_root, ZERO_HASH, ZERO_HASH, ZERO_HASH, ())


def body_matches(header: Header, transaction_ids: Sequence[bytes]) -> bool:
    return header.transactions_root == digest(Domain.MERKLE_LEAF, *transaction_ids)


def executes(header: Header, parent: Header, transaction_ids: Sequence[bytes], included: set[bytes]) -> bool:
    """True iff the block is what its parent's state makes of its body, no transaction twice."""
    return (header == header_of(parent, header.parent, header.view, header.timestamp_ms, header.proposer,
                                transaction_ids)
            and len(set(transaction_ids)) == len(transaction_ids) and included.isdisjoint(transaction_ids))
