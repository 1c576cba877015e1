"""Writes what five containers need to be a testnet: `python prepare.py FOLDER`, once, before they start.

A folder for each authority with its key (published, as all of the testnet's: never where money or energy is real), the
genesis of a chain that begins now, and a configuration. A folder that is there already is left as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gridtokenx.crypto.keystore import save_key
from gridtokenx.ledger.genesis import dump_genesis
from gridtokenx.network.identity import with_peer_id
from gridtokenx.node.lost_log import permit_first_start
from testnet.keys import testnet_key
from testnet.layout import AUTHORITIES, genesis_now

SUBNET = "172.31.94"
FIRST = 11
PORT, HTTP_PORT = 9400, 9480
CONFIGURATION = """# {title}: one container of the network in deploy/compose.yaml.
[node]
name = "{name}"
data_dir = "data"
key_file = "node.key"
genesis = "genesis.toml"

[network]
listen = ["/ip4/0.0.0.0/tcp/{port}"]
announce = ["/ip4/{address}/tcp/{port}"]
bootstrap = [{others}]

[http]
listen = "0.0.0.0:{http}"

[log]
format = "json"
"""


def address(number: int) -> str:
    """Of authority `number` in compose.yaml's network."""
    return f"{SUBNET}.{FIRST + number}"


def prepare(folder: Path) -> None:
    if all((folder / name / "gridtokenx.toml").exists() for name in AUTHORITIES):
        return
    genesis = dump_genesis(genesis_now())
    peers = {name: with_peer_id(f"/ip4/{address(number)}/tcp/{PORT}", testnet_key(name).public)
             for number, name in enumerate(AUTHORITIES)}
    for number, (name, title) in enumerate(AUTHORITIES.items()):
        own = folder / name
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_key(own / "node.key", testnet_key(name), None)
        permit_first_start(own / "data")
        (own / "genesis.toml").write_text(genesis, "utf-8")
        others = ", ".join(f'"{peer}"' for other, peer in peers.items() if other != name)
        (own / "gridtokenx.toml").write_text(CONFIGURATION.format(
            title=title, name=name, port=PORT, address=address(number), others=others, http=HTTP_PORT), "utf-8")
    (folder / "nodes").write_text("\n".join(peers.values()) + "\n", "utf-8")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
