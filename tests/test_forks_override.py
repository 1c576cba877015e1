"""What a researcher may set on a fork: each takes effect, keeps conservation, and refuses what makes no sense."""

from __future__ import annotations

import pytest
from attrs import evolve
from ledger_support import ISSUER, REGISTRAR, START_MS, TAX, THB, genesis, key

import gridtokenx
from gridtokenx.forks import Chain, ForkError
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.market_records import FormerWheeling
from gridtokenx.ledger.metering_records import Balance, Reading, Settlement
from gridtokenx.ledger.operations import Deposit, PlaceOrder, RegisterMeter, RegisterParticipant
from gridtokenx.ledger.parameters import ParameterError
from gridtokenx.ledger.records import CorridorWindow, Market, Meter, Trade
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.tariff_records import Series
from gridtokenx.market.orders import Side
from gridtokenx.market.rules import BillRule

SELLER, BUYER = key("seller").public, key("buyer").public
LINE = (0, 1, 40_000, 40_000, 10_000, 200_000)
LINE_NETWORK = key("network 0").public
ROOF, HOME = 1, 2               # meters: in zone 0 and in zone 1


def people(chain: Chain) -> Chain:
    chain.send(ISSUER, *[Deposit(who, 10_000 * THB) for who in (SELLER, BUYER)])
    chain.send(REGISTRAR, *[RegisterParticipant(who, f"L-{number}", Role.PROSUMER, 0, 2 * START_MS)
                            for number, who in enumerate((SELLER, BUYER), 1)])
    chain.send(REGISTRAR, *[RegisterMeter(number, key(f"their meter {number}").public, number - 1, Network.PEA,
                                          Source.SOLAR, 0, 20_000, 20_000) for number in (1, 2)])
    return chain


@pytest.fixture(scope="module")
def town() -> Chain:
    return people(gridtokenx.new_chain(genesis(rate=180, lines=(LINE,))))


@pytest.fixture
def chain(town: Chain) -> Chain:
    """One roof and one home in two zones, as at the beginning for every test."""
    if not town._points:
        town.snapshot()
    town.revert(1)
    return town


def trade(chain: Chain, window: int, wh: int = 1_000) -> None:
    chain.send(SELLER, PlaceOrder(ROOF, window, Side.SELL, 4_000, wh))
    chain.send(BUYER, PlaceOrder(HOME, window, Side.BUY, 6_500, wh))


def trades(chain: Chain) -> list[Trade]:
    return [fill.trade for block in chain.blocks for fill in block.fills]


def test_a_whole_window_from_order_to_bill(chain: Chain) -> None:
    window = chain.window + 4
    trade(chain, window)
    sold = trades(chain)[-1]
    chain.warp((window + 1) * 900_000)
    chain.report(window, {ROOF: (900, 0), HOME: (0, 1_500)})
    chain.advance(6)
    assert chain.record(spaces.reading(window, ROOF)).injected_wh == 900
    bill: Settlement = chain.record(spaces.settlement(window, HOME))
    assert (bill.withdrawn, bill.bought, bill.supplied) == (1_500, sold.delivered_wh, 1_500 - sold.delivered_wh)
    short: Settlement = chain.record(spaces.settlement(window, ROOF))
    assert [line[:2] for line in short.lines if line[0] == BillRule.SHORTFALL] == [(BillRule.SHORTFALL,
                                                                                  sold.injected_wh - 900)]
    balance: Balance = chain.record(spaces.balance(window, 0))
    assert balance.minted == 900
    audit_totals(chain.head)


def test_meters_get_keys_of_the_fork_when_they_report(chain: Chain) -> None:
    before: Meter = chain.record(spaces.meter(ROOF))
    chain.advance()
    window = chain.window
    with pytest.raises(ForkError, match=f"window {window} is not over"):
        chain.report(window, {ROOF: (1, 2)})
    chain.advance()
    chain.report(window, {ROOF: (1, 2)})
    after: Meter = chain.record(spaces.meter(ROOF))
    assert after.key != before.key
    assert chain.record(spaces.meter_key(before.key)) is None
    reading: Reading = chain.record(spaces.reading(window, ROOF))
    assert (reading.injected_wh, reading.withdrawn_wh) == (1, 2)
    with pytest.raises(ForkError, match="no meter 99"):
        chain.report(window, {99: (0, 0)})
    with pytest.raises(ForkError, match="1 of 2 readings were refused: meter 1 READING_KNOWN"):
        chain.report(window, {ROOF: (1, 2), HOME: (0, 100)})
    with pytest.raises(ForkError, match="2 of 2 readings were refused: meter 1 READING_KNOWN, meter 2 as well"):
        chain.report(window, {ROOF: (1, 2), HOME: (0, 10**6)})


def test_keys_are_given_again_when_a_meter_that_reported_has_another_one(chain: Chain) -> None:
    chain.advance(2)
    start = chain.snapshot()
    chain.report(chain.window - 1, {ROOF: (1, 2), HOME: (0, 3)})
    given = chain.record(spaces.meter(ROOF)).key
    for undo in (lambda: chain.revert(start),
                 lambda: chain.edit(lambda session: session.put(
                     spaces.meter(ROOF), evolve(session.get(spaces.meter(ROOF)), key=key("strange").public)))):
        undo()
        assert chain.record(spaces.meter(ROOF)).key != given
        chain.advance()
        chain.report(chain.window - 1, {ROOF: (1, 2), HOME: (0, 3)})
        assert chain.record(spaces.meter(ROOF)).key == given


def test_balances_are_minted_and_burned(chain: Chain) -> None:
    stranger = key("stranger").public
    for uthb in (5 * THB, 2 * THB, 0):
        chain.override.balance(stranger, uthb)
        assert chain.account(stranger).balance == uthb
        audit_totals(chain.head)
    with pytest.raises(ForkError, match="not below zero"):
        chain.override.balance(stranger, -1)


def test_parameters_apply_to_the_next_block(chain: Chain) -> None:
    chain.override.parameters(fee_ppm=0, min_fee_uthb=5)
    assert (chain.parameters.fee_ppm, chain.parameters.min_fee_uthb) == (0, 5)
    trade(chain, chain.window + 4)
    assert trades(chain)[-1].fee_uthb == 0
    with pytest.raises(ParameterError, match="no parameter 'fee'"):
        chain.override.parameters(fee=1)


def test_rates_and_tariffs_apply_from_the_next_window(chain: Chain) -> None:
    chain.override.series(Series.FT, 1_000_000)
    chain.override.tariff(0, on_peak=9_000_000)
    chain.advance()
    window = chain.window
    chain.advance()
    chain.report(window, {HOME: (0, 1_000)})
    chain.advance(6)
    bill: Settlement = chain.record(spaces.settlement(window, HOME))
    rates = {line[0]: line[2] for line in bill.lines}
    assert (rates[BillRule.ENERGY], rates[BillRule.FT]) == (9_000_000, 1_000_000)
    with pytest.raises(ForkError, match="no tariff class 77"):
        chain.override.tariff(77, on_peak=1)
    with pytest.raises(ForkError, match="a class has on_peak"):
        chain.override.tariff(0, peak=1)
    with pytest.raises(ForkError, match="VAT is 600000"):
        chain.override.series(Series.VAT, 600_000)


def test_other_wheeling_closes_orders_and_prices_the_next(chain: Chain) -> None:
    window = chain.window + 4
    chain.send(BUYER, PlaceOrder(HOME, window, Side.BUY, 4_000, 1_000))
    assert chain.account(BUYER).bids > 0
    trade(chain, window)                        # paid for at the old rates, and settled at them
    dear = trades(chain)[-1]
    held = chain.account(LINE_NETWORK).proceeds
    chain.override.zone(1, wheel_uthb_kwh=0)
    chain.override.corridor(0, wheel_uthb_kwh=70_000, loss_ppm=0)
    chain.override.corridor(0, wheel_uthb_kwh=0)
    former: FormerWheeling = chain.record(spaces.FORMER_WHEELING)
    assert [(place[0], rate) for _, place, rate in former.changes] == [
        (Space.ZONE, 100_000), (Space.CORRIDOR, 200_000), (Space.CORRIDOR, 70_000)]
    assert chain.account(LINE_NETWORK).proceeds == held > 0
    assert chain.account(BUYER).bids == 0
    trade(chain, window)
    cheap = trades(chain)[-1]
    assert cheap.wheel_uthb < dear.wheel_uthb
    assert cheap.delivered_wh - dear.delivered_wh == 10         # the corridor's 1 % is not lost any more
    chain.warp((window + 1) * 900_000)
    chain.report(window, {ROOF: (2_100, 0), HOME: (0, 2_000)})
    chain.advance(8)
    assert chain.account(SELLER).proceeds == 0
    network = chain.account(LINE_NETWORK)
    assert (network.proceeds, network.balance) == (0, held)
    audit_totals(chain.head)
    chain.override.zone(1, wheel_uthb_kwh=5)            # all is settled: no former rate is needed any more
    assert chain.record(spaces.FORMER_WHEELING) is None
    with pytest.raises(ForkError, match="no zone 9"):
        chain.override.zone(9, loss_ppm=1)
    with pytest.raises(ForkError, match="loss_ppm is 900000; 0 to 250000"):
        chain.override.zone(0, loss_ppm=900_000)
    with pytest.raises(ForkError, match="nothing to set"):
        chain.override.zone(0)


def test_a_tripped_corridor_carries_nothing(chain: Chain) -> None:
    window = chain.window + 4
    chain.override.trip(0, range(window, window + 2))
    trade(chain, window)
    assert not trades(chain)
    trade(chain, window + 2)
    assert len(trades(chain)) == 1
    chain.override.capacity(0, range(window, window + 1), 40_000, 40_000)
    chain.flush()
    line: CorridorWindow = chain.record(spaces.corridor_window(window, 0))
    assert line.forward_wh == 10_000 > line.forward_left_wh         # the orders that waited have met
    market: Market = chain.record(spaces.market(window, 1))
    assert market.trades == 1
    audit_totals(chain.head)


def test_what_was_set_is_gone_after_a_revert(chain: Chain) -> None:
    point = chain.snapshot()
    tax = chain.account(TAX).balance
    chain.override.zone(0, loss_ppm=0, wheel_uthb_kwh=0)
    chain.override.corridor(0, loss_ppm=0)
    chain.revert(point)
    trade(chain, chain.window + 4)
    made = trades(chain)[-1]
    assert made.injected_wh > made.delivered_wh and made.wheel_uthb > 0
    assert chain.account(TAX).balance == tax
