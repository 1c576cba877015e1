"""What operators do to windows: capacities, halts, the breaker, and uncrossing that may take several blocks."""

from __future__ import annotations

from typing import Any, Final

import pytest
from attrs import evolve
from ledger_support import FEE, ISSUER, OPERATOR, REGISTRAR, REGULATOR, START_MS, THB, Chain, key, trading_chain

from gridtokenx.grid.kinds import Role
from gridtokenx.ledger import queries, spaces
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.market_records import UNTIL_RESUMED, Trading, WorkLeft
from gridtokenx.ledger.operations import (
    AmendOrder,
    CancelOrder,
    Deposit,
    HaltWindows,
    PlaceOrder,
    PublishRate,
    RegisterParticipant,
    SetCapacity,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import CorridorWindow
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.tariff_records import Series
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.orders import Side

H = [key(f"house {number}") for number in range(12)]
GRID = key("grid operator")
BUY, SELL = Side.BUY, Side.SELL
OK: Final = Code.OK
FREE: Final[dict[str, Any]] = {"loss_ppm": 0, "wheel": 0, "fee_ppm": 0, "supply": SupplyRates(vat_ppm=0)}


def order(chain: Chain, meter: int, side: Side, price: int, quantity: int, window: int | None = None) -> PlaceOrder:
    return PlaceOrder(meter, chain.window if window is None else window, side, price, quantity)


def grid_chain(households: int = 4, **options: Any) -> Chain:
    """North and South, houses in turn, and a closed corridor between them; a grid operator has a licence."""
    chain = trading_chain(households, **{**FREE, "zones": 2, "lines": ((0, 1, 0, 0, 0, 0),), **options})
    chain.do(ISSUER, Deposit(GRID.public, 100 * THB))
    chain.do(REGISTRAR, RegisterParticipant(GRID.public, "grid", Role.GRID_OPERATOR, 0, 2 * START_MS))
    chain.do(ISSUER, Deposit(OPERATOR.public, 100 * THB))
    return chain


def corridor(chain: Chain, window: int) -> CorridorWindow:
    return CorridorWindow.decode(chain.head.get(spaces.corridor_window(window, 0)) or b"")


def trading(chain: Chain, window: int) -> Trading:
    return Trading.decode(chain.head.get(spaces.trading(window)) or b"")


# ------------------------------------------------------------------ capacity


def test_a_wider_corridor_trades_what_crosses() -> None:
    chain = grid_chain()
    window = chain.window
    [sale] = chain.do(H[0], order(chain, 1, SELL, 4000, 1000))
    [first] = chain.do(H[1], order(chain, 2, BUY, 5000, 300))
    [better] = chain.do(H[3], order(chain, 4, BUY, 6000, 300))
    [widened] = chain.do(GRID, SetCapacity(0, window, window + 1, 2_000, 400))
    assert (widened.code, widened.data) == (OK, (2,))
    fills = [fill.trade for fill in chain.results[-1].trades]
    # Buys by limit, the earlier order of each pair sets the price.
    assert [(t.buy_order, t.sell_order, t.price, t.delivered_wh, t.taker_side) for t in fills] == [
        (better.data[0], sale.data[0], 4000, 300, BUY), (first.data[0], sale.data[0], 4000, 200, BUY)]
    assert corridor(chain, window) == CorridorWindow(500, 100, 0, 600, chain.head.header.height)
    assert corridor(chain, window + 1) == CorridorWindow(500, 100, 500, 100, chain.head.header.height)
    account = chain.account(H[1])
    assert account.bids == 5000 * 100
    # What was bought below the limit came back.
    assert chain.account(H[3]).balance == 1_000 * THB - FEE - 4000 * 300


def test_a_narrower_corridor_leaves_trades_and_a_negative_residual() -> None:
    chain = grid_chain(lines=((0, 1, 4_000, 0, 0, 0),))
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, 4000, 2000))
    chain.do(H[1], order(chain, 2, BUY, 4000, 800))
    chain.do(GRID, SetCapacity(0, window, window, 2_000, 0))
    assert corridor(chain, window) == CorridorWindow(500, 0, -300, 800, chain.head.header.height)
    [none] = chain.do(H[1], order(chain, 2, BUY, 4000, 200))
    assert none.data[1] == 0
    chain.do(GRID, SetCapacity(0, window, window, 4_000, 0))
    assert corridor(chain, window).forward_left_wh == 0         # 200 more for what rested by then


def test_capacities_in_the_block_of_the_orders_that_they_let_through() -> None:
    """Whatever the order of senders, every peer and every way of batching sees the same."""
    chain = grid_chain()
    window = chain.window
    sent = [chain.send(H[0], order(chain, 1, SELL, 4000, 1000)), chain.send(H[1], order(chain, 2, BUY, 5000, 300)),
            chain.send(GRID, SetCapacity(0, window, window, 2_000, 0))]
    chain.block()
    assert all(outcome.ok for outcome in chain.outcomes(*sent))
    assert [fill.trade.delivered_wh for fill in chain.results[-1].trades] == [300]


def test_who_sets_capacities_and_which() -> None:
    chain = grid_chain()
    window, good = chain.window, SetCapacity(0, chain.window, chain.window, 10, 10)
    for sender in (H[0], OPERATOR):
        assert chain.do(sender, good)[0].code is Code.NOT_GRID_OPERATOR
    outcomes = chain.do(
        GRID, evolve(good, corridor=1), evolve(good, last_window=window - 1), evolve(good, last_window=window + 96),
        evolve(good, first_window=window - 8), evolve(good, first_window=window + 5000, last_window=window + 5000),
        good, good, evolve(good, last_window=window + 1))
    assert [outcome.code for outcome in outcomes] == [
        Code.UNKNOWN_CORRIDOR, Code.OUT_OF_RANGE, Code.OUT_OF_RANGE, Code.WINDOW_CLOSED, Code.WINDOW_NOT_OPEN, OK,
        Code.SET_ALREADY, Code.SET_ALREADY]
    assert not list(chain.head.scan(spaces.corridor_window(window + 1)))


# ------------------------------------------------------------------ halts


def test_a_halted_window_takes_cancels_alone() -> None:
    chain = grid_chain()
    window = chain.window
    [resting] = chain.do(H[0], order(chain, 1, SELL, 4000, 300))
    [other] = chain.do(H[0], order(chain, 1, SELL, 4000, 200))
    [halted] = chain.do(OPERATOR, HaltWindows(window, window, True))
    assert (halted.code, trading(chain, window).halted_until_ms) == (OK, UNTIL_RESUMED)
    before = chain.account(H[2])
    [place] = chain.do(H[2], order(chain, 3, BUY, 5000, 300))
    assert (place.code, chain.account(H[2]).balance) == (Code.HALTED, before.balance - FEE)
    outcomes = chain.do(H[0], AmendOrder(resting.data[0], 4100, 300), CancelOrder(other.data[0]))
    assert [outcome.code for outcome in outcomes] == [Code.HALTED, OK]
    [free] = chain.do(H[2], order(chain, 3, BUY, 5000, 100, window + 1))
    assert free.code is OK
    assert chain.do(H[0], HaltWindows(window, window, False))[0].code is Code.NOT_GRID_OPERATOR
    chain.do(GRID, HaltWindows(window, window, False))
    [place] = chain.do(H[2], order(chain, 3, BUY, 5000, 300))
    assert place.data[1] == 300


def test_capacity_that_comes_during_a_halt_is_used_when_it_ends() -> None:
    chain = grid_chain()
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, 4000, 300))
    chain.do(H[1], order(chain, 2, BUY, 5000, 300))
    chain.do(GRID, HaltWindows(window, window, True))
    chain.do(GRID, SetCapacity(0, window, window, 2_000, 0))
    assert not chain.results[-1].trades
    chain.do(GRID, HaltWindows(window, window, False))
    assert [fill.trade.delivered_wh for fill in chain.results[-1].trades] == [300]


def test_halts_and_orders_of_one_block_in_their_order() -> None:
    chain = grid_chain()
    window = chain.window
    sent = chain.send(GRID, HaltWindows(window, window, True))
    more = [chain.send(house, order(chain, meter, BUY, 3000, 100)) for meter, house in enumerate(H[:4], 1)]
    chain.block()
    ranks = [transaction.sender for transaction in chain.transactions[-1]]
    for transaction in more:
        late = ranks.index(transaction.sender) > ranks.index(sent.sender)
        assert chain.outcomes(transaction)[0].code is (Code.HALTED if late else OK)


# ------------------------------------------------------------------ the breaker


def moved_chain(ft: int = -3_000_000, **options: Any) -> tuple[Chain, int]:
    """Sells rest at 7.00 in a window whose band then moves far below."""
    chain = grid_chain(10, lines=(), zones=1, injection_w=400_000, withdrawal_w=400_000, credit=10**12,
                       money=10**7 * THB, **options)
    window = chain.window + 200
    for number in range(5):
        chain.do(H[number], order(chain, number + 1, BUY, 7000, 25_000, window))
    chain.do(REGULATOR, PublishRate(Series.FT, window - 1, ft))
    return chain, window


def test_the_breaker_halts_for_five_minutes_of_block_time() -> None:
    chain, window = moved_chain()
    for number in range(5, 9):
        [sold] = chain.do(H[number], order(chain, number + 1, SELL, 3000, 24_000, window))
        assert (sold.code, sold.data[1]) == (OK, 24_000)
        assert trading(chain, window).halted_until_ms == 0
    chain.do(H[9], order(chain, 10, SELL, 3000, 24_000, window))
    until = chain.now_ms + 300_000 * chain.genesis.market_rate
    assert trading(chain, window) == Trading(until)
    assert chain.do(H[9], order(chain, 10, SELL, 3000, 100, window))[0].code is Code.HALTED
    chain.until(until - 100)
    assert chain.do(H[9], order(chain, 10, SELL, 3000, 100, window))[0].code is OK
    assert trading(chain, window).halted_until_ms == 0


@pytest.mark.parametrize("options", [{"breaker_least_wh": 200_000}, {"breaker_participants": 6},
                                     {"ft": 500_000}])
def test_the_breaker_needs_volume_participants_and_a_price_outside(options: dict[str, int]) -> None:
    chain, window = moved_chain(**options)
    chain.do(H[5], order(chain, 6, SELL, 3000, 24_000, window))
    for number in range(5, 10):
        chain.do(H[number], order(chain, number + 1, SELL, 3000, 24_000, window))
    assert trading(chain, window).halted_until_ms == 0


# ------------------------------------------------------------------ uncrossing in pieces


def crossed(**options: Any) -> tuple[Chain, int]:
    """Six sells in the north, five buys in the south, and a corridor that opens."""
    chain = grid_chain(**options)
    window = chain.window
    for price in range(6):
        chain.do(H[0], order(chain, 1, SELL, 4000 + 10 * price, 200))
    for price in range(5):
        chain.do(H[1], order(chain, 2, BUY, 5000 + 10 * price, 200))
    return chain, window


def test_uncrossing_goes_on_in_the_next_block() -> None:
    chain, window = crossed(uncross_fills=2)
    chain.do(GRID, SetCapacity(0, window, window, 40_000, 0))
    assert len(chain.results[-1].trades) == 2
    assert WorkLeft.decode(chain.head.get(spaces.work_left(window)) or b"").again == 1
    # Orders and amends wait, cancels do not; the rest is the first work of the next block.
    waiting = [chain.send(H[2], order(chain, 3, SELL, 3000, 100)),
               chain.send(H[3], order(chain, 4, BUY, 3000, 100, window))]
    chain.block()
    assert len(chain.results[-1].trades) == 2
    assert {outcome.code for outcome in chain.outcomes(*waiting)} == {Code.WORK_LEFT}
    assert chain.results[-1].unfinished
    chain.block()
    assert [fill.trade.price for result in chain.results[-3:] for fill in result.trades] == [
        4000, 4010, 4020, 4030, 4040]
    assert chain.head.get(spaces.work_left(window)) is None
    assert not [k for k, _ in chain.head.scan(spaces.TIMED_PREFIX) if k[9] == 5]
    [late] = chain.do(H[2], order(chain, 3, SELL, 3000, 100))
    assert late.code is OK


@pytest.mark.parametrize("fills", [1, 2])
def test_uncrossing_goes_on_after_a_restart(fills: int) -> None:
    """Every block is voted for by a node that has just been started: it loads the point from state."""
    chain, window = crossed(uncross_fills=fills, uncross_visits=fills + 1)
    chain.do(GRID, SetCapacity(0, window, window, 40_000, 0))
    waited = 0
    while chain.results[-1].unfinished:         # a reason for another block, whoever left the work
        chain._voter = chain.genesis.books()
        chain.block()
        waited += 1
    assert waited >= 4 // fills
    assert sum(len(result.trades) for result in chain.results) == 5
    assert chain.head.get(spaces.work_left(window)) is None


def test_uncrossing_left_at_the_gate_leaves_nothing() -> None:
    chain, window = crossed(uncross_fills=1)
    chain.do(GRID, SetCapacity(0, window, window, 40_000, 0))
    assert chain.head.get(spaces.work_left(window)) is not None
    chain.block((gate_ms(window) - chain.now_ms) // chain.genesis.market_rate + 1)
    chain.block()
    assert chain.head.get(spaces.work_left(window)) is None
    assert not list(chain.head.scan(bytes((Space.ORDER,))))


def test_a_halt_in_the_middle_of_uncrossing() -> None:
    chain, window = crossed(uncross_fills=1)
    chain.do(GRID, SetCapacity(0, window, window, 40_000, 0))
    sent = chain.send(GRID, HaltWindows(window, window, True))
    chain.block()
    assert chain.outcomes(sent)[0].code is OK
    for _ in range(2):
        chain.block()
        assert not chain.results[-1].trades
    chain.do(GRID, HaltWindows(window, window, False))
    for _ in range(6):
        chain.block()
    assert sum(len(result.trades) for result in chain.results) == 5
    assert chain.head.get(spaces.work_left(window)) is None
    assert queries.book(chain.head, window, 1)["bids"] == []
