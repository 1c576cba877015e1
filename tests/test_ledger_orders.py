"""Orders in the ledger: checks at entry, escrow and capacity to the unit, fills, release, gate, expiry, settlement."""

from __future__ import annotations

import pytest
from attrs import evolve
from ledger_support import FEE, ISSUER, OPERATOR, REGISTRAR, START_MS, TAX, THB, Chain, genesis, key, trading_chain

from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import build, queries, spaces
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.operations import (
    AmendOrder,
    CancelOrder,
    Deposit,
    PlaceOrder,
    RegisterMeter,
    RegisterParticipant,
    RenewLicence,
    Transfer,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Position, Trade, WindowBook
from gridtokenx.ledger.run import BlockRun
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.tariff_records import THAI_SCHEDULE
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market import money
from gridtokenx.market.clock import final_ms, gate_ms, opens_ms, settles_ms, tradable, window_at
from gridtokenx.market.orders import Force, Side
from gridtokenx.market.tariffs import band, bangkok_day, on_peak

H = [key(f"house {number}") for number in range(8)]
BUY, SELL = Side.BUY, Side.SELL


def order(chain: Chain, meter: int = 1, side: Side = BUY, price: int = 5000, quantity: int = 1000,
          force: Force = Force.GOOD_TILL_GATE, expires_ms: int = 0, window: int | None = None) -> PlaceOrder:
    return PlaceOrder(meter, chain.window if window is None else window, side, price, quantity, force, expires_ms)


def test_refusals_at_entry() -> None:
    chain = trading_chain(2)
    good = order(chain)
    now, window = chain.now_ms + 20_000, chain.window      # market time of the next block: 200 ms at rate 100
    cases = [
        (evolve(good, meter=99), Code.UNKNOWN_METER), (evolve(good, meter=2), Code.NOT_METER_OWNER),
        (evolve(good, window=window_at(now)), Code.WINDOW_CLOSED),
        (evolve(good, window=window_at(now) + 1), Code.WINDOW_CLOSED),
        (evolve(good, window=window + 700), Code.WINDOW_NOT_OPEN),
        (evolve(good, price_mthb_kwh=5005), Code.OUT_OF_TICK), (evolve(good, quantity_wh=150), Code.OUT_OF_LOT),
        (evolve(good, quantity_wh=0), Code.OUT_OF_LOT), (evolve(good, quantity_wh=10_000_100), Code.QUANTITY_LIMIT),
        (evolve(good, price_mthb_kwh=1_000_010), Code.PRICE_LIMIT),
        (evolve(good, price_mthb_kwh=7750), Code.OUT_OF_BAND), (evolve(good, price_mthb_kwh=2190), Code.OUT_OF_BAND),
        (evolve(good, expires_ms=now + 1), Code.BAD_TIME_IN_FORCE),
        (evolve(good, time_in_force=Force.GOOD_TILL_TIME), Code.BAD_TIME_IN_FORCE),
        (evolve(good, time_in_force=Force.GOOD_TILL_TIME, expires_ms=now), Code.BAD_TIME_IN_FORCE),
        (evolve(good, time_in_force=Force.GOOD_TILL_TIME, expires_ms=gate_ms(window) + 1), Code.BAD_TIME_IN_FORCE),
        (evolve(good, time_in_force=Force.IOC, expires_ms=now + 1), Code.BAD_TIME_IN_FORCE),
        (evolve(good, quantity_wh=10_100), Code.NO_CAPACITY),
        (CancelOrder(1), Code.UNKNOWN_ORDER),
    ]
    before = chain.account(H[0])
    outcomes = chain.do(H[0], *[operation for operation, _ in cases])
    assert [outcome.code for outcome in outcomes] == [code for _, code in cases]
    after = chain.account(H[0])
    assert evolve(before, nonce=after.nonce, balance=before.balance - FEE) == after
    assert not list(chain.head.scan(bytes((Space.POSITION,))))


def test_a_window_opens_and_closes_to_the_millisecond() -> None:
    chain = trading_chain(1, rate=1)
    first, last = tradable(chain.now_ms + 200)[0], tradable(chain.now_ms + 200)[-1]
    assert gate_ms(first) > chain.now_ms + 200 >= gate_ms(first - 1)
    assert opens_ms(last) <= chain.now_ms + 200 < opens_ms(last + 1)
    outcomes = chain.do(H[0], *[order(chain, window=window) for window in (first - 1, first, last, last + 1)])
    assert [outcome.code for outcome in outcomes] == [
        Code.WINDOW_CLOSED, Code.OK, Code.OK, Code.WINDOW_NOT_OPEN]
    chain.block(gate_ms(first) - chain.now_ms - 1)
    sent = chain.send(H[0], order(chain, window=first))
    chain.block(200)
    assert chain.outcomes(sent)[0].code is Code.WINDOW_CLOSED


def test_price_band_follows_the_time_of_use() -> None:
    thai = THAI_SCHEDULE.at(0)
    assert on_peak(1_778_464_800, *thai, ())                              # Monday 09:00
    assert not on_peak(1_778_464_800 - 1, *thai, ())
    assert on_peak(1_778_464_800 + 13 * 3600 - 1, *thai, ())
    assert not on_peak(1_778_464_800 + 13 * 3600, *thai, ())              # 22:00
    assert not on_peak(1_778_464_800 + 5 * 86_400, *thai, ())             # Saturday
    assert not on_peak(1_778_464_800, *thai, (bangkok_day(1_778_464_800),))
    peak = band(5_960_500, 2_200_000, 300_000)
    assert (peak.low, peak.high) == (2200, 7748)                            # down to the buy-back rate
    off = band(2_799_200, 2_200_000, 300_000)
    assert (off.low, off.high) == (1960, 3638)
    chain = trading_chain(1)
    night = window_at(START_MS + 14 * 3_600_000)
    outcomes = chain.do(H[0], order(chain, window=night, price=3640), order(chain, window=night, price=3630),
                        order(chain, window=night + 1, price=1950, side=SELL),
                        order(chain, window=night + 1, price=1960, side=SELL))
    assert [outcome.code for outcome in outcomes] == [Code.OUT_OF_BAND, Code.OK, Code.OUT_OF_BAND, Code.OK]


def test_escrow_of_a_buy_is_held_and_comes_back_with_the_cancel() -> None:
    chain = trading_chain(1)
    before = chain.account(H[0]).balance
    [placed] = chain.do(H[0], order(chain, price=5010, quantity=700))
    held = -(-5010 * 700 * 1_005_000 * 1_070_000 // 10**12)
    assert money.buy_escrow(5010, 700, 5000, 70_000) == held
    assert placed.data == (spaces.order_id(chain.window, 1), 0, 700, 0)
    account = chain.account(H[0])
    assert (account.balance, account.bids) == (before - FEE - held, held)
    [cancelled] = chain.do(H[0], CancelOrder(placed.data[0]))
    assert cancelled.data == (placed.data[0], 700)
    account = chain.account(H[0])
    assert (account.balance, account.bids) == (before - 2 * FEE, 0)
    [again] = chain.do(H[0], CancelOrder(placed.data[0]))
    assert again.code is Code.UNKNOWN_ORDER


def test_collateral_of_a_sale_above_the_credit_limit() -> None:
    chain = trading_chain(1, credit=2 * THB, short_cap_mthb_kwh=7_700)
    before = chain.account(H[0]).balance
    [placed] = chain.do(H[0], order(chain, side=SELL, price=4500, quantity=1000))
    account = chain.account(H[0])
    assert (account.collateral, account.locked) == (3_200_000, 1_200_000)      # (7700 - 4500) x 1000 Wh
    assert account.balance == before - FEE - 1_200_000
    [free] = chain.do(H[0], order(chain, side=SELL, price=7700, quantity=1000))
    assert free.code is Code.OK
    assert chain.account(H[0]).locked == 1_200_000
    chain.do(H[0], CancelOrder(placed.data[0]))
    assert (chain.account(H[0]).collateral, chain.account(H[0]).locked) == (0, 0)


def test_orders_need_their_money() -> None:
    chain = trading_chain(1, money=6 * THB)
    window = chain.window
    outcomes = chain.do(H[0], order(chain, price=5000, quantity=1000), order(chain, price=5000, quantity=1000),
                        order(chain, side=SELL, price=4500, quantity=1000))
    assert [outcome.code for outcome in outcomes] == [Code.OK, Code.UNFUNDED, Code.UNFUNDED]
    assert queries.position(chain.head, 1, window) == {
        "meter": 1, "window": window, "sold_wh": 0, "bought_wh": 0, "open_sell_wh": 0, "open_buy_wh": 1000,
        "free_sell_wh": 10_000, "free_buy_wh": 9000}


def test_only_the_owner_cancels() -> None:
    chain = trading_chain(2)
    [placed] = chain.do(H[0], order(chain))
    [refused] = chain.do(H[1], CancelOrder(placed.data[0]))
    assert refused.code is Code.UNKNOWN_ORDER


def test_an_expired_licence_places_nothing_but_cancels() -> None:
    chain = trading_chain(1)
    late, until = key("late"), chain.now_ms + 600_000
    chain.do(ISSUER, Deposit(late.public, 100 * THB))
    chain.do(REGISTRAR, RegisterParticipant(late.public, "short", Role.CONSUMER, 0, until))
    chain.do(REGISTRAR, RegisterMeter(2, key("late meter").public, 0, Network.PEA, Source.MIXED, 0, 0, 40_000))
    window = chain.window
    [placed] = chain.do(late, order(chain, 2, window=window))
    assert placed.code is Code.OK
    chain.until(until)
    outcomes = chain.do(late, order(chain, 2, window=window), CancelOrder(placed.data[0]))
    assert [outcome.code for outcome in outcomes] == [Code.LICENCE_EXPIRED, Code.OK]


def test_a_fill_to_the_last_unit() -> None:
    """The worked example of docs/market.md."""
    chain = trading_chain(2)
    window = chain.window
    start = [chain.account(house).balance for house in H[:2]]
    [sold] = chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    [bought] = chain.do(H[1], order(chain, 2, BUY, 5000, 800))
    assert sold.data[1:] == (0, 1000, 0)
    assert bought.data[1:] == (800, 0, 0)
    injected = -(-800 * 1_000_000 // 970_000)                      # 825 Wh leave the seller, 25 are lost
    assert injected == 825
    value, wheel = 4500 * 825, 80_000                              # 3.7125 THB, 0.1 THB/kWh x 800 Wh
    fee = (value + wheel) * 5000 // 10**6 + 1                      # 18 962.5 rounds up
    vat = (2 * (value + wheel + fee) * 70_000 + 10**6) // (2 * 10**6)
    assert (fee, vat) == (18_963, 266_802)
    trade = Trade.decode(chain.head.get(spaces.trade(window, 0)) or b"")
    assert (trade.price, trade.delivered_wh, trade.injected_wh) == (4500, 800, 825)
    assert (trade.value_uthb, trade.wheel_uthb, trade.fee_uthb, trade.vat_uthb) == (value, wheel, fee, vat)
    assert trade.collateral_uthb == 825 * (7654 - 4500)
    seller, buyer = chain.account(H[0]), chain.account(H[1])
    assert buyer.balance == start[1] - FEE - value - wheel - fee - vat
    assert buyer.bids == 0
    assert seller.proceeds == value
    assert seller.locked == 1000 * 3154                            # 825 Wh sold and 175 Wh still on offer
    network = chain.account(key("network North"))
    assert (network.proceeds, chain.account(TAX).proceeds) == (wheel, vat)
    assert chain.account(OPERATOR).proceeds == fee
    assert chain.results[-1].header.market == ((800, value), (0, 0))

    chain.until(gate_ms(window))
    chain.block()
    assert chain.account(H[0]).locked == 825 * 3154
    chain.settle(window, {1: (825, 0), 2: (0, 800)})
    seller = chain.account(H[0])
    assert (seller.proceeds, seller.locked, seller.collateral) == (0, 0, 0)
    assert seller.balance == start[0] - FEE + value
    assert chain.account(key("network North")).balance == wheel
    assert chain.account(TAX).balance == vat
    assert chain.account(OPERATOR).proceeds == 0
    assert WindowBook.decode(chain.head.get(spaces.window(window)) or b"") == WindowBook(1, 1, 1)


def test_settled_windows_leave_state_when_final() -> None:
    chain = trading_chain(2, rate=10_000)
    window = chain.window + 40
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000, window=window))
    chain.do(H[1], order(chain, 2, BUY, 5000, 800, window=window))
    chain.until(settles_ms(window))
    assert chain.head.get(spaces.trade(window, 0)) is not None
    chain.until(final_ms(window))
    chain.block()
    while chain.results[-1].unfinished:
        chain.block()
    left = {Space(k[0]) for k, _ in chain.head.scan(b"")}
    assert not left & {Space.TRADE, Space.POSITION, Space.MARKET, Space.WINDOW, Space.ORDER, Space.TRADED}
    assert left > {Space.SETTLEMENT, Space.BALANCE}


def test_incoming_sell_trades_at_the_bid_less_wheeling() -> None:
    chain = trading_chain(2)
    chain.do(H[1], order(chain, 2, BUY, 5000, 800))
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    trade = Trade.decode(chain.head.get(spaces.trade(chain.window, 0)) or b"")
    assert trade.price == (5000 * 800 - 80_000) // 825 // 10 * 10 == 4750
    assert trade.value_uthb + trade.wheel_uthb <= 5000 * 800


def test_ioc_returns_what_it_does_not_fill() -> None:
    chain = trading_chain(2, loss_ppm=0, wheel=0)
    chain.do(H[0], order(chain, 1, SELL, 4500, 300))
    before = chain.account(H[1]).balance
    [taken] = chain.do(H[1], order(chain, 2, BUY, 5000, 1000, Force.IOC))
    assert taken.data[1:] == (300, 0, 700)
    account = chain.account(H[1])
    fee, vat = money.fee_and_vat(4500 * 300, 1 << 60, 5000, 70_000)
    assert (account.bids, account.balance) == (0, before - FEE - 4500 * 300 - fee - vat)
    assert queries.open_orders(chain.head, H[1].public) == []
    [no] = chain.do(H[1], CancelOrder(taken.data[0]))
    assert no.code is Code.UNKNOWN_ORDER


def test_self_trade_cancels_the_newer_order() -> None:
    chain = trading_chain(1)
    [first] = chain.do(H[0], order(chain, 1, SELL, 4500, 300))
    [second] = chain.do(H[0], order(chain, 1, BUY, 5000, 300))
    assert (first.code, second.code) == (Code.OK, Code.SELF_TRADE)
    assert second.ok
    assert second.data[1:] == (0, 0, 300)
    assert [entry["order"] for entry in queries.open_orders(chain.head, H[0].public)] == [first.data[0]]


def test_what_a_block_releases_is_spent_from_the_next_on() -> None:
    chain = trading_chain(1, money=6 * THB)
    [placed] = chain.do(H[0], order(chain, price=5000, quantity=1000))
    outcomes = chain.do(H[0], CancelOrder(placed.data[0]), order(chain, price=5000, quantity=1000))
    assert [outcome.code for outcome in outcomes] == [Code.OK, Code.UNFUNDED]
    [again] = chain.do(H[0], order(chain, price=5000, quantity=1000))
    assert again.code is Code.OK


def test_capacity_released_in_a_block_is_free_from_the_next_on() -> None:
    chain = trading_chain(1)
    [placed] = chain.do(H[0], order(chain, quantity=10_000))
    outcomes = chain.do(H[0], CancelOrder(placed.data[0]), order(chain, quantity=100))
    assert [outcome.code for outcome in outcomes] == [Code.OK, Code.NO_CAPACITY]
    [again] = chain.do(H[0], order(chain, quantity=10_000))
    assert again.code is Code.OK


def test_what_was_bought_may_be_sold_on_from_the_next_block() -> None:
    chain = trading_chain(2, injection_w=4_000, loss_ppm=0)
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    buy = chain.send(H[1], order(chain, 2, BUY, 5000, 1000), order(chain, 2, SELL, 7000, 1100))
    chain.block()
    assert [outcome.code for outcome in chain.outcomes(buy)] == [Code.OK, Code.NO_CAPACITY]
    outcomes = chain.do(H[1], order(chain, 2, SELL, 7000, 2000), order(chain, 2, SELL, 7000, 100))
    assert [outcome.code for outcome in outcomes] == [Code.OK, Code.NO_CAPACITY]
    position = Position.decode(chain.head.get(spaces.position(chain.window, 2)) or b"")
    assert (position.bought, position.open_sell) == (1000, 2000)


def test_expiry_at_its_millisecond() -> None:
    chain = trading_chain(2, rate=1)
    window = chain.window
    until = chain.now_ms + 1_000
    [placed] = chain.do(H[0], order(chain, 1, SELL, 4500, 300, Force.GOOD_TILL_TIME, until, window))
    chain.block(until - chain.now_ms - 1)
    assert queries.order(chain.head, placed.data[0]) is not None
    # The next block is past the expiry: the order cannot be met nor cancelled, swept or not.
    sent = [chain.send(H[1], order(chain, 2, BUY, 5000, 300, window=window)),
            chain.send(H[0], CancelOrder(placed.data[0]))]
    chain.block(200)
    assert [outcome.code for outcome in chain.outcomes(*sent)] == [Code.OK, Code.UNKNOWN_ORDER]
    assert chain.outcomes(sent[0])[0].data[1] == 0
    assert chain.account(H[0]).collateral == 0
    assert queries.open_orders(chain.head, H[0].public) == []


def test_the_engine_forgets_what_the_sweep_closed() -> None:
    """Chain.block compares the engine with the state after every block."""
    chain = trading_chain(2, rate=1)
    window, until = chain.window, chain.now_ms + 1_000
    chain.do(H[0], order(chain, 1, SELL, 4500, 300, Force.GOOD_TILL_TIME, until, window))
    chain.block(until - chain.now_ms - 1)
    chain.send(H[1], order(chain, 2, BUY, 4000, 300, window=window))       # in the same window, meets nothing
    chain.block(200)
    assert queries.book(chain.head, window, 0)["asks"] == []


def test_what_lapses_since_the_parent_is_spent_from_the_next_block_on() -> None:
    chain = trading_chain(1, rate=1, money=6 * THB)
    window, until = chain.window, chain.now_ms + 1_000
    [placed] = chain.do(H[0], order(chain, 1, BUY, 5000, 1000, Force.GOOD_TILL_TIME, until, window))
    assert placed.code is Code.OK
    chain.block(until - chain.now_ms - 1)
    early = chain.send(H[0], Transfer(ISSUER.public, 5 * THB))
    chain.block(200)                                   # lapses in this block: not yet
    assert chain.outcomes(early)[0].code is Code.UNFUNDED
    [late] = chain.do(H[0], Transfer(ISSUER.public, 5 * THB))
    assert late.code is Code.OK


def test_capacity_that_lapses_since_the_parent_is_free_from_the_next_block_on() -> None:
    chain = trading_chain(1, rate=1)
    window, until = chain.window, chain.now_ms + 1_000
    chain.do(H[0], order(chain, 1, BUY, 5000, 10_000, Force.GOOD_TILL_TIME, until, window))
    chain.block(until - chain.now_ms - 1)
    early = chain.send(H[0], order(chain, 1, BUY, 5000, 100, window=window))
    chain.block(200)
    assert chain.outcomes(early)[0].code is Code.NO_CAPACITY
    [late] = chain.do(H[0], order(chain, 1, BUY, 5000, 100, window=window))
    assert late.code is Code.OK


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder runs the engine after every transaction; the voter, as always, once."""
    include = build._include

    def flushing(run: BlockRun, transaction: Transaction) -> bool:
        done = include(run, transaction)
        run.desk.flush()
        return done

    monkeypatch.setattr(build, "_include", flushing)


@pytest.mark.usefixtures("eager")
def test_nothing_that_matching_gives_is_used_in_its_block_however_early_it_runs() -> None:
    chain = trading_chain(2, injection_w=4_000, loss_ppm=0)
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    bought = chain.send(H[1], order(chain, 2, BUY, 5000, 1000))
    resold = chain.send(H[1], order(chain, 2, SELL, 7000, 1100))
    chain.block()
    assert chain.outcomes(bought)[0].data[1] == 1000
    assert chain.outcomes(resold)[0].code is Code.NO_CAPACITY
    [placed] = chain.do(H[0], order(chain, 1, BUY, 4000, 10_000, window=chain.window + 1))
    cancelled = chain.send(H[0], CancelOrder(placed.data[0]))
    again = chain.send(H[0], order(chain, 1, BUY, 4000, 100, window=chain.window + 1))
    chain.block()
    assert (chain.outcomes(cancelled)[0].code, chain.outcomes(again)[0].code) == (Code.OK, Code.NO_CAPACITY)
    sold = chain.send(H[1], order(chain, 2, SELL, 4000, 1000, window=chain.window + 1))
    more = chain.send(H[1], order(chain, 2, SELL, 4000, 100, window=chain.window + 1), CancelOrder(placed.data[0] + 2))
    chain.block()
    assert [outcome.code for outcome in chain.outcomes(sold, more)] == [Code.OK, Code.NO_CAPACITY, Code.UNKNOWN_ORDER]


def test_one_participant_trades_with_itself_in_no_meter() -> None:
    chain = trading_chain(3, zones=2)
    [apart] = chain.do(H[1], order(chain, 2, SELL, 4500, 300))     # zone 1
    [near] = chain.do(H[0], order(chain, 1, BUY, 5000, 300))       # zone 0: another book until trade crosses zones
    assert (apart.data[1], near.data[1]) == (0, 0)


def test_many_fills_end_in_their_own_code() -> None:
    chain = trading_chain(2, injection_w=400_000, withdrawal_w=400_000, loss_ppm=0, wheel=0)
    for _ in range(3):
        chain.do(H[0], *[order(chain, 1, SELL, 4500, 100) for _ in range(50)])
    [taken] = chain.do(H[1], order(chain, 2, BUY, 5000, 20_000))
    assert taken.code is Code.REMAINDER_CANCELLED
    assert taken.data[1:] == (12_800, 0, 7_200)


def test_open_orders_are_bounded() -> None:
    chain = trading_chain(1, max_open_orders=100)
    outcomes = []
    for _ in range(2):
        outcomes += chain.do(H[0], *[order(chain, quantity=100) for _ in range(60)])
    assert [outcome.code for outcome in outcomes].count(Code.OK) == 100
    assert outcomes[-1].code is Code.BOOK_FULL


def test_a_halt_moves_reading_deadlines() -> None:
    chain = trading_chain(2, rate=100)
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    chain.do(H[1], order(chain, 2, BUY, 5000, 800))
    chain.until(settles_ms(window) - 10_000)
    chain.block(61_000)                                # over a minute of silence, 6100 s of market time
    assert chain.now_ms > settles_ms(window)
    assert chain.account(H[0]).proceeds > 0
    moved = chain.now_ms + 900_000
    chain.until(moved - 25_000)
    assert chain.now_ms < moved
    assert chain.account(H[0]).proceeds > 0
    chain.until(moved)
    assert chain.account(H[0]).proceeds == 0


def test_fees_and_transfers_between_orders_share_a_block() -> None:
    chain = trading_chain(2)
    sent = chain.send(H[0], order(chain, 1, SELL, 4500, 1000), Transfer(H[1].public, 5),
                      order(chain, 1, SELL, 4600, 100))
    other = chain.send(H[1], order(chain, 2, BUY, 5000, 300))
    chain.block()
    assert all(outcome.ok for outcome in chain.outcomes(sent, other))
    assert chain.results[-1].trades


def test_genesis_without_wheeling_trades_at_face_value() -> None:
    assert genesis(wheel=0).zones[0].wheel_uthb_kwh == 0
    chain = trading_chain(2, wheel=0, loss_ppm=0, fee_ppm=0, supply=SupplyRates(vat_ppm=0))
    before = [chain.account(house).balance for house in H[:2]]
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    chain.do(H[1], order(chain, 2, BUY, 4500, 1000))
    assert chain.account(H[1]).balance == before[1] - FEE - 4_500_000
    assert chain.account(H[0]).proceeds == 4_500_000


def test_a_licence_is_renewed_and_shortened() -> None:
    chain = trading_chain(2)
    soon = chain.now_ms + 900_000
    assert [o.code for o in (*chain.do(H[0], RenewLicence(1, soon)), *chain.do(REGISTRAR, RenewLicence(9, soon)),
                             *chain.do(REGISTRAR, RenewLicence(1, chain.now_ms)))] == [
        Code.NOT_ALLOWED, Code.UNKNOWN_PARTICIPANT, Code.LICENCE_EXPIRED]
    assert chain.do(REGISTRAR, RenewLicence(1, soon))[0].code is Code.OK
    window = chain.window + 8
    [placed] = chain.do(H[0], order(chain, window=window))
    chain.until(soon)
    refused = chain.do(H[0], order(chain, window=window)), chain.do(H[0], AmendOrder(placed.data[0], 3000, 100))
    assert [outcome.code for [outcome] in refused] == [Code.LICENCE_EXPIRED] * 2
    [renewed] = chain.do(REGISTRAR, RenewLicence(1, 2 * START_MS))
    assert (renewed.code, renewed.data) == (Code.OK, ())
    assert chain.do(H[0], order(chain, window=window))[0].code is Code.OK
    holder = queries.participant(chain.head, H[0].public)
    assert holder is not None
    assert (holder["participant"], holder["licence"], holder["expires_ms"], holder["meters"]) == (
        1, "L-0", 2 * START_MS, [1])
