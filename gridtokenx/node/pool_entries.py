"""What the pool of pending transactions keeps of each, what it says of those it gives up, and what each weighs."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen

from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.transaction import Transaction

GAPPED = -1
"""Below every rank that a fee can give."""


class PoolRefused(GridTokenXError):
    """A transaction that the pool does not take; `code` is what the client sees."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@frozen
class Left:
    """A transaction that the pool gave up, and why."""

    id: bytes
    code: Code
    reason: str


@frozen
class PoolStatistics:
    transactions: int
    accounts: int
    size_bytes: int
    refused: Mapping[Code, int]
    evicted: Mapping[Code, int]


@define(eq=False)
class Entry:
    transaction: Transaction
    rank: int                   # millionths of uTHB per operation, or GAPPED
    sequence: int
    gapped_at: int = 0          # the sweep before which it fell behind a gap

    @property
    def place(self) -> tuple[int, int, bytes]:
        """In the order of eviction."""
        return self.rank, -self.sequence, self.transaction.id


@define(eq=False)
class AccountQueue:
    entries: dict[int, Entry] = field(factory=dict)
    size_bytes: int = 0
    fees_uthb: int = 0
    gapped: int = 0


def memory_of(transaction: Transaction) -> int:
    """About what a decoded transaction takes."""
    return 1024 + 4 * len(transaction.raw)


def rank_of(transaction: Transaction) -> int:
    """What decides who stays when there is no room for all: the fee per operation."""
    return rank_for(transaction.fee_uthb, len(transaction.operations))


def rank_for(fee_uthb: int, operations: int) -> int:
    return fee_uthb * 1_000_000 // operations
