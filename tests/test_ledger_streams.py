"""Random streams of every kind of order and grid operation: it makes no difference how often the engine is called,
whether books are kept or loaded anew for every block, nor how far the sweep has come. `Chain.block` lets a builder
and a voter make every block, holds their changes and engines against each other, and checks conservation.
"""

from __future__ import annotations

import random
from typing import Any, Final

import pytest
from attrs import evolve
from ledger_support import ISSUER, REGISTRAR, START_MS, THB, Chain, key, trading_chain

from gridtokenx.grid.kinds import Role, Source
from gridtokenx.ledger import build, queries, spaces
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.operations import (
    AmendOrder,
    BilateralTrade,
    CancelOrder,
    Deposit,
    HaltWindows,
    Operation,
    PlaceOrder,
    RegisterParticipant,
    SetCapacity,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Counters, Profile, Trade
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.timed import TimedWork
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING
from gridtokenx.market.agreements import Agreement
from gridtokenx.market.clock import gate_ms, window_at
from gridtokenx.market.orders import BUY, SELL, Force, SelfTrade
from gridtokenx.market.work import Work, read_timed_key

HOUSES = 6
GRID = key("grid operator")
WINDOWS = 2
PROFILES = (Profile("solar", 1 << Source.SOLAR, 0b111), Profile("near", 0xFF, 0b001))
LINES: Final = ((0, 1, 6_000, 4_000, 4_000, 100_000), (1, 2, 4_000, 4_000, 0, 50_000), (0, 2, 2_000, 8_000, 9_000, 0))
Sent = tuple[int, list[Operation], int]     # sender (a house, or -1 the grid operator), operations, flags


def stream_chain(**options: Any) -> Chain:
    chain = trading_chain(HOUSES, **{
        "zones": 3, "grid": 3, "lines": LINES, "profiles": PROFILES, "loss_ppm": 3_000, "wheel": 20_000,
        "money": 60 * THB, "injection_w": 16_000, "withdrawal_w": 16_000, "uncross_fills": 1, "uncross_visits": 3,
        "max_open_orders": 100, "breaker_least_wh": 3_000, "breaker_participants": 2, "supply": SupplyRates(),
        **options})
    chain.do(ISSUER, Deposit(GRID.public, 1_000 * THB))
    chain.do(REGISTRAR, RegisterParticipant(GRID.public, "grid", Role.GRID_OPERATOR, 0, 2 * START_MS))
    return chain


class Stream:
    """What is sent does not depend on what became of earlier operations, save through the numbers of orders."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.salt = 0

    def block(self, now_ms: int, numbers: list[int]) -> list[Sent]:
        return [self.sent(now_ms, numbers) for _ in range(self.rng.randrange(1, 9))]

    def sent(self, now_ms: int, numbers: list[int]) -> Sent:
        rng = self.rng
        kind = rng.random()
        house = rng.randrange(HOUSES)
        window = window_at(now_ms) + 2 + rng.randrange(WINDOWS)
        if kind < 0.10:
            return -1, [SetCapacity(rng.randrange(3), window, window, rng.randrange(4) * 4_000,
                                    rng.randrange(4) * 4_000)], 0
        if kind < 0.14:
            return -1, [HaltWindows(window, window, rng.random() < 0.4)], 0
        if kind < 0.20:
            return house, [self.bilateral(house, window)], 0
        if kind < 0.30:
            cancels: list[Operation] = [CancelOrder(number) for number in rng.sample(numbers, min(2, len(numbers)))]
            return house, [*cancels, *[evolve(self.place(house, window, now_ms), post_only=True, minimum_wh=0,
                                              time_in_force=Force.GOOD_TILL_GATE, expires_ms=0)
                                       for _ in range(rng.randrange(1, 3))]], FLAG_ALL_OR_NOTHING
        operations: list[Operation] = []
        for _ in range(rng.choice((1, 1, 2, 5))):
            choice = rng.random()
            if choice < 0.2 and numbers:
                operations.append(CancelOrder(rng.choice(numbers)))
            elif choice < 0.45 and numbers:
                operations.append(AmendOrder(rng.choice(numbers), 10 * rng.randrange(395, 412),
                                             100 * rng.randrange(0, 16), rng.random() < 0.2))
            else:
                operations.append(self.place(house, window, now_ms))
        return house, operations, 0

    def place(self, house: int, window: int, now_ms: int) -> PlaceOrder:
        rng = self.rng
        side = rng.choice((BUY, SELL))
        quantity = 100 * rng.randrange(1, 16)
        force = rng.choice((Force.GOOD_TILL_GATE,) * 4 + (Force.GOOD_TILL_TIME,) * 3 + (Force.IOC, Force.FOK))
        immediate = force in (Force.IOC, Force.FOK)
        market = rng.random() < 0.05
        post_only = not immediate and rng.random() < 0.15
        return PlaceOrder(
            house + 1, window, side, 0 if market else 10 * rng.randrange(395, 412), quantity, force,
            now_ms + rng.randrange(20_000, 200_000) if force is Force.GOOD_TILL_TIME else 0,
            minimum_wh=100 if rng.random() < 0.1 and not post_only and force is not Force.FOK else 0,
            display_wh=200 if not immediate and quantity > 200 and rng.random() < 0.25 else 0,
            profile=rng.randrange(3) if side is BUY and rng.random() < 0.4 else 0,
            self_trade=rng.choice(tuple(SelfTrade)[:3]), post_only=post_only, market=market)

    def bilateral(self, house: int, window: int) -> BilateralTrade:
        rng = self.rng
        seller = rng.randrange(HOUSES)
        paths: dict[tuple[int, int], tuple[int, ...]] = {(0, 1): (0,), (1, 2): (1,), (0, 2): (0, 1), (2, 0): (2,)}
        path = paths.get((seller % 3, house % 3), ())
        self.salt += 1
        return BilateralTrade(Agreement(seller + 1, house + 1, window, rng.randrange(0, 600) * 10,
                                        rng.randrange(1, 8) * 100, path, 1 << 30, self.salt.to_bytes(2, "big")))


def play(chain: Chain, seed: int, blocks: int, *, each: Any = None) -> list[Any]:
    """Every receipt, by house and number of the order."""
    stream, seen, ids = Stream(seed), [], {}
    for number in range(blocks):
        after_ms = stream.rng.choice((100, 200, 200, 900, 3_000))
        now_ms = chain.now_ms + after_ms * chain.genesis.market_rate
        for sender, operations, flags in stream.block(now_ms, list(ids)):
            signed = [signed_by_seller(chain, sender, entry) for entry in operations]
            chain.send(GRID if sender < 0 else key(f"house {sender}"), *[renamed(entry, ids) for entry in signed],
                       flags=flags)
        if each is not None:
            each(chain, number)
        chain.block(after_ms, all_of_them=False)
        receipts = []
        for transaction in chain.transactions[-1]:
            for outcome in chain.outcomes(transaction):
                data = tuple(outcome.data)
                if len(data) > 1:
                    ids[data[0] & (1 << 40) - 1] = data[0]
                    data = (data[0] & (1 << 40) - 1, *data[1:])
                receipts.append((transaction.sender, outcome.code, data))
        seen.append(receipts)
        ids = dict(list(ids.items())[-40:])
    return seen


def renamed(operation: Operation, ids: dict[int, int]) -> Operation:
    return (evolve(operation, order_id=ids[operation.order_id]) if isinstance(operation, CancelOrder | AmendOrder)
            else operation)


def signed_by_seller(chain: Chain, buyer: int, operation: Operation) -> Operation:
    if not isinstance(operation, BilateralTrade) or operation.terms.sell_meter == buyer + 1:
        return operation
    seller = key(f"house {operation.terms.sell_meter - 1}")
    return evolve(operation, signatures=(operation.terms.sign(seller, chain.genesis.chain_id),))


SEEDS = range(4)


def test_books_kept_and_books_loaded_anew_give_the_same_blocks() -> None:
    """The voter forgets its books before every block, as a node that was restarted."""
    codes = set()

    def restart(chain: Chain, number: int) -> None:
        chain._voter = chain.genesis.books()

    for seed in SEEDS:
        chain = stream_chain()
        receipts = play(chain, seed, 40, each=restart)
        codes |= {code for block in receipts for _, code, _ in block}
    assert {Code.OK, Code.SELF_TRADE, Code.NOT_APPLIED, Code.NO_CAPACITY, Code.UNKNOWN_ORDER, Code.KILLED,
            Code.WOULD_TRADE, Code.HALTED, Code.NO_RESIDUAL} <= codes
    found = len(list(chain.head.scan(bytes((Space.ORDER,)))))
    counted = Counters.decode(chain.head.get(spaces.COUNTERS) or b"")
    assert counted.open_orders - counted.closed_orders == found


@pytest.mark.parametrize("seed", SEEDS)
def test_it_makes_no_difference_how_often_the_engine_is_called(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    include = build._include
    rng = random.Random(seed)

    def eager(run: Any, transaction: Any) -> bool:
        done = include(run, transaction)
        if rng.random() < 0.4:
            run.desk.flush()
        return done

    monkeypatch.setattr(build, "_include", eager)
    play(stream_chain(), seed, 30)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_receipt_depends_on_the_sweep(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with all timed work, once with none: orders past their time and halts that ran out stay in state."""
    options = {"uncross_fills": 4_000, "uncross_visits": 60_000}
    swept, unswept = stream_chain(**options), stream_chain(**options)
    expected = play(swept, seed, 40)
    monkeypatch.setattr(TimedWork, "run", lambda self: None)
    found = play(unswept, seed, 40)
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        assert one == other, number
    assert [result.trades for result in unswept.results] == [result.trades for result in swept.results]


def test_what_is_left_when_all_gates_have_passed() -> None:
    """Every exit of every order gave back all that it held; what stays bound is the trades'."""
    chain = stream_chain()
    play(chain, 7, 40)
    first, last = window_at(START_MS), window_at(chain.now_ms) + 2 + WINDOWS
    chain.until(gate_ms(last))
    for _ in range(3):
        chain.block()
    assert not list(chain.head.scan(bytes((Space.ORDER,))))
    assert not list(chain.head.scan(bytes((Space.ORDERS_OF,))))
    assert not [k for k, _ in chain.head.scan(spaces.TIMED_PREFIX)
                if read_timed_key(k)[1] in (Work.EXPIRY, Work.UNCROSS)]
    counted = Counters.decode(chain.head.get(spaces.COUNTERS) or b"")
    assert counted.open_orders == counted.closed_orders
    collateral = dict.fromkeys(range(1, HOUSES + 1), 0)
    proceeds = dict.fromkeys(range(1, HOUSES + 1), 0)
    for window in range(first, last + 1):
        for _, raw in chain.head.scan(spaces.trade(window)):
            trade = Trade.decode(raw)
            collateral[trade.sell_meter] += trade.collateral_uthb
            proceeds[trade.sell_meter] += trade.value_uthb
    for meter in collateral:
        account = chain.account(key(f"house {meter - 1}"))
        assert (account.bids, account.collateral, account.proceeds) == (0, collateral[meter], proceeds[meter])
        for window in range(first, last + 1):
            position = queries.position(chain.head, meter, window) or {}
            assert (position["open_sell_wh"], position["open_buy_wh"]) == (0, 0)
