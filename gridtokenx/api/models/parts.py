"""What all shapes are made of, and that of errors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from gridtokenx.json_form import decimal_name

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes in hexadecimal")]
Address = Annotated[str, Field(pattern="^gtx1[02-9ac-hj-np-z]{58}$", description="bech32m, prefix gtx")]
Number = Annotated[str, Field(pattern="^[0-9]{1,20}$", description="a number beyond 2^53, as text")]
Level = Annotated[list[int], Field(min_length=3, max_length=3,
                                   description="price mTHB/kWh, Wh shown, orders")]


class Answer(BaseModel):
    """Nothing but the named fields."""

    model_config = ConfigDict(extra="forbid")


def with_decimal_fields(model: type[Answer]) -> type[Answer]:
    """`model` with a field of decimal text beside each amount."""
    beside: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        shown = decimal_name(name)
        if shown is not None and field.annotation in (int, int | None):
            beside[shown] = (str if field.annotation is int else str | None,
                             Field(description=f"`{name}` as decimal text"))
    made = create_model(model.__name__, __base__=model, **beside)
    made.__doc__ = model.__doc__
    return made


class ProblemDetails(BaseModel):
    """RFC 9457. `code` is for programs, `detail` and `what_to_do` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    what_to_do: str
    request_id: str | None = None
    ledger_code: int | None = Field(None, description="of a refused transaction: docs/ledger.md")
    ledger_code_name: str | None = None
    errors: list[dict[str, Any]] | None = Field(None, description="of a bad request: where and what")
