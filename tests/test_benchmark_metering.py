"""The metering benchmark in short: a day of a few meters goes through, settles, gives claims and is audited."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from benchmarks.metering import WATCHED, measure


def test_a_day_of_a_few_meters(tmp_path: Path) -> None:
    with Progress(disable=True) as bar:
        found = measure(12, 1, tmp_path / "data", bar)
    assert (found["windows"], found["readings"], found["refused_readings"]) == (96, 1152, 0)
    assert found["settled_windows"] >= 96 and found["corrections"] > 0
    assert found["orders"] > 100 and found["failed_orders"] == 0 and found["trades"] > 0
    assert found["minted_wh"] + found["supplied_wh"] == (
        found["consumed_wh"] + found["losses_wh"] + found["taken_wh"])
    assert 0 < found["claimed_wh"] <= found["metered_wh"] <= found["minted_wh"]
    assert {*WATCHED.values(), "audit", "write checkpoints"} - {"forget old bills"} <= found["stages_cpu_s"].keys()
