"""The uniform-price auction, alone and in a run; welfare and its optimum."""

from __future__ import annotations

import random
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scenario import text

from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.scenario import ScenarioError, parse_scenario, run
from gridtokenx.scenario.auction import Route, Sealed, clear, uniform_price
from gridtokenx.scenario.welfare import most_welfare

FREE = {0: [Route(0, (), 0, 0)]}
DEAR = Route(0, (), 20_000, 300_000)


def bids(*entries: tuple[int, int], zone: int = 0, first: int = 1) -> list[Sealed]:
    return [Sealed(first + at, zone, quantity, price) for at, (quantity, price) in enumerate(entries)]


@pytest.mark.parametrize(("buy", "sell", "price"), [
    ([(5_000, 300)], [(3_000, 300)], 4_000),                        # the middle of what both would take
    ([(5_000, 300)], [(3_000, 200)], 5_000),                        # too little on offer: the buyers' worth
    ([(5_000, 200)], [(3_000, 300)], 3_000),                        # too much: the sellers'
    ([(5_000, 300), (4_000, 300)], [(3_000, 300)], 4_500),          # at least what the first without energy would pay
    ([(5_000, 300)], [(3_000, 300), (3_500, 300)], 3_250),
    ([(2_990, 300)], [(3_000, 300)], -1),
    ([], [(3_000, 300)], -1),
])
def test_the_price_clears(buy: list[tuple[int, int]], sell: list[tuple[int, int]], price: int) -> None:
    assert uniform_price(buy, sell) == price


def test_all_pay_and_get_one_price_and_networks_their_part() -> None:
    routes = {0: [DEAR]}
    price, trades = clear(bids((500, 6_000), (300, 5_000)), bids((600, 2_000), (100, 9_000), first=10), routes, {})
    assert [(each.seller, each.buyer, each.delivered_wh, each.injected_wh) for each in trades] == [
        (10, 1, 500, 511)]                      # what is left, 89 Wh, is less than a lot
    # The second bid leaves (5000 x 300 - 90000) / 307 = 4592 for a seller, and finds no whole lot: it sets the price.
    assert price == 4_590


def test_corridors_bind_and_the_near_are_served_first() -> None:
    far = Route(1, ((0, 1),), 30_000, 400_000)
    routes = {0: [Route(0, (), 0, 0), far], 1: [Route(1, (), 0, 0)]}
    residuals = {(0, 0): 1_000, (0, 1): 450}
    offers = [Sealed(10, 0, 200, 2_000), Sealed(11, 1, 2_000, 2_000)]
    price, trades = clear([Sealed(1, 0, 1_000, 6_000)], offers, routes, residuals)
    assert price == 2_000
    assert [(each.seller, each.delivered_wh, each.injected_wh, each.route.path) for each in trades] == [
        (10, 200, 200, ()), (11, 400, 413, (0,))]
    assert residuals == {(0, 1): 450 - 413, (0, 0): 1_000 + 400}


some = st.lists(st.tuples(st.integers(1, 12).map(lambda lots: lots * 100), st.integers(0, 60).map(lambda at: at * 100)),
                max_size=8)


@settings(deadline=None, max_examples=60)
@given(some, some)
def test_no_auction_breaks_its_rules(buy: list[tuple[int, int]], sell: list[tuple[int, int]]) -> None:
    """Budgets hold, nobody gives or gets more than it said, and without any network the outcome is efficient."""
    wanted, offered = bids(*buy), bids(*sell, first=100)
    for routes in (FREE, {0: [DEAR]}):
        price, trades = clear(wanted, offered, routes, {})
        for each in trades:
            buyer, seller = wanted[each.buyer - 1], offered[each.seller - 100]
            assert seller.price <= price and each.delivered_wh % 100 == 0 < each.delivered_wh
            route = each.route
            assert price * each.injected_wh + route.wheel(each.delivered_wh) <= buyer.price * each.delivered_wh
            assert each.injected_wh == route.injected(each.delivered_wh)
        for bid in wanted:
            assert sum(each.delivered_wh for each in trades if each.buyer == bid.meter) <= bid.quantity_wh
        for offer in offered:
            assert sum(each.injected_wh for each in trades if each.seller == offer.meter) <= offer.quantity_wh
        shuffled = random.Random(1).sample(wanted, len(wanted)), random.Random(2).sample(offered, len(offered))
        assert clear(*shuffled, routes, {}) == (price, trades)
    reached = sum(wanted[each.buyer - 1].price * each.delivered_wh - offered[each.seller - 100].price * each.injected_wh
                  for each in clear(wanted, offered, FREE, {})[1])
    most = most_welfare([(0, each.price, each.quantity_wh) for each in offered],
                        [(0, each.price, each.quantity_wh) for each in wanted], FREE, {(0, 0): 10**9})
    assert reached == pytest.approx(most)


def test_the_optimum_of_welfare_knows_networks_and_corridors() -> None:
    sellers, buyers = [(0, 2_000, 1_000)], [(0, 6_000, 400), (1, 6_000, 1_000)]
    routes = {0: [Route(0, (), 0, 100_000)], 1: [Route(1, (), 0, 0), Route(0, ((0, 0),), 0, 500_000)]}
    assert most_welfare(sellers, buyers, routes, {(0, 0): 300, (0, 1): 300}) == pytest.approx(
        400 * 3_900 + 300 * 3_500)
    assert most_welfare(sellers, buyers, routes, {(0, 0): 10**6, (0, 1): 10**6}) == pytest.approx(
        400 * 3_900 + 600 * 3_500)
    assert most_welfare(sellers, [(0, 1_000, 500)], routes, {(0, 0): 10**6, (0, 1): 10**6}) == 0
    assert most_welfare([], buyers, routes, {}) == 0


def test_a_run_with_the_auction_has_one_price_a_window_and_conserves() -> None:
    made = text(windows=24, session=12, strategy="truthful").replace("06:00:00", "09:00:00")
    with run(parse_scenario(made.replace("seed = 3", 'seed = 3\nmechanism = "uniform-price"'))) as auction, \
            run(parse_scenario(made)) as continuous:
        assert not auction.tally.failed and set(auction.tally.done) == {"bilateral trade"}
        prices = auction.trades.group_by("window").agg(pl.col("price_mthb_kwh").n_unique())
        assert auction.trades.height > 20 and set(prices["price_mthb_kwh"]) == {1}
        audit_totals(auction.chain.head)
        assert not auction.table("energy")["flagged"].sum()
        both = [dict(each.measures.select("measure", "value").rows()) for each in (auction, continuous)]
        assert both[0]["welfare_optimum"] == pytest.approx(both[1]["welfare_optimum"])    # the same wishes
        for measured in both:
            assert 0 < measured["efficiency"] <= 1
            assert measured["welfare"] == pytest.approx(measured["efficiency"] * measured["welfare_optimum"])
        sold = auction.trades.sort("window")["window"].to_list()
        assert all(one <= other for one, other in pairwise(sold))


def test_sealed_bids_have_one_round() -> None:
    made = text(rounds=2).replace("seed = 3", 'seed = 3\nmechanism = "uniform-price"')
    with pytest.raises(ScenarioError, match=r"trading.rounds is 2; .* 1 is allowed"):
        parse_scenario(made)
