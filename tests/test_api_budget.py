"""A gateway takes its share of a processor and no more."""

from __future__ import annotations

import time

import pytest
import trio

from gridtokenx.api import budget
from gridtokenx.api.budget import BURST_S, START_S, CpuBudget, default_percent, keep_within


def test_what_was_used_is_paid_for_by_standing_still() -> None:
    kept = CpuBudget(0.25, 100.0, 50.0)
    assert kept.pause_s(100.0 + START_S, 50.0) == 0                         # starting is free
    assert kept.pause_s(102.5, 51.0) == pytest.approx(1.0)                  # 0.5 s used, 0.25 s earned
    assert kept.pause_s(102.5, 51.5) == pytest.approx(0.5)                  # still to wait
    assert kept.pause_s(102.5, 52.0) == pytest.approx(0.0)
    assert kept.pause_s(102.5, 99.0) == 0                                   # long idle: no more than a burst is kept
    assert kept.pause_s(102.5 + BURST_S, 99.0) == pytest.approx(0.0)
    assert kept.pause_s(102.7 + BURST_S, 99.0) == pytest.approx(0.8)


def test_time_for_starting_is_there_until_it_is_used() -> None:
    kept = CpuBudget(0.5, 0.0, 0.0)
    assert kept.pause_s(START_S / 2, 1000.0) == 0
    assert kept.pause_s(START_S, 2000.0) == 0
    assert kept.pause_s(START_S + 1.0, 2000.0) == pytest.approx((1.0 - BURST_S) / 0.5)


async def test_a_busy_process_stays_within_its_share() -> None:
    async def work() -> None:
        while True:
            end = time.process_time() + 0.002
            while time.process_time() < end:
                pass
            await trio.sleep(0)

    began, used = time.monotonic(), time.process_time()
    with trio.move_on_after(1.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_within, 20, 0.0)
            nursery.start_soon(work)
    assert time.process_time() - used <= 0.2 * (time.monotonic() - began) + 2 * BURST_S


def test_the_default_leaves_most_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, percent in ((1, 13), (2, 25), (8, 100), (64, 100), (None, 13)):
        monkeypatch.setattr(budget.os, "cpu_count", lambda cores=cores: cores)
        assert default_percent() == percent
