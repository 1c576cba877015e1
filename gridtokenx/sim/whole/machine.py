"""One machine's clock, threads and processor: everything takes virtual time, and anything can be its last act."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

import trio
from attrs import define

from gridtokenx.sim.setting import Clock
from gridtokenx.sim.whole.world import SECOND_US, TrioWorld
from gridtokenx.store.simulated_disk import PowerLost

Result = TypeVar("Result")

EFFORT_PER_LOOK_S = 0.002


@define
class Pace:
    """How long things take on this machine, in microseconds; `slow` multiplies what the disk does."""

    sync_us: int = 1_000
    execution_us: int = 2_000
    slow: int = 1

    def of(self, work: str) -> int:
        if work in ("sync", "leave_mark"):
            return self.sync_us * self.slow
        if work in ("checkpoint", "prune_history"):
            return 4 * self.sync_us * self.slow
        return self.execution_us


class SimulatedMachine:
    """A `Machine` for one life of a process."""

    def __init__(self, world: TrioWorld, clock: Clock, pace: Pace, random: Random) -> None:
        self.dead = False
        self._world = world
        self._clock = clock
        self._pace = pace
        self._random = random
        self._effort_s = 0.0
        self._sleeping: list[trio.CancelScope] = []
        self._awake = trio.Event()
        self._awake.set()

    # ------------------------------------------------------------ Machine

    def clock_ms(self) -> int:
        return self._clock.read_ms(self._world.now_us)

    def effort_s(self) -> float:
        self._effort_s += EFFORT_PER_LOOK_S
        return self._effort_s

    async def in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Ends early, and without having done it, only by the death of the process."""
        self.alive()
        name = getattr(work, "__name__", "")
        delay_us = self._random.randint(1, 2 * self._pace.of(name))
        with trio.CancelScope(shield=True) as scope:
            self._sleeping.append(scope)
            await trio.sleep(delay_us / SECOND_US)
            await self._awake.wait()
        self._sleeping.remove(scope)
        self.alive()
        try:
            return work(*arguments)
        except PowerLost:
            self.die()                  # and with this thread all others
            raise

    # ------------------------------------------------------------ what happens to it

    def alive(self) -> None:
        """Raises PowerLost when this process is dead: whatever asks does nothing more."""
        if self.dead:
            raise PowerLost("this process was killed")

    def die(self) -> None:
        self.dead = True
        self._awake.set()
        for scope in self._sleeping:
            scope.cancel()

    @property
    def paused(self) -> bool:
        return not self._awake.is_set()

    def pause(self) -> None:
        """As by SIGSTOP: nothing runs until `resume`."""
        self._awake = trio.Event()

    def resume(self) -> None:
        self._awake.set()

    async def awake(self) -> None:
        await self._awake.wait()
