"""A fork as a network of its own: nodes with consensus, store and sockets, which wallets and programs use as any other.

Its block 0 has the state of the fork as it stands, so that it needs the parent no longer (`ledger.genesis_fork`).
Nobody is impersonated there: only whoever has an account's key acts for it. The first authority is issuer and
registrar, beside those of the parent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.errors import GridTokenXError
from gridtokenx.forks.errors import ForkError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.genesis import Authority
from gridtokenx.ledger.genesis_fork import ForkGenesis, begin
from gridtokenx.ledger.records import Roles
from gridtokenx.network.identity import peer_id_of
from gridtokenx.node.lost_log import permit_first_start
from gridtokenx.store.database import Database
from gridtokenx.store.environment import DEFAULT_MAP_BYTES

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

MOST_AUTHORITIES = 16
GENESIS_FILE = "genesis.cbor"
KEY_FILE = "node.key"
CONFIG_FILE = "gridtokenx.toml"
DATA = "data"


def network_genesis(chain: Chain, authorities: Sequence[tuple[str, bytes]], *, genesis_ms: int,
                    market_rate: int | None = None, name: str = "fork") -> ForkGenesis:
    """The genesis of a network that goes on from `chain` as it stands: market time too, from `genesis_ms` on.

    `authorities` are (name, public key). Raises ForkError while transactions wait.
    """
    if chain.waiting:
        raise ForkError(f"{chain.waiting} transactions wait: flush before a network begins")
    if not 1 <= len(authorities) <= MOST_AUTHORITIES:
        raise ForkError(f"{len(authorities)} authorities; 1 to {MOST_AUTHORITIES} are allowed")
    rate = chain.identity.market_rate if market_rate is None else market_rate
    if not 1 <= rate <= 86_400:
        raise ForkError(f"market time runs at {rate} times real time; 1 to 86400 is allowed")
    first = authorities[0][1]
    roles: Roles = chain.record(spaces.ROLES)
    made = begin(
        chain.head, chain.head.header, name=name, salt=chain.salt,
        authorities=tuple(Authority(*each) for each in authorities), genesis_ms=genesis_ms,
        market_start_ms=chain.now_ms, market_rate=rate,
        roles=evolve(roles, issuers=_with(roles.issuers, first), registrars=_with(roles.registrars, first)))
    audit_totals(made.view())
    return made


def make_network(chain: Chain, directory: Path, *, genesis_ms: int, authorities: int = 1, port: int = 9400,
                 http: str = "", market_rate: int | None = None) -> list[Path]:
    """Makes a folder for each node below `directory`, ready for `gridtokenx start`; returns their configurations.

    Nodes listen on this machine's loopback from `port` on; the first one has the HTTP interface. Raises ForkError.
    """
    if configurations(directory):
        raise ForkError(f"{directory} holds a network already; start that, or choose another directory")
    keys = [PrivateKey.generate() for _ in range(authorities)]
    names = [f"dev{number}" for number in range(authorities)]
    genesis = network_genesis(chain, [(name, key.public) for name, key in zip(names, keys, strict=True)],
                              genesis_ms=genesis_ms, market_rate=market_rate)
    addresses = [f"/ip4/127.0.0.1/tcp/{port + number}" for number in range(authorities)]
    made = []
    for number, (name, key) in enumerate(zip(names, keys, strict=True)):
        folder = directory / name
        folder.mkdir(mode=0o700, parents=True)
        save_key(folder / KEY_FILE, key, None)
        (folder / GENESIS_FILE).write_bytes(genesis.canonical())
        _database(folder / DATA, genesis)
        permit_first_start(folder / DATA)
        others = [f"{address}/p2p/{peer_id_of(other.public)}" for address, other in zip(addresses, keys, strict=True)
                  if other is not key]
        (folder / CONFIG_FILE).write_text(
            _config(name, addresses[number], others, http if number == 0 else ""), "utf-8")
        made.append(folder / CONFIG_FILE)
    return made


def configurations(directory: Path) -> list[Path]:
    """Those of the network in `directory`, in the order of its authorities."""
    return sorted(directory.glob(f"dev*/{CONFIG_FILE}"), key=lambda path: int(path.parent.name.removeprefix("dev")))


def _database(path: Path, genesis: ForkGenesis) -> None:
    header = genesis.header()
    state = genesis.initial_state()
    size = sum(len(key) + len(value) for key, value in state.items())
    try:
        Database.create(path, genesis.chain_id, genesis.canonical(), state=state, pages=genesis.view().pages,
                        header=header.encode(), header_hash=header.hash,
                        map_bytes=max(DEFAULT_MAP_BYTES, 64 * size)).close()
    except GridTokenXError as error:
        raise ForkError(f"{path} cannot be made: {error}") from error


def _config(name: str, listen: str, bootstrap: list[str], http: str) -> str:
    quoted = json.dumps         # a JSON string or list of strings is one in TOML too
    return ("# A node of a fork's network, on this machine alone; all keys: docs/operator.md.\n"
            f"\n[node]\nname = {quoted(name)}\ndata_dir = {quoted(DATA)}\nkey_file = {quoted(KEY_FILE)}\n"
            f"genesis = {quoted(GENESIS_FILE)}\n"
            f"\n[network]\nlisten = [{quoted(listen)}]\nbootstrap = {quoted(bootstrap)}\n"
            f"\n[http]\nlisten = {quoted(http)}\n\n[log]\nlevel = \"info\"\nformat = \"pretty\"\n")


def _with(accounts: tuple[bytes, ...], more: bytes) -> tuple[bytes, ...]:
    return tuple(sorted({*accounts, more}))
