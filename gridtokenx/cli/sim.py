"""`gridtokenx sim`: scenarios, written from a template and run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import CommandError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@click.group()
def sim() -> None:
    """Simulate a population on a chain of its own, or on a fork: docs/scenarios.md."""


@sim.command()
@click.argument("name")
@click.option("--sweep", "with_sweep", is_flag=True, help="Also write NAME-sweep.toml, a sweep over it.")
def new(name: str, with_sweep: bool) -> None:
    """Write NAME.toml, a scenario with every key explained, ready to run."""
    from gridtokenx.scenario.profiles import DATA

    if not _NAME.fullmatch(name):
        raise CommandError(f"{name!r} is no name for a scenario; letters, digits, '_', '.' and '-' are allowed")
    path, plan = Path(f"{name}.toml"), Path(f"{name}-sweep.toml")
    wanted = {path: "template.toml"} | ({plan: "sweep.toml"} if with_sweep else {})
    for file in wanted:
        if file.exists():
            raise CommandError(f"{file} is there already; choose another name, or remove it")
    for file, template in wanted.items():
        file.write_text((DATA / template).read_text("utf-8").replace("@NAME@", name), "utf-8")
        click.echo(f"wrote {file}")
    click.echo(f"next: gridtokenx sim sweep {plan} --out {name}-sweep" if with_sweep
               else f"next: gridtokenx sim run {path} --out {name}-1")


@sim.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, metavar="DIRECTORY", type=click.Path(file_okay=False, path_type=Path),
              help="Where the result goes; it must not hold one yet.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), help="Another root seed than the file's.")
@click.option("--report/--no-report", default=True, show_default=True,
              help="Write report.html, with pictures; needs gridtokenx[study].")
@click.option("--json", "as_json", is_flag=True, help="Print provenance and measures as JSON.")
def run(file: Path, out: Path, seed: int | None, report: bool, as_json: bool) -> None:
    """Run the scenario in FILE and write its tables, measures and provenance as a directory of Parquet."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gridtokenx import scenario
    from gridtokenx.optional import optional
    from gridtokenx.scenario.result import PROVENANCE, REPORT

    if (out / PROVENANCE).exists():
        raise CommandError(f"{out} holds a result already; choose another directory, or remove it")
    if report:
        optional("matplotlib", "the report of a run (--no-report leaves it out)")
    read = scenario.load_scenario(file)
    with Progress(TextColumn(read.name), BarColumn(), MofNCompleteColumn(), TextColumn("windows"),
                  TimeRemainingColumn(), console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task(read.name, total=None)
        result = scenario.run(read, seed=seed, progress=lambda done, most: bar.update(task, completed=done, total=most))
    with result:
        result.write(out)
        if report:
            result.report(out / REPORT)
        facts = result.provenance()
        measures = result.measures.rows(named=True)
        if as_json:
            output.show_json(facts | {"directory": str(out),
                                      "measures": {row["measure"]: row["value"] for row in measures}})
            return
        output.table(["measure", "value", "unit"],
                     [(row["measure"], _number(row["value"]), row["unit"]) for row in measures], right=(1,))
        click.echo("")
        output.facts([("houses", f"{facts['houses']:,}"), ("windows", f"{len(result.windows):,}"),
                      ("blocks", f"{facts['blocks']:,}"), ("operations", _counts(facts["operations"])),
                      ("failed", _counts(facts["failed"])), ("seed", facts["seed"]),
                      ("result hash", facts["result_hash"]), ("written to", out)])


@sim.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, metavar="DIRECTORY", type=click.Path(file_okay=False, path_type=Path),
              help="Where the results go; a sweep that was stopped goes on there.")
@click.option("--workers", type=click.IntRange(0, 1024), help="Processes on this machine; 0: none but this one.  "
              "[default: as many as there are cores]")
@click.option("--scheduler", metavar="ADDRESS", default="",
              help="Use this Dask scheduler, such as tcp://10.0.0.1:8786, instead of a cluster on this machine.")
def sweep(file: Path, out: Path, workers: int | None, scheduler: str) -> None:
    """Run the sweep in FILE on Dask; the results are one row per run in results.parquet."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from gridtokenx import scenario
    from gridtokenx.scenario.sweeping import RESULTS

    read = scenario.load_sweep(file)
    with Progress(TextColumn(read.name), BarColumn(), MofNCompleteColumn(), TextColumn("runs"), TimeElapsedColumn(),
                  console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(read.name, total=len(read.runs))
        frame = scenario.carry_out(read, out, workers=workers, scheduler=scheduler,
                                   progress=lambda done, _: bar.update(task, completed=done))
    output.facts([("runs", f"{frame.height:,}"), ("swept", ", ".join(read.keys)),
                  ("seeds", f"{len({run.seed for run in read.runs})}"), ("written to", out / RESULTS)])


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4f}"


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counted.items()) or "none"
