"""Transactions and headers: round trips, frozen bytes, each malformation refused by name, fuzz."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx import codec
from gridtokenx.codec import CodecError
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.block import BlockError, Header, decode_header
from gridtokenx.ledger.transaction import (
    FLAG_ALL_OR_NOTHING,
    MAX_INT64,
    Transaction,
    TransactionError,
    decode_transaction,
    encode_payload,
    make_transaction,
    sign_transaction,
)

CHAIN = bytes(range(32))
KEYS = [PrivateKey(bytes((number,)) * 32) for number in range(4)]
HASH = st.binary(min_size=32, max_size=32)
AMOUNT = st.integers(0, MAX_INT64)
FIELD = st.recursive(
    st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=33) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3), max_leaves=5)
OPERATIONS = st.lists(st.tuples(st.integers(0, 100), st.lists(FIELD, max_size=4)).map(
    lambda parts: [parts[0], *parts[1]]), min_size=1, max_size=5)


def frozen(value: Any) -> Any:
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


@settings(deadline=None)
@given(HASH, AMOUNT, AMOUNT, AMOUNT, OPERATIONS, st.sampled_from([0, FLAG_ALL_OR_NOTHING]),
       st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
def test_transactions_round_trip(
    sender: bytes, nonce: int, until: int, fee: int, operations: list[Any], flags: int, keys: list[PrivateKey],
) -> None:
    payload = encode_payload(sender, nonce, until, fee, operations, flags)
    raw = sign_transaction(CHAIN, keys, payload)
    tx = decode_transaction(raw)
    assert (tx.sender, tx.nonce, tx.valid_until_height, tx.fee_uthb, tx.flags) == (sender, nonce, until, fee, flags)
    assert tx.operations == frozen(operations)
    assert tx.all_or_nothing is bool(flags)
    assert (tx.payload, tx.raw, tx.id) == (payload, raw, digest(Domain.TRANSACTION, raw))
    assert [public for public, _ in tx.signatures] == sorted(key.public for key in keys)
    assert tx.signatures_verify(CHAIN)
    assert not tx.signatures_verify(bytes(32))  # another chain
    hash(tx)


def build(payload: Any = None, entries: Any = None, **fields: Any) -> bytes:
    """A transaction with some parts replaced, whatever they are."""
    body = {"version": 1, "sender": KEYS[0].public, "nonce": 0, "until": 10, "fee": 5, "flags": 0,
            "operations": [[1, 2]]} | fields
    inner = codec.encode(list(body.values())) if payload is None else payload
    return codec.encode([inner, [[KEYS[0].public, bytes(64)]] if entries is None else entries])


ENTRY = [KEYS[0].public, bytes(64)]
LOW, HIGH = sorted([KEYS[0].public, KEYS[1].public])


@pytest.mark.parametrize(("raw", "reason"), [
    (build(version=2), "version 2"), (build(version=True), "version True"), (build(version=b"1"), "version b'1'"),
    (build(sender=bytes(31)), "32-byte address"), (build(sender="x" * 32), "32-byte address"),
    (build(nonce=-1), "nonce must be"), (build(nonce=1 << 63), "nonce must be"), (build(nonce=None), "nonce must be"),
    (build(nonce=False), "nonce must be"), (build(until=-1), "valid_until_height must be"),
    (build(fee=-1), "fee_uthb must be"), (build(fee=b""), "fee_uthb must be"),
    (build(flags=2), "flags 2"), (build(flags=True), "flags True"), (build(flags=[]), r"flags \[\]"),
    (build(operations=[]), "1 to 64 operations"), (build(operations=[[1]] * 65), "1 to 64 operations"),
    (build(operations={}), "1 to 64 operations"), (build(operations=[[]]), "an operation is"),
    (build(operations=[[b"x"]]), "an operation is"), (build(operations=[[True]]), "an operation is"),
    (build(operations=[5]), "an operation is"),
    (build(more=1), "a payload is"), (build(payload=codec.encode({})), "a payload is"),
    (build(payload=codec.encode(None)), "a payload is"), (build(payload=5), "a transaction is"),
    (build(payload=b""), "not canonical"), (build(payload=b"\xf9\x00\x00"), "a float"),
    (build(payload=codec.encode([1]) + b"\x00"), "bytes after"),
    (build(entries=[]), "1 to 16 are allowed"), (build(entries=[ENTRY] * 17), "1 to 16 are allowed"),
    (build(entries=5), "a transaction is"), (build(entries=[ENTRY, ENTRY]), "sorted by public key"),
    (build(entries=[[HIGH, bytes(64)], [LOW, bytes(64)]]), "sorted by public key"),
    (build(entries=[[bytes(31), bytes(64)]]), "a signature entry"),
    (build(entries=[[bytes(32), bytes(63)]]), "a signature entry"), (build(entries=[[bytes(32)]]), "a signature entry"),
    (build(entries=[7]), "a signature entry"), (codec.encode([]), "a transaction is"),
    (codec.encode([b"", [], 0]), "a transaction is"), (b"", "not canonical"), (bytes(64 * 1024 + 1), "at most 65536"),
    (build(operations=[[1, bytes(64 * 1024)]]), "at most 65536"),
])
def test_malformed_transactions(raw: bytes, reason: str) -> None:
    with pytest.raises((TransactionError, CodecError), match=reason):
        decode_transaction(raw)


def good_or_refused(raw: bytes) -> Transaction | None:
    try:
        return decode_transaction(raw)
    except (TransactionError, CodecError):
        return None


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_transaction(raw: bytes) -> None:
    good_or_refused(raw)
    good_or_refused(build(payload=raw))


@settings(max_examples=150, deadline=None)
@given(st.recursive(FIELD, lambda inner: st.lists(inner, max_size=8), max_leaves=30))
def test_any_value_as_a_payload(value: Any) -> None:
    good_or_refused(build(payload=codec.encode(value)))
    good_or_refused(codec.encode(value))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_changed_byte_gives_another_id_and_no_good_signature(data: st.DataObject) -> None:
    """No two byte strings are one transaction: the id is over all bytes, signatures included (CONSENSUS 2)."""
    raw = sign_transaction(CHAIN, KEYS[:2], encode_payload(KEYS[0].public, 1, 2, 3, [[1, b"abc"]]))
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    tx = good_or_refused(bytes(changed))
    if tx is not None:
        assert tx.id != decode_transaction(raw).id
        assert not tx.signatures_verify(CHAIN)


def test_what_is_made_without_bytes_is_what_its_bytes_say() -> None:
    signatures = tuple(sorted((signer.public, bytes(64)) for signer in KEYS[:2]))
    made = make_transaction(KEYS[0].public, 7, 1 << 40, 2, ((20, 1, (b"a", None)), (30, ((1, 2),))), 1, signatures)
    assert made == decode_transaction(made.raw)
    for operations in ((), ((1,),) * 65, ((1, bytes(65_536)),)):
        with pytest.raises(TransactionError):
            make_transaction(KEYS[0].public, 7, 1, 2, operations, 0, signatures)
    with pytest.raises(TransactionError, match="nonce"):
        make_transaction(KEYS[0].public, -1, 1, 2, ((1,),), 0, signatures)


def test_frozen_bytes() -> None:
    """The wire format: these may never change."""
    payload = encode_payload(bytes(32), 1, 2, 3, [[4, b"x"]], FLAG_ALL_OR_NOTHING)
    assert payload.hex() == "8701" + "5820" + "00" * 32 + "01020301" + "8182044178"
    raw = sign_transaction(CHAIN, [KEYS[1]], payload)
    assert raw.hex().startswith("82582d" + payload.hex() + "81825820" + KEYS[1].public.hex() + "5840")
    assert len(raw) == 3 + len(payload) + 2 + 34 + 66
    assert HEADER.hash.hex() == "b7c6afc1a352b3f451e6ebcb3f94caab6a463f92b1256aa88a73c82a8d3b1d38"


# ---------------------------------------------------------------- headers

HEADER = Header(bytes(32), 1, 2, 3, 4, b"\x01" * 32, 5, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, b"\x05" * 32,
                b"\x06" * 32, b"\x07" * 32, b"\x08" * 32, ((6, 7), (8, -9)))
HEADERS = st.builds(
    Header, HASH, AMOUNT, AMOUNT, AMOUNT, AMOUNT, HASH, AMOUNT, HASH | st.just(b""), HASH, HASH, HASH, HASH, HASH, HASH,
    st.lists(st.tuples(AMOUNT, st.integers(-(1 << 63), MAX_INT64)), max_size=20).map(tuple))


@settings(deadline=None)
@given(HEADERS)
def test_headers_round_trip(header: Header) -> None:
    raw = header.encode()
    assert decode_header(raw) == header
    assert decode_header(raw).hash == header.hash == digest(Domain.HEADER, raw)
    assert header.with_(height=header.height ^ 1).hash != header.hash


@pytest.mark.parametrize(("index", "value", "reason"), [
    (0, 2, "version 1"), (0, None, "version 1"),
    *[(index, bytes(31), f"field {index} must be 32") for index in (1, 6, 9, 10, 11, 12, 13, 14)],
    *[(index, 5, f"field {index} must be 32") for index in (1, 6, 9, 10, 11, 12, 13, 14)],
    *[(index, value, f"field {index} must be an integer") for index in (2, 3, 4, 5, 7)
      for value in (-1, 1 << 63, True, b"", None)],
    (8, bytes(31), "proposer"), (8, 7, "proposer"),
    *[(15, value, "market summary") for value in (None, 5, [[1]], [[1, 2, 3]], [5], [[1, b""]], [[True, 1]],
                                                  [[1, 2]] * 65, {})],
])
def test_malformed_headers(index: int, value: Any, reason: str) -> None:
    fields = codec.decode(HEADER.encode())
    fields[index] = value
    with pytest.raises(BlockError, match=reason):
        decode_header(codec.encode(fields))


def test_headers_of_another_length() -> None:
    fields = codec.decode(HEADER.encode())
    for wrong in (fields[:-1], [*fields, 0], {}, None, 1):
        with pytest.raises(BlockError, match="16 fields"):
            decode_header(codec.encode(wrong))
    with pytest.raises(CodecError, match="at most 4096"):
        decode_header(codec.encode([1, *fields[1:15], [[MAX_INT64, MAX_INT64]] * 250]))


@settings(max_examples=300, deadline=None)
@given(HEADERS, st.data())
def test_changed_headers_have_another_hash(header: Header, data: st.DataObject) -> None:
    raw = bytearray(header.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_header(bytes(raw))
    except (BlockError, CodecError):
        return
    assert found.encode() == bytes(raw)
    assert found.hash != header.hash


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=100) | st.lists(FIELD, min_size=15, max_size=15).map(lambda rest: codec.encode([1, *rest])))
def test_any_bytes_as_a_header(raw: bytes) -> None:
    try:
        assert decode_header(raw).encode() == raw
    except (BlockError, CodecError):
        return
