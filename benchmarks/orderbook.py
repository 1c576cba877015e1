"""Order book: ns per operation, driven from Python in batches, on the flows of `benchmarks/flows.py`.

    python benchmarks/orderbook.py [--operations 400000] [--batch 4096] [--repeat 7] [--peers] [--keep DIR] [flow ...]

The flows are files of the format that `gridtokenx market replay` reads; all engines read the same file and take turns.
Prefill is not timed; each repetition has a fresh engine. The figure is the median over repetitions of matching time per
operation, NumPy arrays in and out included. `--peers` adds the packages of PyPI that can be called from Python and are
installed: each is driven operation by operation, on the first
20 000, as its users drive it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.flows import FLOWS, make_flow
from gridtokenx._native.orderbook import RESTING, Engine, RecordKind
from gridtokenx.flow import Flow, read_flow, write_flow

PEER_OPERATIONS = 20_000


def play(flow: Flow, batch: int) -> tuple[float, int]:
    """(ns per operation, trades) on a fresh engine."""
    engine = Engine([(0, 0)], sources=1, max_orders=len(flow.records) + 1, max_windows=1, dense_ids=flow.max_id + 1,
                    huge_pages=True)
    engine.load(0, np.empty(0, RESTING))
    sequence = engine.replay(flow.records[: flow.prefill]).next_sequence
    timed = flow.records[flow.prefill:]
    batches = [timed[start:start + batch] for start in range(0, len(timed), batch)]
    trades = 0
    start = time.perf_counter_ns()
    for part in batches:
        done = engine.replay(part, next_sequence=sequence)
        sequence = done.next_sequence
        trades += len(done.trades)
    return (time.perf_counter_ns() - start) / len(timed), trades


def play_lightmatchingengine(flow: Flow) -> float:
    """lightmatchingengine: pure Python, one call per order."""
    module = importlib.import_module("lightmatchingengine.lightmatchingengine")
    engine = module.LightMatchingEngine()
    orders: dict[int, object] = {}
    records = flow.records[: flow.prefill + PEER_OPERATIONS].tolist()
    begun = 0
    for number, (name, price, quantity, kind, side, _) in enumerate(records):
        if number == flow.prefill:
            begun = time.perf_counter_ns()
        if kind == RecordKind.CANCEL:
            order = orders.pop(name, None)
            if order is not None:
                engine.cancel_order(order.order_id, "X")        # type: ignore[attr-defined]
            continue
        order, _ = engine.add_order("X", price, quantity, module.Side.SELL if side else module.Side.BUY)
        if kind == RecordKind.IOC:
            if order.leaves_qty > 0:
                engine.cancel_order(order.order_id, "X")
        else:
            orders[name] = order
    return (time.perf_counter_ns() - begun) / (len(records) - flow.prefill)


PEERS: dict[str, Callable[[Flow], float]] = {"lightmatchingengine": play_lightmatchingengine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flows", nargs="*", metavar="flow", help="mix, cross, deep; all by default")
    parser.add_argument("--operations", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for the flow files")
    options = parser.parse_args()
    for name in options.flows:
        if name not in FLOWS:
            parser.error(f"no flow {name!r}; there are {', '.join(FLOWS)}")
    peers = {name: run for name, run in PEERS.items() if options.peers and importlib.util.find_spec(name)}
    if options.peers and not peers:
        print(f"none of {', '.join(PEERS)} is installed", file=sys.stderr)
    print(f"{'flow':6} {'ns/op median':>12} {'least':>7} {'trades/op':>10} {'cancels':>8}"
          + "".join(f" {name:>20}" for name in peers))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.flows or FLOWS:
            path = folder / f"{name}.flow"
            write_flow(path, make_flow(name, options.operations))
            flow = read_flow(path)
            times: list[float] = []
            others: dict[str, list[float]] = {peer: [] for peer in peers}
            for _ in range(options.repeat):
                elapsed, trades = play(flow, options.batch)
                times.append(elapsed)
                for peer, run in peers.items():
                    if name != "deep" and len(others[peer]) < 3:
                        others[peer].append(run(flow))
            timed = flow.records[flow.prefill:]
            print(f"{name:6} {statistics.median(times):12.1f} {min(times):7.1f} {trades / len(timed):10.2f} "
                  f"{(timed['kind'] == RecordKind.CANCEL).mean():8.2f}"
                  + "".join(f" {statistics.median(figures) if figures else float('nan'):20.0f}"
                            for figures in others.values()), flush=True)


if __name__ == "__main__":
    main()
