"""Places in the books: at most `max_open_orders` orders are open in all windows together.

An order takes a place when it is accepted, whether it comes to rest or not. A place that a fill, cancel or expiry gives
back can be taken from the next block on, that of an order which was due by the parent's time at once, swept or not: who
finds no place puts the longest due order out of its own. So neither matching nor sweeps decide whether there is room,
and state never holds more orders than there are places.
"""

from __future__ import annotations

from attrs import evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Counters
from gridtokenx.ledger.session import Session


def counters(session: Session) -> Counters:
    """As they stand in this block: what was closed in blocks before it is counted off."""
    found: Counters = session.get(spaces.COUNTERS)
    if found.closed_orders and found.height < session.height:
        return evolve(found, open_orders=found.open_orders - found.closed_orders, closed_orders=0)
    return found


def number_order(session: Session, places: int) -> int:
    """The next order's number; it takes so many places (one, or none)."""
    c = counters(session)
    session.put(spaces.COUNTERS, Counters(c.participants, c.meters, c.orders + 1, c.sequence, c.open_orders + places,
                                          c.closed_orders, c.height))
    return c.orders + 1


def give_back(session: Session, places: int, *, now: bool, sequence: int = 0) -> None:
    """Places that can be taken now, or from the next block on; `sequence` is the next one if it changed."""
    c = counters(session)
    session.put(spaces.COUNTERS, Counters(
        c.participants, c.meters, c.orders, sequence or c.sequence, c.open_orders - places if now else c.open_orders,
        c.closed_orders if now else c.closed_orders + places, session.height if not now else c.height))
