"""A regulator sets Ft, buy-back or VAT from a window on: `[41, series, since, value]` (`market.tables`)."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.ledger.tariff_records import SERIES_BOUNDS, Rate, Series
from gridtokenx.market.tables import check_regulator, next_version


@frozen
class PublishRate:
    """`value` in uTHB/kWh, of VAT in ppm. What was announced for `since` and later is replaced."""

    series: Series
    since: int
    value: int

    KIND: ClassVar[int] = 41
    NAME: ClassVar[str] = "publish rate"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PublishRate:
        check_count(fields, "series", "since", "value")
        series = Series(integer("series", fields[0], min(Series), max(Series)))
        return cls(series, integer("since", fields[1], 0, MAX_WINDOW),
                   integer("value", fields[2], *SERIES_BOUNDS[series]))

    def fields(self) -> list[Any]:
        return [self.KIND, int(self.series), self.since, self.value]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        check_regulator(block.context, sender)
        rate: Rate = session.get(spaces.rate(self.series))
        session.put(spaces.rate(self.series),
                    Rate(next_version(block.context, rate.versions, (self.since, self.value))))
        return ()
