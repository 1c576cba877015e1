"""What strangers cost: many WebSocket clients and readers at a gateway, and what the authorities notice of them.

    python -m benchmarks.gateway [--clients 200] [--updates 10000] [--reads 2000] [--cpu 25] [--rounds 6]

Accounts pay at a steady rate through one authority, and the same confirmations are measured by turns: alone, and
while a gateway over an authority's data directory serves the clients. Each client follows all of the accounts, so that
each payment is an update for every client. One more client subscribes and never reads: it must be dropped, and harm
nobody.
Clients, readers, gateway and authorities are processes of their own on the same machine. Clients and readers stand for
other people's machines, so they run when nobody else wants the processor; the gateway gives way to the authorities by
itself. What they take from each other all the same on few cores, the ratio of the confirmations says.
"""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx
import trio

from benchmarks.cluster import benchmark_genesis, cpu_s_of, running
from benchmarks.confirmation import quantile
from gridtokenx.api.budget import default_percent
from gridtokenx.client import Account, Client, connect
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.operations import Transfer
from testnet.keys import testnet_key
from testnet.processes import Child, stop_all

PAYERS = 20
CONNECTIONS = 16            # of readers
MONEY = 10**12
ADDRESS = "127.0.0.1:9690"
WARM_S = 3.0
CUT_OFF_S = 30.0
SUBSCRIBED_S = 120.0


EVENT, LIVE = b'"type":"event"', b'"type": "live"'


def payer(number: int) -> Any:
    return testnet_key(f"bench {number}")


# ------------------------------------------------------------------ what the clients do, in processes of their own


@asynccontextmanager
async def websocket(url: str, receive_buffer: int | None = None) -> AsyncIterator[trio.SocketStream]:
    """One that is ready, as a bare stream: what leaves or arrives here costs this process next to nothing."""
    host, port = url.removeprefix("http://").split(":")
    plain = trio.socket.socket()
    if receive_buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await plain.connect((host, int(port)))
    async with trio.SocketStream(plain) as stream:
        await stream.send_all(f"GET /ws HTTP/1.1\r\nhost: {host}:{port}\r\nupgrade: websocket\r\n"
                              "connection: upgrade\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                              "sec-websocket-version: 13\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:         # a ping may follow, no message before something is asked for
            answer += (more := await stream.receive_some(1024))
            if not more:
                raise SystemExit(f"no WebSocket: {answer!r}")
        yield stream


async def ask(stream: trio.SocketStream, **request: Any) -> None:
    text = json.dumps(request).encode()
    await stream.send_all(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)        # masked with zeros


async def clients(url: str, count: int, seconds: float) -> dict[str, Any]:
    """`count` followers; when all follow, what they hear for `seconds`: messages, and the age of blocks on arrival."""
    messages, following, ages = [0] * count, [0] * count, list[float]()
    lost = 0

    async def follow(number: int) -> None:
        nonlocal lost
        async with websocket(url) as stream:
            await ask(stream, op="subscribe", channel="blocks")
            for account in range(PAYERS):
                await ask(stream, op="subscribe", channel="transactions",
                          account=encode_address(payer(account).public))
            rest = b""
            while some := await stream.receive_some(1 << 20):
                data = rest + some
                following[number] += data.count(LIVE)
                messages[number] += data.count(EVENT)
                if number == 0:
                    now_ms = time.time() * 1000
                    ages.extend(now_ms - int(found) for found in re.findall(rb'"timestamp_ms":(\d{13})', some))
                rest = data[max(data.rfind(LIVE) + 1, data.rfind(EVENT) + 1, len(data) - len(EVENT) + 1):]
        lost += 1

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(follow, number)
        with trio.fail_after(SUBSCRIBED_S):
            while min(following) < PAYERS + 1:
                await trio.sleep(0.1)
        await _told_to_begin()
        before, began = messages.copy(), time.perf_counter()
        ages.clear()
        await trio.sleep(seconds)
        taken, took_s = [now - then for now, then in zip(messages, before, strict=True)], time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return {"updates_s": round(sum(taken) / took_s), "least_of_one": min(taken), "lost": lost,
            "block_age_p50_ms": round(statistics.median(ages)) if ages else None}


async def readers(url: str, reads_s: float, seconds: float) -> dict[str, Any]:
    """Reads at `reads_s`, or as fast as they are answered."""
    host, port = url.removeprefix("http://").split(":")
    paths = ["/status", "/blocks/1", "/energy/stats", "/grid/status",
             f"/accounts/{encode_address(payer(0).public)}/balance"]
    took: list[float] = []
    failed = 0
    await _told_to_begin()
    began = time.perf_counter()

    async def read(number: int) -> None:
        nonlocal failed
        stream = await trio.open_tcp_stream(host, int(port))
        gap_s, at, due_s = CONNECTIONS / reads_s, number, began
        while time.perf_counter() < began + seconds:
            due_s += gap_s
            await trio.sleep(max(0.0, due_s - time.perf_counter()))
            at += 1
            sent_s = time.perf_counter()
            await stream.send_all(f"GET /api/v1{paths[at % len(paths)]} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            status = await _answer(stream)
            failed += status != 200
            took.append(time.perf_counter() - sent_s)

    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(read, number)
    return {"reads_s": round(len(took) / (time.perf_counter() - began)), "failed": failed,
            "p50_ms": round(1000 * statistics.median(took), 1), "p99_ms": round(1000 * quantile(took, 0.99), 1)}


async def _answer(stream: trio.SocketStream) -> int:
    """The status of the next answer, which is read whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0:
        missing -= len(await stream.receive_some(missing))
    return int(head.split()[1])


async def _told_to_begin() -> None:
    """What starting a program takes is not what its requests cost: it says that it is ready, and waits."""
    print(flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)


async def never_reads(url: str, gone: trio.Event) -> None:
    """Asks for all blocks from the beginning, over and over, and reads nothing."""
    async with websocket(url, 4096) as stream:
        for _ in range(40):                 # the whole chain again and again: more than the system's buffers hold
            await ask(stream, op="subscribe", channel="blocks", after=0)
            await ask(stream, op="unsubscribe", channel="blocks")
        await gone.wait()


# ------------------------------------------------------------------ the run


async def confirmations(client: Client, accounts: list[Account], round_s: float, seconds: float) -> list[float]:
    """Every account pays once in `round_s`, all at a time; ms from submission to the pushed final block."""
    sent: dict[bytes, float] = {}
    took: list[float] = []
    began = time.perf_counter()

    async def hear() -> None:
        async for block in client.blocks():
            now = time.perf_counter()
            took.extend(1000 * (now - sent.pop(identity)) for identity in block.ids if identity in sent)

    async def pay(account: Account, due_s: float) -> None:
        while due_s < seconds:
            await trio.sleep(max(0.0, began + due_s - time.perf_counter()))
            signed = account.sign([Transfer(payer(0).public, 1)], valid_until_height=1 << 40, fee_uthb=10_000)
            sent[signed.id] = time.perf_counter()
            [answer] = await client.submit([signed.raw])
            if not answer.accepted:
                raise SystemExit(f"refused: {answer.message}")
            due_s += round_s

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        async with trio.open_nursery() as paying:
            for account in accounts:
                paying.start_soon(pay, account, 0.0)
        with trio.move_on_after(30):
            while sent:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    return took


async def child(arguments: list[str], result: Callable[[Any], None], begin: trio.Event, *,
                task_status: trio.TaskStatus[None]) -> None:
    """Runs a part of this benchmark: its first line says that it is ready, its last one is the result."""
    lines = ""
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "benchmarks.gateway", *arguments]
        process = await nursery.start(partial(trio.run_process, command, stdin=subprocess.PIPE,
                                              stdout=subprocess.PIPE))
        async with process.stdin, process.stdout:
            async for some in process.stdout:
                if not lines:
                    task_status.started()
                    await begin.wait()
                    await process.stdin.send_all(b"\n")
                lines += some.decode()
    result(json.loads(lines.splitlines()[-1]))


async def beside(folder: Path, pay: Callable[[], Awaitable[list[float]]], count: int, reads: int, seconds: float,
                 cpu_percent: int) -> dict[str, Any]:
    """The confirmations of `pay` while a gateway serves everybody; it ends with them."""
    url = f"http://{ADDRESS}"
    found: dict[str, Any] = {}
    gateway = Child("gateway", [sys.executable, "-m", "gridtokenx.cli", "gateway", str(folder / "egat"), "--http",
                                ADDRESS, "--requests", "1000000", "--connections", "4096", "--cpu",
                                str(cpu_percent)], folder / "gateway.log")
    gateway.start()
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            await _until(lambda: _answers(http))
            gone, begin = trio.Event(), trio.Event()
            async with trio.open_nursery() as nursery:
                for part in (["clients", url, str(count), str(seconds)], ["readers", url, str(reads), str(seconds)]):
                    await nursery.start(child, part, found.update, begin)
                nursery.start_soon(never_reads, url, gone)
                before_s = cpu_s_of(gateway.pid or 0)
                begin.set()
                took = await pay()
                found["gateway_cpu_s"] = cpu_s_of(gateway.pid or 0) - before_s
                while not {"updates_s", "reads_s"} <= set(found):
                    await trio.sleep(0.1)
                found["cut_off"] = await _no_clients(http)
                gone.set()
    finally:
        await stop_all([gateway])
    return {**found, "confirmations": took}


async def measure(folder: Path, authorities: int, count: int, updates: int, reads: int, seconds: float,
                  rounds: int, cpu_percent: int) -> dict[str, Any]:
    """By turns, since a machine's own speed changes: alone, beside, alone, ..."""
    keys = [payer(number) for number in range(PAYERS)]
    alone: list[list[float]] = []
    found: list[dict[str, Any]] = []
    async with running(folder, benchmark_genesis(authorities, keys, MONEY, 1)) as cluster, \
            connect(cluster.addresses[-1:]) as client:
        accounts = [Account(key, cluster.genesis.chain_id, 0) for key in keys]
        pay = partial(confirmations, client, accounts, count * PAYERS / updates)
        await pay(WARM_S)
        for _ in range(rounds):
            alone.append(await pay(seconds))
            found.append(await beside(folder, partial(pay, seconds), count, reads, seconds,
                                      cpu_percent))
    both = [one.pop("confirmations") for one in found]
    ratios = [_p99([two]) / _p99([one]) for one, two in zip(alone, both, strict=True)]
    return {
        "updates_s": round(statistics.mean(one["updates_s"] for one in found)),
        "least_of_one": min(one["least_of_one"] for one in found),
        "block_age_p50_ms": statistics.median(one["block_age_p50_ms"] for one in found),
        "reads_s": round(statistics.mean(one["reads_s"] for one in found)),
        "read_p50_ms": statistics.median(one["p50_ms"] for one in found),
        "read_p99_ms": max(one["p99_ms"] for one in found),
        "gateway_cpu_share": round(sum(one["gateway_cpu_s"] for one in found) / (rounds * seconds), 2),
        **{name: sum(one[name] for one in found) for name in ("lost", "failed", "cut_off")},
        **_confirmed("alone", alone), **_confirmed("beside", both),
        "p99_ratio": _p99(both) / _p99(alone), "p99_ratios": ratios, "rounds": found}


def _p99(turns: list[list[float]]) -> float:
    return quantile([one for turn in turns for one in turn], 0.99)


def _confirmed(name: str, turns: list[list[float]]) -> dict[str, Any]:
    took = [one for turn in turns for one in turn]
    return {f"{name}_confirmations": len(took), f"{name}_p50_ms": round(statistics.median(took)),
            f"{name}_p99_ms": round(_p99(turns))}


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/livez")).status_code == 200
    except httpx.TransportError:
        return False


async def _no_clients(http: httpx.AsyncClient) -> bool:
    """Whether the gateway has rid itself of its last WebSocket client, after those that read have left."""
    with trio.move_on_after(CUT_OFF_S):
        while True:
            text = (await http.get("/metrics")).text
            open_now = re.search(r"^gridtokenx_api_feed_clients (\S+)$", text, re.MULTILINE)
            if open_now is not None and float(open_now[1]) == 0:
                return True
            await trio.sleep(0.5)
    return False


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(60):
        while not await holds():
            await trio.sleep(0.1)


@click.group(invoke_without_command=True)
@click.option("--authorities", type=click.IntRange(1, 5), default=5, show_default=True)
@click.option("--clients", "count", type=click.IntRange(1, 1000), default=200, show_default=True)
@click.option("--updates", type=click.IntRange(1), default=10_000, show_default=True,
              help="A second, in all: accounts pay as often as that takes.")
@click.option("--reads", type=click.IntRange(1), default=2_000, show_default=True, help="A second: what is asked for.")
@click.option("--seconds", type=click.FloatRange(2), default=20.0, show_default=True, help="Of each turn.")
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True)
@click.option("--cpu", "cpu_percent", type=click.IntRange(1, 100), default=default_percent(), show_default=True,
              help="Of one core, for the gateway.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def main(context: click.Context, authorities: int, count: int, updates: int, reads: int, seconds: float, rounds: int,
         cpu_percent: int, as_json: bool) -> None:
    """Clients and readers at a gateway, and what the authorities notice."""
    if context.invoked_subcommand is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        found = trio.run(measure, Path(folder), authorities, count, updates, reads, seconds, rounds,
                         cpu_percent)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"{count} WebSocket clients took {found['updates_s']:,} updates/s of {updates:,} or more; "
               f"{found['lost']} lost, the least one had {found['least_of_one']:,}; a block was "
               f"{found['block_age_p50_ms']:.0f} ms old (median; a gateway sees checkpoints)")
    click.echo(f"{found['reads_s']:,} reads/s of {reads:,} asked for, {found['failed']} failed; "
               f"p50 {found['read_p50_ms']} ms, p99 {found['read_p99_ms']} ms; the gateway had "
               f"{found['gateway_cpu_share']:.0%} of one core, of {cpu_percent}% that it may have")
    click.echo(f"the client that never reads was cut off in {found['cut_off']} of {rounds} rounds")
    for name in ("alone", "beside"):
        click.echo(f"{found[f'{name}_confirmations']:,} confirmations {name}: p50 {found[f'{name}_p50_ms']} ms, "
                   f"p99 {found[f'{name}_p99_ms']} ms")
    turns = ", ".join(f"{one:.2f}" for one in found["p99_ratios"])
    click.echo(f"p99 x {found['p99_ratio']:.2f} (the aim is at most 1.25); a round's own, each of few bursts: {turns}")


def _give_way() -> None:
    """Only the time that nobody else wants."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


@main.command("clients", hidden=True)
@click.argument("url")
@click.argument("count", type=int)
@click.argument("seconds", type=float)
def clients_command(url: str, count: int, seconds: float) -> None:
    _give_way()
    click.echo(json.dumps(trio.run(clients, url, count, seconds)))


@main.command("readers", hidden=True)
@click.argument("url")
@click.argument("reads_s", type=float)
@click.argument("seconds", type=float)
def readers_command(url: str, reads_s: float, seconds: float) -> None:
    _give_way()
    click.echo(json.dumps(trio.run(readers, url, reads_s, seconds)))


if __name__ == "__main__":
    main()
