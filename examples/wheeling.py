"""How much is traded between neighbours as the charge for the use of the grid rises?

One town of homes and roofs in Bangkok; the wheeling charge inside the zone goes from nothing to Thailand's full charge
of 1.07 THB/kWh. Every charge is tried with the same seeds: the same people, weather, forecasts and draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from gridtokenx.pictures import canvas
from gridtokenx.scenario import parse_scenario, run

TOWN = """
name = "wheeling {charge}"
seed = 1
start = 2025-04-21T{hour:02}:00:00+07:00
windows = {windows}
[trading]
rounds = 3
[[groups]]
name = "roofs"
count = {houses}
pv_kw = 5.0
zones = {{ Bangkok = 1 }}
agent = {{ strategy = "linear" }}
[[groups]]
name = "homes"
count = {houses}
zones = {{ Bangkok = 1 }}
agent = {{ strategy = "linear" }}
[[overrides.zones]]
zone = "Bangkok"
wheeling_uthb_kwh = {charge}
"""
MEASURES = ("peer_to_peer_share", "savings_mean", "wheeling", "efficiency")


def study(charges: list[int], seeds: list[int], houses: int, windows: int, hour: int) -> pl.DataFrame:
    """A row per charge and seed."""
    rows = []
    for charge in charges:
        scenario = parse_scenario(TOWN.format(charge=charge, houses=houses, windows=windows, hour=hour))
        for seed in seeds:
            with run(scenario, seed=seed) as result:
                found = dict(result.measures.select("measure", "value").rows())
            rows.append({"charge_thb_kwh": charge / 1e6, "seed": seed} | {name: found[name] for name in MEASURES})
    return pl.DataFrame(rows)


def main(short: bool, out: Path) -> pl.DataFrame:
    out.mkdir(parents=True, exist_ok=True)
    charges = [0, 1_070_000] if short else [0, 125_000, 250_000, 500_000, 750_000, 1_070_000]
    frame = study(charges, [1] if short else [1, 2, 3], 4 if short else 25, 8 if short else 96, 10 if short else 0)
    means = frame.group_by("charge_thb_kwh", maintain_order=True).agg(pl.col(MEASURES).mean())
    print(means)
    figure, (share, money) = canvas(1, 2)
    share.plot(means["charge_thb_kwh"], 100 * means["peer_to_peer_share"], marker="o")
    share.scatter(frame["charge_thb_kwh"], 100 * frame["peer_to_peer_share"], s=10, alpha=0.5)
    share.set(xlabel="wheeling, THB/kWh", ylabel="peer-to-peer share, %", ylim=(0, None))
    money.plot(means["charge_thb_kwh"], means["savings_mean"] / 1e6, marker="o", label="saved per account")
    money.plot(means["charge_thb_kwh"], means["wheeling"] / 1e6 / (2 * (4 if short else 25)), marker="s",
               label="wheeling per account")
    money.set(xlabel="wheeling, THB/kWh", ylabel="THB")
    money.legend()
    figure.savefig(out / "wheeling.svg")
    return frame


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=Path())
    main(**vars(parser.parse_args()))
