"""`gridtokenx fork`: takes the chain in a node's data directory, as of any height, to try things on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import CommandError
from gridtokenx.units import UTHB_PER_THB


@click.group(invoke_without_command=True)
@click.option("--from", "source", metavar="DIRECTORY",
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="A node's data directory; the node may be running.")
@click.option("--height", type=click.IntRange(min=0), help="The last block to take.  [default: the last checkpoint]")
@click.option("--out", metavar="DIRECTORY", type=click.Path(file_okay=False, path_type=Path),
              help="Where the fork goes; it must not hold one yet.")
@click.option("--salt", default="fork", show_default=True, help="Forks of one block with other salts are other chains.")
@click.option("--json", "as_json", is_flag=True, help="Print where it comes from as JSON.")
@click.pass_context
def fork(context: click.Context, source: Path | None, height: int | None, out: Path | None, salt: str,
         as_json: bool) -> None:
    """Fork a chain: the state as of a height, without copying it, for `gridtokenx.load(DIRECTORY)` in Python.

    Nothing of the parent is written; it keeps the history that the fork reads for 30 days after its last use.
    """
    if context.invoked_subcommand is not None:
        return
    for name, value in (("--from", source), ("--out", out)):
        if value is None:
            raise click.UsageError(f"{name} is missing: gridtokenx fork --from DIRECTORY --out DIRECTORY")
    assert source is not None and out is not None
    _fork(source, height, out, salt, as_json)


def _fork(source: Path, height: int | None, out: Path, salt: str, as_json: bool) -> None:
    from gridtokenx import forks
    from gridtokenx.forks.dump import DUMP_FILE

    if (out / DUMP_FILE).exists():
        raise CommandError(f"{out} holds a fork already; choose another directory, or remove it")
    with forks.fork(source, height, salt=salt) as chain:
        chain.dump(out)
        provenance = chain.provenance
        assert provenance is not None
        facts = {
            "directory": str(out), "chain_id": chain.chain_id, "height": chain.height,
            "state_root": chain.head.header.state_root, "market_ms": chain.now_ms,
            "parent": {"directory": str(source), "chain_id": provenance.parent, "height": provenance.height,
                       "block_hash": provenance.block_hash, "state_root": provenance.state_root},
        }
        if as_json:
            output.show_json(facts)
            return
        click.echo(f"forked chain {provenance.parent.hex()[:16]}… after block {provenance.height:,}, "
                   f"market time {chain.now:%Y-%m-%d %H:%M}")
        click.echo(f"the fork is chain {chain.chain_id.hex()[:16]}… in {out}")
        click.echo(f'next, in Python: import gridtokenx; chain = gridtokenx.load("{out}")')


@fork.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", default=Path("report.html"), show_default=True, metavar="FILE",
              type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option("--parent", is_flag=True, help="Also what is different from the parent, as it was when it was forked.")
@click.option("--to", "other", metavar="DIRECTORY", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Also what is different from another fork.")
def report(directory: Path, out: Path, parent: bool, other: Path | None) -> None:
    """Write what is on the fork in DIRECTORY as one HTML file with pictures that stands alone."""
    from gridtokenx import forks

    if parent and other is not None:
        raise click.UsageError("--parent and --to: give one of them")
    with forks.load(directory) as chain:
        if parent:
            with forks.parent_of(chain) as compared:
                chain.write_report(out, compared)
        elif other is not None:
            with forks.load(other) as compared:
                chain.write_report(out, compared)
        else:
            chain.write_report(out)
    click.echo(f"wrote {out}")


@fork.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path),
              help="Where the network's nodes live; one that is there already is started again.")
@click.option("--authorities", type=click.IntRange(1, 16), default=1, show_default=True, help="How many nodes.")
@click.option("--port", type=click.IntRange(1, 65_519), default=9400, show_default=True,
              help="The first node's; the others have the next ones.")
@click.option("--http", metavar="HOST:PORT", default="", help="The first node serves the HTTP interface here.")
@click.option("--rate", type=click.IntRange(1, 86_400), help="Market seconds a second.  [default: the parent's]")
@click.option("--fund", multiple=True, metavar="ADDRESS=THB", help="Gives an account money first; may be repeated.")
@click.option("--no-run", is_flag=True, help="Only make the folders.")
def start(directory: Path, out: Path, authorities: int, port: int, http: str, rate: int | None,
          fund: tuple[str, ...], no_run: bool) -> None:
    """Run the fork in DIRECTORY as a network of its own on this machine, until SIGTERM or Ctrl-C.

    Wallets and the HTTP interface work as on any chain: nobody is impersonated. The first authority's key (node.key in
    its folder, unencrypted) may issue money and register meters.
    """
    import time

    from gridtokenx import forks
    from gridtokenx.forks.network import configurations, make_network

    if not configurations(out):
        with forks.load(directory) as chain:
            for entry in fund:
                chain.override.balance(*_funding(entry))
            made = make_network(chain, out, genesis_ms=time.time_ns() // 1_000_000, authorities=authorities, port=port,
                                http=http, market_rate=rate)
            click.echo(f"made {len(made)} node{'s' if made[1:] else ''} in {out}, at market time "
                       f"{chain.now:%Y-%m-%d %H:%M}", err=True)
    if no_run:
        return
    _run(configurations(out))


def _funding(entry: str) -> tuple[str, int]:
    address, equals, amount = entry.partition("=")
    if not equals or not amount.isdigit() or len(amount) > 12:
        raise click.UsageError(f"--fund {entry}: ADDRESS=THB is wanted, the amount in whole baht")
    return address, int(amount) * UTHB_PER_THB


def _run(configs: list[Path]) -> None:
    """One node in this process; several in processes of their own, which end with this one."""
    if len(configs) == 1:
        from gridtokenx.node.config import load_config
        from gridtokenx.node.main import run

        sys.exit(run(load_config(configs[0], os.environ)))
    nodes = [subprocess.Popen([sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(path)])
             for path in configs]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        codes = [node.wait() for node in nodes]
        sys.exit(max(codes))
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        for node in nodes:
            node.terminate()
        for node in nodes:
            node.wait()
