"""A node is killed in the middle of its work and started again: who follows its feeds misses nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio
from api_support import http_section
from attrs import evolve
from ledger_support import EGAT, FEE, ISSUER, REGISTRAR, genesis
from test_node_rpc import free_port, write_node

from gridtokenx.client import ClientError, HttpRefused, TrioHttpClient, open_feed
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.operations import Transfer

KILLS = 1
BLOCKS = 6


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The node as a process of its own, killed on leaving."""
    with (folder / "output").open("ab") as output, subprocess.Popen(
            [sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(folder / "gridtokenx.toml")],
            stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


async def pay(client: TrioHttpClient, confirmed: set[str]) -> None:
    """One payment after the other, through whatever becomes of the node."""
    while True:
        try:
            account = await client.sign_in(ISSUER)
            signed = account.sign([Transfer(REGISTRAR.public, 1)], valid_until_height=await client.height() + 50,
                                  fee_uthb=FEE)
            if (await client.submit(signed, wait_ms=5_000))["state"] == "final":
                confirmed.add(signed.id.hex())
        except ClientError as error:
            assert not isinstance(error, HttpRefused) or error.code in ("busy", "refused"), error
        await trio.sleep(0.02)


@pytest.mark.processes
async def test_feeds_go_on_without_a_gap_when_the_node_is_killed_and_started_again(tmp_path: Path) -> None:
    folder, port = tmp_path / "egat", free_port()
    write_node(folder, EGAT, evolve(genesis(rate=1), genesis_ms=time.time_ns() // 1_000_000), checkpoint_blocks=4,
               checkpoint_interval_ms=200)
    config = folder / "gridtokenx.toml"
    config.write_text(config.read_text() + http_section(port, max_requests_per_s=10_000))
    url, payer = f"http://127.0.0.1:{port}", encode_address(ISSUER.public)
    heights: list[int] = []
    told: set[str] = set()
    hashes: dict[int, str] = {}
    mine: list[str] = []
    confirmed: set[str] = set()

    async with TrioHttpClient(url) as client, trio.open_nursery() as nursery, open_feed(
            [url], [{"channel": "blocks"}, {"channel": "transactions", "account": payer}], after=0) as feed:
        async def listen() -> None:
            async for message in feed:
                if message["channel"] == "blocks":
                    heights.append(message["block"]["height"])
                    hashes[heights[-1]] = message["block"]["hash"]
                    told.update(message["block"]["transaction_ids"])
                else:
                    mine.extend(entry["id"] for entry in message["transactions"])

        nursery.start_soon(listen)
        nursery.start_soon(pay, client, confirmed)
        for kill in range(KILLS + 1):
            with started(folder) as process, trio.fail_after(120):
                before = len(heights)
                while len(heights) < before + BLOCKS:
                    assert process.poll() is None, (folder / "output").read_text()[-2000:]
                    await trio.sleep(0.02)
                if kill == KILLS:
                    top = await client.height()
                    while heights[-1] < top:
                        await trio.sleep(0.02)
                    known = set(confirmed)
                    stored = {height: (await client.get(f"/blocks/{height}"))["hash"] for height in range(1, top + 1)}
                    while not known <= told:
                        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert feed.reconnects >= KILLS
    assert heights == list(range(1, len(heights) + 1))          # each once, in order
    assert all(hashes[height] == stored[height] for height in stored)
    assert len(confirmed) >= KILLS and known <= told
    assert len(mine) == len(set(mine)) and known <= set(mine)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
