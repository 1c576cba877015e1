"""Readings on a fork: reported for its meters by a collector of its own, of one window or of several at once."""

from __future__ import annotations

import pytest

from gridtokenx.crypto import keys
from gridtokenx.forks import ForkError
from gridtokenx.forks.metering import transactions
from gridtokenx.scenario import parse_scenario
from gridtokenx.scenario.run import Simulation, begin


def houses(count: int, windows: int) -> Simulation:
    """A chain with houses, at the beginning of the window after so many that they measured."""
    town = 'name = "t"\nseed = 1\nstart = 2025-04-21T09:00:00+07:00\nwindows = 1\n[[groups]]\nname = "h"\n' \
           f'count = {count}\nzones = {{ Bangkok = 1 }}\nagent = {{ strategy = "truthful" }}\n'
    simulation = begin(parse_scenario(town))
    simulation.chain.reach(simulation.chain.window + windows + 1)
    return simulation


def test_readings_of_an_hour_are_those_of_its_quarters() -> None:
    """Whether meters report each quarter-hour or all of an hour at once, in as many transactions as that takes."""
    made = []
    for together in (True, False):
        simulation = houses(300, 3)
        chain, meters = simulation.chain, sorted(house.meter for house in simulation.houses)
        before, mined = chain.window - 3, len(chain.blocks)
        energies = [(0, number, 0, 2 * number, 0, 1) for number in meters]
        with pytest.raises(ForkError, match=f"window {before + 3} is not over; the one that is running is "):
            chain.report_columns(before + 1, meters, energies)
        if together:
            chain.report_columns(before, meters, energies)
            assert sum(len(block.receipts) for block in chain.blocks[mined:]) == transactions(300, 3) == 2
            assert chain.report_columns(before, [], []) == chain.now_ms
        else:
            for at in range(3):
                chain.report(before + at, {number: own[2 * at:2 * at + 2] for number, own in zip(
                    meters, energies, strict=True)})
        made.append(chain.frames.readings().filter(window=before + 1))
        assert chain.frames.readings().height == 900
        chain.close()
    assert made[0].equals(made[1])
    assert made[0]["withdrawn_wh"].to_list() == [2 * number for number in meters]


def test_of_readings_that_are_refused_meter_and_window_are_named() -> None:
    simulation = houses(3, 2)
    chain, meters = simulation.chain, sorted(house.meter for house in simulation.houses)
    before, most = chain.window - 2, 1 << 40
    with pytest.raises(ForkError) as caught:
        chain.report_columns(before, meters, [(0, 1, 0, 2), (0, 3, 0, most), (most, 0, 0, 4)])
    assert str(caught.value) == (f"2 of 6 readings were refused: meter {meters[1]} ABOVE_CAPACITY in window "
                                 f"{before + 1}, meter {meters[2]} ABOVE_CAPACITY in window {before}")
    assert chain.frames.readings().sort("window", "meter")["withdrawn_wh"].to_list() == [1, 3, 2, 4]
    with pytest.raises(ForkError, match=f"6 of 6 .* meter {meters[0]} READING_KNOWN in window {before}, "):
        chain.report_columns(before, meters, [(0, 1, 0, 2), (0, 3, 0, most), (most, 0, 0, 4)])
    chain.close()


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_readings_fit_into_the_smallest_blocks(windows: int) -> None:
    simulation = houses(260, windows)
    chain, meters = simulation.chain, sorted(house.meter for house in simulation.houses)
    chain.override.parameters(max_block_weight=20_000)
    came_ms = chain.report_columns(chain.window - windows, meters, [(0, 5) * windows] * len(meters))
    assert chain.frames.readings()["withdrawn_wh"].to_list() == [5] * windows * len(meters)
    assert came_ms <= chain.now_ms
    chain.close()


@pytest.mark.parametrize("rows", [
    [(0, 1)], [(0, 1), (0, 1, 0, 1), (0, 1)], [(), (), ()], [(0,), (0,), (0,)], [(0, 1) * 97] * 3])
def test_columns_that_do_not_fit_are_refused_before_anything_is_sent(rows: list[tuple[int, ...]]) -> None:
    simulation = houses(3, 1)
    chain, meters = simulation.chain, sorted(house.meter for house in simulation.houses)
    blocks = len(chain.blocks)
    with pytest.raises(ForkError, match=f"{len(rows)} rows of .* for 3 meters; a row for each with injected and"):
        chain.report_columns(chain.window - 1, meters, rows)
    assert len(chain.blocks) == blocks and not chain.waiting
    chain.close()


def test_readings_need_no_signature_and_leave_no_trace_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """More readings than the cache of good signatures has places for one block; afterwards nothing is taken as good."""
    simulation = houses(600, 1)
    chain, window = simulation.chain, simulation.chain.window - 1
    monkeypatch.setattr(keys, "_KNOWN_MOST", 100)
    chain.report(window, {house.meter: (0, house.meter) for house in simulation.houses})
    assert chain.frames.readings().filter(window=window)["withdrawn_wh"].sum() == 600 * 601 // 2
    assert not keys._unsigned and not keys.is_unsigned_good(keys.signed_bytes(
        keys.Domain.METER_READING, chain.chain_id, b""))
    unsigned = (chain.key("meter 1").public, bytes(64), b"anything")
    assert keys.verify_known([unsigned]) == [False]
    with keys.taken_as_good([unsigned]):
        assert keys.verify_known([unsigned]) == [True]
    assert keys.verify_known([unsigned]) == [False]
    chain.close()
