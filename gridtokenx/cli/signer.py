"""`gridtokenx signer`: a hosted signer for an operator's own accounts; off unless it is started."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def signer() -> None:
    """Sign for accounts of your own, for programs that have a token instead of a key (docs/operator.md)."""


@signer.command()
def token() -> None:
    """Make a token: the first line is for the program, the second for the signer's file."""
    from gridtokenx.api.signer import new_token

    made, digest = new_token()
    click.echo(f"{made}\nsha256 = \"{digest}\"")


@signer.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Check the file and the keys, and stop.")
@click.option("--log-json", is_flag=True, help="Write logs as JSON.")
def start(config: Path, check: bool, log_json: bool) -> None:
    """Serve until SIGTERM or Ctrl-C, as the file CONFIG says."""
    import trio

    from gridtokenx.api.signer import run_signer
    from gridtokenx.api.signer_config import load_signer
    from gridtokenx.node.logs import configure

    loaded = load_signer(config)
    if check:
        click.echo(f"{config}: {len(loaded.accounts)} accounts, {len(loaded.tokens)} tokens: fine")
        return
    configure("signer", "info", "json" if log_json else "pretty", None)
    trio.run(run_signer, loaded)
