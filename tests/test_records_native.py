"""Native encoding of record fields: the bytes of a general encoder, both ways, and what is refused."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx._native import columns
from gridtokenx._native.records import FieldsError, Form, decode, encode
from gridtokenx.errors import InvariantError
from gridtokenx.ledger.metering_records import Settlement
from gridtokenx.ledger.records import Account, Order, Peaks, Trade, form_of

LEAVES = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.binary(max_size=300), st.text(max_size=30),
                   st.booleans(), st.none())
FIELDS = st.lists(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=30).map(tuple), max_leaves=30),
                  max_size=30).map(tuple)


@given(FIELDS)
def test_bytes_are_those_of_the_general_encoder(fields: tuple[Any, ...]) -> None:
    raw = cbor2.dumps(fields)
    assert encode(fields) == encode(list(fields)) == raw
    assert repr(decode(raw)) == repr(fields)       # true is not 1


@pytest.mark.parametrize("edge", [0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_integers_take_their_shortest_form(edge: int) -> None:
    values = (edge, -1 - min(edge, (1 << 63) - 1))
    assert encode(values) == cbor2.dumps(values)
    assert decode(encode(values)) == values


def test_lengths_around_a_longer_head() -> None:
    for size in (23, 24, 255, 256, 65_535, 65_536):
        values = (bytes(size), "a" * size, (0,) * size)
        assert encode(values) == cbor2.dumps(values)
        assert decode(encode(values)) == values


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1, 1 << 200, 1.0, {}, bytearray(1), object])
def test_what_a_record_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(FieldsError):
        encode((1, value))


def test_nesting_is_bounded() -> None:
    value: tuple[Any, ...] = ()
    for _ in range(20):
        value = (value,)
    with pytest.raises(FieldsError, match="deeper than 16"):
        encode(value)
    with pytest.raises(FieldsError, match="deeper than 16"):
        decode(cbor2.dumps(value))


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x80\x00", b"\x9f\xff", b"\x81\xf9\x00\x00", b"\x81\xc2\x41\x01",
                                 b"\x81\xa0", b"\x81\x1c", b"\x81\x3b" + b"\xff" * 8, b"\x81\xf7"])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(FieldsError):
        decode(raw)


@given(FIELDS)
def test_a_record_cut_short_is_refused(fields: tuple[Any, ...]) -> None:
    raw = cbor2.dumps((*fields, 1))
    for end in {0, 1, len(raw) // 2, len(raw) - 1}:
        with pytest.raises(FieldsError):
            decode(raw[:end])


def bill(*fields: object) -> bytes:
    return encode(fields)


def test_bills_as_columns_are_the_records() -> None:
    lines = ((6, 100, 4_000, -400), (8, 1 << 40, -7, 0))
    rows = [(b"\x1f" + bytes((0, 1, 2, 3, 0, 0, 0, number)), Settlement(
        bytes((number % 2,)) * 32, number, 30_000_000_000, 2, 3, 4, 5, 6, 1, 0, lines[:number]).encode())
        for number in range(3)]
    bills, drawn, owners = columns.settlements(iter(rows))
    assert owners == [bytes(32), b"\x01" * 32]
    assert list(zip(*(column.tolist() for column in bills), strict=True)) == [
        (0x010203, number, number % 2, number, 30_000_000_000, 2, 3, 4, 5, 6, 1, 0, -400 * (number > 0))
        for number in range(3)]
    assert list(zip(*(column.tolist() for column in drawn), strict=True)) == [(1, *lines[0]), (2, *lines[0]),
                                                                            (2, *lines[1])]
    assert [len(column) for column in columns.settlements([])[1]] == [0] * 5


@pytest.mark.parametrize("raw", [
    b"", b"\x80", bill(bytes(32), *range(9)), bill(bytes(31), *range(9), ()), bill(bytes(32), *range(9), ((1, 2),)),
    bill(bytes(32), *range(9), ((1, 2, 3, 4),))[:-1], bill(bytes(32), *range(9), ()) + b"\x00",
    bill(bytes(32), *range(8), 1 << 63, ()), bill(bytes(32), *range(8), "9", ())])
def test_what_is_no_bill_gives_no_columns(raw: bytes) -> None:
    with pytest.raises(InvariantError, match="no bill"):
        columns.settlements([(b"\x1f" + bytes(8), raw)])


def test_trades_as_columns_are_the_records() -> None:
    made = [Trade(*range(number, number + 15), *more) for number, more in enumerate((
        (), (1,), (0, 7), (2, 0, (3,)), (0, 0, (3, 1)), (0, 0, (3,), 1), (0, 0, (), 1 << 40)), (1 << 63) - 20)]
    rows = [(b"\x0e" + bytes((0, 1, 2, 3, 0, 0, 1, number)), trade.encode()) for number, trade in enumerate(made)]
    found, paths = columns.trades(iter(rows))
    assert paths == [(), (3,), (3, 1)]
    assert list(zip(*(column.tolist() for column in found[:-1]), strict=True)) == [
        (0x010203, 256 + number, trade.height, trade.buy_meter, trade.sell_meter, trade.buy_zone, trade.sell_zone,
         trade.taker_side, trade.price, trade.delivered_wh, trade.injected_wh, trade.wheel_uthb, trade.fee_uthb,
         trade.vat_uthb, trade.source, trade.profile) for number, trade in enumerate(made)]
    assert [paths[place] for place in found[-1].tolist()] == [trade.path for trade in made]
    assert columns.trades([])[1] == [()] and len(columns.trades([])[0]) == len(found)


@pytest.mark.parametrize("raw", [
    b"", b"\x80", bill(*range(14)), bill(*range(20)), bill(*range(15), 1 << 63), bill(*range(17), 1),
    bill(*range(15)) + b"\x00", bill(*range(15))[:-1], bill(*range(17), ("1",)), bill(*range(8), "9", *range(6))])
def test_what_is_no_trade_gives_no_columns(raw: bytes) -> None:
    with pytest.raises(InvariantError, match="no trade"):
        columns.trades([(b"\x0e" + bytes(8), raw)])


def test_columns_of_a_single_row_are_their_own_memory() -> None:
    alone = [(b"\x0e" + bytes(8), Trade(*range(15)).encode())]
    kept = [columns.trades(alone)[0] for _ in range(50)]
    assert all(column.base is None or column.base.flags.owndata for found in kept for column in found)
    assert {tuple(column.item() for column in found) for found in kept} == {
        (0, 0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 0, 0)}


def test_records_are_arrays_of_their_attributes() -> None:
    for record in (Account(1, -2, 1 << 40), Peaks(b"abc"), Settlement(bytes(32), *range(9), ((1, 2, -3, 4),))):
        values = tuple(getattr(record, name) for name in form_of(type(record)).names)
        assert record.encode() == encode(values)
        assert type(record).decode(record.encode()) == record
    assert Order.decode(encode(tuple(range(12)))) == Order(*range(12))
    with pytest.raises(FieldsError, match="11 attributes; a Order has 17"):
        Order.decode(encode(tuple(range(11))))
    account = encode((0,) * 13)
    for raw in (b"", b"\x00", encode((0,) * 14), encode((0,) * 30), account[:-1], account + b"\x00"):
        with pytest.raises(FieldsError):
            Account.decode(raw)
    with pytest.raises(TypeError, match="no Account"):
        form_of(Account).write(Peaks(b""))


@pytest.mark.parametrize(("tail", "written"), [
    ((), 15), ((0, 0, (), 0), 15), ((1,), 16), ((0, 0, (3,)), 18), ((0, 0, (), 2), 19)])
def test_attributes_at_the_end_that_are_empty_are_left_out(tail: tuple[object, ...], written: int) -> None:
    trade = Trade(*range(15), *tail)    # type: ignore[arg-type]
    assert len(decode(trade.encode())) == written
    assert Trade.decode(trade.encode()) == trade


def test_only_slots_have_a_form() -> None:
    class Open:
        value = 1

    with pytest.raises(TypeError, match="is no slot"):
        Form(Open, ("value",), ())
    with pytest.raises(TypeError, match="at most"):
        Form(Open, ("value",) * 33, ())
