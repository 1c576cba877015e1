"""The queue of timed work in state: what falls due, when, and in which order (CONSENSUS 2)."""

from __future__ import annotations

from enum import IntEnum

from gridtokenx.ledger import spaces


class Work(IntEnum):
    """Kinds, in the order in which they are done when due at the same time. Numbers are in state keys: frozen."""

    GATE = 1        # item: window; closes all orders left in it
    EXPIRY = 2      # item: order id
    SETTLE = 3      # item: window; the next one is put into the queue when it is settled
    CLEAR = 4       # item: window; nothing of it can change any more, its records leave state
    UNCROSS = 5     # item: window, due 0; resting orders that cross and that a bound left
    RESUME = 6      # item: window; the breaker's halt is over
    MONTH = 7       # item: window, whose energy is counted for its month; the last one's bills it
    FORGET = 8      # item: window; its readings and bills leave state too


def timed_key(due_ms: int, kind: Work, item: int) -> bytes:
    return spaces.timed(due_ms, kind, item)


def read_timed_key(key: bytes) -> tuple[int, Work, int]:
    """(due in market ms, kind, item) of a key in `Space.TIMED`."""
    return int.from_bytes(key[1:9], "big"), Work(key[9]), int.from_bytes(key[10:], "big")
