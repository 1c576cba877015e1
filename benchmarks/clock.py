"""CPU and wall time by stage, each stage without those inside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from attrs import define, field


@define
class StageClock:
    """Seconds by stage, in the order in which stages were first entered."""

    cpu_s: dict[str, float] = field(factory=dict)
    wall_s: dict[str, float] = field(factory=dict)
    _running: list[str] = field(factory=list)
    _cpu: float = 0.0
    _wall: float = 0.0

    def _turn(self) -> None:
        """What passed since the last turn belongs to the innermost stage."""
        cpu, wall = time.process_time(), time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + cpu - self._cpu
            self.wall_s[name] = self.wall_s.get(name, 0.0) + wall - self._wall
        self._cpu, self._wall = cpu, wall

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        self._turn()
        self._running.append(stage)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    @contextmanager
    def watching(self, places: dict[tuple[Any, str], str]) -> Iterator[None]:
        """Counts calls of functions, `(module or class, name)`, as stages while it is open."""
        with ExitStack() as stack:
            for (owner, name), stage in places.items():
                original = getattr(owner, name)
                setattr(owner, name, self._counted(original, stage))
                stack.callback(setattr, owner, name, original)
            yield

    def _counted(self, original: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            with self.of(stage):
                return original(*arguments, **named)

        return counted
