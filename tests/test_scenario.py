"""Scenarios: what a file may say, and that the same one gives the same trades, bills and balances to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from attrs import evolve, field, frozen
from click.testing import CliRunner
from node_support import Cluster, small_genesis

import gridtokenx
from gridtokenx.cli import cli
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.genesis import load_genesis
from gridtokenx.scenario import STRATEGIES, Orders, Result, ScenarioError, Situation, load_scenario, parse_scenario, run
from gridtokenx.scenario.agents import Book
from gridtokenx.scenario.profiles import DATA, read_profiles
from gridtokenx.scenario.streams import stream
from gridtokenx.scenario.trading import AgentError
from testnet.layout import FOLDER

TEXT = """
name = "small"
seed = 3
start = 2025-04-21T06:00:00+07:00
windows = {windows}
[trading]
session_windows = {session}
rounds = {rounds}
{more}
[[groups]]
name = "roofs"
count = 5
pv_kw = 6.0
zones = {{ Bangkok = 3, Central = 2 }}
agent = {{ strategy = "{strategy}" }}
[[groups]]
name = "homes"
count = 5
zones = {{ Bangkok = 1 }}
agent = {{ strategy = "{strategy}" }}
"""


def text(windows: int = 48, session: int = 48, rounds: int = 1, strategy: str = "zero-intelligence",
         more: str = "") -> str:
    return TEXT.format(windows=windows, session=session, rounds=rounds, strategy=strategy, more=more)


@pytest.fixture(scope="module")
def half_a_day() -> Iterator[Result]:
    with run(parse_scenario(text())) as result:
        yield result


# ---------------------------------------------------------------- a run


def test_a_day_is_traded_read_and_settled(half_a_day: Result) -> None:
    result = half_a_day
    assert not result.tally.failed
    assert result.trades.height > 20
    settled = result.table("settlements")
    horizon = settled.filter(pl.col("window").is_in(list(result.windows)))
    assert horizon.height == 10 * 48 and set(horizon["quality"]) == {0}
    net = sum(int(house.net_wh.sum()) for house in result.houses)
    assert int((horizon["injected_wh"] - horizon["withdrawn_wh"]).sum()) == net
    measures = dict(result.measures.select("measure", "value").rows())
    assert 0 < measures["peer_to_peer_share"] < 1
    assert measures["generation"] == horizon["injected_wh"].sum()
    audit_totals(result.chain.head)


def test_positions_are_those_of_the_trades(half_a_day: Result) -> None:
    """Nobody sells more than its forecast, or buys more: orders follow what was traded."""
    moved = {house.meter: np.zeros(48, np.int64) for house in half_a_day.houses}
    for window, buyer, seller, delivered, injected in half_a_day.trades.select(
            "window", "buy_meter", "sell_meter", "delivered_wh", "injected_wh").rows():
        moved[seller][window - half_a_day.windows.start] += injected
        moved[buyer][window - half_a_day.windows.start] -= delivered
    for house in half_a_day.houses:
        assert (np.abs(moved[house.meter]) <= np.abs(house.expected_wh)).all()


ONE = """
import sys
from gridtokenx.scenario import load_scenario, run
with run(load_scenario(sys.argv[1])) as result:
    result.write(sys.argv[2])
"""


def test_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the seed of Python's own hash."""
    file = tmp_path / "small.toml"
    file.write_text(text(windows=12, session=6, rounds=2))
    outs = []
    for seed in ("1", "4711"):
        outs.append(tmp_path / seed)
        subprocess.run([sys.executable, "-c", ONE, str(file), str(outs[-1])], check=True, timeout=300,
                       env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(FOLDER.parent)})
    one, other = ({path.name: path.read_bytes() for path in sorted(out.iterdir())} for out in outs)
    assert one == other and len(one) == 15
    provenance = json.loads(one["provenance.json"])
    with run(parse_scenario(text(windows=12, session=6, rounds=2))) as again:
        assert again.hash == provenance["result_hash"]
        assert again.chain.head.header.state_root.hex() == provenance["chain"]["state_root"]
    with run(parse_scenario(text(windows=12, session=6, rounds=2)), seed=4) as another:
        assert another.hash != provenance["result_hash"]


def test_streams_are_named_and_apart() -> None:
    draws = [int(stream(*names).integers(0, 1 << 62)) for names in
             ((1, "agent", "a/1"), (1, "agent", "a/2"), (2, "agent", "a/1"), (1, "forecast", "a/1"))]
    assert len(set(draws)) == 4
    assert draws[0] == int(stream(1, "agent", "a/1").integers(0, 1 << 62)) == 2617742056600375366


def test_a_group_more_leaves_the_others_as_they_were() -> None:
    more = text() + '[[groups]]\nname = "more"\ncount = 2\nagent = { strategy = "truthful" }\n'
    with run(evolve(parse_scenario(text()), windows=2)) as one, run(evolve(parse_scenario(more), windows=2)) as other:
        for house, same in zip(one.houses, other.houses, strict=False):
            assert (house.name, house.zone, house.net_wh.tolist(), house.expected_wh.tolist()) == \
                (same.name, same.zone, same.net_wh.tolist(), same.expected_wh.tolist())
        assert len(other.houses) == 12


def test_outages_and_overrides_act() -> None:
    more = """
[[outages]]
corridor = ["Central", "Bangkok"]
start = 2025-04-21T10:00:00+07:00
windows = 4
backward_w = 4_000
[overrides.parameters]
fee_ppm = 0
[overrides.rates]
ft_uthb_kwh = 0
[[overrides.tariffs]]
tariff = 0
on_peak_uthb_kwh = 6_000_000
[[overrides.zones]]
zone = "Bangkok"
wheeling_uthb_kwh = 0
loss_ppm = 0
[[overrides.corridors]]
corridor = ["Bangkok", "Central"]
wheeling_uthb_kwh = 0
"""
    with run(parse_scenario(text(windows=20, session=20, strategy="truthful", more=more))) as result:
        lost = range(result.windows[16], result.windows[16] + 4)
        flows = result.table("flows").filter(pl.col("window").is_in(list(lost)))
        assert flows.select("corridor", "forward_wh", "backward_wh").unique().rows() == [(0, 1_000, 0)]
        bangkok = result.trades.filter((pl.col("buy_zone") == 0) & (pl.col("sell_zone") == 0))
        assert bangkok.height and not bangkok["wheel_uthb"].sum() and not bangkok["fee_uthb"].sum()
        assert (bangkok["delivered_wh"] == bangkok["injected_wh"]).all()
        rates = result.bills.filter((pl.col("rule") == "energy") & (pl.col("window") == result.windows[13]))
        assert set(rates["rate_uthb_kwh"]) == {6_000_000}


def test_a_scenario_runs_on_a_chain_that_stands(half_a_day: Result) -> None:
    genesis = evolve(load_genesis(DATA / "thailand.toml"), market_start_ms=half_a_day.windows.start * 900_000)
    with gridtokenx.new_chain(genesis) as chain:
        with pytest.raises(ScenarioError, match=r"the chain stands at 2025-04-21 06:00.*06:45:00\+07:00 or later"):
            run(parse_scenario(text(windows=2)), chain=chain)
        result = chain.run(evolve(parse_scenario(text(windows=2)), start=None), seed=5)
        assert result.scenario.seed == 5
        assert result.windows == range(half_a_day.windows.start + 3, half_a_day.windows.start + 5)
        assert chain.frames.settlements().height >= 20
        with pytest.raises(ScenarioError, match=r"the chain has the house roofs/0 already.* other names are allowed"):
            chain.run(evolve(parse_scenario(text(windows=2)), start=None))


def test_a_scenario_forks_a_nodes_directory(tmp_path: Path) -> None:
    cluster = Cluster(small_genesis(1), tmp_path / "cluster")
    try:
        cluster.run(500)
        cluster.checkpoint(0)
        parent = cluster.members[0].path
        file = tmp_path / "on a fork.toml"
        made = text(windows=2, session=1).replace("start = 2025-04-21T06:00:00+07:00", "").replace(
            "[trading]", f'[chain]\nfork = "{parent.relative_to(tmp_path)}"\n[trading]')
        file.write_text(made.replace("Bangkok", "Z0").replace("Central", "Z1"))
        with run(load_scenario(file)) as result:
            assert result.table("settlements").height >= 20
            parent_of = result.provenance()["parent"]
            assert result.chain.provenance is not None
            assert parent_of["id"] == result.chain.provenance.parent.hex()
    finally:
        cluster.close()


def test_the_shipped_genesis_is_the_testnets() -> None:
    shipped, testnet = load_genesis(DATA / "thailand.toml"), load_genesis(FOLDER / "genesis.toml")
    same = evolve(shipped, name=testnet.name, salt=testnet.salt, genesis_ms=testnet.genesis_ms,
                  market_start_ms=testnet.market_start_ms, parameters=testnet.parameters)
    assert same == testnet


# ---------------------------------------------------------------- agents


def situation(round_: int = 0, rounds: int = 3) -> Situation:
    """A surplus, a deficit, and less than a lot."""
    return Situation(range(10, 13), round_, rounds, 0, np.array([950, -420, 60]), np.array([100, 0, 0]),
                     np.array([6_000, 6_000, 6_000]), np.array([2_200, 2_200, 2_200]), look=lambda: pytest.fail("read"))


def orders(strategy: str, here: Situation, **parameters: float) -> Orders:
    return STRATEGIES[strategy](**parameters).agent(stream(1, "a")).orders(here)


def test_truthful_agents_say_what_energy_is_worth() -> None:
    made = orders("truthful", situation())
    assert made.quantity_wh.tolist() == [850, -420, 0]
    assert made.price[:2].tolist() == [2_200, 6_000]


def test_zero_intelligence_stays_within_its_budget() -> None:
    agent = STRATEGIES["zero-intelligence"]().agent(stream(1, "a"))
    drawn = np.array([agent.orders(situation()).price for _ in range(2_000)])
    assert drawn.min() == 2_200 and drawn.max() == 6_000 and not (drawn % 10).any()
    assert abs(drawn.mean() - 4_100) < 50


def test_linear_agents_give_way_evenly() -> None:
    prices = [orders("linear", situation(round_)).price[:2].tolist() for round_ in range(3)]
    assert prices == [[6_000, 2_200], [4_100, 4_100], [2_200, 6_000]]
    half = orders("linear", situation(0, 1), initial=0.0, final=0.5)
    assert half.price[:2].tolist() == [4_100, 4_100]


def seen(round_: int, *, bid: int = -1, ask: int = -1, last: int = -1, trades: int = 0) -> Situation:
    """A seller in the first window, a buyer in the second."""
    book = Book(*(np.full(2, value) for value in (bid, ask, last, trades)))
    return Situation(range(10, 12), round_, 9, 0, np.array([900, -400]), np.array([0, 0]), np.array([6_000, 6_000]),
                     np.array([2_200, 2_200]), look=lambda: book)


def test_zip_agents_learn_what_others_pay() -> None:
    for seed in range(20):
        agent = STRATEGIES["zip"]().agent(stream(seed, "a"))
        sell, buy = agent.orders(seen(0)).price.tolist()
        assert 2_200 * 1.05 - 10 <= sell <= 2_200 * 1.35 + 10 and 6_000 * 0.65 - 10 <= buy <= 6_000 * 0.95 + 10
        for round_ in range(1, 40):     # all trade at 4 THB: the seller asks for more, the buyer offers less
            prices = agent.orders(seen(round_, last=4_000, trades=round_)).price.tolist()
        assert all(abs(price - 4_000) < 400 for price in prices)
        for round_ in range(40, 90):    # nobody trades, and others are ahead with both
            prices = agent.orders(seen(round_, ask=2_500, bid=5_500, last=4_000, trades=39)).price.tolist()
        assert prices[0] <= 2_500 and prices[1] >= 5_500
        later = agent.orders(seen(0)).price.tolist()        # the next session begins with what was learnt
        assert all(abs(price - before) <= 10 for price, before in zip(later, prices, strict=True))


def test_zip_agents_trade_and_never_lose() -> None:
    with run(parse_scenario(text(windows=24, session=12, rounds=5, strategy="zip"))) as result:
        assert result.trades.height and result.tally.done["amend order"]
        # Parts of orders are filled, with losses: never a whole number of lots. The rest is amended all the same.
        assert set(result.tally.failed) <= {"amend order: UNKNOWN_ORDER"}
        assert result.trades["price_mthb_kwh"].min() >= 2_200


def test_rounds_amend_orders_instead_of_adding_to_them() -> None:
    with run(parse_scenario(text(windows=8, session=4, rounds=3, strategy="linear"))) as result:
        assert result.tally.done["amend order"] > result.tally.done["place order"] > 0
        # An order that is filled in the very block of its amend is not there any more.
        assert set(result.tally.failed) <= {"amend order: UNKNOWN_ORDER"}
        assert result.trades.height
        assert not result.table("orders").height


@frozen
class Undercutting:
    """Sells a tick below the best ask; changes its side and back; looks at the book."""

    step: float = field(default=10, metadata={"bounds": (0, 100)})
    seen: list[tuple[int, int, int]] = field(factory=list, init=False)

    def agent(self, chance: np.random.Generator) -> Undercutting:
        return self

    def orders(self, here: Situation) -> Orders:
        book = here.book
        self.seen.append((int(book.bid[0]), int(book.ask[0]), int(book.last[0])))
        turned = 1 - 2 * (here.round % 2)
        price = np.where(book.ask > 0, book.ask - int(self.step), here.most)
        return Orders(np.full(len(here.windows), 200 * turned), np.clip(price, here.least, here.most))


def test_ones_own_strategy_sees_the_book_and_may_change_its_mind() -> None:
    made = parse_scenario(text(windows=1, rounds=3, strategy="mine"), strategies=STRATEGIES | {"mine": Undercutting})
    with run(made) as result:
        assert result.tally.done["cancel order"] > 0
        minds = [house.agent for house in result.houses]
        assert isinstance(minds[0], Undercutting)
        looked = minds[0].seen          # of all five roofs: they share their mind
        assert set(looked[:5]) == {(-1, -1, -1)} and any(ask > 0 for _, ask, _ in looked[5:10])


@frozen
class Broken:
    def agent(self, chance: np.random.Generator) -> Broken:
        return self

    def orders(self, here: Situation) -> Orders:
        return Orders(np.zeros(len(here.windows)), here.most)       # type: ignore[arg-type]


def test_an_agent_that_answers_wrongly_is_named() -> None:
    made = parse_scenario(text(windows=1, strategy="broken"), strategies=STRATEGIES | {"broken": Broken})
    with pytest.raises(AgentError, match=r"the agent of roofs/0 answers quantity_wh .* int64 array with 1 entries"):
        run(made)


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(("old", "new", "said"), [
    ("seed = 3", "seed = -1", "seed is -1; an integer from 0"),
    ("seed = 3", "", "seed is missing; an integer from 0"),
    ("seed = 3", "seed = 3\nsede = 4", "sede is unknown; did you mean seed\\? allowed here: name, seed"),
    ("windows = 48", "windows = 48\ndays = 1", "either days or windows"),
    ("start = 2025-04-21T06:00:00+07:00", "start = 2025-04-21T06:01:00+07:00", "on a quarter hour with its offset"),
    ("start = 2025-04-21T06:00:00+07:00", "", "start is missing; .* says when it begins"),
    ("seed = 3", 'seed = 3\nmechanism = "pay-as-bid"', "mechanism is 'pay-as-bid'; allowed: continuous, uniform-price"),
    ("rounds = 1", "rounds = 11", "trading.rounds is 11; an integer from 1 to 10"),
    ("rounds = 1", "rounds = true", "trading.rounds is True"),
    ("pv_kw = 6.0", 'pv_kw = "6"', r"groups\[0\].pv_kw is '6'; a number from 0"),
    ("count = 5", "count = 0", r"groups\[0\].count is 0"),
    ("pv_kw = 6.0", "batery_kwh = 6.0", r"groups\[0\].batery_kwh is unknown; did you mean battery_kwh"),
    ('"homes"', '"roofs"', "groups.name must not repeat"),
    ('strategy = "zero-intelligence"', 'strategy = "greedy"',
     r"groups\[0\].agent.strategy is 'greedy'; allowed: truthful, zero-intelligence, zip, linear"),
    ('strategy = "zero-intelligence"', 'strategy = "linear", initial = 2', "agent.initial is 2; a number from 0 to 1"),
    ('strategy = "zero-intelligence"', 'strategy = "truthful", initial = 1', "agent.initial is unknown"),
    ("[trading]", '[chain]\ngenesis = "a"\nfork = "b"\n[trading]', "chain has either genesis or fork"),
    ("[trading]", "[chain]\nheight = 1\n[trading]", "chain.height goes with chain.fork"),
    ("[trading]", "[overrides.parameters]\nfee = 1\n[trading]", "overrides.parameters: .*fee"),
    ("[trading]", "[overrides.rates]\nvat_ppm = 600_000\n[trading]", "vat_ppm is 600000; an integer from 0 to 500_000"),
    ("[trading]", '[[overrides.zones]]\nzone = "Bangkok"\n[trading]', r"overrides.zones\[0\] sets nothing; allowed"),
    ("[trading]", '[outputs]\ntables = ["trade"]\n[trading]', "outputs.tables is .*a list of some of these.*trades"),
    ("[trading]", '[[outages]]\ncorridor = "A"\n[trading]', r"outages\[0\].start is missing"),
    ("[trading]", "[trading", "not TOML"),
])
def test_mistakes_are_named_with_what_is_allowed(old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse_scenario(text().replace(old, new))


@pytest.mark.parametrize(("old", "new", "said"), [
    ("Central = 2", "Centre = 2", r"groups\[0\].zones names the zone 'Centre'; the chain has Bangkok, Central"),
    ("count = 5", "count = 5\ntariff = 9", r"groups\[0\].tariff is 9; the chain has classes 0 to 5"),
    ("[trading]",
     '[[outages]]\ncorridor = ["Bangkok", "South"]\nstart = 2025-04-21T10:00:00+07:00\nwindows = 1\n[trading]',
     r"outages\[0\].corridor: no corridor joins Bangkok and South; the chain has Bangkok-Central"),
    ("count = 5", 'count = 5\nprofiles = "none.csv"', "none.csv cannot be read"),
    ("count = 5", 'count = 5\nprofiles = "none.txt"', "a file ending in .csv or .parquet is allowed"),
])
def test_what_the_chain_has_not_is_named(old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        run(parse_scenario(text(windows=1).replace(old, new)))


# ---------------------------------------------------------------- profiles of one's own


def frame(**changes: pl.Series) -> pl.DataFrame:
    times = pl.datetime_range(pl.datetime(2025, 4, 20, 23), pl.datetime(2025, 4, 20, 23, 45), "15m",
                              time_zone="UTC", eager=True)
    made = pl.DataFrame({"profile": ["a"] * 4 + ["b"] * 4, "delivery": [*times, *times],
                         "load_wh": [100, 200, 300, 400] * 2, "pv_wh_kw": [0.0, 50, 60, 70] * 2})
    return made.with_columns(**changes)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_own_profiles_are_read_and_repeat(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine.{kind}"
    shuffled = frame().sample(fraction=1, shuffle=True, seed=1)
    if kind == "csv":
        shuffled.with_columns(pl.col("delivery").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")).write_csv(path)
    else:
        shuffled.write_parquet(path)
    profiles = read_profiles(path)
    assert profiles.load_wh.tolist() == [[100, 200, 300, 400]] * 2
    load, pv = profiles.at(range(profiles.first + 3, profiles.first + 6))
    assert (load[1].tolist(), pv[0].tolist()) == ([400, 100, 200], [70, 0, 50])
    file = tmp_path / "mine.toml"
    file.write_text(text(windows=4).replace("count = 5", f'count = 5\nprofiles = "mine.{kind}"'))
    with run(load_scenario(file)) as result:
        assert result.houses[0].net_wh.tolist() == [-100, 100, 60, 20]
        assert result.houses[9].net_wh.tolist() == [-100, -200, -300, -400]
        assert set(result.provenance()["inputs"]) == {f"mine.{kind}"}


@pytest.mark.parametrize(("made", "said"), [
    (frame().drop("load_wh"), "columns profile, delivery, pv_wh_kw; allowed are profile, delivery, load_wh"),
    (frame().head(7), "7 rows for 2 profiles and 4 windows"),
    (frame(load_wh=pl.Series([1, 2, -3, 4, 1, 2, 3, 4])), "load_wh is -3 of profile a at 2025-04-20 23:30:00"),
    (frame(delivery=pl.Series(range(8))), "delivery is of type Int64"),
    (frame(delivery=frame()["delivery"].dt.offset_by("1m")), "on a quarter hour"),
    (frame(load_wh=pl.Series(list("abcdefgh"))), "load_wh is of type String"),
])
def test_damaged_profiles_are_named(made: pl.DataFrame, said: str, tmp_path: Path) -> None:
    made.write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(ScenarioError, match=said):
        read_profiles(tmp_path / "bad.parquet")


# ---------------------------------------------------------------- commands


def test_a_template_is_written_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(cli, ["sim", "new", "town"]).exit_code == 0
    again = runner.invoke(cli, ["sim", "new", "town"])
    assert again.exit_code and "is there already" in again.output
    file = tmp_path / "town.toml"
    written = file.read_text()
    assert load_scenario(file).houses == 100
    # What is commented out in the template is valid, too.
    whole = "\n".join(line.removeprefix("# ") if line.startswith("# ") and ("=" in line or line.startswith("# ["))
                      else line for line in written.splitlines())
    whole = whole.replace('genesis = "thailand"', "")
    assert parse_scenario(whole).place.height == 1200
    file.write_text(written.replace("days = 1", "windows = 2").replace("count = 50", "count = 4"))
    done = runner.invoke(cli, ["sim", "run", "town.toml", "--out", "out", "--seed", "7", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["seed"], facts["houses"], len(facts["result_hash"])) == (7, 8, 64)
    assert pl.read_parquet(tmp_path / "out" / "houses.parquet").height == 8
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["result_hash"] == facts["result_hash"]
    twice = runner.invoke(cli, ["sim", "run", "town.toml", "--out", "out"])
    assert twice.exit_code and "holds a result already" in twice.output
    wrong = file.with_name("wrong.toml")
    wrong.write_text("name = 1")
    bad = runner.invoke(cli, ["sim", "run", "wrong.toml", "--out", "b"])
    assert bad.exit_code and "wrong.toml: name is 1" in bad.output
