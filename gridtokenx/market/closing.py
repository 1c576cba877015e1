"""How orders leave state without the engine: their time has come (MARKET 2 and 3)."""

from __future__ import annotations

from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.records import Meter, Order
from gridtokenx.ledger.session import Session
from gridtokenx.market import places, positions
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.indicative import left_at_gate
from gridtokenx.market.money import buy_escrow
from gridtokenx.market.orders import BUY
from gridtokenx.market.work import Work, timed_key


def due_ms(order: Order, window: int) -> int:
    """When the order closes by itself, market ms: its expiry, else its window's gate."""
    gate = gate_ms(window)
    return min(order.expires_ms, gate) if order.expires_ms else gate


def escrow_of(order: Order, quantity_wh: int) -> int:
    """What `quantity_wh` of a buy order holds back, uTHB, with the rates of its entry."""
    return buy_escrow(order.price, quantity_wh, order.term, order.vat_ppm)


def remove_order(session: Session, order_id: int, order: Order, owner: bytes) -> None:
    """Takes the order and its index entries out of state; money, capacity and place are the caller's to return."""
    window = spaces.window_of(order_id)
    session.put(spaces.order(order_id), None)
    session.put(spaces.orders_of(owner, due_ms(order, window), order_id), None)
    if order.expires_ms:
        session.put(timed_key(order.expires_ms, Work.EXPIRY, order_id), None)


def lapse(context: Context, order_id: int, order: Order) -> None:
    """Closes an order whose time has come: by a sweep, lazily, or because a search met it.

    What was due by the parent's time can be spent at once, anything later from the next block on, so that it makes
    no difference which of the three it was.
    """
    left_at_gate(context.session, spaces.window_of(order_id), order)
    close(context, order_id, order)


def close(context: Context, order_id: int, order: Order) -> None:
    """Takes an order out of state and gives back what it held."""
    session, window, quantity = context.session, spaces.window_of(order_id), order.remaining_wh
    meter: Meter = session.get(spaces.meter(order.meter))
    remove_order(session, order_id, order, meter.owner)
    now = due_ms(order, window) <= context.parent_ms
    places.give_back(session, 1, now=now)
    if now:
        positions.return_now(session, window, order.meter, order.side, quantity)
        if order.side == BUY:
            funds.return_now(session, meter.owner, bids=escrow_of(order, quantity))
        else:
            funds.return_now(session, meter.owner, collateral=order.term * quantity)
    elif order.side == BUY:
        held = escrow_of(order, quantity)
        positions.apply_moves(session, window, order.meter, [0, 0, 0, quantity])
        funds.apply_moves(session, meter.owner, bids=-held, released=held)
    else:
        positions.apply_moves(session, window, order.meter, [0, 0, quantity, 0])
        funds.apply_moves(session, meter.owner, freed=order.term * quantity)


def due_orders(context: Context, owner: bytes) -> list[int]:
    """The owner's orders that were due by the parent's time and that no sweep has met yet."""
    found = []
    for key, _ in context.session.scan(spaces.orders_of(owner)):
        if int.from_bytes(key[33:41], "big") > context.parent_ms:
            break
        found.append(int.from_bytes(key[41:], "big"))
    return found
