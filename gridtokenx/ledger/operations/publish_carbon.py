"""A new version of the carbon factors: `[55, first window, grid_ug_wh, [emission_ug_wh, ...], [credit_ug_wh, ...]]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_records import MOST_UG_WH, Carbon
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.market.tables import check_regulator, next_version


@frozen
class PublishCarbon:
    """By a regulator, for delivery from `window` on: that window must not have begun to deliver.

    The two lists are by number of the source, mixed first. What has been delivered keeps its factors.
    """

    window: int
    grid_ug_wh: int
    emission_ug_wh: tuple[int, ...]
    credit_ug_wh: tuple[int, ...]

    KIND: ClassVar[int] = 55
    NAME: ClassVar[str] = "publish carbon factors"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PublishCarbon:
        check_count(fields, "first window", "grid_ug_wh", "emission_ug_wh", "credit_ug_wh")
        return cls(integer("first window", fields[0], 0, spaces.MAX_WINDOW),
                   integer("grid_ug_wh", fields[1], 0, MOST_UG_WH), _per_source("emission_ug_wh", fields[2]),
                   _per_source("credit_ug_wh", fields[3]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.window, self.grid_ug_wh, list(self.emission_ug_wh), list(self.credit_ug_wh)]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        check_regulator(block.context, sender)
        carbon: Carbon = session.get(spaces.CARBON)
        session.put(spaces.CARBON, Carbon(next_version(block.context, carbon.versions, (
            self.window, self.grid_ug_wh, self.emission_ug_wh, self.credit_ug_wh))))
        return ()


def _per_source(name: str, value: Any) -> tuple[int, ...]:
    if type(value) not in (list, tuple) or len(value) != len(Source):
        raise Failed(Code.BAD_FIELDS, f"{name} must be a list of {len(Source)} integers, one per source")
    return tuple(integer(name, entry, 0, MOST_UG_WH) for entry in value)
