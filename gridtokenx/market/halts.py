"""Halts of a window: by an operator until resumed, by the breaker for a time (MARKET 3).

The breaker looks at the end of every block: once at least `breaker_least_wh` were injected and `breaker_participants`
took part on each side since its last halt, it halts a window whose volume-weighted price lies outside the band. A halt
that has run out ends when timed work or the next operation comes to it, whichever is first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from gridtokenx._native.orderbook import Kind
from gridtokenx.ledger import spaces
from gridtokenx.ledger.market_records import UNTIL_RESUMED, Trading
from gridtokenx.ledger.session import Session
from gridtokenx.market.work import Work, timed_key

if TYPE_CHECKING:
    from gridtokenx.market.desk import Desk

NEVER_HALTED = Trading()


def trading(session: Session, window: int) -> Trading:
    found: Trading | None = session.get(spaces.trading(window))
    return NEVER_HALTED if found is None else found


def halt(desk: Desk, window: int, until_ms: int = UNTIL_RESUMED) -> None:
    """From here on the window's orders and amends are refused and nothing trades; it is halted again if it was."""
    session = desk.context.session
    told = desk.load_before_change(window)
    found = trading(session, window)
    _forget_end(session, window, found)
    session.put(spaces.trading(window), evolve(found, halted_until_ms=until_ms))
    if until_ms != UNTIL_RESUMED:
        session.put(timed_key(until_ms, Work.RESUME, window), spaces.PRESENT)
    if told:
        desk.queue(window, Kind.HALT)


def resume(desk: Desk, window: int) -> None:
    """Ends a halt; what crosses by then is traded first."""
    session = desk.context.session
    found = trading(session, window)
    if not found.halted_until_ms:
        return
    told = desk.load_before_change(window)
    _forget_end(session, window, found)
    session.put(spaces.trading(window), evolve(found, halted_until_ms=0))
    if told:
        desk.queue(window, Kind.RESUME)


def resume_if_due(desk: Desk, window: int) -> None:
    if 0 < trading(desk.context.session, window).halted_until_ms <= desk.context.now_ms:
        resume(desk, window)


def check_breaker(desk: Desk, windows: set[int]) -> None:
    """Halts those of the windows, in which the block traded, whose volume-weighted price has left the band."""
    context = desk.context
    parameters = context.parameters
    for window in sorted(windows):
        found = trading(context.session, window)
        if (found.injected_wh < parameters.breaker_least_wh
                or min(len(found.buyers), len(found.sellers)) < parameters.breaker_participants):
            continue
        band = desk.rules_of(window).band
        if band.low * found.injected_wh <= found.value_uthb <= band.high * found.injected_wh:
            continue
        context.session.put(spaces.trading(window), Trading(found.halted_until_ms))
        if not found.halted_until_ms:
            halt(desk, window, context.now_ms + context.identity.market_rate * parameters.breaker_pause_ms)


def _forget_end(session: Session, window: int, found: Trading) -> None:
    if found.halted_until_ms not in (0, UNTIL_RESUMED):
        session.put(timed_key(found.halted_until_ms, Work.RESUME, window), None)
