"""The strategies that a scenario may name, and reading one with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import fields

from gridtokenx.scenario.adaptive import ZeroIntelligencePlus
from gridtokenx.scenario.agents import Linear, Strategy, Truthful, ZeroIntelligence
from gridtokenx.scenario.arbitrage import BatteryArbitrage
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.table import Table

STRATEGIES: Mapping[str, type[Any]] = {
    "truthful": Truthful, "zero-intelligence": ZeroIntelligence, "zip": ZeroIntelligencePlus, "linear": Linear,
    "battery-arbitrage": BatteryArbitrage,
}


def read_strategy(table: Table, strategies: Mapping[str, type[Any]]) -> Strategy:
    """The strategy that a scenario's table names, with its parameters. Raises ScenarioError."""
    kind = strategies[table.choice("strategy", strategies)]
    values = {}
    for parameter in fields(kind):
        low, high = parameter.metadata.get("bounds", (-1e12, 1e12))
        if table.has(parameter.name):
            values[parameter.name] = table.number(parameter.name, low, high)
    table.close()
    try:
        made: Strategy = kind(**values)
    except TypeError as error:
        raise ScenarioError(f"{table.where}: {error}") from error
    return made
