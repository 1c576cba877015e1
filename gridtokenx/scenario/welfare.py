"""What trade was worth to all together, and the most that it could have been (docs/measures.md).

The optimum of a window is a linear programme over the orders of the houses at their true worths: energy from sellers
to buyers over the market's paths, with their losses, wheeling and capacities. It may split what markets do not, so it
is an upper bound. SciPy's HiGHS solves it, many windows at a time, for most of a small programme's time is its setting
up; without SciPy there is no optimum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from attrs import frozen

from gridtokenx.forks import Chain
from gridtokenx.forks.measures import Measure
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Corridor, CorridorWindow
from gridtokenx.optional import NotInstalled, optional
from gridtokenx.scenario.auction import Route
from gridtokenx.scenario.clearing import routes_of
from gridtokenx.scenario.population import QUARTERS
from gridtokenx.units import PPM

Capacities = dict[tuple[int, int], int]
Wishes = Sequence[tuple[int, int, int]]
"""(zone, worth mTHB/kWh, Wh) of each who wants to sell, or to buy."""
WAYS_AT_ONCE = 20_000
"""About so many variables are in one programme."""


@frozen
class _Window:
    """What one window may do: its ways, what each seller and buyer wishes, and what corridors carry that may bind."""

    ways: list[tuple[int, int, Route, float]]
    sold: list[int]
    bought: list[int]
    capacities: Capacities


def welfare_measures(chain: Chain, orders: pl.DataFrame, trades: pl.DataFrame) -> list[Measure]:
    """Welfare, its optimum and the share of it that was reached."""
    made = welfare(orders, trades)
    try:
        most: float | None = sum(optimum(chain, orders).values())
    except NotInstalled:
        most = None
    return [
        Measure("welfare", made, "uTHB", "sum over trades of worth of buyer q - worth of seller q_in - wheeling"),
        Measure("welfare_optimum", most, "uTHB", "the most of that for the same wishes (linear programme per window)"),
        Measure("efficiency", None if not most else made / most, "", "welfare / welfare_optimum"),
    ]


def welfare(orders: pl.DataFrame, trades: pl.DataFrame) -> int:
    """Of the trades between those who are in `orders`, uTHB: what it was worth to buyers, sellers and networks."""
    worths = orders.select("window", "meter", worth="worth_mthb_kwh")
    valued = trades.join(worths.rename({"meter": "buy_meter", "worth": "bought"}), on=["window", "buy_meter"]).join(
        worths.rename({"meter": "sell_meter", "worth": "sold"}), on=["window", "sell_meter"])
    return int(valued.select((pl.col("bought") * pl.col("delivered_wh") - pl.col("sold") * pl.col("injected_wh")
                              - pl.col("wheel_uthb")).sum()).item())


def optimum(chain: Chain, orders: pl.DataFrame) -> dict[int, float]:
    """The greatest welfare by window, uTHB. Raises NotInstalled without SciPy."""
    routes = routes_of(chain)
    sums = orders.group_by("window", "side", "zone", "worth_mthb_kwh").agg(pl.col("quantity_wh").sum()).sort(
        "window", "side", "zone", "worth_mthb_kwh")
    wishes: dict[int, tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]] = {}
    for window, side, *wish in sums.rows():
        wishes.setdefault(window, ([], []))[side == "buy"].append((wish[0], wish[1], wish[2]))
    found: dict[int, float] = {}
    some: dict[int, _Window] = {}
    for window, both in wishes.items():
        some[window] = _window(*both, routes, _capacities(chain, window))
        if sum(len(each.ways) for each in some.values()) >= WAYS_AT_ONCE:
            found |= zip(some, _solve(list(some.values())), strict=True)
            some = {}
    return found | dict(zip(some, _solve(list(some.values())), strict=True))


def most_welfare(sellers: Wishes, buyers: Wishes, routes: dict[int, list[Route]], capacities: Capacities) -> float:
    """The optimum of one window."""
    return _solve([_window(sellers, buyers, routes, capacities)])[0]


def _window(sellers: Wishes, buyers: Wishes, routes: dict[int, list[Route]], capacities: Capacities) -> _Window:
    free = sum(quantity for _, _, quantity in sellers) <= min(capacities.values(), default=0)
    ways: list[tuple[int, int, Route, float]] = []
    for buyer, (zone, worth, _) in enumerate(buyers):
        for seller, (origin, cost, _) in enumerate(sellers):
            gains = [(worth - cost * PPM / (PPM - route.loss_ppm) - route.wheel_uthb_kwh / 1000, route)
                     for route in routes[zone] if route.seller_zone == origin]
            good = [(gain, route) for gain, route in gains if gain > 0]
            if free and good:           # no corridor can bind: the best way is enough
                good = [max(good, key=lambda way: way[0])]
            ways += [(seller, buyer, route, gain) for gain, route in good]
    return _Window(ways, [wh for _, _, wh in sellers], [wh for _, _, wh in buyers], {} if free else capacities)


def _solve(windows: list[_Window]) -> list[float]:
    """The optimum of each window, all in one programme: they have nothing in common."""
    what = "the optimum of welfare"
    solver, sparse = optional("scipy.optimize", what), optional("scipy.sparse", what)
    rows, columns, values = list[int](), list[int](), list[float]()
    bounds, gains = list[int](), list[float]()
    for window in windows:
        buyers = len(bounds) + len(window.sold)
        places = {way: buyers + len(window.bought) + at for at, way in enumerate(window.capacities)}
        for column, (seller, buyer, route, _) in enumerate(window.ways, len(gains)):
            needed = PPM / (PPM - route.loss_ppm)
            rows += (len(bounds) + seller, buyers + buyer)
            columns += (column, column)
            values += (needed, 1.0)
            for corridor, direction in route.corridors if places else ():
                rows += (places[corridor, direction], places[corridor, 1 - direction])
                columns += (column, column)
                values += (needed, -1.0)
        bounds += [*window.sold, *window.bought, *window.capacities.values()]
        gains += [gain for *_, gain in window.ways]
    if not gains:
        return [0.0] * len(windows)
    worth = np.array(gains)
    matrix = sparse.csr_array((values, (rows, columns)), shape=(len(bounds), len(gains)))
    done = solver.linprog(-worth, A_ub=matrix, b_ub=bounds, method="highs")
    if not done.success:
        raise ArithmeticError(f"the optimum was not found: {done.message}")
    ends = np.cumsum([len(window.ways) for window in windows])
    return [float(part.sum()) for part in np.split(worth * done.x, ends[:-1])]


def _capacities(chain: Chain, window: int) -> Capacities:
    """What each corridor carries in a window before any trade, by (corridor, direction)."""
    found: Capacities = {}
    number = 0
    while (line := chain.record(spaces.corridor(number))) is not None:
        declared: Corridor = line
        kept: CorridorWindow | None = chain.record(spaces.corridor_window(window, number))
        found[number, 0], found[number, 1] = (
            (declared.forward_w // QUARTERS, declared.backward_w // QUARTERS) if kept is None
            else (kept.forward_wh, kept.backward_wh))
        number += 1
    return found
