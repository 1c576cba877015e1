"""A node with the HTTP interface in this process, over real sockets, with a few houses that trade."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from attrs import define, evolve
from ledger_support import EGAT, genesis
from test_node_rpc import HOUSES, Wallet, client, enrolment, free_port, running, write_node

from gridtokenx.ledger.operations import PlaceOrder
from gridtokenx.market.orders import Side
from gridtokenx.network.client import RpcClient


@define
class ApiNode:
    """What the tests talk to."""

    folder: Path
    http: httpx.AsyncClient
    port: int
    rpc: RpcClient
    wallet: Wallet
    window: int

    async def get(self, path: str, **query: Any) -> Any:
        """The answer in JSON; it must be 200."""
        answer = await self.http.get("/api/v1" + path, params=query or None)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()


def http_section(port: int, **keys: Any) -> str:
    lines = "".join(f"{name} = {value!r}\n".replace("'", '"') for name, value in keys.items())
    return f'[http]\nlisten = "127.0.0.1:{port}"\n{lines}'


@asynccontextmanager
async def api_node(folder: Path, *, market_rate: int = 1, **keys: Any) -> AsyncIterator[ApiNode]:
    """One authority. `keys` are of the section [http]."""
    chain = evolve(genesis(rate=market_rate), genesis_ms=time.time_ns() // 1_000_000)
    address, port = write_node(folder, EGAT, chain, checkpoint_blocks=2, checkpoint_interval_ms=100), free_port()
    config = folder / "gridtokenx.toml"
    config.write_text(config.read_text() + http_section(port, **({"max_requests_per_s": 100_000} | keys)))
    async with running(folder), client(address) as rpc, \
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        window = (await rpc.call("status", timeout_s=60))["window"] + 4
        with trio.fail_after(30):
            while True:
                try:
                    await http.get("/livez")
                    break
                except httpx.ConnectError:      # not up yet
                    await trio.sleep(0.05)
        yield ApiNode(folder, http, port, rpc, Wallet(rpc, chain), window)


async def trade_a_little(node: ApiNode) -> None:
    """Three houses with money, licences and meters; some trades, some orders left on both sides."""
    for sender, *operations in enrolment():
        await node.wallet.do(sender, *operations)
    for price in (4400, 4500, 4600):
        await node.wallet.do(HOUSES[0], PlaceOrder(1, node.window, Side.SELL, price, 1000))
        await node.wallet.do(HOUSES[1], PlaceOrder(2, node.window, Side.BUY, price + 500, 500))
    await node.wallet.do(HOUSES[2], PlaceOrder(3, node.window, Side.BUY, 4200, 300))
