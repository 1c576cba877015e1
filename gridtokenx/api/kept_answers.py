"""Answers that stay the same until the next block, or for ever, are made once for everybody who asks.

What may be kept says so itself: a strong ETag, which for answers about the newest block names that block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import frozen

from gridtokenx.api.answers import FINAL, is_known
from gridtokenx.api.protection import App, Message, Receive, Scope, Send

MAX_BYTES = 16 << 20
MAX_ANSWER_BYTES = 256 << 10
ENTRY_BYTES = 1024
"""Counted for an answer beside its body."""

Key = tuple[str, bytes]


@frozen
class _Answer:
    etag: bytes
    final: bool
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    route: Any
    """What answered, for the names of metrics."""


class KeptAnswers:
    """An ASGI wrapper. `head_tag` is in the ETag of answers about the newest final block."""

    def __init__(self, app: App, head_tag: Callable[[], str]) -> None:
        self._app = app
        self._head_tag = head_tag
        self._kept: OrderedDict[Key, _Answer] = OrderedDict()
        self.bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        key = scope["path"], scope["query_string"]
        answer = self._kept.get(key)
        if answer is None or not (answer.final or answer.etag == self._tag()):
            await self._app(scope, receive, self._noting(key, scope, send))
            return
        self._kept.move_to_end(key)
        scope["route"] = answer.route
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"").decode("latin-1")
        same = is_known(known, answer.etag.decode())
        headers = [pair for pair in answer.headers if not (same and pair[0].startswith(b"content-"))]
        await send({"type": "http.response.start", "status": 304 if same else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if same else answer.body})

    def _tag(self) -> bytes:
        return f'"{self._head_tag()}"'.encode()

    def _noting(self, key: Key, scope: Scope, send: Send) -> Send:
        """Keeps what passes, if it may be kept and comes in one piece."""
        headers: dict[bytes, bytes] = {}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 200:
                    headers.update(message["headers"])
            elif b"etag" in headers and not message.get("more_body", False):
                body = message.get("body", b"")
                final = headers.get(b"cache-control") == FINAL.encode()
                if (len(body) == int(headers.get(b"content-length", b"-1"))
                        and (final or headers[b"etag"] == self._tag())):
                    self._keep(key, _Answer(headers[b"etag"], final, tuple(headers.items()), body, scope.get("route")))
            await send(message)

        return noting

    def _keep(self, key: Key, answer: _Answer) -> None:
        if len(answer.body) > MAX_ANSWER_BYTES:
            return
        self._forget(key)
        self._kept[key] = answer
        self.bytes += _size(key, answer)
        while self.bytes > MAX_BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Key) -> None:
        answer = self._kept.pop(key, None)
        if answer is not None:
            self.bytes -= _size(key, answer)


def _size(key: Key, answer: _Answer) -> int:
    return ENTRY_BYTES + len(key[0]) + len(key[1]) + len(answer.body)
