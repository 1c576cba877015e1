"""How a handler answers: reading under the view's lock, entity tags, exact integers and decimals as JSON, cursors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from fastapi import Request
from starlette.responses import Response

from gridtokenx import codec
from gridtokenx.api.backend import Backend
from gridtokenx.api.problems import Problem, unknown
from gridtokenx.crypto.bech32m import AddressError, decode_address
from gridtokenx.json_form import plain, with_decimals
from gridtokenx.ledger.depth import WindowDepth
from gridtokenx.node.reads import Reads

FINAL = "public, max-age=31536000, immutable"
FRESH = "no-cache"
ORDER_IDS = frozenset({"order", "buy_order", "sell_order"})
"""Numbers of 61 bits, which JavaScript and others would round: decimal text in JSON."""


def shaped(value: Any) -> Any:
    """Canonical kinds as JSON's, with decimals beside amounts."""
    return _ids_as_text(with_decimals(plain(value)))


def to_json(value: Any) -> bytes:
    return json.dumps(shaped(value), ensure_ascii=False, separators=(",", ":")).encode()


def _ids_as_text(value: Any) -> Any:
    if isinstance(value, list):
        for item in value:
            _ids_as_text(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in ORDER_IDS and type(item) is int:
                value[name] = str(item)
            else:
                _ids_as_text(item)
    return value


def tagged(request: Request, tag: str, cache: str, body: Callable[[], bytes]) -> Response:
    """304 if the client has what `tag` names already, else the body, which is made only then."""
    quoted = f'"{tag}"'
    headers = {"etag": quoted, "cache-control": cache}
    if is_known(request.headers.get("if-none-match", ""), quoted):
        return Response(status_code=304, headers=headers)
    return Response(body(), headers=headers, media_type="application/json")


def is_known(if_none_match: str, quoted: str) -> bool:
    """Whether a client names what it would get, as RFC 9110, 13.1.2 has it."""
    return if_none_match.strip() == "*" or quoted in (part.strip().removeprefix("W/")
                                                      for part in if_none_match.split(","))


def head_tag(reads: Reads) -> str:
    """Of answers about the newest final block."""
    header = reads.view.head
    return f"{header.height}-{header.state_root.hex()[:16]}"


async def at_head(request: Request, reads: Reads, look: Callable[[], Any]) -> Response:
    """The answer of `look` at the newest final block; it stays the same until there is another one."""
    async with reads.view.lock:
        return tagged(request, head_tag(reads), FRESH, lambda: to_json(look()))


async def at_depth(request: Request, backend: Backend, window: int, look: Callable[[WindowDepth], Any]) -> Response:
    """The same of what needs the books of a window."""
    def answer(depth: WindowDepth) -> Response:
        return tagged(request, head_tag(backend.reads), FRESH, lambda: to_json(look(depth)))

    return await backend.depths.read(window, answer)


async def at_length(request: Request, reads: Reads, look: Callable[..., Any], *arguments: Any) -> Response:
    """The same of what takes a while: on a thread."""
    async with reads.view.lock:
        tag = head_tag(reads)
    answer = await reads.at_length(look, *arguments)
    return tagged(request, tag, FRESH, lambda: to_json(answer))


def to_address(text: str) -> bytes:
    """`gtx1…`, or 64 hexadecimal digits. Raises Problem: no account has an address with a wrong checksum."""
    if len(text) == 64:
        return bytes.fromhex(text)
    try:
        return decode_address(text)
    except AddressError as error:
        raise unknown(str(error)) from error


def encode_cursor(*parts: int) -> str:
    return base64.urlsafe_b64encode(codec.encode(list(parts))).decode().rstrip("=")


def decode_cursor(text: str, count: int) -> tuple[int, ...]:
    """Raises Problem(bad_cursor)."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        parts = codec.decode(raw, max_bytes=64)
    except (ValueError, codec.CodecError):
        parts = None
    if type(parts) is not list or len(parts) != count or any(
            type(part) is not int or not 0 <= part < 1 << 63 for part in parts):
        raise Problem(404, "bad_cursor", f"{text[:64]!r} is no cursor of this list")
    return tuple(parts)
