"""`gridtokenx backup` copies a node's data while it runs; `gridtokenx repair` mends them while it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import CommandError, json_option
from gridtokenx.cli.snapshot import config_option, data_directory

EXIT_RESYNC = 1
EXIT_CANNOT = 2


@click.command()
@click.argument("data", metavar="[DATA DIRECTORY]", required=False,
                type=click.Path(exists=True, file_okay=False, path_type=Path))
@config_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new directory for the copy.")
def backup(data: Path | None, config_path: Path, out: Path) -> None:
    """Copy a node's data at its last checkpoint to a new directory; the node may be running.

    The copy is a data directory: to restore it, put it in the place of a lost one. It has no log, on purpose: an
    authority's node that is started on it signs nothing until the next epoch begins.
    """
    from gridtokenx.store.database import Database

    source = data_directory(data, config_path)
    with Database.open_read_only(source) as database:
        database.backup(out)
    with Database.open_read_only(out) as copy:
        output.facts([("copy", out), ("chain", copy.chain_id.hex()), ("block", copy.executed_height),
                      ("bytes", f"{copy.usage().file_bytes:,}")])


@click.command()
@click.argument("data", metavar="[DATA DIRECTORY]", required=False,
                type=click.Path(exists=True, file_okay=False, path_type=Path))
@config_option
@click.option("--check", "check_only", is_flag=True, help="Say what is wrong and change nothing.")
@json_option
def repair(data: Path | None, config_path: Path, check_only: bool, as_json: bool) -> None:
    """Find what is damaged in a data directory, and rebuild what can be rebuilt. The node must not be running.

    Reads everything: every page, every block, every record against the state root. A damaged state, trie or index is
    made anew from the blocks; blocks that are gone come from the peers at the next start. Exit codes: 0 in order now,
    1 damaged (with --check, or what could not be saved was set aside), 2 it cannot be done now.
    """
    from rich.console import Console
    from rich.progress import Progress

    from gridtokenx.errors import GridTokenXError
    from gridtokenx.node.repair import repair as run

    try:
        place = data_directory(data, config_path)
        with Progress(console=Console(stderr=True), transient=True,
                      disable=as_json or not sys.stderr.isatty()) as bar:
            task = bar.add_task("", total=None)
            report = run(place, check_only=check_only,
                         progress=lambda what, done: bar.update(task, description=what, completed=done))
    except (GridTokenXError, CommandError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_CANNOT)
    if as_json:
        output.show_json({"in_order": report.in_order, "height": report.height, "found": report.found,
                          "done": report.done, "next": report.next})
    else:
        for line in report.found:
            click.echo(f"found  {line}")
        for line in report.done:
            click.echo(f"done   {line}")
        click.echo(f"next   {report.next}")
    sys.exit(0 if report.in_order else EXIT_RESYNC)
