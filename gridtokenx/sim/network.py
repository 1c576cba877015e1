"""The simulated network: delay, loss, duplication, reordering, cut links (also one way)."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from attrs import define

from gridtokenx.sim.world import World


class Receiver(Protocol):
    """Anything that can be plugged into the network; whole nodes as well as bare cores."""

    def receive(self, sender: int, payload: Any) -> None: ...


@define
class Conditions:
    """What the links do at present. Times in microseconds, chances in per mille."""

    delay_us: int = 5_000
    jitter_us: int = 0
    loss: int = 0
    duplication: int = 0
    extra_delay_us: int = 0               # a slow spell: every message of every link


class Network:
    """Delivers payloads between numbered receivers."""

    def __init__(self, world: World, conditions: Conditions) -> None:
        self.conditions = conditions
        self.sent: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self._world = world
        self._random = world.stream("network")
        self._receivers: dict[int, Receiver] = {}
        self._cut: set[tuple[int, int]] = set()

    def attach(self, index: int, receiver: Receiver) -> None:
        self._receivers[index] = receiver

    def cut(self, links: set[tuple[int, int]]) -> None:
        """Drops everything on these directed links until `heal`."""
        self._cut |= links

    def heal(self, links: set[tuple[int, int]] | None = None) -> None:
        self._cut = set() if links is None else self._cut - links

    def send(self, sender: int, to: int, payload: Any) -> None:
        self.sent[type(payload).__name__] += 1
        now = self.conditions
        if (sender, to) in self._cut:
            self.injected["cut off"] += 1
            return
        if now.loss and self._random.randrange(1000) < now.loss:
            self.injected["lost"] += 1
            return
        copies = 1
        if now.duplication and self._random.randrange(1000) < now.duplication:
            self.injected["duplicated"] += 1
            copies = 2
        for _ in range(copies):
            delay_us = now.delay_us + now.extra_delay_us
            if now.jitter_us:
                delay_us += self._random.randrange(now.jitter_us)
            self._world.after(delay_us, self._receivers[to].receive, sender, payload)
