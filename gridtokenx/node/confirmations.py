"""How long transactions that were submitted at this node took to become final, for operators and the explorer."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable

from attrs import define, field, frozen

MAX_PENDING = 65_536
RECENT = 1024
BOUNDS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


@frozen
class Recent:
    """Of the last `RECENT` confirmations; None while there is none."""

    p50_ms: int | None
    p99_ms: int | None


@define
class Confirmations:
    """From the moment a client's transaction reached this node to its finality here."""

    counts: list[int] = field(factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """Confirmations by `BOUNDS_S`, each up to and with its bound; the last is all that took longer."""
    sum_s: float = 0.0
    _since: dict[bytes, float] = field(factory=dict)
    _recent: deque[float] = field(factory=lambda: deque(maxlen=RECENT))

    def submitted(self, ids: Iterable[bytes], since_s: float) -> None:
        """Transactions that were taken into the pool. Beyond MAX_PENDING the oldest is not measured any more."""
        for transaction_id in ids:
            self._since[transaction_id] = since_s
        while len(self._since) > MAX_PENDING:
            del self._since[next(iter(self._since))]

    def final(self, ids: Iterable[bytes], now_s: float) -> None:
        if not self._since:
            return
        for transaction_id in ids:
            since_s = self._since.pop(transaction_id, None)
            if since_s is not None:
                took_s = now_s - since_s
                self.counts[bisect_left(BOUNDS_S, took_s)] += 1
                self.sum_s += took_s
                self._recent.append(took_s)

    def refused(self, transaction_id: bytes) -> None:
        """It will never be final."""
        self._since.pop(transaction_id, None)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def recent(self) -> Recent:
        ordered = sorted(self._recent)
        if not ordered:
            return Recent(None, None)
        return Recent(*(round(1000 * ordered[(len(ordered) - 1) * part // 100]) for part in (50, 99)))
