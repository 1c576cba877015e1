"""`gridtokenx snapshot`: a node's state as a file, and a data directory from such a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gridtokenx.cli.output import facts
from gridtokenx.cli.session import CONFIG_NAME, CommandError

_OUT = click.Path(dir_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=Path(CONFIG_NAME), envvar="GRIDTOKENX_CONFIG",
    show_default=True, help="The node whose data are meant, if no directory is named.")


def data_directory(data: Path | None, config_path: Path) -> Path:
    """The named directory, or the configured node's. Raises CommandError if there is neither."""
    if data is not None:
        return data
    if not config_path.is_file():
        raise CommandError(f"which data? There is no {config_path} here: name a data directory, or run this in a "
                           "folder made by `gridtokenx init`")
    from gridtokenx.node.config import load_config

    return load_config(config_path).node.data_dir


@click.group()
def snapshot() -> None:
    """Make a snapshot of a node's state, or a node from one.

    A snapshot is the whole state after one final block, with the proof that the block is final. Whoever has the chain's
    genesis can check it, wherever it came from.
    """


@snapshot.command()
@click.argument("data", metavar="[DATA DIRECTORY]", required=False,
                type=click.Path(exists=True, file_okay=False, path_type=Path))
@config_option
@click.option("--out", type=_OUT, required=True, help="The file to write.")
@click.option("--height", type=click.IntRange(1), help="Of a block with a certificate of its own; default: the last "
                                                       "checkpoint.")
@click.option("--replace", is_flag=True, help="Write over a file that exists.")
@click.option("--nice", is_flag=True, help="Let everything else on this machine go first.")
def create(data: Path | None, config_path: Path, out: Path, height: int | None, replace: bool, nice: bool) -> None:
    """Write the state of a data directory to a file; the node may be running."""
    from rich.console import Console
    from rich.progress import Progress

    from gridtokenx.snapshots.make import make_snapshot

    if nice:
        os.nice(15)
    if replace:
        out.unlink(missing_ok=True)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("records", total=None)
        made = make_snapshot(data_directory(data, config_path), out, height=height,
                             progress=lambda done: bar.update(task, completed=done))
    facts([("snapshot", made.path), ("block", made.height), ("records", f"{made.keys:,}"),
           ("chunks", made.chunks), ("bytes", f"{made.bytes:,}")])


@snapshot.command()
@click.argument("file", type=_FILE)
@click.option("--genesis", type=_FILE, required=True, help="The chain's genesis file, from a source that you trust.")
def check(file: Path, genesis: Path) -> None:
    """Check a snapshot file: that its block is final, and every record of its state."""
    from gridtokenx.ledger.genesis import load_genesis
    from gridtokenx.light.verify import Trust
    from gridtokenx.snapshots.format import check_manifest
    from gridtokenx.snapshots.make import SnapshotFile

    with SnapshotFile(file) as opened:
        header = check_manifest(opened.manifest, Trust.of_hash(load_genesis(genesis).header().hash))
        opened.check()
        facts([("block", header.height), ("hash", header.hash.hex()), ("state root", header.state_root.hex()),
               ("records", f"{sum(opened.manifest.keys):,}"), ("all", "as it should be")])


@snapshot.command()
@click.argument("file", type=_FILE)
@click.option("--genesis", type=_FILE, required=True, help="The chain's genesis file, from a source that you trust.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="The data directory to make; it must be new, or empty.")
def restore(file: Path, genesis: Path, data: Path) -> None:
    """Make a data directory from a snapshot file. A node that starts on it follows the chain from that block on.

    An authority's node signs nothing on it until the next epoch begins.
    """
    from rich.console import Console
    from rich.progress import Progress

    from gridtokenx.ledger.genesis import load_genesis
    from gridtokenx.snapshots.make import SnapshotFile
    from gridtokenx.snapshots.restore import restore_snapshot
    from gridtokenx.store.database import Database
    from gridtokenx.store.environment import DEFAULT_MAP_BYTES

    if data.exists() and any(data.iterdir()):
        raise CommandError(f"{data} is not empty; give a new directory, or remove that one first")
    chain = load_genesis(genesis)
    with (SnapshotFile(file) as opened,
          Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar):
        task = bar.add_task("chunks", total=opened.manifest.chunks)
        header = restore_snapshot(opened.manifest, opened.chunks(), chain, data, map_bytes=DEFAULT_MAP_BYTES,
                                  progress=lambda done, _: bar.update(task, completed=done))
        Database.open(data, chain.chain_id).close()         # puts it in its place
        facts([("data directory", data), ("block", header.height), ("records", f"{sum(opened.manifest.keys):,}"),
               ("next", "gridtokenx start; the blocks after it come from the peers")])
