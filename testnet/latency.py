"""Latencies in bounded memory: a histogram with three significant digits."""

from __future__ import annotations

from collections import Counter

from attrs import define, field


@define
class Latencies:
    """Counts of microseconds, each rounded up to three significant digits: at most 1 % too much, never too little."""

    _counts: Counter[int] = field(factory=Counter)

    def add(self, seconds: float) -> None:
        micros = max(1, round(seconds * 1_000_000))
        step = 10 ** max(0, len(str(micros)) - 3)
        self._counts[-(-micros // step) * step] += 1

    def __len__(self) -> int:
        return self._counts.total()

    def quantile_ms(self, share: float) -> float:
        """The least latency that at least `share` (0..1) of all do not exceed; 0 when there are none."""
        wanted, seen = share * len(self), 0
        for micros in sorted(self._counts):
            seen += self._counts[micros]
            if seen >= wanted:
                return micros / 1000
        return 0.0

    def most_ms(self) -> float:
        return max(self._counts, default=0) / 1000
