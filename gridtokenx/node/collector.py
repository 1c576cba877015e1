"""How often a process that executes blocks looks for cycles of objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATIONS = 200_000
"""Between collections: a block makes thousands of objects that live as long as it is not checkpointed, and what lives
between two checkpoints need not be looked through. With Python's default of 700 a loaded node spent a fifth of its time
on that."""


@contextmanager
def collecting_less() -> Iterator[None]:
    """For the whole process while it is open. What is there, modules above all, is not looked through meanwhile."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 10, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
