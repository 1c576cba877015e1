"""Place an order: `[20, meter, window, side, price_mthb_kwh, quantity_wh, time_in_force, expires_ms]` (MARKET 3)."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market.orders import Force, Side
from gridtokenx.market.posting import Deferred

_LAST_FORCE = Force.IOC     # FOK waits for its place in the ledger


@frozen
class PlaceOrder:
    """`expires_ms` is market time with GOOD_TILL_TIME, otherwise 0.

    The receipt's data: order id, filled Wh, resting Wh, cancelled Wh, all at the order's own meter.
    """

    meter: int
    window: int
    side: Side
    price_mthb_kwh: int
    quantity_wh: int
    time_in_force: Force = Force.GOOD_TILL_GATE
    expires_ms: int = 0

    KIND: ClassVar[int] = 20
    NAME: ClassVar[str] = "place order"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PlaceOrder:
        check_count(fields, "meter", "window", "side", "price_mthb_kwh", "quantity_wh", "time_in_force", "expires_ms")
        meter, window, side, price, quantity, force, expires = fields
        force = integer("time_in_force", force)
        if force > _LAST_FORCE:
            raise Failed(Code.BAD_TIME_IN_FORCE, f"time in force {force}; 0 (till gate), 1 (till time), 2 (IOC) exist")
        return cls(integer("meter", meter, 0, (1 << 32) - 1), integer("window", window, 0, MAX_WINDOW),
                   Side(integer("side", side, 0, 1)), integer("price_mthb_kwh", price),
                   integer("quantity_wh", quantity), Force(force), integer("expires_ms", expires))

    def fields(self) -> list[Any]:
        return [self.KIND, self.meter, self.window, int(self.side), self.price_mthb_kwh, self.quantity_wh,
                int(self.time_in_force), self.expires_ms]

    def apply(self, block: Block, sender: bytes) -> Deferred:
        return block.desk.place(sender, self.meter, self.window, self.side, self.price_mthb_kwh, self.quantity_wh,
                                self.time_in_force, self.expires_ms)
