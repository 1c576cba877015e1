"""What a client is told at submission, and what it can ask."""

from __future__ import annotations

import pytest
from attrs import evolve
from ledger_support import FEE, ISSUER, THB, Chain, genesis, key, trading_chain

from gridtokenx.ledger import queries
from gridtokenx.ledger.admission import Admission, admit, spendable
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder, Transfer
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING, Transaction
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.orders import Force, Side

H = [key(f"house {number}") for number in range(3)]


def refusal(chain: Chain, transaction: Transaction, **options: bool) -> Code:
    try:
        admit(chain.head, transaction, chain.head.header.height + 1, **options)
    except Refused as refused:
        assert str(refused)
        return refused.code
    return Code.OK


def test_each_mistake_has_its_code() -> None:
    chain = trading_chain(2)
    good = PlaceOrder(1, chain.window, Side.BUY, 5000, 100)
    chain.do(H[0], good)
    cases = [
        (chain.transaction(H[0], good), Code.OK),
        (chain.transactions[-1][0], Code.WRONG_NONCE),
        (chain.transaction(H[0], good, nonce=2_000), Code.WRONG_NONCE),
        (chain.transaction(H[0], good, until=1), Code.EXPIRED),
        (chain.transaction(H[0], good, fee=0), Code.FEE_TOO_LOW),
        (chain.transaction(H[0], good, fee=10**15), Code.UNFUNDED_FEE),
        (chain.transaction(key("nobody"), good), Code.UNFUNDED_FEE),
        (chain.transaction(H[0], good, keys=[H[1]]), Code.WRONG_SIGNERS),
        (chain.transaction(H[0], evolve(good, price_mthb_kwh=5001)), Code.OUT_OF_TICK),
        (chain.transaction(H[0], evolve(good, price_mthb_kwh=9000)), Code.OUT_OF_BAND),
        (chain.transaction(H[0], evolve(good, meter=9)), Code.UNKNOWN_METER),
        (chain.transaction(H[0], evolve(good, window=chain.window - 4)), Code.WINDOW_CLOSED),
        (chain.transaction(H[0], evolve(good, quantity_wh=20_000)), Code.NO_CAPACITY),
        (chain.transaction(H[0], Transfer(H[1].public, 10**15)), Code.UNFUNDED),
        (chain.transaction(H[0], CancelOrder(3)), Code.UNKNOWN_ORDER),
        (chain.transaction(H[0], [77]), Code.UNKNOWN_OPERATION),
        (chain.transaction(H[0], good, flags=FLAG_ALL_OR_NOTHING), Code.ORDER_IN_ALL_OR_NOTHING),
    ]
    assert [refusal(chain, transaction) for transaction, _ in cases] == [code for _, code in cases]


def test_foreign_signatures() -> None:
    chain, other = Chain(genesis()), Chain(genesis(rate=7))
    mine, foreign = (c.transaction(ISSUER, Transfer(H[0].public, 1)) for c in (chain, other))
    assert refusal(chain, mine, verify_signatures=True) is Code.OK
    assert refusal(chain, foreign, verify_signatures=True) is Code.BAD_SIGNATURE


def test_who_has_transactions_pending_is_refused_only_what_they_cannot_cure() -> None:
    chain = trading_chain(1, money=6 * THB)
    order = PlaceOrder(1, chain.window, Side.BUY, 5000, 1000)
    waiting = chain.transaction(H[0], order, order, nonce=5)
    assert refusal(chain, waiting) is Code.OK                  # something before it may bring the money
    assert refusal(chain, chain.transaction(H[0], order, order)) is Code.UNFUNDED
    assert refusal(chain, chain.transaction(H[0], evolve(order, price_mthb_kwh=5001), nonce=5)) is Code.OUT_OF_TICK


def test_one_submission_sees_nothing_of_another() -> None:
    chain = trading_chain(1, money=6 * THB, max_open_orders=100)
    order = PlaceOrder(1, chain.window, Side.BUY, 5000, 1000)
    admission = Admission(chain.head, chain.head.header.height + 1)
    for _ in range(150):
        admission.admit(chain.transaction(H[0], order))
    with pytest.raises(Refused, match="escrow"):
        admission.admit(chain.transaction(H[0], order, order))
    admission.admit(chain.transaction(H[0], order))


def test_a_full_book_is_told_at_submission() -> None:
    chain = trading_chain(1, max_open_orders=100)
    small = PlaceOrder(1, chain.window, Side.BUY, 4000, 100)
    for _ in range(2):
        chain.do(H[0], *[small] * 50)
    assert refusal(chain, chain.transaction(H[0], small)) is Code.BOOK_FULL


def test_admission_changes_nothing() -> None:
    chain = trading_chain(1)
    before = dict(chain.head.scan(b""))
    order = PlaceOrder(1, chain.window, Side.BUY, 5000, 100)
    assert refusal(chain, chain.transaction(H[0], order, Transfer(ISSUER.public, 1))) is Code.OK
    assert dict(chain.head.scan(b"")) == before


def test_queries() -> None:
    chain = trading_chain(3)
    window = chain.window
    chain.do(H[0], PlaceOrder(1, window, Side.SELL, 4500, 1000), PlaceOrder(1, window, Side.SELL, 4600, 200),
             PlaceOrder(1, window, Side.SELL, 4600, 300, Force.GOOD_TILL_TIME, gate_ms(window) - 1000))
    chain.do(H[1], PlaceOrder(2, window, Side.BUY, 4400, 500))
    chain.do(H[2], PlaceOrder(3, window, Side.BUY, 5000, 500))
    left = 1000 - -(-500 * 10**6 // 970_000)
    assert queries.book(chain.head, window, 0) == {
        "window": window, "zone": 0, "bids": [[4400, 500, 1]], "asks": [[4500, left, 1], [4600, 500, 2]]}
    assert queries.book(chain.head, window, 0, 1)["asks"] == [[4500, left, 1]]
    first, second = queries.prices(chain.head, window)
    assert (first["bid_mthb_kwh"], first["ask_mthb_kwh"], first["last_price_mthb_kwh"]) == (4400, 4500, 4500)
    assert (first["traded_wh"], first["trades"], second["trades"], second["last_price_mthb_kwh"]) == (500, 1, 0, None)
    assert (first["band_low_mthb_kwh"], first["band_high_mthb_kwh"]) == (2200, 7748)
    mine = queries.open_orders(chain.head, H[0].public)
    assert [(entry["price_mthb_kwh"], entry["remaining_wh"]) for entry in mine] == [
        (4600, 300), (4500, left), (4600, 200)]                 # first due first
    assert queries.order(chain.head, mine[1]["order"]) == mine[1]
    assert len(queries.open_orders(chain.head, H[0].public, 2)) == 2
    assert queries.order(chain.head, 5) is None
    [trade] = queries.trades(chain.head, window)
    assert (trade["buy_meter"], trade["sell_meter"], trade["delivered_wh"]) == (3, 1, 500)
    account = queries.account(chain.head, H[1].public)
    assert account is not None
    assert account["balance_uthb"] == spendable(chain.head, H[1].public, chain.head.header.height + 1)
    assert account["total_uthb"] == 1_000 * THB - FEE
    assert queries.account(chain.head, bytes(32)) is None
    assert queries.participant(chain.head, bytes(32)) is None
    assert queries.meter(chain.head, 99) is None
    assert queries.position(chain.head, 99, window) is None
    clock = queries.market_clock(chain.head)
    assert (clock.now_ms, clock.rate) == (chain.now_ms, 100)
    assert window in clock.tradable
    assert queries.parameters(chain.head)["fee_ppm"] == 5_000


@pytest.mark.parametrize("limit", [1, 7])
def test_an_account_sees_what_the_next_block_can_spend(limit: int) -> None:
    chain = trading_chain(1)
    [placed] = chain.do(H[0], PlaceOrder(1, chain.window, Side.BUY, 5000, 100 * limit))
    chain.do(H[0], CancelOrder(placed.data[0]))
    account = queries.account(chain.head, H[0].public)
    assert account is not None
    assert account["balance_uthb"] == account["total_uthb"] == 1_000 * THB - 2 * FEE
