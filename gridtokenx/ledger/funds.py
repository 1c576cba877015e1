"""Money of accounts: spending, crediting, escrow and collateral. The only place where amounts change hands.

What comes back from escrow in a block (`released`, `freed`) can be spent from the next block on (MARKET 3), so
nothing a block pays for depends on the matching inside it. `settled` gives the account as it stands for spending
now. Every function conserves money; only deposit and withdraw, which count it, create or destroy it.
"""

from __future__ import annotations

from attrs import evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import Due
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market.money import DEBT_MOST, DUES_MOST, locked_money

_NEW = Account()


def settled(account: Account, height: int) -> Account:
    """`account` with what came back in blocks before `height` made spendable."""
    if account.height >= height or not (account.released or account.freed):
        return account
    collateral = account.collateral - account.freed
    locked = locked_money(collateral, account.credit)
    a = account
    return Account(a.nonce, a.balance + a.released + a.locked - locked, a.bids, a.proceeds, collateral, a.credit,
                   locked, 0, 0, a.height, a.participant, a.threshold, a.dues)


def get_account(session: Session, address: bytes) -> Account:
    """The account for use in this block; one that does not exist is empty."""
    account: Account | None = session.get(spaces.account(address))
    return _NEW if account is None else settled(account, session.height)


def put_account(session: Session, address: bytes, account: Account) -> None:
    session.put(spaces.account(address), account)


def get_funded(session: Session, address: bytes, amount: int, what: str) -> Account:
    """The account if its balance reaches `amount`. Raises Failed(UNFUNDED).

    Orders closed by the parent's time count as released whether or not a sweep has met them, so they are looked
    for before anything is refused.
    """
    account = get_account(session, address)
    if account.spendable < amount:
        session.release_due(address)
        account = get_account(session, address)
        if account.spendable < amount:
            raise Failed(Code.UNFUNDED, f"{what} takes {amount} uTHB; the account can spend {account.spendable}")
    return account


def debit(session: Session, address: bytes, amount: int, what: str) -> None:
    """Takes `amount` from the balance. Raises Failed(UNFUNDED)."""
    account = get_funded(session, address, amount, what)
    put_account(session, address, evolve(account, balance=account.balance - amount))


def credit(session: Session, address: bytes, amount: int) -> None:
    """Adds `amount` to the balance, spendable at once; dues are paid from it first."""
    a = get_account(session, address)
    put_account(session, address, pay_dues(session, address, Account(
        a.nonce, a.balance + amount, a.bids, a.proceeds, a.collateral, a.credit, a.locked, a.released, a.freed,
        a.height, a.participant, a.threshold, a.dues)))


def hold_bid(session: Session, address: bytes, amount: int) -> None:
    """Moves `amount` from the balance to the escrow of buy orders. Raises Failed(UNFUNDED)."""
    a = get_funded(session, address, amount, "the order's escrow")
    put_account(session, address, Account(
        a.nonce, a.balance - amount, a.bids + amount, a.proceeds, a.collateral, a.credit, a.locked, a.released,
        a.freed, a.height, a.participant, a.threshold, a.dues))


def hold_collateral(session: Session, address: bytes, amount: int) -> None:
    """Adds `amount` to the collateral and locks what the credit limit does not cover. Raises Failed(UNFUNDED)."""
    a = get_account(session, address)
    collateral = a.collateral + amount
    locked = locked_money(collateral, a.credit)
    if a.spendable < locked - a.locked:
        session.release_due(address)
        a = get_account(session, address)
        collateral = a.collateral + amount
        locked = locked_money(collateral, a.credit)
        if a.spendable < locked - a.locked:
            raise Failed(Code.UNFUNDED, f"the order's collateral takes {locked - a.locked} uTHB; the account can "
                                        f"spend {a.spendable}")
    put_account(session, address, Account(
        a.nonce, a.balance - locked + a.locked, a.bids, a.proceeds, collateral, a.credit, locked, a.released,
        a.freed, a.height, a.participant, a.threshold, a.dues))


def apply_moves(session: Session, address: bytes, *, bids: int = 0, proceeds: int = 0, released: int = 0,
                freed: int = 0) -> None:
    """What fills and closings of this block do to an account: signed changes of each part.

    `released` and `freed` can be spent from the next block on.
    """
    a = get_account(session, address)
    put_account(session, address, Account(
        a.nonce, a.balance, a.bids + bids, a.proceeds + proceeds, a.collateral, a.credit, a.locked,
        a.released + released, a.freed + freed, session.height, a.participant, a.threshold, a.dues))


def return_now(session: Session, address: bytes, *, bids: int = 0, collateral: int = 0) -> None:
    """Gives back escrow or collateral that counts as released since the parent block: spendable at once."""
    a = get_account(session, address)
    left = a.collateral - collateral
    locked = locked_money(left, a.credit)
    put_account(session, address, evolve(a, balance=a.balance + bids + a.locked - locked, bids=a.bids - bids,
                                         collateral=left, locked=locked))


# ------------------------------------------------------------------ bills and dues (MARKET 7.4)


def utilities(session: Session) -> list[bytes]:
    """The accounts that bear bills: each zone's utility, by address."""
    return sorted({zone.utility for _, zone in session.scan(bytes((Space.ZONE,)))})


def has_credit(session: Session, address: bytes, fee_uthb: int) -> bool:
    """Whether the account may pay the least fees from below zero: a utility's, on its credit line.

    Else a utility that owes could not even report readings. A greater fee takes money that is there.
    """
    return address in utilities(session) and can_bear(session, address, fee_uthb)


def can_bear(session: Session, utility: bytes, amount: int, earned: int = 0) -> bool:
    """Whether a bill of `amount` leaves the utility within the debt that any may have (`market.money`).

    `earned` is what this block owes it already.
    """
    return get_account(session, utility).balance + earned - amount >= -DEBT_MOST


def pay_dues(session: Session, debtor: bytes, account: Account) -> Account:
    """`account` after paying what it can of its dues; the utilities have the money, lowest address first."""
    if not account.dues or account.balance <= 0:
        return account
    left, dues = account.balance, account.dues
    for utility in utilities(session):
        key = spaces.due(debtor, utility)
        due: Due | None = session.get(key)
        if due is None or not left:
            continue
        part = min(left, due.amount_uthb)
        lender = get_account(session, utility)
        put_account(session, utility, evolve(lender, balance=lender.balance + part))
        session.put(key, Due(due.amount_uthb - part) if part < due.amount_uthb else None)
        left -= part
        dues -= part
    return evolve(account, balance=left, dues=dues)


def check_dues(session: Session, address: bytes) -> None:
    """Raises Failed(DUES) when the account still owes more than its credit limit after paying with all it has."""
    account = get_account(session, address)
    if account.dues <= account.credit:
        return
    session.release_due(address)
    account = get_account(session, address)
    account = pay_dues(session, address, account)
    put_account(session, address, account)
    if account.dues > account.credit:
        raise Failed(Code.DUES, f"the account owes utilities {account.dues} uTHB, its limit is {account.credit}; it "
                                "may cancel orders and report readings")


def charge_bill(session: Session, debtor: bytes, account: Account, amount: int, utility: bytes) -> Account:
    """`account` after paying `amount` for a bill that its receivers have got already: it never fails.

    What the balance does not reach the zone's `utility` bears, and it becomes a due. A utility's own balance may
    go below zero: that is its credit line.
    """
    if debtor == utility:
        return evolve(account, balance=account.balance - amount)
    paid = min(amount, max(0, account.balance))
    rest = amount - paid
    if rest:
        lender = get_account(session, utility)
        put_account(session, utility, evolve(lender, balance=lender.balance - rest))
        rest = min(rest, max(0, DUES_MOST - account.dues))
        if rest:
            key = spaces.due(debtor, utility)
            due: Due | None = session.get(key)
            session.put(key, Due(rest + (due.amount_uthb if due is not None else 0)))
    return evolve(account, balance=account.balance - paid, dues=account.dues + rest)
