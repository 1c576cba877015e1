"""The worked examples of docs/matching.md, sections 1 to 5. `says` looks the figures up on the page."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gridtokenx._native.orderbook import OPERATION, RESTING, Code, Engine, Force, Kind, Reason

EMPTY = np.empty(0, RESTING)
PAGE = re.sub(r"\s+", " ", (Path(__file__).parent.parent / "docs" / "matching.md").read_text())


def says(*texts: str) -> None:
    for text in texts:
        assert text in PAGE, f"docs/matching.md does not say: {text}"


class Market:
    """An engine with one window, driven order by order."""

    def __init__(self, zones=((0, 0),), corridors=(), capacity: int = 0, **options) -> None:  # type: ignore[no-untyped-def]
        self.engine = Engine(zones, corridors=corridors, **options)
        self.engine.load(0, EMPTY, capacities=np.full((len(corridors), 2), capacity, np.int64))
        self.sequence = 1

    def do(self, *more: dict[str, int], now_ms: int = 0, **fields: int):  # type: ignore[no-untyped-def]
        """One operation, or a batch when there are `more`."""
        ops = np.zeros(1 + len(more), OPERATION)
        for op, named in zip(ops, (fields, *more), strict=True):
            for name, value in {"participant": named.get("order_id", 0), **named}.items():
                op[name] = value
        outcome = self.engine.process(ops, now_ms=now_ms, next_sequence=self.sequence)
        self.sequence = outcome.next_sequence
        return outcome

    def order(self, number: int, side: int, quantity: int, price: int, **fields: int):  # type: ignore[no-untyped-def]
        return self.do(order_id=number, side=side, quantity_wh=quantity, price_mthb_kwh=price, **fields)


def test_1_a_fill_inside_a_zone() -> None:
    market = Market([(20_000, 150_000)])
    market.order(1, 1, 1000, 4000)
    outcome = market.order(2, 0, 2000, 4240)
    trade = outcome.trades[0]
    assert (trade["delivered_wh"], trade["injected_wh"], trade["wheel_uthb"]) == (980, 1000, 147_000)
    assert trade["price_mthb_kwh"] * trade["injected_wh"] + trade["wheel_uthb"] == 4_147_000
    assert outcome.results["remaining_wh"][0] == 1020
    assert market.order(3, 1, 1000, 4000).trades["price_mthb_kwh"].tolist() == [4000]
    assert Fraction(4240 * 980 - 147_000, 1000) == Fraction("4008.2")
    says("= **980 Wh**", "= **1000 Wh**", "**147 000 uTHB**", "4 147 000 <= 4240 x 980 = 4 155 200",
         "1020 Wh of the buy", "= 4008.2, that is **4000**")


def test_1_a_remainder_below_a_lot_is_closed() -> None:
    market = Market([(20_000, 150_000)])
    market.order(1, 1, 1000, 4000)
    outcome = market.order(2, 0, 900, 4500)
    assert outcome.trades["injected_wh"].tolist() == [919]
    assert outcome.closed[["order_id", "remaining_wh", "reason"]].tolist() == [(1, 81, Reason.BELOW_LOT)]
    says("q_in = ceil(900 / 0.98) = **919 Wh**", "81 Wh that are left")


GRID = [(0, 0), (2_000, 50_000), (0, 7_500)]
LINES = [(0, 1, 1_200, 20_000), (1, 2, 0, 10_000), (0, 2, 0, 30_000)]


def test_2_the_landed_price_ranks_sellers() -> None:
    def market() -> Market:
        made = Market(GRID, LINES, 4_000)
        for number, (zone, price) in enumerate(((2, 4010), (0, 4000), (1, 3990)), 1):
            made.order(number, 1, 1000, price, zone=zone)
        return made

    found = {(row[1], row[2]): (row[3], Fraction(*row[0])) for row in market().engine.landed_depth(0, 2, 1)}
    for zone, path, limit, name, landed in ((2, 0, 4010, "inside | 4010 + 7.5 = **4017.5**", "4017.5"),
                                            (0, 0, 4000, "corridor 2 | 4000 + 7.5 + 30 = **4037.5**", "4037.5"),
                                            (0, 1, 4000, "corridors 0, 1 | 4000 / 0.9988 + 37.5 = 4042.3", "4042.3"),
                                            (1, 0, 3990, "corridor 1 | 3990 / 0.998 + 67.5 = 4065.5", "4065.5")):
        says(f"| zone {zone} | {limit} | {name} |")
        assert found[zone, path][0] == limit and abs(found[zone, path][1] - Fraction(landed)) < Fraction(5, 100)
    bought = market().order(9, 0, 1500, 4050, zone=2)
    assert bought.trades[["seller_zone", "delivered_wh"]].tolist() == [(2, 1000), (0, 500)]
    bought = market().order(9, 0, 1500, 4030, zone=2)
    assert bought.trades[["seller_zone", "delivered_wh"]].tolist() == [(2, 1000)]
    assert bought.results["remaining_wh"].tolist() == [500]
    says("A buy of 1500 Wh at 4050 takes 1000 Wh of zone 2, then 500 of zone 0.",
         "At 4030 it takes those of zone 2 alone")


def test_2_a_seller_compares_what_is_left_of_the_bids() -> None:
    market = Market(GRID, LINES, 4_000)
    market.order(1, 0, 1000, 4050, zone=2)
    market.order(2, 0, 1000, 4040, zone=0)
    offers = market.engine.landed_depth(0, 0, 0)
    assert [(row[1], Fraction(*row[0])) for row in offers[:2]] == [(0, 4040), (2, Fraction("4012.5"))]
    assert market.order(3, 1, 1500, 4000, zone=0).trades[["maker_id", "price_mthb_kwh", "delivered_wh"]].tolist() == [
        (2, 4040, 1000), (1, 4010, 500)]
    says("4050 - 37.5 = **4012.5** net from zone 2 over corridor 2, and 4040 at home: it takes the latter")


@pytest.mark.parametrize("zones", [(0, 1), (1, 0)])
def test_2_at_one_landed_price_the_earlier_order_is_first(zones: tuple[int, int]) -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)], 1000)
    for number, zone in enumerate(zones, 1):
        market.order(number, 1, 100, 4000, zone=zone)
    assert market.order(3, 0, 100, 4000).trades["maker_id"].tolist() == [1]
    says("At one landed price the earlier order is first, in whichever zone it rests.")


def test_3_capacity_is_signed() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)], 1000)
    market.order(1, 1, 600, 4000, zone=0)
    market.order(2, 0, 600, 4000, zone=1)
    assert market.engine.residuals(0).tolist() == [[400, 1600]]
    # 700 Wh are wanted where 400 can go; the rest waits, and trades when the corridor is widened, at the earlier price
    market.order(3, 1, 700, 3900, zone=0)
    assert market.order(4, 0, 700, 4000, zone=1).trades["delivered_wh"].tolist() == [400]
    assert market.engine.residuals(0).tolist() == [[0, 2000]]
    outcome = market.do(kind=Kind.CAPACITY, corridor=0, side=0, quantity_wh=2000)
    assert outcome.trades[["maker_id", "taker_id", "delivered_wh", "price_mthb_kwh"]].tolist() == [(3, 4, 300, 3900)]
    assert market.engine.residuals(0).tolist() == [[700, 2300]]
    says("A corridor of 1000 Wh each way. A fill of 600 Wh from A to B leaves 400 forward and gives 600 back: 1600",
         "**400 Wh** trade, 300 wait on both sides", "at the sell's **3900**, and 700 forward and 2300 back are left")


def test_3_the_earlier_of_a_pair_sets_the_price() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)])
    market.order(1, 0, 300, 4000, zone=1)
    market.order(2, 1, 300, 3900, zone=0)
    outcome = market.do(kind=Kind.CAPACITY, corridor=0, side=0, quantity_wh=2000)
    assert outcome.trades[["maker_id", "taker_id", "price_mthb_kwh"]].tolist() == [(1, 2, 4000)]
    says("Had the buy been there first, at its price: **4000**.")


def test_3_uncrossing_takes_the_highest_limit_first() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)])
    for number, limit in ((1, 4000), (2, 4100), (3, 4100)):
        market.order(number, 0, 300, limit, zone=1)
    market.order(4, 1, 1000, 3900, zone=0)
    outcome = market.do(kind=Kind.CAPACITY, corridor=0, side=0, quantity_wh=2000)
    assert outcome.trades["maker_id"].tolist() == [2, 3, 1]
    says("buys by (limit descending, sequence)")


def test_3_a_halted_window_takes_cancels_and_uncrosses_at_its_end() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)])
    market.order(1, 0, 300, 4000, zone=1)
    market.order(2, 1, 300, 3900, zone=0)
    market.order(3, 1, 300, 3900, zone=0)
    market.do(kind=Kind.HALT)
    assert market.order(4, 0, 300, 4000).results["code"].tolist() == [Code.HALTED]
    assert market.do(kind=Kind.AMEND, order_id=2, quantity_wh=200, price_mthb_kwh=3900).results["code"] == Code.HALTED
    assert market.do(kind=Kind.CANCEL, order_id=2).results["code"].tolist() == [Code.CANCELLED]
    assert not len(market.do(kind=Kind.CAPACITY, corridor=0, side=0, quantity_wh=2000).trades)
    assert market.do(kind=Kind.RESUME).trades[["maker_id", "taker_id"]].tolist() == [(1, 3)]
    says("In a *halted* window orders and amends are refused and cancels taken")


@pytest.mark.parametrize(("row", "fields", "traded", "code", "resting"), [
    ("plain | trades 300, rests 200", {}, 300, Code.RESTING, 200),
    ("IOC | trades 300, 200 are cancelled", {"force": Force.IOC}, 300, Code.CANCELLED_IOC, 0),
    ("fill or kill | nothing trades, nothing rests", {"force": Force.FOK}, 0, Code.KILLED, 0),
    ("post-only | refused, since it would trade", {"flags": 4}, 0, Code.WOULD_TRADE, 0),
    ("minimum fill 300 | as plain", {"minimum_wh": 300}, 300, Code.RESTING, 200),
    ("minimum fill 400 | rests 500 untouched", {"minimum_wh": 400}, 0, Code.RESTING, 500),
    ("with IOC it is cancelled", {"minimum_wh": 400, "force": Force.IOC}, 0, Code.KILLED, 0),
])
def test_4_conditions(row: str, fields: dict[str, int], traded: int, code: Code, resting: int) -> None:
    says(row)
    market = Market()
    market.order(1, 1, 300, 4000)
    outcome = market.order(2, 0, 500, 4000, **fields)
    assert outcome.trades["delivered_wh"].sum() == traded and outcome.results["code"][0] == code
    buys = market.engine.records(0)
    assert buys["quantity_wh"][buys["side"] == 0].sum() == resting


def test_4_an_iceberg_has_four_slices() -> None:
    market = Market()
    market.order(1, 1, 1000, 4000, display_wh=300)
    market.order(2, 1, 100, 4000)
    outcome = market.order(3, 0, 1100, 4000)
    # the first slice, the order behind it, then the other slices
    assert outcome.trades[["maker_id", "delivered_wh"]].tolist() == [(1, 300), (2, 100), (1, 300), (1, 300), (1, 100)]
    assert (outcome.closed["reason"] == Reason.SLICE).sum() == 3
    says("that shows 300 has four slices", "a buy of 1100 takes 300, the other 100, then 300, 300 and 100")


def test_4_an_amend_down_keeps_its_place() -> None:
    for total, price, first in ((800, 4000, 1), (1200, 4000, 2), (1000, 4000, 2), (800, 4010, 2)):
        market = Market()
        market.order(1, 1, 1000, 4000)
        market.order(2, 1, 1000, 4000)
        market.do(kind=Kind.AMEND, order_id=1, quantity_wh=total, price_mthb_kwh=price)
        assert market.order(3, 0, 100, 4010).trades["maker_id"].tolist() == [first]
    says("800 of an order of 1000 at the same price keeps its place; 1200, or 800 at 4010, goes to the end and may")


def test_4_an_order_expires() -> None:
    noon = 43_200_000
    says("expires** at 12:00:00.000 trades until 11:59:59.999")
    for now, traded in ((noon - 1, [1]), (noon, [])):
        market = Market()
        market.order(1, 1, 300, 4000, force=Force.GOOD_TILL_TIME, expires_ms=noon)
        buy = {"order_id": 2, "quantity_wh": 300, "price_mthb_kwh": 4000}
        assert market.do(now_ms=now, **buy).trades["maker_id"].tolist() == traded


COAL, SOLAR, WIND = 7, 1, 2


def test_5_a_buyer_of_sun_and_wind() -> None:
    market = Market(profiles=[(0xFF, 0xFFFF), (1 << SOLAR | 1 << WIND, 0xFFFF)])
    for number, (source, price) in enumerate(((COAL, 3900), (SOLAR, 4000), (WIND, 4100)), 1):
        market.order(number, 1, 300, price, source=source)
    outcome = market.order(9, 0, 500, 4200, profile=1)
    assert outcome.trades[["maker_id", "delivered_wh"]].tolist() == [(2, 300), (3, 200)]
    assert outcome.results["visits"].tolist() == [2]        # the coal was never looked at
    says("300 Wh of coal at 3.90, 300 of solar at 4.00 and 300 of wind at 4.10",
         "takes 300 of the solar and 200 of the wind")


def test_5_a_buyer_of_one_zone() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)], 1000, profiles=[(0xFF, 0xFFFF), (0xFF, 0b10)])
    for number, (zone, price) in enumerate(((0, 3900), (1, 4000)), 1):
        market.order(number, 1, 300, price, zone=zone)
    assert market.order(9, 0, 500, 4200, profile=1).trades["maker_id"].tolist() == [2]
    says("A profile can name sellers' zones in the same way.")


@pytest.mark.parametrize(("row", "mode", "trades", "rests"), [
    ("cancel newest | nothing trades, the buy is cancelled", 0, [], [1, 2]),
    ("cancel oldest | the own sell is cancelled, 400 trade, 100 rest", 1, [(2, 400)], [3]),
    ("cancel both | both are cancelled, nothing trades", 2, [], [2]),
])
def test_5_own_orders(row: str, mode: int, trades: list[tuple[int, int]], rests: list[int]) -> None:
    says(f"| {row} |")
    market = Market()
    market.order(1, 1, 300, 4000, participant=77)
    market.order(2, 1, 400, 4050)
    outcome = market.order(3, 0, 500, 4100, participant=77, flags=mode)
    assert outcome.trades[["maker_id", "delivered_wh"]].tolist() == trades
    book = market.engine.records(0)
    assert sorted(book["order_id"].tolist()) == rests
    assert mode != 1 or book["quantity_wh"].tolist() == [100]


@pytest.mark.parametrize("crossed", [False, True])
def test_5_a_group_happens_whole_or_not_at_all(crossed: bool) -> None:
    market = Market()
    market.order(1, 1, 300, 4000)
    if crossed:
        market.order(5, 0, 300, 3950)
    outcome = market.do({"order_id": 2, "side": 1, "quantity_wh": 300, "price_mthb_kwh": 3950, "flags": 4, "group": 1},
                        kind=Kind.CANCEL, order_id=1, group=1)
    book = market.engine.records(0)
    assert sorted(book["order_id"].tolist()) == ([1, 5] if crossed else [2]) and not len(outcome.trades)
    says("A cancel of the sell at 4.00 and a post-only sell of 300 at 3.95 as one group happen together.",
         "as with a buy of 3.95 in the book, neither does: the sell at 4.00 keeps its place")


def test_5_bilateral_trades_take_capacity() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 10_000, 0)], 1000)
    done = market.do(kind=Kind.BILATERAL, order_id=1, zone=0, to_zone=1, quantity_wh=500, price_mthb_kwh=0)
    assert done.trades[["delivered_wh", "injected_wh"]].tolist() == [(500, 506)]
    assert market.engine.residuals(0).tolist() == [[494, 1500]]
    more = market.do(kind=Kind.BILATERAL, order_id=2, zone=0, to_zone=1, quantity_wh=500, price_mthb_kwh=0)
    assert more.results["code"].tolist() == [Code.NO_CAPACITY] and not len(more.trades)
    says("ceil(500 / 0.99) = **506 Wh** and leave 494 forward and 1500 back. 500 more need 506 again")
