"""The WebSocket of a real node and of a gateway: events, snapshots and updates, gaps, resuming, slow clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
from api_support import ApiNode, api_node, trade_a_little
from attrs import define, field
from ledger_support import ISSUER, OPERATOR, REGISTRAR
from test_node_rpc import HOUSES, client, running
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, open_websocket_url

from gridtokenx.api import app, errors_of
from gridtokenx.api import gateway as gateway_process
from gridtokenx.api.feeds import Outbox
from gridtokenx.api.gateway import gateway, run
from gridtokenx.api.listener import _Traces
from gridtokenx.api.settings import HttpSettings
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder, Transfer
from gridtokenx.ledger.operations.grid import HaltWindows
from gridtokenx.market.orders import Side

BUYER = encode_address(HOUSES[1].public)


@define
class Feed:
    """One connection; messages in the order they came."""

    socket: WebSocketConnection
    waiting: list[dict[str, Any]] = field(factory=list)

    async def ask(self, **request: Any) -> None:
        await self.socket.send_message(json.dumps(request))

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next message, past heartbeats; of one of these kinds."""
        with trio.fail_after(60):
            while True:
                while not self.waiting:
                    self.waiting += json.loads(await self.socket.get_message())
                message = self.waiting.pop(0)
                if message["type"] != "heartbeat":
                    assert message["type"] in kinds, message
                    return message

    async def subscribe(self, channel: str, **more: Any) -> dict[str, Any]:
        await self.ask(op="subscribe", channel=channel, **more)
        return await self.next("subscribed", "snapshot")


@asynccontextmanager
async def feed(port: int, **options: Any) -> AsyncIterator[Feed]:
    async with open_websocket_url(f"ws://127.0.0.1:{port}/ws", **options) as socket:
        yield Feed(socket)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ApiNode]:
    async with api_node(tmp_path / "egat") as found:
        yield found


async def test_blocks_follow_without_a_gap_from_any_height_on(node: ApiNode) -> None:
    fates = [await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1)) for _ in range(5)]
    async with feed(node.port) as one:
        told = await one.subscribe("blocks", after=0)
        assert (told["type"], told["height"]) == ("subscribed", 0)
        height, live = 0, False
        while not live or height < fates[-1]["height"] + 1:
            message = await one.next("event", "live")
            if message["type"] == "live":
                live = True
                assert message["height"] == height == fates[-1]["height"]
                await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
                continue
            assert message["after"] <= height
            assert message["height"] == height + 1 == message["block"]["height"]
            height = message["height"]
            assert message["block"]["hash"] == (await node.get(f"/blocks/{height}"))["hash"]


async def test_accounts_hear_of_their_transactions_and_trades(node: ApiNode) -> None:
    await trade_a_little(node)
    height = (await node.get("/status"))["height"]
    everything = (await node.get(f"/accounts/{BUYER}/trades"))["items"]
    async with feed(node.port) as one:
        await one.subscribe("trades", account=BUYER, after=0)
        again: list[dict[str, Any]] = []
        at = 0
        while (message := await one.next("event", "live"))["type"] == "event":
            assert message["after"] == at
            at = message["height"]
            again += message["trades"]
        assert again == everything[::-1]
        await one.subscribe("transactions", account=BUYER)
        assert (await one.next("live"))["height"] >= height
        await one.subscribe("trades", zone=0)
        await one.next("live")
        fate = await node.wallet.do(HOUSES[1], PlaceOrder(2, node.window, Side.BUY, 5200, 100))
        found = [await one.next("event") for _ in range(3)]
        assert {message["channel"] for message in found} == {"trades", "transactions"}
        for message in found:
            assert (message["height"], len(message[message["channel"]])) == (fate["height"], 1)


async def test_depth_is_a_snapshot_and_updates_that_add_up_to_the_book(node: ApiNode) -> None:
    await trade_a_little(node)
    async with feed(node.port) as one:
        first = await one.subscribe("depth", window=node.window, zone=0)
        levels = {side: {level[0]: level for level in first[side]} for side in ("bids", "asks")}
        assert levels["bids"]
        assert levels["asks"]
        height = first["height"]
        fates = [await node.wallet.do(HOUSES[0], PlaceOrder(1, node.window, Side.SELL, price, 700))
                 for price in (4700, 4700, 4800)]
        fates.append(await node.wallet.do(HOUSES[1], PlaceOrder(2, node.window, Side.BUY, 4750, 900)))
        fates.append(await node.wallet.do(HOUSES[0], CancelOrder(fates[2]["receipts"][0][1][0])))
        while height < fates[-1]["height"]:
            update = await one.next("update")
            assert update["after"] == height
            height = update["height"]
            for side, known in levels.items():
                for level in update[side]:
                    if level[2]:
                        known[level[0]] = level
                    else:
                        del known[level[0]]
        [book] = (await node.get(f"/energy/orderbook/{node.window}", zone=0, levels=200))["zones"]
        assert sorted(levels["bids"].values(), reverse=True) == book["bids"]
        assert sorted(levels["asks"].values()) == book["asks"]
        prices = await one.subscribe("prices", window=node.window)
        assert prices["zones"] == (await node.get("/energy/prices", window=node.window))["zones"]
        await one.ask(op="unsubscribe", channel="depth", window=node.window, zone=0)
        await one.next("unsubscribed")
        await node.wallet.do(HOUSES[0], PlaceOrder(1, node.window, Side.SELL, 4300, 100))
        changed = await one.next("update")
        assert (changed["channel"], changed["after"]) == ("prices", prices["after"])
        assert changed["zones"] == (await node.get("/energy/prices", window=node.window))["zones"]


async def test_halts_are_told_in_the_grid_and_as_alerts_now_and_again_later(node: ApiNode) -> None:
    await node.wallet.do(ISSUER, Transfer(OPERATOR.public, 10_000_000))
    async with feed(node.port) as one:
        assert (await one.subscribe("grid", window=node.window))["halted"] is False
        await one.subscribe("alerts")
        await one.next("live")
        fate = await node.wallet.do(OPERATOR, HaltWindows(node.window, node.window, True))
        found = {message["channel"]: message for message in [await one.next("event", "update") for _ in range(2)]}
        assert found["grid"]["halted"] is True
        assert found["alerts"]["alerts"] == [{"alert": "halted", "window": node.window, "until_ms": None}]
    for _ in range(4):                      # so that a checkpoint takes it in, and it is told from the store
        await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
    async with feed(node.port) as one:
        await one.subscribe("alerts", after=0)
        again = await one.next("event")
        assert (again["height"], again["alerts"]) == (fate["height"], found["alerts"]["alerts"])


async def test_what_is_wrong_is_said_and_the_connection_goes_on(node: ApiNode) -> None:
    async with feed(node.port) as one:
        for request in ({"op": "subscribe", "channel": "nothing"}, {"op": "subscribe", "channel": "depth", "window": 1},
                        {"op": "subscribe", "channel": "blocks", "after": 1 << 40}, {"op": "dance"}, {},
                        {"op": "subscribe", "channel": "blocks", "zone": 1}, {"op": "unsubscribe", "channel": "blocks"},
                        {"op": "subscribe", "channel": "trades", "account": "gtx1"},
                        {"op": "subscribe", "channel": "trades", "account": "z" * 64},
                        {"op": "subscribe", "channel": "trades", "account": "z" * 62},
                        {"op": "subscribe", "channel": "depth", "window": 1, "zone": 60}):
            await one.socket.send_message(json.dumps(request))
            problem = await one.next("error")
            assert problem["request"] == request
            assert problem["detail"]
        for text in ("", "[", "[]", "7", "[" * 2000, "x" * 5000):
            await one.socket.send_message(text)
            assert (await one.next("error"))["code"] == "bad_request"
        await one.socket.send_message(b"\x00")
        await one.next("error")
        for window in range(32):
            await one.subscribe("grid", window=window)
        await one.ask(op="subscribe", channel="blocks")
        assert (await one.next("error"))["code"] == "rate_limited"
        await one.ask(op="ping")
        assert (await one.next("pong"))["height"] >= 0
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(500):
                await one.ask(op="ping")
            while True:
                await one.socket.get_message()
        assert closed.value.reason.code == 1008
    with pytest.raises(HandshakeError):
        async with feed(node.port, extra_headers=[("Origin", "https://elsewhere.example")]):
            pass
    async with feed(node.port, extra_headers=[("Origin", f"http://127.0.0.1:{node.port}")]) as one:
        await one.ask(op="ping")
        await one.next("pong")


async def test_after_a_restart_a_client_goes_on_where_it_was(tmp_path: Path) -> None:
    seen: list[int] = []
    async with api_node(tmp_path / "egat") as node:
        port, rpc = node.port, node.rpc.address
        async with feed(port) as one:
            await one.subscribe("blocks", after=0)
            for _ in range(3):
                await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
            while len(seen) < 2:
                message = await one.next("event", "live")
                if message["type"] == "event":
                    seen.append(message["height"])
        await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))     # missed
    async with running(tmp_path / "egat"), client(rpc) as session:
        node.wallet.session = session
        last = await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
        async with feed(port) as one:
            assert (await one.subscribe("blocks", after=seen[-1]))["height"] == seen[-1]
            while seen[-1] < last["height"]:
                message = await one.next("event", "live")
                if message["type"] == "event":
                    assert message["after"] <= seen[-1]
                    seen.append(message["height"])
    assert seen == list(range(1, last["height"] + 1))


async def test_a_gateway_has_the_same_feeds(node: ApiNode) -> None:
    await trade_a_little(node)
    async with gateway(node.folder / "data", HttpSettings(host="127.0.0.1", port=0)) as server, \
            feed(server.port) as one, feed(node.port) as two:
        top = (await node.get("/status"))["height"]
        heights = {}
        for name, other in (("gateway", one), ("node", two)):
            await other.subscribe("trades", after=0)
            heights[name], known = [], 0
            while len(heights[name]) < 3:
                message = await other.next("event", "live")
                if message["type"] == "event":
                    assert message["after"] <= known        # it may be told live to one, and to the other not
                    heights[name].append((message["height"], message["trades"]))
                known = message["height"]
        assert heights["gateway"] == heights["node"]
        fate = await node.wallet.do(HOUSES[1], PlaceOrder(2, node.window, Side.BUY, 5300, 100))
        assert fate["height"] > top
        with trio.fail_after(30):
            while (message := await one.next("event", "live"))["type"] == "live" or message["height"] < fate["height"]:
                pass
        assert message["height"] == fate["height"]


async def test_a_client_that_does_not_read_is_dropped() -> None:
    outbox = Outbox(4)
    for number in range(4):
        outbox.put(str(number))
    assert await outbox.take(3) == ["0", "1", "2"]
    for number in range(4):
        outbox.put(str(number))
    assert "4 messages wait" in outbox.reason
    outbox.put("x")
    assert await outbox.take(100) == []


async def test_one_that_stops_reading_its_socket_harms_nobody(tmp_path: Path) -> None:
    """Its connection is broken once a write to it takes too long, also while the node stops."""
    async with api_node(tmp_path / "egat", max_queued_messages=16) as node:
        await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        await stream.send_all(b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 400)
        with trio.fail_after(30):
            for _ in range(20):
                assert (await node.get("/status"))["height"] >= 1
                await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
        # Left open: the node's end must not wait for it.


UPGRADE = (b"GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
           b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n")


@asynccontextmanager
async def deaf(port: int) -> AsyncIterator[trio.SocketStream]:
    """A WebSocket whose client has no room for what is sent to it."""
    plain = trio.socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await plain.connect(("127.0.0.1", port))
    async with trio.SocketStream(plain) as stream:
        await stream.send_all(UPGRADE)
        assert b"101" in await stream.receive_some(20)
        yield stream


async def test_one_that_asks_for_much_and_reads_nothing_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its requests wait for room to answer them, and its end is seen all the same."""
    settings = HttpSettings(host="127.0.0.1", port=0, max_queued_messages=64, send_timeout_s=0.5)
    async with api_node(tmp_path / "egat") as node:
        for _ in range(16):
            await node.wallet.do(ISSUER, *[Transfer(REGISTRAR.public, 1)] * 16)
        async with gateway(node.folder / "data", settings) as server, deaf(server.port) as stream:
            assert await _feed_clients(server.port) == 1
            with suppress(trio.BrokenResourceError):
                for turn in range(98):
                    text = json.dumps({"op": "unsubscribe" if turn % 2 else "subscribe", "channel": "blocks",
                                       **({} if turn % 2 else {"after": 0})}).encode()
                    await stream.send_all(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)     # masked with zeros
            with trio.fail_after(30):
                while await _feed_clients(server.port):
                    await trio.sleep(0.05)


async def test_an_error_beside_an_open_connection_is_not_lost(tmp_path: Path) -> None:
    async with api_node(tmp_path / "egat") as node:
        await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            async with gateway(node.folder / "data", HttpSettings(host="127.0.0.1", port=0)) as server, \
                    deaf(server.port):
                raise ZeroDivisionError


async def _feed_clients(port: int) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    [line] = [line for line in text.splitlines() if line.startswith("gridtokenx_api_feed_clients ")]
    return float(line.split()[1])


def test_the_same_failure_of_connections_is_traced_once() -> None:
    traces, group = _Traces(), ExceptionGroup("many", [ValueError("one"), OSError("two"), ValueError("one")])
    said = "ValueError: one; OSError: two"
    assert traces.of(group) == {"error": said, "exc_info": group}
    assert traces.of(group) == {"error": said}
    assert "exc_info" in traces.of(KeyError("three")) and "exc_info" not in traces.of(KeyError("four"))


def test_a_gateway_gives_way_to_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(os, "nice", given.append)
    assert run(tmp_path / "no node's", HttpSettings(host="127.0.0.1", port=0), 50) == 2
    assert given == [10]


async def test_a_gateway_is_held_to_its_share_and_ends_when_told(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    async def keep(percent: int) -> None:
        held.append(percent)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(gateway_process, "keep_within", keep)
    async with api_node(tmp_path / "egat") as node:
        with trio.fail_after(60):
            await gateway_process._until_signalled(node.folder / "data", HttpSettings(host="127.0.0.1", port=0), 37)
    assert held == [37]


def test_who_asks_while_the_description_is_made_waits_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, may_go = threading.Event(), threading.Event()
    found: list[dict[str, Any]] = []

    def slow(made: dict[str, Any]) -> None:
        entered.set()
        assert may_go.wait(30)
        errors_of.add_schemas(made)

    monkeypatch.setattr(app, "add_schemas", slow)
    described = app.make_app(SimpleNamespace(reads=None), SimpleNamespace(), "1")
    both = [threading.Thread(target=lambda: found.append(described.openapi())) for _ in range(2)]
    both[0].start()
    assert entered.wait(30)
    both[1].start()
    both[1].join(0.2)
    assert not found
    may_go.set()
    for thread in both:
        thread.join(30)
    assert len(found) == 2 and found[0] is found[1] and "ProblemDetails" in found[0]["components"]["schemas"]
