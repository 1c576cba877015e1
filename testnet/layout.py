"""Names, ports and files of a testnet run."""

from __future__ import annotations

import fcntl
import shutil
import socket
import sys
import time
from pathlib import Path

from attrs import define, evolve, field, frozen

from gridtokenx.crypto.keystore import save_key
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.genesis import Genesis, dump_genesis, load_genesis
from gridtokenx.network.identity import with_peer_id
from gridtokenx.node.lost_log import permit_first_start
from testnet.keys import testnet_key
from testnet.processes import Child

FOLDER = Path(__file__).parent
AUTHORITIES = {"egat": "EGAT", "mea": "MEA", "pea": "PEA", "erc": "ERC", "nepo": "EPPO/NEPO"}
"""Process name -> name in genesis."""
OBSERVER = "observer"
BOOTSTRAP = ("egat", "mea")
"""Known to all from their configuration; the others are found by asking these."""
PORT_BASE = 9401
HTTP_OFFSET = 79
"""From the first authority's port to that of its HTTP interface: 9480 with the usual ports."""


class LayoutError(GridTokenXError):
    """A run directory or port that cannot be used."""


@frozen
class Peer:
    """One node of the testnet and where to reach it."""

    name: str
    port: int

    @property
    def listen(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    @property
    def address(self) -> str:
        return with_peer_id(self.listen, testnet_key(self.name).public)


@define
class Run:
    """A run directory, held by one launcher at a time."""

    folder: Path
    port_base: int = PORT_BASE
    http: bool = False
    """Whether the first authority's node serves HTTP with the explorer."""
    _lock: object = field(default=None, repr=False)

    @property
    def peers(self) -> list[Peer]:
        return [Peer(name, self.port_base + at) for at, name in enumerate([*AUTHORITIES, OBSERVER])]

    @property
    def authorities(self) -> list[Peer]:
        return self.peers[:len(AUTHORITIES)]

    @property
    def observer(self) -> Peer:
        return self.peers[len(AUTHORITIES)]

    @property
    def http_address(self) -> str:
        """Host and port of the first authority's HTTP interface; empty without one."""
        return f"127.0.0.1:{self.port_base + HTTP_OFFSET}" if self.http else ""

    @property
    def genesis(self) -> Path:
        return self.folder / "genesis.toml"

    def prepare(self, *, fresh: bool) -> None:
        """Takes the directory; with `fresh`, or where there is none yet, starts a new chain now.

        Raises LayoutError if another launcher has it, or what is there is not a run directory.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LayoutError(f"another testnet is running in {self.folder}; stop it, or give --run-dir") from None
        self._lock = lock
        if fresh or not self.genesis.exists():
            self._clear()
            for folder in ("keys", "logs", "data"):
                (self.folder / folder).mkdir(mode=0o700)
            for peer in self.peers:
                save_key(self.folder / "keys" / f"{peer.name}.key", testnet_key(peer.name), None)
                permit_first_start(self.folder / "data" / peer.name)
            self.genesis.write_text(dump_genesis(self.new_genesis()), "utf-8")

    def new_genesis(self) -> Genesis:
        """What a chain begins with here."""
        return genesis_now()

    def _clear(self) -> None:
        ours = {"keys", "logs", "data", "genesis.toml", "lock", "trading.json"}
        strange = sorted(path.name for path in self.folder.iterdir() if path.name not in ours)
        if strange:
            raise LayoutError(f"{self.folder} holds {', '.join(strange)}, which no testnet made; not clearing it")
        for folder in ("keys", "logs", "data"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        for name in ("genesis.toml", "trading.json"):
            (self.folder / name).unlink(missing_ok=True)

    def node(self, peer: Peer) -> Child:
        """The node as a process: its committed configuration, with this run's folders and ports."""
        known = [other.address for other in self.peers if other.name in BOOTSTRAP and other != peer]
        name = peer.name
        http = self.http_address if peer == self.peers[0] else ""
        return Child(
            name, [sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(FOLDER / f"{name}.toml")],
            self.folder / "logs" / f"{name}.log",
            {"GRIDTOKENX_NODE__DATA_DIR": str(self.folder / "data" / name),
             "GRIDTOKENX_NODE__KEY_FILE": str(self.folder / "keys" / f"{name}.key"),
             "GRIDTOKENX_NODE__GENESIS": str(self.genesis),
             "GRIDTOKENX_NETWORK__LISTEN": peer.listen,
             "GRIDTOKENX_NETWORK__BOOTSTRAP": ",".join(known),
             **({"GRIDTOKENX_HTTP__LISTEN": http} if http else {})})


def port_is_free(address: str) -> bool:
    """Whether a node could listen there now."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def genesis_now() -> Genesis:
    """The testnet's genesis with its chain starting now, so that its market clock starts at 09:00 now."""
    return evolve(load_genesis(FOLDER / "genesis.toml"), genesis_ms=round(time.time() * 1000))
