"""Virtual time for whole nodes: trio's clock instead of the heap's own.

`World`'s heap, random streams and trace, emptied by a task. Trio itself is made deterministic by two of its private
names; `deterministic_trio` fails loudly when they are gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import trio
import trio.testing
from trio._core import _run

from gridtokenx.sim.world import EVENTS_PER_SECOND_MAX, Violation, World

SECOND_US = 1_000_000


def deterministic_trio(seed: int | str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `main` in virtual time; the order in which trio runs ready tasks depends on the seed alone."""
    flag, random = "_ALLOW_DETERMINISTIC_SCHEDULING", getattr(_run, "_r", None)
    if not hasattr(_run, flag) or not isinstance(random, Random):
        raise Violation("this version of trio cannot be made deterministic: its scheduler's private names have changed")
    before, state = getattr(_run, flag), random.getstate()
    setattr(_run, flag, True)
    random.seed(f"{seed}/trio")
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        setattr(_run, flag, before)
        random.setstate(state)


class TrioWorld(World):
    """To be used within `deterministic_trio`, with `pump` running."""

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed)
        self._wake = trio.Event()
        self.failure: BaseException | None = None
        self.failed = trio.Event()

    @property
    def now_us(self) -> int:
        return round(trio.current_time() * SECOND_US)

    @now_us.setter
    def now_us(self, _: int) -> None:
        """Time is trio's."""

    def at(self, time_us: int, action: Callable[..., None], *arguments: Any) -> None:
        super().at(time_us, action, *arguments)
        self._wake.set()

    def fail(self, error: BaseException) -> None:
        """The run ends with the first of these."""
        if self.failure is None:
            self.failure = error
        self.failed.set()

    async def pump(self) -> None:
        """Carries out what was scheduled, when its time has come."""
        try:
            while True:
                while not self._heap or self._heap[0][0] > self.now_us:
                    self._wake = trio.Event()
                    with trio.move_on_at(self._heap[0][0] / SECOND_US if self._heap else float("inf")):
                        await self._wake.wait()
                _, _, action, arguments = heapq.heappop(self._heap)
                self._count()
                action(*arguments)
        except Exception as error:  # noqa: BLE001 - a violation, or a defect of the simulator: both end the run
            self.fail(error)

    def _count(self) -> None:
        second = self.now_us // SECOND_US
        if second != self._second:
            self._second, self._events_in_second = second, 0
        self._events_in_second += 1
        self.events += 1
        if self._events_in_second > EVENTS_PER_SECOND_MAX:
            raise Violation(f"more than {EVENTS_PER_SECOND_MAX} events in virtual second {second}")
