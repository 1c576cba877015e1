"""`gridtokenx audit`: derives the chain anew from its blocks and says what differs from what a node has stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from gridtokenx.cli import output
from gridtokenx.cli.session import CONFIG_NAME, CommandError
from gridtokenx.errors import GridTokenXError

if TYPE_CHECKING:
    from gridtokenx.node.audit import Report

EXIT_DIFFERS = 1
EXIT_CANNOT = 2


@click.command()
@click.argument("data", metavar="[DATA DIRECTORY]", required=False,
                type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--config", "config_path", type=click.Path(path_type=Path), default=Path(CONFIG_NAME),
              envvar="GRIDTOKENX_CONFIG", show_default=True, help="The node whose data are meant, if not named.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def audit(data: Path | None, config_path: Path, as_json: bool) -> None:
    """Derive balances, mints, burns, certificates and state roots anew from the blocks in a data directory.

    The node may be running: nothing is written. Exit codes: 0 all agrees, 1 something differs (the report says what
    and where), 2 the audit could not be made.
    """
    try:
        report = _audit(data, config_path, quiet=as_json or not sys.stderr.isatty())
    except GridTokenXError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_CANNOT)
    if as_json:
        output.show_json(as_table(report))
    else:
        _show(report)
    if not report.agrees:
        sys.exit(EXIT_DIFFERS)


def _audit(data: Path | None, config_path: Path, *, quiet: bool) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    from gridtokenx.node.audit import audit as run
    from gridtokenx.node.collector import collecting_less

    chain_id = None
    if data is None:
        if not config_path.is_file():
            raise CommandError(f"which data? There is no {config_path} here: name a data directory, or run this in a "
                               "folder made by `gridtokenx init`")
        from gridtokenx.ledger.genesis import load_genesis
        from gridtokenx.node.config import load_config

        config = load_config(config_path)
        data, chain_id = config.node.data_dir, load_genesis(config.node.genesis).chain_id
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar, collecting_less():
        task = bar.add_task("blocks", total=None)
        return run(data, chain_id, lambda done, total: bar.update(task, completed=done, total=total))


def as_table(report: Report) -> dict[str, Any]:
    """The report for JSON: amounts in base units."""
    return {**asdict(report), "agrees": report.agrees}


def wh(energy: int) -> str:
    return f"{energy:,} Wh"


def _show(report: Report) -> None:
    pairs: list[tuple[str, object]] = [
        ("chain", f"{report.name} ({report.chain_id.hex()[:16]}…)"),
        ("blocks", f"{report.height:,} derived of {report.stored_height:,}; {report.transactions:,} transactions, "
                   f"{report.signatures:,} signatures, {report.certificates:,} certificates verified"),
        ("state", f"{report.keys:,} records compared, root {report.state_root.hex()}"),
    ]
    if report.sums is not None:
        sums = report.sums
        pairs.append(("THB", f"{output.thb(sums.held_uthb)} in {sums.accounts:,} accounts = "
                             f"{output.thb(sums.genesis_uthb)} of genesis + {output.thb(sums.minted_uthb)} minted - "
                             f"{output.thb(sums.burned_uthb)} burned"))
        pairs.append(("GT", f"minted {wh(sums.minted_wh)} + supplied by utilities {wh(sums.supplied_wh)} = consumed "
                            f"{wh(sums.consumed_wh)} + lost {wh(sums.lost_wh)} + taken by utilities "
                            f"{wh(sums.taken_wh)}"))
        pairs.append(("certificates", f"{sums.certificates:,} of 1 MWh, {sums.retired:,} retired; of "
                                      f"{output.kwh(sums.metered_wh)} that renewable meters injected net, "
                                      f"{output.kwh(sums.claimed_wh)} were claimed"))
    output.facts(pairs)
    click.echo()
    if report.agrees:
        click.echo("ALL AGREES")
        return
    output.table(["block", "where", "what"], [["" if finding.height is None else finding.height, finding.where,
                                              finding.what] for finding in report.findings], right=(0,))
    if report.left_out:
        click.echo(f"and {report.left_out:,} more")
    click.echo(f"\nDIFFERS in {len(report.findings) + report.left_out:,} places")
