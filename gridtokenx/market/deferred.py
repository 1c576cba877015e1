"""Order operations of a block on their way through the engine, which answers them in batches."""

from __future__ import annotations

import struct

from attrs import define, frozen

from gridtokenx._native.orderbook import OPERATION, Kind
from gridtokenx.ledger.receipts import Outcome
from gridtokenx.ledger.records import Order

_PACK = struct.Struct("<QqqIIiiIIBBBBBBBBBBHI").pack
_GROUP_AT = 58
assert len(_PACK(*[0] * 21)) == OPERATION.itemsize
assert OPERATION.fields is not None
assert OPERATION.fields["group"][1] == _GROUP_AT


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


@frozen
class Agreed:
    """A bilateral trade on its way: meters, owners and zones of seller and buyer, its amounts, and its key in state."""

    sell_meter: int
    buy_meter: int
    seller: bytes
    buyer: bytes
    sell_zone: int
    buy_zone: int
    price: int
    delivered_wh: int
    injected_wh: int
    wheel_uthb: int
    fee_uthb: int
    vat_uthb: int
    collateral_uthb: int
    source: int
    path: tuple[int, ...]
    mark: bytes

    @property
    def paid_uthb(self) -> int:
        """What the buyer pays in all."""
        return self.price * self.injected_wh + self.wheel_uthb + self.fee_uthb + self.vat_uthb


@define
class Deferred:
    """One row of the engine's batch; `outcome` is there after the engine ran, for those that a receipt waits for."""

    window: int
    kind: Kind
    order_id: int = 0
    owner: bytes = b""
    order: Order | None = None          # of PLACE
    amendment: Amendment | None = None  # of AMEND
    agreed: Agreed | None = None        # of BILATERAL
    borrowed: int = 0                   # of PLACE in a group: what its cancels free and it uses
    place_borrowed: bool = False        # its place too
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


def bilateral_row(window: int, order_id: int, agreed: Agreed, path: int) -> bytes:
    """The record of OPERATION of a bilateral trade over the path with this number."""
    a = agreed
    return _PACK(order_id, a.delivered_wh, 0, 0, 0, window, a.price, 0, 0, a.sell_zone, Kind.BILATERAL, 0, 0, 0, 0, 0,
                 a.buy_zone, path, 0, 0, 0)


def cancel_row(window: int, order_id: int, expected_wh: int) -> bytes:
    """The record of OPERATION that cancels; in a group only if `expected_wh` are left."""
    return _PACK(order_id, 0, 0, 0, 0, window, 0, expected_wh, 0, 0, Kind.CANCEL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def grouped(operation: bytes, group: int) -> bytes:
    """The same record as a part of a group."""
    return operation[:_GROUP_AT] + group.to_bytes(2, "little") + operation[_GROUP_AT + 2:]


def place_row(window: int, order_id: int, order: Order, force: int, flags: int, minimum_wh: int) -> bytes:
    """The record of OPERATION that places an order; `flags` are the engine's."""
    o = order
    return _PACK(order_id, o.quantity_wh, o.expires_ms, o.participant, o.meter, window, o.price, minimum_wh,
                 o.display_wh, o.zone, Kind.PLACE, o.side, force, flags, o.profile, o.source, 0, 0, 0, 0, 0)
