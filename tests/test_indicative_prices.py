"""The indicative price: the numbers of docs/prices.md, its monotony, and what the chain publishes at the gate."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_support import key, trading_chain

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import spaces, tariff_queries
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder
from gridtokenx.ledger.records import Order
from gridtokenx.ledger.tariff_records import Indicative
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.indicative import (
    Pricing,
    congestion_factor_ppm,
    count_order,
    indicative_mthb_kwh,
    supply_demand_uthb_kwh,
    utilisation_ppm,
)
from gridtokenx.market.money import PPM, round_half_up
from gridtokenx.market.orders import Force, Side
from gridtokenx.market.tariffs import band

PAGE = Path(__file__).parent.parent / "docs" / "prices.md"
ON_PEAK = Pricing(5_960_500, 2_200_000, band(5_960_500, 2_200_000, 300_000), 800_000, 200_000, 100_000)


def test_the_worked_numbers_of_the_page() -> None:
    lines = PAGE.read_text().split("| D Wh |")[1].splitlines()[2:]
    rows = [[int(cell.replace(" ", "")) for cell in line.strip("| ").split("|")]
            for line in lines[:lines.index("")]]
    assert len(rows) == 6
    for demand, supply, renewable, use, first, factor, second, third, price in rows:
        assert supply_demand_uthb_kwh(ON_PEAK.retail, ON_PEAK.buy_back, demand, supply) == first
        assert congestion_factor_ppm(use, 800_000, 200_000) == factor
        assert round_half_up(first * (PPM + factor), PPM) == second
        assert third == second + (round_half_up(100_000 * renewable, supply) if supply else 0)
        assert indicative_mthb_kwh(ON_PEAK, Indicative(0, demand, supply, renewable, use)) == price


def test_use_of_corridors() -> None:
    assert utilisation_ppm(50, 200, -50, 300) == 250_000
    assert utilisation_ppm(-50, 200, 50, 300) == -166_666
    assert utilisation_ppm(50, 0, 0, 0) == 0
    assert utilisation_ppm(500, 200, 0, 300) == PPM             # a capacity that the operator cut below its use


WH = st.integers(0, 10**12)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(demand=WH, supply=WH, more=st.integers(1, 10**9), retail=st.integers(0, 10**9), buy_back=st.integers(0, 10**9))
def test_more_supply_never_raises_it_and_it_stays_between(demand: int, supply: int, more: int, retail: int,
                                                          buy_back: int) -> None:
    price = supply_demand_uthb_kwh(retail, buy_back, demand, supply)
    assert buy_back <= price <= max(retail, buy_back)
    assert supply_demand_uthb_kwh(retail, buy_back, demand, supply + more) <= price
    assert supply_demand_uthb_kwh(retail, buy_back, demand + more, supply) >= price


def test_the_gate_publishes_what_stood_in_the_book() -> None:
    chain = trading_chain(4, loss_ppm=0, wheel=0, lines=((0, 1, 40_000, 40_000, 0, 0),))
    window = chain.window
    chain.do(key("house 0"), PlaceOrder(1, window, Side.SELL, 3000, 3000))
    chain.do(key("house 1"), PlaceOrder(2, window, Side.BUY, 4000, 1000))               # trades 1 kWh of solar
    chain.do(key("house 2"), PlaceOrder(3, window, Side.BUY, 2500, 5000),
             PlaceOrder(3, window, Side.BUY, 2400, 500, Force.GOOD_TILL_TIME, gate_ms(window) - 1),
             PlaceOrder(3, window, Side.BUY, 2300, 500, Force.GOOD_TILL_TIME, gate_ms(window)))
    [cancelled] = chain.do(key("house 2"), PlaceOrder(3, window, Side.BUY, 2500, 2000))
    before = tariff_queries.indicative_prices(chain.head, window)
    assert [(row["demand_wh"], row["supply_wh"], row["renewable_wh"]) for row in before] == [(9000, 3000, 3000),
                                                                                            (0, 0, 0)]
    chain.do(key("house 2"), CancelOrder(cancelled.data[0]))
    chain.until(gate_ms(window) + 2000)
    published = tariff_queries.indicative_prices(chain.head, window)
    expected = Indicative(0, 6500, 3000, 3000, 0)           # what expired before does not count
    assert published[0] == {
        "zone": 0, "name": "North", "window": window, "published": True, "demand_wh": 6500, "supply_wh": 3000,
        "renewable_wh": 3000, "utilisation_ppm": 0,
        "price_mthb_kwh": indicative_mthb_kwh(ON_PEAK, expected)}
    assert published[1]["price_mthb_kwh"] == 5960           # nothing in the South: what the utility takes
    assert chain.head.get(spaces.indicative(window, 0)) is not None
    assert not any(row["published"] for row in before)


def test_imports_make_a_zone_dearer() -> None:
    chain = trading_chain(2, zones=2, loss_ppm=0, wheel=0, lines=((0, 1, 4000, 4000, 0, 0),))
    window = chain.window
    chain.do(key("house 0"), PlaceOrder(1, window, Side.SELL, 3000, 2000))
    chain.do(key("house 1"), PlaceOrder(2, window, Side.BUY, 4000, 2000))       # North to South, up to 1000 Wh
    rows = tariff_queries.indicative_prices(chain.head, window)
    assert [row["utilisation_ppm"] for row in rows] == [-PPM, PPM]
    assert rows[0]["price_mthb_kwh"] < rows[1]["price_mthb_kwh"]
    assert (rows[1]["demand_wh"], rows[1]["supply_wh"], rows[1]["renewable_wh"]) == (2000, 1000, 1000)


def test_only_renewable_sources_count_as_renewable() -> None:
    sells = [Order(1, 1, 0, Side.SELL, 3000, 500, 400, 0, 1, 0, 0, 1, source) for source in Source]
    energy = Indicative()
    for order in sells:
        energy = count_order(energy, order)
    assert (energy.demand_wh, energy.supply_wh, energy.renewable_wh) == (0, 8 * 400, 5 * 400)
