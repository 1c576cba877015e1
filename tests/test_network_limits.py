"""Rates, scores, identities and the address book: no sockets, time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_support import key

from gridtokenx.network.addresses import (
    ANCHORS,
    FORGET_AFTER,
    MAX_ADDRESSES,
    MAX_ADDRESSES_PER_TELLER,
    MAX_PEERS,
    MAX_PER_GROUP,
    MAX_PER_TELLER,
    AddressBook,
    group_of,
)
from gridtokenx.network.identity import NotEd25519, parse_address, peer_id_of, public_of, with_peer_id
from gridtokenx.network.limits import (
    FIRST_BAN_S,
    HALF_LIFE_S,
    LONGEST_BAN_S,
    Offence,
    RateTable,
    ScoreBook,
    TokenBucket,
)
from gridtokenx.network.settings import AddressError, Rate

A, B, C = key(1).public, key(2).public, key(3).public


def test_bucket_takes_the_burst_then_the_rate() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=5), 0.0)
    assert [bucket.take(1, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(1, 0.1)
    assert not bucket.take(1, 0.15)


def test_bucket_says_how_long_to_wait() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=1), 0.0)
    assert bucket.wait_s(1, 0.0) == 0.0
    assert bucket.wait_s(1, 0.0) == pytest.approx(0.1)
    assert bucket.wait_s(1, 0.0) == pytest.approx(0.2)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=50))
def test_bucket_never_exceeds_rate_and_burst(steps: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(Rate(per_s=7, burst=13), 0.0)
    now = taken = 0.0
    for wait, amount in steps:
        now += wait
        if bucket.take(amount, now):
            taken += amount
        assert taken <= 13 + 7 * now + 1e-6


def test_bucket_ignores_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=1), 100.0)
    assert bucket.take(1, 100.0)
    assert not bucket.take(1, 0.0)


def test_rate_table_separates_senders_and_forgets_the_oldest() -> None:
    table = RateTable(Rate(per_s=1, burst=1), Rate(per_s=100, burst=100), capacity=2)
    assert table.allow(A, 10, 0.0)
    assert not table.allow(A, 10, 0.0)
    assert table.allow(B, 10, 0.0)
    assert not table.allow(b"big", 101, 0.0)
    assert len(table) == 2
    assert table.allow(A, 10, 0.0)  # forgotten meanwhile


def test_throttled_senders_pay_more() -> None:
    table = RateTable(Rate(per_s=1, burst=8), Rate(per_s=1000, burst=1000))
    assert [table.allow(A, 1, 0.0, cost=4.0) for _ in range(3)] == [True, True, False]


def test_score_falls_throttles_bans_and_recovers() -> None:
    book = ScoreBook()
    for _ in range(3):
        assert not book.report(A, Offence.INVALID, 0.0)
    assert book.throttled(A, 0.0)
    assert book.score(A, HALF_LIFE_S) == pytest.approx(-30)
    assert not book.throttled(A, HALF_LIFE_S)
    assert not book.report(A, Offence.INVALID, 0.0)
    assert book.report(A, Offence.INVALID, 0.0)
    assert book.banned_s(A, 0.0) == FIRST_BAN_S
    assert book.banned_s(A, FIRST_BAN_S) == 0.0
    assert book.score(B, 0.0) == 0.0


def test_bans_double_up_to_the_longest() -> None:
    book = ScoreBook()
    now, lengths = 0.0, []
    while len(lengths) < 10:
        if book.report(A, Offence.INVALID, now):
            lengths.append(book.banned_s(A, now))
    assert lengths[:3] == [FIRST_BAN_S, 2 * FIRST_BAN_S, 4 * FIRST_BAN_S]
    assert lengths[-1] == LONGEST_BAN_S


def test_authorities_are_never_banned() -> None:
    book = ScoreBook()
    assert not any(book.report(A, Offence.INVALID, 0.0, bannable=False) for _ in range(100))
    assert book.throttled(A, 0.0)


def test_score_book_is_bounded() -> None:
    book = ScoreBook(capacity=10)
    for number in range(100):
        book.report(bytes([number]), Offence.FLOOD, 0.0)
    assert len(book.standings) == 10


def test_identity_is_the_key() -> None:
    peer_id = peer_id_of(A)
    assert public_of(peer_id) == A
    assert peer_id.to_base58().startswith("12D3KooW")
    with pytest.raises(NotEd25519):
        peer_id_of(b"short")
    with pytest.raises(NotEd25519):
        public_of(type(peer_id)(b"junk"))
    with pytest.raises(NotEd25519, match="not a point"):
        public_of(peer_id_of(bytes(32)))


@pytest.mark.parametrize("text", [
    "", "nonsense", "/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/70000", "/ip4/999.2.3.4/tcp/1",
    "/ip4/1.2.3.4/tcp/1/ws", "/ip4/1.2.3.4/tcp/1/p2p/QmbadQmbad", "/dns4/" + "a" * 300 + "/tcp/1",
    "/ip4/1.2.3.4/tcp/1/p2p-circuit",
])
def test_bad_addresses_are_named(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


def test_address_with_peer() -> None:
    text = with_peer_id("/ip4/1.2.3.4/tcp/9", A)
    address, public = parse_address(text, with_peer=True)
    assert (str(address), public) == ("/ip4/1.2.3.4/tcp/9", A)
    with pytest.raises(AddressError, match="lacks the peer's identity"):
        parse_address("/ip4/1.2.3.4/tcp/9", with_peer=True)
    with pytest.raises(AddressError, match="names a peer"):
        parse_address(text, with_peer=False)


def test_book_prefers_what_the_peer_says_and_fills_in_the_host() -> None:
    book = AddressBook(A, 1)
    assert book.learn(B, ["/ip4/10.0.0.1/tcp/1"], teller=C)
    assert not book.learn(B, ["/ip4/10.0.0.1/tcp/1"], teller=C)
    assert book.learn(B, ["/ip4/0.0.0.0/tcp/2"], teller=B, seen_host="10.0.0.9")
    known = book.get(B)
    assert known is not None
    assert known.addresses == ("/ip4/10.0.0.9/tcp/2",)
    assert not book.learn(A, ["/ip4/10.0.0.1/tcp/1"], teller=C)  # never oneself
    with pytest.raises(AddressError):
        book.learn(B, [with_peer_id("/ip4/1.2.3.4/tcp/9", A)], teller=B)


def test_book_is_bounded_and_keeps_what_is_configured() -> None:
    book = AddressBook(A, 1)
    book.configure(with_peer_id("/ip4/1.2.3.4/tcp/9", B))
    for number in range(MAX_PEERS + 10):
        public = number.to_bytes(32, "big")
        book.learn(public, [f"/ip4/10.0.0.1/tcp/{port + 1}" for port in range(20)], teller=public)
    assert len(book) == MAX_PEERS
    known = book.get(B)
    assert known is not None
    book.learn(B, [f"/ip4/10.0.0.1/tcp/{port + 1}" for port in range(20)], teller=B)
    assert len(known.addresses) == 1 + MAX_ADDRESSES


def public_host(number: int) -> str:
    """Each in a part of the internet of its own."""
    return f"{20 + number // 200}.{number % 200}.0.1"


def test_one_teller_cannot_fill_the_book_nor_push_others_out() -> None:
    book = AddressBook(A, 1)
    honest = [bytes([7, number]) * 16 for number in range(20)]
    for number, public in enumerate(honest):
        book.learn(public, [f"/ip4/{public_host(number)}/tcp/1"], teller=B)
    for number in range(300):
        book.learn(number.to_bytes(32, "big"), [f"/ip4/{public_host(number)}/tcp/2"], teller=C)
    assert sum(known.teller == C for known in book.all()) == MAX_PER_TELLER
    assert all(book.get(public) is not None for public in honest)


def test_many_tellers_push_out_their_own_first_and_never_who_was_reached() -> None:
    book = AddressBook(A, 1)
    reached = b"r" * 32
    book.learn(reached, ["/ip4/9.9.0.1/tcp/1"], teller=B)
    known = book.get(reached)
    assert known is not None
    book.proved(known, "/ip4/9.9.0.1/tcp/1", 5.0)
    lone = b"l" * 32
    book.learn(lone, ["/ip4/9.8.0.1/tcp/1"], teller=B)
    for number in range(1200):
        book.learn(number.to_bytes(32, "big"), [f"/ip4/{public_host(number)}/tcp/2"],
                   teller=bytes([1, number % 40]) * 16)
    assert len(book) == MAX_PEERS
    assert book.get(reached) is known
    assert book.get(lone) is not None


def test_one_part_of_the_internet_gives_few_hearsay_peers() -> None:
    book = AddressBook(A, 1)
    for number in range(500):
        teller = bytes([2, number % 40]) * 16
        book.learn(number.to_bytes(32, "big"), [f"/ip4/20.1.{number % 256}.9/tcp/2"], teller=teller)
    assert len(book) == MAX_PER_GROUP
    assert group_of("20.1.2.3") == group_of("20.1.99.3") != group_of("20.2.2.3")
    assert group_of("127.0.0.1") == "127.0.0.1"
    assert group_of("2001:4860::1") == group_of("2001:4860:9::7")
    assert group_of("node.example") == "node.example"


def test_lies_about_an_address_do_not_displace_the_proven_one() -> None:
    book = AddressBook(A, 1)
    book.learn(B, ["/ip4/9.9.0.1/tcp/1"], teller=B)
    known = book.get(B)
    assert known is not None
    book.proved(known, "/ip4/9.9.0.1/tcp/1", 5.0)
    for number in range(9):
        book.learn(B, [f"/ip4/{public_host(number)}/tcp/{port}" for port in (1, 2, 3, 4)], teller=C)
    assert len([text for text in known.learned if not text.startswith("/ip4/9.")]) <= MAX_ADDRESSES_PER_TELLER
    for _ in range(3 * FORGET_AFTER):
        book.failed(known, "refused", 100.0, (1.0, 8.0))
    assert known.addresses == ("/ip4/9.9.0.1/tcp/1",)
    assert book.anchors() == [(B, "/ip4/9.9.0.1/tcp/1")]
    again = AddressBook(A, 1)
    for public, text in book.anchors():
        again.remember(public, text)
    assert again.anchors() == book.anchors()


def test_anchors_are_those_reached_last() -> None:
    book = AddressBook(A, 1)
    for number in range(ANCHORS + 5):
        public = bytes([9, number]) * 16
        book.learn(public, [f"/ip4/{public_host(number)}/tcp/1"], teller=public)
        known = book.get(public)
        assert known is not None
        book.proved(known, known.learned[0], float(number))
    assert [public for public, _ in book.anchors()] == [bytes([9, n]) * 16 for n in range(ANCHORS + 4, 4, -1)]


def test_book_backs_off_and_forgets() -> None:
    book = AddressBook(A, 1)
    book.learn(B, ["/ip4/10.0.0.1/tcp/1"], teller=C)
    known = book.get(B)
    assert known is not None
    waits = []
    for _ in range(FORGET_AFTER):
        book.failed(known, "refused", 100.0, (1.0, 8.0))
        waits.append(known.due - 100.0)
    assert all(0.8 * want <= wait <= 1.2 * want for wait, want in zip(waits, [1, 2, 4, 8, 8, 8], strict=False))
    assert book.get(B) is None
