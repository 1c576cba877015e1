"""`python -m gridtokenx.sim --seeds N --start S [--verbose]`: run seeds, say what was injected and what came out."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from gridtokenx.sim import bugs
from gridtokenx.sim.latency import measure
from gridtokenx.sim.simulation import Outcome, run_seed


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gridtokenx.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many runs")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--verbose", action="store_true", help="print every event of every run")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--no-latency", action="store_true", help="leave out the latency model")
    parser.add_argument("--bugs", action="store_true", help="instead: the table of seeded bugs, tried on --seeds each")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 iff no seed broke an invariant."""
    options = _arguments(arguments)
    if options.bugs:
        return bugs.main(options.seeds)
    outcomes: list[Outcome] = []
    failures = 0
    started = time.monotonic()
    for seed in range(options.start, options.start + options.seeds):
        try:
            outcome = run_seed(seed, log=print if options.verbose else None)
        except Exception as error:  # noqa: BLE001 - whatever the code under test raises is a finding
            failures += 1
            print(f"seed {seed}: {type(error).__name__}: {error}")
            print(f"  replay: python -m gridtokenx.sim --seeds 1 --start {seed} --verbose")
            if options.verbose:
                traceback.print_exc()
            if not options.keep_going:
                break
            continue
        outcomes.append(outcome)
        if options.verbose:
            print(f"seed {seed}: n={outcome.n} trace {outcome.trace_hash}")
    elapsed = time.monotonic() - started
    _summary(outcomes, failures, elapsed)
    if not options.no_latency and not options.verbose:
        for dead in (0, 1):
            latency = measure(dead=dead)
            print(f"latency on 5 ms links, n=5, {dead} dead: p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms "
                  f"({latency.transactions} transactions in {latency.blocks} blocks)")
    return 1 if failures else 0


def _summary(outcomes: list[Outcome], failures: int, elapsed: float) -> None:
    total: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    adversaries: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.faults)
        notes.update(outcome.notes)
        adversaries.update(outcome.adversaries)
    runs = len(outcomes) + failures
    print(f"{runs} seeds, {failures} failed, {runs / max(elapsed, 1e-9) * 60:.0f} seeds/minute, "
          f"{sum(outcome.virtual_ms for outcome in outcomes) / 1000:.0f} s of virtual time, "
          f"{sum(outcome.events for outcome in outcomes)} events, "
          f"{sum(outcome.messages for outcome in outcomes)} messages")
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(total.items())))
    print("adversaries: " + (", ".join(f"{kind} {count}" for kind, count in sorted(adversaries.items())) or "none"))
    if outcomes:
        settled = sorted(outcome.settled_ms for outcome in outcomes)
        print(f"views {sum(outcome.views for outcome in outcomes)}, "
              f"final blocks {sum(outcome.height for outcome in outcomes)}, "
              f"transactions {sum(outcome.transactions for outcome in outcomes)}, "
              f"synced blocks {notes['synced blocks']}, given up {notes['given up']}, "
              f"double votes noticed {notes['misbehaviour']}")
        print(f"epochs {sum(outcome.epochs for outcome in outcomes)}, boundary blocks offered again "
              f"{notes['boundary offered again']}, barred from signing {notes['barred']}")
        print(f"settled after the faults: p50 {settled[len(settled) // 2]} ms, worst {settled[-1]} ms")


if __name__ == "__main__":
    sys.exit(main())
