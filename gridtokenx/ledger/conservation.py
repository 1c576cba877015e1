"""Nothing is created or lost: checked over every block's changes, and over a whole state on demand (DESIGN 6).

Per asset: sum of balances + escrows + pools = previous sum + minted - burned. All THB lies in accounts, and what
accounts hold back must be what orders and unsettled trades need, to the uTHB and the Wh. The rules here say what a
change contributes; of what blocks change by the thousand the native kernel says the same. The native checker sums up.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from attrs import frozen

from gridtokenx._native.conservation import RECORD, check_sums
from gridtokenx._native.contributions import Contributions, Entries
from gridtokenx._native.state import Changes
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import certificate_conservation as certificates
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.metered_sums import Groups, MeteredSums
from gridtokenx.ledger.metering_records import Due, Energy, Lot, Reading, Settlement, Traded
from gridtokenx.ledger.records import (
    Account,
    CorridorWindow,
    Meter,
    Order,
    Position,
    Totals,
    Trade,
    WindowBook,
    Zone,
)
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


_THB, _BIDS, _COLLATERAL, _PROCEEDS, _BOUGHT, _SOLD, _OPEN_BUYS, _OPEN_SELLS, _DUES = map(int, Sum)
_NO_ACCOUNT, _NO_POSITION = Account(), Position()
_DIRECTIONS = ("corridor {1} as declared in window {0}", "corridor {1} against in window {0}")

Rule = Callable[[int, bytes, Any, Any], None]
"""Is given one change: its index, the key, the record before and the record now."""


class _Sums:
    """Contributions of one block's money, orders, trades and flows.

    `entries` are the native checker's records; pairs of integers are added, index << 32 | group and the signed amount.
    `impossible` are indexes of records with a part that may not be below zero.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.entries = Entries()
        self.impossible: list[int] = []
        self.certified: list[int] = []
        self.issued = 0
        self.groups = Groups(tuple(member.name for member in Sum))
        self.metered = MeteredSums(session, self.groups, self.entries, self.impossible, proceeds=_PROCEEDS,
                                   collateral=_COLLATERAL)

    def rules(self) -> dict[int, Rule]:
        """By space; other spaces hold nothing that must balance."""
        rules: dict[int, Rule] = {
            Space.ACCOUNT: self.account, Space.POSITION: self.position, Space.ORDER: self.order,
            Space.TRADE: self.trade, Space.CORRIDOR_WINDOW: self.corridor, Space.WINDOW: self.settled,
            Space.DUE: self.due, Space.CHAIN: self.chain}
        return {**rules, **dict.fromkeys(certificates.SPACES, self.certificate), **self.metered.rules()}

    def certificate(self, index: int, key: bytes, before: Any, now: Any) -> None:  # noqa: ARG002 - a `Rule`
        self.certified.append(index)

    def chain(self, index: int, key: bytes, before: Any, now: Any) -> None:
        if key == spaces.TOTALS:
            self.issued = now.held_uthb - before.held_uthb
        elif key == spaces.SETTLING:
            self.metered.settled(index, before, now)

    # ------------------------------------------------------------ money, positions, orders

    def account(self, index: int, key: bytes, before: Account | None, now: Account | None) -> None:
        if now is None:
            now = _NO_ACCOUNT
        else:
            check_account(key, now, may_owe=now.balance < 0 and key[1:] in funds.utilities(self.session))
        if before is None:
            before = _NO_ACCOUNT
        at, entries = index << 32, self.entries
        entries += (at | _THB, now.total - before.total)
        if now.bids != before.bids:
            entries += (at | _BIDS, now.bids - before.bids)
        if now.collateral != before.collateral or now.freed != before.freed:
            entries += (at | _COLLATERAL, now.collateral - now.freed - before.collateral + before.freed)
        if now.proceeds != before.proceeds:
            entries += (at | _PROCEEDS, now.proceeds - before.proceeds)
        if now.dues != before.dues:
            entries += (at | _DUES, now.dues - before.dues)

    def due(self, index: int, key: bytes, before: Due | None, now: Due | None) -> None:  # noqa: ARG002
        self.entries += (index << 32 | _DUES, (0 if before is None else before.amount_uthb)
                         - (0 if now is None else now.amount_uthb))

    def position(self, index: int, key: bytes, before: Position | None,  # noqa: ARG002
                 now: Position | None) -> None:
        if now is None:         # positions of a final window leave state together with its trades
            return
        if (now.sold < 0 or now.bought < 0 or now.open_sell < 0 or now.open_buy < 0 or now.freed_sell < 0
                or now.freed_buy < 0 or now.new_sold < 0 or now.new_bought < 0):
            self.impossible.append(index)
        if before is None:
            before = _NO_POSITION
        at, entries = index << 32, self.entries
        if now.bought != before.bought:
            entries += (at | _BOUGHT, now.bought - before.bought)
        if now.sold != before.sold:
            entries += (at | _SOLD, now.sold - before.sold)
        if now.open_buy != before.open_buy:
            entries += (at | _OPEN_BUYS, now.open_buy - before.open_buy)
        if now.open_sell != before.open_sell:
            entries += (at | _OPEN_SELLS, now.open_sell - before.open_sell)

    def order(self, index: int, key: bytes, before: Order | None, now: Order | None) -> None:  # noqa: ARG002
        at, entries = index << 32, self.entries
        for order, sign in ((now, -1), (before, 1)):
            if order is None:
                continue
            rest = sign * order.remaining_wh
            if order.side == BUY:
                escrow = buy_escrow(order.price, order.remaining_wh, order.term, order.vat_ppm)
                entries += (at | _BIDS, sign * escrow, at | _OPEN_BUYS, rest)
            else:
                entries += (at | _COLLATERAL, order.term * rest, at | _OPEN_SELLS, rest)

    # ------------------------------------------------------------ trades and flows

    def trade(self, index: int, key: bytes, before: Trade | None, now: Trade | None) -> None:
        if before is not None or now is None:
            return
        at = index << 32
        self.entries += (at | _BOUGHT, -now.delivered_wh, at | _SOLD, -now.injected_wh)
        self._held(at, now, -1)
        self.metered.trade(index, now)
        if now.path:
            window = int.from_bytes(key[1:5], "big")
            for corridor, _, direction in directions(self.session, now.sell_zone, now.path):
                group = at | self.groups(_DIRECTIONS, window, corridor)
                self.entries += (group + direction, -now.injected_wh, group + 1 - direction, now.delivered_wh)

    def _held(self, at: int, trade: Trade, sign: int) -> None:
        held = trade.value_uthb + trade.wheel_uthb + trade.fee_uthb + trade.vat_uthb
        self.entries += (at | _PROCEEDS, sign * held, at | _COLLATERAL, sign * trade.collateral_uthb)

    def settled(self, index: int, key: bytes, before: WindowBook | None, now: WindowBook | None) -> None:
        """A window's trades that this block settled are no longer held for."""
        if now is not None and before is not None and now.settled != before.settled:
            window = int.from_bytes(key[1:], "big")
            for number in range(before.settled, now.settled):
                self._held(index << 32, self.session.get(spaces.trade(window, number)), 1)

    def corridor(self, index: int, key: bytes, before: CorridorWindow | None, now: CorridorWindow | None) -> None:
        """What is used of a capacity grows by the trades' flows alone, and by them not above the capacity."""
        if now is None:         # it leaves state with its window's trades
            return
        window, corridor = int.from_bytes(key[1:5], "big"), key[5]
        old = before or declared(self.session.get(spaces.corridor(corridor)))
        group = index << 32 | self.groups(_DIRECTIONS, window, corridor)
        for direction, (had, left_before, has, left) in enumerate((
                (old.forward_wh, old.forward_left_wh, now.forward_wh, now.forward_left_wh),
                (old.backward_wh, old.backward_left_wh, now.backward_wh, now.backward_left_wh))):
            self.entries += (group + direction, has - left - (had - left_before))
            if has < 0 or max(had - left_before, had, has) < has - left:
                self.impossible.append(index)


def check_changes(session: Session, changes: Changes) -> None:
    """Checks the changes of one block; `session` reads the state after it.

    Raises InvariantError naming the record that is impossible, or the sum that does not balance.
    """
    sums = _Sums(session)
    rules, metered = sums.rules(), sums.metered
    index = 0
    while (index := _KERNEL.gather(changes, index, rules, session, sums.entries, metered.zone_group,
                                   metered.accounts, metered.lots)) < len(changes):
        key, before, now = changes[index]
        rules[key[0]](index, key, before, now)
        index += 1
    if sums.certified:
        certificates.check_certificates(session, changes, sums.certified)
    if sums.impossible:
        key, _, now = changes[sums.impossible[0]]
        raise InvariantError(f"{Space(key[0]).name} {key[1:].hex()} is impossible: {now}")
    expected = np.zeros(len(sums.groups), np.int64)
    expected[Sum.THB] = sums.issued
    for violation in check_sums(_records(sums.entries, changes), expected, limit=1):
        key = b"" if violation.identity is None else changes[violation.identity][0]
        where = f"; it goes wrong with {Space(key[0]).name} {key[1:].hex()}" if key else ""
        raise InvariantError(f"{sums.groups.name(violation.group)} does not balance: the block changes it by "
                             f"{violation.actual}, expected is {violation.expected}{where}")


def _records(entries: Entries, changes: Changes) -> np.ndarray[Any, Any]:
    if entries.beyond is not None:
        at, amount = entries.beyond
        key, _, now = changes[at >> 32]
        raise InvariantError(f"{Space(key[0]).name} {key[1:].hex()} changes a sum by {amount}, which needs more than "
                             f"64 bits: {now}")
    return np.frombuffer(entries.raw(), RECORD)


_KERNEL = Contributions(
    {record.__name__: record for record in (Account, Position, Order, Meter, Reading, Settlement, Lot, Energy, Traded)},
    Space.__members__, {member.name: int(member) for member in Sum}, buy=int(BUY))


def check_account(key: bytes, account: Account, *, may_owe: bool = False) -> None:
    """Raises InvariantError unless every part of the account is possible; `may_owe` is a utility's credit line."""
    a = account
    collateral, freed = a.collateral, a.freed
    if (a.bids < 0 or a.proceeds < 0 or a.released < 0 or a.dues < 0 or not 0 <= freed <= collateral <= MAX_MONEY
            or a.balance < (-MAX_MONEY if may_owe else 0) or a.total > MAX_MONEY
            or a.locked != locked_money(collateral, a.credit)):
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
