"""Errors as RFC 9457 problem details: a code that programs go by, what was wrong, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from gridtokenx.errors import GridTokenXError

MEDIA_TYPE = "application/problem+json"

WHAT_TO_DO = {
    "bad_request": "correct the request; /api/v1/openapi.json has every field with its bounds",
    "not_found": "check the address; /api/v1/openapi.json lists what there is",
    "unknown": "it does not exist at the newest final block, or no longer",
    "method_not_allowed": "use one of the methods in the Allow header",
    "too_large": "send less; a transaction has at most 65 536 bytes",
    "unsupported_media_type": "send application/cbor or application/json",
    "rate_limited": "wait as many seconds as Retry-After says, then go on more slowly",
    "refused": "correct the transaction; docs/ledger.md lists the codes",
    "wrong_operation": "send the operation that this endpoint is for, or use POST /api/v1/transactions",
    "unauthorized": "send Authorization: Bearer with a token that `gridtokenx signer token` made",
    "forbidden": "ask the signer's operator; its file says what each token may have signed",
    "read_only": "submit to a node that takes transactions; a gateway only reads",
    "busy": "wait as many seconds as Retry-After says; ask for what you submitted before submitting it again",
    "ahead": "this node is behind what you have seen; subscribe again in a moment, or at another node",
    "timeout": "ask for less at once, or try again later",
    "internal": "tell the operator of this node the request id",
    "bad_cursor": "begin again without the cursor, or use one that an answer gave as `next`",
}


class Problem(GridTokenXError):
    """An answer that is an error. `code` is a key of WHAT_TO_DO."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None,
                 **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    def body(self, request_id: str = "") -> bytes:
        found: dict[str, Any] = {
            "type": f"urn:gridtokenx:problem:{self.code}", "title": HTTPStatus(self.status).phrase,
            "status": self.status, "code": self.code, "detail": self.detail, "what_to_do": WHAT_TO_DO[self.code],
        }
        if request_id:
            found["request_id"] = request_id
        return json.dumps(found | self.more, ensure_ascii=False).encode()

    def response(self, request_id: str = "") -> Response:
        return Response(self.body(request_id), self.status, self.headers, MEDIA_TYPE)


def unknown(what: str) -> Problem:
    """404 for a thing that a well-formed request named."""
    return Problem(404, "unknown", what)
