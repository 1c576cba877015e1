"""An amend: checked and funded by its net difference (MARKET 3).

The amend names the new total, filled part included. How much of the order is filled when the engine comes to it
depends on matching, which funding must not: so the most that the difference can come to is held, and what is not
needed comes back with the engine's answer, to be used from the next block on.

With remainders R before and R' after, a buy needs `ceil(a' R' - a R)` more, a being limit (1 + fee)(1 + VAT), a sell
`c' R' - c R`, c being the collateral rate. Both are linear in what was filled, so the most is at one of its ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Meter, Order
from gridtokenx.market import positions
from gridtokenx.market.deferred import Amendment
from gridtokenx.market.money import PPM, collateral_rate
from gridtokenx.market.orders import BUY, SELL, check_limit, check_quantity

if TYPE_CHECKING:
    from gridtokenx.market.desk import Desk


def fund(desk: Desk, sender: bytes, order_id: int, order: Order, earlier: list[Amendment], price: int,
         quantity_wh: int) -> Amendment:
    """Holds what the amend of `order` may take; `earlier` are amends of this block, each of which may fail.

    Raises Failed; then the caller rolls back.
    """
    context = desk.context
    session, parameters = context.session, context.parameters
    window = spaces.window_of(order_id)
    rules = desk.open_rules(window)
    check_limit(price, window, rules.band)
    if quantity_wh:
        check_quantity(quantity_wh, parameters.order_most_wh)
    meter: Meter = session.get(spaces.meter(order.meter))
    desk.check_licence(meter)
    if order.side == BUY:
        term, vat = parameters.fee_ppm, rules.vat_ppm
    else:
        term, vat = collateral_rate(rules.short_cap, price), 0
    filled = order.quantity_wh - order.remaining_wh
    money = energy = 0
    for old_price, old_total, old_term, old_vat in _terms(order, earlier):
        if price == old_price and quantity_wh < old_total:
            continue        # less at the same price keeps its terms and frees money
        energy = max(energy, quantity_wh - old_total)
        for done in (filled, max(filled, min(old_total, quantity_wh))):
            before, after = max(0, old_total - done), max(0, quantity_wh - done)
            if order.side == BUY:
                more = (price * (PPM + term) * (PPM + vat) * after
                        - old_price * (PPM + old_term) * (PPM + old_vat) * before)
                money = max(money, -(-more // (PPM * PPM)))
            else:
                money = max(money, term * after - old_term * before)
    if energy:
        if order.side == SELL and order.source:
            position = positions.get_position(session, window, order.meter)
            if positions.offered_wh(position) + energy > meter.injection_w // 4:
                session.release_due(sender)
                position = positions.get_position(session, window, order.meter)
            free = meter.injection_w // 4 - positions.offered_wh(position)
            if energy > free:
                raise Failed(Code.NO_CAPACITY,
                             f"meter {order.meter} injects at most {max(0, free)} Wh more of its source in window "
                             f"{window}, not {energy}; what it sells beyond needs an order of its own")
        desk.hold_capacity(sender, window, order.meter, meter, order.side, energy)
    if money:
        if order.side == BUY:
            funds.hold_bid(session, sender, money)
        else:
            funds.hold_collateral(session, sender, money)
    return Amendment(order.side, order.meter, price, quantity_wh, term, vat, money, energy)


def _terms(order: Order, earlier: list[Amendment]) -> list[tuple[int, int, int, int]]:
    """(price, total, term, VAT) that the order may have when the engine comes to it."""
    return [(order.price, order.quantity_wh, order.term, order.vat_ppm),
            *((a.price, a.quantity_wh, a.term, a.vat_ppm) for a in earlier)]
