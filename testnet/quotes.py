"""What a household orders: zero-intelligence traders with a budget constraint, as in Gode and Sunder (1993).

Each household forecasts its net position of a window, offers a surplus or bids for a deficit in whole lots at a
random price that cannot make it worse off than the utility would: never below the buy-back rate, never above
retail. Before gate closure some change their mind or take what is there. Pure: all chance comes from the
generator given.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from attrs import frozen

from testnet.households import Household

LOT_WH = 100
TICK_MTHB = 10
LOAD_ERROR = 0.20           # relative standard deviations of the forecasts, planning assumptions [P]
PV_ERROR = 0.15
SHARE_REQUOTE = 0.15        # of households, per window: cancel, then order again nearer to the own value
SHARE_TAKE = 0.30           # of households, per window: an IOC order at the own value shortly before the gate


class Side(Enum):
    BUY = "buy"
    SELL = "sell"


class Act(Enum):
    """What is done at a moment: a first order, cancel and order again, or an immediate-or-cancel order."""

    PLACE = "place"
    REQUOTE = "requote"
    TAKE = "take"


@frozen
class Prices:
    """What the utility would pay and charge, and what a trade inside the zone costs beside its price.

    All in mTHB/kWh but the fee. `wheeling_mthb` is what the buyer pays the zone's network.
    """

    buyback_mthb: int
    retail_mthb: int
    wheeling_mthb: int
    fee_ppm: int

    def buyer_most_mthb(self) -> int:
        """The highest limit, wheeling included and fee excluded, that still beats retail; VAT is on both alike."""
        return self.retail_mthb * 1_000_000 // (1_000_000 + self.fee_ppm) // TICK_MTHB * TICK_MTHB

    def seller_least_mthb(self) -> int:
        """The lowest price that is no worse than the buy-back rate."""
        return -(-self.buyback_mthb // TICK_MTHB) * TICK_MTHB


@frozen
class Quote:
    """One act at `at`, a share of the trading interval (0 its start, 1 the gate)."""

    at: float
    act: Act
    side: Side
    quantity_wh: int
    limit_mthb: int


def forecast_wh(household: Household, window: int, chance: np.random.Generator) -> int:
    """The household's expected injection less withdrawal in `window`, with forecast error; positive: surplus."""
    load_wh, pv_wh = household.window(window)
    load_error, pv_error = chance.standard_normal(2)
    expected_load = load_wh * max(0.0, 1 + LOAD_ERROR * float(load_error))
    expected_pv = pv_wh * max(0.0, 1 + PV_ERROR * float(pv_error))
    return round(expected_pv - expected_load)


def _limit(side: Side, prices: Prices, patience: float, chance: np.random.Generator) -> int:
    """A random price between the own value and the other side's, the latter reached with full patience."""
    least, most = prices.seller_least_mthb(), prices.buyer_most_mthb()
    span = patience * float(chance.random()) * (most - prices.wheeling_mthb - least)
    steps = round(span / TICK_MTHB) * TICK_MTHB
    return least + steps if side is Side.SELL else most - steps


def quotes(household: Household, window: int, prices: Prices, chance: np.random.Generator) -> list[Quote]:
    """The household's acts for `window`, in order of time; none when its forecast is below a lot.

    A surplus is capped by what the meter may inject, a deficit by what it may withdraw (MARKET 3).
    """
    net_wh = forecast_wh(household, window, chance)
    side = Side.SELL if net_wh > 0 else Side.BUY
    capacity_wh = (household.injection_w if net_wh > 0 else household.withdrawal_w) // 4
    quantity_wh = min(abs(net_wh), capacity_wh) // LOT_WH * LOT_WH
    at, requote, take = float(chance.random()) * 0.7, chance.random() < SHARE_REQUOTE, chance.random() < SHARE_TAKE
    if quantity_wh < LOT_WH or prices.buyer_most_mthb() - prices.wheeling_mthb <= prices.seller_least_mthb():
        return []
    acts = [Quote(at, Act.PLACE, side, quantity_wh, _limit(side, prices, 1.0, chance))]
    if requote:
        at += 0.05 + 0.1 * float(chance.random())
        acts.append(Quote(at, Act.REQUOTE, side, quantity_wh, _limit(side, prices, 0.3, chance)))
    elif take:
        # A part of it, at the own value: whoever still wants to trade meets it.
        part_wh = max(LOT_WH, quantity_wh // 2 // LOT_WH * LOT_WH)
        at = 0.8 + 0.1 * float(chance.random())
        acts.append(Quote(at, Act.TAKE, side, part_wh, _limit(side, prices, 0.0, chance)))
    return acts
