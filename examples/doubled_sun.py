"""What if every roof of a running network had twice its panels?

Takes the chain in a node's data directory as it stands, twice, while the node goes on: once everybody keeps the panels
that they have, once they have twice as many. A day passes on both, with the same loads, weather and forecasts; printed
and drawn is the difference, and all of it is in a report.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

import gridtokenx
from gridtokenx.forks import Chain
from gridtokenx.forks.compare import Difference
from gridtokenx.scenario import Result, parse_scenario

PEOPLE = """
name = "{name}"
seed = 1
windows = {windows}
[chain]
fork = "the caller's"
[residents]
pv_scale = {scale}
[residents.agent]
strategy = "zero-intelligence"
"""


def advance(chain: Chain, name: str, scale: float, windows: int) -> Result:
    return chain.run(parse_scenario(PEOPLE.format(name=name, scale=scale, windows=windows)))


def compare(as_is: Chain, doubled: Chain, windows: int, out: Path) -> Difference:
    """Lets the same time pass on both forks and reports how the second one differs."""
    advance(as_is, "as it is", 1.0, windows)
    result = advance(doubled, "twice the sun", 2.0, windows)
    difference = doubled.diff(as_is)
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(difference.measures.filter(pl.col("change").abs() > 0))
        print("what all pay more (above zero) or less, THB:")
        print(difference.bills.group_by("rule").agg(thb=pl.col("change").sum() / 1e6).sort("thb"))
    difference.plot().save(out / "doubled_sun.svg")
    result.report(out / "doubled_sun.html", as_is)
    return difference


def main(directory: Path, short: bool, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with gridtokenx.fork(directory) as as_is, gridtokenx.fork(directory) as doubled:
        print(f"forked {directory} after block {as_is.provenance.height:,}, market time {as_is.now:%Y-%m-%d %H:%M}"
              if as_is.provenance else "")
        compare(as_is, doubled, 4 if short else 96, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a node's data directory")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=Path())
    main(**vars(parser.parse_args()))
