"""Orders with conditions, filters and amends in the ledger (MARKET 3): what they do, hold and give back."""

from __future__ import annotations

from typing import Any, Final

import pytest
from attrs import evolve
from ledger_support import FEE, THB, Chain, key, trading_chain

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import queries, spaces
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.operations import AmendOrder, CancelOrder, PlaceOrder
from gridtokenx.ledger.receipts import Code, Outcome
from gridtokenx.ledger.records import Order, Profile, Trade
from gridtokenx.market.money import buy_escrow
from gridtokenx.market.orders import Force, SelfTrade, Side

H = [key(f"house {number}") for number in range(8)]
BUY, SELL = Side.BUY, Side.SELL
OK: Final = Code.OK
FREE: Final[dict[str, Any]] = {"loss_ppm": 0, "wheel": 0, "fee_ppm": 0, "supply": SupplyRates(vat_ppm=0)}


def order(chain: Chain, meter: int, side: Side, price: int, quantity: int, **options: Any) -> PlaceOrder:
    return PlaceOrder(meter, chain.window, side, price, quantity, **options)


def held(chain: Chain, house: int) -> tuple[int, int]:
    account = chain.account(H[house])
    return account.bids, account.collateral


def in_state(chain: Chain, outcome: Outcome) -> Order:
    return Order.decode(chain.head.get(spaces.order(outcome.data[0])) or b"")


def offered(**options: Any) -> Chain:
    """House 0 offers 300 Wh at 4.00."""
    chain = trading_chain(3, **{**FREE, **options})
    chain.do(H[0], order(chain, 1, SELL, 4000, 300))
    return chain


@pytest.mark.parametrize("options, code, quantities", [
    ({}, OK, (300, 200, 0)),
    ({"time_in_force": Force.IOC}, OK, (300, 0, 200)),
    ({"time_in_force": Force.FOK}, Code.KILLED, (0, 0, 500)),
    ({"post_only": True}, Code.WOULD_TRADE, (0, 0, 500)),
    ({"minimum_wh": 300}, OK, (300, 200, 0)),
    ({"minimum_wh": 400}, OK, (0, 500, 0)),
    ({"minimum_wh": 400, "time_in_force": Force.IOC}, Code.KILLED, (0, 0, 500)),
    ({"market": True, "price_mthb_kwh": 0}, OK, (300, 200, 0)),
])
def test_conditions(options: dict[str, Any], code: Code, quantities: tuple[int, int, int]) -> None:
    """The table of docs/matching.md 4; what does not rest gives everything back."""
    chain = offered()
    before = chain.account(H[1])
    taken = evolve(order(chain, 2, BUY, 4000, 500), **options)
    [outcome] = chain.do(H[1], taken)
    assert (outcome.code, outcome.data[1:]) == (code, quantities)
    filled, resting, _ = quantities
    price = 7740 if taken.market else 4000              # the edge of the band, on the tick
    assert chain.account(H[1]).bids == price * resting
    assert chain.account(H[1]).balance == before.balance - FEE - 4000 * filled - price * resting
    assert (len(chain.results[-1].trades) > 0) == (filled > 0)
    position = queries.position(chain.head, 2, chain.window)
    assert position is not None
    assert (position["bought_wh"], position["open_buy_wh"]) == (filled, resting)


def test_what_a_killed_order_held_is_free_from_the_next_block_on() -> None:
    chain = offered(money=3 * THB)
    sent = chain.send(H[1], order(chain, 2, BUY, 4000, 500, time_in_force=Force.FOK), order(chain, 2, BUY, 4000, 400))
    chain.block()
    assert [outcome.code for outcome in chain.outcomes(sent)] == [Code.KILLED, Code.UNFUNDED]
    [again] = chain.do(H[1], order(chain, 2, BUY, 4000, 400))
    assert again.code is OK


@pytest.mark.parametrize("changes, code", [
    ({"post_only": True, "time_in_force": Force.IOC}, Code.BAD_CONDITIONS),
    ({"post_only": True, "minimum_wh": 100}, Code.BAD_CONDITIONS),
    ({"minimum_wh": 600}, Code.BAD_CONDITIONS), ({"minimum_wh": 100, "time_in_force": Force.FOK}, Code.BAD_CONDITIONS),
    ({"display_wh": 150}, Code.BAD_CONDITIONS), ({"display_wh": 600}, Code.BAD_CONDITIONS),
    ({"display_wh": 100, "quantity_wh": 2100}, Code.BAD_CONDITIONS),
    ({"display_wh": 100, "time_in_force": Force.IOC}, Code.BAD_CONDITIONS),
    ({"profile": 1, "side": SELL}, Code.BAD_CONDITIONS), ({"profile": 2}, Code.UNKNOWN_PROFILE),
    ({"display_wh": 100, "quantity_wh": 2000}, OK), ({"profile": 1}, OK), ({"minimum_wh": 500}, OK),
    ({"market": True, "price_mthb_kwh": 0, "side": SELL}, OK),
])
def test_conditions_that_go_together(changes: dict[str, Any], code: Code) -> None:
    chain = trading_chain(1, profiles=(Profile("sun", 1 << Source.SOLAR, 3),))
    [outcome] = chain.do(H[0], evolve(order(chain, 1, BUY, 4000, 500), **changes))
    assert outcome.code is code
    if changes.get("market"):
        assert in_state(chain, outcome).price == 2200


@pytest.mark.parametrize("mode, code, rest", [
    (SelfTrade.CANCEL_NEWEST, Code.SELF_TRADE, (True, 0)), (SelfTrade.CANCEL_OLDEST, OK, (False, 500)),
    (SelfTrade.CANCEL_BOTH, Code.SELF_TRADE, (False, 0))])
def test_self_trade_modes(mode: SelfTrade, code: Code, rest: tuple[bool, int]) -> None:
    chain = trading_chain(1, **FREE)
    [sold] = chain.do(H[0], order(chain, 1, SELL, 4000, 300))
    [bought] = chain.do(H[0], order(chain, 1, BUY, 4000, 500, self_trade=mode))
    assert (bought.code, bought.data[2]) == (code, rest[1])
    assert (queries.order(chain.head, sold.data[0]) is not None) is rest[0]
    assert held(chain, 0) == (4000 * rest[1], 3500 * 300 * rest[0])


def test_an_iceberg_shows_slice_after_slice() -> None:
    chain = trading_chain(3, **FREE)
    [berg] = chain.do(H[0], order(chain, 1, SELL, 4000, 1000, display_wh=300))
    chain.do(H[1], order(chain, 2, SELL, 4000, 100))
    assert (in_state(chain, berg).hidden_wh, in_state(chain, berg).remaining_wh) == (700, 1000)
    assert queries.book(chain.head, chain.window, 0)["asks"] == [[4000, 400, 2]]
    chain.do(H[2], order(chain, 3, BUY, 4000, 400))        # its slice, and the other order, which is earlier by now
    trades = [fill.trade for fill in chain.results[-1].trades]
    assert [(trade.sell_meter, trade.delivered_wh) for trade in trades] == [(1, 300), (2, 100)]
    left = in_state(chain, berg)
    assert (left.remaining_wh, left.hidden_wh) == (700, 400)
    assert left.sequence > berg.data[0] & 0xFF


def test_one_order_takes_several_slices_of_an_iceberg() -> None:
    chain = trading_chain(3, **FREE)
    [berg] = chain.do(H[0], order(chain, 1, SELL, 4000, 1000, display_wh=300))
    [taken] = chain.do(H[2], order(chain, 3, BUY, 4000, 800))
    assert taken.data[1] == 800
    assert [fill.trade.delivered_wh for fill in chain.results[-1].trades] == [300, 300, 200]
    left = in_state(chain, berg)
    assert (left.remaining_wh, left.hidden_wh) == (200, 100)
    [rest] = chain.do(H[2], order(chain, 3, BUY, 4000, 200))
    assert rest.data[1] == 200
    assert queries.order(chain.head, berg.data[0]) is None


def test_filters_by_source_and_zone() -> None:
    sun, south = Profile("sun", 1 << Source.SOLAR, 0b11), Profile("south", 0xFF, 0b10)
    chain = trading_chain(4, profiles=(sun, south), zones=2, lines=((0, 1, 10**6, 10**6, 0, 0),), **FREE)
    chain.do(H[0], order(chain, 1, SELL, 4000, 300))           # North
    [none] = chain.do(H[2], order(chain, 3, BUY, 5000, 100, profile=2, time_in_force=Force.IOC))
    assert none.data[1] == 0
    chain.do(H[1], order(chain, 2, SELL, 4500, 300))           # South
    [some] = chain.do(H[2], order(chain, 3, BUY, 5000, 100, profile=2, time_in_force=Force.IOC))
    assert some.data[1] == 100
    trade = chain.results[-1].trades[0].trade
    assert (trade.sell_zone, trade.profile, trade.source, trade.price) == (1, 2, Source.SOLAR, 4500)
    [resting] = chain.do(H[2], order(chain, 3, BUY, 3900, 100, profile=1))
    assert in_state(chain, resting).profile == 1


def test_what_is_sold_beyond_the_injection_capacity_is_mixed() -> None:
    chain = trading_chain(3, injection_w=4_000, profiles=(Profile("sun", 1 << Source.SOLAR, 0b11),), **FREE)
    chain.do(H[1], order(chain, 2, SELL, 4000, 500))
    chain.do(H[0], order(chain, 1, BUY, 4000, 500))
    outcomes = chain.do(H[0], order(chain, 1, SELL, 5000, 800), order(chain, 1, SELL, 5000, 200),
                        order(chain, 1, SELL, 5000, 100))
    assert [in_state(chain, outcome).source for outcome in outcomes] == [Source.SOLAR, Source.SOLAR, Source.MIXED]
    [none] = chain.do(H[2], order(chain, 3, BUY, 5000, 1500, profile=1))
    assert none.data[1] == 1000
    [refused] = chain.do(H[0], AmendOrder(outcomes[2].data[0], 5000, 600))     # mixed, but only 500 were bought
    assert refused.code is Code.NO_CAPACITY
    [amended] = chain.do(H[0], AmendOrder(outcomes[2].data[0], 5010, 500))
    assert (amended.code, in_state(chain, amended).source) == (OK, Source.MIXED)


def test_an_amend_does_not_bring_its_source_beyond_the_injection_capacity() -> None:
    chain = trading_chain(2, injection_w=4_000, **FREE)
    chain.do(H[1], order(chain, 2, SELL, 4000, 500))
    chain.do(H[0], order(chain, 1, BUY, 4000, 500))
    [placed] = chain.do(H[0], order(chain, 1, SELL, 5000, 900))
    outcomes = [chain.do(H[0], AmendOrder(placed.data[0], 5000, total))[0] for total in (1100, 1000)]
    assert [outcome.code for outcome in outcomes] == [Code.NO_CAPACITY, OK]


# ------------------------------------------------------------------ amend


def test_amends_charge_and_credit_the_difference() -> None:
    chain = trading_chain(1)
    [placed] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    number, start = placed.data[0], chain.account(H[0])
    first = in_state(chain, placed)

    def escrow(price: int, quantity: int) -> int:
        return buy_escrow(price, quantity, 5000, 70_000)

    [less] = chain.do(H[0], AmendOrder(number, 4000, 800))
    assert (less.code, less.data) == (OK, (number, 0, 800, 0))
    assert in_state(chain, placed).sequence == first.sequence       # keeps its place
    assert chain.account(H[0]).bids == escrow(4000, 800)
    [more] = chain.do(H[0], AmendOrder(number, 4500, 900))
    assert more.data == (number, 0, 900, 0)
    changed = in_state(chain, placed)
    assert changed.sequence > first.sequence
    assert (changed.price, changed.quantity_wh, changed.remaining_wh) == (4500, 900, 900)
    account = chain.account(H[0])
    assert (account.bids, account.balance) == (escrow(4500, 900), start.balance + start.bids - 2 * FEE
                                               - escrow(4500, 900))
    position = queries.position(chain.head, 1, chain.window)
    assert position is not None
    assert position["open_buy_wh"] == 900
    [gone] = chain.do(H[0], AmendOrder(number, 4500, 0))
    assert (gone.code, gone.data) == (OK, (number, 0, 0, 900))
    assert held(chain, 0) == (0, 0)


def test_an_amend_counts_the_filled_part_and_may_trade() -> None:
    chain = offered()
    [bought] = chain.do(H[1], order(chain, 2, BUY, 4000, 500))          # 300 filled
    chain.do(H[0], order(chain, 1, SELL, 4200, 1000))
    [amended] = chain.do(H[1], AmendOrder(bought.data[0], 4200, 700))
    assert amended.data == (bought.data[0], 400, 0, 0)
    assert queries.order(chain.head, bought.data[0]) is None
    assert held(chain, 1) == (0, 0)
    position = queries.position(chain.head, 2, chain.window)
    assert position is not None
    assert (position["bought_wh"], position["open_buy_wh"]) == (700, 0)
    [again] = chain.do(H[1], order(chain, 2, BUY, 4100, 500))
    [refused] = chain.do(H[1], AmendOrder(again.data[0], 4200, 600, post_only=True))
    assert (refused.code, refused.data) == (Code.WOULD_TRADE, ())
    assert in_state(chain, again).price == 4100                         # a refused amend changes nothing
    assert held(chain, 1) == (4100 * 500, 0)


def test_refused_amends() -> None:
    chain = trading_chain(2, money=5 * THB, **FREE)
    [placed] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    [berg] = chain.do(H[0], order(chain, 1, SELL, 7500, 2000, display_wh=100))
    number = placed.data[0]
    before = chain.account(H[0])
    outcomes = chain.do(H[0], AmendOrder(number, 4005, 500), AmendOrder(number, 9000, 500),
                        AmendOrder(number, 4000, 50), AmendOrder(number, 4000, 20_000),
                        AmendOrder(number, 7000, 1000), AmendOrder(7, 4000, 100), AmendOrder(berg.data[0], 7500, 2100))
    assert [outcome.code for outcome in outcomes] == [
        Code.OUT_OF_TICK, Code.OUT_OF_BAND, Code.OUT_OF_LOT, Code.NO_CAPACITY, Code.UNFUNDED, Code.UNKNOWN_ORDER,
        Code.BAD_CONDITIONS]
    [other] = chain.do(H[1], AmendOrder(number, 4000, 500))
    assert other.code is Code.UNKNOWN_ORDER
    after = chain.account(H[0])
    assert after == evolve(before, nonce=after.nonce, balance=before.balance - FEE, height=after.height)


def test_sales_are_amended_with_their_collateral() -> None:
    chain = trading_chain(1, **FREE)
    [placed] = chain.do(H[0], order(chain, 1, SELL, 5000, 1000))
    assert held(chain, 0) == (0, 2500 * 1000)
    chain.do(H[0], AmendOrder(placed.data[0], 4000, 1200))
    assert held(chain, 0) == (0, 3500 * 1200)
    chain.do(H[0], AmendOrder(placed.data[0], 7500, 600))
    assert held(chain, 0) == (0, 0)
    chain.do(H[0], CancelOrder(placed.data[0]))
    assert held(chain, 0) == (0, 0)


def test_several_amends_of_an_order_in_one_block() -> None:
    """Each is held for by itself, whatever the engine makes of the others; what is not needed comes back."""
    chain = trading_chain(2, **FREE)
    [placed] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    [sale] = chain.do(H[1], order(chain, 2, SELL, 7000, 600))
    number, fresh = placed.data[0], spaces.order_id(chain.window, 3)
    start = chain.account(H[0])
    sent = [chain.send(H[0], AmendOrder(number, 4100, 1500), AmendOrder(number, 3900, 2000),
                       AmendOrder(number, 3900, 700), order(chain, 1, BUY, 3000, 100)),
            chain.send(H[0], AmendOrder(fresh, 3100, 300)), chain.send(H[1], AmendOrder(sale.data[0], 3900, 600))]
    chain.block()
    assert [outcome.code for outcome in chain.outcomes(*sent)] == [OK] * 6
    [fill] = [fill.trade for fill in chain.results[-1].trades]
    assert fill.delivered_wh == 600
    rests = 3900 * 100 + 3100 * 300 if queries.order(chain.head, number) is not None else 3100 * 300
    assert chain.account(H[0]).bids == rests
    assert chain.account(H[0]).total == start.total - 2 * FEE - fill.value_uthb


def test_trades_carry_the_source() -> None:
    chain = offered()
    chain.do(H[1], order(chain, 2, BUY, 4000, 100))
    assert Trade.decode(chain.head.get(spaces.trade(chain.window, 0)) or b"").source == Source.SOLAR
