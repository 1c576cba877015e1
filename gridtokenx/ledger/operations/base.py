"""What an operation kind is, and the checks of fields that all kinds share."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

from attrs import define

from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.market.deferred import Deferred
from gridtokenx.market.desk import Desk

MAX_MEMO_BYTES = 64
MAX_INT64 = (1 << 63) - 1


@define
class Block:
    """The block that an operation is part of."""

    context: Context
    desk: Desk


class Operation(Protocol):
    """One kind. `parse` reads the fields after the kind number, `fields` gives them back for a client to send."""

    KIND: ClassVar[int]
    NAME: ClassVar[str]
    WEIGHT: ClassVar[int]
    IS_ORDER: ClassVar[bool]

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> Self:
        """Raises Failed(BAD_FIELDS or OUT_OF_RANGE): what no state could make right."""
        ...

    def fields(self) -> list[Any]:
        """`[kind, field, ...]` as a transaction carries it."""
        ...

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...] | Deferred:
        """Effects on the block's session; the receipt's data, or what the engine will answer. Raises Failed."""
        ...


def check_count(fields: tuple[Any, ...], *names: str) -> None:
    if len(fields) != len(names):
        raise Failed(Code.BAD_FIELDS, f"{len(fields)} fields after the kind; needed are {', '.join(names)}")


def integer(name: str, value: Any, low: int = 0, high: int = MAX_INT64) -> int:
    if type(value) is not int:
        raise Failed(Code.BAD_FIELDS, f"{name} must be an integer, not {type(value).__name__}")
    if not low <= value <= high:
        raise Failed(Code.OUT_OF_RANGE, f"{name} is {value}; {low} to {high} is allowed")
    return value


def address(name: str, value: Any) -> bytes:
    if type(value) is not bytes or len(value) != PUBLIC_KEY_BYTES:
        raise Failed(Code.BAD_FIELDS, f"{name} must be {PUBLIC_KEY_BYTES} bytes")
    return value


def memo(name: str, value: Any) -> bytes:
    if type(value) is not bytes or len(value) > MAX_MEMO_BYTES:
        raise Failed(Code.BAD_FIELDS, f"{name} must be at most {MAX_MEMO_BYTES} bytes")
    return value


def text(name: str, value: Any, most: int) -> str:
    if type(value) is not str or not 1 <= len(value.encode()) <= most:
        raise Failed(Code.BAD_FIELDS, f"{name} must be 1 to {most} bytes of text")
    return value
