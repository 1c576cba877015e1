"""A month of meters through a node: readings, trading, settlement, claims and the audit, in CPU seconds by stage.

    python -m benchmarks.metering [--meters 80] [--days 30] [--report-windows 4] [--json]

Households of the testnet (real 15-minute profiles, `gridtokenx/scenario/data/README.md`) trade every window with a
forecast error, the orders of an hour in a transaction. Every meter reports each hour, its four readings under one
signature of it (`--report-windows 1`: each quarter of an hour, every reading with its own); one reading in a hundred is
corrected later. Supply points of all zones report too. One authority builds each block, as a leader does:
transactions are decoded, their signatures and the readings' verified, the block executed and checked for conservation,
made final and written. Then `gridtokenx audit` derives all of it once more, from blocks alone, as a process of its own.

What households, meters and authorities do themselves (forecasts, signing) is outside the count. Corrections end after
six hours, so that every window of the run becomes final and gives its claims. CPU seconds of a shared machine vary with
what else runs on the same core: the cost of verifying one signature, measured before and after, says by how much (about
45 us when nothing else runs).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from attrs import asdict, define
from rich.console import Console
from rich.progress import Progress

from benchmarks.clock import StageClock
from benchmarks.month import AHEAD, CORRECTIONS_MS, HOUR, OUTSIDE, Month, month_genesis
from benchmarks.stages import Peer
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import signed_bytes, verify_all
from gridtokenx.ledger import run, settlement_queries, timed, trie
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.operations import report_readings
from gridtokenx.market import monthly, readings
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.desk import Desk
from gridtokenx.node.collector import collecting_less
from testnet.households import load_households
from testnet.keys import testnet_key

WATCHED: dict[tuple[Any, str], str] = {
    (readings, "verify_known"): "verify readings",
    (report_readings, "report"): "take and correct readings",
    (Desk, "flush"): "match orders",
    (timed.TimedWork, "_gate"): "close gates",
    (timed, "settle_window"): "settle",
    (timed, "clear_window"): "claims and clearing",
    (monthly, "run"): "months",
    (timed, "forget_window"): "forget old bills",
    (run, "check_changes"): "conservation",
    (run, "encode_changes"): "encode state",
    (trie, "update"): "state root",
}
"""Functions that are stages of their own; the rest of a block is "execute, other"."""
MEMORY_EVERY_S = 0.5


def measure(meters: int, days: int, folder: Path, bar: Progress, report_windows: int = HOUR) -> dict[str, Any]:
    """Runs it; data of the node are left in `folder`. Raises SystemExit when something does not add up."""
    households = load_households(meters)
    genesis, clock = month_genesis(households), StageClock()
    verification_us = _verification_us()
    peer = Peer.create(folder, genesis)
    month = Month(genesis, peer, clock, report_windows)
    with clock.watching(WATCHED), collecting_less(), Memory.watched(os.getpid()) as memory:
        month.register(households)
        first = genesis.market_start_ms // WINDOW_MS + 3
        last = first + 96 * days - 1
        end = last + 2 + CORRECTIONS_MS // WINDOW_MS
        task = bar.add_task("windows", total=end - first + AHEAD + 1)
        for window in range(first - AHEAD, end + 1):
            month.window(window, first, last)
            bar.advance(task)
        while len(peer.chain.finals()):
            month.checkpoint()
    state = peer.chain.state
    settled = settlement_queries.settled_windows(state)
    certificates = audit_certificates(state)
    root = state.header.state_root
    if settled["inexact"] or settled["unsettled_trades"] or settled["next_window"] <= last:
        raise SystemExit(f"settlement does not add up: {settled}")
    peer.close()
    audit = _audit(folder, bar)
    if not audit["agrees"] or audit["state_root"] != root.hex():
        raise SystemExit(f"the audit differs: {audit}")
    stages = {name: seconds for name, seconds in clock.cpu_s.items() if name != OUTSIDE}
    stages["audit"] = audit["cpu_s"]
    walls = {name: seconds for name, seconds in clock.wall_s.items() if name != OUTSIDE}
    walls["audit"] = audit["wall_s"]
    return {
        "meters": meters, "days": days, "report_windows": report_windows, **asdict(month.counts),
        "settled_windows": settled["windows"],
        "minted_wh": settled["minted_wh"], "supplied_wh": settled["supplied_wh"],
        "consumed_wh": settled["consumed_wh"], "losses_wh": settled["losses_wh"], "taken_wh": settled["taken_wh"],
        "claimed_wh": certificates.claimed_wh, "metered_wh": certificates.metered_wh, "state_root": root.hex(),
        "stages_cpu_s": stages, "stages_wall_s": walls, "cpu_s": sum(stages.values()), "wall_s": sum(walls.values()),
        "verification_us": [verification_us, _verification_us()],
        "outside_cpu_s": clock.cpu_s[OUTSIDE], "peak": asdict(memory), "audit_peak": audit["peak"],
    }


def _verification_us() -> float:
    """CPU of verifying one signature, now."""
    key, chain_id = testnet_key("yardstick"), bytes(32)
    signed = []
    for number in range(500):
        payload = number.to_bytes(40, "big")
        signed.append((key.public, key.sign(Domain.METER_READING, chain_id, payload),
                       signed_bytes(Domain.METER_READING, chain_id, payload)))
    began = time.process_time()
    if not all(verify_all(signed)):
        raise SystemExit("a signature does not verify")
    return (time.process_time() - began) / len(signed) * 1e6


def _audit(folder: Path, bar: Progress) -> dict[str, Any]:
    """`gridtokenx audit`, with what it used."""
    task = bar.add_task("audit", total=None)
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-m", "gridtokenx.cli", "audit", str(folder), "--json"], stdout=out)
        with Memory.watched(process.pid) as memory:
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    bar.remove_task(task)
    if process.returncode not in (0, 1):
        raise SystemExit(f"the audit ended with code {process.returncode}")
    report: dict[str, Any] = json.loads(text)
    return {**report, "cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.perf_counter() - began,
            "peak": asdict(memory)}


@define
class Memory:
    """The most that a process had, in MiB: its own (RssAnon), and the pages of its mapped files, which the system takes
    back when something else needs them."""

    own_mib: float = 0.0
    mapped_mib: float = 0.0

    @classmethod
    @contextmanager
    def watched(cls, process: int) -> Iterator[Memory]:
        """Looks at a process every so often, until it ends or the context does."""
        memory, done = cls(), threading.Event()
        watcher = threading.Thread(target=memory._watch, args=(process, done), daemon=True)
        watcher.start()
        try:
            yield memory
        finally:
            done.set()
            watcher.join()

    def _watch(self, process: int, done: threading.Event) -> None:
        while True:
            try:
                lines = Path(f"/proc/{process}/status").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                return
            found = {name: int(text.split()[0]) / 1024 for name, _, text in
                     (line.partition(":") for line in lines) if name in ("RssAnon", "RssFile", "RssShmem")}
            self.own_mib = max(self.own_mib, found.get("RssAnon", 0.0))
            self.mapped_mib = max(self.mapped_mib, found.get("RssFile", 0.0) + found.get("RssShmem", 0.0))
            if done.wait(MEMORY_EVERY_S):
                return


@click.command()
@click.option("--meters", default=80, show_default=True, type=click.IntRange(2, 200), help="Households.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 60))
@click.option("--report-windows", default=str(HOUR), show_default=True, type=click.Choice(["1", "2", "4"]),
              help="Windows that a meter's report covers, under one signature.")
@click.option("--json", "as_json", is_flag=True)
def main(meters: int, days: int, report_windows: str, as_json: bool) -> None:
    """Readings, trading, settlement, claims and audit of a month: CPU seconds by stage, on one core."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name, Progress(console=console, disable=not console.is_terminal) as bar:
        found = measure(meters, days, Path(name) / "data", bar, int(report_windows))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{meters} meters, {days} days, reports of {report_windows} windows: {found['readings']} readings and "
               f"{found['boundary_readings']} of supply points, {found['corrections']} corrections, "
               f"{found['orders']} orders, of which {found['failed_orders']} failed, {found['trades']} trades, "
               f"{found['transactions']} transactions in {found['blocks']} blocks")
    click.echo(f"  settled       {found['settled_windows']} windows: minted {found['minted_wh']} + supplied "
               f"{found['supplied_wh']} = consumed {found['consumed_wh']} + losses {found['losses_wh']} + taken "
               f"{found['taken_wh']} Wh; claims {found['claimed_wh']} of {found['metered_wh']} Wh net")
    click.echo(f"  state root    {found['state_root']}")
    click.echo("  stage                            CPU s   wall s")
    for stage, seconds in found["stages_cpu_s"].items():
        click.echo(f"  {stage:30} {seconds:7.1f}  {found['stages_wall_s'][stage]:7.1f}")
    click.echo(f"  {'in all':30} {found['cpu_s']:7.1f}  {found['wall_s']:7.1f}")
    click.echo(f"  {OUTSIDE}: {found['outside_cpu_s']:.1f} s")
    before, after = found["verification_us"]
    click.echo(f"  one signature {before:.0f} us before, {after:.0f} us after")
    for name, key in (("the node", "peak"), ("the audit", "audit_peak")):
        click.echo(f"  peak memory   {name}: {found[key]['own_mib']:.0f} MiB of its own, "
                   f"{found[key]['mapped_mib']:.0f} MiB of mapped files")


if __name__ == "__main__":
    main()
