"""The day of `benchmarks.scenario` in ASSUME, the market simulator of PyPI (`assume-framework`): its side of the bench.

    python benchmarks/assume_day.py ORDERS.npz 96     # in an environment of its own that has assume-framework

It is told the limit orders of our houses: of each house and window what it sells (above zero) or buys (below), in Wh,
and at what price at the worst, in mTHB/kWh. A house is an operator with a unit of demand, and one of generation if it
sells in any window; both are of ASSUME's own kinds, bid by its own naive strategy what their time series say. A market
opens for so many windows at once (96: once for the day, as our session does), and is cleared at one price a window.
Nothing is written to disk.

Printed is JSON: CPU seconds of the process (all threads) from the orders in memory to the cleared day, imports and the
reading of the file left out, and what came of it. Nothing but ASSUME and what it brings is imported.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from datetime import datetime, timedelta

import numpy as np
from assume import MarketConfig, MarketProduct, World, __version__
from assume.common.fast_pandas import FastIndex
from assume.common.forecaster import DemandForecaster, PowerplantForecaster
from dateutil.relativedelta import relativedelta
from dateutil.rrule import MINUTELY, rrule

BEGIN = datetime(2025, 4, 21)
MINUTES = 15
WINDOW = timedelta(minutes=MINUTES)
OPENING = BEGIN - WINDOW
PER_HOUR = 4                    # W of Wh in a window: orders are powers
MOST_W = 2.0**30                # no unit has more; a power of two, so that shares of it are exact
MARKET = "day ahead"
DEMAND, GENERATION = "demand_energy_naive", "powerplant_energy_naive"


def build(quantity_wh: np.ndarray, price: np.ndarray, together: int) -> World:
    """A world with the houses' units and a market that opens for so many windows `together`."""
    houses, windows = quantity_wh.shape
    end = BEGIN + WINDOW * windows
    world = World(log_level="ERROR")
    world.setup(start=OPENING, end=end + WINDOW, simulation_id="day", save_frequency_hours=None)
    world.add_market_operator("operator")
    # ASSUME asks for the opening after the last one, and ends when that would be too late for its products.
    openings = rrule(MINUTELY, interval=MINUTES * together, dtstart=OPENING, until=end)
    products = [MarketProduct(relativedelta(minutes=MINUTES), together, relativedelta(minutes=MINUTES))]
    world.add_market("operator", MarketConfig(
        MARKET, opening_hours=openings, opening_duration=WINDOW, market_mechanism="pay_as_clear",
        market_products=products, maximum_bid_volume=MOST_W, maximum_bid_price=1e9, minimum_bid_price=0))
    index = FastIndex(start=OPENING, end=end, freq="15min")
    power = np.zeros((houses, len(index)))
    limit = np.zeros((houses, len(index)))
    power[:, 1:1 + windows] = quantity_wh * PER_HOUR
    limit[:, 1:1 + windows] = price
    for number in range(houses):
        name, sold, bought = f"house {number}", power[number].clip(min=0), power[number].clip(max=0)
        world.add_unit_operator(name)
        if bought.any():
            world.add_unit(f"{name} uses", "demand", name, {
                "technology": "inflex_demand", "min_power": 0.0, "max_power": -MOST_W, "price": limit[number],
                "bidding_strategies": {MARKET: DEMAND}}, DemandForecaster(index, demand=bought))
        if sold.any():
            world.add_unit(f"{name} makes", "power_plant", name, {
                "technology": "solar", "min_power": 0.0, "max_power": MOST_W, "fuel_type": "limit",
                "bidding_strategies": {MARKET: GENERATION}},
                PowerplantForecaster(index, fuel_prices={"limit": limit[number]}, availability=sold / MOST_W))
    return world


def main(path: str, together: int) -> None:
    logging.captureWarnings(True)
    with np.load(path) as orders:
        quantity_wh, price = orders["quantity_wh"], orders["price"]
    random.seed(1)                  # ASSUME draws lots among equal prices
    begin = time.process_time()
    world = build(quantity_wh, price, together)
    world.run()
    cpu_s = time.process_time() - begin
    results = [each for role in world.market_operators["operator"].roles for each in role.results]
    energy = np.array([each["demand_volume_energy"] for each in results])
    paid = np.array([each["price"] for each in results])
    print(json.dumps({
        "version": __version__, "cpu_s": cpu_s, "windows": len(results),
        "units": sum(len(each.units) for each in world.unit_operators.values()),
        "orders": int(np.count_nonzero(quantity_wh)), "traded_wh": float(energy.sum()),
        "price_mean": float((energy * paid).sum() / energy.sum()) if energy.any() else None}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
