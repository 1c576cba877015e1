"""The WebSocket at `/ws`: one task reads what a client asks for, one does it, one writes what the client is to hear.

Reading never waits for the other two, so that a client's end is seen whatever they are at (docs/api.md). Every frame
that leaves is a JSON array of messages, so that what came up together travels together.
"""

from __future__ import annotations

import json
from typing import Any

import structlog
import trio

from gridtokenx.api.feeds import Feeds, Outbox
from gridtokenx.api.metrics import Metrics
from gridtokenx.api.problems import Problem
from gridtokenx.api.protection import CLIENT, REQUEST, App, Receive, Scope, Send
from gridtokenx.api.settings import HttpSettings
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.settings import Rate

PATH = "/ws"
FRAME_CHARACTERS = 64 << 10
MAX_REQUEST_CHARACTERS = 4096
REQUESTS = Rate(per_s=20, burst=100)
WAITING_REQUESTS = 100
TOO_SLOW = 1013
ABUSE = 1008
CLOSE_WAIT_S = 5.0


class WebSockets:
    """Takes `/ws`; everything else is the application's."""

    def __init__(self, app: App, feeds: Feeds, settings: HttpSettings, metrics: Metrics) -> None:
        self._app = app
        self._feeds = feeds
        self._settings = settings
        self._metrics = metrics
        self._log = structlog.get_logger("http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        await receive()                     # websocket.connect
        if scope["path"] != PATH or not self._may_come_from(scope):
            await send({"type": "websocket.close", "code": ABUSE})
            return
        await send({"type": "websocket.accept"})
        outbox = Outbox(self._settings.max_queued_messages)
        self._feeds.outboxes.add(outbox)
        self._metrics.clients.inc()
        self._log.debug("feed_client", request=scope[REQUEST], client=scope[CLIENT])
        try:
            async with trio.open_nursery() as nursery:
                asked, requests = trio.open_memory_channel[str | None](WAITING_REQUESTS)
                nursery.start_soon(self._read, outbox, receive, asked, nursery.cancel_scope)
                nursery.start_soon(self._serve, outbox, requests)
                await self._write(outbox, send)
                # What it still sends is read meanwhile: a reset would take the reason from it.
                await trio.sleep(CLOSE_WAIT_S)
                nursery.cancel_scope.cancel()
        finally:
            self._feeds.forget(outbox)
            self._metrics.clients.dec()
            self._log.debug("feed_client_gone", request=scope[REQUEST], reason=outbox.reason)

    def _may_come_from(self, scope: Scope) -> bool:
        """Browsers let any page open a WebSocket, so pages of other origins are turned away here."""
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        if origin is None:
            return True
        allowed = self._settings.cors_origins
        text = origin.decode("latin-1")
        return "*" in allowed or text in allowed or text.partition("://")[2] == host.decode("latin-1")

    async def _write(self, outbox: Outbox, send: Send) -> None:
        """Until the client is dropped; a connection that breaks ends the task by cancellation."""
        while True:
            batch = await outbox.take(FRAME_CHARACTERS)
            if not batch:
                break
            await send({"type": "websocket.send", "text": "[" + ",".join(batch) + "]"})
        too_many = outbox.reason.startswith("more than")
        self._metrics.dropped.labels("requests" if too_many else "slow").inc()
        with trio.move_on_after(CLOSE_WAIT_S):
            await send({"type": "websocket.send", "text": json.dumps([{"type": "dropped", "reason": outbox.reason}])})
            await send({"type": "websocket.close", "code": ABUSE if too_many else TOO_SLOW,
                        "reason": outbox.reason[:120]})

    async def _read(self, outbox: Outbox, receive: Receive, asked: trio.MemorySendChannel[str | None],
                    scope: trio.CancelScope) -> None:
        bucket = TokenBucket(REQUESTS, trio.current_time())
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                scope.cancel()
                return
            if not bucket.take(1, trio.current_time()):
                outbox.drop(f"more than {REQUESTS.per_s} requests a second")
            elif not outbox.reason:
                text = message.get("text")
                try:
                    asked.send_nowait(None if text is None or len(text) > MAX_REQUEST_CHARACTERS else text)
                except trio.WouldBlock:
                    outbox.drop(f"more than {WAITING_REQUESTS} requests wait; ask for less at once")

    async def _serve(self, outbox: Outbox, requests: trio.MemoryReceiveChannel[str | None]) -> None:
        async for text in requests:
            if not outbox.reason:
                await self._request(outbox, text)

    async def _request(self, outbox: Outbox, text: str | None) -> None:
        """`text`: None if it is none, or too long."""
        request: Any = None
        try:
            request = _parsed(text)
            operation = request.get("op")
            if operation == "subscribe":
                await self._feeds.subscribe(outbox, request, self._settings.max_subscriptions)
            elif operation == "unsubscribe":
                named = self._feeds.unsubscribe(outbox, request)
                outbox.put(json.dumps({"type": "unsubscribed", "channel": named["channel"]}))
            elif operation == "ping":
                outbox.put(json.dumps({"type": "pong", "height": self._feeds.height}))
            else:
                raise Problem(400, "bad_request", "op is subscribe, unsubscribe or ping")
        except Problem as problem:
            outbox.put(json.dumps({"type": "error", "code": problem.code, "detail": problem.detail,
                                   "request": request}, ensure_ascii=False))


def _parsed(text: str | None) -> dict[str, Any]:
    """Raises Problem."""
    if text is None:
        raise Problem(400, "bad_request", f"a request is JSON text of at most {MAX_REQUEST_CHARACTERS} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_request", f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Problem(400, "bad_request", "a request is an object with `op`")
    return found
