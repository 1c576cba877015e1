"""Random streams of orders, cancels and transfers: the ledger against the plain model, and against itself unswept."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_support import FEE, OPERATOR, TAX, THB, Chain, key, trading_chain
from model_ledger import Model, Money

from gridtokenx.ledger import build, queries, spaces
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder, Transfer
from gridtokenx.ledger.records import Position
from gridtokenx.ledger.timed import TimedWork
from gridtokenx.market.clock import window_at
from gridtokenx.market.orders import Force, Side
from gridtokenx.market.positions import settled

HOUSES = 4
MONEY = 30 * THB
INJECTION_W, WITHDRAWAL_W = 20_000, 16_000
OPTIONS: dict[str, int] = {"credit": 3 * THB, "rate": 100, "loss_ppm": 41_000, "wheel": 107_300}

places = st.fixed_dictionaries({
    "kind": st.just("place"), "who": st.integers(0, HOUSES - 1), "ahead": st.integers(2, 4),
    "side": st.sampled_from(Side), "price": st.integers(440, 520).map(lambda tick: tick * 10),
    "quantity": st.integers(1, 30).map(lambda lots: lots * 100),
    "force": st.sampled_from([Force.GOOD_TILL_GATE, Force.GOOD_TILL_GATE, Force.GOOD_TILL_TIME, Force.IOC]),
    "lasts": st.integers(1, 120).map(lambda steps: steps * 10_000), "spoil": st.sampled_from([0] * 12 + [1, 2])})
cancels = st.fixed_dictionaries(
    {"kind": st.just("cancel"), "who": st.integers(0, HOUSES - 1), "nth": st.integers(1, 30)})
transfers = st.fixed_dictionaries({
    "kind": st.just("transfer"), "who": st.integers(0, HOUSES - 1), "to": st.integers(0, HOUSES - 1),
    "amount": st.integers(1, 3 * THB)})
blocks = st.tuples(st.lists(st.one_of(places, places, places, cancels, transfers), max_size=7),
                   st.sampled_from([200, 200, 300, 1_000, 4_000, 9_000]))
streams = st.lists(blocks, min_size=1, max_size=7)


@cache
def prepared() -> Chain:
    return trading_chain(HOUSES, money=MONEY, injection_w=INJECTION_W, withdrawal_w=WITHDRAWAL_W, **OPTIONS)


def fresh() -> Chain:
    """A chain at the state that `prepared` reached."""
    start = prepared()
    chain = Chain(start.genesis)
    chain.head = start.head
    chain._nonces = dict(start._nonces)
    return chain


def operation(action: dict[str, Any], next_ms: int, orders: list[int]) -> PlaceOrder | CancelOrder | Transfer:
    if action["kind"] == "transfer":
        return Transfer(key(f"house {action['to']}").public, action["amount"])
    if action["kind"] == "cancel":
        return CancelOrder(orders[action["nth"] % len(orders)] if orders else 7)
    window = window_at(next_ms) + action["ahead"]
    timed = action["force"] is Force.GOOD_TILL_TIME
    return PlaceOrder(action["who"] + 1, window, action["side"], action["price"] + (5 if action["spoil"] == 1 else 0),
                      action["quantity"] + (50 if action["spoil"] == 2 else 0), action["force"],
                      next_ms + action["lasts"] if timed else 0)


def play(chain: Chain, stream: list[Any], model: Model | None = None) -> list[Any]:
    """Every outcome of every block, with order ids as their running number."""
    seen: list[Any] = []
    for actions, after_ms in stream:
        next_ms = chain.now_ms + after_ms * chain.genesis.market_rate
        orders = [chain.ids[data[0]] for outcomes in seen for _, _, data in outcomes if len(data) == 4]
        for action in actions:
            chain.send(key(f"house {action['who']}"), operation(action, next_ms, orders))
        chain.block(after_ms, all_of_them=False)        # who has spent everything cannot pay a fee
        outcomes = []
        for transaction in chain.transactions[-1]:
            [outcome] = chain.outcomes(transaction)
            data = tuple(outcome.data)
            if data:
                number = data[0] & ((1 << 40) - 1)
                chain.ids[number] = data[0]
                data = (number, *data[1:])
            outcomes.append((transaction, outcome.code, data))
        seen.append(outcomes)
        if model is not None:
            follow(chain, model, next_ms, outcomes)
    return seen


def follow(chain: Chain, model: Model, now_ms: int, outcomes: list[Any]) -> None:
    """The model does the same block, transaction by transaction, and must agree on everything."""
    houses = {key(f"house {number}").public: number for number in range(HOUSES)}
    model.begin(now_ms)
    traded = len(model.trades)
    for transaction, code, data in outcomes:
        who = houses[transaction.sender]
        model.pay_fee(who, FEE)
        kind, *fields = transaction.operations[0]
        if kind == Transfer.KIND:
            enough = model.money[who].free >= fields[1]
            assert code.name == ("OK" if enough else "UNFUNDED")
            if enough:
                model.money[who].free -= fields[1]
                model.money[houses[fields[0]]].free += fields[1]
        elif kind == CancelOrder.KIND:
            assert (code, data) == model.cancel(who, fields[0] & ((1 << 40) - 1))
        else:
            _, window, side, price, quantity, force, expires = fields
            assert (code, data) == model.place(who, window, side, price, quantity, force == Force.IOC, expires)
    compare(chain, model, model.trades[traded:])


def compare(chain: Chain, model: Model, trades: list[Any]) -> None:
    made = [(fill.window, fill.trade.buy_order & ((1 << 40) - 1), fill.trade.sell_order & ((1 << 40) - 1),
             fill.trade.price, fill.trade.delivered_wh, fill.trade.injected_wh,
             fill.trade.wheel_uthb + fill.trade.fee_uthb + fill.trade.vat_uthb)
            for fill in chain.results[-1].trades]
    assert made == trades
    for number, money in model.money.items():
        account = chain.account(key(f"house {number}"))
        unlocked = money.locked - max(0, money.collateral - money.collateral_later - money.credit)
        assert (account.balance, account.bids, account.proceeds, account.collateral, account.locked, account.nonce) == (
            money.free + money.later + unlocked, money.bids, money.proceeds, money.collateral - money.collateral_later,
            money.locked - unlocked, money.nonce)
    collectors = [chain.account(who).proceeds for who in (key("network North"), OPERATOR, TAX)]
    assert collectors == [model.network, model.operator, model.tax]
    for (who, window), place in model.places.items():
        raw = chain.head.get(spaces.position(window, who + 1))
        position = Position() if raw is None else settled(Position.decode(raw), chain.head.header.height + 1)
        assert (position.sold, position.bought, position.open_sell, position.open_buy) == (
            place.sold, place.bought, place.open_sell, place.open_buy)
    mine = sorted(order.number for order in model.orders)
    theirs = sorted(entry["order"] & ((1 << 40) - 1) for number in range(HOUSES)
                    for entry in queries.open_orders(chain.head, key(f"house {number}").public))
    assert theirs == mine


def model_of(chain: Chain) -> Model:
    parameters = chain.genesis.parameters
    return Model(
        parameters.fee_ppm, 70_000, 7654, OPTIONS["loss_ppm"], OPTIONS["wheel"],
        2200, 7748, INJECTION_W, WITHDRAWAL_W, chain.now_ms,
        {number: Money(free=MONEY, credit=OPTIONS["credit"]) for number in range(HOUSES)})


@settings(max_examples=60, deadline=None)
@given(streams)
def test_the_ledger_follows_the_model(stream: list[Any]) -> None:
    chain = fresh()
    play(chain, stream, model_of(chain))


@settings(max_examples=40, deadline=None)
@given(streams)
def test_no_result_depends_on_the_sweep(stream: list[Any]) -> None:
    """The same stream where timed work is never done: every receipt and every trade is the same."""
    swept, unswept = fresh(), fresh()
    expected = play(swept, stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimedWork, "run", lambda self: None)
        found = play(unswept, stream)
    assert [[entry[1:] for entry in block] for block in found] == [[entry[1:] for entry in block] for block in expected]
    assert [result.trades for result in unswept.results] == [result.trades for result in swept.results]


@settings(max_examples=40, deadline=None)
@given(streams, st.integers(1, 3))
def test_it_makes_no_difference_when_the_engine_is_called(stream: list[Any], every: int) -> None:
    """A builder that runs the engine every few transactions makes the block that a voter executes in one batch."""
    include = build._include
    count = 0

    def eager(run: Any, transaction: Any) -> bool:
        nonlocal count
        done = include(run, transaction)
        count += 1
        if count % every == 0:
            run.desk.flush()
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_include", eager)
        play(fresh(), stream)               # Chain.block compares headers and changesets
