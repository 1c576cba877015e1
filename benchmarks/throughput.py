"""Finalized signed transactions per second of local authorities, and where the time of one transaction goes.

    python -m benchmarks.throughput [--authorities 4] [--seconds 30] [--offered 2000]

Transactions (`benchmarks/workload.py`) are signed beforehand and offered to all nodes in turn through the public
interface. The named limit is signature verification: each node verifies each transaction once, so no more than
cores / (nodes x one verification) can be reached; it is measured in the same run.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import click
import trio
from attrs import define, field

from benchmarks.cluster import Cluster, benchmark_genesis, running
from benchmarks.stages import stage_costs
from benchmarks.workload import FEE_UTHB, FOREVER, MONEY_UTHB, licences, meters, signed_load, traders
from gridtokenx.client import Account, connect
from gridtokenx.client.connection import Client
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.operations import Operation
from testnet.keys import testnet_key

BATCH = 64
WARM_UP_S = 3.0


async def set_up(genesis: Genesis, client: Client) -> list[int]:
    """Registers every trader with one meter; returns the meters' ids."""
    registrar_key = testnet_key("registrar")
    status = await client.status()
    known = await client.account(registrar_key.public)
    registrar = Account(registrar_key, genesis.chain_id, 0 if known is None else known["nonce"])
    far_ms = (status["market_time_s"] + 365 * 86_400) * 1000
    zones = len(genesis.zones)
    participants = await carry_out(client, registrar, licences(zones, far_ms))
    return await carry_out(client, registrar, meters(participants, zones))


async def carry_out(client: Client, account: Account, operations: list[Operation]) -> list[int]:
    """Finalizes the operations, 50 to a transaction; the first number of each receipt."""
    numbers: list[int] = []
    for start in range(0, len(operations), 50):
        signed = account.sign(operations[start:start + 50], valid_until_height=FOREVER, fee_uthb=50 * FEE_UTHB)
        [answer] = await client.submit([signed.raw])
        [fate] = await client.wait([signed.id], 30_000)
        if not answer.accepted or fate["state"] != "final" or fate["code"]:
            raise SystemExit(f"set-up refused: {answer.message} {fate}")
        numbers += [data[0] for _, data in fate["receipts"]]
    return numbers


@define
class Counted:
    """What the feed of final blocks said."""

    transactions: int = 0
    failed: int = 0
    blocks: int = 0
    trades: int = 0
    sent: int = 0
    refused: int = 0
    submitted_s: dict[bytes, float] = field(factory=dict)
    delays_s: list[float] = field(factory=list)


async def follow(client: Client, counted: Counted, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    async for block in client.blocks():
        now = time.perf_counter()
        counted.blocks += 1
        counted.transactions += len(block.ids)
        counted.failed += sum(code != 0 for code in block.codes)
        counted.trades += block.trades
        for identity in block.ids:
            sent = counted.submitted_s.pop(identity, None)
            if sent is not None:
                counted.delays_s.append(now - sent)


async def offer(clients: list[Client], load: list[bytes], per_s: float, counted: Counted, most_pending: int) -> None:
    """Sends batches at the offered rate, slower when more than `most_pending` are not final yet."""
    began = time.perf_counter()
    for number, start in enumerate(range(0, len(load), BATCH)):
        await trio.sleep(max(0.0, began + start / per_s - time.perf_counter()))
        while counted.sent - counted.transactions > most_pending:
            await trio.sleep(0.02)
        batch = load[start:start + BATCH]
        now = time.perf_counter()
        for answer in await clients[number % len(clients)].submit(batch):
            if answer.accepted:
                counted.sent += 1
                counted.submitted_s[answer.id] = now
            else:
                counted.refused += 1


async def measure(authorities: int, seconds: float, offered: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        genesis = benchmark_genesis(authorities, traders(), MONEY_UTHB, 1)
        async with running(folder, genesis) as cluster, connect([cluster.addresses[0]]) as first:
            ids = await set_up(genesis, first)
            window = (await first.status())["window"]
            load = signed_load(genesis, ids, window, int(offered * (seconds + WARM_UP_S)))
            return await _measured(cluster, load, seconds, offered)


async def _measured(cluster: Cluster, load: list[bytes], seconds: float, offered: float) -> dict[str, float]:
    counted = Counted()
    async with trio.open_nursery() as nursery:
        feed = await nursery.start(_feeding, cluster.addresses[-1], counted)
        del feed
        clients = await nursery.start(_connected, cluster.addresses)
        nursery.start_soon(offer, clients, load, offered, counted, int(offered))
        await trio.sleep(WARM_UP_S)
        cpu, own, began = cluster.cpu_s(), time.process_time(), time.perf_counter()
        before = (counted.transactions, counted.blocks, counted.trades, counted.failed, len(counted.delays_s))
        await trio.sleep(seconds)
        wall = time.perf_counter() - began
        done = counted.transactions - before[0]
        delays = sorted(counted.delays_s[before[4]:])
        result = {
            "seconds": wall, "transactions": done, "per_s": done / wall, "blocks": counted.blocks - before[1],
            "trades": counted.trades - before[2], "failed": counted.failed - before[3], "refused": counted.refused,
            "confirmation_p50_ms": 1000 * delays[len(delays) // 2],
            "confirmation_p99_ms": 1000 * delays[int(0.99 * len(delays))],
            "node_cpu_us_per_transaction": (cluster.cpu_s() - cpu) / len(cluster.children) / max(1, done) * 1e6,
            "client_cpu_us_per_transaction": (time.process_time() - own) / max(1, done) * 1e6,
            "rss_mib": cluster.rss_mib(),
        }
        nursery.cancel_scope.cancel()
    return result


async def _feeding(address: str, counted: Counted, task_status: trio.TaskStatus[None]) -> None:
    async with connect([address]) as client:
        await follow(client, counted, task_status)


async def _connected(addresses: list[str], task_status: trio.TaskStatus[list[Client]]) -> None:
    if not addresses:
        return
    async with connect([addresses[0]]) as one, trio.open_nursery() as nursery:
        clients = [one]
        for address in addresses[1:]:
            clients.append(await nursery.start(_held, address))
        task_status.started(clients)
        await trio.sleep_forever()


async def _held(address: str, task_status: trio.TaskStatus[Client]) -> None:
    async with connect([address]) as client:
        task_status.started(client)
        await trio.sleep_forever()


@click.command()
@click.option("--authorities", default=4, show_default=True, type=click.IntRange(1, 5))
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(5))
@click.option("--offered", default=2000.0, show_default=True, type=click.FloatRange(10), help="Per second.")
@click.option("--json", "as_json", is_flag=True)
def main(authorities: int, seconds: float, offered: float, as_json: bool) -> None:
    """Finalized signed transactions per second, and the cost of one by stage."""
    before = stage_costs()
    result = trio.run(measure, authorities, seconds, offered)
    after = stage_costs()
    stages = {name: (before[name] + after[name]) / 2 for name in before}
    cores = len(os.sched_getaffinity(0))
    limit = cores / (authorities * stages["verify signature"] / 1e6)
    result["verification_limit_per_s"] = limit
    if as_json:
        click.echo(json.dumps({"run": result, "stages_us": stages}))
        return
    rate, seconds = result["per_s"], result["seconds"]
    click.echo(f"{authorities} authorities on {cores} cores, {seconds:.0f} s, {offered:.0f}/s offered")
    click.echo(f"  finalized       {rate:.0f} transactions/s in {result['blocks'] / seconds:.1f} blocks/s; "
               f"{result['trades']:.0f} trades; {result['failed']:.0f} failed, {result['refused']:.0f} refused")
    click.echo(f"  limit           {limit:.0f}/s if nothing but verifying took time: {rate / limit:.2f} of it")
    click.echo(f"  confirmation    p50 {result['confirmation_p50_ms']:.0f} ms, "
               f"p99 {result['confirmation_p99_ms']:.0f} ms")
    click.echo(f"  CPU             {result['node_cpu_us_per_transaction']:.0f} us per transaction and node, "
               f"{result['client_cpu_us_per_transaction']:.0f} us in the client; {result['rss_mib']:.0f} MiB resident")
    click.echo("one transaction by stage, one process, us (before and after the run, averaged)")
    for name, cost in stages.items():
        click.echo(f"  {name:34} {cost:7.1f}")


if __name__ == "__main__":
    main()
