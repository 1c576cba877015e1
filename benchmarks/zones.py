"""The shared book: ns per operation over 7 zones with capacity, losses and wheeling, at 8 and 96 windows.

    python -m benchmarks.zones [--operations 400000] [--batch 4096] [--repeat 5]

The grid is a tree of 7 zones and 6 corridors. The flow is 63 % limit orders, 32 % cancels, 5 % IOC over all windows and
zones; about a fifth of the orders cross. `isolated` is the same flow without corridors, so that each zone trades by
itself, with the same losses and wheeling inside it. Compact records, NumPy arrays in and out included; median and least
of the process's CPU time per operation, each repetition with fresh engines.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import Machine
from gridtokenx._native.orderbook import RECORD, RESTING, Engine, RecordKind

ZONES = [(0, 0)] * 7
EDGES = [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (4, 6)]
LOSSES = [1_200, 800, 2_000, 1_000, 1_500, 500]
WHEELING = [5_000, 3_000, 8_000, 2_000, 4_000, 6_000]
CORRIDORS = [(*edge, loss, wheel) for edge, loss, wheel in zip(EDGES, LOSSES, WHEELING, strict=True)]
RESTING_PER_BOOK = 300
LEVELS = 200


def make(windows: int, count: int, seed: int = 1) -> tuple[NDArray[np.void], NDArray[np.uint16], int]:
    """(records, places, prefill). Cancels name any earlier order: some are gone by then, as in life."""
    rng = np.random.default_rng(seed)
    prefill = RESTING_PER_BOOK * windows * 7
    total = prefill + count
    records = np.zeros(total, RECORD)
    records["id"] = np.arange(total)
    records["owner"] = rng.integers(0, 65_536, total)
    records["side"] = rng.integers(0, 2, total)
    records["quantity"] = rng.integers(1, 40, total)
    distance = rng.integers(1, LEVELS, total)
    draw = rng.random(total)
    draw[:prefill] = 0.5
    crossing = (draw < 0.15) | (draw >= 0.95)
    distance[crossing] = -rng.integers(1, LEVELS // 10, int(crossing.sum()))
    records["price"] = np.where(records["side"] == 0, 2000 - distance, 2000 + distance)
    places = rng.integers(0, windows * 7, total).astype(np.uint16)
    records["kind"][draw >= 0.95] = RecordKind.IOC
    cancels = np.flatnonzero((draw >= 0.63) & (draw < 0.95))
    named = np.maximum(0, cancels - rng.integers(1, max(2, prefill), len(cancels)))
    records["kind"][cancels] = RecordKind.CANCEL
    records["id"][cancels] = named
    places[cancels] = places[named]
    return records, places, prefill


def play(records: NDArray[np.void], places: NDArray[np.uint16], prefill: int, windows: int, batch: int,
         shared: bool) -> tuple[float, int, int]:
    """(ns per operation, trades, trades between zones)."""
    corridors = CORRIDORS if shared else []
    engine = Engine(ZONES, corridors=corridors, sources=1, max_orders=len(records), max_windows=windows,
                    dense_ids=len(records), huge_pages=True)
    for window in range(windows):
        engine.load(window, np.empty(0, RESTING), capacities=np.full((len(corridors), 2), 10**8, np.int64))
    numbers = range(windows)
    sequence = engine.replay(records[:prefill], windows=numbers, places=places[:prefill]).next_sequence
    parts = [(records[at:at + batch], places[at:at + batch]) for at in range(prefill, len(records), batch)]
    trades = between = 0
    elapsed = 0
    for part, place in parts:
        start = time.process_time_ns()
        done = engine.replay(part, windows=numbers, places=place, next_sequence=sequence)
        elapsed += time.process_time_ns() - start
        sequence = done.next_sequence
        trades += len(done.trades)
        between += int((done.trades["seller_zone"] != done.trades["buyer_zone"]).sum())
    return elapsed / (len(records) - prefill), trades, between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(f"{'windows':>7} {'shared ns/op':>12} {'least':>7} {'isolated':>9} {'least':>7} {'trades/op':>10} "
          f"{'between zones':>14}")
    for windows in (8, 96):
        records, places, prefill = make(windows, options.operations)
        figures: dict[bool, list[float]] = {True: [], False: []}
        made = (0, 0)
        machine = Machine()
        for _ in range(options.repeat):
            machine.measure()
            for shared in (True, False):
                elapsed, trades, between = play(records, places, prefill, windows, options.batch, shared)
                figures[shared].append(elapsed)
                if shared:
                    made = (trades, between)
        print(f"{windows:7} {statistics.median(figures[True]):12.1f} {min(figures[True]):7.1f} "
              f"{statistics.median(figures[False]):9.1f} {min(figures[False]):7.1f} "
              f"{made[0] / options.operations:10.2f} {made[1] / max(1, made[0]):14.2f}", flush=True)
        print(f"    {machine.line()}", flush=True)


if __name__ == "__main__":
    main()
