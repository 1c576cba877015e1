"""`gridtokenx keys`: make, show and import key files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from gridtokenx.cli.output import facts, show_json
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import read_public, save_key
from gridtokenx.node.config import read_passphrase_file

KEY_PATH = click.Path(dir_okay=False, path_type=Path)
_PASSPHRASE_OPTIONS = (
    click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="Read the passphrase from the first line of this file instead of asking."),
    click.option("--unencrypted", is_flag=True, help="Write the key unencrypted (mode 0600): testnets and "
                                                     "unattended nodes on protected disks."),
)


def new_key_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds --passphrase-file and --unencrypted to a command that writes a key."""
    for option in reversed(_PASSPHRASE_OPTIONS):
        function = option(function)
    return function


def new_passphrase(passphrase_file: Path | None, unencrypted: bool) -> str | None:
    """The passphrase to encrypt a new key with, None for an unencrypted one; asks twice on the terminal."""
    if unencrypted:
        if passphrase_file is not None:
            raise click.UsageError("--unencrypted and --passphrase-file exclude each other")
        return None
    if passphrase_file is not None:
        return read_passphrase_file(passphrase_file)
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for a passphrase: give --passphrase-file, or --unencrypted")
    return str(click.prompt("Passphrase for the new key", hide_input=True, confirmation_prompt=True))


def _report(path: Path, public: bytes, encrypted: bool, as_json: bool) -> None:
    if as_json:
        show_json({"file": str(path), "address": public, "public_key": public, "encrypted": encrypted,
                   "peer_id": peer_id(public)})
    else:
        facts([("file", path), ("address", encode_address(public)), ("public key", public.hex()),
               ("peer id", peer_id(public)), ("encrypted", "yes" if encrypted else "no")])


def peer_id(public: bytes) -> str:
    """The libp2p name of a node with this key."""
    from gridtokenx.network.identity import peer_id_of

    return peer_id_of(public).to_base58()


@click.group()
def keys() -> None:
    """Make, show and import key files.

    A key file holds one Ed25519 key, encrypted under a passphrase (Argon2id, XChaCha20-Poly1305), mode 0600. The
    same kind of file serves accounts, meters and nodes; use a key for one purpose only.
    """


@keys.command()
@click.argument("file", type=KEY_PATH)
@new_key_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(file: Path, passphrase_file: Path | None, unencrypted: bool, as_json: bool) -> None:
    """Make a new key in FILE, which must not exist."""
    key = PrivateKey.generate()
    save_key(file, key, new_passphrase(passphrase_file, unencrypted))
    _report(file, key.public, not unencrypted, as_json)


@keys.command()
@click.argument("file", type=KEY_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Show address, public key and peer id of FILE; needs no passphrase and never shows the secret."""
    public, encrypted = read_public(file)
    _report(file, public, encrypted, as_json)


@keys.command("import")
@click.argument("file", type=KEY_PATH)
@new_key_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(file: Path, passphrase_file: Path | None, unencrypted: bool, as_json: bool) -> None:
    """Write the seed given on standard input (64 hexadecimal digits) to FILE, which must not exist."""
    text = click.prompt("Seed", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    try:
        seed = bytes.fromhex(text.strip())
    except ValueError:
        raise click.UsageError("a seed is 64 hexadecimal digits") from None
    key = PrivateKey(seed)
    save_key(file, key, new_passphrase(passphrase_file, unencrypted))
    _report(file, key.public, not unencrypted, as_json)


@keys.command("never-signed")
@click.option("--config", "config_path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              default=Path("gridtokenx.toml"), envvar="GRIDTOKENX_CONFIG", show_default=True,
              help="The node's configuration file; the node must not be running.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def never_signed(config_path: Path, yes: bool) -> None:
    """Say that a node's key has never signed on its chain, on any machine.

    An authority's node with an empty log signs nothing until the next epoch, because its log may have been lost. This
    lets it sign at once. If the key did sign before, it may contradict itself now, which counts as misbehaviour.
    """
    from gridtokenx.cli.session import CommandError
    from gridtokenx.ledger.genesis import load_genesis
    from gridtokenx.node.config import load_config
    from gridtokenx.node.lost_log import LOST_MARK, has_signed, permit_first_start
    from gridtokenx.store.disk import make_durable_directory
    from gridtokenx.store.environment import DirectoryLock

    config = load_config(config_path)
    data = config.node.data_dir
    make_durable_directory(data)
    lock = DirectoryLock(data)
    try:
        if has_signed(data, load_genesis(config.node.genesis).chain_id):
            raise CommandError(f"the log in {data} holds votes of this key: it has signed")
        if not yes:
            click.confirm("Has this key never signed on this chain, on any machine?", abort=True)
        permit_first_start(data)
        (data / LOST_MARK).unlink(missing_ok=True)
    finally:
        lock.release()
    click.echo("it may sign as soon as it is started")
