"""Canonical CBOR (RFC 8949 section 4.2.1): one value, one byte string, on every peer.

Allowed: integers of 64 bits, byte strings, text, arrays, maps whose keys are all unsigned integers (consensus
state) or all text (answers to clients), true, false, null. Floats, tags, indefinite lengths and anything that
does not re-encode to the same bytes are refused.
"""

from __future__ import annotations

from typing import Any

import cbor2

from gridtokenx._native import canonical
from gridtokenx.errors import GridTokenXError

MAX_DEPTH = 16
_MAX_INT = (1 << 64) - 1
_MIN_INT = -(1 << 63)


class CodecError(GridTokenXError):
    """Bytes that are not canonical CBOR of the allowed kinds, or a value that has no such form."""


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:
            raise CodecError(f"an integer of {value.bit_length()} bits is outside -2^63 .. 2^64-1")
    elif kind is bytes or kind is str or kind is bool or value is None:
        return
    elif kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            raise CodecError(f"nested deeper than {MAX_DEPTH} levels")
        for item in value:
            _check(item, depth + 1)
    elif kind is dict:
        if depth >= MAX_DEPTH:
            raise CodecError(f"nested deeper than {MAX_DEPTH} levels")
        kinds = {type(key) for key in value}
        if len(kinds) > 1 or not kinds <= {int, str}:
            raise CodecError("the keys of a map are all unsigned integers or all text")
        for key, item in value.items():
            if type(key) is int and not 0 <= key <= _MAX_INT:
                raise CodecError("map keys are integers from 0 to 2^64-1 or text")
            _check(item, depth + 1)
    else:
        raise CodecError(f"{kind.__name__} has no canonical form; integers, bytes, text, arrays, maps, "
                         "booleans and null have")


def encode(value: Any) -> bytes:
    """The canonical bytes of `value`. Raises CodecError for floats and other kinds without a form."""
    raw = canonical.canonical(value, MAX_DEPTH)
    if raw is not None:
        return raw
    _check(value, 0)        # says what is wrong with it
    try:
        return cbor2.dumps(value, canonical=True)
    except UnicodeEncodeError as error:
        raise CodecError(f"text with a lone surrogate has no canonical form: {error}") from error


def decode(data: bytes, *, max_bytes: int = 1 << 20) -> Any:
    """The value of canonical `data`; arrays come back as lists.

    Raises CodecError if `data` is longer than `max_bytes`, is not CBOR, holds a kind that is not allowed, has
    bytes after the value, or is not in canonical form. All this is known before anything is built from the bytes.
    """
    if len(data) > max_bytes:
        raise CodecError(f"{len(data)} bytes; at most {max_bytes} are allowed here")
    if type(data) is not bytes:
        data = bytes(data)
    fault = canonical.fault(data, MAX_DEPTH)
    if fault is not None:
        raise CodecError(f"not canonical CBOR: {fault}")
    try:
        return cbor2.loads(data)
    except (cbor2.CBORError, ValueError) as error:
        raise CodecError(f"not CBOR: {error}") from error
