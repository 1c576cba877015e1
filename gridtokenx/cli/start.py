"""`gridtokenx start`: run a node in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gridtokenx.cli.session import CONFIG_NAME


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), default=Path(CONFIG_NAME),
              envvar="GRIDTOKENX_CONFIG", show_default=True, help="The node's configuration file.")
@click.option("--http", "http", metavar="HOST:PORT", help="Serve the HTTP interface here; wins over [http] listen.")
@click.option("--check", "check_only", is_flag=True, help="Check the configuration and stop.")
@click.option("--snapshot", is_flag=True,
              help="Begin with the newest snapshot that a peer offers, however far behind this node is. Blocks from "
                   "before it are not held then.")
def start(config_path: Path, http: str | None, check_only: bool, snapshot: bool) -> None:
    """Run a node in the foreground until SIGTERM or Ctrl-C.

    A node whose key is an authority's in genesis is a validator; any other follows the chain as an observer.
    """
    from gridtokenx.node.config import load_config

    overrides = {} if http is None else {"GRIDTOKENX_HTTP__LISTEN": http}
    config = load_config(config_path, {**os.environ, **overrides})
    if check_only:
        click.echo(f"{config.source}: node {config.node.name!r}, data in {config.node.data_dir}: fine")
        return
    from gridtokenx.node.main import run

    sys.exit(run(config, snapshot=snapshot))
