"""Signed transactions that clients hand in: read from CBOR or JSON, submitted, waited for, described.

Keys stay with their owner: what comes here is signed already, and what it may do is the ledger's to say.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.responses import Response

from gridtokenx import codec
from gridtokenx.api.answers import to_json
from gridtokenx.api.backend import Backend, Map
from gridtokenx.api.deadline import extend_deadline
from gridtokenx.api.models.chain import SignedBytes, SignedParts
from gridtokenx.api.problems import Problem
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.operations import kind_of
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.transaction import MAX_TRANSACTION_BYTES, Transaction, decode_transaction
from gridtokenx.node.feed import FeedFull

CBOR = "application/cbor"
JSON = "application/json"
BUSY = frozenset({Code.POOL_FULL, Code.NOT_READY, Code.OVERLOADED})
"""Codes of this node's state: the same transaction may be taken later."""
RETRY_S = 2


def code_name(number: int) -> str:
    return Code(number).name if number in set(Code) else f"code {number}"


def described(identity: bytes, fate: Map, raw: bytes | None) -> Map:
    """A transaction's state, with what it says as far as its bytes are at hand."""
    receipts = fate.get("receipts")
    code = fate.get("code")
    answer: Map = {
        "id": identity, "state": fate["state"], "reason": fate.get("reason"), "height": fate.get("height"),
        "index": fate.get("index"), "code": code, "code_name": None if code is None else code_name(code),
        "receipts": None if receipts is None else [
            {"code": number, "name": code_name(number), "data": data} for number, data in receipts],
        "sender": None, "nonce": None, "valid_until_height": None, "fee_uthb": None, "operations": None,
    }
    if raw is not None:
        transaction = decode_transaction(raw)
        answer |= {"sender": transaction.sender, "nonce": transaction.nonce, "fee_uthb": transaction.fee_uthb,
                   "valid_until_height": transaction.valid_until_height,
                   "operations": [_operation(operation) for operation in transaction.operations]}
    return answer


def _operation(operation: tuple[Any, ...]) -> Map:
    try:
        name = kind_of(operation[0]).NAME
    except Failed:
        name = "unknown"
    return {"kind": operation[0], "name": name, "fields": list(operation[1:])}


REQUEST_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {
    JSON: {"schema": {"oneOf": [{"$ref": "#/components/schemas/SignedBytes"},
                                {"$ref": "#/components/schemas/SignedParts"}]}},
    CBOR: {"schema": {"type": "string", "format": "binary", "minLength": 1, "maxLength": MAX_TRANSACTION_BYTES}},
}}}
"""Of the endpoints that take a signed transaction, for the OpenAPI description."""


class Submissions:
    """For these endpoints."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def read(self, request: Request) -> bytes:
        """The transaction's bytes. Raises Problem."""
        if not self._backend.takes_transactions:
            raise Problem(403, "read_only", "this gateway only reads")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (CBOR, JSON):
            raise Problem(415, "unsupported_media_type", f"a body of type {kind[:80]!r}")
        body = await request.body()
        raw = body if kind == CBOR else _from_json(body)
        if len(raw) > MAX_TRANSACTION_BYTES:
            raise Problem(413, "too_large", f"{len(raw)} bytes; a transaction has at most {MAX_TRANSACTION_BYTES}")
        if not raw:
            raise Problem(400, "bad_request", "the body is empty; a signed transaction is wanted")
        return raw

    def decoded(self, raw: bytes) -> Transaction:
        """Raises Problem(refused) for bytes that are no transaction."""
        try:
            return decode_transaction(raw)
        except GridTokenXError as error:
            raise _refused(int(Code.MALFORMED), str(error)) from error

    def _known(self, transaction_id: bytes) -> bool:
        """Whether it was taken before: then what became of it is the answer, not what is wrong with it now."""
        return bool(self._backend.reads.fate(transaction_id)["state"] in ("pending", "final"))

    async def submit(self, request: Request, raw: bytes, wait_ms: int) -> Response:
        """200 final or given up, 202 pending. Raises Problem(refused or busy)."""
        backend = self._backend
        try:
            [(identity, code, message)] = await backend.submit([raw])
        except Failed as error:
            raise _busy(str(error)) from error
        if code in BUSY:
            raise _busy(message, code)
        if code and code != Code.DUPLICATE_TRANSACTION and not self._known(identity):
            raise _refused(code, message)
        extend_deadline(request, wait_ms / 1000)
        try:
            [fate] = await backend.wait([identity], wait_ms / 1000)
        except FeedFull as error:
            raise _busy(str(error)) from error
        if fate["state"] == "unknown":          # taken, and gone with the pool of a moment ago
            fate = {"state": "pending"}
        answer = described(identity, fate, raw)
        return Response(to_json(answer), 202 if fate["state"] == "pending" else 200, media_type=JSON,
                        headers={"location": f"/api/v1/transactions/{identity.hex()}", "cache-control": "no-store"})


def _from_json(body: bytes) -> bytes:
    try:
        found = json.loads(body)
        if isinstance(found, dict) and "transaction" in found:
            return bytes.fromhex(SignedBytes.model_validate(found).transaction)
        wanted = SignedParts.model_validate(found)
    except ValidationError as error:
        raise Problem(400, "bad_request", "the body is no signed transaction in JSON", errors=[
            {"where": ".".join(map(str, entry["loc"])), "what": entry["msg"]} for entry in error.errors()]) from error
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_request", f"the body is not JSON: {error}") from error
    return codec.encode([bytes.fromhex(wanted.payload),
                         [[bytes.fromhex(entry.public), bytes.fromhex(entry.signature)]
                          for entry in sorted(wanted.signatures, key=lambda entry: entry.public)]])


def _refused(code: int, message: str) -> Problem:
    return Problem(422, "refused", message, ledger_code=code, ledger_code_name=code_name(code))


def _busy(message: str, code: int = Code.NOT_READY) -> Problem:
    return Problem(503, "busy", message, headers={"retry-after": str(RETRY_S)}, ledger_code=int(code),
                   ledger_code_name=code_name(code))
