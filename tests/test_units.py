"""Integers with units: rounding, ranges, decimal text, windows, Bangkok's calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx import units
from gridtokenx.units import INT64_MAX, INT64_MIN, RangeError, UnitError

BIG = st.integers(-(1 << 128), 1 << 128)
DENOMINATOR = st.integers(1, 1 << 70)
INT64 = st.integers(INT64_MIN, INT64_MAX)


@given(BIG, DENOMINATOR)
def test_division(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert units.floor_div(numerator, denominator) == floor(exact)
    assert units.ceil_div(numerator, denominator) == ceil(exact)
    rounded = units.round_half_up(numerator, denominator)
    assert abs(rounded - exact) <= Fraction(1, 2)
    if abs(rounded - exact) == Fraction(1, 2):
        assert abs(rounded) > abs(exact)
    assert units.round_half_up(-numerator, denominator) == -rounded


@given(st.integers(-10_000, 10_000), st.sampled_from([1, 2, 4, 5, 8, 10, 20, 1000]))
def test_rounding_is_decimals_half_up(numerator: int, denominator: int) -> None:
    exact = Decimal(numerator) / Decimal(denominator)
    assert units.round_half_up(numerator, denominator) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@pytest.mark.parametrize("divide", [units.round_half_up, units.ceil_div, units.floor_div])
@pytest.mark.parametrize("denominator", [0, -1, pytest.param(-(10 ** 5000), id="huge")])
def test_denominators_must_be_positive(divide: object, denominator: int) -> None:
    with pytest.raises(UnitError, match="positive"):
        divide(1, denominator)  # type: ignore[operator]


def test_checked_integers() -> None:
    for check, low, high in [(units.check_int64, INT64_MIN, INT64_MAX), (units.check_amount, 0, INT64_MAX),
                             (units.check_int32, units.INT32_MIN, units.INT32_MAX)]:
        assert check("x", low) == low
        assert check("x", high) == high
        for value in (low - 1, high + 1, 10 ** 5000):
            with pytest.raises(RangeError, match="fee is "):
                check("fee", value)
            with pytest.raises(OverflowError):
                check("fee", value)
        for wrong in (True, 1.0, "1", None):
            with pytest.raises(UnitError, match="must be an integer"):
                check("fee", wrong)  # type: ignore[arg-type]


def test_prices() -> None:
    assert [units.check_price("price", value) for value in (0, 10, 1_000_000)] == [0, 10, 1_000_000]
    for value in (-10, 1_000_010):
        with pytest.raises(RangeError, match="0 to 1000000"):
            units.check_price("price", value)
    with pytest.raises(UnitError, match="tick"):
        units.check_price("price", 4505)
    assert units.value_uthb(4500, 1500) == 6_750_000  # 4.50 THB/kWh x 1.5 kWh = 6.75 THB
    with pytest.raises(RangeError, match="value"):
        units.value_uthb(1_000_000, 1 << 60)
    assert units.line_uthb(1500, 4_183_901) == 6_275_852  # 6 275 851.5
    assert units.line_uthb(1500, -4_183_901) == -6_275_852
    with pytest.raises(RangeError, match="line"):
        units.line_uthb(1 << 62, 1 << 62)
    assert [units.quarter_hour_wh(watt) for watt in (0, 3, 4, 10_003)] == [0, 0, 1, 2500]


# ---------------------------------------------------------------- decimal text

PAIRS = [(units.parse_thb, units.format_thb, 6), (units.parse_kwh, units.format_kwh, 3),
         (units.parse_rate, units.format_rate, 6)]


@given(INT64, st.sampled_from(PAIRS))
def test_text_round_trip(value: int, pair: tuple) -> None:
    parse, form, places = pair
    assert parse(form(value)) == value
    assert Fraction(form(value)) == Fraction(value, 10 ** places)


@given(st.integers(0, 100_000))
def test_price_round_trip(ticks: int) -> None:
    assert units.parse_price(units.format_price(10 * ticks)) == 10 * ticks


def test_examples() -> None:
    assert units.parse_thb("12.345678") == 12_345_678
    assert units.parse_thb("-0.5") == -500_000
    assert units.parse_thb("007") == 7_000_000
    assert units.parse_kwh("1.5") == 1500
    assert units.parse_price("4.50") == 4500
    assert units.parse_rate("4.1839") == 4_183_900
    assert units.format_thb(12_500_000) == "12.50"
    assert units.format_thb(-1) == "-0.000001"
    assert units.format_thb(0) == "0.00"
    assert units.format_kwh(1500) == "1.5"
    assert units.format_kwh(2000) == "2"
    assert units.format_price(4500) == "4.50"
    assert units.format_rate(4_183_900) == "4.1839"
    assert units.format_decimal(-5, 0) == "-5"
    assert units.parse_decimal("5", 0) == 5


@pytest.mark.parametrize("text", [
    "", " ", "1 ", "+1", "1,5", "1.", ".5", "1e3", "0x1", "NaN", "inf", "--1", "1_000", "๑๒", "1.2.3", "1\n", "9" * 200,
])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UnitError, match="is not a decimal number"):
        units.parse_thb(text)


def test_too_fine_or_too_large() -> None:
    with pytest.raises(UnitError, match="7 decimals; at most 6"):
        units.parse_thb("1.2345670")
    with pytest.raises(UnitError, match="at most 3"):
        units.parse_kwh("0.0001")
    with pytest.raises(RangeError, match="amount in THB"):
        units.parse_thb("9223372036855")
    with pytest.raises(UnitError, match="tick"):
        units.parse_price("4.505")
    with pytest.raises(RangeError):
        units.parse_price("1000.01")
    with pytest.raises(RangeError):
        units.parse_price("-1")


@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    try:
        value = units.parse_thb(text)
    except UnitError:
        return
    assert Fraction(text) * 1_000_000 == value


# ---------------------------------------------------------------- windows (MARKET 2)


@given(st.integers(0, units.INT32_MAX - 1))
def test_window_times(window: int) -> None:
    start = units.delivery_start_s(window)
    assert start == 900 * window
    assert units.delivery_end_s(window) == units.delivery_start_s(window + 1)
    assert units.window_at(start) == window == units.window_at(units.delivery_end_s(window) - 1)
    assert units.window_at(start - 1) == window - 1
    assert units.opens_s(window) == start - 604_800
    assert units.gate_s(window) == start - 900
    assert units.reading_deadline_s(window) == start + 900 + 3600
    assert units.correction_deadline_s(window) == start + 900 + 604_800
    assert units.opens_s(window) < units.day_ahead_close_s(window) < units.gate_s(window)


def test_day_ahead_closes_at_noon_the_day_before() -> None:
    noon = units.bangkok_s(2026, 3, 1, 12)
    for moment in [(2026, 3, 2, 0, 0), (2026, 3, 2, 23, 45)]:
        assert units.day_ahead_close_s(units.window_at(units.bangkok_s(*moment))) == noon
    assert units.day_ahead_close_s(units.window_at(units.bangkok_s(2026, 3, 1, 23, 45))) == noon - 86_400


def test_market_clock() -> None:
    assert units.market_time_ms(1000, 1, 5000, 5000) == 1_000_000
    assert units.market_time_ms(1000, 60, 5000, 5500) == 1_030_000
    with pytest.raises(RangeError, match="market time"):
        units.market_time_ms(0, 1 << 40, 0, 1 << 40)


# ---------------------------------------------------------------- Bangkok

BANGKOK = timezone(timedelta(hours=7))


@given(st.integers(-62_135_571_600, 253_402_275_599))
def test_calendar_equals_datetime(time_s: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_s)
    local = moment.astimezone(BANGKOK)
    here = units.bangkok_time(time_s)
    assert (here.year, here.month, here.day, here.hour, here.minute, here.second, here.weekday) == (
        local.year, local.month, local.day, local.hour, local.minute, local.second, local.weekday())
    assert units.bangkok_s(here.year, here.month, here.day, here.hour, here.minute, here.second) == time_s
    assert here.seconds_of_day == time_s - units.bangkok_midnight_s(units.bangkok_day(time_s))
    assert units.bangkok_date(units.bangkok_day(time_s)) == (local.year, local.month, local.day)


def test_calendar_examples() -> None:
    assert units.bangkok_s(1970, 1, 1, 7) == 0
    assert units.bangkok_day(17 * 3600 - 1) == 0
    assert units.bangkok_day(17 * 3600) == 1
    assert units.bangkok_time(0).weekday == 3  # a Thursday


def test_impossible_dates() -> None:
    for moment in [(2026, 2, 29), (2026, 13, 1), (0, 1, 1), (10_000, 1, 1), (1 << 80, 1, 1), (2026, 1, 1, 24),
                   (2026, 1, 1, 0, 60), (2026, 1, 1, 0, 0, -1)]:
        with pytest.raises(UnitError, match="no such"):
            units.bangkok_s(*moment)
    for time_s in (1 << 62, -(1 << 62), 253_402_275_600):
        with pytest.raises(RangeError, match="years 1 to 9999"):
            units.bangkok_time(time_s)
