"""What houses use and what their roofs make, quarter hour by quarter hour: the shipped profiles, or one's own file.

One's own is CSV or Parquet with a row per profile and window, in any order:

    profile     any name or number; houses are dealt the profiles at random, each once before any is dealt again
    delivery    beginning of the window, a time with its offset (CSV: 2025-04-21T00:00:00+07:00)
    load_wh     energy used in the window, Wh, 0 or more
    pv_wh_kw    energy made in the window by one kW of panels, Wh, 0 or more; may be left out

All profiles have the same windows without a gap; before and after these they repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from attrs import frozen
from numpy.typing import NDArray

from gridtokenx.scenario.devices import WINDOWS_OF_A_DAY
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.streams import stream
from gridtokenx.units import WINDOW_SECONDS

DATA = Path(__file__).parent / "data"
SHIPPED = DATA / "households_200x14d.npz"
SHIPPED_START_S = 1_745_168_400         # 2025-04-21T00:00+07:00
MOST_WH = 10**9
COMMERCIAL = 60


@frozen(eq=False)
class Profiles:
    """Wh per window from window `first` on: `load_wh` by profile, `pv_wh_kw` of one kW by roof (none: no roofs)."""

    first: int
    load_wh: NDArray[np.float64]
    pv_wh_kw: NDArray[np.float64]

    def at(self, windows: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Load and PV in `windows`; what is not in the profiles is their repetition."""
        places = (np.arange(windows.start, windows.stop) - self.first) % self.load_wh.shape[1]
        return self.load_wh[:, places], self.pv_wh_kw[:, places]


@lru_cache(1)
def shipped() -> Profiles:
    """200 households over 14 days from Monday 21 April 2025 (`data/README.md`); 102 of them have a roof."""
    with np.load(SHIPPED) as data:
        kwp = data["kwp"]
        roofs = kwp > 0
        return Profiles(SHIPPED_START_S // WINDOW_SECONDS, data["load_wh"].astype(np.float64),
                        data["pv_wh"][roofs] / kwp[roofs, None])


def commercial() -> Profiles:
    """60 made-up buildings over the same 14 days, by turns an office, a shop and a cold store; roofs as of households.

    Assumptions, not measurements: an office uses about 120 kWh on a working day between 8 and 18 o'clock and a fifth of
    that power else; a shop 180 kWh, most from 10 to 22 every day; a cold store 240 kWh, more in the afternoon. Each has
    a size of its own (log-normal, 0.4) and 5 % of noise in every window.
    """
    homes = shipped()
    count = homes.load_wh.shape[1]
    hours = np.arange(count) % WINDOWS_OF_A_DAY / 4
    working = np.arange(count) // WINDOWS_OF_A_DAY % 7 < 5          # the first day is a Monday
    shapes = (
        (0.2 + 0.8 * ((hours >= 8) & (hours < 18) & working), 120),
        (0.25 + 0.75 * ((hours >= 10) & (hours < 22)), 180),
        (0.8 + 0.2 * np.exp(-((hours - 15) / 3) ** 2), 240),
    )
    loads = []
    for number in range(COMMERCIAL):
        chance = stream(0, "commercial", number)
        shape, kwh = shapes[number % len(shapes)]
        whole = kwh * 1000 * float(np.exp(0.4 * chance.standard_normal()))
        loads.append(np.rint(whole * shape / shape[:WINDOWS_OF_A_DAY].sum()
                             * np.maximum(0, 1 + 0.05 * chance.standard_normal(count))))
    return Profiles(homes.first, np.array(loads), homes.pv_wh_kw)


HOUSEHOLDS, OFFICES = "households", "commercial"
SHIPPED_PROFILES: dict[str, Callable[[], Profiles]] = {HOUSEHOLDS: shipped, OFFICES: commercial}


def read_profiles(path: Path) -> Profiles:
    """One's own profiles from a CSV or Parquet file. Raises ScenarioError naming the column that is wrong."""
    try:
        if path.suffix == ".csv":
            frame = pl.read_csv(path, try_parse_dates=False, schema_overrides={"delivery": pl.String})
            frame = frame.with_columns(pl.col("delivery").str.to_datetime("%+", time_unit="ms", time_zone="UTC"))
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            raise ScenarioError(f"profiles {path}: a file ending in .csv or .parquet is allowed")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ScenarioError(f"profiles {path} cannot be read: {error}") from error
    wanted = {"profile", "delivery", "load_wh"}
    if not wanted <= set(frame.columns) <= wanted | {"pv_wh_kw"}:
        raise ScenarioError(f"profiles {path} have the columns {', '.join(frame.columns)}; allowed are profile, "
                            "delivery, load_wh and, if wanted, pv_wh_kw")
    kind = frame.schema["delivery"]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise ScenarioError(f"profiles {path}: delivery is of type {kind}; times with a time zone are allowed")
    seconds = frame["delivery"].dt.epoch("s")
    if seconds.null_count() or (seconds % WINDOW_SECONDS != 0).any():
        raise ScenarioError(f"profiles {path}: delivery must be on a quarter hour in every row")
    table = frame.with_columns(window=seconds // WINDOW_SECONDS)
    first, load_wh = _matrix(path, table, "load_wh")
    pv = _matrix(path, table, "pv_wh_kw")[1] if "pv_wh_kw" in frame.columns else load_wh[:0]
    return Profiles(first, load_wh, pv[pv.any(axis=1)])


def _matrix(path: Path, table: pl.DataFrame, column: str) -> tuple[int, NDArray[np.float64]]:
    """(first window, values by profile and window). Raises ScenarioError for gaps, repeats and wrong values."""
    if not table.schema[column].is_numeric():
        raise ScenarioError(f"profiles {path}: {column} is of type {table.schema[column]}; numbers are allowed")
    wrong = table.filter(~pl.col(column).is_between(0, MOST_WH).fill_null(False))
    if wrong.height:
        row: dict[str, Any] = wrong.row(0, named=True)
        raise ScenarioError(f"profiles {path}: {column} is {row[column]} of profile {row['profile']} at "
                            f"{row['delivery']}; 0 to {MOST_WH} Wh are allowed")
    ordered = table.sort("profile", "window")
    windows = table["window"].unique().sort()
    count = table["profile"].n_unique()
    if not len(windows) or len(windows) * count != table.height or windows[-1] - windows[0] + 1 != len(windows) or \
            ordered["window"].to_list() != windows.to_list() * count:
        raise ScenarioError(f"profiles {path}: {table.height} rows for {count} profiles and {len(windows)} windows; "
                            "every profile has every window once, without a gap")
    return int(windows[0]), ordered[column].cast(pl.Float64).to_numpy().reshape(count, len(windows))
