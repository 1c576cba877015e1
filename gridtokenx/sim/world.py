"""Virtual time: a heap of events, seeded random streams, and a hash of everything that happened.

No threads, no event loop, no real clock. Two runs of one seed give the same trace hash.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

from gridtokenx.errors import GridTokenXError

EVENTS_PER_SECOND_MAX = 60_000


class Violation(GridTokenXError):
    """The system under simulation broke one of its invariants."""


class World:
    """Time is in microseconds since the start of the run."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.now_us = 0
        self.events = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._trace = sha256(str(seed).encode())
        self._second = 0
        self._events_in_second = 0
        self.log: Callable[[str], None] | None = None

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def stream(self, name: str) -> Random:
        """A random stream of its own for each purpose, so that one more draw in one does not change the others."""
        return Random(f"{self.seed}/{name}")

    def at(self, time_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Schedules; events of one instant run in the order in which they were scheduled."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(time_us, self.now_us), self._sequence, action, arguments))

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_us + delay_us, action, *arguments)

    def run_until(self, end_us: int, stop: Callable[[], bool] | None = None) -> bool:
        """Runs to `end_us`, or until `stop` (asked every 50 virtual ms) says so; True iff it did.

        Raises Violation when one virtual second holds more events than any protocol here needs.
        """
        next_check_us = self.now_us
        while self._heap and self._heap[0][0] <= end_us:
            time_us, _, action, arguments = heapq.heappop(self._heap)
            self.now_us = time_us
            second = time_us // 1_000_000
            if second != self._second:
                self._second, self._events_in_second = second, 0
            self._events_in_second += 1
            if self._events_in_second > EVENTS_PER_SECOND_MAX:
                raise Violation(f"more than {EVENTS_PER_SECOND_MAX} events in virtual second {second}")
            self.events += 1
            action(*arguments)
            if stop is not None and time_us >= next_check_us:
                next_check_us = time_us + 50_000
                if stop():
                    return True
        self.now_us = max(self.now_us, end_us)
        return stop is not None and stop()

    def trace(self, line: str) -> None:
        """Adds to the trace, and to the log when one is wanted."""
        self._trace.update(f"{self.now_us} {line}\n".encode())
        if self.log is not None:
            self.log(f"{self.now_us / 1000:11.3f} ms  {line}")

    def trace_hash(self) -> str:
        return self._trace.hexdigest()
