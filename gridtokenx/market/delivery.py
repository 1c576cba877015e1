"""The interim settlement: at a window's reading deadline every trade counts as delivered in full.

Per trade the seller's proceeds and collateral are released, wheeling goes to the network, fee to the market
operator, VAT to the tax account. MARKET 7 settles against readings; that replaces this module and no other.
"""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.records import Meter, Trade, Zone


def settle_window(context: Context, window: int, spend: Callable[[int], bool]) -> bool:
    """Settles the window's trades, then removes its positions and markets; True when nothing is left.

    `spend(weight)` is asked before each piece and says whether the block has room for it.
    """
    session = context.session
    for key, record in session.scan(spaces.trade(window)):
        if not spend(weights.SETTLE_TRADE):
            return False
        trade: Trade = record
        seller: Meter = session.get(spaces.meter(trade.sell_meter))
        network: Zone = session.get(spaces.zone(trade.buy_zone))
        roles = context.roles
        value = trade.value_uthb
        funds.apply_moves(session, seller.owner, proceeds=-value, released=value, freed=trade.collateral_uthb)
        for collector, amount in ((network.network, trade.wheel_uthb), (roles.market_operator, trade.fee_uthb),
                                  (roles.tax, trade.vat_uthb)):
            if amount:
                funds.apply_moves(session, collector, proceeds=-amount, released=amount)
        session.put(key, None)
    for prefix in (spaces.position(window), spaces.market(window), spaces.window(window)):
        for key, _ in session.scan(prefix):
            if not spend(weights.CLEAR_RECORD):
                return False
            session.put(key, None)
    return True
