"""Batteries, electric cars, commercial buildings and weather: what they do, and that a run with them adds up."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scenario import text

from gridtokenx.forks import ForkError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.spaces import Space
from gridtokenx.scenario import STRATEGIES, ScenarioError, Situation, parse_scenario, run
from gridtokenx.scenario.arbitrage import plan
from gridtokenx.scenario.devices import Battery, Cars, car_load
from gridtokenx.scenario.profiles import commercial, shipped
from gridtokenx.scenario.run import LEAD, _report_windows, _stops, begin
from gridtokenx.scenario.streams import stream

BATTERY = Battery(10_000, 1_250, 0.9)
MONDAY = 1_745_168_400 // 900


def series(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(-4_000, 4_000), st.integers(-4_000, 4_000)), max_size=20))
def test_a_battery_stays_within_its_limits_and_never_makes_energy(steps: list[tuple[int, int]]) -> None:
    stored, given_wh, taken_wh = 0, 0, 0
    for net, position in steps:
        read, after = BATTERY.follow(net, position, stored)
        assert 0 <= after <= BATTERY.capacity_wh and abs(read - net) <= BATTERY.power_wh
        # Towards the position, never beyond it.
        assert min(net, position) <= read <= max(net, position)
        given_wh, taken_wh = given_wh + max(0, read - net), taken_wh + max(0, net - read)
        stored = after
    assert given_wh + stored <= taken_wh * BATTERY.efficiency + 1e-9


def test_a_house_alone_uses_its_own_first() -> None:
    read = BATTERY.alone(series(2_000, 500, -300, -2_000, -1_000))
    assert read.tolist() == [750, 0, 0, -2_000 + 1_250, -1_000 + (1_125 + 450 - 300 - 1_250)]


def test_the_plan_buys_cheap_and_sells_dear() -> None:
    net = series(0, 0, 0, 0)
    flat = np.full(4, 4_000.0)
    assert not plan(BATTERY, 0, net, flat, flat).any()              # losses only
    steps = np.array([1_000.0, 1_000.0, 5_000.0, 5_000.0])
    planned = plan(BATTERY, 0, net, steps, steps)
    assert (planned[:2] < 0).all() and (planned[2:] > 0).all()
    assert (np.abs(planned) <= BATTERY.power_wh).all()
    assert planned[2:].sum() <= -planned[:2].sum() * BATTERY.efficiency + 1
    # What is stored already is sold where it is dear; a need of its own comes first when that is worth more.
    sell, buy = np.full(2, 2_000.0), np.full(2, 6_000.0)
    assert plan(BATTERY, 1_250, series(0, -1_000), sell, buy)[1] >= -170


def test_arbitrage_gives_way_over_the_rounds() -> None:
    agent = STRATEGIES["battery-arbitrage"](hope=0.5).agent(stream(1, "a"))

    def asked(round_: int, battery: Battery | None = None) -> tuple[list[int], list[int]]:
        here = Situation(range(10, 12), round_, 3, 0, series(950, -420), series(0, 0), series(6_000, 6_000),
                         series(2_000, 2_000), lambda: pytest.fail("read"), battery)
        made = agent.orders(here)
        return made.quantity_wh.tolist(), made.price.tolist()

    assert [asked(round_) for round_ in range(3)] == [
        ([950, -420], [4_000, 4_000]), ([950, -420], [3_000, 5_000]), ([950, -420], [2_000, 6_000])]
    agent = STRATEGIES["battery-arbitrage"](hope=0.0).agent(stream(1, "a"))
    assert sum(map(abs, asked(0, BATTERY)[0])) < 950            # own energy first


def test_cars_charge_what_they_need_while_they_are_at_home() -> None:
    windows = range(MONDAY, MONDAY + 10 * 96)
    for off_peak in (False, True):
        loads = [car_load(Cars(1, 8, 7, off_peak), windows, stream(7, "car", number)) for number in range(20)]
        mean = np.mean([load.sum() for load in loads]) / 10
        assert 7_000 < mean < 9_000
        assert max(load.max() for load in loads) <= 1_750
        by_hour = np.sum(loads, axis=0).reshape(10, 24, 4).sum(axis=(0, 2))
        assert not by_hour[10:12].any() and by_hour[18:24].sum() > 0.5 * by_hour.sum()
        assert bool(by_hour[17:21].sum()) is not off_peak
    whole = car_load(Cars(1, 8, 7, False), windows, stream(7, "car", 1))
    part = car_load(Cars(1, 8, 7, False), windows[:200], stream(7, "car", 1))
    assert part.tolist() == whole[:200].tolist()            # a longer horizon changes nothing before


def test_commercial_buildings_have_their_hours() -> None:
    found = commercial()
    assert found.load_wh.shape == (60, shipped().load_wh.shape[1]) and len(found.pv_wh_kw)
    day = found.load_wh.reshape(60, 14, 96)
    office, shop, store = (day[kind::3] for kind in range(3))
    assert office[:, 5].sum() < 0.6 * office[:, 4].sum()            # Saturday and Friday
    assert 0.8 < shop[:, 5].sum() / shop[:, 4].sum() < 1.2
    assert (store.max(axis=(1, 2)) < 1.6 * np.median(store, axis=(1, 2))).all()
    assert 80_000 < np.median(office[:, 0].sum(axis=1)) < 180_000
    assert commercial().load_wh.tolist() == found.load_wh.tolist()


MORE = """
[weather]
pv_factor = 0.5
foreseen = false
[[weather.days]]
day = 1
pv_factor = 0.0
load_factor = 2.0
"""


def test_weather_changes_days_foreseen_or_not() -> None:
    plain = text(windows=2).replace("windows = 2", "days = 2").replace("06:00:00", "00:00:00")
    assert parse_scenario(plain + MORE.replace("false", "true")).weather.foreseen
    scenario = parse_scenario(plain + MORE)
    sun, use = scenario.weather.factors(range(MONDAY, MONDAY + 192))
    assert (sun[:96] == 0.5).all() and not sun[96:].any() and (use[:96] == 1).all() and (use[96:] == 2).all()
    with run(parse_scenario(text(windows=4).replace("06:00:00", "11:00:00"))) as clear, \
            run(parse_scenario(text(windows=4).replace("06:00:00", "11:00:00") + MORE)) as dull:
        for house, same in zip(clear.houses, dull.houses, strict=True):
            assert house.expected_wh.tolist() == same.expected_wh.tolist()
        assert sum(house.net_wh.sum() for house in dull.houses) < sum(house.net_wh.sum() for house in clear.houses)


def test_a_run_with_batteries_and_cars_reads_what_they_do_and_adds_up() -> None:
    made = text(windows=56, session=28, rounds=2, strategy="battery-arbitrage").replace("06:00:00", "10:00:00").replace(
        "pv_kw = 6.0", "pv_kw = 6.0\nbattery_kwh = 8.0\nbattery_kw = 4.0").replace(
        'name = "homes"', 'name = "homes"\nev_share = 0.4')
    with run(parse_scenario(made)) as result:
        people = result.people()
        assert people["car"].sum() == 2 and set(people["battery_wh"]) == {0, 8_000}
        settled = result.table("settlements").filter(pl.col("window").is_in(list(result.windows)))
        moved = {(window, meter): injected - withdrawn for window, meter, injected, withdrawn in settled.select(
            "window", "meter", "injected_wh", "withdrawn_wh").rows()}
        positions = dict.fromkeys(moved, 0)
        for window, buyer, seller, delivered, injected in result.trades.select(
                "window", "buy_meter", "sell_meter", "delivered_wh", "injected_wh").rows():
            positions[window, seller] += injected
            positions[window, buyer] -= delivered
        used = 0
        for house in result.houses:
            stored = 0
            for at, window in enumerate(result.windows):
                net = int(house.net_wh[at])
                if house.battery is not None:
                    read, stored = house.battery.follow(net, positions[window, house.meter], stored)
                    used += read != net
                    net = read
                assert moved[window, house.meter] == net
        assert used > 50
        assert set(result.trades["source"]) == {"storage"}
        evening = result.trades.filter(pl.col("delivery").dt.hour() >= 19)
        assert evening.height                               # the sun of noon, sold after dark
        audit_totals(result.chain.head)


def test_it_makes_no_difference_whether_meters_report_every_hour_or_every_quarter(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Bills and balances are the same, but for the collector's fees. (With one session: who is first in a
    block depends on its height.)"""
    made = parse_scenario(text(windows=12, session=12, rounds=2, strategy="battery-arbitrage").replace(
        "06:00:00", "10:00:00").replace("pv_kw = 6.0", "pv_kw = 6.0\nbattery_kwh = 8.0\nbattery_kw = 4.0"))
    results = []
    for windows in (4, 1):
        if windows == 1:
            monkeypatch.setattr(sys.modules[_stops.__module__], "_report_windows", lambda *_: 1)
        with run(made) as result:
            chain = result.chain
            assert chain.frames.readings()["quality"].unique().to_list() == [0]
            fees = {chain.key("collector").public, chain.record(spaces.ROLES).market_operator}
            money = {key[1:]: Account.decode(raw).total for key, raw in chain.head.scan(bytes((Space.ACCOUNT,)))}
            results.append((result.hash, result.bills, result.trades.drop("height", strict=False), len(chain.blocks),
                            {owner: total for owner, total in money.items() if owner not in fees}))
    hourly, quarterly = results
    assert hourly[0] == quarterly[0] and hourly[1].equals(quarterly[1]) and hourly[2].equals(quarterly[2])
    assert hourly[4] == quarterly[4] and hourly[3] < quarterly[3] - 10


@pytest.mark.parametrize(("interval_ms", "most_timed", "said"), [
    (3_000, 1_000, "the horizon is not settled in time"),       # a window's ten meters take two blocks of nine minutes
    (25_000, 30_000, r"the chain cannot keep up: readings of window \d+ came after their deadline")])
def test_a_chain_that_cannot_keep_up_says_so(interval_ms: int, most_timed: int, said: str) -> None:
    simulation = begin(parse_scenario(text(windows=24, session=24)))
    with simulation.chain as chain:
        chain.override.parameters(min_block_interval_ms=interval_ms, max_timed_weight=most_timed)
        point = chain.snapshot()
        with pytest.raises(ScenarioError, match=said):
            for _ in simulation.sessions():
                pass
        assert ("settled" in said) != any(chain.frames.settlements()["quality"])  # where they were late
        assert len(chain.blocks) < 500
        assert chain.unfinished or "settled" not in said
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("gridtokenx.forks.chain.MAX_CATCH_UP_BLOCKS", 3)
            if chain.unfinished:
                with pytest.raises(ForkError, match="work that was due is not done after 3 blocks"):
                    chain.flush()
        chain.revert(point)
        assert not chain.unfinished


@pytest.mark.parametrize(("interval_ms", "windows"), [(10, 4), (400, 4), (2_000, 3), (2_600, 2), (4_000, 1)])
def test_meters_report_as_seldom_as_blocks_allow(interval_ms: int, windows: int) -> None:
    with begin(parse_scenario(text())).chain as chain:
        chain.override.parameters(min_block_interval_ms=interval_ms)
        assert _report_windows(chain, 10) == windows
        chain.override.parameters(max_block_weight=20_000)
        assert _report_windows(chain, 10_000) <= windows


@given(st.integers(1, 200), st.integers(1, 96), st.integers(1, 4))
def test_a_run_stops_for_every_session_and_in_time_for_every_reading(count: int, session: int, report: int) -> None:
    windows = range(1_000, 1_000 + count)
    stops = _stops(windows, session, report)
    first = windows.start - LEAD + 1
    assert stops[0] == first and set(range(first, first + count, session)) <= set(stops)
    assert all(0 < after - before <= report for before, after in pairwise(stops))
    assert windows.stop + 4 in stops                    # the last window is settled, an hour after its end


@pytest.mark.parametrize(("old", "new", "said"), [
    ("pv_kw = 6.0", "pv_kw = 6.0\nbattery_kwh = 5.0", r"groups\[0\].battery_kw is .*both battery_kwh and battery_kw"),
    ("pv_kw = 6.0", "pv_kw = 6.0\nev_share = 2", r"groups\[0\].ev_share is 2; a number from 0 to 1"),
    ("pv_kw = 6.0", 'pv_kw = 6.0\nev_charging = "noon"', "allowed: arrival, off-peak"),
    ("[trading]", "[weather]\nforeseen = 1\n[trading]", "weather.foreseen is 1; true or false is allowed"),
    ("[trading]", "[[weather.days]]\npv_factor = 1\n[trading]", r"weather.days\[0\].day is missing"),
])
def test_mistakes_are_named(old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse_scenario(text().replace(old, new, 1))


def test_residents_of_a_chain_report_and_trade_with_more_panels() -> None:
    """What was traded before the second run counts; the sun that was doubled is metered twice."""
    on = """
[residents]
pv_scale = {scale}
[residents.agent]
strategy = "truthful"
"""
    second = text(windows=8, session=8).partition("[[groups]]")[0]
    made = {}
    for scale in (1.0, 2.0):
        with run(parse_scenario(text(windows=2, session=2).replace("06:00:00", "10:00:00"))) as first:
            before = len(first.chain.frames.meters())
            result = first.chain.run(evolve(parse_scenario(second + on.format(scale=scale)), start=None), seed=4)
            assert {house.name for house in result.houses} == {f"residents/{at}" for at in range(1, before + 1)}
            assert not result.tally.failed and result.people()["group"].unique().to_list() == ["residents"]
            settled = result.table("settlements").filter(pl.col("window").is_in(list(result.windows)))
            assert set(settled["quality"]) == {0} and settled.height == before * 8
            made[scale] = dict(result.measures.select("measure", "value").rows()), result.chain.frames.meters()
            audit_totals(result.chain.head)
    assert made[2.0][0]["generation"] > 1.5 * made[1.0][0]["generation"]
    assert made[2.0][1]["injection_w"].sum() == pytest.approx(2 * made[1.0][1]["injection_w"].sum(), rel=0.01)
    with pytest.raises(ScenarioError, match=r"\[residents\]: the chain has no meter"):
        run(parse_scenario(second + on.format(scale=1.0)))
