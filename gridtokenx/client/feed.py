"""The live feeds of nodes and gateways (docs/api.md), over connections that are made anew as often as they break.

    async with open_feed(["http://127.0.0.1:9480"], [{"channel": "blocks"}], after=1200) as feed:
        async for message in feed:
            ...

Events come once each and in order, whatever happens to the connection and whichever of the addresses answers: heights
are the same at every node, and each subscription goes on above the last one that it had. States (depth, prices, grid)
begin with a snapshot again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, open_websocket_url

from gridtokenx.client.errors import BadAnswer, ClientError, RequestFailed

EVENTS = frozenset({"blocks", "trades", "transactions", "alerts"})
NARROWED = ("account", "window", "zone")
CONNECT_S = 5.0
SILENT_S = 25.0
"""Heartbeats come every ten seconds."""
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
AHEAD = "ahead"
MAX_MESSAGE = 16 << 20

Message = dict[str, Any]


def _key(named: Message) -> tuple[Any, ...]:
    return (named["channel"], *(named.get(name) for name in NARROWED))


class _Broken(Exception):
    """This connection is of no use any more."""


@define
class _Subscription:
    named: Message
    height: int | None
    """Everything up to here was told."""
    live: bool = False

    def request(self) -> str:
        after = {"after": self.height} if self.named["channel"] in EVENTS and self.height is not None else {}
        return json.dumps({"op": "subscribe", **self.named, **after})


@define(eq=False)
class Feed:
    """Messages as they come: `event`, `snapshot`, `update`. `reconnects` counts connections beyond the first."""

    urls: Sequence[str]
    _subscriptions: dict[tuple[Any, ...], _Subscription]
    _messages: trio.MemoryReceiveChannel[Message]
    reconnects: int = -1
    _told: bool = False
    _error: ClientError | None = None

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self._messages.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None

    def height(self, channel: str, **narrowed: Any) -> int | None:
        """Up to where that subscription was told everything: to go on from in another run."""
        return self._subscriptions[_key({"channel": channel, **narrowed})].height

    async def _run(self, out: trio.MemorySendChannel[Message]) -> None:
        async with out:
            try:
                await self._connect_again_and_again(out)
            except ClientError as error:
                self._error = error

    async def _connect_again_and_again(self, out: trio.MemorySendChannel[Message]) -> None:
        wait_s, turn = FIRST_WAIT_S, 0
        while True:
            self._told = False
            address = self.urls[turn % len(self.urls)].rstrip("/").replace("http", "ws", 1) + "/ws"
            try:
                with trio.fail_after(CONNECT_S) as connecting:
                    async with open_websocket_url(address, max_message_size=MAX_MESSAGE) as socket:
                        connecting.deadline = float("inf")
                        self.reconnects += 1
                        await self._listen(socket, out)
            except (OSError, HandshakeError, ConnectionClosed, trio.TooSlowError, _Broken):
                pass
            wait_s = FIRST_WAIT_S if self._told else min(2 * wait_s, LONGEST_WAIT_S)
            await trio.sleep(wait_s)
            turn += 1

    async def _listen(self, socket: WebSocketConnection, out: trio.MemorySendChannel[Message]) -> None:
        for subscription in self._subscriptions.values():
            subscription.live = False
            await socket.send_message(subscription.request())
        while True:
            with trio.fail_after(SILENT_S):
                frame = await socket.get_message()
            for message in json.loads(frame):
                if self._is_news(message):
                    self._told = True
                    await out.send(message)

    def _is_news(self, message: Message) -> bool:
        """Notes how far it goes. Raises _Broken for a gap, RequestFailed for what no reconnecting mends."""
        kind = message["type"]
        if kind == "heartbeat":
            for one in self._subscriptions.values():
                if one.live:
                    one.height = max(one.height or 0, message["height"])
            return False
        if kind == "dropped":
            raise _Broken
        if kind == "error":
            if message["code"] in (AHEAD, "busy"):
                raise _Broken
            raise RequestFailed(message["detail"], message["code"])
        if kind not in ("subscribed", "live", "event", "snapshot", "update"):
            return False
        subscription = self._subscriptions.get(_key(message))
        if subscription is None:
            raise BadAnswer(f"a message about {message.get('channel')}, which was not asked for")
        if subscription.live and kind in ("event", "update") and message["after"] > (subscription.height or 0):
            raise _Broken
        subscription.height = message["height"]
        subscription.live = subscription.live or kind in ("live", "snapshot")
        return kind in ("event", "snapshot", "update")


@asynccontextmanager
async def open_feed(urls: Sequence[str], channels: Sequence[Message], *, after: int | None = None,
                    ) -> AsyncIterator[Feed]:
    """Subscribes to `channels` (docs/api.md), events from above height `after` on; without it from now on.

    `urls` are tried in turn. Iterating raises RequestFailed for what cannot be subscribed to.
    """
    out, messages = trio.open_memory_channel[Message](0)
    feed = Feed(tuple(urls), {_key(named): _Subscription(dict(named), after) for named in channels}, messages)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed._run, out)
        yield feed
        nursery.cancel_scope.cancel()
