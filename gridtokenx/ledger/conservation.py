"""Nothing is created or lost: checked over every block's changes, and over a whole state on demand (DESIGN 6).

Per asset: sum of balances + escrows + pools = previous sum + minted - burned. All THB lies in accounts, and what
accounts hold back must be what orders and unsettled trades need, to the uTHB and the Wh. The sums are made by the
native checker.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import chain
from typing import Any

import numpy as np
from attrs import frozen

from gridtokenx._native.conservation import RECORD, check_sums, find_negative
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import certificate_conservation as certificates
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.metered_sums import MeteredSums
from gridtokenx.ledger.records import Account, CorridorWindow, Order, Position, Totals, Trade, WindowBook, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.corridors import declared, directions
from gridtokenx.market.money import MAX_MONEY, buy_escrow, locked_money
from gridtokenx.market.orders import BUY


class Sum(IntEnum):
    """What must balance in every block: each group's contributions add up to what is expected of it."""

    THB = 0             # all money of accounts; expected: minted less burned
    BIDS = 1            # accounts' bids less escrow of open buy orders
    COLLATERAL = 2      # accounts' collateral, freed left out, less that of open sells and unsettled trades
    PROCEEDS = 3        # accounts' proceeds less what unsettled trades hold for sellers, networks, fee and VAT
    BOUGHT = 4          # positions' bought Wh less delivered Wh of trades
    SOLD = 5            # positions' sold Wh less injected Wh of trades
    OPEN_BUYS = 6       # positions' open buys less what rests of buy orders
    OPEN_SELLS = 7
    DUES = 8            # accounts' dues less what each owes each utility


Entry = tuple[int, int, int]
_SUMS = len(Sum)


class _Groups:
    """Groups beside those of `Sum`, numbered as they are first named in a block."""

    def __init__(self) -> None:
        self.numbers: dict[object, int] = {}

    def __call__(self, name: object) -> int:
        return self.numbers.setdefault(name, _SUMS + len(self.numbers))

    def __len__(self) -> int:
        return _SUMS + len(self.numbers)

    def name(self, group: int) -> str:
        return Sum(group).name if group < _SUMS else str(list(self.numbers)[group - _SUMS])


class _Flows:
    """A group of its own for every direction of every corridor of every window that a block touches."""

    def __init__(self, session: Session, groups: _Groups, entries: list[Entry], parts: list[Entry]) -> None:
        self.session = session
        self.groups = groups
        self.entries = entries
        self.parts = parts

    def group(self, window: int, corridor: int, direction: int) -> int:
        return self.groups(f"corridor {corridor} {'against' if direction else 'as declared'} in window {window}")

    def record(self, index: int, key: bytes, before: CorridorWindow | None, now: CorridorWindow) -> None:
        """What is used of a capacity grows by the trades' flows alone, and by them not above the capacity."""
        window, corridor = int.from_bytes(key[1:5], "big"), key[5]
        old = before or declared(self.session.get(spaces.corridor(corridor)))
        for direction, (had, left_before, has, left) in enumerate((
                (old.forward_wh, old.forward_left_wh, now.forward_wh, now.forward_left_wh),
                (old.backward_wh, old.backward_left_wh, now.backward_wh, now.backward_left_wh))):
            self.entries.append((self.group(window, corridor, direction), index, has - left - (had - left_before)))
            self.parts += [(0, index, has), (0, index, max(had - left_before, had, has) - (has - left))]

    def trade(self, index: int, key: bytes, trade: Trade) -> None:
        window = int.from_bytes(key[1:5], "big")
        for corridor, _, direction in directions(self.session, trade.sell_zone, trade.path):
            self.entries += [(self.group(window, corridor, direction), index, -trade.injected_wh),
                             (self.group(window, corridor, 1 - direction), index, trade.delivered_wh)]


def check_changes(session: Session, changes: list[tuple[bytes, Any, Any]]) -> None:
    """Checks the changes of one block, (key, record before, record now) each; `session` reads the state after it.

    Raises InvariantError naming the record that is impossible, or the sum that does not balance.
    """
    entries: list[Entry] = []
    parts: list[Entry] = []
    groups = _Groups()
    flows = _Flows(session, groups, entries, parts)
    metered = MeteredSums(session, groups, entries, parts, proceeds=Sum.PROCEEDS, collateral=Sum.COLLATERAL)
    issued = 0
    certified: list[int] = []
    for index, (key, before, now) in enumerate(changes):
        space = key[0]
        if space == Space.ACCOUNT:
            if now is not None:
                check_account(key, now, may_owe=now.balance < 0 and key[1:] in funds.utilities(session))
                _account(entries, index, now, 1)
            if before is not None:
                _account(entries, index, before, -1)
        elif space == Space.POSITION:
            if now is not None:     # positions of a final window leave state together with its trades
                for part in (now.sold, now.bought, now.open_sell, now.open_buy, now.freed_sell, now.freed_buy,
                             now.new_sold, now.new_bought):
                    parts.append((0, index, part))
                _position(entries, index, now, 1)
                if before is not None:
                    _position(entries, index, before, -1)
        elif space == Space.ORDER:
            if now is not None:
                _order(entries, index, now, -1)
            if before is not None:
                _order(entries, index, before, 1)
        elif space == Space.TRADE:
            if before is None and now is not None:
                entries += [(Sum.BOUGHT, index, -now.delivered_wh), (Sum.SOLD, index, -now.injected_wh)]
                _trade(entries, index, now, -1)
                metered.trade(index, now)
                if now.path:
                    flows.trade(index, key, now)
        elif space == Space.CORRIDOR_WINDOW:
            if now is not None:     # it leaves state with its window's trades
                flows.record(index, key, before, now)
        elif space == Space.WINDOW:
            if now is not None and before is not None and now.settled != before.settled:
                _settled(entries, index, session, key, before, now)
        elif space == Space.DUE:
            entries.append((Sum.DUES, index, (before.amount_uthb if before is not None else 0)
                            - (now.amount_uthb if now is not None else 0)))
        elif key == spaces.TOTALS:
            issued = now.held_uthb - before.held_uthb
        elif space in certificates.SPACES:
            certified.append(index)
        else:
            metered.add(index, key, before, now)
    if certified:
        certificates.check_certificates(session, changes, certified)
    negative = find_negative(_records(parts), limit=1)
    if negative:
        key, _, now = changes[negative[0].identity]
        raise InvariantError(f"{Space(key[0]).name} {key[1:].hex()} is impossible: {now}")
    expected = np.zeros(len(groups), np.int64)
    expected[Sum.THB] = issued
    for violation in check_sums(_records(entries), expected, limit=1):
        key = b"" if violation.identity is None else changes[violation.identity][0]
        where = f"; it goes wrong with {Space(key[0]).name} {key[1:].hex()}" if key else ""
        raise InvariantError(f"{groups.name(violation.group)} does not balance: the block changes it by "
                             f"{violation.actual}, expected is {violation.expected}{where}")


def _records(entries: list[Entry]) -> np.ndarray[Any, Any]:
    # By way of one flat array: one made of tuples costs six times as much.
    flat = np.fromiter(chain.from_iterable(entries), np.int64, 3 * len(entries)).reshape(-1, 3)
    records = np.empty(len(entries), RECORD)
    records["group"], records["identity"], records["amount"] = flat[:, 0], flat[:, 1], flat[:, 2]
    return records


def _account(entries: list[Entry], index: int, a: Account, sign: int) -> None:
    entries += [(Sum.THB, index, sign * a.total), (Sum.BIDS, index, sign * a.bids),
                (Sum.COLLATERAL, index, sign * (a.collateral - a.freed)), (Sum.PROCEEDS, index, sign * a.proceeds)]
    if a.dues:
        entries.append((Sum.DUES, index, sign * a.dues))


def _position(entries: list[Entry], index: int, p: Position, sign: int) -> None:
    entries += [(Sum.BOUGHT, index, sign * p.bought), (Sum.SOLD, index, sign * p.sold),
                (Sum.OPEN_BUYS, index, sign * p.open_buy), (Sum.OPEN_SELLS, index, sign * p.open_sell)]


def _order(entries: list[Entry], index: int, order: Order, sign: int) -> None:
    if order.side == BUY:
        escrow = buy_escrow(order.price, order.remaining_wh, order.term, order.vat_ppm)
        entries += [(Sum.BIDS, index, sign * escrow), (Sum.OPEN_BUYS, index, sign * order.remaining_wh)]
    else:
        entries += [(Sum.COLLATERAL, index, sign * order.term * order.remaining_wh),
                    (Sum.OPEN_SELLS, index, sign * order.remaining_wh)]


def _trade(entries: list[Entry], index: int, trade: Trade, sign: int) -> None:
    held = trade.value_uthb + trade.wheel_uthb + trade.fee_uthb + trade.vat_uthb
    entries += [(Sum.PROCEEDS, index, sign * held), (Sum.COLLATERAL, index, sign * trade.collateral_uthb)]


def _settled(entries: list[Entry], index: int, session: Session, key: bytes, before: WindowBook,
             now: WindowBook) -> None:
    window = int.from_bytes(key[1:], "big")
    for number in range(before.settled, now.settled):
        _trade(entries, index, session.get(spaces.trade(window, number)), 1)


def check_account(key: bytes, account: Account, *, may_owe: bool = False) -> None:
    """Raises InvariantError unless every part of the account is possible; `may_owe` is a utility's credit line."""
    a = account
    if (min(a.bids, a.proceeds, a.collateral, a.locked, a.released, a.freed, a.dues) < 0
            or not (-MAX_MONEY if may_owe else 0) <= a.balance
            or a.freed > a.collateral or a.total > MAX_MONEY or a.collateral > MAX_MONEY
            or a.locked != locked_money(a.collateral, a.credit)):
        raise InvariantError(f"account {key[1:].hex()} is impossible: {a}")


@frozen
class Audit:
    """Sums over a whole state: uTHB of genesis, minted since, burned and held, and the number of accounts."""

    genesis_uthb: int
    minted_uthb: int
    burned_uthb: int
    held_uthb: int
    accounts: int


def audit_totals(state: StateReader) -> Audit:
    """Adds up every account of `state`. Raises InvariantError when the sum is not genesis + minted - burned."""
    raw = state.get(spaces.TOTALS)
    if raw is None:
        raise InvariantError("this state has no totals: it is not a chain's")
    totals = Totals.decode(raw)
    held = accounts = 0
    utilities = {Zone.decode(value).utility for _, value in state.scan(bytes((Space.ZONE,)))}
    for key, value in state.scan(bytes((Space.ACCOUNT,))):
        account = Account.decode(value)
        check_account(key, account, may_owe=key[1:] in utilities)
        held += account.total
        accounts += 1
    if held != totals.held_uthb:
        raise InvariantError(f"THB: accounts hold {held} uTHB; genesis {totals.genesis_uthb} + minted "
                             f"{totals.minted_uthb} - burned {totals.burned_uthb} is {totals.held_uthb}")
    return Audit(totals.genesis_uthb, totals.minted_uthb, totals.burned_uthb, held, accounts)
