"""Pending transactions: admitted, signature-checked, waiting for a block.

Bounded in bytes and per account. Transactions of an account become ready in nonce order; accounts take turns,
so one busy account cannot keep others out of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import define, field, frozen

from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.transaction import Transaction

MAX_POOL_TRANSACTIONS = 65_536
MAX_POOL_BYTES = 64 << 20
MAX_PER_ACCOUNT = 1024
MAX_NONCE_AHEAD = 1024
TURN = 32


class PoolRefused(GridTokenXError):
    """A transaction that the pool does not take; `code` is what the client sees."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@frozen
class PoolStatistics:
    transactions: int
    accounts: int
    size_bytes: int
    refused: int


@define
class Pool:
    """`nonce_of(sender)` is passed in per call: what is ready depends on the block to extend."""

    max_transactions: int = MAX_POOL_TRANSACTIONS
    max_bytes: int = MAX_POOL_BYTES
    max_per_account: int = MAX_PER_ACCOUNT
    _by_id: dict[bytes, Transaction] = field(factory=dict)
    _accounts: dict[bytes, dict[int, Transaction]] = field(factory=dict)
    _size_bytes: int = 0
    _refused: int = 0
    version: int = 0
    """Grows with every change."""

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, transaction_id: bytes) -> Transaction | None:
        return self._by_id.get(transaction_id)

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(len(self._by_id), len(self._accounts), self._size_bytes, self._refused)

    def add(self, transaction: Transaction, account_nonce: int) -> None:
        """Takes the transaction or raises PoolRefused; `account_nonce` is the sender's next one at the head."""
        try:
            self._admit(transaction, account_nonce)
        except PoolRefused:
            self._refused += 1
            raise
        self._by_id[transaction.id] = transaction
        self._accounts.setdefault(transaction.sender, {})[transaction.nonce] = transaction
        self._size_bytes += len(transaction.raw)
        self.version += 1

    def _admit(self, transaction: Transaction, account_nonce: int) -> None:
        if transaction.id in self._by_id:
            raise PoolRefused(Code.DUPLICATE_TRANSACTION, "this transaction is pending already")
        if not account_nonce <= transaction.nonce <= account_nonce + MAX_NONCE_AHEAD:
            raise PoolRefused(
                Code.WRONG_NONCE,
                f"nonce {transaction.nonce}; the account's next is {account_nonce} and at most "
                f"{MAX_NONCE_AHEAD} may wait ahead of it")
        queue = self._accounts.get(transaction.sender, {})
        if transaction.nonce in queue:
            raise PoolRefused(Code.WRONG_NONCE,
                              f"another transaction with nonce {transaction.nonce} of this account is pending")
        if len(queue) >= self.max_per_account:
            raise PoolRefused(Code.POOL_FULL, f"{len(queue)} transactions of this account are pending; wait for them")
        if len(self._by_id) >= self.max_transactions or self._size_bytes + len(transaction.raw) > self.max_bytes:
            raise PoolRefused(Code.POOL_FULL, f"the pool is full: {len(self._by_id)} transactions of "
                                              f"{self._size_bytes} bytes; try again later")

    def remove(self, ids: Iterable[bytes]) -> None:
        for transaction_id in ids:
            transaction = self._by_id.pop(transaction_id, None)
            if transaction is None:
                continue
            self._size_bytes -= len(transaction.raw)
            self.version += 1
            queue = self._accounts[transaction.sender]
            del queue[transaction.nonce]
            if not queue:
                del self._accounts[transaction.sender]

    def forget_stale(self, senders: Iterable[bytes], nonce_of: Callable[[bytes], int], height: int) -> list[bytes]:
        """Removes what can never be included any more: nonces used up by other transactions, and expiries.

        Looks at the accounts of `senders` only; `expired` looks at all. Returns the ids removed.
        """
        stale = []
        for sender in senders:
            queue = self._accounts.get(sender)
            if queue:
                nonce = nonce_of(sender)
                stale += [t.id for t in queue.values() if t.nonce < nonce or t.valid_until_height <= height]
        self.remove(stale)
        return stale

    def expired(self, height: int) -> list[bytes]:
        """Removes and returns the ids of transactions that no block above `height` may hold."""
        stale = [t.id for t in self._by_id.values() if t.valid_until_height <= height]
        self.remove(stale)
        return stale

    def senders(self) -> list[bytes]:
        return list(self._accounts)

    def ready(self, nonce_of: Callable[[bytes], int], most: int, max_bytes: int) -> list[Transaction]:
        """Up to `most` transactions that follow on the nonces of the block to extend, accounts taking turns."""
        chosen: list[Transaction] = []
        size = 0
        waiting: list[Iterator[Transaction]] = [self._run(sender, nonce_of(sender)) for sender in self._accounts]
        while waiting:
            again = []
            for run in waiting:
                for _ in range(TURN):
                    transaction = next(run, None)
                    if transaction is None:
                        break
                    size += len(transaction.raw)
                    if size > max_bytes or len(chosen) >= most:
                        return chosen
                    chosen.append(transaction)
                else:
                    again.append(run)
            waiting = again
        return chosen

    def _run(self, sender: bytes, nonce: int) -> Iterator[Transaction]:
        queue = self._accounts[sender]
        while (transaction := queue.get(nonce)) is not None:
            yield transaction
            nonce += 1

    def first_ready(self, nonce_of: Callable[[bytes], int]) -> Transaction | None:
        for sender, queue in self._accounts.items():
            transaction = queue.get(nonce_of(sender))
            if transaction is not None:
                return transaction
        return None
