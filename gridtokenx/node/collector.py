"""How often a process that executes blocks looks for cycles of objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATIONS = 200_000
"""Between collections: a block makes thousands of objects that live as long as it is not checkpointed, and what lives
between two checkpoints need not be looked through. With Python's default of 700 a loaded node spent a fifth of its time
on that."""
ALLOCATIONS_OF_A_RUN = 1_000_000
"""The same for a simulated run: its trades and receipts live to its end, and it leaves a handful of cycles a block. So
much garbage, were there no other, is some 100 MB."""


@contextmanager
def collecting_less(allocations: int = ALLOCATIONS) -> Iterator[None]:
    """For the whole process while it is open. What is there, modules above all, is not looked through meanwhile."""
    before = gc.get_threshold()
    freezes = not gc.get_freeze_count()     # what somebody else froze, around this one too, is theirs to unfreeze
    if freezes:
        gc.freeze()
    gc.set_threshold(allocations, 10, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if freezes:
            gc.freeze()         # what was made meanwhile is old now, and not looked through at once
            gc.unfreeze()
