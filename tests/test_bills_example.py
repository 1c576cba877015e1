"""The worked example of docs/bills.md, line by line, as a chain settles it: trades, readings, a week, a month's end."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from functools import cache
from math import floor
from pathlib import Path

import pytest
from attrs import define, evolve
from ledger_support import ISSUER, REGISTRAR, REGULATOR, THB, Chain, genesis, key

from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.metering_records import Settlement
from gridtokenx.ledger.operations import (
    Deposit,
    PlaceOrder,
    PublishRate,
    RegisterMeter,
    RegisterParticipant,
    ReportReadings,
    SignedReport,
    sign_reading,
)
from gridtokenx.ledger.tariff_records import MonthlyBill, Series, block_tariff, tariff
from gridtokenx.market.clock import WINDOW_MS, settles_ms
from gridtokenx.market.orders import Side
from gridtokenx.market.rules import BillRule
from gridtokenx.market.tariffs import month_of
from gridtokenx.units import bangkok_day_of, bangkok_s

PAGE = (Path(__file__).parent.parent / "docs" / "bills.md").read_text()
HOUSES = ("A", "B", "C")
MONEY = 10_000 * THB

DAY = 96
FIRST = bangkok_s(2026, 12, 25) // 900                          # the week's first window, Friday 00:00
END = FIRST + 7 * DAY
NEW_FT = FIRST + 4 * DAY                                        # Tuesday 29 December
NOON = FIRST + 3 * DAY + 48                                     # Monday 28 December, 12:00
TRADED = range(NOON, NOON + 4)
AT_ONCE = 4                                                     # windows that are reported together, within the hour
MONTH = month_of(bangkok_day_of(2026, 12, 31))

Line = tuple[int, int, int, int]


def reading(house: str, window: int) -> tuple[int, int]:
    """(injected, withdrawn) Wh of the example's households."""
    sun = 40 <= (window - FIRST) % DAY < 56                     # 10:00 to 14:00
    if house == "A":
        return (200 if window == NOON + 3 else 1000, 0) if sun else (0, 200)
    if house == "B":
        return 0, 200 if window == NOON + 3 else 400
    return 0, 333


def the_chain() -> Chain:
    classes = (tariff("residential TOU, low voltage", 5_798_200, 2_636_900, service=24_620_000),
               block_tariff("residential 1.2", (150_000, 3_248_400), (400_000, 4_221_800), (0, 4_421_700),
                            service=24_620_000),
               tariff("residential TOU, 12-24 kV", 5_113_500, 2_603_700, voltage=1, service=33_290_000))
    made = genesis(rate=1000, loss_ppm=33_000, wheel=250_000, supply=SupplyRates(ft=367_200), corrections_ms=7_200_000)
    chain = Chain(evolve(made, tariffs=classes, market_start_ms=FIRST * WINDOW_MS - 14 * 60_000,
                         holidays=(bangkok_day_of(2026, 12, 31),)), twice=False)
    far = 10 * chain.now_ms
    chain.do(ISSUER, *[Deposit(key(house).public, MONEY) for house in HOUSES])
    chain.do(REGISTRAR, *[RegisterParticipant(key(house).public, f"L-{house}", Role.PROSUMER, 0, far)
                          for house in HOUSES])
    chain.do(REGISTRAR, *[
        RegisterMeter(number + 1, key(f"meter {house}").public, 0, Network.MEA, Source.SOLAR, number, 8_000, 8_000)
        for number, house in enumerate(HOUSES)])
    assert chain.now_ms < FIRST * WINDOW_MS
    [outcome] = chain.do(REGULATOR, PublishRate(Series.FT, NEW_FT, 162_300))
    assert outcome.ok
    for window in TRADED:
        [sold] = chain.do(key("A"), PlaceOrder(1, window, Side.SELL, 3500, 400))
        [bought] = chain.do(key("B"), PlaceOrder(2, window, Side.BUY, 4000, 300))
        assert (sold.ok, bought.data[1]) == (True, 300)
    return chain


def report(chain: Chain, windows: range) -> None:
    """All households' readings of these windows, reported by a household's own account each."""
    for number, house in enumerate(HOUSES):
        made: list[SignedReport] = [
            sign_reading(key(f"meter {house}"), chain.genesis.chain_id, number + 1, window, *reading(house, window))
            for window in windows]
        chain.send(key(house), ReportReadings(tuple(made)))


@define
class Week:
    windows: dict[str, Counter[Line]]
    month: dict[str, list[Line]]
    paid_for_windows: dict[str, int]


@cache
def settled() -> Week:
    chain = the_chain()
    for reported in range(FIRST, END, AT_ONCE):
        report(chain, range(reported, reported + AT_ONCE))
        chain.block(-(-((reported + AT_ONCE) * WINDOW_MS - chain.now_ms) // chain.genesis.market_rate))
    chain.until(settles_ms(END - 1))
    assert chain.now_ms < settles_ms(END)
    spent = {house: sum(transaction.fee_uthb for block in chain.transactions for transaction in block
                        if transaction.sender == key(house).public) for house in HOUSES}
    paid = {house: MONEY - chain.account(key(house)).total - spent[house] for house in HOUSES}
    windows: dict[str, Counter[Line]] = {}
    for number, house in enumerate(HOUSES):
        windows[house] = Counter()
        for window in range(FIRST, END):
            bill = Settlement.decode(chain.head.get(spaces.settlement(window, number + 1)) or b"")
            windows[house].update(bill.lines)
    month = {}
    for later in range(0, 9_000, 900):              # corrections end after two hours here, to wait for less
        chain.until(END * WINDOW_MS + later * 1000)
    for number, house in enumerate(HOUSES):
        month[house] = list(MonthlyBill.decode(chain.head.get(spaces.monthly_bill(MONTH, number + 1)) or b"").lines)
    return Week(windows, month, paid)


# ------------------------------------------------------------------ the page


@define
class Row:
    """One line of the page: of the week's windows, or of the month."""

    when: str
    rule: BillRule
    windows: int
    quantity: int
    rate: int
    each: int
    total: int
    thb: str


def number(text: str) -> int:
    return 0 if text == "-" else int(text.replace(" ", "").strip("*"))


def rows_of(house: str) -> tuple[list[Row], list[int]]:
    """The lines of a household's table, and the sums in bold: of the week, of the month."""
    section = PAGE.split(f"### Household {house}")[1].split("###")[0]
    rows, sums = [], []
    for text in section.splitlines():
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if len(cells) == 8 and cells[1] in BillRule.__members__:
            rows.append(Row(cells[0], BillRule[cells[1]], *map(number, cells[2:7]), cells[7]))
        elif len(cells) == 8 and cells[1].startswith("**"):
            sums.append(number(cells[6]))
    return rows, sums


@pytest.mark.parametrize("house", HOUSES)
def test_every_line_is_what_the_chain_settles(house: str) -> None:
    week, (rows, (of_week, of_month)) = settled(), rows_of(house)
    expected: Counter[Line] = Counter()
    for row in rows:
        if row.rule < BillRule.SERVICE:
            expected[int(row.rule), row.quantity, row.rate, row.each] += row.windows
    assert week.windows[house] == expected
    assert week.month[house] == [(int(row.rule), row.quantity, row.rate, row.each) for row in rows
                                 if row.rule >= BillRule.SERVICE]
    assert week.paid_for_windows[house] == of_week      # and that is what the account had less
    assert sum(amount for _, _, _, amount in week.month[house]) == of_month


@pytest.mark.parametrize("house", HOUSES)
def test_the_pages_own_arithmetic(house: str) -> None:
    """Written from the rules, not from the code that settles."""
    rows, sums = rows_of(house)
    vat_on = {BillRule.SUPPLY_VAT: (BillRule.ENERGY, BillRule.FT), BillRule.SHORTFALL_VAT: (BillRule.SHORTFALL,),
              BillRule.MONTHLY_VAT: (BillRule.SERVICE, BillRule.BLOCK_TRUE_UP)}
    received = (BillRule.BUY_BACK, BillRule.SURPLUS)
    for row in rows:
        assert row.total == row.windows * row.each
        assert Fraction(row.thb) == Fraction(row.total, THB)
        if row.rule in vat_on:
            base = sum(other.each for other in rows if other.when == row.when and other.rule in vat_on[row.rule])
            assert row.each == floor(Fraction(7, 100) * base + Fraction(1, 2))
        elif row.rule is BillRule.SERVICE:
            assert row.each == row.rate
        elif row.rate:
            amount = floor(Fraction(row.quantity * row.rate, 1000) + Fraction(1, 2))
            assert row.each == (-amount if row.rule in received else amount)
    assert sums == [sum(row.total for row in rows if (row.rule >= BillRule.SERVICE) is monthly)
                    for monthly in (False, True)]
    once = [row.windows for row in rows if row.rule in (BillRule.ENERGY, BillRule.BUY_BACK, BillRule.SURPLUS)]
    assert sum(once) + (house == "A") == 7 * DAY        # A has neither at 12:45, but a shortfall
