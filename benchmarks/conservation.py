"""Conservation check: ns per 16-byte record, beside NumPy, pandas, Polars and DuckDB on the same records.

    python benchmarks/conservation.py [--records 10000000] [--groups 1024] [--repeat 5]

All sum `amount` by `group` and compare with the expected sums; they take turns, medians. Peers that are not installed
(`pip install gridtokenx[bench]`) are left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gridtokenx._native.conservation import RECORD, check_sums

Check = Callable[[], NDArray[np.int64]]


def checks(records: NDArray[np.void], groups: int, expected: NDArray[np.int64]) -> dict[str, Check]:
    """Name -> a function that returns the sums by group; ours returns the expected ones when it found no violation."""
    group, amount = np.ascontiguousarray(records["group"]), np.ascontiguousarray(records["amount"])

    def native() -> NDArray[np.int64]:
        violations = check_sums(records, expected)
        return expected if not violations else np.zeros_like(expected)

    def read_floor() -> NDArray[np.int64]:
        np.bitwise_or.reduce(records.view(np.int64))
        return expected

    def add_at() -> NDArray[np.int64]:
        sums = np.zeros(groups, np.int64)
        np.add.at(sums, group, amount)
        return sums

    found: dict[str, Check] = {"read floor": read_floor, "gridtokenx": native, "NumPy add.at": add_at}
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
    parser.add_argument("--groups", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    records = np.zeros(options.records, RECORD)
    records["group"] = rng.integers(0, options.groups, options.records)
    records["amount"] = rng.integers(-10**9, 10**9, options.records)
    expected = np.zeros(options.groups, np.int64)
    np.add.at(expected, records["group"], records["amount"])
    found = checks(records, options.groups, expected)
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(options.repeat):
        for name, check in found.items():
            start = time.perf_counter_ns()
            sums = check()
            times[name].append((time.perf_counter_ns() - start) / options.records)
            if not np.array_equal(np.asarray(sums, np.int64), expected):
                raise SystemExit(f"{name} sums differently")
    ours = statistics.median(times["gridtokenx"])
    print(f"{options.records} records of 16 bytes, {options.groups} groups, ns per record")
    for name, figures in times.items():
        middle = statistics.median(figures)
        print(f"{name:14} {middle:7.2f} least {min(figures):7.2f} {middle / ours:6.1f} x")


if __name__ == "__main__":
    main()
