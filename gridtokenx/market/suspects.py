"""Which meter a zone's residual points at: what a grid operator looks at first when flags go up. Not consensus.

A meter that measures too little withdrawal (or too much injection) leaves a residual in proportion to what passed
through it. So for every meter and register the residuals of past windows are compared with its readings, after what
all meters have in common is taken out of both: the mean, and the part that follows the zone's entering energy, which
is how a wrong loss factor looks. What remains is judged by the share of the residual's variation that the meter
explains (the square of the partial correlation), and by the slope: how much is missing per Wh that it reports. A
meter counts only where the slope is positive, and only in windows with a reading of its own. Energy taken past a
meter at a constant rate follows no reading and cannot be told by this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import Balance, Quality, Reading
from gridtokenx.ledger.records import Meter
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.money import PPM

LEAST_WINDOWS = 8
"""With fewer windows of its own nothing is said about a meter."""
MOST_ESTIMATED = 10
"""Windows with more than one reading of so many missing are left out: their residual is that of the estimates."""


@frozen
class Suspect:
    """`share_ppm` of the residual's variation is explained by this register, `slope_ppm` is missing per Wh of it."""

    meter: int
    register: str
    share_ppm: int
    slope_ppm: int
    windows: int


def likely_meters(residuals: dict[int, int], entered: dict[int, int],
                  readings: dict[int, dict[int, tuple[int, int]]], most: int = 10) -> list[Suspect]:
    """The most likely meters, best first.

    By window: the zone's residual and entering energy (Wh). By meter and window: (injected, withdrawn) as reported.
    """
    found: list[Suspect] = []
    for meter, values in readings.items():
        windows = sorted(values.keys() & residuals.keys())
        if len(windows) < LEAST_WINDOWS:
            continue
        for register, name in ((1, "withdrawal"), (0, "injection")):
            suspect = _judge(meter, name, [residuals[window] for window in windows],
                             [entered[window] for window in windows], [values[window][register] for window in windows])
            if suspect is not None:
                found.append(suspect)
    found.sort(key=lambda suspect: (-suspect.share_ppm, suspect.meter, suspect.register))
    return found[:most]


def _judge(meter: int, register: str, residuals: Sequence[int], entered: Sequence[int],
           reported: Sequence[int]) -> Suspect | None:
    rest, own = _centred(residuals), _centred(reported)
    if 4 * sum(reported) < sum(entered):        # what follows a great part of the zone's energy follows the whole too
        common = _centred(entered)
        rest, own = _without(rest, common), _without(own, common)
    both, of_rest, of_own = _product(rest, own), _product(rest, rest), _product(own, own)
    if both <= 0:
        return None
    return Suspect(meter, register, both * both * PPM // (of_rest * of_own), both * PPM // of_own, len(residuals))


def _product(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(first, second, strict=True))


def _centred(values: Sequence[int]) -> list[int]:
    """Less the mean, times the number of values: whole numbers stay whole."""
    total, count = sum(values), len(values)
    return [value * count - total for value in values]


def _without(values: list[int], common: list[int]) -> list[int]:
    """Less the part in proportion to `common`, times its square sum."""
    square = _product(common, common)
    if not square:
        return values
    part = _product(values, common)
    return [value * square - part * other for value, other in zip(values, common, strict=True)]


def zone_suspects(state: StateReader, zone: int, windows: Iterable[int], most: int = 10) -> list[Suspect]:
    """The same from a state, over those of `windows` whose bills are still in it."""
    residuals: dict[int, int] = {}
    entered: dict[int, int] = {}
    readings: dict[int, dict[int, tuple[int, int]]] = {}
    zones: dict[int, tuple[int, int]] = {}
    for window in windows:
        raw = state.get(spaces.balance(window, zone))
        if raw is None:
            continue
        balance = Balance.decode(raw)
        if not balance.boundary or balance.estimated * MOST_ESTIMATED > balance.meters:
            continue
        edges, seen = 0, dict[int, tuple[int, int]]()
        for key, value in state.scan(spaces.reading(window)):
            number = int.from_bytes(key[5:], "big")
            if number not in zones:
                meter = Meter.decode(state.get(spaces.meter(number)) or b"")
                zones[number] = (meter.zone, meter.boundary)
            reading = Reading.decode(value)
            if zones[number] == (zone, 0) and reading.quality != Quality.ESTIMATED:
                seen[number] = (reading.injected_wh, reading.withdrawn_wh)
            elif zones[number][0] == zone and zones[number][1]:
                edges += 1
        if edges < balance.boundary:        # what is not reported at the edge counts as 0: the residual is of that
            continue
        residuals[window], entered[window] = balance.residual, balance.minted + balance.imports
        for number, values in seen.items():
            readings.setdefault(number, {})[window] = values
    return likely_meters(residuals, entered, readings, most)
