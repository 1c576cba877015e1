"""Carrying a sweep out on Dask: a local cluster, or an existing scheduler; resumed where it was stopped.

    <directory>/sweep.json        what the sweep is, by its fingerprint
    <directory>/runs/N.json       one finished run: a file appears whole or not at all
    <directory>/results.parquet   a row per run, made of these at the end, the same however often it was stopped
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from gridtokenx.optional import optional
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.run import run as run_scenario
from gridtokenx.scenario.schema import Scenario
from gridtokenx.scenario.sweep import Run, Sweep

SWEEP_FILE = "sweep.json"
RUNS = "runs"
RESULTS = "results.parquet"
RETRIES = 2
AHEAD = 4               # runs handed to the cluster, per worker, before some are done
LATEST_S = 30
Row = dict[str, Any]
Progress = Callable[[int, int], None]


def carry_out(sweep: Sweep, directory: str | Path, *, workers: int | None = None, scheduler: str = "",
              progress: Progress | None = None) -> pl.DataFrame:
    """Runs what `directory` does not hold yet, and returns all results, a row per run.

    `scheduler` is the address of a Dask scheduler; without one a cluster of `workers` processes (as many as there are
    cores unless given) is made on this machine, or none at all with 0. Raises ScenarioError when the directory is
    another sweep's, NotInstalled without Dask.
    """
    out = Path(directory)
    _claim(sweep, out)
    kept = {run.number: row for run in sweep.runs if (row := _kept(out, run)) is not None}
    missing = [run for run in sweep.runs if run.number not in kept]
    told = progress or _silent
    told(len(kept), len(sweep.runs))
    for row in _rows(sweep, missing, workers, scheduler):
        kept[row["run"]] = row
        _keep(out, row)
        told(len(kept), len(sweep.runs))
    frame = _frame(sweep, [kept[run.number] for run in sweep.runs])
    unfinished = out / f"{RESULTS}.new"
    frame.write_parquet(unfinished)
    unfinished.rename(out / RESULTS)
    return frame


def _silent(_: int, __: int) -> None:
    pass


def one(scenario: Scenario, run: Run) -> Row:
    """One run: its values, its measures, and where they come from."""
    with run_scenario(scenario) as result:
        found = result.provenance()
        measures = dict(result.measures.select("measure", "value").rows())
    parent = found["parent"] or {}
    return {
        "run": run.number, "seed": run.seed, "values": dict(run.values), "measures": measures,
        "provenance": {
            "result_hash": found["result_hash"], "scenario_sha256": found["scenario_sha256"],
            "chain_id": found["chain"]["id"], "state_root": found["chain"]["state_root"],
            "parent_id": parent.get("id", ""), "parent_height": parent.get("height", -1),
            "inputs": json.dumps(found["inputs"], sort_keys=True),
            "versions": json.dumps(found["versions"], sort_keys=True),
            "failed": sum(found["failed"].values())}}


def _rows(sweep: Sweep, runs: list[Run], workers: int | None, scheduler: str) -> Iterator[Row]:
    """As they are done."""
    if workers == 0 and not scheduler:
        for run in runs:
            yield one(sweep.scenario(run), run)
        return
    if not runs:
        return
    distributed = optional("distributed", "a sweep")
    with _client(distributed, workers, scheduler) as client:
        waiting = iter(runs)
        ahead = AHEAD * max(1, len(client.ncores()))
        done = distributed.as_completed()
        for _, run in zip(range(ahead), waiting, strict=False):
            done.add(_submitted(client, sweep, run))
        for future in done:
            row: Row = future.result()
            following = next(waiting, None)
            if following is not None:
                done.add(_submitted(client, sweep, following))
            yield row


def _submitted(client: Any, sweep: Sweep, run: Run) -> Any:
    return client.submit(one, sweep.scenario(run), run, key=f"{sweep.name}-{sweep.fingerprint[:16]}-{run.number}",
                         retries=RETRIES, pure=False)


@contextmanager
def _client(distributed: Any, workers: int | None, scheduler: str) -> Iterator[Any]:
    if scheduler:
        with distributed.Client(scheduler, timeout=LATEST_S) as client:
            client.wait_for_workers(1, timeout=LATEST_S)
            yield client
        return
    environment = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with distributed.LocalCluster(n_workers=workers or os.cpu_count() or 1, threads_per_worker=1, processes=True,
                                  dashboard_address=None, env=environment, silence_logs=50) as cluster, \
            distributed.Client(cluster, timeout=LATEST_S) as client:
        yield client


# ---------------------------------------------------------------- the directory


def _claim(sweep: Sweep, out: Path) -> None:
    (out / RUNS).mkdir(parents=True, exist_ok=True)
    path = out / SWEEP_FILE
    if not path.exists():
        _write(path, {"name": sweep.name, "runs": len(sweep.runs), "fingerprint": sweep.fingerprint})
        return
    found = json.loads(path.read_text("utf-8"))
    if found["fingerprint"] != sweep.fingerprint:
        raise ScenarioError(f"{out} holds the sweep {found['name']!r} as it was with another sweep file, scenario, "
                            "profiles or version of gridtokenx; choose another directory, or remove it")


def _kept(out: Path, run: Run) -> Row | None:
    path = out / RUNS / f"{run.number}.json"
    if not path.exists():
        return None
    row: Row = json.loads(path.read_text("utf-8"))
    return row


def _keep(out: Path, row: Row) -> None:
    _write(out / RUNS / f"{row['run']}.json", row)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    unfinished = path.with_suffix(".new")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _frame(sweep: Sweep, rows: list[Row]) -> pl.DataFrame:
    """Columns: run, seed, the swept keys, every measure, provenance. The same rows give the same bytes."""
    columns: dict[str, list[Any]] = {"run": [row["run"] for row in rows], "seed": [row["seed"] for row in rows]}
    for key in sweep.keys:
        values = [row["values"][key] for row in rows]
        if len({type(value) for value in values}) > 1:
            values = [float(value) if all(type(each) in (int, float) for each in values) else str(value)
                      for value in values]
        columns[key] = values
    for name in rows[0]["measures"]:
        columns[name] = [None if row["measures"][name] is None else float(row["measures"][name]) for row in rows]
    for name in rows[0]["provenance"]:
        columns[name] = [row["provenance"][name] for row in rows]
    measured = dict.fromkeys(rows[0]["measures"], pl.Float64)
    return pl.DataFrame(columns, schema_overrides=measured, strict=False)
