"""Batteries and electric cars of houses.

A battery follows what its house has traded: it charges or discharges so that the meter reads the position, as far as
power and charge go. So what is neither sold nor used is stored, and what was bought and is missing comes out again.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gridtokenx.units import WINDOW_SECONDS

WINDOWS_OF_A_DAY = 86_400 // WINDOW_SECONDS
WINDOWS_OF_AN_HOUR = 3_600 // WINDOW_SECONDS
THAI_OFFSET_S = 7 * 3_600
ARRIVES_H, ARRIVES_SPREAD_H, ARRIVES_WITHIN_H = 18.5, 1.5, (12.0, 23.75)
LEAVES_H, LEAVES_SPREAD_H, LEAVES_WITHIN_H = 7.25, 0.75, (5.0, 10.0)
NEED_SPREAD = 0.3           # of a day's energy, relative
OFF_PEAK_H = 22.0


@frozen
class Battery:
    """Capacity, most energy in or out in a window (at the house's side), and efficiency there and back."""

    capacity_wh: int
    power_wh: int
    efficiency: float

    def follow(self, net_wh: int, position_wh: int, stored_wh: int) -> tuple[int, int]:
        """(what the meter reads, what is stored then) of a house with `net_wh` that has traded `position_wh`."""
        wanted = position_wh - net_wh
        if wanted >= 0:
            out = min(wanted, self.power_wh, stored_wh)
            return net_wh + out, stored_wh - out
        taken = min(-wanted, self.power_wh, int((self.capacity_wh - stored_wh) / self.efficiency))
        return net_wh - taken, stored_wh + int(taken * self.efficiency)

    def alone(self, net_wh: NDArray[np.int64], stored_wh: int = 0) -> NDArray[np.int64]:
        """What the meter reads when nothing is traded: the house first uses its own."""
        read = np.empty_like(net_wh)
        for at, net in enumerate(net_wh.tolist()):
            read[at], stored_wh = self.follow(net, 0, stored_wh)
        return read


@frozen
class Cars:
    """Electric cars of a group: share of the houses that have one, energy a day, power, when they charge."""

    share: float
    kwh_day: float
    kw: float
    off_peak: bool


def car_load(cars: Cars, windows: range, chance: np.random.Generator) -> NDArray[np.float64]:
    """What one car charges in `windows`, Wh: it comes home in the evening and leaves next morning, every day anew."""
    first_day = _day(windows.start) - 1
    days = _day(windows.stop) - first_day + 1
    draws = chance.standard_normal((days, 3))
    load = np.zeros(len(windows))
    for number, (came, need, left) in enumerate(draws.tolist()):
        midnight = _midnight(first_day + number)
        arrives = float(np.clip(ARRIVES_H + ARRIVES_SPREAD_H * came, *ARRIVES_WITHIN_H))
        leaves = float(np.clip(LEAVES_H + LEAVES_SPREAD_H * left, *LEAVES_WITHIN_H)) + 24
        begins = max(arrives, OFF_PEAK_H) if cars.off_peak else arrives
        wanted_wh = max(0.0, 1 + NEED_SPREAD * need) * cars.kwh_day * 1000
        plugged = (midnight + round(time * WINDOWS_OF_AN_HOUR) for time in (begins, leaves))
        for window in range(*plugged):
            taken = min(wanted_wh, cars.kw * 1000 / WINDOWS_OF_AN_HOUR)
            wanted_wh -= taken
            if window in windows:
                load[window - windows.start] += taken
            if wanted_wh <= 0:
                break
    return load


def day_of(windows: range) -> NDArray[np.int64]:
    """The number of each window's day in Thailand, the first window's being 0."""
    days: NDArray[np.int64] = (np.arange(windows.start, windows.stop) * WINDOW_SECONDS + THAI_OFFSET_S) // 86_400
    return days - _day(windows.start)


def _day(window: int) -> int:
    return (window * WINDOW_SECONDS + THAI_OFFSET_S) // 86_400


def _midnight(day: int) -> int:
    return (day * 86_400 - THAI_OFFSET_S) // WINDOW_SECONDS
