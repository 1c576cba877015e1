"""`gridtokenx market`: the matching engine on files, without a network."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from gridtokenx._native.orderbook import Code, SelfTrade
from gridtokenx.flow import read_flow, write_trades
from gridtokenx.flow import replay as replay_flow

SELF_TRADE = {"off": SelfTrade.OFF, "newest": SelfTrade.CANCEL_NEWEST, "oldest": SelfTrade.CANCEL_OLDEST,
              "both": SelfTrade.CANCEL_BOTH}


@click.group()
def market() -> None:
    """Run files of orders through the matching engine."""


@market.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Parquet file for the trades.")
@click.option("--batch", default=65_536, show_default=True, type=click.IntRange(1, 1 << 24), help="Records per call.")
@click.option("--self-trade", default="off", show_default=True, type=click.Choice(list(SELF_TRADE)),
              help="Which order is cancelled when two of one owner meet, where the file does not say.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def replay(file: Path, out: Path | None, batch: int, self_trade: str, as_json: bool) -> None:
    """Run an operations FILE (binary, or Parquet of few or all order fields; docs/matching.md) through the engine."""
    started = time.perf_counter()
    flow = read_flow(file)
    read_s = time.perf_counter() - started
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as bar:
        task = bar.add_task("matching", total=len(flow))
        result = replay_flow(flow, batch=batch, self_trade=SELF_TRADE[self_trade],
                             progress=lambda count: bar.advance(task, count))
    started = time.perf_counter()
    if out is not None:
        write_trades(out, result.trades)
    write_s = time.perf_counter() - started
    timed = len(flow) - flow.prefill
    trades = len(result.trades["maker"])
    refused = int((result.codes[flow.prefill:] >= Code.UNKNOWN_ORDER).sum())
    each_ns = result.matching_s * 1e9 / timed if timed else 0.0
    if as_json:
        click.echo(json.dumps({
            "operations": timed, "prefill": flow.prefill, "trades": trades, "refused": refused,
            "matching_s": result.matching_s, "ns_per_operation": each_ns, "reading_s": read_s, "writing_s": write_s,
            "digest": result.digest.hex()}))
        return
    click.echo(f"{timed} operations after {flow.prefill} of prefill, {trades} trades, {refused} refused")
    click.echo(f"matching {result.matching_s:.3f} s, {each_ns:.1f} ns per operation")
    click.echo(f"reading {read_s:.3f} s, writing {write_s:.3f} s")
    click.echo(f"book left behind {result.digest.hex()}")
