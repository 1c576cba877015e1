"""Settlement of windows against readings (MARKET 7): bills to the unit, estimates, dues, corrections, halts, balances.

The first test is the worked example of docs/settlement.md.
"""

from __future__ import annotations

import pytest
from ledger_support import FEE, ISSUER, OPERATOR, REGISTRAR, REGULATOR, START_MS, TAX, THB, Chain, key, trading_chain

from gridtokenx.grid.kinds import Role
from gridtokenx.ledger import spaces
from gridtokenx.ledger.admission import Admission
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.metering_records import (
    Balance,
    Correction,
    Due,
    Energy,
    Flag,
    Lot,
    Settlement,
)
from gridtokenx.ledger.operations import (
    CancelOrder,
    Deposit,
    PlaceOrder,
    PublishRate,
    RegisterBoundaryMeter,
    RegisterParticipant,
    ReportReadings,
    Transfer,
)
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.tariff_records import Series
from gridtokenx.market.bills import cover, estimated_withdrawal, long_price, short_price
from gridtokenx.market.clearing import clear_window, forget_window
from gridtokenx.market.clock import READINGS_AFTER_MS, WINDOW_MS, final_ms, settles_ms
from gridtokenx.market.deadlines import deadline_ms
from gridtokenx.market.orders import BUY, SELL, Side
from gridtokenx.market.rates import window_rates
from gridtokenx.market.readings import report
from gridtokenx.market.rules import BillRule
from gridtokenx.market.work import Work
from gridtokenx.node.chain import ChainBlock
from gridtokenx.node.feed import block_push

H = [key(f"house {number}") for number in range(4)]
UTILITY = key("utility North")
PEAK, FT, BUY_BACK = 5_798_200, 162_300, 2_200_000      # uTHB/kWh
SHORT = 7_152_600                                       # (5.7982 + 0.1623) x 1.2


def order(chain: Chain, meter: int, side: Side, price: int, quantity: int, window: int | None = None) -> PlaceOrder:
    return PlaceOrder(meter, chain.window if window is None else window, side, price, quantity)


def bill(chain: Chain, window: int, meter: int) -> Settlement:
    return Settlement.decode(chain.head.get(spaces.settlement(window, meter)) or b"")


def balance_of(chain: Chain, window: int, zone: int = 0) -> Balance:
    return Balance.decode(chain.head.get(spaces.balance(window, zone)) or b"")


def energy_of(chain: Chain, house: int) -> Energy:
    return Energy.decode(chain.head.get(spaces.energy(H[house].public)) or b"")


def owed(chain: Chain, house: int, utility: bytes = UTILITY.public) -> int:
    raw = chain.head.get(spaces.due(H[house].public, utility))
    return 0 if raw is None else Due.decode(raw).amount_uthb


def traded(**options: int) -> tuple[Chain, int]:
    """Meter 1 has sold 825 Wh to meter 2, which gets 800 (docs/market.md, worked example)."""
    chain = trading_chain(2, **options)
    chain.do(H[0], order(chain, 1, SELL, 4500, 1000))
    chain.do(H[1], order(chain, 2, BUY, 5000, 800))
    return chain, chain.window


def test_the_worked_example_to_the_last_unit() -> None:
    chain, window = traded()
    before = [chain.account(house).balance for house in H[:2]]
    held = chain.account(H[0])
    assert (held.proceeds, held.locked) == (3_712_500, 3_154_000)
    # The seller produced 700 of 825 Wh, used 300; the buyer used 1 200, bought 800 and its panel gave 50.
    chain.settle(window, {1: (700, 300), 2: (50, 1_200)})
    seller, buyer = bill(chain, window, 1), bill(chain, window, 2)
    assert (seller.sold, seller.bought, seller.supplied, seller.taken) == (825, 0, 300 + 125, 0)
    assert (buyer.sold, buyer.bought, buyer.supplied, buyer.taken) == (0, 800, 400, 50)
    assert seller.lines == (
        (BillRule.SALE, 825, 0, -3_712_500),
        (BillRule.ENERGY, 300, PEAK, 1_739_460), (BillRule.FT, 300, FT, 48_690),
        (BillRule.SUPPLY_VAT, 300, 70_000, 125_171),            # 1 788 150 x 7 % = 125 170.5
        (BillRule.SHORTFALL, 125, SHORT, 894_075),
        (BillRule.SHORTFALL_VAT, 125, 70_000, 62_585))          # 62 585.25
    assert buyer.lines == (
        (BillRule.PURCHASE, 800, 0, 3_712_500), (BillRule.WHEELING, 800, 0, 80_000),
        (BillRule.TRADE_FEE, 800, 0, 18_963), (BillRule.TRADE_VAT, 800, 0, 266_802),
        (BillRule.ENERGY, 400, PEAK, 2_319_280), (BillRule.FT, 400, FT, 64_920),
        (BillRule.SUPPLY_VAT, 400, 70_000, 166_894), (BillRule.BUY_BACK, 50, BUY_BACK, -110_000))
    # Money: the readings' own transactions were the registrar's.
    paid = 1_739_460 + 48_690 + 125_171 + 894_075 + 62_585
    assert chain.account(H[0]).balance == before[0] + 3_154_000 + 3_712_500 - paid
    # what was left of the buyer's bid came back after its block, before `before` was read
    assert chain.account(H[1]).balance == before[1] - (2_319_280 + 64_920 + 166_894 - 110_000)
    account = chain.account(H[0])
    assert (account.proceeds, account.collateral, account.locked, account.dues) == (0, 0, 0, 0)
    assert chain.account(key("network North")).balance == 80_000
    assert chain.account(OPERATOR).proceeds == chain.account(TAX).proceeds == 0
    assert chain.account(TAX).balance == 266_802 + 125_171 + 62_585 + 166_894
    assert chain.account(UTILITY).balance == 1_739_460 + 48_690 + 894_075 + 2_319_280 + 64_920 - 110_000
    # Energy: minted + supplied = consumed + lost + taken.
    zone = balance_of(chain, window)
    assert (zone.minted, zone.supplied, zone.consumed, zone.losses, zone.taken) == (750, 825, 1_500, 25, 50)
    assert zone.minted + zone.supplied == zone.consumed + zone.losses + zone.taken
    assert energy_of(chain, 0) == Energy(700, 825, 0, 300, 425, 0)
    assert energy_of(chain, 1) == Energy(50, 0, 800, 1_200, 400, 50)
    assert Lot.decode(chain.head.get(spaces.lot(window, 1)) or b"") == Lot(0, 1, 700, 700)
    assert Lot.decode(chain.head.get(spaces.lot(window, 2)) or b"") == Lot(0, 1, 50, 0)
    assert chain.head.get(spaces.traded(window, 1)) is None


@pytest.mark.parametrize("i, w, b, s, expected", [
    (0, 0, 0, 0, (0, 0, 0, 0)), (5, 3, 0, 0, (3, 5, 0, 0)),     # registers do not offset each other
    (700, 300, 0, 825, (300, 0, 125, 0)), (50, 1200, 800, 0, (400, 50, 0, 0)),
    (100, 50, 30, 120, (40, 0, 0, 0)),      # 20 of the 30 bought are resold, 10 used
    (100, 5, 30, 120, (0, 0, 0, 5)), (100, 7, 30, 150, (7, 0, 20, 0)), (0, 0, 30, 0, (0, 0, 0, 30)),
])
def test_cover(i: int, w: int, b: int, s: int, expected: tuple[int, int, int, int]) -> None:
    """(a), (b), (c), (d) by hand."""
    c = cover(i, w, b, s)
    assert (c.withdrawn_uncovered, c.injected_unsold, c.sold_uncovered, c.bought_unused) == expected
    assert i + b + c.supplied == w + s + c.taken


def test_prices_at_the_edges() -> None:
    assert short_price(5_960_500, 200_000, 2_200_000) == SHORT
    assert short_price(1_000_000, 0, 2_200_000) == 2_200_000
    assert long_price(2_200_000, None) == 2_200_000
    assert (long_price(2_200_000, 2_190), long_price(2_200_000, 2_210)) == (2_190_000, 2_200_000)
    assert (estimated_withdrawal(800, 300, 400, 40_000), estimated_withdrawal(800, 300, 600, 40_000)) == (500, 600)
    assert (estimated_withdrawal(0, 0, None, 40_003), estimated_withdrawal(0, 300, 7, 40_000)) == (10_000, 7)


def test_energy_bought_and_not_used_is_paid_the_lowest_price() -> None:
    chain = trading_chain(2, loss_ppm=0, wheel=0)
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, 2200, 500))
    chain.do(H[1], order(chain, 2, BUY, 5000, 500))
    chain.settle(window, {1: (600, 0), 2: (0, 100)})
    assert balance_of(chain, window).long_uthb_kwh == 2_200_000
    assert bill(chain, window, 2).lines[-1] == (BillRule.SURPLUS, 400, 2_200_000, -880_000)
    assert bill(chain, window, 1).lines[-1] == (BillRule.BUY_BACK, 100, BUY_BACK, -220_000)


def test_every_window_is_settled_with_trade_or_without() -> None:
    chain = trading_chain(3, zones=2)
    first = chain.settling.window
    chain.settle(first + 2, {1: (0, 100), 2: (40, 0)})
    for window in range(first, first + 3):
        assert [chain.head.get(spaces.settlement(window, meter)) is not None for meter in (1, 2, 3)] == [True] * 3
        assert balance_of(chain, window, 0).meters == 2
        assert balance_of(chain, window, 1).meters == 1
    assert chain.head.get(spaces.window(first)) is None
    assert chain.settling.window == first + 3


# ---------------------------------------------------------------- estimates


def test_a_missing_reading_is_estimated() -> None:
    chain = trading_chain(2, rate=2_000, withdrawal_w=4_000, injection_w=4_000)
    first = chain.settling.window
    chain.until(settles_ms(first))
    chain.block()
    found = bill(chain, first, 1)
    assert (found.injected, found.withdrawn, found.quality, found.supplied) == (0, 1_000, 1, 1_000)
    assert balance_of(chain, first).estimated == 2
    # the same quarter-hour of the next days: what was measured counts, estimates do not
    for day, readings in ((1, {1: (0, 250)}), (2, {1: (0, 180)}), (3, {})):
        window = first + 96 * day
        chain.until((window + 1) * WINDOW_MS)
        if readings:
            chain.report(window, readings)
        chain.until(settles_ms(window))
        while chain.settling.window <= window:
            chain.block()
    assert bill(chain, first + 288, 1).withdrawn == 250
    assert bill(chain, first + 288, 2).withdrawn == 1_000


def test_an_estimate_covers_what_was_bought() -> None:
    chain, window = traded(withdrawal_w=4_000)
    chain.until(settles_ms(window))
    chain.block()
    assert bill(chain, window, 2).withdrawn == 1_000        # the capacity
    seller = bill(chain, window, 1)
    assert (seller.injected, seller.sold, seller.quality) == (0, 825, 1)
    assert (BillRule.SHORTFALL, 825, SHORT, 5_900_895) in seller.lines


# ---------------------------------------------------------------- dues


def test_dues_are_borne_by_the_utility_and_paid_first() -> None:
    chain = trading_chain(2, money=1 * THB)
    window = chain.settling.window
    chain.settle(window, {1: (0, 1_000)})
    cost = 5_798_200 + 162_300
    cost += (cost * 7 + 50) // 100
    owes = cost - THB
    account = chain.account(H[0])
    assert (account.balance, account.dues, owed(chain, 0)) == (0, owes, owes)
    assert chain.account(TAX).balance == 417_235
    assert chain.account(UTILITY).balance == 5_960_500 - owes < 5_960_500
    # it may only cancel, and report readings
    chain.do(ISSUER, Transfer(H[0].public, 300_000))
    assert owed(chain, 0) == owes - 300_000 and chain.account(H[0]).balance == 0
    outcomes = chain.do(ISSUER, Transfer(H[0].public, owes - 300_000 + 2 * FEE + 7))
    assert outcomes[0].code is Code.OK
    assert (owed(chain, 0), chain.account(H[0]).dues, chain.account(H[0]).balance) == (0, 0, 2 * FEE + 7)
    assert chain.head.get(spaces.due(H[0].public, UTILITY.public)) is None
    assert [o.code for o in chain.do(H[0], Transfer(H[1].public, 7))] == [Code.OK]


def test_an_account_over_its_limit_may_only_cancel_and_report() -> None:
    chain = trading_chain(2, money=3 * THB, rate=100)
    later = chain.window + 8
    [placed] = chain.do(H[0], order(chain, 1, BUY, 3000, 800, later))
    held = chain.account(H[0]).bids
    window = chain.settling.window
    chain.settle(window, {1: (0, 5_000)})
    account = chain.account(H[0])
    assert account.dues > 0 == account.balance and account.bids == held
    # what comes in pays dues; the fee is paid from what is there meanwhile
    cancelled = CancelOrder(placed.data[0])
    chain.send(ISSUER, Transfer(H[0].public, account.dues + FEE * 3 - 1))
    chain.block()
    assert chain.account(H[0]).balance == FEE * 3 - 1
    chain.settle(window + 1, {1: (0, 5_000)})
    account = chain.account(H[0])
    assert account.dues > 0 == account.balance
    raw = chain.head.get(spaces.account(H[0].public)) or b""
    poor = Account.decode(raw)
    assert poor.spendable == 0
    # a debtor with a fee in hand: its released escrow
    chain.until((later * 900 - 900) * 1000)
    chain.block()
    account = chain.account(H[0])
    assert (account.balance, account.bids) == (held, 0)
    assert account.dues > account.balance
    reading = ReportReadings((chain.signed(1, window + 2, 0, 5_000, revision=1),))
    outcomes = chain.do(H[0], reading, Transfer(H[1].public, 1), cancelled, order(chain, 1, BUY, 3000, 100))
    assert [o.code for o in outcomes] == [Code.OK, Code.DUES, Code.UNKNOWN_ORDER, Code.DUES]


def test_a_credit_limit_lets_an_account_trade_on() -> None:
    chain = trading_chain(2, money=1 * THB, credit=100 * THB)
    chain.settle(chain.settling.window, {1: (0, 1_000)})
    account = chain.account(H[0])
    assert 0 < account.dues < account.credit
    chain.do(ISSUER, Transfer(H[0].public, account.dues + 2 * FEE))
    assert [o.code for o in chain.do(H[0], order(chain, 1, SELL, 4500, 100))] == [Code.OK]


@pytest.mark.parametrize("price", [2_210, 4_500, 7_650, 7_700])
def test_collateral_and_proceeds_cover_a_shortfall_with_its_vat(price: int) -> None:
    """A seller who spends all else and injects nothing owes nothing after it: on-peak short is 7.1526, VAT 7 %."""
    chain = trading_chain(2, loss_ppm=0, wheel=0)
    window = chain.window
    chain.do(H[0], order(chain, 1, SELL, price, 1_000))
    chain.do(H[1], order(chain, 2, BUY, 7_740, 1_000))
    assert chain.account(H[0]).collateral == max(0, 7_654 - price) * 1_000
    chain.do(H[0], Transfer(H[1].public, chain.account(H[0]).balance - FEE))
    assert chain.account(H[0]).balance == 0
    chain.settle(window, {1: (0, 0), 2: (0, 1_000)})
    assert [line[0] for line in bill(chain, window, 1).lines] == [BillRule.SALE, BillRule.SHORTFALL,
                                                                  BillRule.SHORTFALL_VAT]
    account = chain.account(H[0])
    assert account.dues == 0 and account.balance == max(price, 7_654) * 1_000 - 7_152_600 - 500_682


def test_collateral_follows_the_rates_in_force() -> None:
    chain = trading_chain(1)
    since = chain.window + 2
    chain.do(REGULATOR, PublishRate(Series.FT, since, 1_162_300))
    for window, cap in ((since - 1, 7_654), (since, 8_938)):        # (5.7982 + 1.1623) x 1.2 x 1.07 = 8.937282
        before = chain.account(H[0]).collateral
        chain.do(H[0], order(chain, 1, SELL, 5_000, 100, window))
        assert chain.account(H[0]).collateral - before == (cap - 5_000) * 100


def test_a_utility_that_owes_pays_the_least_fees_and_no_more() -> None:
    chain = trading_chain(1)
    chain.do(REGISTRAR, RegisterParticipant(UTILITY.public, "NORTH", Role.UTILITY, 0, 2 * START_MS),
             RegisterBoundaryMeter(2, key("meter 1").public, 0, -1, 400_000, 400_000))
    window = chain.settling.window
    chain.settle(window, {1: (8_000, 0)})
    owing = chain.account(UTILITY).balance
    assert owing == -17_600_000
    reading = ReportReadings((chain.signed(2, window, 0, 8_000, revision=1),))
    least = chain.genesis.parameters.min_fee_uthb
    admission = Admission(chain.head, chain.head.header.height + 1)
    with pytest.raises(Refused) as refused:
        admission.admit(chain.transaction(UTILITY, reading, fee=least + 1))
    assert refused.value.code is Code.UNFUNDED_FEE
    admission.check_fees(UTILITY.public, 20 * least)
    [done] = chain.do(UTILITY, reading, fee=least)
    assert done.code is Code.OK and chain.account(UTILITY).balance == owing - least
    [poor] = chain.do(UTILITY, Transfer(H[0].public, 1), fee=least)
    assert poor.code is Code.UNFUNDED


def test_a_utility_beyond_its_credit_line_is_told_and_stops_nothing() -> None:
    chain = trading_chain(1, utility_credit=30 * THB)
    window = chain.settling.window
    told = []
    for number in range(3):
        chain.settle(window + number, {1: (8_000, 0)})          # buy-back of 17.6 THB
        told.append(chain.results[-1].overdrawn)
        block = ChainBlock(b"", chain.results[-1].header, tuple(chain.transactions[-1]), chain.results[-1])
        assert block_push(block, "EGAT", [])["overdrawn"] == list(told[-1])
    assert chain.account(UTILITY).balance == -3 * 17_600_000
    assert told == [(), (UTILITY.public,), ()]
    assert chain.account(H[0]).balance == 1_000 * THB + 3 * 17_600_000


# ---------------------------------------------------------------- corrections


def test_a_correction_posts_the_differences_at_the_original_prices() -> None:
    chain, window = traded()
    chain.settle(window, {1: (700, 300), 2: (50, 1_200)})
    others = bill(chain, window, 2)
    before = {who.public: chain.account(who).balance for who in (H[0], H[1], UTILITY, TAX)}
    corrected = chain.signed(1, window, 900, 250, revision=1)
    [done] = chain.do(H[1], ReportReadings((corrected,)))
    assert done.code is Code.NOT_COLLECTOR
    before[H[1].public] -= FEE
    [done] = chain.do(H[0], ReportReadings((corrected,)))
    assert (done.code, done.data) == (Code.OK, (1,))
    found = bill(chain, window, 1)
    assert found.lines == (
        (BillRule.SALE, 825, 0, -3_712_500),
        (BillRule.ENERGY, 250, PEAK, 1_449_550), (BillRule.FT, 250, FT, 40_575),
        (BillRule.SUPPLY_VAT, 250, 70_000, 104_309),
        (BillRule.BUY_BACK, 75, BUY_BACK, -165_000))
    assert (found.quality, found.revision) == (2, 1)
    utility = 1_449_550 + 40_575 - 165_000 - (1_739_460 + 48_690 + 894_075)
    tax = 104_309 - 125_171 - 62_585
    assert chain.account(UTILITY).balance == before[UTILITY.public] + utility
    assert chain.account(TAX).balance == before[TAX.public] + tax
    assert chain.account(H[0]).balance == before[H[0].public] - FEE - utility - tax
    assert bill(chain, window, 2) == others and chain.account(H[1]).balance == before[H[1].public]
    trail = Correction.decode(chain.head.get(spaces.correction(window, 1, 1)) or b"")
    assert (trail.injected_before, trail.injected_after, trail.withdrawn_before, trail.withdrawn_after,
            trail.paid_uthb) == (700, 900, 300, 250, utility + tax)
    assert Lot.decode(chain.head.get(spaces.lot(window, 1)) or b"") == Lot(0, 1, 900, 825)
    zone = balance_of(chain, window)
    assert (zone.minted, zone.consumed, zone.supplied, zone.taken) == (950, 1_450, 650, 125)
    # once more the same, another value of the same revision, an older one: refused
    codes = [chain.do(H[0], ReportReadings((again,)))[0].code for again in (
        corrected, chain.signed(1, window, 901, 250, revision=1), chain.signed(1, window, 700, 300))]
    assert codes == [Code.READING_KNOWN, Code.READING_CONFLICT, Code.READING_SUPERSEDED]
    # and back
    chain.do(H[0], ReportReadings((chain.signed(1, window, 700, 300, revision=2),)))
    assert bill(chain, window, 1).lines[1:] == (
        (BillRule.ENERGY, 300, PEAK, 1_739_460), (BillRule.FT, 300, FT, 48_690),
        (BillRule.SUPPLY_VAT, 300, 70_000, 125_171),
        (BillRule.SHORTFALL, 125, SHORT, 894_075), (BillRule.SHORTFALL_VAT, 125, 70_000, 62_585))
    assert chain.account(UTILITY).balance == before[UTILITY.public]
    assert chain.account(TAX).balance == before[TAX.public]


def test_a_reading_after_the_deadline_replaces_the_estimate() -> None:
    chain = trading_chain(1, withdrawal_w=4_000)
    window = chain.settling.window
    chain.until(settles_ms(window))
    assert bill(chain, window, 1).withdrawn == 1_000
    before = chain.account(H[0]).balance
    [done] = chain.do(H[0], ReportReadings((chain.signed(1, window, 0, 0),)))
    assert done.code is Code.OK
    assert bill(chain, window, 1).lines == ()
    assert chain.account(H[0]).balance == before - FEE + 5_960_500 + 417_235
    assert balance_of(chain, window).estimated == 0
    assert Correction.decode(chain.head.get(spaces.correction(window, 1, 0)) or b"").quality_before == 1


def test_a_correction_reads_one_class_and_no_boundary_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weight is fixed, so what it reads is too: not all classes, nor all the edges of its zone."""
    chain = with_supply_point()
    window = chain.settling.window
    chain.settle(window, {1: (5_000, 9_700), 2: (0, 9_000), 3: (14_279, 0)})
    read: list[int] = []
    get = Session.get

    def counted(self: Session, place: bytes) -> object:
        read.append(place[0])
        return get(self, place)

    context = open_context(Session(chain.head, chain.head.header.height + 1), chain.genesis.parameters,
                           chain.head.header.timestamp_ms + 200)
    assert len(window_rates(context.session, context.parameters, window).energy) > 1
    monkeypatch.setattr(Session, "get", counted)
    taken = report(context, H[0].public, [chain.signed(1, window, 5_100, 9_700, revision=1)])
    assert taken == ([], 1)
    assert read.count(Space.TARIFF) == 1 and read.count(Space.BOUNDARY) == 0
    b: Balance = context.session.get(spaces.balance(window, 0))
    assert (b.minted, b.imports, b.residual) == (5_100, 14_279, 1 + 100 - 3)
    check_changes(context.session, context.session.changed())


def test_the_tax_account_owes_like_anybody() -> None:
    chain = trading_chain(1, withdrawal_w=4_000)
    window = chain.settling.window
    chain.until(settles_ms(window))
    chain.do(TAX, Transfer(H[0].public, 417_235 - FEE))
    assert chain.account(TAX).balance == 0
    chain.do(H[0], ReportReadings((chain.signed(1, window, 0, 0),)))
    account = chain.account(TAX)
    assert (account.balance, account.dues) == (0, 417_235)


# ---------------------------------------------------------------- bounded pieces, halts, lateness


def test_settlement_goes_on_in_the_next_block() -> None:
    small, large = (trading_chain(8, max_timed_weight=weight) for weight in (1_000, 1_000_000))
    for chain in (small, large):
        window = chain.window
        for house in range(4):
            chain.do(key(f"house {house}"), order(chain, house + 1, SELL, 4000, 1000))
            chain.do(key(f"house {house + 4}"), order(chain, house + 5, BUY, 5000, 900))
        chain.settle(window, {meter: (meter * 300, 900 - meter * 50) for meter in range(1, 9)})
    assert any(result.unfinished for result in small.results)
    assert not any(result.unfinished for result in large.results)
    for meter in range(1, 9):
        assert bill(small, window, meter) == bill(large, window, meter)
        assert small.account(key(f"house {meter - 1}")).balance == large.account(key(f"house {meter - 1}")).balance
    assert balance_of(small, window) == balance_of(large, window)


def test_a_reading_between_deadline_and_sweep_is_a_correction() -> None:
    chain = trading_chain(8, max_timed_weight=1_000, withdrawal_w=4_000)
    window = chain.settling.window
    chain.until(settles_ms(window))
    assert chain.head.get(spaces.settlement(window, 1)) is not None
    assert chain.head.get(spaces.settlement(window, 8)) is None
    late = chain.send(H[0], ReportReadings((chain.signed(1, window, 0, 70),)))
    other = chain.send(key("house 7"), ReportReadings((chain.signed(8, window, 0, 80),)))
    chain.block()
    assert [o.code for o in chain.outcomes(late, other)] == [Code.OK, Code.OK]
    while chain.settling.window == window:
        chain.block()
    for meter, value in ((1, 70), (8, 80)):
        assert bill(chain, window, meter).withdrawn == value
        assert Correction.decode(chain.head.get(spaces.correction(window, meter, 0)) or b"").withdrawn_before == 1_000
    assert not list(chain.head.scan(spaces.late_reading(window)))
    assert balance_of(chain, window).estimated == 6


def test_a_halt_moves_the_deadlines_in_it() -> None:
    chain = trading_chain(1, rate=100)
    window = chain.settling.window
    chain.until(settles_ms(window) - 10_000)
    chain.block(61_000)                             # 6 100 s of market time: seven deadlines, and one that follows
    assert chain.settling.window == window
    moved = chain.now_ms + WINDOW_MS
    chain.report(window + 3, {1: (0, 30)})
    chain.until(moved - 25_000)
    assert chain.settling.window == window
    chain.until(moved)
    assert chain.settling.window == window + 8      # all of them in this block
    assert [bill(chain, window + n, 1).quality for n in range(8)] == [1, 1, 1, 0, 1, 1, 1, 1]
    chain.until(settles_ms(window + 8))
    assert chain.settling.window == window + 9


@pytest.mark.parametrize(("rate", "gap_s"), [(1, 61), (1, 1_200), (1, 4_000), (7, 90), (100, 61)])
def test_a_chain_of_rare_blocks_settles(rate: int, gap_s: int) -> None:
    """Every block ends a halt: a window is settled at most one gap and one window after its deadline."""
    chain = trading_chain(1, rate=rate)
    first = window = chain.settling.window
    gap_ms = gap_s * 1000
    begun = chain.now_ms
    while chain.now_ms < begun + READINGS_AFTER_MS + 12 * WINDOW_MS:
        chain.block(gap_ms)
        while window < chain.settling.window:
            assert chain.now_ms - settles_ms(window) < 2 * rate * gap_ms + WINDOW_MS
            window += 1
    assert window - first >= 8
    assert all(bill(chain, settled, 1).quality == 1 for settled in range(first, window))


def test_a_deadline_moves_once() -> None:
    chain = trading_chain(1, rate=100)
    window = chain.settling.window
    chain.until(settles_ms(window) - 10_000)
    chain.block(61_000)
    moved = chain.now_ms + WINDOW_MS
    chain.report(window, {1: (0, 30)})
    chain.block((moved - chain.now_ms) // 100 + 60_000)     # through the moved deadline and over six further ones
    assert chain.settling.window == window + 8 and bill(chain, window, 1).quality == 0
    assert deadline_ms(chain.settling, window + 8) == chain.now_ms + WINDOW_MS


# ---------------------------------------------------------------- physical balance


def with_supply_point(households: int = 2) -> Chain:
    """A zone whose supply point (meter 3) belongs to a grid operator."""
    chain = trading_chain(households, loss_ppm=30_000)
    grid = key(f"house {households}")
    chain.do(ISSUER, Deposit(grid.public, THB))
    chain.do(REGISTRAR, RegisterParticipant(grid.public, "GRID", Role.GRID_OPERATOR, 0, 2 * START_MS),
             RegisterBoundaryMeter(households + 1, key(f"meter {households}").public, 0, -1, 400_000, 400_000))
    return chain


def test_zone_imbalance_raises_a_flag_and_a_correction_clears_it() -> None:
    chain = with_supply_point()
    window = chain.settling.window
    # 5 000 Wh injected, 66 856 imported: 3 % are lost, 69 700 reach the meters
    chain.settle(window, {1: (5_000, 9_700), 2: (0, 9_000), 3: (14_279, 0)})
    zone = balance_of(chain, window)
    assert (zone.imports, zone.exports, zone.boundary) == (14_279, 0, 1)
    assert zone.residual == 5_000 + 14_279 - 18_700 - 578 == 1
    assert (zone.tolerance, zone.flagged) == (1_000, 0)
    assert chain.head.get(spaces.flag(window, 0)) is None

    chain.settle(window + 1, {1: (5_000, 7_700), 2: (0, 9_000), 3: (14_279, 0)})
    assert balance_of(chain, window + 1).flagged == 1
    flag = Flag.decode(chain.head.get(spaces.flag(window + 1, 0)) or b"")
    assert (flag.residual, flag.tolerance, flag.cleared) == (2_001, 1_000, 0)
    assert chain.results[-1].flags == ((window + 1, 0, 2_001),)
    block = ChainBlock(b"", chain.results[-1].header, (), chain.results[-1])
    assert block_push(block, "EGAT", [])["flags"] == [[window + 1, 0, 2_001]]
    chain.report(window + 1, {1: (5_000, 9_700)}, revision=1)
    assert balance_of(chain, window + 1).residual == 1
    cleared = Flag.decode(chain.head.get(spaces.flag(window + 1, 0)) or b"")
    assert (cleared.residual, cleared.cleared) == (2_001, chain.head.header.height)
    # the boundary meter's own reading can be corrected too
    chain.report(window + 1, {3: (17_279, 0)}, revision=1)
    assert balance_of(chain, window + 1).residual == 5_000 + 17_279 - 18_700 - 668 == 2_911
    assert Flag.decode(chain.head.get(spaces.flag(window + 1, 0)) or b"").cleared == 0
    assert chain.head.get(spaces.settlement(window, 3)) is None         # it has no bill


def test_bills_leave_state_after_their_time() -> None:
    chain, window = traded(bill_keep_days=29)
    chain.settle(window, {1: (700, 300), 2: (50, 1_200)})
    chain.report(window, {1: (800, 300)}, revision=1)
    ends = (window + 1) * WINDOW_MS + 29 * 86_400_000
    assert chain.head.get(spaces.timed(ends, Work.FORGET, window)) is not None
    assert chain.head.get(spaces.timed(final_ms(window), Work.CLEAR, window)) is not None
    session = Session(chain.head, chain.head.header.height + 1)
    context = open_context(session, chain.genesis.parameters, chain.head.header.timestamp_ms + 100)
    assert clear_window(context, window, lambda _: True)
    room = iter([True] * 5 + [False] + [True] * 100)
    assert not forget_window(context, window, lambda _: next(room))
    assert forget_window(context, window, lambda _: next(room))
    check_changes(session, session.changed())
    gone = {Space(key[0]) for key, _, now in session.changed() if now is None}
    assert gone >= {Space.TRADE, Space.POSITION, Space.MARKET, Space.WINDOW, Space.READING, Space.SETTLEMENT,
                    Space.LOT, Space.BALANCE, Space.CORRECTION}
    left = {where[0] for where, _ in chain.head.scan(b"") if where[1:5] == window.to_bytes(4, "big")}
    assert left <= gone
