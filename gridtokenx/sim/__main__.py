"""`scripts/simulate.sh`: run seeds, say what was injected and what came out.

By default a seed is a run of whole nodes; `--core` runs consensus alone over a toy ledger, which is many times faster.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial

from attrs import frozen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gridtokenx.sim import bugs, simulation
from gridtokenx.sim.bugs import Bug
from gridtokenx.sim.latency import measure
from gridtokenx.sim.outcome import Outcome
from gridtokenx.sim.whole import run as whole
from gridtokenx.sim.whole.bugs import BUGS as WHOLE_BUGS

CHUNK = 4


@frozen
class Failure:
    """A seed that broke something."""

    seed: int
    what: str


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate.sh", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many runs; with --bugs at most so many per bug")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--core", action="store_true", help="consensus alone, over a toy ledger")
    parser.add_argument("--verbose", action="store_true", help="print every event of every run")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--no-latency", action="store_true", help="with --core: leave out the latency model")
    parser.add_argument("--bugs", action="store_true", help="instead: the table of seeded bugs")
    parser.add_argument("--bug", default="", help="switch this seeded bug on")
    return parser.parse_args(arguments)


def every_bug() -> tuple[Bug, ...]:
    return (*bugs.BUGS, *WHOLE_BUGS)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 iff no seed broke an invariant; with --bugs, iff every bug was caught."""
    options = _arguments(arguments)
    if options.bugs:
        return _table(options)
    chosen = [bug for bug in every_bug() if bug.name == options.bug]
    if options.bug and not chosen:
        print(f"no seeded bug {options.bug!r}; there are: {', '.join(bug.name for bug in every_bug())}")
        return 2
    core = options.core or any(not bug.whole for bug in chosen)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    with chosen[0].switched_on() if chosen else nullcontext():
        for result in _results(options, core):
            if not isinstance(result, Failure):
                outcomes.append(result)
                continue
            failures.append(result)
            print(f"seed {result.seed}: {result.what}\n  replay: {replay_command(result.seed, core, options.bug)}")
            if not options.keep_going:
                break
    _summary(outcomes, len(failures), time.monotonic() - started)
    if core and not options.no_latency and not options.verbose and not chosen:
        for dead in (0, 1):
            latency = measure(dead=dead)
            print(f"latency on 5 ms links, n=5, {dead} dead: p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms "
                  f"({latency.transactions} transactions in {latency.blocks} blocks)")
    return 1 if failures else 0


def replay_command(seed: int, core: bool, bug: str = "") -> str:
    return ("scripts/simulate.sh" + (" --core" if core else "") + (f" --bug '{bug}'" if bug else "")
            + f" --seeds 1 --start {seed} --verbose")


# ---------------------------------------------------------------- seeds


def _one(core: bool, verbose: bool, seed: int) -> Outcome | Failure:
    try:
        log = print if verbose else None
        return simulation.run_seed(seed, log=log) if core else whole.run_seed(seed, log=log)
    except Exception as error:  # noqa: BLE001 - whatever the code under test raises is a finding
        if verbose:
            traceback.print_exc()
        return Failure(seed, f"{type(error).__name__}: {error}")


def _results(options: argparse.Namespace, core: bool) -> Iterator[Outcome | Failure]:
    seeds = range(options.start, options.start + options.seeds)
    run: Callable[[int], Outcome | Failure] = partial(_one, core, options.verbose)
    if options.verbose:
        yield from map(run, seeds)
        return
    with _progress() as progress:
        task = progress.add_task("seeds", total=len(seeds))
        with ProcessPoolExecutor(options.jobs) if options.jobs > 1 else nullcontext() as pool:
            results = map(run, seeds) if pool is None else pool.map(run, seeds, chunksize=CHUNK)
            for result in results:
                progress.advance(task)
                yield result
                if isinstance(result, Failure) and not options.keep_going and pool is not None:
                    pool.shutdown(wait=False, cancel_futures=True)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    transient=True, disable=not sys.stderr.isatty())


def _summary(outcomes: list[Outcome], failures: int, elapsed_s: float) -> None:
    faults: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    adversaries: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        notes.update(outcome.notes)
        adversaries.update(outcome.adversaries)
    runs = len(outcomes) + failures
    print(f"{runs} seeds, {failures} failed, {runs / max(elapsed_s, 1e-9) * 60:.0f} seeds/minute, "
          f"{sum(outcome.virtual_ms for outcome in outcomes) / 1000:.0f} s of virtual time, "
          f"{sum(outcome.events for outcome in outcomes)} events, "
          f"{sum(outcome.messages for outcome in outcomes)} messages")
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
    print("adversaries: " + (", ".join(f"{kind} {count}" for kind, count in sorted(adversaries.items())) or "none"))
    if not outcomes:
        return
    print(f"views {sum(outcome.views for outcome in outcomes)}, "
          f"final blocks {sum(outcome.height for outcome in outcomes)}, "
          f"transactions {sum(outcome.transactions for outcome in outcomes)}, "
          f"epochs ended {sum(outcome.epochs for outcome in outcomes)}, "
          f"lives of processes {sum(outcome.lives for outcome in outcomes)}")
    print("noticed: " + ", ".join(f"{event} {count}" for event, count in sorted(notes.items()) if event in NOTED))
    settled = sorted(outcome.settled_ms for outcome in outcomes)
    print(f"settled after the faults: p50 {settled[len(settled) // 2]} ms, worst {settled[-1]} ms")


NOTED = {"barred", "boundary offered again", "bad gossip", "crashed", "disk refused", "given up", "misbehaviour",
         "reports", "stopped", "synced blocks"}


# ---------------------------------------------------------------- bugs


def _caught(most: int, start: int, bug: Bug) -> tuple[Bug, tuple[int, str] | None]:
    return bug, bug.caught_after(most, start)


def _table(options: argparse.Namespace) -> int:
    """A line per bug: how many seeds it took, what the checker said."""
    missed = 0
    wanted = [bug for bug in every_bug() if options.bug in ("", bug.name)]
    with _progress() as progress:
        task = progress.add_task("bugs", total=len(wanted))
        for bug in wanted:
            _, caught = _caught(options.seeds, options.start, bug)
            progress.advance(task)
            missed += caught is None
            said = f"NOT caught in {options.seeds} seeds" if caught is None else f"{caught[0]:4} seeds  {caught[1]}"
            print(f"{'whole' if bug.whole else 'core':5}  {bug.name:46} {said[:150]}", flush=True)
    print(f"{len(wanted)} bugs, {len(wanted) - missed} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
