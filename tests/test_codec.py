"""Canonical CBOR: one value, one byte string; everything else is refused with a typed error."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridtokenx.codec import MAX_DEPTH, CodecError, decode, encode

SCALARS = (st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.booleans() | st.none()
           | st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (st.lists(inner, max_size=6) | st.dictionaries(st.integers(0, (1 << 64) - 1), inner, max_size=6)
                   | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=6)),
    max_leaves=20,
)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    raw = encode(value)
    assert decode(raw) == value
    assert encode(decode(raw)) == raw


@given(VALUES)
def test_another_encoder_writes_the_same(value: Any) -> None:
    assert encode(value) == cbor2.dumps(value, canonical=True)


@given(VALUES)
def test_order_of_insertion_does_not_matter(value: Any) -> None:
    def turned(part: Any) -> Any:
        if isinstance(part, list):
            return tuple(turned(item) for item in part)
        if isinstance(part, dict):
            return {key: turned(item) for key, item in reversed(part.items())}
        return part

    assert encode(turned(value)) == encode(value)


@pytest.mark.parametrize(("value", "raw"), [
    (0, "00"), (23, "17"), (24, "1818"), (255, "18ff"), (256, "190100"), (65536, "1a00010000"),
    (1 << 32, "1b0000000100000000"), ((1 << 64) - 1, "1bffffffffffffffff"), (-1, "20"), (-24, "37"), (-25, "3818"),
    (-(1 << 63), "3b7fffffffffffffff"), (b"", "40"), (b"\x01", "4101"), ("", "60"), ("ก", "63e0b881"), ([], "80"),
    ([1, [2]], "82018102"), ({}, "a0"), (False, "f4"), (True, "f5"), (None, "f6"),
    ({256: 3, 24: 2, 1: 1}, "a3010118180219010003"),
    ({"b": 1, "aa": 2, "a": 3}, "a3616103616201626161" + "02"),
])
def test_frozen_bytes(value: Any, raw: str) -> None:
    """RFC 8949, appendix A and 4.2.1: the wire format of every value."""
    assert encode(value).hex() == raw
    assert decode(bytes.fromhex(raw)) == value


@pytest.mark.parametrize("raw", [
    # floats, whole ones too
    "f90000", "f93c00", "f97e00", "f97c00", "fa47c35000", "fb3ff199999999999a", "81f93c00",
    # tags: dates, bignums, fractions, shared values, sets, self-described
    "c074323031332d30332d32315432303a30343a30305a", "c11a514b67b0", "c24101", "c249010000000000000000",
    "c349010000000000000000", "c48221196ab3", "c5822003", "d81c80", "d81d00", "d81c81d81d00", "d9010280", "d9d9f700",
    "d82376" + "61" * 22, "d825500011223344556677889900112233445566"[:36], "d818" + "4100",
    # indefinite lengths
    "9fff", "9f01ff", "bfff", "bf0001ff", "5fff", "5f4101ff", "7fff", "7f6161ff",
    # longer than needed
    "1800", "1817", "190001", "1900ff", "1a0000ffff", "1b00000000ffffffff", "3800", "5800", "580101", "7800", "9800",
    "b800", "980101",
    # map keys: twice, out of order, of another or mixed kind
    "a201010102", "a202010101", "a2616101616102", "a2616201616102", "a2626161016162" + "02", "a12001", "a1410101",
    "a1f401", "a1f601", "a18001", "a1a001", "a1f93c0001", "a20101616101", "a24101014102" + "02", "a1c2410101",
    # integers of more than 64 bits, minus beyond int64
    "3b8000000000000000", "3bffffffffffffffff",
    # simple values
    "f7", "e0", "f0", "f8ff", "f818", "f820", "81f7",
    # broken off, left over, not UTF-8, reserved
    "", "18", "19", "1900", "41", "42ff", "61", "81", "a1", "a101", "0000", "8000", "f6f6", "62c328", "63eda080", "ff",
    "1c", "1f", "3c", "5c", "fc", "81ff", "a1ff01",
    # lengths that no memory holds
    "5bffffffffffffffff", "7bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff", "5b7fffffffffffffff",
    "9b7fffffffffffffff", "bb7fffffffffffffff", "9b0000ffffffffffff", "5a7fffffff", "9a7fffffff", "ba7fffffff",
    "9affffffff00", "baffffffff0000",
    # what a general decoder makes of tags: an integer of 65 536 bits, a regular expression, values shared at will
    "c2592000" + "ff" * 8192, "d823782828" + "28" * 40, "d81c82" + "01d81c82" * 10 + "01" + "d81d00" * 10,
])
def test_refused_bytes(raw: str) -> None:
    with pytest.raises(CodecError):
        decode(bytes.fromhex(raw))


@pytest.mark.parametrize("value", [
    1.0, 0.0, float("nan"), [1.5], {1: 1.0}, 1 << 64,
    -(1 << 63) - 1, pytest.param(10 ** 5000, id="huge"), {-1: 0}, {1 << 64: 0}, {True: 0},
    {b"a": 0}, {1: 0, "a": 0}, {None: 0}, {(1,): 0}, bytearray(b"a"), memoryview(b"a"), {1, 2}, frozenset(), 1j,
    object(), "\ud800", {"\ud800": 1}, ["\udcff"], range(3), type("Sub", (int,), {})(1),
])
def test_refused_values(value: Any) -> None:
    with pytest.raises(CodecError):
        encode(value)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth() -> None:
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for value in (nested(MAX_DEPTH + 1), {1: nested(MAX_DEPTH)}, nested(500)):
        with pytest.raises(CodecError, match="deeper"):
            encode(value)
    for raw in (b"\x81" * 17 + b"\x01", b"\x81" * 1_000_000, b"\xa1\x01" * 500_000, b"\x81" * 100_000 + b"\x01",
                b"\xc6" * 1_000_000, b"\x9f" * 1_000_000, b"\xa1" * 1_000_000):
        with pytest.raises(CodecError):
            decode(raw)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(CodecError, match="deeper"):
        encode(circle)


def test_size_limit_names_itself() -> None:
    raw = encode(bytes(100))
    assert decode(raw, max_bytes=len(raw)) == bytes(100)
    with pytest.raises(CodecError, match="at most 101 are allowed"):
        decode(raw, max_bytes=101)


PIECES = [bytes((head,)) for head in b"\x81\x82\xa1\xa2\x00\x01\x17\x20\xf4\xf6\x80\xa0\x60\xc1\xff"] + [
    b"\x18\x18", b"\x18\x17", b"\x61a", b"\x61b", b"\x62aa", b"\x41a", b"\x19\x01\x00", b"\xf9\x3c\x00"]


def plain_rule(raw: bytes) -> Any:
    """What is canonical, by decoding with the library and encoding again; tags and the like fail in `encode`."""
    value = cbor2.loads(raw)
    if encode(value) != raw:
        raise CodecError("not canonical")
    return value


@settings(max_examples=700, deadline=None)
@given(st.binary(max_size=12) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_the_compiled_check_equals_the_plain_rule(raw: bytes) -> None:
    try:
        expected = plain_rule(raw)
    except (CodecError, cbor2.CBORError, ValueError, TypeError):
        with pytest.raises(CodecError):
            decode(raw)
        return
    assert decode(raw) == expected


@settings(max_examples=700, deadline=None)
@given(st.binary(max_size=60))
@example(b"\xd8\x1c\x81\xd8\x1d\x00")
@example(bytes.fromhex("d9011183010203"))
def test_any_bytes_give_a_value_or_a_codec_error(raw: bytes) -> None:
    try:
        value = decode(raw)
    except CodecError:
        return
    assert encode(value) == raw


@settings(max_examples=200, deadline=None)
@given(VALUES, st.data())
def test_changed_bytes_give_a_value_or_a_codec_error(value: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    place = data.draw(st.integers(0, len(raw) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert"])):
        case "flip":
            raw[place] ^= data.draw(st.integers(1, 255))
        case "cut":
            del raw[place]
        case _:
            raw.insert(place, data.draw(st.integers(0, 255)))
    try:
        found = decode(bytes(raw))
    except CodecError:
        return
    assert encode(found) == bytes(raw)
