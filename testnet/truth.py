"""What really flows, and what meters show of it: households, corridors and supply points of one window. Pure.

The zones are closed by construction: what a zone's households inject and withdraw, what its corridors carry and what
its wires lose is covered by its supply point. So boundary meters agree with the households' up to losses - unless
one of the households' meters shows too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import define, frozen

from gridtokenx.ledger.records import Corridor, Zone
from testnet.households import Household

M = 1_000_000
CHARGER_W = 11_000          # three phases, 16 A: what the thief charges with, every quarter hour 60 to 100 % of it [P]
SHOWN_PERCENT = 10          # of everything the thief draws: a bridged current transformer [P]


@frozen
class Flow:
    """Energy through a meter in a window, Wh: into the grid and out of it; at a boundary, into the zone and out."""

    injected_wh: int
    withdrawn_wh: int


def drawn(household: Household, window: int, thief: int | None, seed: int) -> Flow:
    """What the household really feeds in and draws. Sun used at once passes no meter."""
    load_wh, pv_wh = household.window(window)
    if household.index == thief:
        share = 0.6 + 0.4 * float(np.random.default_rng([seed, window]).random())
        load_wh += round(share * CHARGER_W / 4)
    return Flow(max(0, pv_wh - load_wh), max(0, load_wh - pv_wh))


def shown(household: Household, flow: Flow, thief: int | None) -> Flow:
    """What the household's meter shows of it."""
    if household.index != thief:
        return flow
    return Flow(flow.injected_wh, flow.withdrawn_wh * SHOWN_PERCENT // 100)


@define
class Line:
    """Energy over a corridor in a window: sent by `first` to `second`, and the other way."""

    forward_wh: int = 0
    backward_wh: int = 0


def scheduled(trades: Iterable[Mapping[str, Any]], zones: Sequence[Zone], corridors: Sequence[Corridor]) -> list[Flow]:
    """Per corridor what the window's trades send over it, netted: (what leaves the first zone, what leaves the second).

    A trade's energy after the k-th element of its path is floor(q_in (10^6 - Lcum_k) / 10^6) (MARKET 7.1).
    """
    lines = [Line() for _ in corridors]
    for trade in trades:
        at, lost = trade["sell_zone"], zones[trade["sell_zone"]].loss_ppm
        for number in trade["path"]:
            corridor = corridors[number]
            sent = trade["injected_wh"] * (M - lost) // M
            if at == corridor.first:
                lines[number].forward_wh += sent
                at = corridor.second
            else:
                lines[number].backward_wh += sent
                at = corridor.first
            lost += corridor.loss_ppm
    return [Flow(max(0, line.forward_wh - line.backward_wh), max(0, line.backward_wh - line.forward_wh))
            for line in lines]


def arrives(sent_wh: int, corridor: Corridor) -> int:
    """What comes out of a corridor's other end."""
    return sent_wh * (M - corridor.loss_ppm) // M


def corridor_ends(flow: Flow, corridor: Corridor) -> tuple[Flow, Flow]:
    """What the two boundary meters of a corridor show: the first zone's and the second zone's."""
    return (Flow(arrives(flow.withdrawn_wh, corridor), flow.injected_wh),
            Flow(arrives(flow.injected_wh, corridor), flow.withdrawn_wh))


def supply_point(households: Iterable[Flow], ends: Iterable[Flow], zone: Zone) -> Flow:
    """What the zone's supply point must let in or out, so that the zone's electricity adds up (MARKET 7.7)."""
    fed = out = 0
    for flow in (*households, *ends):
        fed += flow.injected_wh
        out += flow.withdrawn_wh
    over = fed - out - (2 * zone.loss_ppm * fed + M) // (2 * M)
    if over >= 0:
        return Flow(0, over)
    return Flow(-(over * M // (M - zone.loss_ppm)), 0)
