"""Trade across zones in the ledger: paths, losses, wheeling to every network, capacity in both directions."""

from __future__ import annotations

import pytest
from attrs import evolve
from certificate_support import plant
from ledger_support import FEE, Chain, key, trading_chain

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.execute import execute_block
from gridtokenx.ledger.operations import PlaceOrder
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import CorridorWindow, Trade, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market.clock import final_ms, settles_ms
from gridtokenx.market.money import round_half_up
from gridtokenx.market.orders import Force, Side
from gridtokenx.market.settlement import settle_window
from gridtokenx.market.wheeling import network_parts, path_parts

H = [key(f"house {number}") for number in range(8)]
BUY, SELL = Side.BUY, Side.SELL
# North - South - East in a row: 2000 Wh and 1000 Wh per window as declared, half of it against.
LINES = ((0, 1, 8_000, 4_000, 10_000, 200_300), (1, 2, 4_000, 2_000, 20_000, 300_200))


def chain_of(**options: object) -> Chain:
    """House n lives in zone n modulo 3."""
    return trading_chain(6, **{"zones": 3, "grid": 3, "lines": LINES, "loss_ppm": 5_000, "wheel": 50_100, **options})


def order(chain: Chain, meter: int, side: Side, price: int, quantity: int, force: Force = Force.GOOD_TILL_GATE,
          window: int | None = None) -> PlaceOrder:
    return PlaceOrder(meter, chain.window if window is None else window, side, price, quantity, force)


def corridor(chain: Chain, number: int, window: int | None = None) -> CorridorWindow | None:
    raw = chain.head.get(spaces.corridor_window(chain.window if window is None else window, number))
    return None if raw is None else CorridorWindow.decode(raw)


def test_a_trade_over_two_corridors_to_the_last_unit() -> None:
    chain = chain_of(rate=3_000)
    window = chain.window + 4
    chain.do(H[0], order(chain, 1, SELL, 4000, 1000, window=window))               # North
    [bought] = chain.do(H[2], order(chain, 3, BUY, 6000, 500, window=window))      # East
    assert (bought.code, bought.data[1:]) == (Code.OK, (500, 0, 0))
    loss = 5_000 + 5_000 + 10_000 + 20_000
    injected = -(-500 * 10**6 // (10**6 - loss))
    assert injected == 521
    trade = Trade.decode(chain.head.get(spaces.trade(window, 0)) or b"")
    assert (trade.sell_zone, trade.buy_zone, trade.path) == (0, 2, (0, 1))
    assert (trade.delivered_wh, trade.injected_wh, trade.price) == (500, injected, 4000)
    assert trade.wheel_uthb == round_half_up((2 * 50_100 + 200_300 + 300_200) * 500, 1000) == 300_350
    parts = network_parts(Session(chain.head, 9), trade)
    assert parts == [(key("network North").public, 25_050), (key("network 0").public, 100_150),
                     (key("network 1").public, 150_100), (key("network East").public, 25_050)]
    for network, amount in parts:
        assert chain.account(next(key(n) for n in ("network North", "network 0", "network 1", "network East")
                                  if key(n).public == network)).proceeds == amount
    assert corridor(chain, 0, window) == CorridorWindow(2000, 1000, 2000 - injected, 1000 + 500)
    assert corridor(chain, 1, window) == CorridorWindow(1000, 500, 1000 - injected, 500 + 500)
    assert chain.results[-1].header.market == ((0, 0), (0, 0), (500, 4000 * injected))
    chain.until(settles_ms(window))
    chain.block()
    assert chain.account(key("network 1")).balance == 150_100
    assert chain.account(H[0]).proceeds == 0
    chain.until(final_ms(window))
    chain.block()
    while chain.results[-1].unfinished:
        chain.block()
    assert not list(chain.head.scan(bytes((Space.CORRIDOR_WINDOW,))))


@pytest.mark.parametrize(("seller", "buyer"), [(1, 3), (1, 4)])         # over two corridors, and inside a zone
def test_wheeling_that_no_rate_explains_stops_the_block(seller: int, buyer: int) -> None:
    """Of a trade in state when it is settled, and of the engine's when it is posted; both name the trade."""
    chain = chain_of(rate=3_000)
    window = chain.window + 4
    chain.do(H[seller - 1], order(chain, seller, SELL, 4000, 1000, window=window))
    before = chain.head
    chain.do(H[buyer - 1], order(chain, buyer, BUY, 6000, 500, window=window))
    trade = Trade.decode(chain.head.get(spaces.trade(window, 0)) or b"")
    session = Session(chain.head, 99)
    session.put(spaces.trade(window, 0), evolve(trade, wheel_uthb=trade.wheel_uthb + 1))
    context = open_context(session, chain.genesis.parameters, chain.head.header.timestamp_ms)
    with pytest.raises(InvariantError, match=f"window {window} has {trade.wheel_uthb + 1} uTHB of wheeling.* make it "
                                             f"{trade.wheel_uthb}"):
        settle_window(context, window, lambda _: True)

    chain.head = before             # the engine has the rate of genesis, state another
    plant(chain, {spaces.zone(0): evolve(Zone.decode(chain.head.get(spaces.zone(0)) or b""), wheel_uthb_kwh=50_200)})
    with pytest.raises(InvariantError, match=f"has {trade.wheel_uthb} uTHB of wheeling.* make it"):
        execute_block(chain.head, chain.inputs(), chain.transactions[-1], chain.genesis.books())


def test_parts_round_by_the_cumulative_rate() -> None:
    rates = [(b"a", 333), (b"b", 333), (b"c", 334)]
    assert [amount for _, amount in path_parts(1, rates)] == [0, 1, 0]
    assert [amount for _, amount in path_parts(2, rates)] == [1, 0, 1]
    for quantity in range(1, 200):
        assert sum(amount for _, amount in path_parts(quantity, rates)) == round_half_up(1000 * quantity, 1000)


def test_a_corridor_carries_no_more_than_its_residual() -> None:
    chain = chain_of(loss_ppm=0, wheel=0, lines=((0, 1, 4_000, 2_000, 0, 0),))
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, 4000, 5000))
    [bought] = chain.do(H[1], order(chain, 2, BUY, 6000, 1600))
    assert bought.data[1:] == (1000, 600, 0)
    assert corridor(chain, 0) == CorridorWindow(1000, 500, 0, 1500)
    # What flows the other way gives it back.
    chain.do(H[4], order(chain, 5, SELL, 3000, 1000))              # South: the resting buy of its own zone is first
    chain.do(H[3], order(chain, 4, BUY, 3900, 300))                # North
    assert corridor(chain, 0) == CorridorWindow(1000, 500, 300, 1200)
    chain.do(H[1], order(chain, 2, BUY, 6000, 1600))               # South: 100 of its own zone, then 300 from the north
    assert corridor(chain, 0) == CorridorWindow(1000, 500, 0, 1500)
    trades = [Trade.decode(raw) for _, raw in chain.head.scan(spaces.trade(window))]
    assert [(trade.sell_zone, trade.buy_zone, trade.delivered_wh) for trade in trades] == [
        (0, 1, 1000), (1, 1, 600), (1, 0, 300), (1, 1, 100), (0, 1, 300)]


def test_zones_without_a_corridor_have_books_of_their_own() -> None:
    chain = chain_of(lines=LINES[:1])
    chain.do(H[0], order(chain, 1, SELL, 4000, 1000))
    [bought] = chain.do(H[2], order(chain, 3, BUY, 6000, 500))
    assert bought.data[1:] == (0, 500, 0)


def test_conservation_finds_a_flow_that_no_trade_made_and_one_above_capacity() -> None:
    chain = chain_of()
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, 4000, 1000))
    chain.do(H[2], order(chain, 3, BUY, 6000, 500))
    session = Session(chain.head, chain.head.header.height + 1)
    place = spaces.corridor_window(window, 0)
    now = session.get(place)
    session.put(place, evolve(now, forward_left_wh=now.forward_left_wh + 1))
    with pytest.raises(InvariantError, match=f"corridor 0 as declared in window {window} does not balance"):
        check_changes(session, session.changed())
    session.put(place, now)
    key_of_trade = spaces.trade(window, 1)
    trade = session.get(spaces.trade(window, 0))
    session.put(key_of_trade, evolve(trade, delivered_wh=2000, injected_wh=2100))
    session.put(place, evolve(now, forward_left_wh=now.forward_left_wh - 2100,
                              backward_left_wh=now.backward_left_wh + 2000))
    with pytest.raises(InvariantError, match=r"CORRIDOR_WINDOW .* is impossible"):
        check_changes(session, session.changed())


def test_fees_are_paid_for_across_zones_too() -> None:
    chain = chain_of()
    before = chain.account(H[2]).balance
    chain.do(H[0], order(chain, 1, SELL, 4000, 1000))
    chain.do(H[2], order(chain, 3, BUY, 6000, 500, Force.IOC))
    trade = chain.results[-1].trades[0].trade
    assert chain.account(H[2]).balance == (
        before - FEE - trade.value_uthb - trade.wheel_uthb - trade.fee_uthb - trade.vat_uthb)
