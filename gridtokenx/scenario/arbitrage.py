"""Battery arbitrage: buys when energy is cheap, stores it, and sells or uses it when it is dear.

In the first round of a session the agent plans its battery over the session's windows by dynamic programming over
levels of charge, against the prices that it hopes for: so far from its own worth towards the other side's. It trades
what the plan leaves, and gives way evenly to its worth over the rounds. Without a battery it just trades its forecast.
"""

from __future__ import annotations

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from gridtokenx.scenario.agents import Agent, Orders, Situation, Whole, _within, on_tick
from gridtokenx.scenario.devices import Battery
from gridtokenx.units import LOT_WH

LEVELS = 24


@frozen
class BatteryArbitrage:
    """`hope`: how far from the own worth (0) to the other side's best (1) the prices lie that it plans with."""

    hope: float = _within(0, 1, 0.5)

    PLANS = True            # its forecast is that without the battery

    def agent(self, chance: np.random.Generator) -> Agent:
        del chance
        return _Planning(self.hope)


@define
class _Planning:
    hope: float
    _plan: Whole = field(factory=lambda: np.zeros(0, np.int64))

    def orders(self, situation: Situation) -> Orders:
        gap = np.maximum(situation.most - situation.least, 0)
        sell, buy = situation.least + self.hope * gap, situation.most - self.hope * gap
        if situation.round == 0:
            battery = situation.battery
            self._plan = situation.forecast_wh if battery is None else plan(
                battery, situation.stored_wh, situation.forecast_wh, sell, buy)
        passed = situation.round / (situation.rounds - 1) if situation.rounds > 1 else 0.0
        wanted = self._plan - situation.position_wh
        asked = np.where(wanted > 0, sell + passed * (situation.least - sell), buy + passed * (situation.most - buy))
        return Orders(np.where(np.abs(wanted) < LOT_WH, 0, wanted), np.maximum(on_tick(asked), 0))


def plan(battery: Battery, stored_wh: int, net_wh: Whole, sell: NDArray[np.float64], buy: NDArray[np.float64]) -> Whole:
    """What the meter reads in each window under the best use of the battery, charge being in `LEVELS` equal steps.

    What is left at the end is worth the lowest price for which it could be bought, less the losses.
    """
    step = battery.capacity_wh / LEVELS
    levels = np.arange(LEVELS + 1)
    change = (levels[None, :] - levels[:, None]) * step        # from (row) to (column): stored Wh
    outside = np.where(change > 0, -change / battery.efficiency, -change)
    allowed = np.abs(outside) <= battery.power_wh + 1e-9
    value = levels * step * float(buy.min()) * battery.efficiency if len(buy) else levels * 0.0
    best = np.zeros((len(net_wh), LEVELS + 1), np.int64)
    for at in range(len(net_wh) - 1, -1, -1):
        meter = net_wh[at] + outside
        gain = np.where(allowed, np.where(meter > 0, meter * sell[at], meter * buy[at]) + value[None, :], -np.inf)
        best[at] = gain.argmax(axis=1)
        value = gain.max(axis=1)
    level = min(LEVELS, int(stored_wh / step))
    read = np.zeros(len(net_wh), np.int64)
    for at in range(len(net_wh)):
        following = int(best[at, level])
        read[at] = round(float(net_wh[at] + outside[level, following]))
        level = following
    return read
