"""The settlement kernel against the rules in Python, on meters of all sorts: the same records, bit for bit."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from attrs import evolve, make_class
from ledger_support import genesis, key

from gridtokenx._native.settlement import Meters
from gridtokenx.ledger import spaces
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.metering_records import Energy, Quality, Reading, Settling, Traded
from gridtokenx.ledger.records import Account, Meter, Position, Record
from gridtokenx.ledger.session import Session
from gridtokenx.market import bills, settlement
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.money import DEBT_MOST
from gridtokenx.market.rules import BillRule

METERS = 60
WINDOW = 2_000_000
STATE = genesis().view()


def whole(random: Random, most: int) -> int:
    """Often small, often nothing, seldom as great as can be."""
    return random.choice((0, 0, random.randrange(50), random.randrange(most), most))


def either(random: Random, record: Record) -> Record | bytes:
    """A record, or its bytes as the parent's state has them."""
    return record if random.random() < 0.5 else record.encode()


def filled(seed: int) -> Session:
    """A session in which a window's meters can be settled: some without reading, in debt, unable to pay, huge, ..."""
    random = Random(seed)
    session = Session(STATE, 40)
    zone = session.get(spaces.zone(0))
    if random.random() < 0.2:       # a utility that can bear little more
        session.put(spaces.account(zone.utility), Account(balance=random.randrange(10**7) - DEBT_MOST))
    for number in range(1, METERS + 1):
        owner = key(f"owner {random.randrange(METERS // 2)}").public if random.random() < 0.97 else zone.utility
        since = WINDOW * WINDOW_MS + random.choice((-1, -1, -1, -1, -1, -1, -1, 0, 1))
        session.put(spaces.meter(number), Meter(
            owner, 1, bytes(32), random.randrange(2), 0, random.randrange(5), random.randrange(2), 1 << 40, 1 << 40,
            since, int(random.random() < 0.05)))
        freed, credit = whole(random, 10**9), whole(random, 10**12)
        collateral = freed + whole(random, 10**12)
        session.put(spaces.account(owner), either(random, Account(
            random.randrange(9), random.choice((1 << 40, 1 << 40, 1 << 40, whole(random, 1 << 61))),
            whole(random, 10**9), whole(random, 10**12), collateral, credit, max(0, collateral - credit),
            whole(random, 10**9), freed,
            random.choice((39, 40)), 1, 0, random.choice((0,) * 40 + (10**6,)))))
        if random.random() < 0.7:
            session.put(spaces.position(WINDOW, number), either(random, Position(
                whole(random, 10**6), whole(random, 10**6))))
            session.put(spaces.traded(WINDOW, number), Traded(*(whole(random, 10**9) for _ in range(7))))
        if random.random() < 0.9:
            session.put(spaces.reading(WINDOW, number), either(random, Reading(
                whole(random, 10**6), whole(random, 1 << random.choice((14, 15, 20, 42))),
                random.choice([int(quality) for quality in Quality]), 0, 39)))
        if random.random() < 0.5:
            session.put(spaces.energy(owner), either(random, Energy(*(whole(random, 1 << 50) for _ in range(6)))))
    session.put(spaces.COUNTERS, evolve(session.get(spaces.COUNTERS), meters=METERS))
    session.put(spaces.SETTLING, Settling(WINDOW, random.choice((0, 7))))
    return session


def settled(seed: int, room: int) -> tuple[list[Any], int]:
    """What the session says is changed once the window's meters are settled, as far as there was room."""
    session = filled(seed)
    left = room

    def spend(weight: int) -> bool:
        nonlocal left
        if weight > left:
            return False
        left -= weight
        return True

    context = open_context(session, genesis().parameters, STATE.header.timestamp_ms + 200)
    if seed % 3 == 2:
        context.parent_ms = 1 << 50         # the deadline has passed: there may be late readings
        for number in range(1, METERS + 1, 7):
            session.put(spaces.late_reading(WINDOW, number), Reading(100, 200, int(Quality.MEASURED), 0, 39))
    piece = settlement._Piece(context, WINDOW, spend)
    piece.meters()
    piece.post()
    changes = session.changed()
    return [list(changes), changes.encoded()], left


def test_the_kernel_does_what_the_rules_say(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: Counter[bool] = Counter()
    rule = settlement._Piece._meter

    def counted(self: Any, number: int, meter: Meter, prices: settlement.Prices) -> None:
        slow[kernel] += 1
        rule(self, number, meter, prices)

    priced = settlement.meter_prices

    def prices(*of: Any) -> bills.Prices:
        """In every other window Ft gives back more than energy costs."""
        found = priced(*of)
        return evolve(found, ft=-2 * found.energy) if seed % 2 else found

    monkeypatch.setattr(settlement._Piece, "_meter", counted)
    monkeypatch.setattr(settlement, "meter_prices", prices)
    for seed in range(30):
        room = 10**6 if seed % 3 else 150 * (seed % 50) + seed
        kernel = True
        fast = settled(seed, room)
        with monkeypatch.context() as without:
            without.setattr(settlement._Piece, "_plain", lambda self, number, *_: (number, True))
            kernel = False
            assert fast == settled(seed, room), seed
    assert 0 < 2 * slow[True] < slow[False], slow


def test_a_class_or_rule_that_the_kernel_does_not_know_stops_it() -> None:
    classes: dict[str, type] = {record.__name__: record for record in (
        Account, Meter, Position, Reading, Traded, settlement.Settlement, settlement.Lot, Energy, bills.Prices)}
    rules = {rule.name: int(rule) for rule in BillRule if rule < BillRule.SERVICE}
    weights = {"debt_most": DEBT_MOST, "meter_weight": 1, "clear_weight": 1}
    Meters(classes, rules, spaces.Space.__members__, **weights)
    with pytest.raises(ValueError, match="attributes of Reading"):
        Meters({**classes, "Reading": make_class("Reading", ["a"])}, rules, spaces.Space.__members__, **weights)
    with pytest.raises(ValueError, match="rules of bills"):
        Meters(classes, {**rules, "SALE": 6}, spaces.Space.__members__, **weights)
