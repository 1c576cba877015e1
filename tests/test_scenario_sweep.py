"""Sweeps: what a file may say, and that one which was killed half-way ends as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from test_scenario import text

from gridtokenx.cli import cli
from gridtokenx.scenario import ScenarioError, carry_out, load_sweep
from gridtokenx.scenario.sweeping import RESULTS, RUNS
from testnet.layout import FOLDER

GRID = """
name = "roofs and rounds"
scenario = "small.toml"
seeds = [1, 2]
[grid]
"groups[roofs].pv_kw" = [2, 6.5]
trading.rounds = [1, 2]
"""
DRAWN = """
name = "drawn"
scenario = "small.toml"
seeds = [5]
[random]
runs = 40
seed = 3
"groups[0].pv_kw" = { low = 1, high = 4 }
"overrides.rates.vat_ppm" = { low = 1, high = 400_000, log = true }
mechanism = { choices = ["continuous", "uniform-price"] }
"""


def files(folder: Path, sweep: str = GRID, windows: int = 1) -> Path:
    (folder / "small.toml").write_text(text(windows=windows).replace("count = 5", "count = 1").replace(
        "06:00:00", "11:00:00"))
    (folder / "sweep.toml").write_text(sweep)
    return folder / "sweep.toml"


def test_a_grid_has_all_combinations_with_every_seed(tmp_path: Path) -> None:
    sweep = load_sweep(files(tmp_path))
    assert sweep.keys == ["groups[roofs].pv_kw", "trading.rounds"]
    assert [(run.number, *(value for _, value in run.values), run.seed) for run in sweep.runs] == [
        (0, 2, 1, 1), (1, 2, 1, 2), (2, 2, 2, 1), (3, 2, 2, 2), (4, 6.5, 1, 1), (5, 6.5, 1, 2), (6, 6.5, 2, 1),
        (7, 6.5, 2, 2)]
    scenario = sweep.scenario(sweep.runs[6])
    assert [group.pv_kw for group in scenario.groups] == [6.5, 0]
    assert (scenario.trading.rounds, scenario.seed) == (2, 1)
    assert sweep.scenario(sweep.runs[7]).text != scenario.text


def test_draws_are_within_their_spans_and_the_same_again(tmp_path: Path) -> None:
    one, again = (load_sweep(files(tmp_path, DRAWN)).runs for _ in range(2))
    assert one == again and len(one) == 40
    values = [dict(run.values) for run in one]
    assert {each["groups[0].pv_kw"] for each in values} == {1, 2, 3, 4}
    drawn = [each["overrides.rates.vat_ppm"] for each in values]
    assert all(type(each) is int and 1 <= each <= 400_000 for each in drawn)
    assert sum(each < 1_000 for each in drawn) > 10             # by logarithm
    assert {each["mechanism"] for each in values} == {"continuous", "uniform-price"}
    longer = load_sweep(files(tmp_path, DRAWN.replace("runs = 40", "runs = 41"))).runs
    assert longer[:40] == one


def test_a_sweep_in_this_process_gives_a_row_per_run(tmp_path: Path) -> None:
    sweep = load_sweep(files(tmp_path, GRID.replace("[1, 2]\n[grid]", "[1]\n[grid]").replace("[1, 2]", "[1]")))
    seen: list[int] = []
    frame = carry_out(sweep, tmp_path / "out", workers=0, progress=lambda done, of: seen.append(done))
    assert frame.height == 2 and seen == [0, 1, 2]
    assert frame["groups[roofs].pv_kw"].to_list() == [2, 6.5]
    assert frame["generation"][1] > frame["generation"][0] > 0
    assert frame["result_hash"].n_unique() == 2 and frame["scenario_sha256"].n_unique() == 2
    assert pl.read_parquet(tmp_path / "out" / RESULTS).equals(frame)
    before = (tmp_path / "out" / RESULTS).read_bytes()
    assert carry_out(sweep, tmp_path / "out", workers=0).equals(frame)      # nothing is run again
    assert (tmp_path / "out" / RESULTS).read_bytes() == before
    other = load_sweep(files(tmp_path))
    with pytest.raises(ScenarioError, match="holds the sweep 'roofs and rounds' as it was with another sweep file"):
        carry_out(other, tmp_path / "out", workers=0)


@pytest.mark.processes
def test_a_sweep_that_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    """Show 5 in short form: a local Dask cluster, killed with SIGKILL when half of the runs are done."""
    file = files(tmp_path)
    whole = carry_out(load_sweep(file), tmp_path / "whole", workers=0)
    command = [sys.executable, "-m", "gridtokenx.cli", "sim", "sweep", str(file), "--out", str(tmp_path / "out"),
               "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    runs = tmp_path / "out" / RUNS
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2_000):
            if len(list(runs.glob("*.json"))) >= 4 or process.poll() is not None:
                break
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    left = {path.name: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    assert 4 <= len(left) < 8 and not (tmp_path / "out" / RESULTS).exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all((runs / name).stat().st_mtime_ns == at for name, at in left.items())     # not run again
    assert pl.read_parquet(tmp_path / "out" / RESULTS).equals(whole)
    assert (tmp_path / "out" / RESULTS).read_bytes() == (tmp_path / "whole" / RESULTS).read_bytes()


@pytest.mark.parametrize(("old", "new", "said"), [
    ("[1, 2]\n[grid]", "[1, 1]\n[grid]", r"seeds is \[1, 1\]; a list of root seeds is allowed, each once"),
    ("[2, 6.5]", "2", r"grid.groups\[roofs\].pv_kw is 2; a list of values is allowed|is 2"),
    ("[2, 6.5]", "[-2]", r"run 0 \(groups\[roofs\].pv_kw = -2.*: groups\[0\].pv_kw is -2"),
    ("groups[roofs]", "groups[walls]", "the scenario has not; there it has roofs, homes: add"),
    ("rounds =", "round =", "trading.round is unknown; did you mean rounds"),
    ("small.toml", "none.toml", "none.toml cannot be read"),
    ("[grid]", "[grids]", "grids is unknown; did you mean grid"),
    ("[grid]", "[random]\nruns = 1\nseed = 1\n[grid]", r"either \[grid\] or \[random\]"),
])
def test_mistakes_are_named_before_anything_runs(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=said):
        load_sweep(files(tmp_path, GRID.replace(old, new)))


def test_the_template_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["sim", "new", "town", "--sweep"]).exit_code == 0
    assert len(load_sweep(tmp_path / "town-sweep.toml").runs) == 12
    written = (tmp_path / "town-sweep.toml").read_text()
    draws = [line.removeprefix("# ") for line in written.partition("# [random]")[2].splitlines()[1:]]
    (tmp_path / "town-sweep.toml").write_text("\n".join([written.partition("[grid]")[0], "[random]", *draws]))
    assert len(load_sweep(tmp_path / "town-sweep.toml").runs) == 200
