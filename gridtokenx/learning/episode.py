"""An episode: a scenario that stops before every trading session, to let learners see and decide.

What a learner decides is how far its price goes from its own worth to the other side's best, which part of its forecast
it trades, and what its battery adds. Its reward is what its account saves against having no market, THB, in the windows
that were settled since it decided last; over an episode that is exactly what `frames.savings` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from attrs import define, evolve, field
from numpy.typing import NDArray

from gridtokenx.forks.measures import alone_uthb
from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import Settlement, Settling
from gridtokenx.ledger.records import Market
from gridtokenx.scenario import Scenario, ScenarioError, load_scenario
from gridtokenx.scenario.agents import Orders, Situation, on_tick
from gridtokenx.scenario.population import House
from gridtokenx.scenario.run import Simulation, begin
from gridtokenx.units import LOT_WH, UTHB_PER_THB

Vector = NDArray[np.float32]
ACTIONS = ("price", "quantity", "battery")
ACTION_LOW, ACTION_HIGH = (0.0, 0.0, -1.0), (1.0, 1.0, 1.0)
OBSERVATIONS = ("sine of the time of day", "cosine of the time of day", "share of the horizon that is over",
                "forecast, kWh", "stored, share of the battery", "least, THB/kWh", "most, THB/kWh",
                "best bid, THB/kWh", "best ask, THB/kWh", "last price of the window before, THB/kWh")
MTHB_PER_THB = 1000
WINDOWS_OF_A_DAY = 96
THAI_WINDOWS = 28           # seven hours
FORECAST_MOST_KWH = 10_000.0
PRICE_MOST_THB = 1_000.0


@define(eq=False)
class Learner:
    """The mind of a house that somebody else makes up: it trades as `action` says, and keeps what it last saw."""

    action: Vector = field(factory=lambda: np.zeros(len(ACTIONS), np.float32))

    def orders(self, situation: Situation) -> Orders:
        price, quantity, extra = (float(value) for value in self.action)
        wanted = np.rint(situation.wanted_wh * quantity).astype(np.int64)
        if situation.battery is not None:
            wanted = wanted + round(extra * situation.battery.power_wh)
        worth = np.where(wanted > 0, situation.least, situation.most)
        other = np.where(wanted > 0, situation.most, situation.least)
        asked = np.maximum(on_tick(worth + price * (other - worth)), 0)
        return Orders(np.where(np.abs(wanted) < LOT_WH, 0, wanted), asked)


@define(eq=False)
class Episode:
    """One run of `scenario`; the houses called `names` are learners'."""

    scenario: Scenario
    names: Sequence[str]
    simulation: Simulation = field(init=False)
    learners: dict[str, Learner] = field(factory=dict)
    session: range | None = None
    _houses: dict[str, House] = field(factory=dict)
    _sessions: Iterator[range] = field(init=False)
    _paid_until: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.simulation = begin(self.scenario)
        for house in self.simulation.houses:
            if house.name in self.names:
                self._houses[house.name] = house
                self.learners[house.name] = house.agent = Learner()
        missing = [name for name in self.names if name not in self._houses]
        if missing:
            self.close()
            raise ScenarioError(f"the scenario has no house {missing[0]}; it has "
                                f"{', '.join(house.name for house in self.simulation.houses[:8])} ...")
        self._paid_until = self.simulation.windows.start
        self._sessions = self.simulation.sessions()
        self.session = next(self._sessions, None)

    def decide(self, actions: Mapping[str, Vector]) -> dict[str, float]:
        """Lets the session pass, and all until the next one or, after the last, the end. The rewards."""
        for name, action in actions.items():
            self.learners[name].action = np.clip(np.asarray(action, np.float32), ACTION_LOW, ACTION_HIGH)
        self.session = next(self._sessions, None)
        return self._rewards()

    @property
    def over(self) -> bool:
        return self.session is None

    def observe(self, name: str) -> Vector:
        """What a learner sees before the session; zeros when there is none any more."""
        if self.session is None:
            return np.zeros(len(OBSERVATIONS), np.float32)
        house, simulation, first = self._houses[name], self.simulation, self.session.start
        at = first - simulation.windows.start
        least, most = simulation.floor.worth(house, self.session)
        book = simulation.floor.book(house.zone, self.session)
        before: Market | None = simulation.chain.record(spaces.market(first - 1, house.zone))
        angle = 2 * np.pi * ((first + THAI_WINDOWS) % WINDOWS_OF_A_DAY) / WINDOWS_OF_A_DAY
        stored = 0.0 if house.battery is None else house.stored_wh / house.battery.capacity_wh
        prices = [least, most, max(int(book.bid[0]), 0), max(int(book.ask[0]), 0),
                  before.last_price if before is not None and before.trades else 0]
        seen = np.array([np.sin(angle), np.cos(angle), at / len(simulation.windows), house.expected_wh[at] / 1000,
                         stored, *(price / MTHB_PER_THB for price in prices)], np.float32)
        return np.clip(seen, OBSERVATION_LOW, OBSERVATION_HIGH)

    def _rewards(self) -> dict[str, float]:
        chain = self.simulation.chain
        settling: Settling = chain.record(spaces.SETTLING)
        rewards = dict.fromkeys(self._houses, 0.0)
        for window in range(self._paid_until, settling.window):
            for name, house in self._houses.items():
                bill: Settlement | None = chain.record(spaces.settlement(window, house.meter))
                if bill is not None:
                    alone = alone_uthb(chain, window, house.tariff, bill.injected, bill.withdrawn)
                    rewards[name] += (alone - sum(line[3] for line in bill.lines)) / UTHB_PER_THB
        self._paid_until = max(self._paid_until, settling.window)
        return rewards

    def close(self) -> None:
        self.simulation.chain.close()


OBSERVATION_LOW = np.array([-1, -1, 0, -FORECAST_MOST_KWH, 0, *[0] * 5], np.float32)
OBSERVATION_HIGH = np.array([1, 1, 1, FORECAST_MOST_KWH, 1, *[PRICE_MOST_THB] * 5], np.float32)


def scenario_of(scenario: Scenario | str | Path) -> Scenario:
    return scenario if isinstance(scenario, Scenario) else load_scenario(scenario)


def seeded(scenario: Scenario, seed: int) -> Scenario:
    return evolve(scenario, seed=seed)
