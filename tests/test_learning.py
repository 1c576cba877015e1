"""Learning environments: their makers' own checkers pass, and rewards are what the bills say."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test, parallel_seed_test
from test_scenario import text

from gridtokenx.learning import MarketEnv, ParallelMarket
from gridtokenx.learning.episode import Episode
from gridtokenx.scenario import Scenario, ScenarioError, parse_scenario


def scenario(windows: int = 2, battery: bool = True) -> Scenario:
    made = text(windows=windows, session=1, strategy="truthful").replace("06:00:00", "10:00:00").replace(
        "count = 5", "count = 2").replace("Central = 2", "Central = 1")
    return parse_scenario(made.replace("pv_kw = 6.0", "pv_kw = 6.0\nbattery_kwh = 5.0\nbattery_kw = 4.0")
                          if battery else made)


def test_gymnasiums_checker_finds_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(MarketEnv(scenario(), "roofs/0"), skip_render_check=True)


def test_pettingzoos_checkers_find_nothing() -> None:
    parallel_api_test(ParallelMarket(scenario()), num_cycles=5)
    parallel_seed_test(lambda: ParallelMarket(scenario(), ["roofs"]), num_cycles=3)


def test_rewards_add_up_to_the_savings_on_the_bills() -> None:
    market = ParallelMarket(scenario(windows=8))
    chance = np.random.default_rng(1)
    seen, _ = market.reset(seed=5)
    totals = dict.fromkeys(market.agents, 0.0)
    steps = 0
    while market.agents:
        assert all(market.observation_space(name).contains(value) for name, value in seen.items())
        low, high = market.action_space("roofs/0").low, market.action_space("roofs/0").high      # type: ignore[attr-defined]
        seen, rewards, over, cut, _ = market.step(
            {name: np.array([0.1, 1, 0.2], np.float32) * chance.uniform(low, high).astype(np.float32)
             + np.array([0, 0, 0.3], np.float32) for name in market.agents})
        steps += 1
        for name, reward in rewards.items():
            totals[name] += reward
    assert steps == 8 and all(over.values()) and not any(cut.values())
    assert market.step({}) == ({}, {}, {}, {}, {})
    episode = market.episode
    assert episode is not None
    result = episode.simulation.result()
    assert result.trades.height
    accounts = dict(result.people().select("house", "account").rows())
    saved = dict(result.table("savings").select("account", "saved_uthb").rows())
    for name, total in totals.items():
        assert total * 1_000_000 == pytest.approx(saved[accounts[name]], abs=0.01)
    market.close()


def test_decisions_become_orders() -> None:
    """At its own worth it sells; asking for all that its energy is worth to a buyer, before wheeling, it does not."""
    outcomes = {}
    for price in (0.0, 1.0):
        env = MarketEnv(scenario(windows=4, battery=False), "roofs/0")
        env.reset(seed=5)
        over, total = False, 0.0
        while not over:
            _, reward, over, cut, _ = env.step(np.array([price, 1, 0], np.float32))
            total += reward
        assert not cut and env.episode is not None
        house = env.episode.simulation.houses[0]
        trades = env.episode.simulation.result().trades
        outcomes[price] = trades.filter(trades["sell_meter"] == house.meter).height
        with pytest.raises(ResetNeeded):
            env.step(np.zeros(3, np.float32))
        env.close()
    assert outcomes[0.0] > outcomes[1.0] == 0
    env = MarketEnv(scenario(windows=1), "homes/1")
    one, two = (env.reset(seed=seed)[0] for seed in (5, 6))
    assert not np.array_equal(one, two)
    roots = {env.reset()[1]["seed"] for _ in range(3)}
    assert len(roots) == 3
    env.close()


def test_houses_and_groups_that_are_not_there_are_named() -> None:
    with pytest.raises(ScenarioError, match="no house walls/0; it has roofs/0"):
        Episode(scenario(), ["walls/0"])
    with pytest.raises(ScenarioError, match="no group walls; it has roofs, homes"):
        ParallelMarket(scenario(), ["walls"])
