"""Consensus messages: round trips, malformed ones refused by name, fuzz."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx import codec
from gridtokenx.codec import CodecError
from gridtokenx.consensus.messages import (
    MAX_AUTHORITIES,
    MAX_WAKE_HASHES,
    VOTE_KINDS,
    Certificate,
    GetCertificates,
    GetVotes,
    Kind,
    KnownVotes,
    Message,
    MessageError,
    Propose,
    Status,
    Vote,
    Wake,
    decode_certificate,
    decode_message,
    encode_certificate,
    encode_message,
    vote_content,
)

NUMBER = st.integers(0, (1 << 63) - 1)
HASH = st.binary(min_size=32, max_size=32)
SIGNATURE = st.binary(min_size=64, max_size=64)
SIGNER = st.integers(0, MAX_AUTHORITIES - 1)


def digest_of(kind: Kind) -> st.SearchStrategy[bytes]:
    return st.just(b"") if kind is Kind.NULLIFY else HASH


VOTES = st.sampled_from(VOTE_KINDS).flatmap(
    lambda kind: st.builds(Vote, st.just(kind), NUMBER, NUMBER, digest_of(kind), SIGNER, SIGNATURE))
CERTIFICATES = st.tuples(st.sampled_from(VOTE_KINDS), st.sets(SIGNER, max_size=8)).flatmap(
    lambda parts: st.builds(
        Certificate, st.just(parts[0]), NUMBER, NUMBER, digest_of(parts[0]), st.just(tuple(sorted(parts[1]))),
        st.lists(SIGNATURE, min_size=len(parts[1]), max_size=len(parts[1])).map(tuple)))
IDS = st.lists(HASH, max_size=6).map(tuple)
MESSAGES = (VOTES | CERTIFICATES | st.builds(Propose, NUMBER, NUMBER, st.binary(max_size=200), IDS, SIGNER, SIGNATURE)
            | st.builds(Status, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER)
            | st.builds(GetCertificates, NUMBER, NUMBER, NUMBER) | st.builds(Wake, IDS)
            | st.builds(GetVotes, NUMBER)
            | st.builds(KnownVotes, NUMBER, NUMBER, st.lists(VOTES.map(
                lambda vote: (vote.kind, vote.epoch, vote.view, vote.digest, vote.signature)), max_size=6).map(tuple)))


@settings(deadline=None)
@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    raw = encode_message(message)
    assert decode_message(raw) == message
    assert encode_message(decode_message(raw)) == raw


@given(CERTIFICATES)
def test_certificates_round_trip_by_themselves(certificate: Certificate) -> None:
    fields = codec.decode(codec.encode(encode_certificate(certificate)))
    assert decode_certificate(fields) == certificate
    assert certificate.bitmap.bit_count() == len(certificate.signers)


def test_votes_sign_different_bytes_for_different_things() -> None:
    seen = {vote_content(kind, epoch, view, digest) for kind in VOTE_KINDS for epoch in (0, 1) for view in (0, 1)
            for digest in (b"", bytes(32), b"\x01" * 32)}
    assert len(seen) == 3 * 2 * 2 * 3
    assert vote_content(Kind.NOTARIZE, 1, 2, b"").hex() == "8401020240"


D, S = bytes(32), bytes(64)
BIG = 1 << 63


@pytest.mark.parametrize(("fields", "reason"), [
    ([], "a message is"), ({}, "a message is"), (None, "a message is"), ([0], "kind 1 to 10"), ([11], "kind 1 to 10"),
    ([True], "kind 1 to 10"), ([b"\x01"], "kind 1 to 10"), ([-1], "kind 1 to 10"),
    # votes
    ([2, 0, 0, D, 0], "5 fields"), ([2, 0, 0, D, 0, S, 0], "7 fields"), ([2, -1, 0, D, 0, S], "field 1"),
    ([2, 0, BIG, D, 0, S], "field 2"), ([2, True, 0, D, 0, S], "field 1"), ([2, 0, 0, b"", 0, S], "NOTARIZE has 32"),
    ([3, 0, 0, D, 0, S], "NULLIFY has 0"), ([4, 0, 0, D + b"x", 0, S], "FINALIZE has 32"),
    ([4, 0, 0, None, 0, S], "FINALIZE has 32"), ([2, 0, 0, D, MAX_AUTHORITIES, S], "at most 64 authorities"),
    ([2, 0, 0, D, -1, S], "field 4"), ([2, 0, 0, D, 0, S[:-1]], "signature has 64"), ([2, 0, 0, D, 0, 7], "64 bytes"),
    # certificates
    ([5], "a certificate is"), ([5, 2, 0, 0, D, 0], "a certificate is"),
    ([5, 1, 0, 0, D, 0, []], "no certificate of kind 1"),
    ([5, 5, 0, 0, D, 0, []], "no certificate of kind 5"), ([5, 2, 0, BIG, D, 0, []], "field 2"),
    ([5, 2, 0, 0, b"", 0, []], "NOTARIZE has 32"), ([5, 2, 0, 0, D, -1, []], "bitmap"),
    ([5, 2, 0, 0, D, True, [S]], "bitmap"), ([5, 2, 0, 0, D, b"", []], "bitmap"),
    ([5, 2, 0, 0, D, 3, [S]], "as many signatures"), ([5, 2, 0, 0, D, 1, [S, S]], "as many signatures"),
    ([5, 2, 0, 0, D, 1, S], "as many signatures"), ([5, 2, 0, 0, D, 1, [S[:-1]]], "signature has 64"),
    # proposals
    ([1, 0, 0, b"", b"", 0], "6 fields"), ([1, 0, 0, bytes(4097), b"", 0, S], "at most 4096"),
    ([1, 0, 0, 7, b"", 0, S], "at most 4096"), ([1, 0, 0, b"", bytes(31), 0, S], "ids are"),
    ([1, 0, 0, b"", bytes(32 * 16_385), 0, S], "ids are"), ([1, 0, 0, b"", [], 0, S], "ids are"),
    ([1, 0, 0, b"", b"", -1, S], "field 5"), ([1, 0, 0, b"", b"", 0, b""], "signature has 64"),
    ([1, 0, 0, b"", b"", MAX_AUTHORITIES, S], "at most 64 authorities"),
    # the rest
    ([6, 0, 0, 0, 0], "5 fields"), ([6, 0, 0, 0, 0, -1], "field 5"), ([6, 0, None, 0, 0, 0], "field 2"),
    ([7, 0, 0], "3 fields"), ([7, 0, 0, "x"], "field 3"), ([8], "1 fields"), ([8, bytes(33)], "ids are"),
    ([8, bytes(32 * (MAX_WAKE_HASHES + 1))], "ids are"), ([8, None], "ids are"), ([9], "1 fields"),
    ([9, -1], "field 1"), ([10, 0, 0], "3 fields"), ([10, 0, None, []], "field 2"), ([10, 0, 0, 1], "at most 6"),
    ([10, 0, 0, [[3, 0, 0, b"", S]] * 7], "at most 6"), ([10, 0, 0, [[5, 0, 0, b"", S]]], "a known vote is"),
    ([10, 0, 0, [[2, 0, -1, D, S]]], "field 2"), ([10, 0, 0, [[2, 0, 0, b"", S]]], "NOTARIZE has 32"),
    ([10, 0, 0, [[3, 0, 0, b"", b""]]], "signature has 64"),
])
def test_malformed_messages(fields: Any, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        decode_message(codec.encode(fields))


def test_oversized_messages() -> None:
    with pytest.raises(CodecError, match="at most 1048576"):
        decode_message(codec.encode([8, bytes(1 << 20)]))
    most = encode_message(Wake((D,) * MAX_WAKE_HASHES))
    assert decode_message(most) == Wake((D,) * MAX_WAKE_HASHES)


def good_or_refused(raw: bytes) -> None:
    try:
        message = decode_message(raw)
    except (MessageError, CodecError):
        return
    assert encode_message(message) == raw


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    good_or_refused(raw)


@settings(max_examples=300, deadline=None)
@given(MESSAGES, st.data())
def test_changed_messages(message: Message, data: st.DataObject) -> None:
    fields = codec.decode(encode_message(message))
    place = data.draw(st.integers(0, len(fields) - 1))
    how = data.draw(st.sampled_from(["replace", "drop", "double", "bytes"]))
    if how == "bytes":
        raw = bytearray(encode_message(message))
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        good_or_refused(bytes(raw))
        return
    if how == "replace":
        fields[place] = data.draw(
            st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=65) | st.none() | st.booleans()
            | st.lists(st.binary(max_size=65) | st.integers(0, 9), max_size=3) | st.just("text"))
    elif how == "drop":
        del fields[place]
    else:
        fields.insert(place, fields[place])
    good_or_refused(codec.encode(fields))
