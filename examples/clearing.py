"""What differs between the continuous order book and a uniform-price auction?

The same town, cleared both ways, with agents who say what energy is worth to them and with such who draw their price.
In the book who comes first takes the best, so prices scatter; the auction gives all one price, but sets it without
knowing who trades over which corridor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from gridtokenx.pictures import canvas
from gridtokenx.scenario import parse_scenario, run

TOWN = """
name = "{mechanism} {strategy}"
seed = 1
start = 2025-04-21T{hour:02}:00:00+07:00
windows = {windows}
mechanism = "{mechanism}"
[[groups]]
name = "roofs"
count = {houses}
pv_kw = 5.0
zones = {{ Bangkok = 2, Central = 1 }}
agent = {{ strategy = "{strategy}" }}
[[groups]]
name = "homes"
count = {houses}
zones = {{ Bangkok = 2, Central = 1 }}
agent = {{ strategy = "{strategy}" }}
"""
MEASURES = ("trades", "traded", "price_mean", "price_dispersion", "efficiency", "savings_gini")


def main(short: bool, out: Path) -> pl.DataFrame:
    out.mkdir(parents=True, exist_ok=True)
    size = {"houses": 6 if short else 40, "windows": 8 if short else 96, "hour": 10 if short else 0}
    rows = []
    for strategy in ("truthful", "zero-intelligence"):
        for mechanism in ("continuous", "uniform-price"):
            for seed in [1] if short else [1, 2, 3]:
                scenario = parse_scenario(TOWN.format(mechanism=mechanism, strategy=strategy, **size))
                with run(scenario, seed=seed) as result:
                    found = dict(result.measures.select("measure", "value").rows())
                rows.append({"mechanism": mechanism, "strategy": strategy, "seed": seed}
                            | {name: found[name] for name in MEASURES})
    frame = pl.DataFrame(rows)
    means = frame.group_by("strategy", "mechanism", maintain_order=True).agg(pl.col(MEASURES).mean())
    with pl.Config(tbl_width_chars=120):
        print(means)
    figure, axes = canvas(1, 3, height=2.8)
    labels = [f"{strategy}\n{mechanism}" for strategy, mechanism in means.select("strategy", "mechanism").rows()]
    for place, (name, scale, unit) in zip(axes, (("efficiency", 100, "%"), ("traded", 0.001, "kWh"),
                                                 ("price_dispersion", 0.001, "THB/kWh")), strict=True):
        place.barh(labels, (means[name] * scale).to_list(), color=["#0072B2", "#E69F00"] * 2)
        place.set(title=f"{name.replace('_', ' ')}, {unit}")
        place.label_outer()
        place.invert_yaxis()
    figure.savefig(out / "clearing.svg")
    return frame


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=Path())
    main(**vars(parser.parse_args()))
