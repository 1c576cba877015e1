"""Order book: ns per operation, driven from Python in batches, on the flows of `benchmarks/flows.py`.

    python -m benchmarks.orderbook [--operations 400000] [--repeat 7] [--no-peers] [--beside PROGRAM] [FLOW ...]

The flows are files of the format that `gridtokenx market replay` reads; all engines read the same file and take turns.
Prefill is not timed; each repetition has a fresh engine. The figure is the median over repetitions of the process's CPU
time per operation, NumPy arrays in and out included. The packages of PyPI that can be called from Python
(`pip install gridtokenx[bench]`, `benchmarks/peers.py`) run beside it in the first three repetitions, those that are
slow on fewer operations. A peer whose book is not ours in the end is marked.

`--beside` runs compiled engines by turns with ours: each is a program that is given the path of a flow's file, plays it
on a book of its own, prefill untimed, and prints nanoseconds of CPU per operation and the number of trades. One that
does not make our trades is marked.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import peers
from benchmarks.flows import FLOWS, make_flow
from benchmarks.machine import Machine
from gridtokenx._native.orderbook import LOT_WH, RESTING, Engine, RecordKind
from gridtokenx.flow import Flow, read_flow, write_flow

PEER_REPEATS = 3
PROGRAM_SECONDS = 300


def play(flow: Flow, batch: int) -> tuple[float, int]:
    """(ns per operation, trades) on a fresh engine."""
    engine = Engine([(0, 0)], sources=1, max_orders=len(flow.records) + 1, max_windows=1, dense_ids=flow.max_id + 1,
                    huge_pages=True)
    engine.load(0, np.empty(0, RESTING))
    sequence = engine.replay(flow.records[: flow.prefill]).next_sequence
    timed = flow.records[flow.prefill:]
    batches = [timed[start:start + batch] for start in range(0, len(timed), batch)]
    trades = 0
    start = time.process_time_ns()
    for part in batches:
        done = engine.replay(part, next_sequence=sequence)
        sequence = done.next_sequence
        trades += len(done.trades)
    return (time.process_time_ns() - start) / len(timed), trades


def play_program(program: Path, path: Path) -> tuple[float, int]:
    """(ns per operation, trades) as a compiled engine says. Raises SystemExit when it does not."""
    try:
        done = subprocess.run([program, path], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True)
        ns, trades = done.stdout.split()
        return float(ns), int(trades)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SystemExit(f"{program} must print nanoseconds per operation and the number of trades of the flow that it "
                         f"is given: {error}") from error


def left_after(flow: Flow, operations: int) -> int:
    """Lots in our book after so many timed operations."""
    engine = Engine([(0, 0)], sources=1, max_orders=len(flow.records) + 1, max_windows=1, dense_ids=flow.max_id + 1)
    engine.load(0, np.empty(0, RESTING))
    engine.replay(flow.records[: flow.prefill + operations])
    return int(engine.records(0)["quantity_wh"].sum()) // LOT_WH


def print_peers(flow: Flow, figures: dict[str, list[tuple[float, int, int]]], ours: float) -> None:
    for name, runs in figures.items():
        if not runs:
            print(f"    {name:20} not run: {flow.prefill} resting orders are too many for it")
            continue
        middle = statistics.median(ns for ns, _, _ in runs)
        _, operations, left = runs[0]
        same = "" if left == left_after(flow, operations) else ", ANOTHER BOOK IN THE END"
        print(f"    {name:20} {middle:9.0f} ns/op {middle / ours:7.0f} x, {operations} operations{same}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flows", nargs="*", metavar="flow", help="mix, cross, deep; all by default")
    parser.add_argument("--operations", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--beside", type=Path, action="append", default=[], metavar="PROGRAM",
                        help="a compiled engine to run by turns; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder for the flow files")
    options = parser.parse_args()
    for name in options.flows:
        if name not in FLOWS:
            parser.error(f"no flow {name!r}; there are {', '.join(FLOWS)}")
    found, missing = ([], []) if options.no_peers else peers.installed()
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    print(f"{'flow':6} {'ns/op median':>12} {'least':>7} {'trades/op':>10} {'cancels':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.flows or FLOWS:
            path = folder / f"{name}.flow"
            write_flow(path, make_flow(name, options.operations))
            flow = read_flow(path)
            machine = Machine()
            times: list[float] = []
            others: dict[str, list[tuple[float, int, int]]] = {peer: [] for peer in found}
            programs: dict[Path, list[tuple[float, int]]] = {program: [] for program in options.beside}
            for repetition in range(options.repeat):
                machine.measure()
                elapsed, trades = play(flow, options.batch)
                times.append(elapsed)
                for program in options.beside:
                    programs[program].append(play_program(program.resolve(), path))
                for peer in found:
                    run = peers.play(peer, flow) if repetition < PEER_REPEATS else None
                    if run is not None:
                        others[peer].append(run)
            timed = flow.records[flow.prefill:]
            middle = statistics.median(times)
            print(f"{name:6} {middle:12.1f} {min(times):7.1f} {trades / len(timed):10.2f} "
                  f"{(timed['kind'] == RecordKind.CANCEL).mean():8.2f}", flush=True)
            print(f"    {machine.line()}", flush=True)
            print_peers(flow, others, middle)
            for program, runs in programs.items():
                theirs, least = statistics.median(ns for ns, _ in runs), min(ns for ns, _ in runs)
                same = "" if {made for _, made in runs} == {trades} else ", OTHER TRADES"
                print(f"    {program.name:20} {theirs:9.1f} ns/op {theirs / middle:7.1f} x, least {least:.1f} "
                      f"{least / min(times):.1f} x{same}", flush=True)


if __name__ == "__main__":
    main()
