"""What is refused at submission: the rules of a block, and a dry run of the operations, on the newest state."""

from __future__ import annotations

from gridtokenx.ledger import funds
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.operations import Block, kind_of, parse_operation
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.receipts import Code, Failed, Refused
from gridtokenx.ledger.records import Clock
from gridtokenx.ledger.run import charge, check_transaction
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import CLOCK
from gridtokenx.ledger.state import StateReader
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market.desk import Desk

MAX_NONCE_AHEAD = 1024

ALWAYS = frozenset({
    Code.UNKNOWN_OPERATION, Code.BAD_FIELDS, Code.OUT_OF_RANGE, Code.ORDER_IN_ALL_OR_NOTHING, Code.WINDOW_CLOSED,
    Code.OUT_OF_TICK, Code.OUT_OF_LOT, Code.PRICE_LIMIT, Code.QUANTITY_LIMIT, Code.UNKNOWN_ZONE, Code.UNKNOWN_NETWORK,
    Code.UNKNOWN_TARIFF, Code.BAD_ROLE, Code.BAD_KEY,
})
"""Codes that nothing still pending can cure: refused also for a transaction that waits for others of its account."""


def admit(state: StateReader, transaction: Transaction, height: int, *, verify_signatures: bool = False) -> None:
    """Raises Refused, with the code that a receipt would have, for what a block of `height` on `state` would refuse.

    A transaction whose nonce lies ahead (its account has others pending) is refused only for what those cannot
    change. Operations are tried in order on a scratch copy of what they touch, at the market time of `state`; the
    book is not consulted, so an order that passes here can still find itself filled, cancelled or late.
    """
    session = Session(state, height)
    parameters = read_parameters(state)
    clock: Clock = session.get(CLOCK)
    context = open_context(session, parameters, clock.timestamp_ms)
    if verify_signatures and not transaction.signatures_verify(context.identity.chain_id):
        raise Refused(Code.BAD_SIGNATURE, "a signature does not verify for this chain")
    if len(transaction.raw) > parameters.max_block_bytes:
        raise Refused(Code.OVERSIZED, f"{len(transaction.raw)} bytes; a block holds {parameters.max_block_bytes}")
    desk = Desk(context, None)
    session.release_due = desk.release_due
    try:
        account = check_transaction(session, parameters, transaction, height, nonce_ahead=MAX_NONCE_AHEAD)
    except Failed as failure:
        raise Refused(failure.code, str(failure)) from failure
    waits = transaction.nonce > account.nonce
    charge(session, transaction, account)
    block = Block(context, desk)
    for index, fields in enumerate(transaction.operations):
        mark, queued = session.mark(), desk.mark()
        try:
            if transaction.all_or_nothing and kind_of(fields[0]).IS_ORDER:
                raise Failed(Code.ORDER_IN_ALL_OR_NOTHING, "order operations cannot be all or nothing")
            parse_operation(fields).apply(block, transaction.sender)
        except Failed as failure:
            if not waits or failure.code in ALWAYS:
                raise Refused(failure.code, f"operation {index}: {failure}") from failure
            session.rollback(mark)
            desk.rollback(queued)


def spendable(state: StateReader, address: bytes, height: int) -> int:
    """What the account can spend in a block of `height` on `state`, uTHB, before any order of it is released late."""
    return funds.get_account(Session(state, height), address).balance
