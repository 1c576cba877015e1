"""One simulated day of a town: 96 windows with trading, metering, settlement, conservation check and Parquet.

    python -m benchmarks.scenario [--houses 100 500 1000] [--repeat 3] [--stages] [--assume PYTHON] [--limit 300]

Half of the houses have 5 kW of panels; all are zero-intelligence traders of one zone, in one day-ahead session. Printed
is CPU time of this process (all of its threads) from the scenario's text to the written result, imports and shipped
profiles left out: they are loaded before. With `--stages` also where it went, each stage without those inside it.

With `--assume` the market simulator ASSUME is given the same day by turns with ours, under the interpreter of an
environment of its own (`python -m venv assume-env; assume-env/bin/pip install assume-framework`): the same houses with
the same limit orders in 96 windows. Its CPU time is that of its process from the orders in memory to the cleared day;
one of its days may take `--limit` seconds. The day is then also traded in a session for each window, on both sides.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define, field

from benchmarks import scenario_peer
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
[trading]
session_windows = {session}
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


SESSIONS = {WINDOWS: "one session", 1: "a session for each window"}
LACKS = ("ASSUME clears the market and books dispatch and cash flow in memory; it has no losses, wheeling or taxes, no "
         "metering, no settlement, no conservation check, no ledger, and here it writes no result.")


@define
class Day:
    """What came of our day. `crossing_wh` is what a market with one price trades of the same orders."""

    trades: int
    blocks: int
    traded_wh: int
    crossing_wh: int = 0


@define
class Peer:
    """ASSUME under an interpreter: the CPU seconds of its days, and what it said of the last one, or why it did not."""

    interpreter: str
    version: str
    most_s: float
    cpu_s: list[float] = field(factory=list)
    told: dict[str, Any] = field(factory=dict)
    failed: str = ""

    def turn(self, orders: Path, session: int) -> None:
        if self.failed:
            return
        try:
            self.told = scenario_peer.play(self.interpreter, orders, session, self.most_s)
        except scenario_peer.Unfinished as error:
            self.failed = str(error)
        else:
            self.cpu_s.append(self.told["cpu_s"])

    def say(self, ours_s: float, day: Day) -> None:
        print(f"        ASSUME {self.version}: " + (self.failed or (
            f"{_figures(self.cpu_s)}, ours is {ours_s / median(self.cpu_s):.2f} times that; "
            f"{self.told['traded_wh'] / 1000:.1f} kWh of {self.told['orders']:,} orders (where their curves cross: "
            f"{day.crossing_wh / 1000:.1f})")))


def day(houses: int, folder: Path, session: int = WINDOWS, clock: StageClock | None = None,
        orders: Path | None = None) -> tuple[float, Day]:
    """(CPU seconds, what came of it) of one day; the houses' orders go to `orders` for others."""
    scenario = TEXT.format(roofs=houses // 2, homes=houses - houses // 2, session=session)
    gc.collect()
    with ExitStack() as stack:
        with nullcontext() if clock is None else timing(clock):
            begin = time.process_time()
            result = stack.enter_context(run_scenario(parse_scenario(scenario)))
            result.write(folder)
            spent = time.process_time() - begin
        assert result.table("settlements").filter(quality=0).height >= houses * WINDOWS
        came = Day(result.trades.height, len(result.chain.blocks), result.trades["delivered_wh"].sum())
        if orders is not None:
            came.crossing_wh = scenario_peer.write_orders(result, orders)
    return spent, came


def days(houses: int, session: int, repeat: int, folder: Path, clock: StageClock | None, peer: Peer | None) -> None:
    """Runs the days of so many houses, ours and the peer's by turns, and says what they took."""
    all_spent = []
    for number in range(repeat):
        orders = folder / f"{houses}-{session}-{number}.npz" if peer else None
        spent, came = day(houses, folder / f"{houses}-{session}-{number}", session, clock, orders)
        all_spent.append(spent)
        if peer and orders:
            peer.turn(orders, session)
    ours = median(all_spent)
    aim = f", aim {TARGETS[houses]}" if houses in TARGETS and session == WINDOWS else ""
    print(f"{houses:>5} houses, {SESSIONS[session]}: {_figures(all_spent)}{aim}; "
          f"{ours / houses / WINDOWS * 1e6:.0f} us per house and window; {came.trades:,} trades, "
          f"{came.traded_wh / 1000:.1f} kWh, {came.blocks} blocks")
    for stage, cpu_s in sorted(clock.cpu_s.items() if clock else (), key=lambda entry: -entry[1]):
        print(f"        {cpu_s / repeat:7.2f} s  {stage}")
    if peer:
        peer.say(ours, came)


def _figures(spent: list[float]) -> str:
    return f"{median(spent):.2f} CPU-s" + (f" ({min(spent):.2f} to {max(spent):.2f} of {len(spent)})"
                                           if len(spent) > 1 else "")


@contextmanager
def timing(clock: StageClock) -> Iterator[None]:
    with clock.watching(STAGES), clock.of("all else"):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--houses", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--assume", metavar="PYTHON", help="the interpreter of an environment with assume-framework")
    parser.add_argument("--limit", type=float, default=300, help="seconds that one run of ASSUME may take")
    arguments = parser.parse_args()
    try:
        version = scenario_peer.version(arguments.assume) if arguments.assume else ""
    except scenario_peer.NoPeer as error:
        parser.error(str(error))
    shipped()
    optional("scipy.optimize", "the optimum of welfare")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        day(2, folder / "warm")
        for houses in arguments.houses:
            for session in SESSIONS if arguments.assume else (WINDOWS,):
                peer = Peer(arguments.assume, version, arguments.limit) if arguments.assume else None
                clock = StageClock() if arguments.stages else None
                days(houses, session, arguments.repeat, folder, clock, peer)
    if arguments.assume:
        print(LACKS)


if __name__ == "__main__":
    main()
