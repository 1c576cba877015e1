"""What a node has of the computer it runs on, beside its log, database and network: clocks and threads.

The simulator puts others in their place, so that everything above runs in virtual time and one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

Result = TypeVar("Result")


class Machine(Protocol):
    """Trio's clock is the monotonic one."""

    def clock_ms(self) -> int:
        """The wall clock, Unix ms."""

    def effort_s(self) -> float:
        """A stopwatch for work that does not give way to the event loop."""

    async def in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Runs what waits for the disk or computes for long while the event loop goes on; not cancelled half-way."""


class RealMachine:
    """The operating system's."""

    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def effort_s(self) -> float:
        return time.perf_counter()

    async def in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await trio.to_thread.run_sync(work, *arguments)
