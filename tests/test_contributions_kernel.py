"""What the kernel says that changes contribute to the sums of conservation, against the rules: the same entries."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from attrs import fields
from ledger_support import genesis, key

from gridtokenx._native.contributions import Contributions
from gridtokenx._native.state import Changes
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import conservation, spaces
from gridtokenx.ledger.conservation import Sum
from gridtokenx.ledger.metering_records import Energy, Lot, Reading, Settlement, Traded
from gridtokenx.ledger.records import Account, Meter, Order, Position, WindowBook
from gridtokenx.ledger.schema import VALUES
from gridtokenx.ledger.session import Session

STATE = genesis().view()
KERNEL = conservation._KERNEL
LEFT: list[int] = []


def number(random: Random) -> int:
    return random.choice((0, 0, 0, 1, random.randrange(100), random.randrange(10**6), 10**6, -1 if random.random() < 0.1
                          else 5, 1 << random.choice((30, 30, 37, 62, 63)) if random.random() < 0.2 else 7))


def record(random: Random, cls: type[Any]) -> Any:
    """Any values; often such as are possible."""
    if random.random() < 0.2:
        return None
    count = len(fields(cls))
    if cls is Settlement:
        minted, burned, bought, sold = (abs(number(random)) for _ in range(4))
        short = max(0, burned + sold - minted - bought)
        zone = random.choice((0, 1, 1 << random.choice((37, 60, 62)) if random.random() < 0.1 else 1))
        return Settlement(key("h").public, zone, minted, burned, bought, sold, short,
                          minted + bought + short - burned - sold + (random.random() < 0.1), 0, 0, ())
    values = [number(random) for _ in range(count)]
    if cls is Account:
        values[8] = min(values[8], values[4])
        values[6] = max(0, values[4] - values[5]) + (random.random() < 0.1)
    elif cls is Order:
        values[3] = random.randrange(2)
    return cls(*values)


def change(random: Random) -> tuple[bytes, Any, Any]:
    window, meter = random.randrange(3), 1 + random.randrange(3)
    place: Callable[[], tuple[bytes, type[Any]]] = random.choice((
        lambda: (spaces.account(key(f"a {random.randrange(5)}").public), Account),
        lambda: (spaces.position(window, meter), Position), lambda: (spaces.order(random.randrange(9)), Order),
        lambda: (spaces.reading(window, meter), Reading), lambda: (spaces.settlement(window, meter), Settlement),
        lambda: (spaces.energy(key("h").public), Energy), lambda: (spaces.lot(window, meter), Lot),
        lambda: (spaces.traded(window, meter), Traded), lambda: (spaces.window(window), WindowBook)))
    where, cls = place()
    return where, record(random, cls), record(random, cls)


def packed(random: Random, change: tuple[bytes, Any, Any]) -> tuple[bytes, Any, Any]:
    """The change with some records given as their bytes."""
    before, now = (each if each is None or random.random() < 0.3 else each.encode() for each in change[1:])
    return change[0], before, now


class ByRules:
    """A kernel that leaves everything to the rules."""

    @staticmethod
    def gather(changes: Changes, index: int, rules: dict[int, Any], *_: Any) -> int:
        while index < len(changes) and changes[index][0][0] not in rules:
            index += 1
        return index


class Counted:
    @staticmethod
    def gather(*arguments: Any) -> int:
        LEFT.append(KERNEL.gather(*arguments))
        return LEFT[-1]


def outcome(monkeypatch: pytest.MonkeyPatch, kernel: Any, changes: list[tuple[bytes, Any, Any]]) -> Any:
    """The entries that the checker is given, or what is said to be impossible."""
    seen: list[Any] = []
    session = Session(STATE, 1)
    for meter in (1, 2, 3):
        session.put(spaces.meter(meter), Meter(bytes(32), 1, bytes(32), 0, 0, 0, 0, 4 * 10**meter, 4 * 10**6, 0, 0))
    monkeypatch.setattr(conservation, "_KERNEL", kernel)
    monkeypatch.setattr(conservation, "_records", lambda entries, _: seen.append((entries.raw(), entries.beyond)))
    monkeypatch.setattr(conservation, "check_sums", lambda *_, **__: [])
    try:
        conservation.check_changes(session, Changes(VALUES, changes))
    except InvariantError as error:
        return str(error)
    return seen


def test_the_kernel_contributes_what_the_rules_say(monkeypatch: pytest.MonkeyPatch) -> None:
    held = impossible = total = 0
    for seed in range(400):
        random = Random(seed)
        changes = [change(random) for _ in range(random.choice((1, 2, 30)))]
        changes = [each for each in changes if not isinstance(each[2] or each[1], WindowBook)]
        by_rules = outcome(monkeypatch, ByRules, changes)
        assert outcome(monkeypatch, Counted, changes) == by_rules, seed
        assert outcome(monkeypatch, Counted, [packed(random, each) for each in changes]) == by_rules, seed
        held, impossible, total = (held + isinstance(by_rules, list), impossible + isinstance(by_rules, str),
                                   total + len(changes))
    assert held > 50 and impossible > 50 and len(LEFT) < total


def test_what_the_kernel_does_not_know_stops_it() -> None:
    classes: dict[str, type] = {cls.__name__: cls for cls in (
        Account, Position, Order, Meter, Reading, Settlement, Lot, Energy, Traded)}
    sums = {member.name: int(member) for member in Sum}
    Contributions(classes, spaces.Space.__members__, sums, buy=0)
    with pytest.raises(ValueError, match="attributes of Lot"):
        Contributions({**classes, "Lot": Reading}, spaces.Space.__members__, sums, buy=0)
    with pytest.raises(ValueError, match="the sums are"):
        Contributions(classes, spaces.Space.__members__, {**sums, "DUES": 9}, buy=0)
