"""`gridtokenx init`: make a node's folder."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import click

from gridtokenx.cli.keys import new_key_options, new_passphrase, peer_id
from gridtokenx.cli.output import facts
from gridtokenx.cli.session import CONFIG_NAME, CommandError
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import read_public, save_key

KEY_NAME = "node.key"
GENESIS_NAME = "genesis.toml"


def _config_text(name: str, listen: tuple[str, ...], bootstrap: tuple[str, ...], passphrase_file: Path | None) -> str:
    quoted = json.dumps         # a JSON string or list of strings is one in TOML too
    passphrase = f"passphrase_file = {quoted(str(passphrase_file.resolve()))}\n" if passphrase_file else ""
    return ("# A GridTokenX node; all keys: docs/operator.md. GRIDTOKENX_<SECTION>__<KEY> in the environment wins.\n"
            f"\n[node]\nname = {quoted(name)}\ndata_dir = \"data\"\nkey_file = {quoted(KEY_NAME)}\n{passphrase}"
            f"genesis = {quoted(GENESIS_NAME)}\n"
            f"\n[network]\nlisten = {quoted(listen)}\nbootstrap = {quoted(bootstrap)}\n"
            "\n[log]\nlevel = \"info\"\nformat = \"json\"\n")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--genesis", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="The network's genesis file; it is checked and copied.")
@click.option("--name", default="node", show_default=True, help="The node's name in logs and lists.")
@click.option("--listen", multiple=True, default=("/ip4/0.0.0.0/tcp/9400",), show_default=True,
              help="Where to listen; may be repeated.")
@click.option("--bootstrap", multiple=True, metavar="ADDRESS",
              help="A peer to start from, with its identity; may be repeated.")
@click.option("--key", "key_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Copy this key instead of making one: an authority's, for its validator.")
@click.option("--never-signed", is_flag=True,
              help="With --key: that key has never signed on this chain, on any machine, so it may at once. Without it "
                   "an authority's node signs from the next epoch on.")
@new_key_options
def init(folder: Path, genesis: Path, name: str, listen: tuple[str, ...], bootstrap: tuple[str, ...],
         key_file: Path | None, never_signed: bool, passphrase_file: Path | None, unencrypted: bool) -> None:
    """Make a node's FOLDER: configuration, key, genesis. Nothing that exists is overwritten.

    An encrypted key needs --passphrase-file, so that the node can start by itself.
    """
    from gridtokenx.ledger.genesis import load_genesis
    from gridtokenx.node.config import parse_config
    from gridtokenx.node.lost_log import permit_first_start

    chain = load_genesis(genesis)
    config = folder / CONFIG_NAME
    for path in (config, folder / KEY_NAME, folder / GENESIS_NAME):
        if path.exists():
            raise CommandError(f"{path} exists already; give another folder, or remove it first")
    if key_file is None and passphrase_file is None and not unencrypted:
        raise click.UsageError("a node starts without a person: give --passphrase-file, or --unencrypted")
    encrypted = not unencrypted if key_file is None else read_public(key_file)[1]
    if encrypted and passphrase_file is None:
        raise click.UsageError(f"{key_file} is encrypted: give --passphrase-file")
    text = _config_text(name, listen, bootstrap, passphrase_file if encrypted else None)
    parse_config(tomllib.loads(text), config.absolute(), {})
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if key_file is None:
        save_key(folder / KEY_NAME, PrivateKey.generate(), new_passphrase(passphrase_file, unencrypted))
    else:
        handle = os.open(folder / KEY_NAME, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key_file.read_bytes())
    public, _ = read_public(folder / KEY_NAME)
    shutil.copyfile(genesis, folder / GENESIS_NAME)
    config.write_text(text, "utf-8")
    if key_file is None or never_signed:
        permit_first_start(folder / "data")
    names = [authority.name for authority in chain.authorities if authority.public == public]
    signs = "at once" if never_signed else ("from the next epoch on; at once if its key has never signed on this chain "
                                            "and you say so: gridtokenx keys never-signed")
    facts([("configuration", config), ("chain", f"{chain.name} ({chain.chain_id.hex()[:16]}…)"),
           ("role", f"validator ({names[0]})" if names else "observer: this key is no authority's in genesis"),
           *([("signs", signs)] if names else []),
           ("address", encode_address(public)), ("peer id", peer_id(public)),
           ("next", f"cd {folder} && gridtokenx start")])
