"""What the machine does while a benchmark runs: two fixed loops that have nothing to do with the engine.

Neighbours on a shared machine take cycles and cache. A reader who sees these two beside a figure can tell a slow engine
from a slow minute: `steps` is arithmetic in the nearest cache, `reads` are random reads in 64 MiB, each on its own.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

STEPS = 200_000
READS = 1 << 18
WORDS = 1 << 23


class Machine:
    """Measured once per repetition; prints median and least of both loops."""

    def __init__(self) -> None:
        self.words = np.zeros(WORDS, np.int64)
        self.places = np.random.default_rng(1).integers(0, WORDS, READS)
        self.steps_ns: list[float] = []
        self.reads_ns: list[float] = []

    def measure(self) -> None:
        begin = time.process_time_ns()
        for _ in range(STEPS):
            pass
        middle = time.process_time_ns()
        self.words.take(self.places)
        end = time.process_time_ns()
        self.steps_ns.append((middle - begin) / STEPS)
        self.reads_ns.append((end - middle) / READS)

    def line(self) -> str:
        return (f"machine meanwhile: a step of an empty loop {statistics.median(self.steps_ns):.1f} ns (least "
                f"{min(self.steps_ns):.1f}), a random read {statistics.median(self.reads_ns):.1f} ns (least "
                f"{min(self.reads_ns):.1f})")
