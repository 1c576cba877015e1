"""The errors that an endpoint can answer with, for its OpenAPI description."""

from __future__ import annotations

from typing import Any

from gridtokenx.api.models.chain import SignatureIn, SignedBytes, SignedParts
from gridtokenx.api.models.parts import ProblemDetails
from gridtokenx.api.problems import MEDIA_TYPE

_EVERY = {
    400: "A parameter is missing, of the wrong kind or out of bounds",
    429: "Too many requests of this client; Retry-After says how long to wait",
    500: "A defect of this node; its log has the request id",
}
_SOME = {
    403: "This process only reads",
    404: "It does not exist at the newest final block",
    413: "The body is too large",
    415: "The body is neither CBOR nor JSON",
    422: "The transaction was refused; `ledger_code` says why",
    503: "The node is too busy to take transactions",
}


def errors_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problem details of these statuses, beside those that every endpoint has."""
    listed = _EVERY | {status: _SOME[status] for status in statuses}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": text, "content": content} for status, text in sorted(listed.items())}


def add_schemas(description: dict[str, Any]) -> None:
    """The schemas that `errors_of` and the bodies of submissions refer to."""
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    for model in (ProblemDetails, SignedBytes, SignedParts, SignatureIn):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
