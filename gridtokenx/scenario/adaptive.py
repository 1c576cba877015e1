"""ZIP, zero intelligence plus: D. Cliff, Minimal-intelligence agents for bargaining behaviors, HP Labs HPL-97-91, 1997.

Each agent quotes its worth times one plus a profit margin, and adapts the margin to what it sees, by the Widrow-Hoff
rule with momentum. Here a round stands for a shout: a trade in the own zone since the last round is an accepted one at
the last price; without a trade the best open price of the own side is one that was not accepted.
"""

from __future__ import annotations

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from gridtokenx.scenario.agents import Agent, Orders, Situation, Whole, on_tick, own_worth
from gridtokenx.units import PRICE_TICK_MTHB

Real = NDArray[np.float64]
RELATIVE = 0.05         # targets lie up to so much beyond the price seen,
ABSOLUTE = 50.0         # and up to so many mTHB/kWh more
MARGIN = (0.05, 0.35)   # at first
BETA = (0.1, 0.5)       # learning rate
MOMENTUM = (0.0, 0.1)


@frozen
class ZeroIntelligencePlus:
    """Every agent draws its first margin, learning rate and momentum from intervals that are our assumptions."""

    def agent(self, chance: np.random.Generator) -> Agent:
        margin, beta, momentum = (float(chance.uniform(low, high)) for low, high in (MARGIN, BETA, MOMENTUM))
        return _Adapting(chance, beta, momentum, margin, margin)


@define(eq=False)
class _Adapting:
    """Margins as a seller and as a buyer are kept from session to session; within one, each window has its own."""

    chance: np.random.Generator
    beta: float
    momentum: float
    sell_margin: float
    buy_margin: float
    _price: Real = field(factory=lambda: np.zeros(0))
    _change: Real = field(factory=lambda: np.zeros(0))
    _trades: Whole = field(factory=lambda: np.zeros(0, np.int64))

    def orders(self, situation: Situation) -> Orders:
        selling = situation.forecast_wh > 0
        worth = own_worth(situation, selling).astype(np.float64)
        wanted = situation.wanted_wh
        if situation.round == 0:
            self._price = np.where(selling, worth * (1 + self.sell_margin), worth * (1 - self.buy_margin))
            self._change = np.zeros(len(worth))
            self._trades = np.zeros(len(worth), np.int64)
        else:
            self._learn(situation, selling, worth, wanted != 0)
        price = np.clip(on_tick(self._price), situation.least, np.maximum(situation.most, situation.least))
        return Orders(wanted, price // PRICE_TICK_MTHB * PRICE_TICK_MTHB)

    def _learn(self, situation: Situation, selling: NDArray[np.bool_], worth: Real, active: NDArray[np.bool_]) -> None:
        book = situation.book
        accepted = book.trades > self._trades
        self._trades = book.trades
        seen = np.where(accepted, book.last, np.where(selling, book.ask, book.bid))
        # More margin is a higher price for a seller, a lower one for a buyer.
        sign = np.where(selling, 1.0, -1.0)
        ahead = (seen - on_tick(self._price)) * sign
        more = accepted & (ahead >= 0)
        less = active & (seen >= 0) & (ahead <= 0) & ~more      # also who has the best price that nobody took
        way = np.where(more, sign, np.where(less, -sign, 0.0))
        relative, absolute = self.chance.random((2, len(worth)))
        target = seen * (1 + way * RELATIVE * relative) + way * ABSOLUTE * absolute
        step = np.where(way != 0, self.beta * (target - self._price), 0.0)
        self._change = np.where(way != 0, self.momentum * self._change + (1 - self.momentum) * step, self._change)
        moved = self._price + np.where(way != 0, self._change, 0.0)
        self._price = np.where(selling, np.maximum(moved, worth), np.clip(moved, 0, worth))
        for side, name in ((selling, "sell_margin"), (~selling, "buy_margin")):
            known = side & (worth > 0)
            if known.any():
                setattr(self, name, float(np.mean(np.abs(self._price[known] / worth[known] - 1))))
