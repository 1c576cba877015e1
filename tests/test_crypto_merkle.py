"""Merkle trees against RFC 6962's recursive definition; mountain ranges against trees built anew."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx.codec import CodecError
from gridtokenx.crypto import merkle
from gridtokenx.crypto import mountain_range as mountain

ITEMS = st.lists(st.binary(max_size=8), max_size=40)


def leaf(item: bytes) -> bytes:
    return sha256(b"\x06" + item).digest()


def inner(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x07" + left + right).digest()


def top(items: list[bytes]) -> bytes:
    """RFC 6962, 2.1: the left part holds the largest power of two below the count."""
    if len(items) == 1:
        return leaf(items[0])
    split = 1 << (len(items) - 1).bit_length() - 1
    return inner(top(items[:split]), top(items[split:]))


@given(ITEMS)
def test_root_is_the_recursive_definition(items: list[bytes]) -> None:
    expected = inner(len(items).to_bytes(8, "big"), top(items)) if items else bytes(32)
    assert merkle.merkle_root(items) == expected


@settings(deadline=None)
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40, unique=True), st.data())
def test_proofs(items: list[bytes], data: st.DataObject) -> None:
    root = merkle.merkle_root(items)
    index = data.draw(st.integers(0, len(items) - 1))
    proof = merkle.prove(items, index)
    assert merkle.verify(root, items[index], index, len(items), proof)
    assert not merkle.verify(root, items[index] + b"x", index, len(items), proof)
    assert not merkle.verify(root, items[index], index, len(items), (*proof, bytes(32)))
    for count in range(1, 45):
        for other in range(min(count, 45)):
            if (other, count) != (index, len(items)):
                assert not merkle.verify(root, items[index], other, count, proof)
    if proof:
        assert not merkle.verify(root, items[index], index, len(items), proof[:-1])
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof]
        changed[place] = bytes(a ^ 1 for a in changed[place])
        assert not merkle.verify(root, items[index], index, len(items), changed)
        changed[place] = changed[place][:-1]
        assert not merkle.verify(root, items[index], index, len(items), changed)


def test_known_weaknesses_are_absent() -> None:
    three = [b"a", b"b", b"c"]
    assert merkle.merkle_root(three) != merkle.merkle_root([*three, b"c"])  # no doubled last leaf
    assert merkle.merkle_root([leaf(b"a") + leaf(b"b")]) != merkle.merkle_root([b"a", b"b"])  # leaf is not inner
    root = merkle.merkle_root(three)
    assert not merkle.verify(root, b"c", 1, 2, (inner(leaf(b"a"), leaf(b"b")),))  # not another index and count
    assert merkle.merkle_root([]) != merkle.merkle_root([b""])


def test_wrong_indexes() -> None:
    for index in (-1, 3):
        with pytest.raises(merkle.MerkleError, match="of 3 items"):
            merkle.prove([b"a", b"b", b"c"], index)
        assert not merkle.verify(bytes(32), b"a", index, 3, ())
    assert not merkle.verify(bytes(32), b"", 0, 0, ())


def test_frozen_roots() -> None:
    """The wire format: these may never change."""
    assert merkle.merkle_root([b"a", b"b", b"c"]).hex() == inner(
        (3).to_bytes(8, "big"), inner(inner(leaf(b"a"), leaf(b"b")), leaf(b"c"))).hex()
    assert mountain.root(mountain.EMPTY) == sha256(b"\x08" + bytes(8)).digest()


# ---------------------------------------------------------------- mountain ranges


def peaks_of(items: list[bytes]) -> bytes:
    """From scratch: one perfect tree per binary digit of the count."""
    out = len(items).to_bytes(8, "big")
    rest = items
    while rest:
        size = 1 << len(rest).bit_length() - 1
        out += top(rest[:size])
        rest = rest[size:]
    return out


@settings(deadline=None)
@given(ITEMS)
def test_appending_equals_building_anew(items: list[bytes]) -> None:
    peaks = mountain.EMPTY
    for number, item in enumerate(items):
        assert peaks == peaks_of(items[:number])
        assert mountain.count(peaks) == number
        peaks = mountain.append(peaks, item)
    assert peaks == peaks_of(items)
    assert mountain.root(peaks) == sha256(b"\x08" + peaks).digest()
    for index, item in enumerate(items):
        proof = mountain.prove(peaks, index, items.__getitem__)
        assert mountain.decode_proof(proof.encode()) == proof
        assert mountain.verify(mountain.root(peaks), item, proof)
        assert not mountain.verify(mountain.root(peaks), item + b"x", proof)
        assert not mountain.verify(bytes(32), item, proof)
        if len(set(items)) == len(items) > 1:
            elsewhere = mountain.MountainProof((index + 1) % len(items), proof.siblings, peaks)
            assert not mountain.verify(mountain.root(peaks), item, elsewhere)


def test_malformed_peaks() -> None:
    good = peaks_of([b"a", b"b", b"c"])
    for peaks in (b"", good[:-1], good + b"\x00", good[:8], b"\xff" * 8 + bytes(32 * 64), bytes(7)):
        for call in (mountain.count, mountain.root, lambda raw: mountain.append(raw, b"")):
            with pytest.raises(mountain.MountainError, match="not peaks"):
                call(peaks)
        assert not mountain.verify(bytes(32), b"a", mountain.MountainProof(0, (), peaks))


def test_wrong_index_or_items() -> None:
    items = [b"a", b"b", b"c"]
    peaks = peaks_of(items)
    for index in (-1, 3):
        with pytest.raises(mountain.MountainError, match="of 3 items"):
            mountain.prove(peaks, index, items.__getitem__)
    with pytest.raises(mountain.MountainError, match="not those of the range"):
        mountain.prove(peaks, 0, lambda index: b"other")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_proof(raw: bytes) -> None:
    try:
        proof = mountain.decode_proof(raw)
    except (mountain.MountainError, CodecError):
        return
    assert proof.encode() == raw
