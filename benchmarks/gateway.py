"""What strangers cost: many WebSocket clients and readers at a gateway, and what the authorities notice of them.

    python -m benchmarks.gateway [--authorities 5] [--clients 200] [--updates 10000] [--reads 2000] [--seconds 30]

Accounts pay at a steady rate through one authority, and the same confirmations are measured twice: alone, and while a
gateway over an authority's data directory serves the clients. Each client follows all of the accounts, so that updates
are blocks x accounts x clients. One more client subscribes and never reads: it must be dropped, and harm nobody.
Clients, readers, gateway and authorities are processes of their own on the same machine. Clients and readers stand for
other people's machines, so they run at the lowest priority; the gateway gives way to the authorities by itself. What
they take from each other all the same on few cores, the ratio of the confirmations says.
"""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import httpx
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from benchmarks.cluster import benchmark_genesis, cpu_s_of, running
from benchmarks.confirmation import quantile
from gridtokenx.client import Account, Client, connect
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.operations import Transfer
from testnet.keys import testnet_key
from testnet.processes import Child, stop_all

PAYERS = 20
ROUND_S = 0.4               # every payer pays once in it: as many blocks, or more
CONNECTIONS = 16            # of readers
MONEY = 10**12
WARM_S = 3.0
CUT_OFF_S = 30.0
READY_S = 30.0
LOWEST = 19


def payer(number: int) -> Any:
    return testnet_key(f"bench {number}")


# ------------------------------------------------------------------ what the clients do, in processes of their own


async def clients(url: str, count: int, seconds: float) -> dict[str, Any]:
    """`count` followers for `seconds`: messages and the age of blocks when they arrive."""
    messages, ages = [0] * count, list[float]()
    lost = 0

    async def follow(number: int) -> None:
        nonlocal lost
        try:
            async with open_websocket_url(url.replace("http", "ws") + "/ws", max_message_size=16 << 20) as one:
                await one.send_message(json.dumps({"op": "subscribe", "channel": "blocks"}))
                for account in range(PAYERS):
                    address = encode_address(payer(account).public)
                    await one.send_message(json.dumps(
                        {"op": "subscribe", "channel": "transactions", "account": address}))
                while True:
                    found = json.loads(await one.get_message())
                    messages[number] += sum(message["type"] == "event" for message in found)
                    if number == 0:
                        ages.extend(time.time() * 1000 - message["block"]["timestamp_ms"]
                                    for message in found if "block" in message)
        except ConnectionClosed:
            lost += 1

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(follow, number)
        await trio.sleep(WARM_S)
        before, began = sum(messages), time.perf_counter()
        await trio.sleep(seconds)
        taken, took_s = sum(messages) - before, time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return {"updates_s": round(taken / took_s), "least_of_one": min(messages), "lost": lost,
            "block_age_p50_ms": round(statistics.median(ages)) if ages else None}


async def readers(url: str, reads_s: float, seconds: float) -> dict[str, Any]:
    """Reads at `reads_s`, or as fast as they are answered."""
    host, port = url.removeprefix("http://").split(":")
    paths = ["/status", "/blocks/1", "/energy/stats", "/grid/status",
             f"/accounts/{encode_address(payer(0).public)}/balance"]
    took: list[float] = []
    failed = 0
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
            failed += await _answer(stream) != 200
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


async def never_reads(url: str, gone: trio.Event) -> None:
    """Asks for all blocks from the beginning, over and over, and reads nothing."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.sendall(f"GET /ws HTTP/1.1\r\nhost: {host}:{port}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                      "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n".encode())
        plain.settimeout(READY_S)
        data = b""
        while b"\r\n\r\n" not in data:             # the last that it reads
            more = plain.recv(1)
            if not more:
                raise SystemExit(f"no WebSocket: {data.decode(errors='replace')}")
            data += more
        for turn in range(80):              # the whole chain again and again: more than the system's buffers hold
            after = {} if turn % 2 else {"after": 0}
            text = json.dumps({"op": "unsubscribe" if turn % 2 else "subscribe", "channel": "blocks", **after}).encode()
            head = bytes((0x81, 0x80 | len(text))) if len(text) < 126 else bytes((0x81, 0xFE, *divmod(len(text), 256)))
            plain.sendall(head + bytes(4) + text)           # masked with zeros
        await gone.wait()


# ------------------------------------------------------------------ the run


async def confirmations(client: Client, accounts: list[Account], seconds: float) -> list[float]:
    """Every account pays once a round; ms from submission to the pushed final block."""
    sent: dict[bytes, float] = {}
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def hear() -> None:
        async for block in client.blocks():
            now = time.perf_counter()
            took.extend(1000 * (now - sent.pop(identity)) for identity in block.ids if identity in sent)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        while time.perf_counter() < end:
            for account in accounts:
                signed = account.sign([Transfer(payer(0).public, 1)], valid_until_height=1 << 40, fee_uthb=10_000)
                sent[signed.id] = time.perf_counter()
                [answer] = await client.submit([signed.raw])
                if not answer.accepted:
                    raise SystemExit(f"refused: {answer.message}")
                await trio.sleep(ROUND_S / len(accounts))
        with trio.move_on_after(30):
            while sent:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    return took


async def child(arguments: list[str], result: Callable[[Any], None]) -> None:
    ended = await trio.run_process([sys.executable, "-m", "benchmarks.gateway", *arguments], capture_stdout=True)
    result(json.loads(ended.stdout.splitlines()[-1]))


async def measure(folder: Path, authorities: int, count: int, reads: int, seconds: float) -> dict[str, Any]:
    keys = [payer(number) for number in range(PAYERS)]
    url = "http://127.0.0.1:9690"
    found: dict[str, Any] = {}
    async with running(folder, benchmark_genesis(authorities, keys, MONEY, 1)) as cluster, \
            connect(cluster.addresses[-1:]) as client:
        accounts = [Account(key, cluster.genesis.chain_id, 0) for key in keys]
        await confirmations(client, accounts, WARM_S)
        alone = await confirmations(client, accounts, seconds)
        gateway = Child("gateway", [sys.executable, "-m", "gridtokenx.cli", "gateway", str(folder / "egat"), "--http",
                                    "127.0.0.1:9690", "--requests", "1000000", "--connections", "4096"],
                        folder / "gateway.log")
        gateway.start()
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                await _until(lambda: _answers(http))
                before_s = cpu_s_of(gateway.pid or 0)
                gone = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(never_reads, url, gone)
                    nursery.start_soon(child, ["clients", url, str(count), str(seconds)],
                                       lambda answer: found.update(clients=answer))
                    nursery.start_soon(child, ["readers", url, str(reads), str(seconds + WARM_S)],
                                       lambda answer: found.update(readers=answer))
                    await trio.sleep(WARM_S)
                    beside = await confirmations(client, accounts, seconds)
                    while len(found) < 2:
                        await trio.sleep(0.1)
                    cut_off = await _no_clients(http)
                    gone.set()
                used_s = cpu_s_of(gateway.pid or 0) - before_s
        finally:
            await stop_all([gateway])
    one, two = quantile(alone, 0.99), quantile(beside, 0.99)
    return {**found, "gateway_cpu_s": round(used_s, 1),
            "slow_client_cut_off": cut_off,
            "alone_p50_ms": statistics.median(alone), "alone_p99_ms": one, "beside_p50_ms": statistics.median(beside),
            "beside_p99_ms": two, "p99_ratio": two / one}


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
@click.option("--updates", type=click.IntRange(1), default=10_000, show_default=True, help="A second, in all: the aim.")
@click.option("--reads", type=click.IntRange(1), default=2_000, show_default=True, help="A second: what is asked for.")
@click.option("--seconds", type=click.FloatRange(2), default=30.0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def main(context: click.Context, authorities: int, count: int, updates: int, reads: int, seconds: float,
         as_json: bool) -> None:
    """Clients and readers at a gateway, and what the authorities notice."""
    if context.invoked_subcommand is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        found = trio.run(measure, Path(folder), authorities, count, reads, seconds)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    told, read = found["clients"], found["readers"]
    click.echo(f"{count} WebSocket clients took {told['updates_s']:,} updates/s of {updates:,} aimed at; "
               f"{told['lost']} lost, the least one had {told['least_of_one']:,}; a block was "
               f"{told['block_age_p50_ms']} ms old (median; a gateway sees checkpoints)")
    click.echo(f"{read['reads_s']:,} reads/s of {reads:,} asked for, {read['failed']} failed; "
               f"p50 {read['p50_ms']} ms, p99 {read['p99_ms']} ms")
    click.echo(f"the gateway used {found['gateway_cpu_s']} s of CPU; the client that never reads was "
               f"{'cut off' if found['slow_client_cut_off'] else 'NOT cut off'}")
    click.echo(f"confirmation alone p50 {found['alone_p50_ms']:.0f} ms, p99 {found['alone_p99_ms']:.0f} ms; beside all "
               f"that p50 {found['beside_p50_ms']:.0f} ms, p99 {found['beside_p99_ms']:.0f} ms: p99 x "
               f"{found['p99_ratio']:.2f} (the aim is at most 1.25)")


@main.command("clients", hidden=True)
@click.argument("url")
@click.argument("count", type=int)
@click.argument("seconds", type=float)
def clients_command(url: str, count: int, seconds: float) -> None:
    os.nice(LOWEST)
    click.echo(json.dumps(trio.run(clients, url, count, seconds)))


@main.command("readers", hidden=True)
@click.argument("url")
@click.argument("reads_s", type=float)
@click.argument("seconds", type=float)
def readers_command(url: str, reads_s: float, seconds: float) -> None:
    os.nice(LOWEST)
    click.echo(json.dumps(trio.run(readers, url, reads_s, seconds)))


if __name__ == "__main__":
    main()
