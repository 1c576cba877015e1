"""The rates of one window: what utilities charge and pay per kWh, by tariff class (MARKET 7.2; THAILAND, tariffs).

uTHB/kWh throughout. Retail is energy rate + Ft, before VAT. They come from versioned tables in state, which never
change for a window that delivers (`market.tables`).
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.tariff_records import Calendar, Rate, Schedule, Series, Tariff
from gridtokenx.market.clock import WINDOW_S
from gridtokenx.market.tariffs import bangkok_day, on_peak, year_of


@frozen
class Rates:
    """`energy` is by tariff class, without Ft and VAT; `ft` may be negative. `reference_class` sets the price band.

    `opened` says of each class whether it is in force; without it all are.
    """

    on_peak: bool
    energy: tuple[int, ...]
    ft: int
    buy_back: int
    vat_ppm: int
    reference_class: int = 0
    opened: tuple[bool, ...] = ()

    def retail(self, tariff_class: int) -> int:
        """Energy rate + Ft of a class, not below zero."""
        return max(0, self.energy[tariff_class] + self.ft)

    @property
    def reference(self) -> int:
        """The retail rate of the reference class: the reference price where no auction has made one (MARKET 3)."""
        return self.retail(self.reference_class)

    @property
    def highest_retail(self) -> int:
        """The greatest retail rate of any class in force: what the price of missing energy starts from.

        A class that is only announced does not count: it would change what windows cost that deliver already.
        """
        known = self.opened or (True,) * len(self.energy)
        dearest = max((rate for rate, opened in zip(self.energy, known, strict=True) if opened), default=0)
        return max(0, dearest + self.ft)


def is_on_peak(session: Session, window: int) -> bool:
    """By the schedule in force in the window and the calendar of its year; a year without one has no holidays."""
    start = window * WINDOW_S
    schedule: Schedule = session.get(spaces.SCHEDULE)
    calendar: Calendar | None = session.get(spaces.calendar(year_of(bangkok_day(start))))
    return on_peak(start, *schedule.at(window), () if calendar is None else calendar.holidays)


def tariff_classes(session: Session) -> Iterator[Tariff]:
    """All classes, by number."""
    number = 0
    while (tariff := session.get(spaces.tariff(number))) is not None:
        yield tariff
        number += 1


def series_at(session: Session, series: Series, window: int) -> int:
    rate: Rate = session.get(spaces.rate(series))
    return rate.at(window)


def class_rates(session: Session, window: int, tariff_class: int) -> Rates:
    """The rates in force in `window` for one class, which is number 0 of them: it alone is read."""
    tariff: Tariff = session.get(spaces.tariff(tariff_class))
    terms = tariff.at(window)
    peak = is_on_peak(session, window)
    return Rates(peak, (terms.on_peak if peak else terms.off_peak,), series_at(session, Series.FT, window),
                 series_at(session, Series.BUY_BACK, window), series_at(session, Series.VAT, window))


def window_rates(session: Session, parameters: Parameters, window: int) -> Rates:
    """The rates in force in `window`."""
    peak = is_on_peak(session, window)
    classes = list(tariff_classes(session))
    terms = [tariff.at(window) for tariff in classes]
    opened = tuple(tariff.versions[0][0] <= window for tariff in classes)
    return Rates(peak, tuple(term.on_peak if peak else term.off_peak for term in terms),
                 series_at(session, Series.FT, window), series_at(session, Series.BUY_BACK, window),
                 series_at(session, Series.VAT, window), parameters.reference_tariff, () if all(opened) else opened)
