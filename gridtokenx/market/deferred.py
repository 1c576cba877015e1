"""Order operations of a block on their way through the engine, which answers them in batches."""

from __future__ import annotations

import struct

from attrs import define, frozen

from gridtokenx._native.orderbook import OPERATION, Kind
from gridtokenx.ledger.receipts import Outcome
from gridtokenx.ledger.records import Order

_PACK = struct.Struct("<QqqIIiiIIBBBBBBBBBBHI").pack
assert len(_PACK(*[0] * 21)) == OPERATION.itemsize


@frozen
class Amendment:
    """New price and total of an order of `meter`, and what was held for it beside what the order held already."""

    side: int
    meter: int
    price: int
    quantity_wh: int
    term: int
    vat_ppm: int
    held_uthb: int
    held_wh: int


@define
class Deferred:
    """One row of the engine's batch; `outcome` is there after the engine ran, for those that a receipt waits for."""

    window: int
    kind: Kind
    order_id: int = 0
    owner: bytes = b""
    order: Order | None = None          # of PLACE
    amendment: Amendment | None = None  # of AMEND
    loaded: bool = False                # the window was loaded for this row
    fills_worst: int = 0                # the most fills that the operation may make
    outcome: Outcome | None = None


def row(window: int, kind: Kind, order_id: int = 0, quantity_wh: int = 0, price: int = 0,
        flags: int = 0) -> bytes:
    """A record of OPERATION without what only a new order has."""
    return _PACK(order_id, quantity_wh, 0, 0, 0, window, price, 0, 0, 0, kind, 0, 0, flags, 0, 0, 0, 0, 0, 0, 0)


def grid_row(window: int, kind: Kind, quantity_wh: int, corridor: int, direction: int) -> bytes:
    """A record of OPERATION about the window itself or a corridor in it."""
    return _PACK(0, quantity_wh, 0, 0, 0, window, 0, 0, 0, 0, kind, direction, 0, 0, 0, 0, 0, 0, corridor, 0, 0)


def place_row(window: int, order_id: int, order: Order, force: int, flags: int, minimum_wh: int) -> bytes:
    """The record of OPERATION that places an order; `flags` are the engine's."""
    o = order
    return _PACK(order_id, o.quantity_wh, o.expires_ms, o.participant, o.meter, window, o.price, minimum_wh,
                 o.display_wh, o.zone, Kind.PLACE, o.side, force, flags, o.profile, o.source, 0, 0, 0, 0, 0)
