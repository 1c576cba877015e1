"""What stands before every handler: request ids, rates, sizes, time limits, cross-origin rules, the access log.

An ASGI wrapper. Whatever a handler raises becomes a problem answer; nothing gets past it but cancellation.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
import trio

from gridtokenx.api.deadline import set_deadline
from gridtokenx.api.problems import Problem
from gridtokenx.api.settings import HttpSettings, client_key
from gridtokenx.errors import GridTokenXError, leaves
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.settings import Rate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_CLIENTS = 16_384
CLIENT = "gridtokenx.client"
REQUEST = "gridtokenx.request"
ROUTE = "gridtokenx.route"
CORS_METHODS = b"GET, POST, DELETE, OPTIONS"


class Rates:
    """A token bucket per client; the least recently seen is forgotten beyond MAX_CLIENTS."""

    def __init__(self, per_s: int) -> None:
        self._rate = Rate(per_s=per_s, burst=2 * per_s)
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def wait_s(self, client: str, now: float) -> float:
        """0 if the client may go on, else how long it must wait at least."""
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = TokenBucket(self._rate, now)
            if len(self._buckets) > MAX_CLIENTS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(client)
        return 0.0 if bucket.take(1, now) else 1 / self._rate.per_s


class _Answered:
    """What has left so far for one request."""

    status = 0
    bytes = 0
    body_read = False
    """Whether all of the request's body was taken in."""


class Protection:
    """`on_request(route, method, status, seconds)` is told of every request that was answered."""

    def __init__(self, app: App, settings: HttpSettings, on_request: Callable[[str, str, int, float], None]) -> None:
        self._app = app
        self._settings = settings
        self._rates = Rates(settings.max_requests_per_s)
        self._on_request = on_request
        self._log = structlog.get_logger("http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = scope["client"][0] if scope.get("client") else ""
        scope[CLIENT] = client_key(host, headers.get(b"x-forwarded-for", b"").decode("latin-1"),
                                   self._settings.trusted_proxies)
        scope[REQUEST] = secrets.token_hex(8)
        wait_s = self._rates.wait_s(scope[CLIENT], trio.current_time())
        if scope["type"] == "websocket":
            if wait_s:
                await receive()
                await send({"type": "websocket.close", "code": 1013, "reason": "too many requests"})
                return
            await self._app(scope, receive, send)
            return
        await self._request(scope, headers, receive, send, wait_s)

    async def _request(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send,
                       wait_s: float) -> None:
        began, answered = time.perf_counter(), _Answered()
        extra = [(b"x-request-id", scope[REQUEST].encode()), *self._cross_origin(headers),
                 (b"x-content-type-options", b"nosniff")]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *extra]
                if not answered.body_read and (b"transfer-encoding" in headers
                                               or headers.get(b"content-length", b"0") != b"0"):
                    message["headers"].append((b"connection", b"close"))    # what follows would be the rest of it
            else:
                answered.bytes += len(message.get("body", b""))
            await send(message)

        try:
            if wait_s:
                raise Problem(429, "rate_limited", f"more than {self._settings.max_requests_per_s} requests a second",
                              headers={"retry-after": str(math.ceil(wait_s))})
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await self._preflight(answer)
            else:
                await self._handled(scope, headers, receive, answer, answered)
        except Exception as error:  # noqa: BLE001 - a defect in one request must not reach the node
            await self._failed(scope, error, answer, answered)
        took_s = time.perf_counter() - began
        self._on_request(scope.get(ROUTE, ""), scope["method"], answered.status, took_s)
        self._log.debug("request", request=scope[REQUEST], client=scope[CLIENT], method=scope["method"],
                        path=scope["path"], status=answered.status, bytes=answered.bytes,
                        took_ms=round(took_s * 1000, 1))

    async def _handled(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, answer: Send,
                       answered: _Answered) -> None:
        most, taken = self._settings.max_body_bytes, 0
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            raise Problem(413, "too_large", f"a body of {int(announced)} bytes; at most {most} are read")

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > most:
                    raise Problem(413, "too_large", f"a body of more than {most} bytes")
                answered.body_read = not message.get("more_body", False)
            return message

        with trio.move_on_after(self._settings.request_timeout_s) as cancel_scope:
            set_deadline(scope, cancel_scope)
            await self._app(scope, bounded, answer)
        if cancel_scope.cancelled_caught:
            raise Problem(503, "timeout", "the request took too long", headers={"retry-after": "5"})

    async def _failed(self, scope: Scope, error: Exception, answer: Send, answered: _Answered) -> None:
        problem = next((leaf for leaf in leaves(error) if isinstance(leaf, Problem)), None)
        if problem is None:
            known = next((leaf for leaf in leaves(error) if isinstance(leaf, GridTokenXError)), None)
            self._log.error("request_failed", request=scope[REQUEST], path=scope["path"], error=str(known or error),
                            exc_info=error)
            problem = Problem(500, "internal", "the request could not be answered")
        if answered.status:
            return                  # too late for another answer; the connection ends
        response = problem.response(scope[REQUEST])
        await answer({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await answer({"type": "http.response.body", "body": response.body})

    # ------------------------------------------------------------ other origins

    def _cross_origin(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        origin, allowed = headers.get(b"origin"), self._settings.cors_origins
        if origin is None or not allowed:
            return []
        if "*" in allowed:
            return [(b"access-control-allow-origin", b"*")]
        if origin.decode("latin-1") in allowed:
            return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        return [(b"vary", b"origin")]

    async def _preflight(self, answer: Send) -> None:
        headers = []
        if self._settings.cors_origins:
            headers = [(b"access-control-allow-methods", CORS_METHODS),
                       (b"access-control-allow-headers", b"content-type, if-none-match"),
                       (b"access-control-max-age", b"600")]
        await answer({"type": "http.response.start", "status": 204, "headers": headers})
        await answer({"type": "http.response.body", "body": b""})
