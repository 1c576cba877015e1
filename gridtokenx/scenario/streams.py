"""Chance, from one root seed: every agent, house and group draws from a stream of its own, known by its name.

The name is hashed with SHA-256 (Python's `hash` differs from process to process), so that a group more or less, or
another strategy of one group, leaves the draws of all others as they were.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The stream called `names` under the root `seed`: PCG64 from a SeedSequence."""
    words = seed.to_bytes(4 * max(1, -(-seed.bit_length() // 32)), "little")
    digest = sha256("/".join(map(str, names)).encode()).digest()
    # All words at once: a list of numbers is what SeedSequence makes of them, one by one.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(np.frombuffer(words + digest, "<u4"))))
