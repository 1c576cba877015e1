"""Nothing is created or lost: checked over every block's changes, and over a whole state on demand (DESIGN 6).

Per asset: sum of balances + escrows + pools = previous sum + minted - burned. All THB lies in accounts; escrow,
proceeds and collateral are parts of them.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Account, Position, Totals
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.money import MAX_MONEY, locked_money


def check_changes(changes: list[tuple[bytes, Any, Any]]) -> None:
    """Checks the changes of one block, (key, record before, record now) each.

    Raises InvariantError naming the record that is impossible, or the amount that appeared or vanished.
    """
    money = issued = 0
    for key, before, now in changes:
        space = key[0]
        if space == Space.ACCOUNT:
            if now is not None:
                check_account(key, now)
                money += now.total
            if before is not None:
                money -= before.total
        elif space == Space.POSITION:
            if now is not None:
                check_position(key, now)
        elif key == spaces.TOTALS:
            issued = now.held_uthb - before.held_uthb
    if money != issued:
        raise InvariantError(f"THB: the accounts of this block gained {money} uTHB, minted less burned are {issued}")


def check_account(key: bytes, account: Account) -> None:
    """Raises InvariantError unless every part of the account is possible."""
    a = account
    if (min(a.balance, a.bids, a.proceeds, a.collateral, a.locked, a.released, a.freed) < 0
            or a.freed > a.collateral or a.total > MAX_MONEY or a.collateral > MAX_MONEY
            or a.locked != locked_money(a.collateral, a.credit)):
        raise InvariantError(f"account {key[1:].hex()} is impossible: {a}")


def check_position(key: bytes, position: Position) -> None:
    """Raises InvariantError when a position has a negative part."""
    p = position
    if min(p.sold, p.bought, p.open_sell, p.open_buy, p.freed_sell, p.freed_buy, p.new_sold, p.new_bought) < 0:
        raise InvariantError(f"position {key[1:].hex()} is impossible: {p}")


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
    for key, value in state.scan(bytes((Space.ACCOUNT,))):
        account = Account.decode(value)
        check_account(key, account)
        held += account.total
        accounts += 1
    if held != totals.held_uthb:
        raise InvariantError(f"THB: accounts hold {held} uTHB; genesis {totals.genesis_uthb} + minted "
                             f"{totals.minted_uthb} - burned {totals.burned_uthb} is {totals.held_uthb}")
    return Audit(totals.genesis_uthb, totals.minted_uthb, totals.burned_uthb, held, accounts)
