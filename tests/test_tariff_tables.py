"""Versioned tables on chain: who may publish, from when, what stays as it was; genesis keys of tariffs."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from ledger_support import ISSUER, REGULATOR, START_MS, Chain, genesis, key, trading_chain

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.grid.kinds import Voltage
from gridtokenx.ledger import spaces
from gridtokenx.ledger.genesis import GenesisError, dump_genesis, parse_genesis
from gridtokenx.ledger.operations import (
    Operation,
    PlaceOrder,
    PublishCalendar,
    PublishRate,
    PublishSchedule,
    PublishTariff,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.tariff_queries import rates
from gridtokenx.ledger.tariff_records import Rate, Series
from gridtokenx.market.orders import Side
from gridtokenx.market.tables import KEPT_WINDOWS, VERSIONS_MOST
from gridtokenx.market.tariffs import bangkok_day, first_day, month_of

NOW = START_MS // 900_000                  # Monday 11 May 2026, 09:00
TODAY = bangkok_day(START_MS // 1000)
FAR = NOW + 1000


def codes(chain: Chain, *operations: Operation | list[Any], sender: PrivateKey = REGULATOR) -> list[Code]:
    return [outcome.code for outcome in chain.do(sender, *operations)]


def test_a_new_ft_applies_from_its_window_on_and_never_before() -> None:
    chain = Chain(genesis())
    assert codes(chain, PublishRate(Series.FT, NOW + 10, -200_000), PublishRate(Series.FT, FAR, 300_000),
                 PublishRate(Series.BUY_BACK, FAR, 2_000_000), PublishRate(Series.VAT, FAR, 100_000)) == [Code.OK] * 4
    assert [rates(chain.head, window)["ft_uthb_kwh"] for window in (0, NOW + 9, NOW + 10, FAR - 1, FAR)] == [
        162_300, 162_300, -200_000, -200_000, 300_000]
    later = rates(chain.head, FAR)
    assert (later["buy_back_uthb_kwh"], later["vat_ppm"]) == (2_000_000, 100_000)
    # What was announced for windows that do not deliver yet is replaced, that of FAR too.
    assert codes(chain, PublishRate(Series.FT, NOW + 5, 0)) == [Code.OK]
    assert [rates(chain.head, window)["ft_uthb_kwh"] for window in (NOW + 4, NOW + 5, FAR)] == [162_300, 0, 0]


def test_only_a_regulator_and_only_the_future() -> None:
    chain = Chain(genesis())
    future = (PublishRate(Series.FT, FAR, 0), PublishTariff(0, "x", Voltage.BELOW_12_KV, FAR, 1, 1),
              PublishCalendar(2026, ()), PublishSchedule(FAR, 0, 0))
    assert codes(chain, *future, sender=ISSUER) == [Code.NOT_ALLOWED] * 4
    before = chain.head.get(spaces.rate(Series.FT))
    chain.until(START_MS + 900_000)
    assert codes(chain, PublishRate(Series.FT, NOW + 1, 0), PublishSchedule(NOW, 0, 0),
                 PublishTariff(0, "residential and small general TOU, low voltage", Voltage.BELOW_12_KV, NOW, 1, 1),
                 PublishTariff(0, "another", Voltage.BELOW_12_KV, FAR, 1, 1),
                 PublishTariff(9, "far", Voltage.BELOW_12_KV, FAR, 1, 1),
                 [41, 4, FAR, 0], [41, 1, FAR, 10**9], [42, 2026, [5]], [42, 2026, 5],
                 [40, 5, "b", 0, FAR, 1, 1, 0, 0, [[5, 1], [5, 2], [0, 3]]],
                 [40, 5, "b", 0, FAR, 1, 1, 0, 0, [[5, 2], [0, 3]]],
                 [40, 5, "b", 0, FAR, 1, 1, 0, 0, [[5, 1], [0, 0]]], [40, 5, "b", 0, FAR, 1, 1, 0, 0, [[5, 1]]],
                 [40, 5, "b", 0, FAR, 1, 1, 0, 0, [[5]]]) == [
        Code.VERSION_TOO_LATE, Code.VERSION_TOO_LATE, Code.VERSION_TOO_LATE, Code.OTHER_CLASS, Code.UNKNOWN_TARIFF,
        Code.OUT_OF_RANGE, Code.OUT_OF_RANGE, Code.OUT_OF_RANGE, Code.BAD_FIELDS, *[Code.BAD_BLOCKS] * 3,
        Code.BAD_BLOCKS, Code.BAD_FIELDS]
    assert chain.head.get(spaces.rate(Series.FT)) == before


def test_classes_change_by_version_and_new_ones_open() -> None:
    chain = Chain(genesis())
    name = "residential and small general TOU, low voltage"
    blocks = ((150_000, 3_248_400), (400_000, 4_221_800), (0, 4_421_700))
    assert codes(chain, PublishTariff(0, name, Voltage.BELOW_12_KV, FAR, 6_000_000, 2_700_000, service=24_620_000),
                 PublishTariff(5, "residential 1.2", Voltage.BELOW_12_KV, FAR, 3_248_400, 3_248_400,
                               blocks=blocks)) == [Code.OK, Code.OK]
    assert rates(chain.head, NOW)["energy_uthb_kwh"][0] == 5_798_200
    assert rates(chain.head, NOW)["energy_uthb_kwh"][5] == 3_248_400    # before the first version: the first
    assert rates(chain.head, FAR)["energy_uthb_kwh"][0] in (6_000_000, 2_700_000)


def test_calendar_and_schedule() -> None:
    chain = Chain(genesis())
    day = 86_400 // 900
    assert codes(chain, PublishCalendar(2026, (TODAY,)), PublishCalendar(2026, (TODAY + 1, TODAY + 30)),
                 PublishCalendar(2026, (TODAY + 1,))) == [Code.DAY_BEGUN, Code.OK, Code.OK]
    assert [rates(chain.head, NOW + n * day)["on_peak"] for n in range(3)] == [True, False, True]
    # 18:00 to 22:00 on every day, from the day after tomorrow on.
    assert codes(chain, PublishSchedule(NOW + 2 * day, 0b1111 << 18, 0b1111111)) == [Code.OK]
    assert [rates(chain.head, NOW + n * day)["on_peak"] for n in range(3)] == [True, False, False]
    assert rates(chain.head, NOW + 2 * day + 9 * 4)["on_peak"]
    assert rates(chain.head, NOW + 5 * day + 9 * 4)["on_peak"]              # a Saturday


def test_old_versions_leave_only_when_nothing_needs_them() -> None:
    chain = Chain(genesis(rate=100_000))
    assert codes(chain, *[PublishRate(Series.FT, FAR + n, n) for n in range(VERSIONS_MOST - 1)]) == [
        Code.OK] * (VERSIONS_MOST - 1)
    assert codes(chain, PublishRate(Series.FT, FAR + 100, 7)) == [Code.TOO_MANY_VERSIONS]
    chain.until((FAR + KEPT_WINDOWS + 300) * 900_000)
    assert codes(chain, PublishRate(Series.FT, 2 * FAR, 7)) == [Code.OK]
    kept = Rate.decode(chain.head.get(spaces.rate(Series.FT)) or b"")
    assert len(kept.versions) == VERSIONS_MOST
    assert kept.versions[0] == (FAR, 0)


def test_an_order_pays_the_vat_of_its_window() -> None:
    chain = trading_chain(2)
    assert codes(chain, PublishRate(Series.VAT, chain.window + 1, 0)) == [Code.OK]
    house = key("house 0")
    chain.do(house, *[PlaceOrder(1, chain.window + later, Side.BUY, 4000, 1000) for later in range(2)])
    bids = chain.account(house).bids
    assert bids == -(-4000 * 1000 * 1005 * 107 // 100_000) + 4000 * 1000 * 1005 // 1000


def test_months() -> None:
    day = (date(2026, 5, 31) - date(1970, 1, 1)).days
    assert (month_of(day), month_of(day + 1)) == (2026 * 12 + 4, 2026 * 12 + 5)
    assert first_day(2026 * 12 + 5) == day + 1


BASE = dump_genesis(genesis())
CLASS = 'name = "medium general, below 12 kV"\nvoltage = "below 12 kV"\nservice_uthb_month = 0\ndemand_uthb_kw = 0\n'
RATES = "on_peak_uthb_kwh = 4329700\noff_peak_uthb_kwh = 2636900"


@pytest.mark.parametrize("lines, terms", [
    ("base_uthb_kwh = 4_000_000\npeak_multiplier = 1.5", (0, 6_000_000, 4_000_000, 0, 0, ())),
    ("base_uthb_kwh = 4_000_001\npeak_multiplier = 1.000001", (0, 4_000_005, 4_000_001, 0, 0, ())),
    ("base_uthb_kwh = 1\npeak_multiplier = 2", (0, 2, 1, 0, 0, ())),
    ("blocks = [{ upto_wh = 5, uthb_kwh = 7 }, { uthb_kwh = 9 }]", (0, 7, 7, 0, 0, ((5, 7), (0, 9)))),
])
def test_genesis_takes_simple_settings(lines: str, terms: tuple[object, ...]) -> None:
    assert CLASS + RATES in BASE
    made = parse_genesis(BASE.replace(CLASS + RATES, CLASS + lines).replace(
        "peak_hours = [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]", "peak_hours = [18, 19, 20]"))
    assert made.tariffs[2].versions == (terms,)
    assert made.schedule.versions == ((0, 0b111 << 18, 0b11111),)
    assert parse_genesis(dump_genesis(made)) == made


@pytest.mark.parametrize("find, replace, message", [
    (RATES, "base_uthb_kwh = 4\npeak_multiplier = 1.5000001", "peak_multiplier is 1.5000001; a number from 0 to 100"),
    (RATES, 'base_uthb_kwh = 4\npeak_multiplier = "2"', "tariffs[2].peak_multiplier is '2'; a number"),
    (RATES, "base_uthb_kwh = 4", "tariffs[2].peak_multiplier is missing; it is a number like 1.5"),
    (RATES, "base_uthb_kwh = 4\npeak_multiplier = 1.5\noff_peak_uthb_kwh = 3", "off_peak_uthb_kwh is unknown"),
    (RATES, "blocks = [{ uthb_kwh = 7 }, { uthb_kwh = 9 }]", "tariffs[2].blocks[0].upto_wh is missing"),
    (RATES, "blocks = [{ upto_wh = 5, uthb_kwh = 7 }, { upto_wh = 9, uthb_kwh = 9 }]", "blocks[1].upto_wh is unknown"),
    (RATES, "blocks = []", "[[tariffs[2].blocks]] occurs 0; 1 to 8"),
    ('voltage = "below 12 kV"', 'voltage = "110 V"', "tariffs[0].voltage is '110 V'; one of below 12 kV, 12-24 kV"),
    ("peak_weekdays = [1,", "peak_weekdays = [0,", "time_of_use.peak_weekdays is [0, 2, 3, 4, 5]; a list of integers"),
    ("peak_hours = [9,", "peak_hours = [10,", "time_of_use.peak_hours must not repeat"),
    ("[time_of_use]", "[time_of_use]\nsummer = true", "time_of_use.summer is unknown here"),
    ("ft_uthb_kwh = 162300", "ft_uthb_kwh = 99999999", "rates.ft_uthb_kwh is 99999999; an integer from -10000000"),
    ("[parameters]", "[parameters]\nft_uthb_kwh = 1", "no parameter 'ft_uthb_kwh'"),
    ("regulators = [", "regulators = [5, ", "roles.regulators[0] must be an address"),
])
def test_mistakes_in_tariffs_are_named(find: str, replace: str, message: str) -> None:
    assert find in BASE
    with pytest.raises(GenesisError) as wrong:
        parse_genesis(BASE.replace(find, replace, 1) if find != RATES else BASE.replace(CLASS + RATES, CLASS + replace))
    assert message in str(wrong.value)
