"""The kernel that places orders against the rules in Python, on orders of all sorts: the same records, bit for bit."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from attrs import evolve, make_class
from ledger_support import key, trading_chain

from gridtokenx._native.orderbook import Kind
from gridtokenx._native.placing import Placing
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import PlaceOrder
from gridtokenx.ledger.records import Account, Counters, Meter, Order, Participant, Position
from gridtokenx.ledger.run import BlockRun
from gridtokenx.ledger.transaction import Transaction, make_transaction
from gridtokenx.market import desk
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.deferred import Deferred
from gridtokenx.market.tariffs import Band

HOUSES, METERS, WINDOWS = 6, 9, 4
CHAIN = trading_chain(HOUSES, max_open_orders=150)


def whole(random: Random, most: int) -> int:
    """Often small, often nothing, seldom as great as can be."""
    return random.choice((0, 0, random.randrange(50), random.randrange(most), most))


def block(random: Random) -> BlockRun:
    """A block whose state has owners in debt, without money or licence, and meters with much or nothing on offer."""
    run = BlockRun(CHAIN.head, CHAIN.inputs(), CHAIN._builder)
    run.begin()
    session, height, now = run.session, run.session.height, run.context.now_ms
    first = now // WINDOW_MS + 2
    for house in range(HOUSES):
        account: Account = session.get(spaces.account(key(f"house {house}").public))
        freed, credit = whole(random, 10**8), whole(random, 10**9)
        collateral = freed + whole(random, 10**9)
        session.put(spaces.account(key(f"house {house}").public), evolve(
            account, balance=random.choice((10**12,) * 9 + (whole(random, 10**9), 1 << 60)), bids=whole(random, 10**9),
            collateral=collateral, credit=credit, locked=max(0, collateral - credit), released=whole(random, 10**8),
            freed=freed, height=random.choice((height - 1, height)),
            dues=random.choice((0,) * 9 + (10**12, whole(random, 10**9)))))
        if random.random() < 0.05:
            who: Participant = session.get(spaces.participant(account.participant))
            session.put(spaces.participant(account.participant), evolve(who, expires_ms=now))
    for number in range(1, METERS + 1):
        meter: Meter = session.get(spaces.meter((number - 1) % HOUSES + 1))
        session.put(spaces.meter(number), evolve(
            meter, source=random.randrange(4), injection_w=random.choice((40_000,) * 8 + (8_000, 0, 1 << 33)),
            withdrawal_w=random.choice((40_000,) * 8 + (8_000, 0, 1 << 33))))
        for window in range(first, first + WINDOWS):
            if random.random() < 0.5:
                session.put(spaces.position(window, number), Position(
                    *(whole(random, 2_000) for _ in range(4)), random.choice((height - 1, height)),
                    *(whole(random, 1_000) for _ in range(4))))
    return run


def transactions(random: Random, first: int) -> list[Transaction]:
    made = []
    for _ in range(8):
        house = random.randrange(HOUSES)
        operations: list[tuple[Any, ...]] = []
        for _ in range(random.randrange(1, 20)):
            fields: list[Any] = [
                20, random.choice([number for number in range(1, METERS + 1) if (number - 1) % HOUSES == house]),
                first + random.randrange(WINDOWS), random.randrange(2), random.choice((3_000, 3_500, 4_000, 3_990)),
                100 * random.randrange(1, 30), 0, 0]
            if random.random() < 0.04:      # something that is wrong, or not plain
                at = random.randrange(1, 9)
                fields[at:at + 1] = [random.choice((0, 1, 3, 50, 1 << 40, -1, True, first * WINDOW_MS, "a"))]
            operations.append(tuple(fields) if random.random() < 0.99 else (21, 5))
        made.append(make_transaction(key(f"house {house}").public, 0, 1 << 40, 10**6, tuple(operations), 0, ()))
    return made


def placed(seed: int) -> tuple[Any, ...]:
    """What is changed, queued and answered, and what it weighs, after each transaction."""
    random = Random(seed)
    run = block(random)
    seen = []
    for transaction in transactions(random, run.context.now_ms // WINDOW_MS + random.choice((2, 2, 1))):
        mark = run.mark()
        seen.append((run._one_by_one(transaction), run.weight, run.weight_worst, list(run.session.changed()),
                     run.session.changed().encoded(),
                     list(run.desk._rows), list(run.desk._pending), dict(run.desk._placed)))
        if random.random() < 0.05:
            run.rollback(mark)
    return tuple(seen)


def test_the_kernel_does_what_the_rules_say(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: Counter[bool] = Counter()
    rule = desk.Desk.place

    def counted(self: Any, sender: bytes, terms: Any) -> Deferred:
        done = rule(self, sender, terms)
        slow[kernel] += 1
        return done

    monkeypatch.setattr(desk.Desk, "place", counted)
    for seed in range(40):
        kernel = True
        fast = placed(seed)
        with monkeypatch.context() as without:
            without.setattr(desk.Desk, "place_plain", lambda self, sender, operations, index: [])
            kernel = False
            assert fast == placed(seed), seed
    assert 500 < slow[True] < slow[False] - 500, slow


def test_a_class_that_the_kernel_does_not_know_stops_it() -> None:
    classes: dict[str, type] = {record.__name__: record for record in (
        Account, Band, Counters, Deferred, Meter, Order, Participant, Position, desk.WindowRules)}
    numbers = {"counters_key": spaces.COUNTERS, "kind": Kind.PLACE, "place": PlaceOrder.KIND, "lot": 100, "tick": 10,
               "price_most": 10**6, "fills_most": 128, "window_most": 9}
    Placing(classes, spaces.Space.__members__, **numbers)
    with pytest.raises(ValueError, match="attributes of Order"):
        Placing({**classes, "Order": make_class("Order", ["a"])}, spaces.Space.__members__, **numbers)
