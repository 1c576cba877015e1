"""How a meter's claims are shared among the trades whose buyers asked for its source (MARKET 8).

Pro rata by the energy each trade took from the meter (q_in), to whole Wh by largest remainder, the lowest trade number
first; no trade gets more than it delivered (q). What one cannot take goes to the others in the same proportion, so a
buyer misses energy only when nothing is left for the producer.

With `left` Wh for trades that took `weight` Wh in all, the level is left / weight. Trades are taken by q / q_in, the
least first: one that is full at the level gets its q, which raises the level for the others; from the first that is
not full on, each gets the level's share of its q_in in whole Wh, and what is over goes by remainder. Both orders are
kept in state (`Ranking`), so that the work can stop after any trade and go on in another block.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from gridtokenx.ledger import spaces
from gridtokenx.ledger.session import Session

_RATIO_BITS = 63


def ratio_rank(injected_wh: int, delivered_wh: int) -> int:
    """A number of 64 bits that orders trades by q / q_in exactly, 0 < q <= q_in < 2^31.

    Two different fractions with such denominators differ by more than 2^-62, so by more than 1 after the shift.
    """
    return (delivered_wh << _RATIO_BITS) // injected_wh


def is_full(left_wh: int, weight_wh: int, injected_wh: int, delivered_wh: int) -> bool:
    """Whether a trade can take all of its share at the present level."""
    return left_wh * injected_wh >= delivered_wh * weight_wh


def whole_part(left_wh: int, weight_wh: int, injected_wh: int) -> tuple[int, int]:
    """(whole Wh of a trade's share, its rank by the remainder: the greatest first)."""
    part, remainder = divmod(left_wh * injected_wh, weight_wh)
    return part, weight_wh - 1 - remainder


class Ranking:
    """A meter's trades of a window in the order of (rank, number), taken from the front.

    State holds what blocks before left of it; what this block adds is put there by `save`, if anything is left of it.
    Work that begins in this block has left nothing there: `new`, which spares a search for every meter and window.
    """

    def __init__(self, session: Session, window: int, meter: int, stage: int, *, new: bool) -> None:
        self._session = session
        self._place = (window, meter, stage)
        self._stored: Iterator[tuple[bytes, object]] = iter(()) if new else session.scan(spaces.ranked(*self._place))
        self._first: tuple[int, int] | None = None      # of those in state
        self._added: list[tuple[int, int]] = []
        self._read()

    def _read(self) -> None:
        key, _ = next(self._stored, (None, None))
        self._first = None if key is None else (int.from_bytes(key[10:18], "big"), int.from_bytes(key[18:], "big"))

    def add(self, rank: int, number: int) -> None:
        heappush(self._added, (rank, number))

    def first(self) -> int | None:
        """The number of the trade in front; None when there is none."""
        if self._added and (self._first is None or self._added[0] < self._first):
            return self._added[0][1]
        return None if self._first is None else self._first[1]

    def take(self) -> None:
        """Removes the trade in front."""
        if self._added and (self._first is None or self._added[0] < self._first):
            heappop(self._added)
        elif self._first is not None:
            self._session.put(spaces.ranked(*self._place, *self._first), None)
            self._read()

    def save(self) -> None:
        """Puts what this block added and did not take into state: the end of its work on the meter."""
        for rank, number in self._added:
            self._session.put(spaces.ranked(*self._place, rank, number), spaces.PRESENT)
        self._added = []
