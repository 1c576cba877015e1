"""Records of tariffs: versioned tables of what utilities charge and pay, and what a month adds to the bill.

A version is a tuple that begins with the first window it applies to; the versions of a table are in that order.
What lies before the first one has the first one's values. `market.tables` says when a version may be set.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from attrs import frozen

from gridtokenx.ledger.records import Record

Versions = tuple[tuple[Any, ...], ...]


def version_at(versions: Versions, window: int) -> tuple[Any, ...]:
    """The version in force in `window`."""
    found = versions[0]
    for version in versions:
        if version[0] > window:
            break
        found = version
    return found


class Series(IntEnum):
    """Tables of one number, for all classes alike. Numbers are in state keys: frozen."""

    FT = 1              # fuel adjustment on every kWh supplied, uTHB/kWh; may be negative
    BUY_BACK = 2        # what utilities pay for surplus, uTHB/kWh
    VAT = 3             # ppm


SERIES_BOUNDS = {Series.FT: (-10_000_000, 10_000_000), Series.BUY_BACK: (0, 10**8), Series.VAT: (0, 500_000)}
# What `market.money` says of 64 bits rests on these.
RATE_MOST = 10**8               # uTHB/kWh
SERVICE_MOST = 10**12           # uTHB a month
DEMAND_MOST = 10**10            # uTHB per kW and month
BLOCKS_MOST = 8
BLOCK_EDGE_MOST = 10**12        # Wh
MAX_TARIFFS = 256


@frozen
class Rate(Record):
    """A series: versions (first window, value)."""

    versions: tuple[tuple[int, int], ...]

    def at(self, window: int) -> int:
        value: int = version_at(self.versions, window)[1]
        return value


@frozen
class Schedule(Record):
    """When it is on-peak: versions (first window, hours, weekdays).

    Bit h of `hours` is the hour from h:00 in Bangkok, bit d of `weekdays` the weekday, 0 Monday. Holidays are
    off-peak all day.
    """

    versions: tuple[tuple[int, int, int], ...]

    def at(self, window: int) -> tuple[int, int]:
        """(hours, weekdays)"""
        _, hours, weekdays = version_at(self.versions, window)
        return hours, weekdays


@frozen
class Calendar(Record):
    """Days of one year (since 1970-01-01, Bangkok) that are off-peak all day although they are no weekend."""

    holidays: tuple[int, ...]


@frozen
class Terms:
    """One version of a class. Rates uTHB/kWh without Ft and VAT; service uTHB a month, demand uTHB per kW and month.

    `blocks` are (first Wh of the month that it does not cover, rate), the last with 0 for no end; empty without
    a block tariff. Then every window is charged at the first block's rate and the month-end run adds the rest.
    """

    since: int
    on_peak: int
    off_peak: int
    service: int
    demand: int
    blocks: tuple[tuple[int, int], ...]


@frozen
class Tariff(Record):
    """A retail class; versions are the fields of `Terms`."""

    name: str
    voltage: int
    versions: Versions

    def at(self, window: int) -> Terms:
        return Terms(*version_at(self.versions, window))


# ------------------------------------------------------------------ the month


@frozen
class Billing(Record):
    """How far the month's work has come: meters up to `meter` are counted, or with `counted` 1 billed."""

    meter: int = 0
    counted: int = 0


@frozen
class Usage(Record):
    """A meter's energy of a month, of windows whose corrections have ended.

    `supplied_wh` is withdrawal not covered by purchases; `peak_wh` the greatest withdrawal of an on-peak window.
    """

    withdrawn_wh: int = 0
    supplied_wh: int = 0
    peak_wh: int = 0


@frozen
class MonthlyBill(Record):
    """What a month added to a meter's bill; lines as in `metering_records.Settlement`."""

    owner: bytes
    zone: int
    tariff: int
    withdrawn_wh: int
    supplied_wh: int
    demand_w: int
    lines: tuple[tuple[int, int, int, int], ...]


# ------------------------------------------------------------------ prices for information


@frozen
class Indicative(Record):
    """The indicative price of a zone and window (`market.indicative`) and what it follows from.

    Until the gate's work is done, energies are those of the orders closed so far and the price is 0. Utilisation is
    that of the zone's corridors: above zero into the zone, below zero out of it.
    """

    price_mthb_kwh: int = 0
    demand_wh: int = 0
    supply_wh: int = 0
    renewable_wh: int = 0
    utilisation_ppm: int = 0


def tariff(name: str, on_peak: int, off_peak: int, *, voltage: int = 0, service: int = 0, demand: int = 0) -> Tariff:
    """A time-of-use class with one version, in force from the beginning."""
    return Tariff(name, voltage, ((0, on_peak, off_peak, service, demand, ()),))


def block_tariff(name: str, *blocks: tuple[int, int], voltage: int = 0, service: int = 0) -> Tariff:
    """A class whose rate rises with the month's energy: (upper edge Wh, rate), the last with edge 0."""
    first = blocks[0][1]
    return Tariff(name, voltage, ((0, first, first, service, 0, blocks),))


THAI_SCHEDULE = Schedule(((0, sum(1 << hour for hour in range(9, 22)), 0b0011111),))
"""Monday to Friday 09:00 to 22:00 [A, MEA]."""
