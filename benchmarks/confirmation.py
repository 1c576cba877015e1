"""Confirmation at light load and the cost of idleness, on real processes.

    python -m benchmarks.confirmation [--authorities 5] [--transactions 200] [--idle 30]

Prints submission-to-finality as a client sees it (median and 99th percentile), beside two limits measured in the
same run and interleaved with it: a synced write of the same disk, and a round trip to the node over the same
connection. A view needs three message delays and two syncs in a row, so nothing below that can be hoped for.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import click
import trio

from benchmarks.cluster import Cluster, benchmark_genesis, running
from gridtokenx.client import Account, connect
from gridtokenx.client.connection import Client
from gridtokenx.ledger.operations import Transfer
from testnet.keys import testnet_key

GAP_S = 0.15


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def synced_write_ms(path: Path) -> float:
    """One 4 KiB overwrite and fdatasync, ms."""
    with path.open("r+b") as file:
        began = time.perf_counter()
        file.write(bytes(4096))
        file.flush()
        os.fdatasync(file.fileno())
        return (time.perf_counter() - began) * 1000


async def light_load(cluster: Cluster, client: Client, transactions: int, folder: Path) -> dict[str, float]:
    """One transaction at a time, in turn through one node; a gap between them so that the chain falls idle."""
    account = Account(testnet_key("bench 0"), cluster.genesis.chain_id, 0)
    scratch = folder / "scratch"
    scratch.write_bytes(bytes(4096))
    confirmations, writes, trips = [], [], []
    for number in range(transactions):
        signed = account.sign([Transfer(testnet_key("bench 1").public, 1 + number)],
                              valid_until_height=1 << 40, fee_uthb=10_000)
        began = time.perf_counter()
        [answer] = await client.submit([signed.raw])
        if not answer.accepted:
            raise SystemExit(f"refused: {answer.message}")
        [fate] = await client.wait([signed.id], 30_000)
        if fate["state"] != "final":
            raise SystemExit(f"not final after 30 s: {fate}")
        confirmations.append((time.perf_counter() - began) * 1000)
        writes.append(synced_write_ms(scratch))
        began = time.perf_counter()
        await client.status()
        trips.append((time.perf_counter() - began) * 1000)
        await trio.sleep(GAP_S)
    return {
        "transactions": transactions, "p50_ms": statistics.median(confirmations),
        "p99_ms": quantile(confirmations, 0.99),
        "most_ms": max(confirmations), "synced_write_p50_ms": statistics.median(writes),
        "round_trip_p50_ms": statistics.median(trips),
        "p50_to_3_round_trips_and_2_writes": statistics.median(confirmations) / (
            3 * statistics.median(trips) + 2 * statistics.median(writes)),
    }


async def idleness(cluster: Cluster, client: Client, idle_s: float) -> dict[str, float]:
    """CPU of all processes and blocks made while nothing is submitted."""
    await trio.sleep(3)
    before = (await client.status())["height"]
    cpu, began = cluster.cpu_s(), time.perf_counter()
    await trio.sleep(idle_s)
    wall = time.perf_counter() - began
    used = cluster.cpu_s() - cpu
    blocks = (await client.status())["height"] - before
    return {"seconds": wall, "cpu_percent_of_a_core": 100 * used / wall, "blocks": blocks, "rss_mib": cluster.rss_mib()}


async def measure(authorities: int, transactions: int, idle_s: float) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        genesis = benchmark_genesis(authorities, [testnet_key("bench 0")], 10**12, 1)
        async with running(folder, genesis) as cluster, connect(cluster.addresses) as client:
            await trio.sleep(2)
            return {"light": await light_load(cluster, client, transactions, folder),
                    "idle": await idleness(cluster, client, idle_s)}


@click.command()
@click.option("--authorities", default=5, show_default=True, type=click.IntRange(1, 5))
@click.option("--transactions", default=200, show_default=True, type=click.IntRange(1))
@click.option("--idle", "idle_s", default=30.0, show_default=True, type=click.FloatRange(1), help="Seconds.")
@click.option("--json", "as_json", is_flag=True)
def main(authorities: int, transactions: int, idle_s: float, as_json: bool) -> None:
    """Confirmation at light load and the CPU of idle authorities."""
    result = trio.run(measure, authorities, transactions, idle_s)
    if as_json:
        click.echo(json.dumps(result))
        return
    light, idle = result["light"], result["idle"]
    click.echo(f"{authorities} authorities, one transaction at a time, {transactions} of them")
    click.echo(f"  confirmation      p50 {light['p50_ms']:.1f} ms   p99 {light['p99_ms']:.1f} ms   "
               f"most {light['most_ms']:.1f} ms")
    click.echo(f"  limits, same run  round trip p50 {light['round_trip_p50_ms']:.2f} ms, synced write p50 "
               f"{light['synced_write_p50_ms']:.2f} ms; p50 is {light['p50_to_3_round_trips_and_2_writes']:.1f} x "
               "(3 round trips + 2 writes)")
    click.echo(f"idle for {idle['seconds']:.0f} s")
    click.echo(f"  all {authorities} together  {idle['cpu_percent_of_a_core']:.1f} % of a core, {idle['blocks']:.0f} "
               f"blocks, at most {idle['rss_mib']:.0f} MiB resident each")


if __name__ == "__main__":
    main()
