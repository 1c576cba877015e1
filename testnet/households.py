"""The 200 households: real 15-minute load and PV profiles, placed over the seven zones.

Data and licence: `gridtokenx/scenario/data/README.md`. Energies are Wh per 15-minute window at the household's meter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

import gridtokenx
from gridtokenx.errors import GridTokenXError

DATA = Path(gridtokenx.__file__).parent / "scenario" / "data" / "households_200x14d.npz"
WINDOW_S = 900
PROFILE_START_S = 1_745_168_400
"""2025-04-21T00:00+07:00, the first window of the profiles, in Unix seconds."""

# Inhabitants per zone in thousands, rounded from the provinces' registers and put together along the planning
# zones: a planning assumption [P], used for nothing but to place the households.
POPULATION_THOUSANDS = {
    "Bangkok": 8_200, "Central": 6_200, "East": 5_200, "West": 3_600, "North": 11_400, "Northeast": 21_600,
    "South": 9_500,
}

SINGLE_PHASE_W = 10_350     # 45 A at 230 V
THREE_PHASE_W = 31_050


class ProfileError(GridTokenXError):
    """A profile file that is missing or not of the documented form."""


@frozen(eq=False)
class Household:
    """One household: its zone, its meter's capacities and its profiles, Wh per window from `PROFILE_START_S`."""

    index: int
    zone: str
    pv_w: int
    injection_w: int
    withdrawal_w: int
    load_wh: NDArray[np.int64]
    pv_wh: NDArray[np.int64]

    def window(self, window: int) -> tuple[int, int]:
        """(load, PV) in Wh of the window with Unix number `window`; the 14 days repeat."""
        at = (window - PROFILE_START_S // WINDOW_S) % len(self.load_wh)
        return int(self.load_wh[at]), int(self.pv_wh[at])


def apportion(total: int, weights: dict[str, int]) -> dict[str, int]:
    """`total` split by weight, whole numbers, largest remainder first, ties by name."""
    whole = sum(weights.values())
    shares = {name: total * weight // whole for name, weight in weights.items()}
    order = sorted(weights, key=lambda name: (-(total * weights[name] % whole), name))
    for name in order[:total - sum(shares.values())]:
        shares[name] += 1
    return shares


def load_households(count: int = 200, path: Path = DATA, seed: int = 1) -> list[Household]:
    """The first `count` households, spread over the zones by population; `seed` says who lives where.

    Raises ProfileError for a file that cannot be used, or more households than it holds.
    """
    try:
        with np.load(path) as data:
            load_wh, pv_wh, kwp = data["load_wh"], data["pv_wh"], data["kwp"]
            start, step_s = str(data["start"]), int(data["step_s"])
    except (OSError, KeyError, ValueError) as error:
        raise ProfileError(f"cannot read the household profiles {path}: {error}") from error
    if start != "2025-04-21T00:00+07:00" or step_s != WINDOW_S or load_wh.shape != pv_wh.shape:
        raise ProfileError(f"{path}: 15-minute profiles from 2025-04-21T00:00+07:00 are wanted")
    if not 1 <= count <= len(load_wh):
        raise ProfileError(f"{count} households; the profiles hold 1 to {len(load_wh)}")
    zones = [zone for zone, share in apportion(count, POPULATION_THOUSANDS).items() for _ in range(share)]
    homes = np.random.default_rng(seed).permutation(count)
    households = []
    for index in range(count):
        pv_w = round(float(kwp[index]) * 1000)
        peak_w = int(load_wh[index].max()) * 4
        households.append(Household(
            index, zones[homes[index]], pv_w, max(pv_w, int(pv_wh[index].max()) * 4),
            SINGLE_PHASE_W if peak_w <= SINGLE_PHASE_W else THREE_PHASE_W, load_wh[index], pv_wh[index]))
    return households
