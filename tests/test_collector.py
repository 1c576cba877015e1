"""Fewer collections while blocks execute: what was set before is set again, however it ends and whoever is inside."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gridtokenx.node.collector import ALLOCATIONS, ALLOCATIONS_OF_A_RUN, collecting_less


@pytest.fixture(autouse=True)
def _nothing_is_frozen() -> Iterator[None]:
    gc.unfreeze()
    before = gc.get_threshold()
    yield
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_one_in_another_leaves_what_the_other_set() -> None:
    with collecting_less():
        frozen = gc.get_freeze_count()
        with collecting_less(ALLOCATIONS_OF_A_RUN):
            assert gc.get_threshold()[0] == ALLOCATIONS_OF_A_RUN
        assert gc.get_threshold()[0] == ALLOCATIONS
        assert 0 < gc.get_freeze_count() <= frozen


def test_an_error_ends_it() -> None:
    with pytest.raises(ZeroDivisionError), collecting_less():
        _ = 1 // 0


def test_what_others_froze_stays_so() -> None:
    gc.freeze()
    with collecting_less():
        pass
    assert gc.get_freeze_count()
    gc.unfreeze()


def test_cycles_made_meanwhile_are_collected_later() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.self = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    with collecting_less():
        for _ in range(10):
            Node()
    gc.collect()
    assert not Node.alive
