"""Metered capacity: what a meter may still sell or buy in a window (MARKET 3, capacity).

    sold + open sells <= floor(injection W / 4) + bought        bought + open buys <= floor(withdrawal W / 4) + sold

Within a block, what was closed still counts on the left and what was filled does not yet count on the right.
"""

from __future__ import annotations

from attrs import evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Meter, Position
from gridtokenx.ledger.session import Session
from gridtokenx.market.orders import SELL

_NEW = Position()


def settled(position: Position, height: int) -> Position:
    """`position` with what happened in blocks before `height` counted in full."""
    p = position
    if p.height >= height or not (p.freed_sell or p.freed_buy or p.new_sold or p.new_bought):
        return p
    return Position(p.sold, p.bought, p.open_sell, p.open_buy, p.height)


def get_position(session: Session, window: int, meter_id: int) -> Position:
    position: Position | None = session.get(spaces.position(window, meter_id))
    return _NEW if position is None else settled(position, session.height)


def free_wh(position: Position, meter: Meter, side: int) -> int:
    """How much more the meter may offer on `side` now, Wh; not below zero."""
    p = position
    if side == SELL:
        free = meter.injection_w // 4 + p.bought - p.new_bought - p.sold - p.open_sell - p.freed_sell
    else:
        free = meter.withdrawal_w // 4 + p.sold - p.new_sold - p.bought - p.open_buy - p.freed_buy
    return max(0, free)


def offered_wh(position: Position) -> int:
    """Wh sold and on offer, what was closed in this block included."""
    return position.sold + position.open_sell + position.freed_sell


def hold(session: Session, window: int, meter_id: int, position: Position, side: int, quantity_wh: int) -> None:
    """Puts `quantity_wh` on offer; `position` is the present one."""
    p = position
    sell, buy = (quantity_wh, 0) if side == SELL else (0, quantity_wh)
    session.put(spaces.position(window, meter_id), Position(
        p.sold, p.bought, p.open_sell + sell, p.open_buy + buy, p.height, p.freed_sell, p.freed_buy, p.new_sold,
        p.new_bought))


def apply_moves(session: Session, window: int, meter_id: int, moves: list[int]) -> None:
    """Fills and closings of this block: Wh [sold, bought, closed sells, closed buys]."""
    sold, bought, closed_sell, closed_buy = moves
    p = get_position(session, window, meter_id)
    session.put(spaces.position(window, meter_id), Position(
        p.sold + sold, p.bought + bought, p.open_sell - sold - closed_sell, p.open_buy - bought - closed_buy,
        session.height, p.freed_sell + closed_sell, p.freed_buy + closed_buy, p.new_sold + sold,
        p.new_bought + bought))


def return_now(session: Session, window: int, meter_id: int, side: int, quantity_wh: int) -> None:
    """Takes back an offer that counts as closed since the parent block."""
    p = get_position(session, window, meter_id)
    session.put(spaces.position(window, meter_id),
                evolve(p, open_sell=p.open_sell - quantity_wh) if side == SELL
                else evolve(p, open_buy=p.open_buy - quantity_wh))
