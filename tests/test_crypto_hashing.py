"""SHA-256 of the compiled modules against hashlib; domain tags."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx._native import hashing as native
from gridtokenx.crypto.hashing import Domain, digest


@pytest.mark.parametrize("function", [native.sha256, native.sha256_portable])
def test_every_short_length_and_some_long_ones(function: object) -> None:
    source = random.Random(256)
    for length in [*range(301), *(source.randrange(300, 200_000) for _ in range(20)), 1 << 20]:
        data = source.randbytes(length)
        assert function(data) == sha256(data).digest(), length  # type: ignore[operator]


def test_published_vectors() -> None:
    """FIPS 180-4, examples of NIST."""
    for function in (native.sha256, native.sha256_portable):
        assert function(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert function(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_tagged_and_pairs() -> None:
    source = random.Random(1)
    for length in range(200):
        data = source.randbytes(length)
        tag = source.randrange(256)
        assert native.tagged(tag, data) == sha256(bytes((tag,)) + data).digest()
    for tag in (0, 9, 10, 255):
        left, right = source.randbytes(32), source.randbytes(32)
        assert native.pair(tag, left, right) == sha256(bytes((tag,)) + left + right).digest()


def test_wrong_arguments() -> None:
    for call in (lambda: native.tagged(256, b""), lambda: native.tagged(-1, b""),
                 lambda: native.pair(1, bytes(31), bytes(32)), lambda: native.pair(1, bytes(32), bytes(33)),
                 lambda: native.pair(256, bytes(32), bytes(32))):
        with pytest.raises(ValueError, match="tag"):
            call()
    with pytest.raises(TypeError):
        native.sha256(None)  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_digest_is_sha256_behind_the_tag(parts: list[bytes]) -> None:
    assert digest(Domain.HEADER, *parts) == sha256(b"\x04" + b"".join(parts)).digest()
    assert digest(Domain.HEADER, *parts) != digest(Domain.RECEIPT, *parts)


def test_domains_are_frozen() -> None:
    """Part of the wire format: a new domain gets a new number, none is ever reused or renumbered."""
    assert {domain.name: domain.value for domain in list(Domain)[:19]} == {
        "GENESIS": 1, "TRANSACTION": 2, "TRANSACTION_SIGNATURE": 3, "HEADER": 4, "RECEIPT": 5, "MERKLE_LEAF": 6,
        "MERKLE_INNER": 7, "MOUNTAIN_ROOT": 8, "TRIE_LEAF": 9, "TRIE_INNER": 10, "TRIE_KEY": 11, "TRIE_VALUE": 12,
        "AUTHORITIES": 13, "EXECUTION_ORDER": 14, "BOOK_DIGEST": 15, "CONSENSUS_VOTE": 16, "STATUS": 17,
        "LEADER_OFFSET": 18, "FORK": 19}
    assert len({domain.value for domain in Domain}) == len(list(Domain))
    assert all(0 < domain.value < 256 for domain in Domain)
