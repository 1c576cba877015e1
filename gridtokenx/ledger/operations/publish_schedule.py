"""A regulator sets which hours and weekdays are on-peak from a window on: `[43, since, hours, weekdays]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.ledger.tariff_records import Schedule
from gridtokenx.market.tables import check_regulator, next_version


@frozen
class PublishSchedule:
    """Bit h of `hours` is the hour from h:00 in Bangkok, bit d of `weekdays` the weekday, 0 Monday."""

    since: int
    hours: int
    weekdays: int

    KIND: ClassVar[int] = 43
    NAME: ClassVar[str] = "publish schedule"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PublishSchedule:
        check_count(fields, "since", "hours", "weekdays")
        return cls(integer("since", fields[0], 0, MAX_WINDOW), integer("hours", fields[1], 0, (1 << 24) - 1),
                   integer("weekdays", fields[2], 0, (1 << 7) - 1))

    def fields(self) -> list[Any]:
        return [self.KIND, self.since, self.hours, self.weekdays]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        check_regulator(block.context, sender)
        schedule: Schedule = session.get(spaces.SCHEDULE)
        session.put(spaces.SCHEDULE, Schedule(
            next_version(block.context, schedule.versions, (self.since, self.hours, self.weekdays))))
        return ()
