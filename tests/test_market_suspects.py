"""The search for the meter behind a zone's residual, on synthetic zones with one thief, and from a chain's state."""

from __future__ import annotations

import random

import pytest
from ledger_support import REGISTRAR, START_MS, key, trading_chain

from gridtokenx.grid.kinds import Role
from gridtokenx.ledger.operations import RegisterBoundaryMeter, RegisterParticipant
from gridtokenx.market.suspects import likely_meters, zone_suspects


def zone(seed: int, thief: int, kept_ppm: int, register: int, meters: int = 30,
         windows: int = 672) -> tuple[dict[int, int], dict[int, int], dict[int, dict[int, tuple[int, int]]]]:
    """A week of households with a common daily shape; the loss factor assumed is a little wrong."""
    chance = random.Random(seed)
    size = [chance.randint(100, 900) for _ in range(meters)]
    residuals, entered = {}, {}
    readings: dict[int, dict[int, tuple[int, int]]] = {meter: {} for meter in range(1, meters + 1)}
    for window in range(windows):
        shape = 40 + (window % 96) * (96 - window % 96) // 40
        sun = max(0, 24 - abs(window % 96 - 48)) * 20
        injected = withdrawn = 0
        stolen = 0
        for meter in range(1, meters + 1):
            used = size[meter - 1] * shape * chance.randint(20, 200) // 10_000
            made = sun * chance.randint(50, 110) // 100 if meter % 3 == 0 else 0
            injected, withdrawn = injected + made, withdrawn + used
            if meter == thief and register == 1:
                stolen += used - used * kept_ppm // 10**6
                used = used * kept_ppm // 10**6
            elif meter == thief:
                stolen += made * kept_ppm // 10**6
                made += made * kept_ppm // 10**6
            readings[meter][window] = (made, used)
        lost = withdrawn * chance.randint(25_000, 35_000) // 10**6
        imports = withdrawn + lost - injected
        entered[window] = injected + imports + (stolen if register == 0 else 0)
        residuals[window] = lost + stolen - entered[window] * 32_000 // 10**6
    return residuals, entered, readings


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("thief", "kept", "register"), [(7, 400_000, 1), (21, 600_000, 1), (9, 500_000, 0)])
def test_the_thief_comes_first(seed: int, thief: int, kept: int, register: int) -> None:
    first, *others = likely_meters(*zone(seed, thief, kept, register))
    assert (first.meter, first.register) == (thief, ("injection", "withdrawal")[register])
    # panels share the sun, so others of them look alike, only less
    assert all(first.share_ppm > (4 if register else 1) * other.share_ppm for other in others)
    expected = (10**6 - kept) * 10**6 // kept if register else kept * 10**6 // (10**6 + kept)
    assert abs(first.slope_ppm - expected) < expected // 4


def test_without_theft_nobody_stands_out() -> None:
    found = likely_meters(*zone(1, 0, 0, 1))
    assert all(suspect.share_ppm < 50_000 for suspect in found)


def test_a_meter_that_is_most_of_its_zone() -> None:
    used = [1_000 + 70 * (window % 13) for window in range(40)]
    readings = {1: {window: (0, value * 2 // 5) for window, value in enumerate(used)}}
    [found] = likely_meters({window: value * 3 // 5 for window, value in enumerate(used)}, dict(enumerate(used)),
                            readings)
    assert (found.meter, found.share_ppm > 990_000, abs(found.slope_ppm - 1_500_000) < 20_000) == (1, True, True)


def test_too_few_windows_and_flat_readings_say_nothing() -> None:
    residuals, entered, readings = zone(1, 7, 400_000, 1, windows=7)
    assert likely_meters(residuals, entered, readings) == []
    flat = dict.fromkeys(range(20), (0, 100))
    assert likely_meters(dict.fromkeys(range(20), 5), dict.fromkeys(range(20), 900), {1: flat}) == []


def test_from_a_chain() -> None:
    chain = trading_chain(3, loss_ppm=0, rate=500)
    chain.do(REGISTRAR, RegisterParticipant(key("grid").public, "GRID", Role.GRID_OPERATOR, 0, 2 * START_MS),
             RegisterBoundaryMeter(4, key("meter 3").public, 0, -1, 400_000, 400_000))
    first = chain.settling.window
    chance = random.Random(3)
    for window in range(first, first + 10):
        used = [chance.randint(1_000, 9_000) for _ in range(3)]
        chain.settle(window, {1: (0, used[0]), 2: (0, used[1] // 2), 3: (0, used[2]), 4: (sum(used), 0)})
    suspects = zone_suspects(chain.head, 0, range(first - 5, first + 12))
    assert (suspects[0].meter, suspects[0].share_ppm > 990_000, suspects[0].windows) == (2, True, 10)
    assert zone_suspects(chain.head, 1, range(first, first + 10)) == []
    # A window without the edge's reading, and one without those of the meters, would drown all the others.
    for window, reported in ((first + 10, {1: (0, 500), 2: (0, 900), 3: (0, 100)}), (first + 11, {4: (9_000, 0)})):
        chain.until((window + 1) * 900_000)
        chain.report(window, reported)
        while chain.settling.window == window:
            chain.until(chain.now_ms + 600_000)
    assert zone_suspects(chain.head, 0, range(first, first + 12)) == suspects
