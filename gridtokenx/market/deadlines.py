"""Which window is settled next, and until when its readings may come (MARKET 2; CONSENSUS 2).

Windows are settled one after the other from the first that a registered meter measures, with or without trade. If
the chain stood still, the reading deadlines within the gap move to its end plus one window, and no deadline of a
later window comes before them. A deadline that was moved is not moved again: a chain whose blocks are always so far
apart settles nevertheless, each window at most one gap and one window late.
"""

from __future__ import annotations

from attrs import evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import Settling
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.market.clock import WINDOW_MS, final_ms, settles_ms
from gridtokenx.market.work import Work, timed_key

HALT_MS = 60_000
"""A block so much later than its parent (real ms) ended a halt of the chain. Twice the longest heartbeat: a chain that
is merely idle never moves a deadline, which its every block would move on."""


def deadline_ms(settling: Settling, window: int) -> int:
    """The market time up to which readings of `window` are taken; it is settled from then on."""
    deadline = settles_ms(window)
    return max(deadline, settling.moved_ms) if window >= settling.moved_window else deadline


def _was_moved(settling: Settling, window: int) -> bool:
    return deadline_ms(settling, window) > settles_ms(window)


def closes_ms(parameters: Parameters, settling: Settling, window: int) -> int:
    """The end of corrections; later than `corrections_ms` only if the deadline itself was moved so far."""
    return max(final_ms(window, parameters.corrections_ms), deadline_ms(settling, window))


def begin_settling(context: Context) -> None:
    """The first meter of the chain starts settlement, with the first window that it measures whole."""
    settling: Settling = context.session.get(spaces.SETTLING)
    if not settling.window:
        settling = evolve(settling, window=-(-context.now_ms // WINDOW_MS))
        context.session.put(spaces.SETTLING, settling)
        schedule(context, settling)


def schedule(context: Context, settling: Settling) -> bytes:
    """Puts the settlement of the next window into the queue of timed work; returns its key there."""
    key = timed_key(deadline_ms(settling, settling.window), Work.SETTLE, settling.window)
    context.session.put(key, spaces.PRESENT)
    return key


def after_halt(context: Context) -> None:
    """Moves the deadlines that fell into a halt which this block ends, if it ends one, and were not moved before."""
    if context.timestamp_ms - context.parent_timestamp_ms <= HALT_MS:
        return
    session = context.session
    settling: Settling = session.get(spaces.SETTLING)
    if not settling.window:
        return
    first = settling.window
    while (due := deadline_ms(settling, first)) <= context.parent_ms or (
            due <= context.now_ms and _was_moved(settling, first)):
        first += 1
    if due > context.now_ms:
        return
    moved = evolve(settling, moved_window=first, moved_ms=context.now_ms + WINDOW_MS)
    session.put(spaces.SETTLING, moved)
    if first == settling.window:        # otherwise the window in the queue is due, and stays there
        session.put(timed_key(due, Work.SETTLE, first), None)
        schedule(context, moved)
