"""Local authorities as operating-system processes, for benchmarks: the testnet's genesis with another make-up."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import define, evolve

from gridtokenx.client import connect
from gridtokenx.client.errors import ClientError
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.ledger.genesis import Genesis, dump_genesis, load_genesis
from gridtokenx.network.identity import with_peer_id
from gridtokenx.node.lost_log import permit_first_start
from testnet.keys import testnet_key
from testnet.processes import Child, stop_all

GENESIS = Path(__file__).parent.parent / "testnet" / "genesis.toml"
NAMES = ("egat", "mea", "pea", "erc", "nepo")
PORT_BASE = 9601
START_TIMEOUT_S = 120.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@define
class Cluster:
    """Running authorities: their processes, addresses and chain."""

    genesis: Genesis
    children: list[Child]
    addresses: list[str]

    def cpu_s(self) -> float:
        """CPU seconds that all processes have used, user and system."""
        return sum(cpu_s_of(child.pid) for child in self.children if child.pid is not None)

    def own_mib(self) -> float:
        """Greatest memory of its own that one process has now."""
        return max(_own_mib(child.pid) for child in self.children if child.pid is not None)


def cpu_s_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _own_mib(pid: int) -> float:
    """Resident memory without the mapped database file, which the kernel takes back when it needs to."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def benchmark_genesis(authorities: int, accounts: Sequence[PrivateKey], money_uthb: int, market_rate: int) -> Genesis:
    """The testnet's genesis with the first `authorities` of its five, and funded accounts."""
    base = load_genesis(GENESIS)
    return evolve(
        base, genesis_ms=round(time.time() * 1000), market_rate=market_rate, authorities=base.authorities[:authorities],
        accounts=tuple(sorted((*base.accounts, *((key.public, money_uthb) for key in accounts)))))


@asynccontextmanager
async def running(folder: Path, genesis: Genesis, port_base: int = PORT_BASE) -> AsyncIterator[Cluster]:
    """Starts the authorities of `genesis` in `folder` and waits until each is linked to all others."""
    names = NAMES[:len(genesis.authorities)]
    (folder / "genesis.toml").write_text(dump_genesis(genesis), "utf-8")
    listen = {name: f"/ip4/127.0.0.1/tcp/{port_base + at}" for at, name in enumerate(names)}
    addresses = {name: with_peer_id(listen[name], testnet_key(name).public) for name in names}
    children = []
    for name in names:
        save_key(folder / f"{name}.key", testnet_key(name), None)
        permit_first_start(folder / name)
        known = [addresses[other] for other in names[:2] if other != name]
        config = folder / f"{name}.toml"
        config.write_text(
            f'[node]\nname = "{name}"\ndata_dir = "{name}"\nkey_file = "{name}.key"\ngenesis = "genesis.toml"\n'
            f'[network]\nlisten = ["{listen[name]}"]\nbootstrap = {known!r}\n[log]\nlevel = "warning"\n'
            '[pool]\nmax_transactions_per_account = 4096\n', "utf-8")
        children.append(Child(name, [sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(config)],
                              folder / f"{name}.log"))
    try:
        for child in children:
            child.start()
        with trio.fail_after(START_TIMEOUT_S):
            for address in addresses.values():
                await _linked(address, children, len(names))
        yield Cluster(genesis, children, list(addresses.values()))
        for child in children:
            child.check()
    finally:
        for trouble in await stop_all(children):
            print(trouble, file=sys.stderr)


async def _linked(address: str, children: list[Child], authorities: int) -> None:
    while True:
        for child in children:
            child.check()
        try:
            async with connect([address]) as client:
                while True:
                    peers = await client.call("peers")
                    if sum(peer["linked"] for peer in peers) >= authorities - 1:
                        return
                    await trio.sleep(0.1)
        except ClientError:
            await trio.sleep(0.1)
