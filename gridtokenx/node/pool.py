"""Pending transactions: admitted, signature-checked, waiting for a block.

Bounded in number, in memory and per account. An account's transactions become ready in nonce order; accounts take
turns, so that one busy account cannot keep others out of a block.

When it is full, who pays more per operation takes the place of who pays least, newest first among equals, and always
from the end of an account's nonces, so that nothing is left waiting for what was put out. Transactions whose nonce
lies beyond a gap can be in no block yet and so cost their sender nothing: they are the first to go, are taken only
while the pool is less than half full, and stay two sweeps at most. A transaction takes the place of the one with its
nonce if it pays a tenth more.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from attrs import define, field

from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.node.pool_entries import (
    GAPPED,
    AccountQueue,
    Entry,
    Left,
    PoolRefused,
    PoolStatistics,
    memory_of,
    rank_of,
)

MAX_POOL_TRANSACTIONS = 16_384
MAX_POOL_BYTES = 64 << 20
MAX_PER_ACCOUNT = 1024
MAX_NONCE_AHEAD = 1024
ACCOUNT_SHARE = 16
"""No account takes more than this part of the pool's memory."""
TURN = 32
REPLACE_PERCENT = 110


@define
class Pool:
    """`nonce_of(sender)` is passed in per call: what is ready depends on the block to extend."""

    max_transactions: int = MAX_POOL_TRANSACTIONS
    max_bytes: int = MAX_POOL_BYTES
    max_per_account: int = MAX_PER_ACCOUNT
    _by_id: dict[bytes, Entry] = field(factory=dict)
    _accounts: dict[bytes, AccountQueue] = field(factory=dict)
    _cheapest: list[tuple[int, int, bytes]] = field(factory=list)   # a heap; places that are not true any more stay
    _size_bytes: int = 0
    _sequence: int = 0
    _sweeps: int = 0
    _refused: Counter[Code] = field(factory=Counter)
    _evicted: Counter[Code] = field(factory=Counter)
    version: int = 0
    """Grows with every change."""

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, transaction_id: bytes) -> Transaction | None:
        entry = self._by_id.get(transaction_id)
        return None if entry is None else entry.transaction

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(len(self._by_id), len(self._accounts), self._size_bytes, dict(self._refused),
                              dict(self._evicted))

    def fees_uthb(self, sender: bytes, besides: int) -> int:
        """Fees of what is pending of an account, but for the one with nonce `besides`."""
        account = self._accounts.get(sender)
        if account is None:
            return 0
        other = account.entries.get(besides)
        return account.fees_uthb - (other.transaction.fee_uthb if other is not None else 0)

    # ------------------------------------------------------------ in

    def check(self, transaction: Transaction, account_nonce: int, most: int = 1 << 62) -> None:
        """Raises PoolRefused if `add` would: cheap, so that a flood costs no signature checks."""
        try:
            self._placed(transaction, account_nonce, most)
        except PoolRefused as error:
            self._refused[error.code] += 1
            raise

    def full_for(self, sender: bytes, nonce: int, rank: int, most: int) -> str:
        """Why a transaction of this sender, nonce and rank finds the pool full, or nothing if it may not.

        For what is not decoded yet: says less than `check`, and never that the pool is full when `check` does not.
        """
        if len(self._by_id) < min(most, self.max_transactions):
            return ""
        cheapest = self._cheapest_entry()
        if cheapest is None or cheapest.rank < rank:
            return ""
        account = self._accounts.get(sender)
        if account is not None and nonce in account.entries:
            return ""                   # perhaps the same again, or one that is to replace it
        return self._full()

    def refused_full(self, number: int) -> None:
        """So many were told that the pool is full, for a reason that `full_for` gave."""
        self._refused[Code.POOL_FULL] += number

    def _full(self) -> str:
        return (f"the pool is full: {len(self._by_id)} transactions, none of which pays less per operation; try again "
                "later")

    def add(self, transaction: Transaction, account_nonce: int, most: int = 1 << 62) -> list[Left]:
        """Takes the transaction and returns those that gave way, or raises PoolRefused.

        `account_nonce` is the sender's next one at the head. The pool counts as full from `most` transactions on.
        """
        try:
            rank, gone = self._placed(transaction, account_nonce, most)
        except PoolRefused as error:
            self._refused[error.code] += 1
            raise
        left = []
        for entry in gone:
            replaced = entry.transaction.sender == transaction.sender
            left.append(Left(entry.transaction.id, Code.REPLACED, f"replaced by {transaction.id.hex()}") if replaced
                        else Left(entry.transaction.id, Code.POOL_FULL,
                                  "the pool filled up with transactions that pay more per operation"))
        self._forget(entry.transaction.id for entry in gone)
        self._count(left)
        self._sequence += 1
        entry = Entry(transaction, rank, self._sequence, self._sweeps)
        account = self._accounts.setdefault(transaction.sender, AccountQueue())
        account.entries[transaction.nonce] = entry
        account.size_bytes += memory_of(transaction)
        account.fees_uthb += transaction.fee_uthb
        account.gapped += rank == GAPPED
        self._by_id[transaction.id] = entry
        self._size_bytes += memory_of(transaction)
        self._push(entry)
        if account.gapped and rank != GAPPED:
            self._close_gaps(account, transaction.nonce + 1)
        self.version += 1
        return left

    def _placed(self, transaction: Transaction, account_nonce: int, most: int) -> tuple[int, list[Entry]]:
        """The rank that the transaction would have and what would give way to it. Raises PoolRefused."""
        if transaction.id in self._by_id:
            raise PoolRefused(Code.DUPLICATE_TRANSACTION, "this transaction is pending already")
        nonce = transaction.nonce
        if not account_nonce <= nonce <= account_nonce + MAX_NONCE_AHEAD:
            raise PoolRefused(
                Code.WRONG_NONCE,
                f"nonce {nonce}; the account's next is {account_nonce} and at most {MAX_NONCE_AHEAD} may wait ahead "
                "of it")
        account = self._accounts.get(transaction.sender)
        if account is None:
            account = AccountQueue()
        replaced = account.entries.get(nonce)
        before = account.entries.get(nonce - 1)
        rank = rank_of(transaction)
        if nonce > account_nonce and (before is None or before.rank == GAPPED):
            rank = GAPPED
        size = memory_of(transaction)
        if replaced is not None:
            self._check_replacement(transaction, replaced.transaction)
            size -= memory_of(replaced.transaction)
        elif len(account.entries) >= self.max_per_account:
            raise PoolRefused(Code.POOL_FULL, f"{len(account.entries)} transactions of this account are pending; wait "
                                              "for them")
        if account.size_bytes + size > self.max_bytes // ACCOUNT_SHARE:
            raise PoolRefused(Code.POOL_FULL, f"the transactions of this account that are pending take "
                                              f"{account.size_bytes} bytes of memory; wait for them")
        if rank == GAPPED and self._crowded():
            raise PoolRefused(Code.NONCE_GAP, f"nonce {nonce}, but the account's transactions before it are not "
                                              "here; they are waited for only while the pool is half empty")
        have = len(self._by_id)
        room = max(have, min(most, self.max_transactions))      # if it holds more than `most`, as many go as come
        number = have + 1 - room if replaced is None else 0
        gone = self._make_room(transaction, rank, size, number)
        return rank, gone if replaced is None else [replaced, *gone]

    def _check_replacement(self, transaction: Transaction, pending: Transaction) -> None:
        pays = min(100 * transaction.fee_uthb - REPLACE_PERCENT * pending.fee_uthb,
                   100 * rank_of(transaction) - REPLACE_PERCENT * rank_of(pending))
        if pays < 0 or transaction.fee_uthb <= pending.fee_uthb:
            least = max(pending.fee_uthb + 1, -(-REPLACE_PERCENT * pending.fee_uthb // 100))
            raise PoolRefused(Code.REPLACEMENT_FEE,
                              f"another transaction with nonce {pending.nonce} of this account is pending; to take "
                              f"its place, pay at least {least} uTHB, and as much more per operation")

    def _crowded(self) -> bool:
        return 2 * len(self._by_id) >= self.max_transactions or 2 * self._size_bytes >= self.max_bytes

    def _make_room(self, transaction: Transaction, rank: int, size: int, number: int) -> list[Entry]:
        """Those that must go, cheapest accounts' last ones first. Raises PoolRefused if none of them pays less."""
        size += self._size_bytes - self.max_bytes
        if number <= 0 and size <= 0:
            return []
        cheapest = self._cheapest_entry()
        if cheapest is None or cheapest.rank >= rank:
            raise PoolRefused(Code.POOL_FULL, self._full())
        own = self._accounts.get(transaction.sender)
        if own is not None:         # it can be in no block before those
            rank = min([rank, *(entry.rank for nonce, entry in own.entries.items() if nonce < transaction.nonce)])
        gone: list[Entry] = []
        tails: dict[bytes, list[int]] = {}
        seen: list[tuple[int, int, bytes]] = []
        try:
            while number > 0 or size > 0:
                entry = self._cheapest_entry()
                if entry is None or entry.rank >= rank or entry.transaction.sender == transaction.sender:
                    raise PoolRefused(Code.POOL_FULL, self._full())
                account = self._accounts[entry.transaction.sender]
                nonces = tails.setdefault(entry.transaction.sender, sorted(account.entries))
                # Of its account the last ones go, down to it.
                while nonces and nonces[-1] >= entry.transaction.nonce and (number > 0 or size > 0):
                    last = account.entries[nonces.pop()]
                    gone.append(last)
                    number -= 1
                    size -= memory_of(last.transaction)
                seen.append(heapq.heappop(self._cheapest))
        finally:
            for place in seen:
                heapq.heappush(self._cheapest, place)
        return gone

    def _cheapest_entry(self) -> Entry | None:
        while self._cheapest:
            entry = self._by_id.get(self._cheapest[0][2])
            if entry is not None and entry.place == self._cheapest[0]:
                return entry
            heapq.heappop(self._cheapest)
        return None

    def _push(self, entry: Entry) -> None:
        heapq.heappush(self._cheapest, entry.place)
        if len(self._cheapest) > 2 * len(self._by_id) + 64:
            self._cheapest = [kept.place for kept in self._by_id.values()]
            heapq.heapify(self._cheapest)

    def _close_gaps(self, account: AccountQueue, nonce: int) -> None:
        """Those from `nonce` on have all their predecessors now."""
        while (entry := account.entries.get(nonce)) is not None and entry.rank == GAPPED:
            entry.rank = rank_of(entry.transaction)
            account.gapped -= 1
            self._push(entry)
            nonce += 1

    # ------------------------------------------------------------ out

    def remove(self, ids: Iterable[bytes]) -> None:
        """They are in a final block: what follows on them is as ready as before."""
        self._forget(ids)

    def drop(self, left: Iterable[Left], nonce_of: Callable[[bytes], int]) -> list[Left]:
        """Gives up transactions that no block takes. What waits behind them has a gap before it, unless their nonces
        are used up (`nonce_of` tells an account's next). Returns those that were here."""
        done: list[Left] = []
        gaps: dict[bytes, int] = {}
        for one in {one.id: one for one in left}.values():
            entry = self._by_id.get(one.id)
            if entry is None:
                continue
            done.append(one)
            sender, nonce = entry.transaction.sender, entry.transaction.nonce
            if nonce >= nonce_of(sender):
                gaps[sender] = min(nonce, gaps.get(sender, nonce))
        self._forget(one.id for one in done)
        for sender, nonce in gaps.items():
            account = self._accounts.get(sender)
            if account is not None:
                for entry in account.entries.values():
                    if entry.transaction.nonce > nonce and entry.rank != GAPPED:
                        self._gap(account, entry)
        self._count(done)
        return done

    def _gap(self, account: AccountQueue, entry: Entry) -> None:
        entry.rank, entry.gapped_at = GAPPED, self._sweeps
        account.gapped += 1
        self._push(entry)

    def _count(self, left: Iterable[Left]) -> None:
        for one in left:
            self._evicted[one.code] += 1

    def _forget(self, ids: Iterable[bytes]) -> None:
        for transaction_id in ids:
            entry = self._by_id.pop(transaction_id, None)
            if entry is None:
                continue
            transaction = entry.transaction
            account = self._accounts[transaction.sender]
            del account.entries[transaction.nonce]
            account.size_bytes -= memory_of(transaction)
            account.fees_uthb -= transaction.fee_uthb
            account.gapped -= entry.rank == GAPPED
            self._size_bytes -= memory_of(transaction)
            self.version += 1
            if not account.entries:
                del self._accounts[transaction.sender]

    def forget_stale(self, senders: Iterable[bytes], nonce_of: Callable[[bytes], int], height: int) -> list[Left]:
        """Removes what can never be included any more: nonces used up by other transactions, and expiries.

        Looks at the accounts of `senders` only; `sweep` looks at all.
        """
        stale: list[Left] = []
        for sender in senders:
            account = self._accounts.get(sender)
            if account is None:
                continue
            nonce = nonce_of(sender)
            stale += [Left(e.transaction.id, Code.WRONG_NONCE, "another transaction took its nonce")
                      for e in account.entries.values() if e.transaction.nonce < nonce]
            stale += self._expired(account, height)
            if account.gapped:
                self._close_gaps(account, nonce)
        return self.drop(stale, nonce_of)

    @staticmethod
    def _expired(account: AccountQueue, height: int) -> list[Left]:
        return [Left(e.transaction.id, Code.EXPIRED,
                     f"valid until height {e.transaction.valid_until_height}; the chain is at {height}")
                for e in account.entries.values() if e.transaction.valid_until_height <= height]

    def sweep(self, nonce_of: Callable[[bytes], int], height: int) -> list[Left]:
        """Gives up what no block above `height` may hold, and what has waited behind a gap for two sweeps."""
        self._sweeps += 1
        left: list[Left] = []
        for account in self._accounts.values():
            left += self._expired(account, height)
            if account.gapped:
                left += [Left(e.transaction.id, Code.NONCE_GAP, f"nonce {e.transaction.nonce} waited too long for "
                                                                "the account's transactions before it")
                         for e in account.entries.values()
                         if e.rank == GAPPED and self._sweeps - e.gapped_at > 2]
        return self.drop(left, nonce_of)

    # ------------------------------------------------------------ for blocks

    def ready(self, nonce_of: Callable[[bytes], int], most: int, max_bytes: int) -> list[Transaction]:
        """Up to `most` transactions that follow on the nonces of the block to extend, accounts taking turns.

        Accounts that had their turn come last the next time.
        """
        chosen: list[Transaction] = []
        size = 0
        served: list[bytes] = []
        waiting: list[Iterator[Transaction]] = []
        senders = iter(list(self._accounts))

        def take(run: Iterator[Transaction]) -> bool:
            """False once the block is full."""
            nonlocal size
            for _ in range(TURN):
                transaction = next(run, None)
                if transaction is None:
                    return True
                size += len(transaction.raw)
                if size > max_bytes or len(chosen) >= most:
                    return False
                chosen.append(transaction)
            waiting.append(run)
            return True

        room = True
        for sender in senders:
            before = len(chosen)
            room = take(self._run(sender, nonce_of(sender)))
            if len(chosen) > before:
                served.append(sender)
            if not room:
                break
        while room and waiting:
            again, waiting = waiting, []
            for run in again:
                room = take(run)
                if not room:
                    break
        for sender in served:
            self._accounts[sender] = self._accounts.pop(sender)
        return chosen

    def _run(self, sender: bytes, nonce: int) -> Iterator[Transaction]:
        entries = self._accounts[sender].entries
        while (entry := entries.get(nonce)) is not None:
            yield entry.transaction
            nonce += 1

    def first_ready(self, nonce_of: Callable[[bytes], int]) -> Transaction | None:
        for sender, account in self._accounts.items():
            if account.gapped < len(account.entries):
                entry = account.entries.get(nonce_of(sender))
                if entry is not None:
                    return entry.transaction
        return None

    def of_account(self, sender: bytes) -> list[Transaction]:
        """What is pending of an account, in nonce order."""
        account = self._accounts.get(sender)
        return [] if account is None else [account.entries[nonce].transaction for nonce in sorted(account.entries)]
