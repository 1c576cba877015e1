"""Checks of what a client sends with a request; shared by all rpc methods."""

from __future__ import annotations

from typing import Any

from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import spaces

MAX_LISTED = 500


class RequestError(GridTokenXError):
    """Parameters of the wrong number or kind; the message says what the method takes."""

    code = "bad_request"


def integer(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise RequestError(f"{name} must be an integer from {low} to {high}, not {value!r}")
    return value


def hash_of(value: Any, name: str) -> bytes:
    if type(value) is not bytes or len(value) != HASH_BYTES:
        raise RequestError(f"{name} must be {HASH_BYTES} bytes")
    return value


def window_of(value: Any) -> int:
    return integer(value, "a window", 0, spaces.MAX_WINDOW)


def meter_of(value: Any) -> int:
    return integer(value, "a meter's id", 1, (1 << 32) - 1)
