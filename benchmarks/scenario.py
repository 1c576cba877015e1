"""One simulated day of a town: 96 windows with trading, metering, settlement, conservation check and Parquet.

    python -m benchmarks.scenario [--houses 100 500 1000] [--repeat 1] [--stages]

Half of the houses have 5 kW of panels; all are zero-intelligence traders of one zone, in one day-ahead session. Printed
is CPU time of this process (all of its threads) from the scenario's text to the written result, imports and shipped
profiles left out: they are loaded before. With `--stages` also where it went, each stage without those inside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.clock import StageClock
from gridtokenx.forks import metering
from gridtokenx.forks.chain import Chain
from gridtokenx.ledger import conservation, run, timed, trie
from gridtokenx.optional import optional
from gridtokenx.scenario import parse_scenario
from gridtokenx.scenario import run as run_scenario
from gridtokenx.scenario.profiles import shipped
from gridtokenx.scenario.result import Result
from gridtokenx.scenario.trading import Floor

TARGETS = {100: 0.5, 500: 1.5, 1000: 2.0}
WINDOWS = 96
TEXT = """
name = "a day"
seed = 1
start = 2025-04-21T00:00:00+07:00
days = 1
[[groups]]
name = "roofs"
count = {roofs}
pv_kw = 5.0
zones = {{ Bangkok = 1 }}
agent = {{ strategy = "zero-intelligence" }}
[[groups]]
name = "homes"
count = {homes}
zones = {{ Bangkok = 1 }}
agent = {{ strategy = "zero-intelligence" }}
"""
STAGES: dict[tuple[Any, str], str] = {
    (metering, "report"): "reports: making and sending them", (Floor, "session"): "agents and their orders",
    (Chain, "_mine"): "blocks: building, executing", (run.BlockRun, "finish"): "blocks: matching, closing",
    (timed.TimedWork, "run"): "settlement, gates, other timed work", (conservation, "check_changes"): "conservation",
    (run, "check_changes"): "conservation", (trie, "update"): "state root", (Result, "write"): "tables and Parquet"}


def day(houses: int, folder: Path) -> tuple[int, int]:
    """(trades, blocks) of one day."""
    with run_scenario(parse_scenario(TEXT.format(roofs=houses // 2, homes=houses - houses // 2))) as result:
        result.write(folder)
        assert result.table("settlements").filter(quality=0).height >= houses * WINDOWS
        return result.trades.height, len(result.chain.blocks)


@contextmanager
def timing(clock: StageClock) -> Iterator[None]:
    with clock.watching(STAGES), clock.of("all else"):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--houses", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--stages", action="store_true")
    arguments = parser.parse_args()
    shipped()
    optional("scipy.optimize", "the optimum of welfare")
    with tempfile.TemporaryDirectory() as folder:
        day(2, Path(folder) / "warm")
        for houses in arguments.houses:
            best, trades, blocks = float("inf"), 0, 0
            clock = StageClock()
            for number in range(arguments.repeat):
                with timing(clock) if arguments.stages else nullcontext():
                    begin = time.process_time()
                    trades, blocks = day(houses, Path(folder) / f"{houses}-{number}")
                    best = min(best, time.process_time() - begin)
            aim = f", aim {TARGETS[houses]}" if houses in TARGETS else ""
            print(f"{houses:>5} houses: {best:7.2f} CPU-s{aim}; {best / houses / WINDOWS * 1e6:.0f} us per house and "
                  f"window; {trades:,} trades, {blocks} blocks")
            for stage, spent in sorted(clock.cpu_s.items(), key=lambda entry: -entry[1]):
                print(f"        {spent / arguments.repeat:7.2f} s  {stage}")


if __name__ == "__main__":
    main()
