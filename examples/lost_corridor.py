"""What does it cost, and whom, when a corridor is lost at the evening peak?

Small biogas plants in Central, which run day and night, sell to homes in Bangkok. Two runs of the same town, in one of
which the corridor between both is out of service from 18:00 to 21:00, known beforehand; the difference is the answer.
The plants have a profile of their own, which this study writes: it stands where other houses have the shape of a roof.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from gridtokenx.forks.compare import Difference
from gridtokenx.scenario import parse_scenario, run

TOWN = """
name = "{name}"
seed = 4
start = 2025-04-21T{hour:02}:00:00+07:00
windows = {windows}
[trading]
rounds = 3
[[groups]]
name = "plants"
count = {plants}
profiles = "biogas.parquet"
pv_kw = 10.0
zones = {{ Central = 1 }}
agent = {{ strategy = "linear" }}
[[groups]]
name = "homes"
count = {houses}
load_scale = 1.5
zones = {{ Bangkok = 4, Central = 1 }}
agent = {{ strategy = "linear" }}
[[overrides.corridors]]
corridor = ["Bangkok", "Central"]
wheeling_uthb_kwh = 100_000
"""
OUTAGE = """
[[outages]]
corridor = ["Bangkok", "Central"]
start = 2025-04-21T18:00:00+07:00
windows = 12
"""


def biogas(out: Path) -> None:
    """A plant that makes four fifths of what it could, all the time, and uses a little itself."""
    pl.DataFrame({
        "profile": "plant", "delivery": pl.datetime_range(
            pl.datetime(2025, 4, 21), pl.datetime(2025, 4, 22), "15m", time_zone="Asia/Bangkok", closed="left",
            eager=True), "load_wh": 20, "pv_wh_kw": 200}).write_parquet(out / "biogas.parquet")


def main(short: bool, out: Path) -> Difference:
    out.mkdir(parents=True, exist_ok=True)
    size = {"houses": 10 if short else 50, "plants": 1 if short else 5, "windows": 24 if short else 96,
            "hour": 16 if short else 0}
    biogas(out)
    intact = TOWN.format(name="intact", **size)
    lost = TOWN.format(name="corridor lost", **size) + OUTAGE
    with (pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True),
          run(parse_scenario(intact, out)) as before, run(parse_scenario(lost, out)) as after):
        difference = after.chain.diff(before.chain)
        print(difference.measures.filter(pl.col("change").abs() > 0))
        rules = difference.bills.group_by("rule").agg(thb=pl.col("change").sum() / 1e6).sort("thb")
        print("what all pay more (above zero) or less, THB:")
        print(rules)
        groups = pl.concat([result.people().select("account", "group").join(
            result.table("savings"), on="account").with_columns(run=pl.lit(result.scenario.name))
            for result in (before, after)])
        print(groups.group_by("run", "group", maintain_order=True).agg(saved_thb=pl.col("saved_uthb").mean() / 1e6))
        after.report(out / "lost_corridor.html", before.chain)
    return difference


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=Path())
    main(**vars(parser.parse_args()))
