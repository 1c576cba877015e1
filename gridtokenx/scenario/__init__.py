"""Scenarios: a population that trades on a chain of its own or on a fork, from one file and one seed.

docs/scenarios.md is for who writes them. The same file and seed give the same trades, bills and balances, to the byte.
"""

from gridtokenx.scenario.agents import Agent, Orders, Situation, Strategy
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.result import Result
from gridtokenx.scenario.run import run
from gridtokenx.scenario.schema import Scenario, load_scenario, parse_scenario
from gridtokenx.scenario.strategies import STRATEGIES
from gridtokenx.scenario.sweep import Sweep, load_sweep
from gridtokenx.scenario.sweeping import carry_out

__all__ = ["STRATEGIES", "Agent", "Orders", "Result", "Scenario", "ScenarioError", "Situation", "Strategy", "Sweep",
           "carry_out", "load_scenario", "load_sweep", "parse_scenario", "run"]
