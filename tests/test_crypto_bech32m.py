"""Addresses: BIP-350's vectors, and every kind of mistake named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx.crypto.bech32m import (
    ALPHABET,
    AddressError,
    bech32m_decode,
    bech32m_encode,
    decode_address,
    encode_address,
)

# BIP-350, "Test vectors": valid and invalid bech32m strings.
VALID = [
    "A1LQFN3A", "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx", "11" + "l" * 82 + "ludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v", "?1v759aa",
]
INVALID = [
    ("\x201xj0phk", "not printable ASCII"), ("\x7f1g6xzxy", "not printable ASCII"),
    ("\x801vctc34", "not printable ASCII"),
    ("an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4", "at most 90"),
    ("qyrz8wqd2c9m", "separator"), ("1qyrz8wqd2c9m", "prefix"), ("y1b0jsk6g", "never used"),
    ("lt1igcx5c0", "never used"), ("in1muywd", "checksum alone has 6"), ("mm1crxm3i", "never used"),
    ("au1s5cgom", "never used"), ("M1VUXWEZ", "checksum is wrong"), ("16plkw9", "prefix"), ("1p2gdwpf", "prefix"),
]


@pytest.mark.parametrize("text", VALID)
def test_valid_vectors(text: str) -> None:
    prefix, groups = bech32m_decode(text)
    assert bech32m_encode(prefix, groups) == text.lower()


@pytest.mark.parametrize(("text", "reason"), INVALID)
def test_invalid_vectors(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        bech32m_decode(text)


@pytest.mark.parametrize("text", ["A12UEL5L", "a12uel5l", "?1ezyfcl"])
def test_bech32_is_named(text: str) -> None:
    """Valid vectors of BIP-173, the older checksum."""
    with pytest.raises(AddressError, match="that of bech32;"):
        bech32m_decode(text)


@given(st.binary(min_size=32, max_size=32))
def test_round_trip(public: bytes) -> None:
    text = encode_address(public)
    assert text.startswith("gtx1")
    assert len(text) == 62
    assert decode_address(text) == public
    assert decode_address(text.upper()) == public


@given(st.binary(min_size=32, max_size=32), st.data())
def test_up_to_four_wrong_characters_are_found(public: bytes, data: st.DataObject) -> None:
    text = list(encode_address(public))
    for place in data.draw(st.lists(st.integers(4, 61), min_size=1, max_size=4, unique=True)):
        text[place] = data.draw(st.sampled_from(ALPHABET.replace(text[place], "")))
    with pytest.raises(AddressError, match="checksum"):
        decode_address("".join(text))


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    try:
        public = decode_address(text)
    except AddressError:
        return
    assert encode_address(public) == text.lower()


def test_mistakes_are_named() -> None:
    address = encode_address(bytes(range(32)))
    for text, reason in [
        (address[:10].upper() + address[10:], "mixed"),
        (address[:-1], "checksum is wrong"),
        (bech32m_encode("bc", bech32m_decode(address)[1]), "addresses begin with gtx1"),
        (bech32m_encode("gtx", bech32m_decode(address)[1][:-1]), "an address has 62"),
        (bech32m_encode("gtx", [*bech32m_decode(address)[1], 0]), "an address has 62"),
        (bech32m_encode("gtx", [*bech32m_decode(address)[1][:-1], 17]), "last four bits"),
        ("", "separator"), (address * 2, "at most 90"), (address[:-1] + "é", "not printable"),
    ]:
        with pytest.raises(AddressError, match=reason):
            decode_address(text)
    for public in (b"", bytes(31), bytes(33)):
        with pytest.raises(AddressError, match="32 bytes"):
            encode_address(public)
    with pytest.raises(AddressError, match="prefix"):
        bech32m_encode("GTX", [])
    with pytest.raises(AddressError, match="0 to 31"):
        bech32m_encode("gtx", [32])
    with pytest.raises(AddressError, match="longer than 90"):
        bech32m_encode("gtx", [0] * 90)
