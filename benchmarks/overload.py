"""Tenfold overload: what still becomes final, what memory it takes, and whether everyone refused is told why.

    python -m benchmarks.overload [--authorities 4] [--seconds 60] [--times 10] [--transfers]

First the sustainable rate: clients that wait for what they sent. Then `times` that rate is offered to all nodes for
`seconds`: each client sends the next transactions of its accounts, and offers again what was refused. Every answer
is counted by its code; at the end every transaction that was accepted must be final, or its node must say why not.

Most of the load are orders, many of which rest in the book: the state grows with every second, and the memory with it.
The state of transfers among the same accounts does not grow: `--transfers` shows what the overload itself takes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import click
import trio
from attrs import define, field, frozen

from benchmarks.cluster import Cluster, benchmark_genesis, running
from benchmarks.throughput import Counted, _connected, _feeding, offer, set_up
from benchmarks.workload import MONEY_UTHB, ORDERS, TRADERS, signed_load, traders
from gridtokenx.client import code_name, connect
from gridtokenx.client.connection import Client
from gridtokenx.client.errors import ClientError
from gridtokenx.ledger.receipts import Code

WARM_UP_S = 3.0
SUSTAINED_S = 15.0
FIRST_OFFER = 1500.0
MOST_PENDING = 1000
RUN = 64                    # transactions of one account in a batch
ACCOUNTS_PER_BATCH = 4
MOST_WAITING = 64           # batches without an answer, of each client
DRAIN_S = 90.0
PER_POOL = 20_000
ASKED_AT_ONCE = 500
WRONG_NONCE, DUPLICATE = int(Code.WRONG_NONCE), int(Code.DUPLICATE_TRANSACTION)


@define
class Offered:
    """What was offered in the overload and what came back."""

    sent: int = 0
    codes: Counter[int] = field(factory=Counter)
    without_reason: int = 0
    unanswered: int = 0
    skipped: int = 0
    """Not offered because too many batches had no answer yet."""
    where: dict[bytes, Client] = field(factory=dict)
    """Accepted transactions, and who accepted them."""


@frozen
class Used:
    """CPU seconds that nodes and client had used at some moment."""

    nodes_s: float
    client_s: float

    @classmethod
    def now(cls, cluster: Cluster) -> Used:
        return cls(cluster.cpu_s(), time.process_time())

    def until(self, cluster: Cluster, transactions: int) -> tuple[float, float]:
        """Microseconds since then for each of so many transactions."""
        now, count = Used.now(cluster), max(1, transactions)
        return (now.nodes_s - self.nodes_s) / count * 1e6, (now.client_s - self.client_s) / count * 1e6


@define(eq=False)
class Source:
    """The transactions of one account in nonce order, and which is to be offered next."""

    address: bytes
    load: list[bytes]
    next: int = 0
    busy: bool = False

    async def look(self, client: Client) -> None:
        """Goes on from the account's nonce."""
        account = await client.account(self.address)
        self.next = 0 if account is None else account["nonce"]


async def sources(load: list[bytes], client: Client) -> list[Source]:
    """By account, from its next nonce on."""
    made = [Source(key.public, load[at::TRADERS]) for at, key in enumerate(traders())]
    for source in made:
        await source.look(client)
    return made


async def overload(clients: list[Client], accounts: list[Source], per_s: float, seconds: float,
                   offered: Offered) -> None:
    """Offers `per_s` transactions, come what may, to all nodes in turn."""
    batch = RUN * ACCOUNTS_PER_BATCH
    waiting = [0] * len(clients)
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(int(per_s * seconds / batch)):
            await trio.sleep(max(0.0, began + number * batch / per_s - time.perf_counter()))
            if time.perf_counter() - began > seconds:
                return
            first = number * ACCOUNTS_PER_BATCH % TRADERS
            at = first // ACCOUNTS_PER_BATCH % len(clients)         # who has an account always asks the same node
            chosen = [source for source in accounts[first:first + ACCOUNTS_PER_BATCH] if not source.busy]
            if waiting[at] >= MOST_WAITING or not chosen:
                offered.skipped += batch
                continue
            waiting[at] += 1
            nursery.start_soon(_offer_once, clients[at], chosen, waiting, at, offered)


async def _offer_once(client: Client, chosen: list[Source], waiting: list[int], at: int, offered: Offered) -> None:
    spans = [(source, source.load[source.next:source.next + RUN]) for source in chosen]
    for source in chosen:
        source.busy = True
    try:
        raws = [raw for _, span in spans for raw in span]
        offered.sent += len(raws)
        answers = await client.submit(raws)
        start = 0
        for source, span in spans:
            part = answers[start:start + len(span)]
            start += len(span)
            codes = Counter([code for _, code, _ in part])
            offered.codes += codes
            offered.without_reason += sum(code != 0 for _, code, message in part if not message)
            if 0 in codes:
                offered.where.update((identity, client) for identity, code, _ in part if code == 0)
            if WRONG_NONCE in codes:
                await source.look(client)
            else:
                source.next += codes[0] + codes[DUPLICATE]                  # refused ones are the last
    except ClientError:
        offered.unanswered += len(raws)
    finally:
        waiting[at] -= 1
        for source in chosen:
            source.busy = False


async def _sample(cluster: Cluster, memory: list[float]) -> None:
    while True:
        memory.append(cluster.own_mib())
        await trio.sleep(0.5)


async def _fates(offered: Offered) -> Counter[str]:
    """What became of everything that was accepted, as the node says that accepted it."""
    fates: Counter[str] = Counter()
    by_client: dict[Client, list[bytes]] = {}
    for identity, client in offered.where.items():
        by_client.setdefault(client, []).append(identity)
    for client, ids in by_client.items():
        for start in range(0, len(ids), ASKED_AT_ONCE):
            for state in await client.wait(ids[start:start + ASKED_AT_ONCE], 0):
                name = state["state"]
                if name in ("refused", "evicted"):
                    name += f" ({code_name(state['code'])})" if state["reason"] else " (no reason)"
                fates[name] += 1
    return fates


async def measure(authorities: int, seconds: float, times: float, orders: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        genesis = benchmark_genesis(authorities, traders(), MONEY_UTHB, 1)
        async with running(Path(name), genesis) as cluster, connect([cluster.addresses[0]]) as first:
            ids = await set_up(genesis, first)
            window = (await first.status())["window"]
            count = int(FIRST_OFFER * (2 * WARM_UP_S + SUSTAINED_S + seconds)) + PER_POOL
            load = signed_load(genesis, ids, window, count, orders)
            return await _measured(cluster, load, seconds, times)


async def _measured(cluster: Cluster, load: list[bytes], seconds: float, times: float) -> dict[str, object]:
    counted, offered, memory = Counted(), Offered(), [0.0]
    async with trio.open_nursery() as nursery:
        await nursery.start(_feeding, cluster.addresses[-1], counted)
        clients: list[Client] = await nursery.start(_connected, cluster.addresses)
        part = int(FIRST_OFFER * (WARM_UP_S + SUSTAINED_S))
        async with trio.open_nursery() as closed:
            closed.start_soon(offer, clients, load[:part], FIRST_OFFER, counted, MOST_PENDING)
            await trio.sleep(WARM_UP_S)
            before, began = counted.transactions, time.perf_counter()
            used = Used.now(cluster)
            await trio.sleep(SUSTAINED_S)
            sustained = (counted.transactions - before) / (time.perf_counter() - began)
            calm = used.until(cluster, counted.transactions - before)
            closed.cancel_scope.cancel()
        await _quiet(counted)
        idle_mib = cluster.own_mib()
        accounts = await sources(load, clients[0])
        nursery.start_soon(_sample, cluster, memory)
        per_s = sustained * times
        blocks = counted.blocks
        async with trio.open_nursery() as open_loop:
            open_loop.start_soon(overload, clients, accounts, per_s, WARM_UP_S + seconds, offered)
            await trio.sleep(WARM_UP_S)
            before, sent, began = counted.transactions, offered.sent, time.perf_counter()
            warm, used = len(memory), Used.now(cluster)
            await trio.sleep(seconds)
            pressed = used.until(cluster, counted.transactions - before)
            wall, loaded = time.perf_counter() - began, len(memory)
            finalized, offered_per_s = (counted.transactions - before) / wall, (offered.sent - sent) / wall
        with trio.move_on_after(DRAIN_S):
            while (await clients[0].status())["pending_transactions"]:
                await trio.sleep(0.5)
        await _quiet(counted)
        fates = await _fates(offered)
        result: dict[str, object] = {
            "sustained_per_s": sustained, "offered_per_s": offered_per_s, "finalized_per_s": finalized,
            "share": finalized / sustained, "blocks": counted.blocks - blocks,
            "memory_before_mib": idle_mib, "memory_peak_mib": max(memory),
            "memory_by_quarters_mib": by_quarters(memory[warm:loaded]),
            "answers": {("accepted" if code == 0 else code_name(code)): number
                        for code, number in sorted(offered.codes.items())},
            "without_reason": offered.without_reason, "unanswered": offered.unanswered, "not_offered": offered.skipped,
            "accepted_became": dict(fates), "cpu_us_sustained": calm, "cpu_us_overload": pressed,
        }
        nursery.cancel_scope.cancel()
    return result


def by_quarters(memory: Sequence[float]) -> list[float]:
    """The greatest of each quarter: what is full in the first and leaks nothing is flat."""
    ends = [len(memory) * quarter // 4 for quarter in range(5)]
    return [max(memory[first:last], default=0.0) for first, last in pairwise(ends)]


async def _quiet(counted: Counted) -> None:
    """Until nothing more becomes final."""
    seen = -1
    while seen != counted.transactions:
        seen = counted.transactions
        await trio.sleep(1.5)


def good(result: dict[str, object]) -> bool:
    fates = result["accepted_became"]
    assert isinstance(fates, dict)
    ended = {"final", *(name for name in fates if "no reason" not in name and name not in ("unknown", "pending"))}
    return (float(str(result["share"])) >= 0.8 and not result["without_reason"] and not result["unanswered"]
            and set(fates) <= ended)


@click.command()
@click.option("--authorities", default=4, show_default=True, type=click.IntRange(1, 5))
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5))
@click.option("--times", default=10.0, show_default=True, type=click.FloatRange(1, 100))
@click.option("--transfers", is_flag=True, help="No orders: a load that makes the state no larger.")
@click.option("--json", "as_json", is_flag=True)
def main(authorities: int, seconds: float, times: float, transfers: bool, as_json: bool) -> None:
    """Finality, memory and answers while far more is offered than can be done."""
    result = trio.run(measure, authorities, seconds, times, 0.0 if transfers else ORDERS)
    if as_json:
        click.echo(json.dumps(result))
    else:
        r = result
        click.echo(f"{authorities} authorities, {times:g} times the sustainable load for {seconds:g} s")
        click.echo(f"  sustainable  {r['sustained_per_s']:.0f} transactions/s")
        click.echo(f"  offered      {r['offered_per_s']:.0f}/s ({r['not_offered']} more were not sent: no answer yet)")
        click.echo(f"  finalized    {r['finalized_per_s']:.0f}/s, {r['share']:.0%} of the sustainable rate, in "
                   f"{r['blocks']} blocks")
        quarters = ", ".join(f"{mib:.0f}" for mib in r["memory_by_quarters_mib"])  # type: ignore[attr-defined]
        click.echo(f"  memory       {r['memory_before_mib']:.0f} MiB before, in the quarters of the overload at most "
                   f"{quarters}; peak {r['memory_peak_mib']:.0f} MiB")
        click.echo(f"  answers      {r['answers']}; without a reason {r['without_reason']}, none {r['unanswered']}")
        click.echo(f"  accepted     became {r['accepted_became']}")
        for name, (nodes, client) in (("sustained", r["cpu_us_sustained"]), ("overload", r["cpu_us_overload"])):  # type: ignore[misc]
            click.echo(f"  CPU          {name}: {nodes:.0f} us of all nodes and {client:.0f} us of the client for each "
                       "final transaction")
        click.echo("GOOD" if good(result) else "NOT GOOD")
    raise SystemExit(0 if good(result) else 1)


if __name__ == "__main__":
    main()
