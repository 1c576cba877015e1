"""Who decides on orders: one agent per house, asked in every round of a trading session for its orders of all windows.

An agent knows its forecast, what it has traded, what the utility would charge and pay, and the best prices of its
zone; it has a stream of chance of its own. It answers with quantities and limit prices, and `trading` brings its open
orders in line with them. Nothing here knows the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from gridtokenx.scenario.devices import Battery
from gridtokenx.units import LOT_WH, PRICE_TICK_MTHB

Whole = NDArray[np.int64]


@frozen
class Book:
    """The best open prices of a zone and its last trade's, mTHB/kWh, -1 where there is none; its number of trades.

    An entry per window of the session.
    """

    bid: Whole
    ask: Whole
    last: Whole
    trades: Whole


@frozen(slots=False)
class Situation:
    """What an agent knows. Arrays have an entry per window of the session, earliest first; prices are mTHB/kWh.

    `forecast_wh` is injection less withdrawal as the house expects it, `position_wh` what it has sold less what it has
    bought. `most` is the highest limit that is no worse than buying from the utility, wheeling included; `least` the
    lowest price no worse than selling to it; both are multiples of the tick within the chain's price band.
    `battery` is the house's, with what is stored in it as the session begins: the forecast is what the meter would read
    if it served the house alone, and for a strategy with `PLANS` what it would read without it.
    """

    windows: range
    round: int
    rounds: int
    zone: int
    forecast_wh: Whole
    position_wh: Whole
    most: Whole
    least: Whole
    _look: Callable[[], Book] = field(alias="look")
    battery: Battery | None = None
    stored_wh: int = 0

    @cached_property
    def book(self) -> Book:
        """Best open bid and ask of the house's zone and the last trade's price, as the round begins."""
        return self._look()

    @property
    def wanted_wh(self) -> Whole:
        """What is still to be sold (above zero) or bought (below); 0 where that is less than a lot."""
        missing = self.forecast_wh - self.position_wh
        return np.where(np.abs(missing) < LOT_WH, 0, missing)


@frozen
class Orders:
    """An entry per window: energy to sell (above zero) or buy (below) at the limit price, taken in whole lots.

    Less than a lot leaves nothing open.
    """

    quantity_wh: Whole
    price: Whole


class Agent(Protocol):
    """The mind of one house in one run; asked for every round, in order of time."""

    def orders(self, situation: Situation) -> Orders:
        """What shall be open from now on, beside what has been traded already."""
        ...


class Strategy(Protocol):
    """A kind of agent with its parameters, an attrs class: its fields are what a scenario may set."""

    def agent(self, chance: np.random.Generator) -> Agent:
        """A new mind, with its own stream of chance."""
        ...


def own_worth(situation: Situation, selling: NDArray[np.bool_]) -> Whole:
    """What a kWh is worth to the house: what the utility would charge, or pay, for it."""
    return np.where(selling, situation.least, situation.most)


def on_tick(price: NDArray[np.float64]) -> Whole:
    return (np.rint(price / PRICE_TICK_MTHB) * PRICE_TICK_MTHB).astype(np.int64)


def _within(low: float, high: float, default: float) -> Any:
    """A parameter of a strategy with its bounds."""
    return field(default=default, metadata={"bounds": (low, high)})


@frozen
class Truthful:
    """Bids and offers exactly what energy is worth to the house."""

    def agent(self, chance: np.random.Generator) -> Agent:
        del chance
        return self

    def orders(self, situation: Situation) -> Orders:
        wanted = situation.wanted_wh
        return Orders(wanted, own_worth(situation, wanted > 0))


@frozen
class ZeroIntelligence:
    """Zero-intelligence traders with a budget constraint: D. Gode and S. Sunder, J. of Political Economy 101, 1993.

    Buyers draw their price evenly between the lowest sensible one and their worth, sellers between theirs and the
    highest. Every round draws anew.
    """

    def agent(self, chance: np.random.Generator) -> Agent:
        return _Drawing(chance)


@frozen
class _Drawing:
    chance: np.random.Generator

    def orders(self, situation: Situation) -> Orders:
        ticks = np.maximum(situation.most - situation.least, 0) // PRICE_TICK_MTHB
        drawn = self.chance.integers(0, ticks, endpoint=True)
        return Orders(situation.wanted_wh, situation.least + drawn * PRICE_TICK_MTHB)


@frozen
class Linear:
    """Concession over time, as the default strategies of gsy-e do: an even way from an initial to a final price.

    Shares of the way from what the other side would like best (0) to the own worth (1): `initial` in the session's
    first round, `final` in its last; with one round, `final`.
    """

    initial: float = _within(0, 1, 0)
    final: float = _within(0, 1, 1)

    def agent(self, chance: np.random.Generator) -> Agent:
        del chance
        return self

    def orders(self, situation: Situation) -> Orders:
        passed = situation.round / (situation.rounds - 1) if situation.rounds > 1 else 1.0
        share = self.initial + (self.final - self.initial) * passed
        wanted = situation.wanted_wh
        worth = own_worth(situation, wanted > 0)
        other = own_worth(situation, wanted <= 0)
        return Orders(wanted, on_tick(other + share * (worth - other)))
