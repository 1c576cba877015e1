"""The kernel that lets orders rest and lapse against the rules in Python, on orders and records of all sorts: the same
records, bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest
from attrs import make_class
from ledger_support import Chain, key, trading_chain

from gridtokenx._native.moves import Moves
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import AmendOrder, CancelOrder, Operation, PlaceOrder
from gridtokenx.ledger.receipts import Outcome
from gridtokenx.ledger.records import Account, Meter, Order, Position, Record
from gridtokenx.ledger.run import BlockRun
from gridtokenx.ledger.schema import encode_value
from gridtokenx.market import closing, moves, posting
from gridtokenx.market.clock import WINDOW_MS, gate_ms
from gridtokenx.market.closing import Closing
from gridtokenx.market.deferred import Deferred
from gridtokenx.market.orders import Force, SelfTrade, Side

HOUSES, METERS = 6, 9
CHAIN = trading_chain(HOUSES)


class Rules:
    """Nothing is plain."""

    def accounts(self, session: Any, sums: dict[Any, Any]) -> list[Any]:
        return list(sums.items())

    positions = accounts

    def lapse(self, session: Any, rows: Iterable[tuple[bytes, Any]], window: int, gate: int,
              spend: Callable[[int], bool], weight: int, accounts: Any, positions: Any, resting: Any,
              other: Callable[[int, Any], None]) -> tuple[int, bool]:
        for order_key, order in rows:
            if not spend(weight):
                return 0, False
            other(int.from_bytes(order_key[1:], "big"), session.record(order_key, order))
        return 0, True

    def rest(self, session: Any, results: list[Any], *_: Any) -> list[int]:
        return list(range(len(results)))


def by_rules(patch: pytest.MonkeyPatch) -> None:
    for module in (moves, closing, posting):
        patch.setattr(module, "KERNEL", Rules())


def whole(random: Random, most: int) -> int:
    """Often small, often nothing, seldom as great as can be."""
    return random.choice((0, 0, random.randrange(50), random.randrange(most), random.randrange(most), most))


def either(random: Random, record: Record) -> Record | bytes:
    """A record, or its bytes as the parent's state has them."""
    return record if random.random() < 0.5 else record.encode()


def gate(seed: int) -> tuple[Any, ...]:
    """What is changed at a gate on a state of all sorts of accounts, positions and orders."""
    random = Random(seed)
    run = BlockRun(CHAIN.head, CHAIN.inputs(), CHAIN._builder)
    run.begin()
    session, height = run.session, run.session.height
    window = run.context.now_ms // WINDOW_MS + random.choice((1, 2, 3))
    for house in range(HOUSES):
        freed, credit = whole(random, 10**8), whole(random, 10**9)
        collateral = freed + whole(random, 10**9)
        session.put(spaces.account(key(f"house {house}").public), either(random, Account(
            house, whole(random, random.choice((10**9, 1 << 62))), whole(random, 10**9), whole(random, 10**9),
            collateral, credit, max(0, collateral - credit), whole(random, 10**8), freed,
            random.choice((height - 1, height)), house)))
    rows = []
    for number in range(1, METERS + 1):
        meter: Meter = session.get(spaces.meter((number - 1) % HOUSES + 1))
        session.put(spaces.meter(number), meter)
        if random.random() < 0.7:
            session.put(spaces.position(window, number), either(random, Position(
                *(whole(random, random.choice((2_000, 2_000, 1 << 61))) for _ in range(4)),
                random.choice((height - 1, height)), *(whole(random, 1_000) for _ in range(4)))))
        for _ in range(random.randrange(4)):
            order = Order(
                number, 1, random.randrange(2), random.randrange(2), whole(random, 5_000),
                5_000, whole(random, random.choice((5_000,) * 8 + (1 << 40,))), random.choice((0,) * 20 + (
                    gate_ms(window) - 1, gate_ms(window), run.context.parent_ms)), 1,
                whole(random, random.choice((5_000,) * 6 + (1_000_000, 1 << 40))), whole(random, 70_000), height - 1,
                random.randrange(8))
            rows.append((spaces.order(spaces.order_id(window, len(rows) + 1)), either(random, order)))
    room = [random.choice((1_000,) * 9 + (5,))]

    def spend(_: int) -> bool:
        room[0] -= 1
        return room[0] >= 0

    closing_ = Closing(run.context)
    done = closing_.gate(window, iter(rows), spend)
    closing_.post()
    sums = {key(f"house {house}").public: [whole(random, 1 << 60) for _ in range(4)] for house in range(HOUSES)}
    energy = {(window, number): [whole(random, random.choice((900, 1 << 60))) for _ in range(4)]
              for number in range(1, METERS + 1)}
    moves.apply(session, sums, energy)
    changes = list(session.changed())
    for place, _, now in changes:       # what kernels write is canonical
        written = session.peek(place)
        assert not isinstance(written, bytes) or encode_value(place, now) == written
    return done, room[0], changes


def test_the_kernel_closes_what_the_rules_close(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: Counter[bool] = Counter()
    rule = Closing.lapse

    def counted(self: Any, order_id: int, order: Order) -> None:
        rule(self, order_id, order)
        slow[kernel] += 1

    monkeypatch.setattr(Closing, "lapse", counted)
    for seed in range(60):
        kernel = True
        fast = gate(seed)
        with monkeypatch.context() as without:
            by_rules(without)
            kernel = False
            assert fast == gate(seed), seed
    assert 50 < slow[True] < slow[False] - 200, slow


def traded(seed: int) -> list[bytes]:
    """The blocks in which houses place orders of all sorts, change and cancel them, until their gates."""
    random = Random(seed)
    chain: Chain = trading_chain(HOUSES)
    chain.twice = False
    first = chain.window + 2
    for _ in range(6):
        for house in range(HOUSES):
            operations: list[Operation] = []
            for _ in range(random.randrange(1, 6)):
                kind = random.random()
                guess = spaces.order_id(first + random.randrange(3), random.randrange(1, 60))
                if kind < 0.1:
                    operations.append(CancelOrder(guess))
                elif kind < 0.2:
                    operations.append(AmendOrder(guess, random.choice((3_000, 3_500)), random.choice((100, 1_500))))
                else:
                    display = random.choice((0,) * 6 + (100,))
                    force = random.choice((Force.GOOD_TILL_GATE,) * 8 + (Force.IOC, Force.GOOD_TILL_TIME))
                    operations.append(PlaceOrder(
                        house + 1, first + random.randrange(3), random.choice((Side.BUY, Side.SELL)),
                        random.choice((3_000, 3_500, 4_000)), 100 * random.randrange(1, 20), force,
                        chain.now_ms + 60_000 if force == Force.GOOD_TILL_TIME else 0, display_wh=display,
                        self_trade=random.choice((SelfTrade.CANCEL_NEWEST, SelfTrade.CANCEL_OLDEST))))
            chain.send(key(f"house {house}"), *operations, fee=10**6)
        chain.block()
        if random.random() < 0.3:
            chain.until(chain.now_ms + 100_000)
    chain.until(gate_ms(first + 2))
    return [result.header.hash for result in chain.results]


def test_blocks_are_those_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    kernel = posting.KERNEL

    class Counted(Rules):
        """The kernel: how many orders it let rest."""

        accounts, positions = kernel.accounts, kernel.positions

        def rest(self, session: Any, results: list[Any], *others: Any) -> list[int]:
            left = kernel.rest(session, results, *others)
            counts["asked"] += len(results)
            counts["rest"] += len(results) - len(left)
            return left

    for seed in range(6):
        with monkeypatch.context() as counting:
            counting.setattr(posting, "KERNEL", Counted())
            fast = traded(seed)
        with monkeypatch.context() as without:
            by_rules(without)
            assert fast == traded(seed), seed
    assert counts["rest"] > counts["asked"] // 3, counts


def test_a_class_that_the_kernel_does_not_know_stops_it() -> None:
    classes: dict[str, type] = {record.__name__: record for record in (
        Account, Deferred, Meter, Order, Outcome, Position)}
    numbers: dict[str, Any] = {"present": b"", "place": 1, "resting": 0, "ok": 0, "renewable": frozenset()}
    Moves(classes, spaces.Space.__members__, **numbers)
    with pytest.raises(ValueError, match="attributes of Outcome"):
        Moves({**classes, "Outcome": make_class("Outcome", ["a"])}, spaces.Space.__members__, **numbers)
