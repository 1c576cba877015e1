"""Time of use by Bangkok's calendar, and the band that hangs on the reference price (MARKET 3; THAILAND, time)."""

from __future__ import annotations

from datetime import date

from attrs import frozen

from gridtokenx.market.money import PPM

BANGKOK_S = 7 * 3600
DAY_S = 86_400
MTHB = 1000                 # uTHB in one mTHB
TICK = 10                   # mTHB/kWh
LOT_WH = 100
PRICE_MOST = 1_000_000      # mTHB/kWh


def bangkok_day(unix_s: int) -> int:
    """Days since 1970-01-01 on the calendar of Bangkok."""
    return (unix_s + BANGKOK_S) // DAY_S


_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH_ORDINAL


def year_of(day: int) -> int:
    """The year of a day as `bangkok_day` counts them; of days after 9999, 9999."""
    return date.fromordinal(min(day, _LAST_DAY) + _EPOCH_ORDINAL).year


def month_of(day: int) -> int:
    """Months since the year 0: 12 x year + month - 1."""
    found = date.fromordinal(min(day, _LAST_DAY) + _EPOCH_ORDINAL)
    return 12 * found.year + found.month - 1


def first_day(month: int) -> int:
    """The first day of a month as `month_of` counts them."""
    return date(month // 12, month % 12 + 1, 1).toordinal() - _EPOCH_ORDINAL


def on_peak(unix_s: int, hours: int, weekdays: int, holidays: tuple[int, ...]) -> bool:
    """Whether a moment is on-peak: bit of its hour and of its weekday set, and its day no holiday.

    Bit 0 of `weekdays` is Monday; `holidays` are days as `bangkok_day` counts them.
    """
    day, second = divmod(unix_s + BANGKOK_S, DAY_S)
    weekday = (day + 3) % 7     # 1970-01-01 was a Thursday
    return bool(hours >> second // 3600 & 1 and weekdays >> weekday & 1) and day not in holidays


@frozen
class Band:
    """Limits that an order may carry, mTHB/kWh, both included, before rounding to the tick."""

    low: int
    high: int

    def admits(self, price: int) -> bool:
        return self.low <= price <= self.high


def band(reference_uthb_kwh: int, buy_back_uthb_kwh: int, band_ppm: int) -> Band:
    """+-band around the reference, the lower edge moved down to the buy-back rate where that is lower.

    Before a day-ahead price exists the reference is the residential time-of-use energy rate + Ft. An edge that
    is no whole mTHB is rounded inwards.
    """
    low = min(reference_uthb_kwh * (PPM - band_ppm), buy_back_uthb_kwh * PPM)
    high = reference_uthb_kwh * (PPM + band_ppm)
    return Band(-(-low // (PPM * MTHB)), high // (PPM * MTHB))
