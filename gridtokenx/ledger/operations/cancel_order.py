"""Cancel an order: `[21, order_id]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.market.deferred import Deferred


@frozen
class CancelOrder:
    """What it held can be used from the next block on. The receipt's data: order id, cancelled Wh."""

    order_id: int

    KIND: ClassVar[int] = 21
    NAME: ClassVar[str] = "cancel order"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> CancelOrder:
        check_count(fields, "order_id")
        return cls(integer("order_id", fields[0]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.order_id]

    def apply(self, block: Block, sender: bytes) -> Deferred:
        return block.desk.cancel(sender, self.order_id)
