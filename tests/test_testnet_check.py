"""The testnet's own check: it must fail for each thing that can be wrong, and name it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner

from testnet.__main__ import main
from testnet.facts import Facts, Fault, Money, Settled, Theft, as_json, judge
from testnet.latency import Latencies

FIVE = ("egat", "mea", "pea", "erc", "nepo")
ROOT = bytes(31) + b"\1"


def money(peer: str, **changes: int) -> Money:
    amounts = {"genesis_uthb": 100, "minted_uthb": 50, "burned_uthb": 20, "held_uthb": 130} | changes
    return Money(peer=peer, height=9, **amounts)


CERTIFIED = {"metered_wh": 5_000_000, "claimed_wh": 4_500_000, "held_wh": 2_500_000, "certified_wh": 2_000_000,
             "certificates": 2, "retired": 1}
SETTLED = Settled(
    peer="egat", windows=3, minted_wh=900, consumed_wh=700, losses_wh=30, supplied_wh=80, taken_wh=250, inexact=[],
    unsettled_trades=0, reported_windows=2, incomplete_windows=0, shown_injected_wh=600, shown_withdrawn_wh=500,
    chain_injected_wh=600, chain_withdrawn_wh=500, bills=9, bill_example="household 1 pays 2 THB", flags={},
    estimated_flags=0, largest_residual_wh=1)
THEFT = Theft(household=7, meter=29, zone="North", hidden_wh=4_000, suspect=29, explained_ppm=999_000)
GOOD = Facts(
    authorities=FIVE, produced=dict.fromkeys(FIVE, 3), transactions_finalized=10, longest_gap_s=0.4, trades=4,
    traded_wh=700, latencies=10, p50_ms=20.0, p99_ms=80.0, peers=FIVE, root_height=9, roots=dict.fromkeys(FIVE, ROOT),
    money=[money(peer) for peer in FIVE], deposited_uthb=50, withdrawn_uthb=20,
    certified=CERTIFIED, settled=SETTLED,
    faults=[Fault(name="finality without pea", text="pea killed; 40 blocks became final without it", holds=True)],
)


def failing(facts: Facts) -> list[str]:
    return [f"{verdict.name}: {verdict.measured}" for verdict in judge(facts) if not verdict.holds]


def test_a_good_run_passes() -> None:
    assert failing(GOOD) == []


@pytest.mark.parametrize(("facts", "words"), [
    (evolve(GOOD, produced={**GOOD.produced, "nepo": 0}), ["every authority", "none by nepo"]),
    (evolve(GOOD, produced={}), ["every authority"]),
    (evolve(GOOD, transactions_finalized=0), ["transactions are finalized"]),
    (evolve(GOOD, trades=0), ["households trade"]),
    (evolve(GOOD, latencies=0), ["measured confirmations"]),
    (evolve(GOOD, certified=None), ["certificates <= metered", "no peer"]),
    (evolve(GOOD, certified={**CERTIFIED, "claimed_wh": 5_000_001}), ["certificates <= metered", "5,000,001 Wh"]),
    (evolve(GOOD, roots={**GOOD.roots, "erc": bytes(32)}), ["one state root", "erc 0000"]),
    (evolve(GOOD, roots={peer: ROOT for peer in FIVE if peer != "mea"}), ["no answer", "mea"]),
    (evolve(GOOD, root_height=0), ["one state root"]),
    (evolve(GOOD, money=[*GOOD.money[:4], money("nepo", held_uthb=131)]), ["THB held", "nepo at height 9"]),
    (evolve(GOOD, money=GOOD.money[:4]), ["no totals from nepo"]),
    (evolve(GOOD, money=[]), ["THB held"]),
    (evolve(GOOD, deposited_uthb=51), ["deposits and withdrawals", "0.000050 THB in"]),
    (evolve(GOOD, faults=[Fault(name="pea comes back", text="pea is at height 3", holds=False)]),
     ["pea comes back", "pea is at height 3"]),
    (evolve(GOOD, settled=None), ["windows settle", "no peer"]),
    (evolve(GOOD, settled=evolve(SETTLED, windows=0, bills=0)), ["bills arrive"]),
    (evolve(GOOD, settled=evolve(SETTLED, taken_wh=251)), ["minted = consumed", "171 Wh"]),
    (evolve(GOOD, settled=evolve(SETTLED, inexact=[77])), ["minted = consumed", "77"]),
    (evolve(GOOD, settled=evolve(SETTLED, chain_withdrawn_wh=499)), ["what the meters showed", "499 Wh"]),
    (evolve(GOOD, settled=evolve(SETTLED, unsettled_trades=1)), ["pools", "1 trades"]),
    (evolve(GOOD, certified={**CERTIFIED, "certified_wh": 4_500_001}), ["certificates <= metered", "4,500,001 Wh"]),
    (evolve(GOOD, settled=evolve(SETTLED, flags={"South": 2})), ["adds up in every zone", "South 2"]),
    (evolve(GOOD, theft=THEFT), ["thief's zone", "no flag"]),
    (evolve(GOOD, theft=THEFT, settled=evolve(SETTLED, flags={"North": 2, "South": 1})), ["and in no other"]),
    (evolve(GOOD, theft=evolve(THEFT, suspect=30), settled=evolve(SETTLED, flags={"North": 2})), ["names meter 30"]),
    (evolve(GOOD, troubles=["mea ended with exit code 1"]), ["mea ended"]),
])
def test_each_thing_that_is_wrong_fails_and_is_named(facts: Facts, words: list[str]) -> None:
    found = failing(facts)
    assert found
    for word in words:
        assert word in " ".join(found)


def test_a_thief_that_is_found_passes() -> None:
    assert failing(evolve(GOOD, theft=THEFT, settled=evolve(SETTLED, flags={"North": 2}))) == []


def test_money_of_earlier_runs_is_set_apart() -> None:
    carried = evolve(GOOD, deposited_uthb=30, withdrawn_uthb=15, carried_minted_uthb=20, carried_burned_uthb=5)
    assert failing(carried) == []


def test_facts_are_json() -> None:
    table = json.loads(json.dumps(as_json(GOOD, judge(GOOD))))
    assert table["ok"] is True
    assert table["facts"]["roots"]["pea"] == ROOT.hex()


def test_quantiles_never_flatter_and_stay_within_one_percent() -> None:
    latencies = Latencies()
    assert latencies.quantile_ms(0.5) == 0
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert len(latencies) == 1000
    assert 500 <= latencies.quantile_ms(0.5) <= 505
    assert 990 <= latencies.quantile_ms(0.99) <= 1000
    assert latencies.most_ms() == 1000
    latencies.add(0.0123456)
    assert latencies.quantile_ms(0.0) >= 1


@pytest.mark.parametrize(("facts", "code", "words"), [
    (GOOD, 0, "CHECK PASSED"),
    (evolve(GOOD, settled=evolve(SETTLED, minted_wh=901)), 1, "CHECK FAILED: minted = consumed + losses + net to grid"),
    (evolve(GOOD, money=[*GOOD.money[:4], money("nepo", held_uthb=129)]), 1, "CHECK FAILED: THB held"),
])
def test_the_exit_code_says_it(facts: Facts, code: int, words: str, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testnet.report.trio.run", lambda *_: facts)
    result = CliRunner().invoke(main, ["--for", "5", "--check", "--run-dir", str(tmp_path / "run")])
    assert (result.exit_code, words in result.output) == (code, True), result.output
    assert CliRunner().invoke(main, ["--for", "5", "--run-dir", str(tmp_path / "unchecked")]).exit_code == 0
