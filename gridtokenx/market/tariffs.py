"""Time of use by the Thai calendar, and the reference price that the band hangs on (MARKET 3; THAILAND, time).

On-peak is Monday to Friday 09:00 to 22:00 in Bangkok, except the days of the calendar record.
"""

from __future__ import annotations

from attrs import frozen

from gridtokenx.market.money import PPM

BANGKOK_S = 7 * 3600
DAY_S = 86_400
PEAK_FROM_S = 9 * 3600
PEAK_TO_S = 22 * 3600
MTHB = 1000                 # uTHB in one mTHB
TICK = 10                   # mTHB/kWh
LOT_WH = 100
PRICE_MOST = 1_000_000      # mTHB/kWh


def bangkok_day(unix_s: int) -> int:
    """Days since 1970-01-01 on the calendar of Bangkok."""
    return (unix_s + BANGKOK_S) // DAY_S


def on_peak(unix_s: int, holidays: frozenset[int]) -> bool:
    """Whether a moment is on-peak; `holidays` are days as `bangkok_day` counts them."""
    day, second = divmod(unix_s + BANGKOK_S, DAY_S)
    weekday = (day + 3) % 7     # 1970-01-01 was a Thursday; 0 is Monday
    return weekday < 5 and PEAK_FROM_S <= second < PEAK_TO_S and day not in holidays


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
