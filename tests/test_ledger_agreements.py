"""Bilateral trades, and groups of cancels and post-only orders: all or nothing, funded by what they free."""

from __future__ import annotations

from typing import Any, Final

import pytest
from attrs import evolve
from ledger_support import FEE, OPERATOR, THB, Chain, key, trading_chain

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.grid.kinds import Source, TradeKind
from gridtokenx.ledger import queries, spaces
from gridtokenx.ledger.admission import admit
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.operations import CancelOrder, Operation, PlaceOrder, SetAccountKeys
from gridtokenx.ledger.operations.bilateral_trade import BilateralTrade
from gridtokenx.ledger.operations.grid import HaltWindows
from gridtokenx.ledger.receipts import Code, Outcome, Refused
from gridtokenx.ledger.records import CorridorWindow, Market, Trade
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING
from gridtokenx.market.agreements import Agreement
from gridtokenx.market.money import fee_and_vat
from gridtokenx.market.orders import Side

H = [key(f"house {number}") for number in range(8)]
BUY, SELL = Side.BUY, Side.SELL
OK: Final = Code.OK
FREE: Final[dict[str, Any]] = {"loss_ppm": 0, "wheel": 0, "fee_ppm": 0, "supply": SupplyRates(vat_ppm=0)}
LINES = ((0, 1, 8_000, 0, 10_000, 200_000),)


def order(chain: Chain, meter: int, side: Side, price: int, quantity: int, **options: Any) -> PlaceOrder:
    return PlaceOrder(meter, chain.window, side, price, quantity, **options)


def signed(chain: Chain, terms: Agreement, *signers: PrivateKey) -> BilateralTrade:
    return BilateralTrade(terms, tuple(terms.sign(signer, chain.genesis.chain_id) for signer in signers))


# ------------------------------------------------------------------ bilateral trades


def two_zones(**options: Any) -> tuple[Chain, Agreement]:
    """House 0 in the north sells to house 1 in the south, at a tenth of the band."""
    chain = trading_chain(3, **{"zones": 2, "lines": LINES, "loss_ppm": 20_000, "wheel": 100_000, **options})
    return chain, Agreement(1, 2, chain.window, 250, 1000, (0,), 1000, b"")


def test_a_bilateral_trade_to_the_last_unit() -> None:
    chain, terms = two_zones()
    start = [chain.account(house) for house in H[:2]]
    [done] = chain.do(H[0], signed(chain, terms, H[1]))
    injected = -(-1000 * 10**6 // (10**6 - 50_000))
    assert (done.code, done.data[1:]) == (OK, (1000, injected))
    trade = Trade.decode(chain.head.get(spaces.trade(terms.window, 0)) or b"")
    assert (trade.kind, trade.path, trade.source, trade.price) == (TradeKind.BILATERAL, (0,), Source.SOLAR, 250)
    assert (trade.buy_order, trade.sell_order, trade.wheel_uthb) == (done.data[0], done.data[0], 400_000)
    fee, vat = fee_and_vat(250 * injected + 400_000, 1 << 60, 5000, 70_000)
    assert (trade.fee_uthb, trade.vat_uthb) == (fee, vat)
    seller, buyer = chain.account(H[0]), chain.account(H[1])
    assert buyer.balance == start[1].balance - 250 * injected - 400_000 - fee - vat
    assert (buyer.bids, seller.proceeds, seller.collateral) == (0, 250 * injected, (7654 - 250) * injected)
    place = spaces.corridor_window(terms.window, 0)
    assert CorridorWindow.decode(chain.head.get(place) or b"") == CorridorWindow(2000, 0, 2000 - injected, 1000)
    sold, bought = (queries.position(chain.head, meter, terms.window) or {} for meter in (1, 2))
    assert (sold["sold_wh"], sold["open_sell_wh"], bought["bought_wh"], bought["open_buy_wh"]) == (injected, 0, 1000, 0)
    raw = chain.head.get(spaces.market(terms.window, 1))
    assert raw is None or Market.decode(raw).trades == 0           # it moves no market price


def test_a_counterparty_that_owes_too_much_trades_in_nobodys_transaction() -> None:
    chain, terms = two_zones(money=30 * THB)
    chain.settle(chain.settling.window, {2: (0, 10_000)})
    assert chain.account(H[1]).dues > chain.account(H[1]).balance == 0
    late = evolve(terms, window=chain.window, price_mthb_kwh=0)
    assert [outcome.code for outcome in chain.do(H[0], signed(chain, late, H[1]))] == [Code.DUES]


def test_agreed_once() -> None:
    chain, terms = two_zones()
    [first] = chain.do(H[1], signed(chain, terms, H[0]))           # the buyer may send it as well
    again = evolve(terms, salt=b"2", delivered_wh=100)
    outcomes = chain.do(H[0], signed(chain, terms, H[1]), signed(chain, again, H[1]))
    assert [first.code, *(outcome.code for outcome in outcomes)] == [OK, Code.AGREED_ALREADY, OK]


def test_refused_agreements() -> None:
    chain, terms = two_zones()
    foreign = (terms.sign(H[1], bytes(32)),)
    cases: list[tuple[BilateralTrade, Code]] = [
        (signed(chain, terms), Code.BAD_AGREEMENT), (signed(chain, terms, H[2]), Code.BAD_AGREEMENT),
        (signed(chain, terms, H[1], H[2]), Code.BAD_AGREEMENT), (signed(chain, terms, H[1], H[1]), Code.BAD_AGREEMENT),
        (evolve(signed(chain, terms, H[1]), terms=evolve(terms, price_mthb_kwh=260)), Code.BAD_AGREEMENT),
        (BilateralTrade(terms, foreign), Code.BAD_AGREEMENT),
        (signed(chain, evolve(terms, until_height=2), H[1]), Code.BAD_AGREEMENT),
        (signed(chain, evolve(terms, buy_meter=1)), Code.BAD_AGREEMENT),
        (signed(chain, evolve(terms, sell_meter=3), H[1]), Code.NOT_METER_OWNER),
        (signed(chain, evolve(terms, buy_meter=9), H[1]), Code.UNKNOWN_METER),
        (signed(chain, evolve(terms, path=()), H[1]), Code.NO_PATH),
        (signed(chain, evolve(terms, path=(1,)), H[1]), Code.NO_PATH),
        (signed(chain, evolve(terms, path=(0, 0)), H[1]), Code.NO_PATH),
        (signed(chain, evolve(terms, price_mthb_kwh=255), H[1]), Code.OUT_OF_TICK),
        (signed(chain, evolve(terms, delivered_wh=150), H[1]), Code.OUT_OF_LOT),
        (signed(chain, evolve(terms, delivered_wh=9_900), H[1]), Code.NO_CAPACITY),
        (signed(chain, evolve(terms, window=terms.window - 9), H[1]), Code.WINDOW_CLOSED),
        (signed(chain, evolve(terms, delivered_wh=2_000), H[1]), Code.NO_RESIDUAL),
    ]
    before = [chain.account(house) for house in H[:2]]
    outcomes = chain.do(H[0], *[operation for operation, _ in cases])
    assert [outcome.code for outcome in outcomes] == [code for _, code in cases]
    for house, account in zip(H, before, strict=False):
        after = chain.account(house)
        assert (after.bids, after.collateral, after.total) == (0, 0, account.total - FEE * (house is H[0]))
    assert not list(chain.head.scan(spaces.agreement(terms.window)))
    [again] = chain.do(H[0], signed(chain, terms, H[1]))
    assert again.code is OK


def test_own_meters_need_no_second_signature_and_thresholds_hold() -> None:
    chain, terms = two_zones()
    chain.do(H[1], SetAccountKeys(2, tuple(sorted(key(name).public for name in "abc"))))
    outcomes = chain.do(H[0], signed(chain, terms, H[1]), signed(chain, terms, key("a")),
                        signed(chain, terms, key("a"), key("c")))
    assert [outcome.code for outcome in outcomes] == [Code.BAD_AGREEMENT, Code.BAD_AGREEMENT, OK]


# ------------------------------------------------------------------ groups


def group(chain: Chain, who: PrivateKey, *operations: Operation) -> list[Outcome]:
    return chain.do(who, *operations, flags=FLAG_ALL_OR_NOTHING)


def test_a_group_is_funded_by_its_own_cancels() -> None:
    chain = trading_chain(2, money=4_400_000, injection_w=4_000, withdrawal_w=4_000, **FREE)
    [bid] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    plain = chain.do(H[0], CancelOrder(bid.data[0]), order(chain, 1, BUY, 4050, 1000, post_only=True))
    assert plain[1].code is Code.NO_CAPACITY                    # what is freed counts from the next block on ...
    [bid] = chain.do(H[0], order(chain, 1, BUY, 3900, 1000))
    outcomes = group(chain, H[0], CancelOrder(bid.data[0]), order(chain, 1, BUY, 3950, 600, post_only=True),
                     order(chain, 1, BUY, 3900, 400, post_only=True))
    assert [outcome.code for outcome in outcomes] == [OK, OK, OK]      # ... but within a group at once
    account = chain.account(H[0])
    assert account.bids == 3950 * 600 + 3900 * 400
    assert account.total == 4_400_000 - 4 * FEE
    position = queries.position(chain.head, 1, chain.window)
    assert position is not None
    assert (position["open_buy_wh"], position["free_buy_wh"]) == (1000, 0)
    numbers = [outcome.data[0] for outcome in outcomes[1:]]
    refused = group(chain, H[0], CancelOrder(numbers[0]), order(chain, 1, BUY, 5000, 600, post_only=True))
    assert [outcome.code for outcome in refused] == [Code.NOT_APPLIED, Code.UNFUNDED]


def test_a_group_happens_whole_or_not_at_all() -> None:
    chain = trading_chain(2, **FREE)
    chain.do(H[1], order(chain, 2, SELL, 4100, 500))
    [bid] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    [sale] = chain.do(H[0], order(chain, 1, SELL, 5000, 300))
    before = chain.account(H[0])
    refused = group(chain, H[0], CancelOrder(sale.data[0]), CancelOrder(bid.data[0]),
                    order(chain, 1, SELL, 4900, 300, post_only=True), order(chain, 1, BUY, 4100, 1000, post_only=True))
    assert [outcome.code for outcome in refused] == [Code.NOT_APPLIED] * 3 + [Code.WOULD_TRADE]
    after = chain.account(H[0])
    assert (after.bids, after.collateral, after.total) == (before.bids, before.collateral, before.total - FEE)
    assert sorted(o["order"] for o in queries.open_orders(chain.head, H[0].public)) == sorted(
        [bid.data[0], sale.data[0]])
    done = group(chain, H[0], CancelOrder(sale.data[0]), CancelOrder(bid.data[0]),
                 order(chain, 1, SELL, 4900, 300, post_only=True), order(chain, 1, BUY, 4050, 1000, post_only=True))
    assert [outcome.code for outcome in done] == [OK] * 4
    assert chain.account(H[0]).collateral == 2600 * 300
    assert chain.account(H[0]).bids == 4050 * 1000


def test_a_group_whose_order_was_filled_in_the_block_is_refused() -> None:
    """Its cancel frees less than was counted on. Who comes first is the order of senders."""
    chain = trading_chain(2, money=6 * THB, **FREE)
    [bid] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    sent = chain.send(H[0], CancelOrder(bid.data[0]), order(chain, 1, BUY, 3990, 1000, post_only=True),
                      flags=FLAG_ALL_OR_NOTHING)
    taken = chain.send(H[1], order(chain, 2, SELL, 4000, 200))
    chain.block()
    filled = chain.outcomes(taken)[0].data[1]
    codes = [outcome.code for outcome in chain.outcomes(sent)]
    assert codes == ([Code.ORDER_CHANGED, Code.NOT_APPLIED] if filled else [OK, OK])
    assert chain.account(H[0]).bids == (4000 * 800 if filled else 3990 * 1000)


@pytest.mark.parametrize("kinds", ["pc", "p!", "ct", "h"])
def test_what_is_no_group(kinds: str) -> None:
    chain = trading_chain(1, **FREE)
    [bid] = chain.do(H[0], order(chain, 1, BUY, 4000, 1000))
    parts: dict[str, Operation] = {
        "c": CancelOrder(bid.data[0]), "p": order(chain, 1, BUY, 3000, 100, post_only=True),
        "!": order(chain, 1, BUY, 3000, 100), "t": SetAccountKeys(0, ()), "h": HaltWindows(1, 1, True)}
    outcomes = group(chain, OPERATOR if kinds == "h" else H[0], *[parts[kind] for kind in kinds]) if kinds != "h" else (
        group(chain, H[0], parts["h"]))
    assert Code.ORDER_IN_ALL_OR_NOTHING in [outcome.code for outcome in outcomes]
    assert queries.order(chain.head, bid.data[0]) is not None
    with pytest.raises(Refused) as refused:
        admit(chain.head, chain.transaction(H[0], *[parts[kind] for kind in kinds], flags=FLAG_ALL_OR_NOTHING),
              chain.head.header.height + 1)
    assert refused.value.code is Code.ORDER_IN_ALL_OR_NOTHING
