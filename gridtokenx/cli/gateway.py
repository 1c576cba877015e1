"""`gridtokenx gateway`: the HTTP interface over a node's data directory, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

DEFAULT_HTTP = "127.0.0.1:9480"


def parse_http(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """HOST:PORT of an option."""
    from gridtokenx.api.settings import split_listen

    if value is None:
        return None
    try:
        return split_listen(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


def _networks(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    import ipaddress

    try:
        return tuple(ipaddress.ip_network(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


@click.command()
@click.argument("directory", metavar="DIRECTORY", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--http", "listen", metavar="HOST:PORT", default=DEFAULT_HTTP, show_default=True, callback=parse_http,
              help="Where to listen.")
@click.option("--requests", type=click.IntRange(1, 1_000_000), default=100, show_default=True,
              help="Requests a second of one client.")
@click.option("--connections", type=click.IntRange(1, 65_536), default=512, show_default=True,
              help="Open connections in all.")
@click.option("--cors", "origins", metavar="ORIGIN", multiple=True,
              help="Let pages of this origin read; * for all. May be repeated. Default: none.")
@click.option("--trusted-proxy", "proxies", metavar="NETWORK", multiple=True, callback=_networks,
              help="Believe X-Forwarded-For from here, such as 127.0.0.1/32. May be repeated.")
@click.option("--cpu", "cpu_percent", type=click.IntRange(1, 100), metavar="PERCENT",
              help="Of one core, at most: the node beside it keeps the rest. Default: an eighth of all cores, at most "
                   "one whole.")
@click.option("--log-json", is_flag=True, help="Write logs as JSON.")
def gateway(directory: Path, listen: tuple[str, int], requests: int, connections: int, origins: tuple[str, ...],
            proxies: tuple[Any, ...], cpu_percent: int | None, log_json: bool) -> None:
    """Serve the HTTP and WebSocket interface of the chain in a node's data DIRECTORY, without taking transactions.

    The node may be running, and goes on undisturbed. Ends on SIGTERM or Ctrl-C.
    """
    from gridtokenx.api.budget import default_percent
    from gridtokenx.api.gateway import run
    from gridtokenx.api.settings import HttpSettings
    from gridtokenx.node.logs import configure

    configure("gateway", "info", "json" if log_json else "pretty", None)
    sys.exit(run(directory, HttpSettings(
        host=listen[0], port=listen[1], max_requests_per_s=requests, max_connections=connections,
        max_connections_per_client=max(1, connections // 8), cors_origins=origins, trusted_proxies=proxies),
        cpu_percent or default_percent()))
