"""How a meter's claims are shared among the trades whose buyers asked for its source (MARKET 8).

Pro rata by the energy each trade took from the meter (q_in), to whole Wh by largest remainder, the lowest trade number
first; no trade gets more than it delivered (q). What one cannot take goes to the others in the same proportion, so a
buyer misses energy only when nothing is left for the producer.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from attrs import frozen


@frozen
class Asked:
    """A trade that asked: its number in the window, Wh injected for it, and Wh it delivered, from 1 to those."""

    number: int
    injected_wh: int
    delivered_wh: int


def share(available_wh: int, asked: Sequence[Asked]) -> list[int]:
    """Wh of claims for each of the trades, in their order; together at most `available_wh`."""
    if available_wh >= sum(trade.delivered_wh for trade in asked):
        return [trade.delivered_wh for trade in asked]
    shares = [0] * len(asked)
    left, weight = available_wh, sum(trade.injected_wh for trade in asked)
    # Those that are full at the present level are filled first; each raises the level for the others.
    order = sorted(range(len(asked)), key=lambda at: Fraction(asked[at].delivered_wh, asked[at].injected_wh))
    full = 0
    for at in order:
        trade = asked[at]
        if left * trade.injected_wh < trade.delivered_wh * weight:
            break
        shares[at] = trade.delivered_wh
        left -= trade.delivered_wh
        weight -= trade.injected_wh
        full += 1
    rest = order[full:]
    over = left
    for at in rest:
        shares[at] = left * asked[at].injected_wh // weight
        over -= shares[at]
    rest.sort(key=lambda at: (-(left * asked[at].injected_wh % weight), asked[at].number))
    for at in rest[:over]:
        shares[at] += 1
    return shares
