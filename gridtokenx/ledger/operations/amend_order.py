"""Amend an order: `[22, order_id, price_mthb_kwh, quantity_wh, post_only]` (MARKET 3)."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.market.deferred import Deferred


@frozen
class AmendOrder:
    """`quantity_wh` is the new total, filled part included; at or below the filled part it cancels.

    Less at the same price keeps the order's place; anything else goes to the end and may trade. With `post_only` it is
    refused if it would. A refused amend changes nothing. The receipt's data is that of a new order.
    """

    order_id: int
    price_mthb_kwh: int
    quantity_wh: int
    post_only: bool = False

    KIND: ClassVar[int] = 22
    NAME: ClassVar[str] = "amend order"
    WEIGHT: ClassVar[int] = 60
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> AmendOrder:
        check_count(fields, "order_id", "price_mthb_kwh", "quantity_wh", "post_only")
        return cls(integer("order_id", fields[0]), integer("price_mthb_kwh", fields[1]),
                   integer("quantity_wh", fields[2]), bool(integer("post_only", fields[3], 0, 1)))

    def fields(self) -> list[Any]:
        return [self.KIND, self.order_id, self.price_mthb_kwh, self.quantity_wh, int(self.post_only)]

    def apply(self, block: Block, sender: bytes) -> Deferred:
        return block.desk.amend(sender, self.order_id, self.price_mthb_kwh, self.quantity_wh, self.post_only)
