"""The interim settlement: at a window's reading deadline every trade counts as delivered in full.

Per trade the seller's proceeds and collateral are released, wheeling goes to the network, fee to the market
operator, VAT to the tax account. MARKET 7 settles against readings; that replaces this module and no other.
"""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.records import Meter, Trade, WindowBook
from gridtokenx.market.clock import final_ms
from gridtokenx.market.wheeling import network_parts
from gridtokenx.market.work import Work, timed_key

Spend = Callable[[int], bool]
"""Asked with a weight before each piece of work: has this block room for it?"""


def settle_window(context: Context, window: int, spend: Spend) -> bool:
    """Settles the window's trades in the order they were made; True when all are, False when the block is full."""
    session = context.session
    book: WindowBook = session.get(spaces.window(window))
    settled = book.settled
    while settled < book.trades and spend(weights.SETTLE_TRADE):
        _settle(context, session.get(spaces.trade(window, settled)))
        settled += 1
    if settled != book.settled:
        session.put(spaces.window(window), WindowBook(book.trades, settled, book.gated))
    if settled < book.trades:
        return False
    session.put(timed_key(max(final_ms(window), context.now_ms), Work.CLEAR, window), spaces.PRESENT)
    return True


def _settle(context: Context, trade: Trade) -> None:
    session, roles = context.session, context.roles
    seller: Meter = session.get(spaces.meter(trade.sell_meter))
    value = trade.value_uthb
    funds.apply_moves(session, seller.owner, proceeds=-value, released=value, freed=trade.collateral_uthb)
    for collector, amount in (*network_parts(session, trade), (roles.market_operator, trade.fee_uthb),
                              (roles.tax, trade.vat_uthb)):
        if amount:
            funds.apply_moves(session, collector, proceeds=-amount, released=amount)


def clear_window(context: Context, window: int, spend: Spend) -> bool:
    """Takes the records of a final window out of state; blocks and receipts keep what happened."""
    session = context.session
    for prefix in (spaces.trade(window), spaces.position(window), spaces.market(window),
                   spaces.corridor_window(window), spaces.window(window)):
        for key, _ in session.scan(prefix):
            if not spend(weights.CLEAR_RECORD):
                return False
            session.put(key, None)
    return True
