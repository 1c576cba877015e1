"""What a gateway takes of the processors, which it shares with the node whose data it serves.

A low priority is not enough on few cores: whatever runs between two votes empties the caches that the node works from.
So a gateway that has used its share stands still for a while. Arithmetic on times passed in; `keep_within` applies it.
"""

from __future__ import annotations

import math
import os
import time

import trio
from attrs import define

BURST_S = 0.1
"""Of processor time, after a quiet while."""
START_S = 2.0
"""Of processor time, for starting."""
LOOK_S = 0.02
MOST_PAUSE_S = 0.1
"""At a time: signals wait so long."""
SHARE_OF_MACHINE = 8
"""By default one part in so many of the machine's processors, at most one whole processor: it is one process."""


def default_percent() -> int:
    """Of one processor."""
    return min(100, math.ceil(100 * (os.cpu_count() or 1) / SHARE_OF_MACHINE))


@define
class CpuBudget:
    """`share` of one processor's time; what is not used is kept up to BURST_S, beside the credit to begin with."""

    share: float
    _used_s: float
    _now_s: float
    _credit_s: float = START_S

    def pause_s(self, used_s: float, now_s: float) -> float:
        """How long to stand still after `used_s` of processor time by `now_s`; both count from anywhere."""
        left_s = self._credit_s - (used_s - self._used_s)
        self._credit_s = min(left_s + self.share * (now_s - self._now_s), max(left_s, BURST_S))
        self._used_s, self._now_s = used_s, now_s
        return max(0.0, -self._credit_s / self.share)


async def keep_within(percent: int, start_s: float = START_S) -> None:
    """Holds the process to `percent` of one processor, at least 1, by keeping its event loop from running on."""
    budget = CpuBudget(percent / 100, time.process_time(), time.monotonic(), start_s)
    while True:
        await trio.sleep(LOOK_S)
        pause_s = budget.pause_s(time.process_time(), time.monotonic())
        time.sleep(min(pause_s, MOST_PAUSE_S))      # the loop itself has to stand still
