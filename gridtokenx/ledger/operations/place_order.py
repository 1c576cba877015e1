"""Place an order (MARKET 3): `[20, meter, window, side, price_mthb_kwh, quantity_wh, time_in_force, expires_ms,
flags, minimum_wh, display_wh, profile]`. Of the last four, zeros at the end may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market.deferred import Deferred
from gridtokenx.market.orders import MARKET_FLAG, PLACE_ORDER, POST_ONLY_FLAG, Force, SelfTrade, Side

_NAMES = ("meter", "window", "side", "price_mthb_kwh", "quantity_wh", "time_in_force", "expires_ms", "flags",
          "minimum_wh", "display_wh", "profile")
_LEAST = 7
_FLAGS_MOST = MARKET_FLAG | POST_ONLY_FLAG | 3
_U32 = (1 << 32) - 1


_SIDES = (Side.BUY, Side.SELL)


@frozen
class PlaceOrder:
    """`expires_ms` is market time with GOOD_TILL_TIME, otherwise 0. A market order has price 0 and gets the edge of the
    price band as its limit. `minimum_wh` is what must trade at arrival, `display_wh` what an iceberg shows (0: all),
    `profile` a buyer's filter (0: any source and zone).

    The receipt's data: order id, filled Wh, resting Wh, cancelled Wh, all at the order's own meter.
    """

    meter: int
    window: int
    side: Side
    price_mthb_kwh: int
    quantity_wh: int
    time_in_force: Force = Force.GOOD_TILL_GATE
    expires_ms: int = 0
    minimum_wh: int = 0
    display_wh: int = 0
    profile: int = 0
    self_trade: SelfTrade = SelfTrade.CANCEL_NEWEST
    post_only: bool = False
    market: bool = False

    KIND: ClassVar[int] = PLACE_ORDER
    NAME: ClassVar[str] = "place order"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PlaceOrder:
        if not _LEAST <= len(fields) <= len(_NAMES):
            check_count(fields, *_NAMES)
        meter, window, side, price, quantity, force, expires = fields[:_LEAST]
        force = integer("time_in_force", force)
        if force > Force.FOK:
            raise Failed(Code.BAD_TIME_IN_FORCE,
                         f"time in force {force}; 0 (till gate), 1 (till time), 2 (IOC), 3 (FOK) exist")
        order = (integer("meter", meter, 0, _U32), integer("window", window, 0, MAX_WINDOW),
                 _SIDES[integer("side", side, 0, 1)], integer("price_mthb_kwh", price),
                 integer("quantity_wh", quantity), Force(force), integer("expires_ms", expires))
        if len(fields) == _LEAST:
            return cls(*order)
        flags, minimum, display, profile = (*fields[_LEAST:], 0, 0, 0)[:4]
        flags = integer("flags", flags, 0, _FLAGS_MOST)
        if flags & 3 > SelfTrade.CANCEL_BOTH:
            raise Failed(Code.BAD_CONDITIONS, f"self-trade mode {flags & 3}; 0 to 2 exist")
        if flags & MARKET_FLAG and price:
            raise Failed(Code.BAD_CONDITIONS, f"price {price}; a market order has 0")
        return cls(*order, integer("minimum_wh", minimum, 0, _U32), integer("display_wh", display, 0, _U32),
                   integer("profile", profile, 0, 255), SelfTrade(flags & 3), bool(flags & POST_ONLY_FLAG),
                   bool(flags & MARKET_FLAG))

    @property
    def flags(self) -> int:
        """Self-trade mode, 4 for post-only, 8 for a market order."""
        return self.self_trade | POST_ONLY_FLAG * self.post_only | MARKET_FLAG * self.market

    def fields(self) -> list[Any]:
        options = [self.flags, self.minimum_wh, self.display_wh, self.profile]
        while options and not options[-1]:
            options.pop()
        return [self.KIND, self.meter, self.window, int(self.side), self.price_mthb_kwh, self.quantity_wh,
                int(self.time_in_force), self.expires_ms, *options]

    @classmethod
    def plain_fields(cls, meter: int, windows: Iterable[int], sides: Iterable[int], prices: Iterable[int],
                     quantities_wh: Iterable[int]) -> list[tuple[Any, ...]]:
        """The fields of orders until the gate without conditions, in tuples: for whoever makes thousands."""
        return list(zip(repeat(cls.KIND), repeat(meter), windows, sides, prices, quantities_wh,
                        repeat(int(Force.GOOD_TILL_GATE)), repeat(0), strict=False))

    def apply(self, block: Block, sender: bytes) -> Deferred:
        return block.desk.place(sender, self)
