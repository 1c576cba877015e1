"""How a window leaves state: its trades when corrections have ended, its readings and bills some weeks later."""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.market.claims import issue_claims

Spend = Callable[[int], bool]
"""Asked with a weight before each piece of work: has this block room for it?"""


def clear_window(context: Context, window: int, spend: Spend) -> bool:
    """The window is final: takes its trades, positions and market out of state; True when all are.

    What is derived from a final window is derived here, before its records go: claims on its renewable energy.
    """
    if not (issue_claims(context, window, spend)
            and _remove(context, spend, spaces.trade(window), spaces.position(window), spaces.market(window),
                        spaces.corridor_window(window), spaces.indicative(window), spaces.trading(window),
                        spaces.work_left(window), spaces.agreement(window), spaces.window(window))):
        return False
    context.session.put(spaces.claiming(window), None)
    return True


def forget_window(context: Context, window: int, spend: Spend) -> bool:
    """Takes readings, bills, lots, claims, balances and flags out of state, `bill_keep_days` after delivery."""
    return _remove(context, spend, spaces.reading(window), spaces.settlement(window), spaces.lot(window),
                   spaces.claim(window), spaces.correction(window), spaces.balance(window), spaces.flag(window))


def _remove(context: Context, spend: Spend, *prefixes: bytes) -> bool:
    """Blocks and receipts keep what happened."""
    session = context.session
    for prefix in prefixes:
        for key, _ in session.scan(prefix):
            if not spend(weights.CLEAR_RECORD):
                return False
            session.put(key, None)
    return True
