"""A window from state into the engine, in the order that CONSENSUS 6 fixes: (zone, side, price, sequence)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridtokenx._native.orderbook import HALTED_FLAG, RESTING, UNFINISHED_FLAG, WORK_LEFT
from gridtokenx.ledger import spaces
from gridtokenx.ledger.market_records import WorkLeft
from gridtokenx.ledger.session import Session
from gridtokenx.market.book import WindowContent
from gridtokenx.market.corridors import window_arrays
from gridtokenx.market.halts import trading

_FIELDS = ("order_id", "sequence", "quantity_wh", "expires_ms", "participant", "meter", "window", "price_mthb_kwh",
           "total_wh", "zone", "side", "source", "profile", "flags", "display_wh", "shown_wh")

WORK_FIELDS = ("sequence", "closed_low", "closed_high", "window", "price_mthb_kwh", "again")


def structured(rows: Sequence[tuple[Any, ...]], dtype: np.dtype[Any], names: tuple[str, ...]) -> NDArray[Any]:
    """Rows of the named fields as an array of `dtype`; its other fields are zero."""
    array = np.zeros(len(rows), dtype)
    for name, column in zip(names, zip(*rows, strict=True), strict=False):     # no columns of no rows
        array[name] = column
    return array


def window_content(session: Session, window: int, corridors: int) -> WindowContent:
    """The window as the session has it now; `corridors` is how many the grid has."""
    rows: list[tuple[Any, ...]] = []
    for key, order in session.scan(spaces.orders_of_window(window)):
        rows.append((int.from_bytes(key[1:], "big"), order.sequence, order.remaining_wh, order.expires_ms,
                     order.participant, order.meter, window, order.price, order.quantity_wh, order.zone, order.side,
                     order.source, order.profile, order.self_trade, order.display_wh,
                     order.remaining_wh - order.hidden_wh if order.display_wh else 0))
    rows.sort(key=lambda row: (row[9], row[10], row[7], row[1]))
    capacities, residuals = window_arrays(session, window, corridors)
    flags = HALTED_FLAG if trading(session, window).halted_until_ms else 0
    left: WorkLeft | None = session.get(spaces.work_left(window))
    if left is not None:
        flags |= UNFINISHED_FLAG
    points = [] if left is None else [
        (left.sequence, left.closed_low, left.closed_high, window, left.price, left.again)]
    return WindowContent(structured(rows, RESTING, _FIELDS), capacities, residuals, flags,
                         structured(points, WORK_LEFT, WORK_FIELDS))
