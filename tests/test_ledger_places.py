"""Places in the books: who finds none, and that neither sweeps nor matching decide it."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_support import Chain, key, trading_chain

from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import CancelOrder, Operation, PlaceOrder
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Counters
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.orders import BUY, SELL, Force, Side

H = [key(f"house {number}") for number in range(4)]
OK = Code.OK
MOST = 100


def full_chain(left: int = 0, **options: Any) -> Chain:
    """House 0 has taken all places but `left`, with orders until the gate of the window."""
    chain = trading_chain(4, max_open_orders=MOST, loss_ppm=0, wheel=0, **options)
    fill(chain, MOST - left)
    return chain


def fill(chain: Chain, count: int, expires_ms: int = 0) -> None:
    while count:
        some = min(count, 50)
        assert {outcome.code for outcome in chain.do(H[0], *[order(chain, 1, expires_ms=expires_ms)
                                                             for _ in range(some)])} == {OK}
        count -= some


def order(chain: Chain, meter: int, side: Side = BUY, price: int = 4000, **options: Any) -> PlaceOrder:
    window = options.pop("window", chain.window)
    if options.get("expires_ms"):
        options["time_in_force"] = Force.GOOD_TILL_TIME
    return PlaceOrder(meter, window, side, price, 100, **options)


def codes(chain: Chain, number: int, *operations: Operation, **options: Any) -> list[Code]:
    return [outcome.code for outcome in chain.do(H[number], *operations, **options)]


def resting(chain: Chain) -> int:
    found = len(list(chain.head.scan(bytes((Space.ORDER,)))))
    counted = Counters.decode(chain.head.get(spaces.COUNTERS) or b"")
    assert counted.open_orders - counted.closed_orders == found
    return found


def test_every_exit_gives_its_place_back_from_the_next_block_on() -> None:
    chain = full_chain(left=1)
    mine = order(chain, 2, price=3900)
    [placed] = chain.do(H[1], mine)
    assert codes(chain, 1, CancelOrder(placed.data[0]), mine) == [OK, Code.BOOK_FULL]         # a cancel
    assert resting(chain) == MOST - 1
    assert codes(chain, 1, order(chain, 2, time_in_force=Force.IOC), mine) == [OK, Code.BOOK_FULL]  # never rested
    assert resting(chain) == MOST - 1
    assert codes(chain, 1, order(chain, 2, SELL, time_in_force=Force.FOK), mine) == [OK, Code.BOOK_FULL]   # a fill
    assert resting(chain) == MOST - 2
    assert codes(chain, 1, mine, mine, mine) == [OK, OK, Code.BOOK_FULL]
    assert resting(chain) == MOST


@pytest.mark.parametrize("timed", [1_000, 30_000])
@pytest.mark.parametrize("at_gate", [False, True])
def test_orders_past_their_time_hold_no_place(timed: int, at_gate: bool) -> None:
    """The same answers where a block sweeps twenty of them and where it sweeps all."""
    chain = trading_chain(4, max_open_orders=MOST, loss_ppm=0, wheel=0, max_timed_weight=timed)
    window = chain.window
    expires = gate_ms(window) if at_gate else chain.now_ms + 120_000
    fill(chain, 70, 0 if at_gate else expires)
    fill(chain, 30, 0 if not at_gate else expires - 60_000)
    later = order(chain, 2, window=window + 2)
    assert codes(chain, 1, later) == [Code.BOOK_FULL]
    chain.until(expires - 60_000)
    room = 30 if at_gate else 0
    assert codes(chain, 1, *[later] * (room + 1)) == [OK] * room + [Code.BOOK_FULL]
    chain.block((expires - chain.now_ms) // chain.genesis.market_rate)
    assert chain.now_ms == expires
    for house in (1, 2):
        chain.send(H[house], *[order(chain, house + 1, window=window + 2)] * 40)
    chain.block()
    outcomes = chain.outcomes(*chain.transactions[-1])
    assert [outcome.code for outcome in outcomes] == [OK] * 70 + [Code.BOOK_FULL] * 10
    assert resting(chain) <= MOST
    for _ in range(4):
        chain.block()
    assert resting(chain) == MOST


def test_due_orders_count_in_the_block_in_which_they_fall_due() -> None:
    chain = trading_chain(4, max_open_orders=MOST, loss_ppm=0, wheel=0)
    expires = chain.now_ms + 120_000
    fill(chain, MOST, expires)
    sent = chain.send(H[1], order(chain, 2))
    chain.block((expires - chain.now_ms) // chain.genesis.market_rate)
    assert chain.outcomes(sent)[0].code is Code.BOOK_FULL
    assert codes(chain, 1, order(chain, 2)) == [OK]


def test_what_makes_room_is_kept_when_its_order_fails_later() -> None:
    """The place was found, the money was not: nothing happened, and the next one finds the place."""
    chain = trading_chain(4, max_open_orders=MOST, loss_ppm=0, wheel=0, max_timed_weight=1_000)
    expires = chain.now_ms + 120_000
    fill(chain, MOST, expires)
    chain.until(expires)
    left = resting(chain)
    dear = PlaceOrder(2, chain.window, BUY, 7000, 900_000)
    assert codes(chain, 1, dear) != [OK]
    assert left - 25 < resting(chain) < left        # the sweep alone
    assert codes(chain, 1, order(chain, 2)) == [OK]


def test_a_group_needs_no_places_beside_its_own() -> None:
    chain = full_chain(left=1)
    [mine] = chain.do(H[1], order(chain, 2, price=3900))
    quotes = [order(chain, 2, price=price, post_only=True) for price in (3910, 3920)]
    assert codes(chain, 1, CancelOrder(mine.data[0]), *quotes, flags=FLAG_ALL_OR_NOTHING) == [
        Code.NOT_APPLIED, Code.NOT_APPLIED, Code.BOOK_FULL]
    [_, placed] = chain.do(H[1], CancelOrder(mine.data[0]), quotes[0], flags=FLAG_ALL_OR_NOTHING)
    assert placed.code is OK
    assert resting(chain) == MOST
    # Refused by the engine: the cancelled order stands, and no place was lost or won.
    [sale] = chain.do(H[0], CancelOrder(next(iter_orders(chain))))
    crossing = order(chain, 3, SELL, 3910, post_only=True)
    assert codes(chain, 2, crossing, flags=FLAG_ALL_OR_NOTHING) == [Code.WOULD_TRADE]
    assert sale.code is OK
    assert resting(chain) == MOST - 1
    assert codes(chain, 1, order(chain, 2), order(chain, 2)) == [OK, Code.BOOK_FULL]


def iter_orders(chain: Chain):  # type: ignore[no-untyped-def]
    return (int.from_bytes(key_[1:], "big") for key_, _ in chain.head.scan(bytes((Space.ORDER,))))
