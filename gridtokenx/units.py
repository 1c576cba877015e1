"""Quantities of DESIGN 3 as integers with units, and the arithmetic on them. No floats anywhere.

Names end in their unit: `_wh`, `_uthb` (micro-baht), `_mthb` (milli-baht per kWh), `_uthb_kwh`, `_w`, `_ppm`,
`_ms`, `_s`. Price in mTHB/kWh times energy in Wh is exactly uTHB. Overflow is an error, never a wrap.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TypeAlias

from attrs import frozen

from gridtokenx.errors import GridTokenXError

Wh: TypeAlias = int                 # energy and GT; 1 GT = 1 kWh = 1000 Wh; int64
MilliBahtPerKwh: TypeAlias = int    # order price; int32
MicroBahtPerKwh: TypeAlias = int    # tariff, Ft, wheeling; int64
MicroBaht: TypeAlias = int          # money; int64
Watt: TypeAlias = int               # power, capacity; int64
MicrogramPerWh: TypeAlias = int     # CO2; int64; 0.4750 kg/kWh = 475 000
Ppm: TypeAlias = int                # ratio: loss, fee, VAT; int32
Millihertz: TypeAlias = int         # frequency; int32
UnixMs: TypeAlias = int             # time, UTC; int64
UnixSeconds: TypeAlias = int        # market time where windows are computed
Window: TypeAlias = int             # delivery window: Unix seconds // 900; int32

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

WH_PER_KWH = 1_000
UTHB_PER_THB = 1_000_000
MTHB_PER_THB = 1_000
PPM = 1_000_000
NOMINAL_MILLIHERTZ = 50_000

PRICE_TICK_MTHB = 10
PRICE_MAX_MTHB = 1_000_000
LOT_WH = 100
ORDER_MAX_WH = 10_000 * WH_PER_KWH
CERTIFICATE_WH = 1_000_000
WHEELING_MAX_UTHB_KWH = 1_000_000_000

# MARKET 2, all relative to the window's delivery in [900 w, 900 (w + 1)).
WINDOW_SECONDS = 900
OPENS_BEFORE_DELIVERY_S = 604_800
GATE_BEFORE_DELIVERY_S = 900
READING_AFTER_DELIVERY_S = 3_600        # after the delivery's end
CORRECTION_AFTER_DELIVERY_S = 604_800   # after the delivery's end
DAY_AHEAD_CLOSE_S = 12 * 3_600          # 12:00 Bangkok time on the day before delivery (MARKET 6)

BANGKOK_OFFSET_S = 7 * 3_600            # no daylight saving since 1920
DAY_SECONDS = 86_400


class UnitError(GridTokenXError, ValueError):
    """A number or text that is not the quantity it should be."""


class RangeError(UnitError, OverflowError):
    """An integer outside the range of its type."""


# ---------------------------------------------------------------- checked integers


def check_int64(name: str, value: int) -> int:
    """`value`, if it is an integer of 64 bits. Raises RangeError naming it otherwise (UnitError for a non-integer)."""
    return _check(name, value, INT64_MIN, INT64_MAX)


def check_int32(name: str, value: int) -> int:
    """`value`, if it is an integer of 32 bits. Raises RangeError naming it otherwise (UnitError for a non-integer)."""
    return _check(name, value, INT32_MIN, INT32_MAX)


def check_amount(name: str, value: int) -> int:
    """`value`, if it is 0 to 2^63-1. Raises RangeError naming it otherwise (UnitError for a non-integer)."""
    return _check(name, value, 0, INT64_MAX)


def check_price(name: str, value: MilliBahtPerKwh) -> MilliBahtPerKwh:
    """`value`, if it is an order price: 0 to 1 000 000 mTHB/kWh on the tick of 10. Raises RangeError or UnitError."""
    _check(name, value, 0, PRICE_MAX_MTHB)
    if value % PRICE_TICK_MTHB:
        raise UnitError(f"{name} {value} mTHB/kWh is not a multiple of the tick, {PRICE_TICK_MTHB}")
    return value


def _check(name: str, value: int, low: int, high: int) -> int:
    if type(value) is not int:
        raise UnitError(f"{name} must be an integer, not {type(value).__name__}")
    if not low <= value <= high:
        raise RangeError(f"{name} is {_short(value)}; {low} to {high} are allowed")
    return value


def _short(value: int) -> str:
    """Bounds the text: a hostile integer may be longer than Python prints."""
    return str(value) if value.bit_length() <= 256 else f"an integer of {value.bit_length()} bits"


# ---------------------------------------------------------------- division


def round_half_up(numerator: int, denominator: int) -> int:
    """The nearest integer to `numerator / denominator`; exactly half goes away from zero.

    So a line of -x is the mirror of a line of x, whoever is debited. For amounts from zero on, which are all that
    MARKET rounds but for a negative Ft, this is the usual rounding half up. Raises UnitError unless the
    denominator is positive.
    """
    _positive(denominator)
    if numerator < 0:
        return -((-2 * numerator + denominator) // (2 * denominator))
    return (2 * numerator + denominator) // (2 * denominator)


def ceil_div(numerator: int, denominator: int) -> int:
    """The least integer not below `numerator / denominator`. Raises UnitError unless the denominator is positive."""
    _positive(denominator)
    return -(-numerator // denominator)


def floor_div(numerator: int, denominator: int) -> int:
    """The greatest integer not above `numerator / denominator`. Raises UnitError unless the denominator is positive."""
    _positive(denominator)
    return numerator // denominator


def _positive(denominator: int) -> None:
    if denominator <= 0:
        raise UnitError(f"a denominator must be positive, not {_short(denominator)}")


def value_uthb(price_mthb: MilliBahtPerKwh, energy_wh: Wh) -> MicroBaht:
    """Exact value of energy at an order price. Raises RangeError beyond int64."""
    return check_int64("value", price_mthb * energy_wh)


def line_uthb(energy_wh: Wh, rate_uthb_kwh: MicroBahtPerKwh) -> MicroBaht:
    """One bill line, `round_half_up(Wh * rate / 1000)` (MARKET 7.5). Raises RangeError beyond int64."""
    return check_int64("line", round_half_up(energy_wh * rate_uthb_kwh, WH_PER_KWH))


def quarter_hour_wh(power_w: Watt) -> Wh:
    """The energy of a power over one window, `floor(W / 4)` (MARKET 3, 4)."""
    return power_w // 4


# ---------------------------------------------------------------- decimal text

_DECIMAL = re.compile(r"(-?)([0-9]{1,19})(?:\.([0-9]{1,18}))?", re.ASCII)


def parse_decimal(text: str, places: int, name: str = "number") -> int:
    """`text` times 10^places, exactly: an optional minus, digits, optionally a point and up to `places` digits.

    Raises UnitError naming what is wrong (too many decimals are refused, never rounded), RangeError beyond int64.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise UnitError(f"{name} {shown!r} is not a decimal number such as 12 or 12.5 (digits and one point)")
    sign, whole, fraction = match[1], match[2], match[3] or ""
    if len(fraction) > places:
        raise UnitError(f"{name} {text} has {len(fraction)} decimals; at most {places} are allowed")
    value = int(whole + fraction.ljust(places, "0")) if whole + fraction else 0
    return check_int64(name, -value if sign else value)


def format_decimal(value: int, places: int, shown: int = 0) -> str:
    """`value / 10^places` exactly, with at least `shown` decimals and no further trailing zeros."""
    whole, fraction = divmod(abs(value), 10 ** places)
    digits = str(fraction).rjust(places, "0").rstrip("0").ljust(shown, "0") if places else ""
    return f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def parse_thb(text: str) -> MicroBaht:
    """Baht to uTHB: "12.345678" is 12 345 678. Raises UnitError."""
    return parse_decimal(text, 6, "amount in THB")


def format_thb(value: MicroBaht) -> str:
    """uTHB to baht with at least two decimals: 12 500 000 is "12.50"."""
    return format_decimal(value, 6, 2)


def parse_kwh(text: str) -> Wh:
    """kWh to Wh: "1.5" is 1500. Raises UnitError."""
    return parse_decimal(text, 3, "energy in kWh")


def format_kwh(value: Wh) -> str:
    """Wh to kWh: 1500 is "1.5"."""
    return format_decimal(value, 3)


def parse_price(text: str) -> MilliBahtPerKwh:
    """An order price in THB/kWh to mTHB/kWh: "4.50" is 4500. Raises UnitError off the tick or out of range."""
    return check_price("price", parse_decimal(text, 3, "price in THB/kWh"))


def format_price(value: MilliBahtPerKwh) -> str:
    """mTHB/kWh to THB/kWh with at least two decimals: 4500 is "4.50"."""
    return format_decimal(value, 3, 2)


def parse_rate(text: str) -> MicroBahtPerKwh:
    """A tariff in THB/kWh to uTHB/kWh: "4.1839" is 4 183 900. Raises UnitError."""
    return parse_decimal(text, 6, "rate in THB/kWh")


def format_rate(value: MicroBahtPerKwh) -> str:
    """uTHB/kWh to THB/kWh with at least four decimals, as official tariffs are printed: "4.1839"."""
    return format_decimal(value, 6, 4)


# ---------------------------------------------------------------- windows


def window_at(time_s: UnixSeconds) -> Window:
    """The window that delivers at this second."""
    return time_s // WINDOW_SECONDS


def delivery_start_s(window: Window) -> UnixSeconds:
    return window * WINDOW_SECONDS


def delivery_end_s(window: Window) -> UnixSeconds:
    """The first second after the delivery."""
    return (window + 1) * WINDOW_SECONDS


def opens_s(window: Window) -> UnixSeconds:
    """The first second at which orders for the window are taken."""
    return delivery_start_s(window) - OPENS_BEFORE_DELIVERY_S


def gate_s(window: Window) -> UnixSeconds:
    """Gate closure: an operation at or past this second is late."""
    return delivery_start_s(window) - GATE_BEFORE_DELIVERY_S


def reading_deadline_s(window: Window) -> UnixSeconds:
    """Readings are taken before this second; then the window settles."""
    return delivery_end_s(window) + READING_AFTER_DELIVERY_S


def correction_deadline_s(window: Window) -> UnixSeconds:
    """Corrections are taken before this second; then the window is final."""
    return delivery_end_s(window) + CORRECTION_AFTER_DELIVERY_S


def day_ahead_close_s(window: Window) -> UnixSeconds:
    """The day-ahead auction's closing time: 12:00 Bangkok time on the day before the window's delivery day."""
    return bangkok_midnight_s(bangkok_day(delivery_start_s(window)) - 1) + DAY_AHEAD_CLOSE_S


def market_time_ms(start_s: UnixSeconds, rate: int, genesis_ms: UnixMs, block_ms: UnixMs) -> UnixMs:
    """The market clock of a block: `start + rate x (block timestamp - genesis timestamp)` (MARKET 2)."""
    return check_int64("market time", start_s * 1000 + rate * (block_ms - genesis_ms))


# ---------------------------------------------------------------- calendar of Asia/Bangkok

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@frozen
class LocalTime:
    """A moment on Bangkok's clock; `weekday` 0 is Monday."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    weekday: int

    @property
    def seconds_of_day(self) -> int:
        return self.hour * 3600 + self.minute * 60 + self.second


def bangkok_day(time_s: UnixSeconds) -> int:
    """Bangkok's calendar day as a count of days; day 0 is 1970-01-01."""
    return (time_s + BANGKOK_OFFSET_S) // DAY_SECONDS


def bangkok_midnight_s(day: int) -> UnixSeconds:
    """The second at which that day begins in Bangkok."""
    return day * DAY_SECONDS - BANGKOK_OFFSET_S


def bangkok_date(day: int) -> tuple[int, int, int]:
    """(year, month, day of month) of a day count. Raises RangeError outside the years 1 to 9999."""
    ordinal = _EPOCH_ORDINAL + day
    if not 1 <= ordinal <= date.max.toordinal():
        raise RangeError(f"day {_short(day)} lies outside the years 1 to 9999")
    found = date.fromordinal(ordinal)
    return found.year, found.month, found.day


def bangkok_day_of(year: int, month: int, day: int) -> int:
    """The day count of a date. Raises UnitError if there is no such date."""
    try:
        return date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except (ValueError, OverflowError) as error:
        raise UnitError(f"no such date: {year}-{month}-{day} ({error})") from error


def bangkok_time(time_s: UnixSeconds) -> LocalTime:
    """Bangkok's clock at a Unix second. Raises RangeError outside the years 1 to 9999."""
    count = bangkok_day(time_s)
    year, month, day = bangkok_date(count)
    seconds = time_s - bangkok_midnight_s(count)
    return LocalTime(year, month, day, seconds // 3600, seconds // 60 % 60, seconds % 60, (count + 3) % 7)


def bangkok_s(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> UnixSeconds:
    """The Unix second of a moment on Bangkok's clock. Raises UnitError if there is no such moment."""
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        raise UnitError(f"no such time of day: {hour}:{minute}:{second}")
    return bangkok_midnight_s(bangkok_day_of(year, month, day)) + hour * 3600 + minute * 60 + second
