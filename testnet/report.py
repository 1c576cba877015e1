"""From a launcher to what a run came to: printed, or as JSON, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

import click
import trio

from gridtokenx.errors import GridTokenXError, leaves
from testnet.facts import Facts, Verdict, as_json, judge
from testnet.launcher import Launcher


def carry_out(program: str, make: Callable[[], Launcher], *, check: bool, json_output: bool) -> None:
    """Runs what `make` makes and says what it came to. Exits with 1 for a run that failed, and with `check` for one
    of which something does not hold that must."""
    try:
        facts = trio.run(make().run)
    except* GridTokenXError as group:
        for error in leaves(group):
            click.echo(f"{program}: {error}", err=True)
        sys.exit(1)
    verdicts = judge(facts)
    if json_output:
        click.echo(json.dumps(as_json(facts, verdicts), indent=2))
    else:
        _print(facts, verdicts, check)
    if check and not all(verdict.holds for verdict in verdicts):
        sys.exit(1)


def _print(facts: Facts, verdicts: Sequence[Verdict], check: bool) -> None:
    width = max(len(verdict.name) for verdict in verdicts)
    click.echo("\nmeasured:" if check else "\nin all:")
    for verdict in verdicts:
        mark = ("ok    " if verdict.holds else "FAILED") if check else ""
        click.echo(f"  {mark} {verdict.name:<{width}}  {verdict.measured}")
    if facts.refused:
        codes = ", ".join(f"{name} {count}" for name, count in sorted(facts.refused.items()))
        click.echo(f"  refused or failed, by code: {codes}")
    if check:
        failed = [verdict.name for verdict in verdicts if not verdict.holds]
        click.echo(f"\nCHECK FAILED: {'; '.join(failed)}" if failed else "\nCHECK PASSED")
