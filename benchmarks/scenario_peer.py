"""ASSUME beside the simulated day: the same limit orders given to `assume_day.py`, under an interpreter that has it.

ASSUME knows neither losses nor wheeling, so a buyer's limit is what it leaves for a seller of the zone after both, as
in our uniform-price auction. `crossing_wh` is where the curves of these orders cross, window by window: what a market
that clears at one price has to trade. Our order book, where orders meet as they come, trades more of the same orders.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridtokenx.scenario.clearing import routes_of
from gridtokenx.scenario.result import Result

PACKAGE, MODULE = "assume-framework", "assume"
SCRIPT = Path(__file__).with_name("assume_day.py")
HOW = (f"to make one: python -m venv assume-env; assume-env/bin/pip install {PACKAGE}; then --assume "
       "assume-env/bin/python")
ASKING_S = 60


class NoPeer(Exception):
    """The interpreter cannot be used; the message says why, and how to make one that can."""


class Unfinished(Exception):
    """The peer failed or took too long; the message says which."""


def version(interpreter: str) -> str:
    """The version of ASSUME that an interpreter has. Raises NoPeer."""
    ask = f"from importlib.metadata import version; import {MODULE}; print(version({PACKAGE!r}))"
    try:
        answer = subprocess.run([interpreter, "-I", "-c", ask], capture_output=True, text=True, timeout=ASKING_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoPeer(f"--assume {interpreter}: {error}; an interpreter with {PACKAGE} is allowed; {HOW}") from error
    if answer.returncode:
        why = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise NoPeer(f"--assume {interpreter}: {why}; an interpreter with {PACKAGE} is allowed; {HOW}")
    return answer.stdout.strip()


def write_orders(result: Result, path: Path) -> int:
    """By house and window what is sold (above zero) or bought, Wh, and the limit, mTHB/kWh. Returns `crossing_wh`."""
    inside = {zone: routes[0] for zone, routes in routes_of(result.chain).items()}
    place = {house.meter: number for number, house in enumerate(result.houses)}
    quantity_wh = np.zeros((len(place), len(result.windows)), np.int64)
    price = np.zeros(quantity_wh.shape)
    columns = "window", "meter", "zone", "side", "price_mthb_kwh", "quantity_wh"
    for window, meter, zone, side, limit, quantity in result.orders.select(columns).iter_rows():
        at, way = (place[meter], window - result.windows.start), inside[zone]
        quantity_wh[at] = quantity if side == "sell" else -quantity
        price[at] = limit if side == "sell" else way.delivered(limit * 1000 - way.wheel_uthb_kwh) / 1000
    np.savez(path, quantity_wh=quantity_wh, price=price)
    return sum(crossing_wh(*each) for each in zip(quantity_wh.T, price.T, strict=True))


def crossing_wh(quantity_wh: NDArray[np.int64], price: NDArray[np.float64]) -> int:
    """What the orders of a window trade when all that can be worth its while at one price is traded."""
    buys = quantity_wh < 0
    return max((min(-int(quantity_wh[buys & (price >= limit)].sum()), int(quantity_wh[~buys & (price <= limit)].sum()))
                for limit in price[buys]), default=0)


def play(interpreter: str, orders: Path, together: int, most_s: float) -> dict[str, Any]:
    """What ASSUME says of the day, its market opening for so many windows `together`. Raises Unfinished."""
    command = [interpreter, "-I", str(SCRIPT), str(orders), str(together)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=most_s)
    except subprocess.TimeoutExpired:
        raise Unfinished(f"not finished after {most_s:.0f} s") from None
    if ended.returncode:
        raise Unfinished(f"failed: {ended.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])     # its log may come before
    return found

