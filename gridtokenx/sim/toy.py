"""A ledger small enough to simulate: transactions are their own ids, the state root is a hash chain."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from gridtokenx.crypto.hashing import ZERO_HASH, Domain, digest
from gridtokenx.ledger.block import Header

CHAIN_ID = digest(Domain.GENESIS, b"simulation")
GENESIS_MS = 1_750_000_000_000
WEIGHT_PER_TRANSACTION = 100
BYTES_PER_TRANSACTION = 250


@frozen
class Schedule:
    """Which nodes are authorities in which epoch, by number, and how many blocks an epoch has."""

    lists: tuple[tuple[int, ...], ...] = ((),)
    length: int = 1 << 40

    def epoch_at(self, height: int) -> int:
        """Of a block at `height`, 1 or more."""
        return (height - 1) // self.length

    def members(self, epoch: int) -> tuple[int, ...]:
        return self.lists[min(epoch, len(self.lists) - 1)]

    def root_height(self, epoch: int) -> int:
        return epoch * self.length

    def boundary(self, epoch: int) -> int:
        return (epoch + 1) * self.length


NO_EPOCHS = Schedule()


def key_of(node: int) -> bytes:
    return bytes((node,)) * 32


def _list_hash(members: tuple[int, ...]) -> bytes:
    return digest(Domain.AUTHORITIES, bytes(members))


def transaction(number: int) -> bytes:
    return digest(Domain.TRANSACTION, number.to_bytes(8, "big"))


def genesis() -> Header:
    return Header(CHAIN_ID, 1, 0, 0, 0, ZERO_HASH, GENESIS_MS, b"", ZERO_HASH, ZERO_HASH, ZERO_HASH, ZERO_HASH,
                  ZERO_HASH, ZERO_HASH, ())


def header_of(parent: Header, parent_digest: bytes, view: int, timestamp_ms: int, proposer: bytes,
              transaction_ids: Sequence[bytes], schedule: Schedule = NO_EPOCHS) -> Header:
    """Executes: the header that a block with these transactions on this parent has."""
    height = parent.height + 1
    epoch = schedule.epoch_at(height)
    transactions_root = digest(Domain.MERKLE_LEAF, *transaction_ids)
    state_root = digest(Domain.TRIE_INNER, parent.state_root, transactions_root)
    return Header(CHAIN_ID, 1, epoch, view, height, parent_digest, timestamp_ms, proposer, transactions_root,
                  ZERO_HASH, state_root, ZERO_HASH, _list_hash(schedule.members(epoch)),
                  _list_hash(schedule.members(schedule.epoch_at(height + 1))), ())


def body_matches(header: Header, transaction_ids: Sequence[bytes]) -> bool:
    return header.transactions_root == digest(Domain.MERKLE_LEAF, *transaction_ids)


def executes(header: Header, parent: Header, transaction_ids: Sequence[bytes], included: set[bytes],
             schedule: Schedule = NO_EPOCHS) -> bool:
    """True iff the block is what its parent's state makes of its body, no transaction twice."""
    return (header == header_of(parent, header.parent, header.view, header.timestamp_ms, header.proposer,
                                transaction_ids, schedule)
            and len(set(transaction_ids)) == len(transaction_ids) and included.isdisjoint(transaction_ids))
