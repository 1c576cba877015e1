"""A regulator sets the holidays of a year: `[42, year, [day, ...]]`, days since 1970-01-01."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.tariff_records import Calendar
from gridtokenx.market.tables import check_regulator
from gridtokenx.market.tariffs import bangkok_day, year_of

LAST_YEAR = 2447            # delivery windows are counted up to there
LAST_DAY = 174_500
HOLIDAYS_MOST = 100


@frozen
class PublishCalendar:
    """Days, ascending, that are off-peak all day: normal public holidays (docs/bills.md says which are not).

    A year may be set again as long as nothing changes for days that have begun.
    """

    year: int
    holidays: tuple[int, ...]

    KIND: ClassVar[int] = 42
    NAME: ClassVar[str] = "publish calendar"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PublishCalendar:
        check_count(fields, "year", "holidays")
        year = integer("year", fields[0], 1970, LAST_YEAR)
        if type(fields[1]) not in (list, tuple) or len(fields[1]) > HOLIDAYS_MOST:
            raise Failed(Code.BAD_FIELDS, f"holidays must be a list of at most {HOLIDAYS_MOST} days")
        days = tuple(integer("holiday", day, 0, LAST_DAY) for day in fields[1])
        if list(days) != sorted(set(days)) or any(year_of(day) != year for day in days):
            raise Failed(Code.OUT_OF_RANGE, f"holidays must be ascending days of {year}")
        return cls(year, days)

    def fields(self) -> list[Any]:
        return [self.KIND, self.year, list(self.holidays)]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context = block.context
        check_regulator(context, sender)
        today = bangkok_day(context.now_ms // 1000)
        before: Calendar | None = context.session.get(spaces.calendar(self.year))
        known = set() if before is None else set(before.holidays)
        for day in sorted(known ^ set(self.holidays)):
            if day <= today:
                raise Failed(Code.DAY_BEGUN, f"day {day} has begun: it is a {'holiday' if day in known else 'workday'} "
                                             "and stays one")
        context.session.put(spaces.calendar(self.year), Calendar(self.holidays))
        return ()
