"""A block while it executes: clock, timed work, transactions one by one, then roots and header (CONSENSUS 2).

`ledger.execute` and `ledger.build` drive it; there is one set of rules for both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, frozen

from gridtokenx._native.state import Changes
from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import funds, spaces, trie, weights
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.context import Context, open_context
from gridtokenx.ledger.epochs import BOUNDARY_KEYS, cross_boundary
from gridtokenx.ledger.operations import (
    ALLOWED_IN_DEBT,
    CHANGE_RATES,
    Block,
    CancelOrder,
    Operation,
    PlaceOrder,
    kind_of,
    parse_operation,
)
from gridtokenx.ledger.order import ExecutionOrder
from gridtokenx.ledger.parameters import Parameters, read_parameters
from gridtokenx.ledger.receipts import Code, Failed, InvalidBlock, Outcome, Receipt
from gridtokenx.ledger.records import Account, AccountKeys, Authorities, Clock, Epoch, Peaks
from gridtokenx.ledger.session import Session, encode_changes, nothing_due
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader, StateView
from gridtokenx.ledger.timed import TimedWork
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market.book import Books
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.deferred import Deferred
from gridtokenx.market.desk import Desk
from gridtokenx.market.halts import check_breaker
from gridtokenx.market.posting import Fill
from gridtokenx.market.work import read_timed_key

Mark = tuple[int, int, int, int, int, int]
_LAST_NUMBER = b"\xff" * 6         # above any that an order has in its window
_NOT_APPLIED = Outcome(Code.NOT_APPLIED)
_MEMO = trie.Memo()
"""Pages of the tries that blocks were executed on lately: a page's hash says all that is in it."""


@frozen
class BlockInputs:
    """What a block is given beside its transactions. `timestamp_ms` is Unix ms.

    Not `rooted`, it keeps the state root of its parent and has no pages: for a chain that nobody else has, of which a
    later root counts.
    """

    view: int
    epoch: int
    height: int
    timestamp_ms: int
    proposer: bytes
    parent_hash: bytes
    rooted: bool = True


@frozen
class BlockResult:
    """An executed block. `trades` are its fills in the order they were made; `weight` includes timed work."""

    header: Header
    state: StateView
    receipts: tuple[Receipt, ...]
    receipts_raw: tuple[bytes, ...]
    trades: tuple[Fill, ...]
    weight: int
    unfinished: bool
    touched_windows: frozenset[int]
    flags: tuple[tuple[int, int, int], ...] = ()
    """(window, zone, residual Wh) of each zone whose electricity this block found not to add up."""
    overdrawn: tuple[bytes, ...] = ()
    """Utilities that this block brought beyond their credit lines."""


@define
class _Applied:
    transaction: Transaction
    fee: int
    outcomes: list[Outcome | Deferred]


def authorities_hash(authorities: Authorities) -> bytes:
    """What a header commits to: the epoch's list, names and keys in order."""
    return digest(Domain.AUTHORITIES, authorities.encode())


def check_transaction(session: Session, parameters: Parameters, transaction: Transaction, height: int,
                      *, nonce_ahead: int = 0) -> Account:
    """The rules for a transaction's place in a block of `height`; returns the sender's account.

    Raises Failed with the code of the first rule broken. Signatures are not verified here, only whose they are.
    """
    if height > transaction.valid_until_height:
        raise Failed(Code.EXPIRED, f"valid until height {transaction.valid_until_height}; the next is {height}")
    least = parameters.min_fee_uthb * len(transaction.operations)
    if transaction.fee_uthb < least:
        raise Failed(Code.FEE_TOO_LOW, f"fee {transaction.fee_uthb} uTHB; at least {least} is needed for "
                                       f"{len(transaction.operations)} operations")
    account = funds.get_account(session, transaction.sender)
    if not account.nonce <= transaction.nonce <= account.nonce + nonce_ahead:
        raise Failed(Code.WRONG_NONCE, f"nonce {transaction.nonce}; the account's next is {account.nonce}")
    signers = transaction.signatures
    if not account.threshold:
        if len(signers) != 1 or signers[0][0] != transaction.sender:
            raise Failed(Code.WRONG_SIGNERS, "exactly the sender's own key signs for this account")
    else:
        keys: AccountKeys = session.get(spaces.account_keys(transaction.sender))
        if len(signers) < account.threshold or any(key not in keys.keys for key, _ in signers):
            raise Failed(Code.WRONG_SIGNERS, f"at least {account.threshold} of the account's {len(keys.keys)} keys "
                                             "sign for it, and no others")
    if account.balance < transaction.fee_uthb:
        session.release_due(transaction.sender)
        account = funds.get_account(session, transaction.sender)
        if account.balance < transaction.fee_uthb and (
                transaction.fee_uthb > least or not funds.has_credit(session, transaction.sender, least)):
            raise Failed(Code.UNFUNDED_FEE, f"fee {transaction.fee_uthb} uTHB; the account can spend "
                                            f"{account.balance}")
    return account


def charge(session: Session, transaction: Transaction, account: Account) -> None:
    """Uses up the nonce and takes the fee, whatever becomes of the operations."""
    a = account
    funds.put_account(session, transaction.sender, Account(
        transaction.nonce + 1, a.balance - transaction.fee_uthb, a.bids, a.proceeds, a.collateral, a.credit, a.locked,
        a.released, a.freed, a.height, a.participant, a.threshold, a.dues))


class BlockRun:
    """One block's execution on the state of its parent."""

    def __init__(self, parent: StateView, inputs: BlockInputs, books: Books) -> None:
        self.parent = parent
        self.inputs = inputs
        self.books = books
        header = parent.header
        if header.hash != inputs.parent_hash:
            raise InvalidBlock(f"parent {inputs.parent_hash.hex()} is not the block of the state given")
        if inputs.height != header.height + 1:
            raise InvalidBlock(f"height {inputs.height} on a parent of height {header.height}")
        self.parameters = read_parameters(parent)
        earliest = header.timestamp_ms + (self.parameters.min_block_interval_ms if header.height else 0)
        if inputs.timestamp_ms < earliest:
            raise InvalidBlock(f"timestamp {inputs.timestamp_ms}; not before {earliest}")
        self.session = Session(parent, inputs.height)
        self.context: Context = open_context(self.session, self.parameters, inputs.timestamp_ms)
        books.at(inputs.parent_hash)
        self.desk = Desk(self.context, books)
        self.session.release_due = self.desk.release_due
        self.order = ExecutionOrder(self.session)
        self._weight = weights.BLOCK
        self._epoch: Epoch = self.session.get(spaces.EPOCH)
        if inputs.epoch != self._epoch.number:
            raise InvalidBlock(f"epoch {inputs.epoch}; a block of height {inputs.height} is in epoch "
                               f"{self._epoch.number}")
        self._reserved = BOUNDARY_KEYS * weights.KEY if inputs.height >= self._epoch.boundary else 0
        self._fees = 0
        self._applied: list[_Applied] = []
        self._block = Block(self.context, self.desk)

    # ------------------------------------------------------------ before the transactions

    def begin(self) -> None:
        """Sets the clock, remembers the parent's header, does timed work."""
        session = self.session
        session.put(spaces.CLOCK, Clock(self.inputs.height, self.inputs.timestamp_ms))
        peaks: Peaks = session.get(spaces.PEAKS)
        session.put(spaces.PEAKS, Peaks(mountain_range.append(peaks.peaks, self.inputs.parent_hash)))
        self._timed = TimedWork(self.context, self.desk)
        self._timed.run()
        self.desk.begin()
        self._keys_before = session.keys_touched

    # ------------------------------------------------------------ transactions

    def mark(self) -> Mark:
        """A point between transactions that `rollback` returns to, as long as no flush lies between."""
        return (self.session.mark(), self.desk.mark(), len(self._applied), self._weight, self._fees, self.desk.weight)

    def rollback(self, mark: Mark) -> None:
        """Undoes every transaction since `mark`, one that failed half-way included."""
        session_mark, desk_mark, applied, self._weight, self._fees, self.desk.weight = mark
        self.session.rollback(session_mark)
        self.desk.rollback(desk_mark)
        del self._applied[applied:]

    def apply(self, transaction: Transaction) -> None:
        """Executes one transaction. Raises Failed when it may not stand here: the block is invalid, or rolled back."""
        account = check_transaction(self.session, self.parameters, transaction, self.inputs.height)
        charge(self.session, transaction, account)
        self._fees += transaction.fee_uthb
        self._weight += weights.TRANSACTION + weights.SIGNATURE * len(transaction.signatures)
        outcomes = self._all_or_nothing(transaction) if transaction.all_or_nothing else self._one_by_one(transaction)
        self._applied.append(_Applied(transaction, transaction.fee_uthb, outcomes))

    def _one_by_one(self, transaction: Transaction) -> list[Outcome | Deferred]:
        operations, outcomes = transaction.operations, list[Outcome | Deferred]()
        while len(outcomes) < len(operations):
            if operations[len(outcomes)][0] == PlaceOrder.KIND:
                placed = self.desk.place_plain(transaction.sender, operations, len(outcomes))
                self._weight += len(placed) * PlaceOrder.WEIGHT
                outcomes += placed
            if len(outcomes) < len(operations):
                outcomes.append(self._operation(transaction.sender, operations[len(outcomes)]))
        return outcomes

    def _operation(self, sender: bytes, fields: tuple[Any, ...]) -> Outcome | Deferred:
        session, desk = self.session, self.desk
        mark, queued = session.mark(), desk.mark()
        try:
            operation: Operation = parse_operation(fields)
            self._weight += operation.WEIGHT
            if operation.KIND not in ALLOWED_IN_DEBT:
                funds.check_dues(session, sender)
            done = operation.apply(self._block, sender)
        except Failed as failure:
            session.rollback(mark)
            desk.rollback(queued)
            return Outcome(failure.code)
        if operation.KIND in CHANGE_RATES:
            desk.forget_rules()
        return done if isinstance(done, Deferred) else Outcome(Code.OK, done)

    def _all_or_nothing(self, transaction: Transaction) -> list[Outcome | Deferred]:
        mark, queued = self.session.mark(), self.desk.mark()
        outcomes: list[Outcome | Deferred] = []
        windows = group_windows(transaction.operations)
        if windows:
            self.desk.begin_group(windows)
        for fields in transaction.operations:
            outcome: Outcome | Deferred
            if not windows and _is_order(fields):
                outcome = Outcome(Code.ORDER_IN_ALL_OR_NOTHING)
            else:
                outcome = self._operation(transaction.sender, fields)
            if isinstance(outcome, Outcome) and not outcome.ok:
                self.desk.end_group()
                self.session.rollback(mark)
                self.desk.rollback(queued)
                before = len(outcomes)
                return [*[_NOT_APPLIED] * before, outcome,
                        *[_NOT_APPLIED] * (len(transaction.operations) - before - 1)]
            outcomes.append(outcome)
        self.desk.end_group()
        return outcomes

    def nonce(self, address: bytes) -> int:
        """The account's next nonce as the block stands."""
        return funds.get_account(self.session, address).nonce

    # ------------------------------------------------------------ weight

    @property
    def weight(self) -> int:
        """An upper bound of what is metered against `max_block_weight` so far, queued orders not yet run excluded."""
        keys = self.session.keys_touched - self._keys_before
        return self._weight + self.desk.weight + keys * weights.KEY + self._reserved

    @property
    def weight_worst(self) -> int:
        """The most that it can come to when the queued orders are run."""
        return self.weight + self.desk.pending_worst + weights.KEY      # the fees' account

    # ------------------------------------------------------------ after the transactions

    def finish(self) -> BlockResult:
        """Runs queued orders, credits fees, checks conservation, computes roots. Raises InvariantError."""
        session, inputs = self.session, self.inputs
        self.desk.flush()
        check_breaker(self.desk, {fill.window for fill in self.desk.fills})
        self.desk.flush()
        if self._fees:
            funds.credit(session, self.context.roles.market_operator, self._fees)
        listed: Authorities = session.get(spaces.AUTHORITIES)
        if inputs.height >= self._epoch.boundary:
            cross_boundary(session, inputs.parent_hash, self.parameters.epoch_length)
        following: Authorities = session.get(spaces.AUTHORITIES)
        changes = session.changed()
        # What was tried and undone leaves no weight, so builder and voter meter alike.
        weight = self._weight + self.desk.weight + max(0, len(changes) - self._keys_before) * weights.KEY
        if weight > self.parameters.max_block_weight:
            raise InvalidBlock(f"weight {weight}; at most {self.parameters.max_block_weight} is allowed")
        check_changes(session, changes)
        encode_changes(changes)
        header = self.parent.header
        state_root = header.state_root
        pages: dict[bytes, bytes | None] = {}
        if inputs.rooted:
            state_root, pages = trie.update(self.parent.page, header.state_root, changes.encoded().items(), _MEMO)
        receipts = tuple(self._receipt(applied) for applied in self._applied)
        receipts_raw = tuple(receipt.encode() for receipt in receipts)
        peaks: Peaks = session.get(spaces.PEAKS)
        result_header = Header(
            chain_id=header.chain_id, rules_version=self.context.identity.rules_version, epoch=inputs.epoch,
            view=inputs.view, height=inputs.height, parent=inputs.parent_hash, timestamp_ms=inputs.timestamp_ms,
            proposer=inputs.proposer,
            transactions_root=merkle_root([applied.transaction.id for applied in self._applied]),
            receipts_root=merkle_root(receipts_raw), state_root=state_root,
            headers_root=mountain_range.root(peaks.peaks), authorities_hash=authorities_hash(listed),
            next_authorities_hash=authorities_hash(following),
            market=self._market_summary(),
        )
        view = StateView(self.parent, result_header, changes, pages)
        # What transactions left of uncrossing is due as well: the next block need not wait for its heartbeat.
        unfinished = self._timed.unfinished or any(
            now is not None and read_timed_key(key)[0] <= self.context.now_ms
            for key, _, now in changes.of_space(Space.TIMED))
        touched = self._sync_books(changes)
        self.books.commit(result_header.hash, inputs.parent_hash, touched)
        session.release_due = nothing_due   # else session and desk hold each other, and all that the block read
        return BlockResult(result_header, view, receipts, receipts_raw, tuple(self.desk.fills),
                           weight + self._timed.spent, unfinished, touched, _flags(changes),
                           _overdrawn(session, self.parent))

    def _receipt(self, applied: _Applied) -> Receipt:
        outcomes = []
        for outcome in applied.outcomes:
            if isinstance(outcome, Deferred):
                if outcome.outcome is None:
                    raise InvariantError(f"order {outcome.order_id} has no result")
                outcomes.append(outcome.outcome)
            else:
                outcomes.append(outcome)
        return Receipt(applied.transaction.id, applied.fee, tuple(outcomes))

    def _market_summary(self) -> tuple[tuple[int, int], ...]:
        """Delivered Wh and value (uTHB, to sellers) of this block's trades, by the buyers' zone."""
        zones = [[0, 0] for _ in range(zone_count(self.parent))]
        for fill in self.desk.fills:
            zones[fill.trade.buy_zone][0] += fill.trade.delivered_wh
            zones[fill.trade.buy_zone][1] += fill.trade.value_uthb
        return tuple((wh, value) for wh, value in zones)

    def _sync_books(self, changes: Changes) -> frozenset[int]:
        """Takes orders out of the engine that left state without it; returns the windows whose orders changed."""
        touched: set[int] = set()
        gone: dict[int, list[int]] = {}
        closed: set[int] = set()            # windows of which an order is gone, and whose gate has passed
        touched.update(window for window, _ in _by_window(changes.keys(Space.ORDER)))
        for window, orders in _by_window(changes.gone(Space.ORDER)):
            left = (order_id for order_id in orders if not self.desk.in_engine(order_id))
            if gate_ms(window) <= self.context.now_ms:
                if next(left, None) is not None:
                    closed.add(window)
            elif some := list(left):
                gone[window] = some
        for space in (Space.CORRIDOR_WINDOW, Space.TRADING, Space.WORK_LEFT):
            touched.update(int.from_bytes(key[1:5], "big") for key in changes.keys(space))
        for window in sorted(gone):
            self.books.remove(window, gone[window])
        for window in self._timed.gated | closed:
            self.books.forget(window)
        return frozenset(touched)


def _by_window(orders: list[bytes]) -> Iterator[tuple[int, Iterator[int]]]:
    """(window, the orders' ids) of the keys of orders, ascending."""
    at = 0
    while at < len(orders):
        prefix = orders[at][:4]
        end = bisect_left(orders, prefix + _LAST_NUMBER, at)
        yield int.from_bytes(prefix[1:], "big"), (int.from_bytes(key[1:], "big") for key in orders[at:end])
        at = end


def _flags(changes: Changes) -> tuple[tuple[int, int, int], ...]:
    return tuple((int.from_bytes(key[1:5], "big"), key[5], now.residual)
                 for key, _, now in changes.of_space(Space.FLAG) if now is not None and not now.cleared)


def group_windows(operations: Sequence[tuple[Any, ...]]) -> list[int]:
    """The windows of cancels followed by post-only orders, which may be all or nothing; empty for anything else."""
    windows: set[int] = set()
    placing = False
    for fields in operations:
        try:
            operation = parse_operation(fields)
        except Failed:
            return []
        if isinstance(operation, PlaceOrder) and operation.post_only:
            placing = True
            windows.add(operation.window)
        elif isinstance(operation, CancelOrder) and not placing and operation.order_id < 1 << 64:
            windows.add(spaces.window_of(operation.order_id))
        else:
            return []
    return sorted(windows)


def _overdrawn(session: Session, parent: StateReader) -> tuple[bytes, ...]:
    lines: dict[bytes, int] = {}
    for _, zone in session.scan(bytes((Space.ZONE,))):
        lines[zone.utility] = lines.get(zone.utility, 0) + zone.credit_uthb
    found = []
    for address in sorted(lines):       # no other account may owe
        account: Account | None = session.get(spaces.account(address))
        if account is not None and account.balance < -lines[address]:
            raw = parent.get(spaces.account(address))
            if raw is None or Account.decode(raw).balance >= -lines[address]:
                found.append(address)
    return tuple(found)


def _is_order(fields: tuple[Any, ...]) -> bool:
    try:
        return kind_of(fields[0]).IS_ORDER
    except Failed:
        return False


def zone_count(state: StateReader) -> int:
    """How many zones the chain has; their ids are 0 to count - 1."""
    return sum(1 for _ in state.scan(bytes((Space.ZONE,))))

