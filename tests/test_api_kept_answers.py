"""Answers made once for everybody: until the next block, or for ever; never more than fits."""

from __future__ import annotations

from typing import Any

import pytest

from gridtokenx.api import kept_answers
from gridtokenx.api.answers import FINAL, FRESH
from gridtokenx.api.kept_answers import KeptAnswers
from gridtokenx.api.protection import Message, Receive, Scope, Send


class Made:
    """An application whose answers tell how often it was asked."""

    def __init__(self) -> None:
        self.head = "1-aa"
        self.asked = 0
        self.kept = KeptAnswers(self, lambda: self.head)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        scope["route"] = "the route"
        path = scope["path"]
        body = f"{path} {self.asked}".encode() if path != "/large" else bytes(1000)
        headers = [(b"content-length", b"%d" % len(body))]
        if path != "/live":
            tag, cache = {"/final": ("block", FINAL), "/old": ("0-bb", FRESH)}.get(path, (self.head, FRESH))
            headers += [(b"etag", f'"{tag}"'.encode()), (b"cache-control", cache.encode())]
        await send({"type": "http.response.start", "status": 404 if path == "/none" else 200, "headers": headers})
        if path == "/pieces":
            await send({"type": "http.response.body", "body": body[:3], "more_body": True})
            body = body[3:]
        await send({"type": "http.response.body", "body": body})

    async def get(self, path: str, query: bytes = b"", known: bytes = b"", method: str = "GET") -> tuple[int, bytes]:
        told: list[Message] = []

        async def send(message: Message) -> None:
            told.append(message)

        async def receive() -> Message:
            raise AssertionError("nothing is read")

        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": query,
                                 "headers": [(b"if-none-match", known)] if known else []}
        await self.kept(scope, receive, send)
        assert scope["route"] == "the route"
        headers = dict(told[0]["headers"])
        body = b"".join(message["body"] for message in told[1:])
        assert (told[0]["status"] == 304) == (b"content-length" not in headers)
        assert path == "/live" or headers[b"etag"]
        return told[0]["status"], body


async def test_one_answer_for_all_until_the_next_block() -> None:
    made = Made()
    assert [await made.get("/a"), await made.get("/a"), await made.get("/a", b"x=1")] == [
        (200, b"/a 1"), (200, b"/a 1"), (200, b"/a 2")]
    assert await made.get("/a", known=b'"0-00", W/"1-aa"') == (304, b"")
    assert await made.get("/a", known=b'"0-00"') == (200, b"/a 1")
    assert await made.get("/final") == (200, b"/final 3")
    made.head = "2-bb"
    assert [await made.get("/a"), await made.get("/a"), await made.get("/final")] == [
        (200, b"/a 4"), (200, b"/a 4"), (200, b"/final 3")]


@pytest.mark.parametrize("path", ["/none", "/live", "/old", "/pieces"])
async def test_what_does_not_say_that_it_stays_is_made_anew(path: str) -> None:
    made = Made()
    first, second = await made.get(path), await made.get(path)
    assert (first[1], second[1], made.kept.bytes) == (f"{path} 1".encode(), f"{path} 2".encode(), 0)


async def test_only_get_is_answered_from_what_is_kept() -> None:
    made = Made()
    await made.get("/a")
    assert await made.get("/a", method="POST") == (200, b"/a 2")


async def test_memory_is_bounded_and_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "MAX_ANSWER_BYTES", 999)
    monkeypatch.setattr(kept_answers, "MAX_BYTES", 3 * (kept_answers.ENTRY_BYTES + 10))
    made = Made()
    await made.get("/large")
    assert made.kept.bytes == 0
    for path in ("/1", "/2", "/3", "/1", "/4"):
        await made.get(path)
    assert 0 < made.kept.bytes <= kept_answers.MAX_BYTES
    asked = made.asked
    await made.get("/1")
    assert made.asked == asked
    await made.get("/2")
    assert made.asked == asked + 1
