"""Cancels followed by post-only orders in an all-or-nothing transaction: one group of the engine (MARKET 3).

The group's own cancels fund its orders: the escrow of its buys the new buys, the collateral of its sells the new sells,
their capacity the new orders of that meter, window and side, their places in the books the new orders. How much of an
order a cancel frees depends on matching, so the engine refuses the group unless as much is left as there was before the
block's matching.
"""

from __future__ import annotations

from attrs import define, field

from gridtokenx.ledger import spaces
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Order
from gridtokenx.market.closing import escrow_of
from gridtokenx.market.orders import BUY, SELL

GROUPS = 65_535         # numbers of groups, so that neighbours differ


@define
class Group:
    """What the cancels of a group free, while its operations are checked."""

    number: int
    money: dict[int, int] = field(factory=lambda: {int(BUY): 0, int(SELL): 0})      # by side
    energy: dict[tuple[int, int, int], int] = field(factory=dict)                   # (window, meter, side) -> Wh
    places: int = 0

    def cancel(self, order_id: int, order: Order, *, amended: bool) -> int:
        """Counts what cancelling `order` frees; returns what must be left of it. Raises Failed."""
        if amended:
            raise Failed(Code.ORDER_CHANGED, f"order {order_id} is amended in this block")
        left = order.remaining_wh
        self.places += 1
        self.money[order.side] += escrow_of(order, left) if order.side == BUY else order.term * left
        place = (spaces.window_of(order_id), order.meter, order.side)
        self.energy[place] = self.energy.get(place, 0) + left
        return left

    def borrow(self, side: int, held: int) -> int:
        """How much of what a new order holds comes from cancels."""
        part = min(held, self.money[side])
        self.money[side] -= part
        return part

    def borrow_place(self) -> bool:
        """Whether a cancelled order's place in the books is left for a new one."""
        if not self.places:
            return False
        self.places -= 1
        return True

    def free_wh(self, window: int, meter: int, side: int, quantity_wh: int) -> int:
        """How much of a new order's capacity comes from cancels."""
        return min(quantity_wh, self.energy.get((window, meter, side), 0))

    def use_wh(self, window: int, meter: int, side: int, quantity_wh: int) -> int:
        """The same, used up."""
        part = self.free_wh(window, meter, side, quantity_wh)
        if part:
            self.energy[window, meter, side] -= part
        return part
