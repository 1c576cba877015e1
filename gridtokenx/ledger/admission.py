"""What is refused at submission: the rules of a block, and a dry run of the operations, on the newest state."""

from __future__ import annotations

from gridtokenx.ledger import funds
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.operations import ALLOWED_IN_DEBT, Block, kind_of, parse_operation
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.receipts import Code, Failed, Refused
from gridtokenx.ledger.records import Clock, Identity
from gridtokenx.ledger.run import charge, check_transaction, group_windows
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import CLOCK, IDENTITY
from gridtokenx.ledger.state import StateReader
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market.desk import Desk

MAX_NONCE_AHEAD = 1024

ALWAYS = frozenset({
    Code.UNKNOWN_OPERATION, Code.BAD_FIELDS, Code.OUT_OF_RANGE, Code.ORDER_IN_ALL_OR_NOTHING, Code.WINDOW_CLOSED,
    Code.OUT_OF_TICK, Code.OUT_OF_LOT, Code.PRICE_LIMIT, Code.QUANTITY_LIMIT, Code.UNKNOWN_ZONE, Code.UNKNOWN_NETWORK,
    Code.UNKNOWN_TARIFF, Code.BAD_ROLE, Code.BAD_KEY, Code.METER_NOT_THEN, Code.READING_TOO_LATE, Code.ABOVE_CAPACITY,
    Code.BAD_QUALITY, Code.BAD_READING_SIGNATURE, Code.VERSION_TOO_LATE, Code.BAD_BLOCKS,
})
"""Codes that nothing still pending can cure: refused also for a transaction that waits for others of its account."""


class Admission:
    """Judges submissions on one state, each by itself: nothing that one transaction does is seen by the next.

    Operations are tried in order on a scratch copy of what they touch, at the market time of `state`; the book is
    not consulted, so an order that passes here can still find itself filled, cancelled or late.
    """

    def __init__(self, state: StateReader, height: int) -> None:
        self._session = Session(state, height)
        self._height = height
        self._parameters = read_parameters(state)
        clock: Clock = self._session.get(CLOCK)
        self._context = open_context(self._session, self._parameters, clock.timestamp_ms)
        self._desk = Desk(self._context, None)
        self._desk.begin()
        self._session.release_due = self._desk.release_due

    def admit(self, transaction: Transaction) -> None:
        """Raises Refused, with the code that a receipt would have, for what a block of `height` would refuse.

        A transaction whose nonce lies ahead (its account has others pending) is refused only for what those cannot
        change. Signatures are not verified here.
        """
        if len(transaction.raw) > self._parameters.max_block_bytes:
            raise Refused(Code.OVERSIZED, f"{len(transaction.raw)} bytes; a block holds "
                                          f"{self._parameters.max_block_bytes}")
        before, queued_before = self._session.mark(), self._desk.mark()
        try:
            self._try(transaction)
        finally:
            self._desk.end_group()
            self._session.rollback(before)
            self._desk.rollback(queued_before)

    def check_place(self, transaction: Transaction) -> None:
        """The rules of a block alone: size, expiry, fee, nonce, signers, money for the fee. Raises Refused.

        For what another node has admitted: costs one look at the account, no dry run.
        """
        if len(transaction.raw) > self._parameters.max_block_bytes:
            raise Refused(Code.OVERSIZED, f"{len(transaction.raw)} bytes; a block holds "
                                          f"{self._parameters.max_block_bytes}")
        before, queued = self._session.mark(), self._desk.mark()
        try:
            check_transaction(self._session, self._parameters, transaction, self._height, nonce_ahead=MAX_NONCE_AHEAD)
        except Failed as failure:
            raise Refused(failure.code, str(failure)) from failure
        finally:
            self._session.rollback(before)
            self._desk.rollback(queued)

    def check_fees(self, sender: bytes, fees_uthb: int) -> None:
        """Whether the account can pay the fees of all that is pending of it. Raises Refused."""
        account = funds.get_account(self._session, sender)
        if account.balance >= fees_uthb or funds.has_credit(self._session, sender, fees_uthb):
            return
        before, queued = self._session.mark(), self._desk.mark()
        try:
            self._session.release_due(sender)
            balance = funds.get_account(self._session, sender).balance
        finally:
            self._session.rollback(before)
            self._desk.rollback(queued)
        if balance < fees_uthb:
            raise Refused(Code.UNFUNDED_FEE, f"with it the pending transactions of this account take {fees_uthb} uTHB "
                                             f"of fees; the account can spend {balance}")

    def _try(self, transaction: Transaction) -> None:
        session, desk = self._session, self._desk
        try:
            account = check_transaction(session, self._parameters, transaction, self._height,
                                        nonce_ahead=MAX_NONCE_AHEAD)
        except Failed as failure:
            raise Refused(failure.code, str(failure)) from failure
        waits = transaction.nonce > account.nonce
        charge(session, transaction, account)
        block = Block(self._context, desk)
        windows = group_windows(transaction.operations) if transaction.all_or_nothing else []
        if windows:
            desk.begin_group(windows)
        for index, fields in enumerate(transaction.operations):
            mark, queued = session.mark(), desk.mark()
            try:
                if transaction.all_or_nothing and not windows and kind_of(fields[0]).IS_ORDER:
                    raise Failed(Code.ORDER_IN_ALL_OR_NOTHING, "orders cannot be all or nothing, save for cancels "
                                                               "followed by post-only orders")
                operation = parse_operation(fields)
                if operation.KIND not in ALLOWED_IN_DEBT:
                    funds.check_dues(session, transaction.sender)
                operation.apply(block, transaction.sender)
            except Failed as failure:
                if not waits or failure.code in ALWAYS:
                    raise Refused(failure.code, f"operation {index}: {failure}") from failure
                session.rollback(mark)
                desk.rollback(queued)


def admit(state: StateReader, transaction: Transaction, height: int, *, verify_signatures: bool = False) -> None:
    """`Admission.admit` for a single transaction, whose signatures can be verified first."""
    if verify_signatures:
        identity: Identity = Session(state, height).get(IDENTITY)
        if not transaction.signatures_verify(identity.chain_id):
            raise Refused(Code.BAD_SIGNATURE, "a signature does not verify for this chain")
    Admission(state, height).admit(transaction)


def spendable(state: StateReader, address: bytes, height: int) -> int:
    """What the account can spend in a block of `height` on `state`, uTHB, before any order of it is released late."""
    return funds.get_account(Session(state, height), address).spendable
