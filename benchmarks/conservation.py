"""Conservation check: ns per 16-byte record, beside NumPy, pandas, Polars and DuckDB on the same records.

    python -m benchmarks.conservation [--records 10000000] [--windows 8] [--zones 7] [--corridors 6] [--repeat 9]

Every record belongs to a sum that must be exact, one of (asset, window, zone) for 16 assets, or to a direction of a
corridor in a window, whose sum may not be above its capacity; both lie in one array, in any order. Ours checks all of
it in one pass, exact in 128 bits. The others only make the sums by group, in 64 bits (bincount in doubles). They take
turns, medians. Those that are not installed (`pip install gridtokenx[bench]`) are left out and named. "read floor" is
NumPy reading the records once.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gridtokenx._native.conservation import RECORD, check_limits

Check = Callable[[], NDArray[np.int64]]


ASSETS = 16


def make(count: int, windows: int, zones: int, corridors: int) -> tuple[NDArray[np.void], NDArray[np.int64], int]:
    """(records, sums by group, how many groups are sums; the rest are corridors' directions)."""
    rng = np.random.default_rng(1)
    exact = ASSETS * windows * zones
    groups = exact + 2 * corridors * windows
    records = np.zeros(count, RECORD)
    records["group"] = rng.integers(0, groups, count)
    records["identity"] = np.arange(count)
    records["amount"] = rng.integers(-10**9, 10**9, count)
    sums = np.zeros(groups, np.int64)
    np.add.at(sums, records["group"], records["amount"])
    return records, sums, exact


def checks(records: NDArray[np.void], exact: int, expected: NDArray[np.int64]) -> dict[str, Check]:
    """Name -> a function that returns the sums by group; ours returns the expected ones when it found no violation."""
    group, amount = np.ascontiguousarray(records["group"]), np.ascontiguousarray(records["amount"])
    groups = len(expected)
    least, most = expected.copy(), expected.copy()
    least[exact:] = np.iinfo(np.int64).min
    most[exact:] += 1000

    def native() -> NDArray[np.int64]:
        violations = check_limits(records, least, most)
        return expected if not violations else np.zeros_like(expected)

    def read_floor() -> NDArray[np.int64]:
        np.bitwise_or.reduce(records.view(np.int64))
        return expected

    def add_at() -> NDArray[np.int64]:
        sums = np.zeros(groups, np.int64)
        np.add.at(sums, group, amount)
        return sums

    def bincount() -> NDArray[np.int64]:
        return np.bincount(group, amount, groups).astype(np.int64)

    found: dict[str, Check] = {
        "read floor": read_floor, "gridtokenx": native, "NumPy add.at": add_at, "NumPy bincount": bincount}
    if importlib.util.find_spec("pandas"):
        import pandas

        frame = pandas.DataFrame({"group": group, "amount": amount})
        found["pandas"] = lambda: frame.groupby("group", sort=True)["amount"].sum().to_numpy()
    if importlib.util.find_spec("polars"):
        import polars

        table = polars.DataFrame({"group": group, "amount": amount})
        found["Polars"] = lambda: table.group_by("group").agg(polars.col("amount").sum()).sort("group")[
            "amount"].to_numpy()
    if importlib.util.find_spec("duckdb") and importlib.util.find_spec("pandas"):
        import duckdb

        connection = duckdb.connect()
        connection.execute("SET threads TO 1")
        connection.register("given", frame)
        connection.execute("CREATE TABLE records AS SELECT * FROM given")
        found["DuckDB"] = lambda: connection.execute(
            'SELECT sum(amount)::BIGINT AS s FROM records GROUP BY "group" ORDER BY "group"').fetchnumpy()["s"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--zones", type=int, default=7)
    parser.add_argument("--corridors", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    records, expected, exact = make(options.records, options.windows, options.zones, options.corridors)
    found = checks(records, exact, expected)
    missing = [name for name in ("pandas", "polars", "duckdb") if not importlib.util.find_spec(name)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(options.repeat):
        for name, check in found.items():
            start = time.perf_counter_ns()
            sums = check()
            times[name].append((time.perf_counter_ns() - start) / options.records)
            if not np.array_equal(np.asarray(sums, np.int64), expected):
                raise SystemExit(f"{name} sums differently")
    ours = statistics.median(times["gridtokenx"])
    print(f"{options.records} records of 16 bytes, {exact} sums and {len(expected) - exact} capacities, ns per record")
    for name, figures in times.items():
        middle = statistics.median(figures)
        print(f"{name:15} {middle:7.2f} least {min(figures):7.2f} {middle / ours:6.1f} x")


if __name__ == "__main__":
    main()
