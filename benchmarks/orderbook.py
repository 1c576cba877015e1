"""Order book: ns per operation, driven from Python in batches, on the flows mix, cross and deep.

    python benchmarks/orderbook.py [--operations 400000] [--batch 4096] [--repeat 5] [flow ...]

mix: 20 000 resting, then 63 % limit (about 29 % of them match), 32 % cancels of live orders, 5 % IOC. cross: 85 %
limit, about 0.75 trades per operation. deep: 1 000 000 resting over 40 000 levels, 60 / 35 / 5. One window, one zone,
no losses. The flow is made beforehand by playing it once; prefill is not timed; each repetition has a fresh engine. The
figure is the median over repetitions of matching time per operation, NumPy arrays in and out included.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from gridtokenx._native.orderbook import OPERATION, RESTING, Code, Engine, Force, Kind, Side

MIDDLE = 50_000         # ticks of 10 mTHB/kWh
MOST_LOTS = 40
# name: (prefill, levels a side, share limit, share cancel, share of limit orders priced to match, and their size
# relative to the others)
FLOWS = {
    "mix": (20_000, 400, 0.63, 0.32, 0.29, 1),
    "cross": (20_000, 400, 0.85, 0.10, 0.48, 2),
    "deep": (1_000_000, 20_000, 0.60, 0.35, 0.05, 1),
}


def places(rng: np.random.Generator, count: int, first_id: int, levels: int) -> NDArray[np.void]:
    """Limit orders that rest: either side of the middle, participants all different."""
    ops = np.zeros(count, OPERATION)
    ops["order_id"] = np.arange(first_id, first_id + count)
    ops["participant"] = ops["order_id"]
    ops["side"] = rng.integers(0, 2, count)
    distance = rng.integers(1, levels + 1, count)
    ops["price_mthb_kwh"] = 10 * np.where(ops["side"] == Side.BUY, MIDDLE - distance, MIDDLE + distance)
    ops["quantity_wh"] = 100 * rng.integers(1, MOST_LOTS + 1, count)
    return ops


def make(name: str, count: int, seed: int = 1) -> tuple[NDArray[np.void], NDArray[np.void], int]:
    """(prefill, operations, trades): plays the flow in small steps so that cancels name orders that live."""
    prefill_count, levels, limit, cancel, matching, size = FLOWS[name]
    rng = np.random.default_rng(seed)
    engine = Engine([(0, 0)], max_orders=prefill_count + count + 1)
    engine.load(0, np.empty(0, RESTING))
    prefill = places(rng, prefill_count, 1, levels)
    sequence = engine.process(prefill, now_ms=0, next_sequence=1).next_sequence
    live = prefill["order_id"].copy()
    steps, trades, next_id = [], 0, prefill_count + 1
    while count > 0:
        n = min(512, count)
        count -= n
        ops = places(rng, n, next_id, levels)
        next_id += n
        draw = rng.random(n)
        aggressive = (draw < limit * matching) | (draw >= limit + cancel)
        reach = rng.integers(1, levels if size > 1 else levels // 20, n)
        ops["price_mthb_kwh"][aggressive] = 10 * np.where(
            ops["side"] == Side.BUY, MIDDLE + reach, MIDDLE - reach)[aggressive]
        ops["quantity_wh"][aggressive] *= size
        ops["force"][draw >= limit + cancel] = Force.IOC
        cancels = np.flatnonzero((draw >= limit) & (draw < limit + cancel))
        cancels = cancels[: len(live)]
        ops["kind"][cancels] = Kind.CANCEL
        ops["order_id"][cancels] = live[rng.choice(len(live), len(cancels), replace=False)]
        outcome = engine.process(ops, now_ms=0, next_sequence=sequence)
        sequence = outcome.next_sequence
        trades += len(outcome.trades)
        gone = np.concatenate([
            ops["order_id"][cancels], outcome.trades["maker_id"][outcome.trades["maker_remaining_wh"] == 0],
            outcome.closed["order_id"]])
        new = ops["order_id"][outcome.results["code"] == Code.RESTING]
        live = np.setdiff1d(np.concatenate([live, new]), gone, assume_unique=True) if len(live) < 200_000 else (
            np.concatenate([live[~np.isin(live, gone)], new[~np.isin(new, gone)]]))
        steps.append(ops)
    return prefill, np.concatenate(steps), trades


def play(prefill: NDArray[np.void], ops: NDArray[np.void], batch: int) -> tuple[float, int]:
    """(ns per operation, trades) on a fresh engine."""
    engine = Engine([(0, 0)], max_orders=len(prefill) + len(ops) + 1, max_windows=4, huge_pages=True)
    engine.load(0, np.empty(0, RESTING))
    sequence = engine.process(prefill, now_ms=0, next_sequence=1).next_sequence
    batches = [ops[start:start + batch] for start in range(0, len(ops), batch)]
    trades = 0
    start = time.perf_counter_ns()
    for part in batches:
        outcome = engine.process(part, now_ms=0, next_sequence=sequence)
        sequence = outcome.next_sequence
        trades += len(outcome.trades)
    return (time.perf_counter_ns() - start) / len(ops), trades


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flows", nargs="*", metavar="flow", help="mix, cross, deep; all by default")
    parser.add_argument("--operations", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    for name in options.flows:
        if name not in FLOWS:
            parser.error(f"no flow {name!r}; there are {', '.join(FLOWS)}")
    print(f"{'flow':6} {'ns/op median':>12} {'least':>7} {'trades/op':>10} {'cancels':>8}")
    for name in options.flows or FLOWS:
        prefill, ops, trades = make(name, options.operations)
        times = []
        for _ in range(options.repeat):
            elapsed, played = play(prefill, ops, options.batch)
            if played != trades:
                raise SystemExit(f"{name}: {played} trades in batches of {options.batch}, {trades} when it was made")
            times.append(elapsed)
        cancels = (ops["kind"] == Kind.CANCEL).mean()
        print(f"{name:6} {statistics.median(times):12.1f} {min(times):7.1f} {trades / len(ops):10.2f} {cancels:8.2f}",
              flush=True)


if __name__ == "__main__":
    main()
