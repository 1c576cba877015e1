"""How many authorities may be faulty and how many make a quorum (CONSENSUS 3)."""

from __future__ import annotations


def faulty_at_most(n: int) -> int:
    """f: how many of `n` authorities may be Byzantine."""
    return (n - 1) // 3


def quorum_of(n: int) -> int:
    """q: any two sets of q share an honest authority. Not 2f + 1, which is too few unless n = 3f + 1."""
    return (n + faulty_at_most(n)) // 2 + 1
