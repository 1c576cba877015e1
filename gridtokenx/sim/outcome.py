"""What one run of a simulation did."""

from __future__ import annotations

from collections import Counter

from attrs import frozen


@frozen
class Outcome:
    """`settled_ms`: from the end of the faults to all being level and all work final. `lives`: of processes, where they
    are counted."""

    seed: int | str
    nodes: int
    adversaries: tuple[str, ...]
    trace_hash: str
    faults: Counter[str]
    notes: Counter[str]
    messages: int
    events: int
    views: int
    epochs: int
    height: int
    transactions: int
    virtual_ms: int
    settled_ms: int
    lives: int = 0
