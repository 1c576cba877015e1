"""How many pending transactions a node takes and when it looks at them: pure arithmetic on a time passed in (seconds).

While little is pending they get a slice of the actor's time every turn. Once more is pending than becomes final in a
few seconds, taking in still more only keeps blocks from being made and makes everybody wait: then slices are rare,
and beyond some seconds' worth clients find the pool full, whatever memory it has.
"""

from __future__ import annotations

import math

from attrs import define

SLICE_S = 0.008
"""Transactions are worked off for so long before votes are looked at again."""
PLENTY_S = 1.0
"""More pending than becomes final in so long is plenty."""
PLENTY_LEAST = 256
FULL_S = 3.0
"""More pending than becomes final in so long, and clients find the pool full."""
FULL_LEAST = 4096
PLENTY_SHARE = 0.15
"""Of the time, for transactions while there is plenty."""
REMEMBERED_S = 5.0


@define
class Pace:
    """`final` tells it of blocks, `begin` of every slice."""

    _rate: float = 0.0
    _rate_s: float = 0.0
    _next_s: float = 0.0

    def final(self, transactions: int, now_s: float) -> None:
        self._rate = self._rate * math.exp((self._rate_s - now_s) / REMEMBERED_S) + transactions / REMEMBERED_S
        self._rate_s = now_s

    @property
    def plenty(self) -> float:
        """From how many pending transactions on they get little time."""
        return max(PLENTY_LEAST, self._rate * PLENTY_S)

    @property
    def full(self) -> int:
        """From how many pending transactions on clients find the pool full."""
        return max(FULL_LEAST, int(self._rate * FULL_S))

    def begin(self, now_s: float) -> None:
        self._next_s = now_s + SLICE_S / PLENTY_SHARE

    def wait_s(self, pending: int, now_s: float) -> float:
        """How long transactions wait for their next slice."""
        return 0.0 if pending < self.plenty else max(0.0, self._next_s - now_s)
