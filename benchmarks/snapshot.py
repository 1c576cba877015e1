"""A new node from a snapshot beside one that replays the same chain: time and bytes, real processes over TCP.

    python -m benchmarks.snapshot [--accounts 100000] [--blocks 2000]

One authority's chain is made in this process: first the accounts, by transactions of 16 transfers, then blocks of 20
transfers up to the number asked for. A node serves it; two new observers follow, one after the other, one with a
snapshot and one without. Then a byte of every chunk is flipped, and each must be refused at that chunk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import click
import trio
from attrs import frozen

from benchmarks.cluster import benchmark_genesis, cpu_s_of
from gridtokenx.client import connect
from gridtokenx.client.errors import ClientError
from gridtokenx.consensus.config import KeySigner
from gridtokenx.consensus.interface import Build
from gridtokenx.consensus.messages import Certificate, Kind, vote_content
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.ledger.genesis import Genesis, dump_genesis
from gridtokenx.ledger.operations import Transfer
from gridtokenx.ledger.transaction import Transaction, decode_transaction, encode_payload, sign_transaction
from gridtokenx.network.identity import with_peer_id
from gridtokenx.node.chain import BlockRules, Chain
from gridtokenx.snapshots.format import BadChunk, check_chunk
from gridtokenx.snapshots.make import SnapshotFile
from gridtokenx.store.database import Database
from testnet.keys import testnet_key
from testnet.processes import Child, stop_all

PORT_BASE = 9661
SENDERS = 64
OPERATIONS = 16
TRAFFIC = 20
MONEY_UTHB = 10**15
FEE_UTHB = 20_000
BLOCK_MS = 1_000
WAIT_S = 1_800.0


@frozen
class Follower:
    """What a new node took to be level: seconds since its process started, CPU seconds of that process, bytes from its
    peers, bytes on disk."""

    seconds: float
    cpu_s: float
    received: int
    disk: int


class Traffic:
    """Signed transfers, the senders in turn."""

    def __init__(self, genesis: Genesis, senders: Sequence[PrivateKey]) -> None:
        self._genesis, self._senders = genesis, senders
        self._nonces = [0] * len(senders)
        self._turn = 0

    def make(self, receivers: Sequence[bytes]) -> Transaction:
        place = self._turn % len(self._senders)
        self._turn += 1
        sender = self._senders[place]
        payload = encode_payload(sender.public, self._nonces[place], 1 << 40, FEE_UTHB,
                                 [Transfer(receiver, 1_000_000).fields() for receiver in receivers])
        self._nonces[place] += 1
        return decode_transaction(sign_transaction(self._genesis.chain_id, [sender], payload))


def address_of(number: int) -> bytes:
    """An address without a key: nobody needs to spend from it here."""
    return digest(Domain.GENESIS, number.to_bytes(8, "big"))


def make_chain(folder: Path, genesis: Genesis, senders: Sequence[PrivateKey], accounts: int, blocks: int) -> int:
    """Writes the data directory of the authority; returns the chain's height."""
    header = genesis.header()
    database = Database.create(folder, genesis.chain_id, genesis.canonical(), state=genesis.initial_state(),
                               pages=genesis.view().pages, header=header.encode(), header_hash=header.hash)
    key = testnet_key("egat")
    parameters = genesis.parameters
    chain = Chain(genesis, database, genesis.books(), BlockRules(
        key.public, parameters.max_block_bytes, parameters.max_block_weight, 4096, 100))
    signer, traffic = KeySigner(key, genesis.chain_id), Traffic(genesis, senders)

    def add(candidates: Sequence[Transaction]) -> set[bytes]:
        head = chain.head
        height = head.header.height + 1
        block = chain.build(Build(0, height, head.digest, height, head.header.timestamp_ms + BLOCK_MS, False),
                            candidates)
        assert block is not None, "the block was not built"
        signature = signer.sign(vote_content(Kind.FINALIZE, 0, height, block.digest))
        chain.finalize(block.digest, Certificate(Kind.FINALIZE, 0, height, block.digest, (0,), (signature,)))
        if height % 16 == 0:
            checkpoint()
        return set(block.ids)

    def checkpoint() -> None:
        done = chain.checkpoint_blocks()
        database.checkpoint(done)
        chain.checkpoint_done(len(done))

    waiting: list[Transaction] = []
    made = 0
    while made < accounts or waiting:
        while len(waiting) < 256 and made < accounts:
            count = min(OPERATIONS, accounts - made)
            waiting.append(traffic.make([address_of(made + at) for at in range(count)]))
            made += count
        included = add(waiting)
        waiting = [transaction for transaction in waiting if transaction.id not in included]
    random = Random(1)
    while chain.head.header.height < blocks:
        add([traffic.make([address_of(random.randrange(accounts))]) for _ in range(TRAFFIC)])
    checkpoint()
    height = chain.head.header.height
    chain.close()
    database.close()
    return height


def node(folder: Path, name: str, key: PrivateKey, port: int, bootstrap: str, **store: int) -> Child:
    save_key(folder / f"{name}.key", key, None)
    config = folder / f"{name}.toml"
    numbers = "".join(f"{option} = {value}\n" for option, value in store.items())
    known = f'bootstrap = ["{bootstrap}"]\n' if bootstrap else ""
    config.write_text(
        f'[node]\nname = "{name}"\ndata_dir = "{name}"\nkey_file = "{name}.key"\ngenesis = "genesis.toml"\n'
        f'[network]\nlisten = ["/ip4/127.0.0.1/tcp/{port}"]\n{known}[log]\nlevel = "info"\nformat = "json"\n'
        f'[store]\n{numbers}', "utf-8")
    return Child(name, [sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(config)],
                 folder / f"{name}.log")


async def level(child: Child, address: str, height: int) -> tuple[int, int]:
    """Waits until the node is at `height`; returns the bytes that it has received from its peer by then, over the
    connections that have ended and over the present one."""
    former = present = 0
    with trio.fail_after(WAIT_S):
        while True:
            child.check()
            try:
                async with connect([address]) as session:
                    while True:
                        now = sum(peer["received_bytes"] for peer in await session.call("peers"))
                        former += present if now < present else 0
                        present = now
                        if (await session.call("status"))["height"] >= height:
                            return former, present
                        await trio.sleep(0.05)
            except ClientError:
                await trio.sleep(0.05)


async def follow(folder: Path, name: str, number: int, bootstrap: str, height: int, **store: int) -> Follower:
    key = PrivateKey(bytes([number]) * 32)
    child = node(folder, name, key, PORT_BASE + number, bootstrap, snapshot_blocks=0, **store)
    began = time.perf_counter()
    child.start()
    try:
        address = with_peer_id(f"/ip4/127.0.0.1/tcp/{PORT_BASE + number}", key.public)
        former, present = await level(child, address, height)
        seconds = time.perf_counter() - began
        assert child.pid is not None
        cpu_s = cpu_s_of(child.pid)
    finally:
        await stop_all([child])
    log = (folder / f"{name}.log").read_text("utf-8", "replace")
    restored = [json.loads(line)["bytes"] for line in log.splitlines() if '"snapshot_restored"' in line]
    received = (sum(restored) or former) + present      # of its first connection a snapshot's node tells itself
    return Follower(seconds, cpu_s, received, (folder / name / "state.lmdb" / "data.mdb").stat().st_blocks * 512)


def flip_all(path: Path) -> Iterator[bool]:
    """Per chunk whether a flipped byte was refused at that chunk."""
    random = Random(2)
    with SnapshotFile(path) as file:
        for index, raw in enumerate(file.chunks()):
            spoiled = bytearray(raw)
            spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)
            try:
                check_chunk(file.manifest, index, bytes(spoiled))
            except BadChunk as error:
                yield error.index == index
            else:
                yield False


async def run(folder: Path, accounts: int, blocks: int) -> None:
    senders = [PrivateKey((1000 + number).to_bytes(32, "big")) for number in range(SENDERS)]
    genesis = benchmark_genesis(1, senders, MONEY_UTHB, 1)
    (folder / "genesis.toml").write_text(dump_genesis(genesis), "utf-8")
    began = time.perf_counter()
    height = await trio.to_thread.run_sync(make_chain, folder / "egat", genesis, senders, accounts, blocks)
    print(f"chain: {height:,} blocks, {accounts:,} accounts, made in {time.perf_counter() - began:.0f} s")
    out = folder / "egat" / "snapshots" / f"{height}.snapshot"
    began = time.perf_counter()
    await trio.run_process([sys.executable, "-m", "gridtokenx.cli", "snapshot", "create", str(folder / "egat"), "--out",
                            str(out)], capture_stdout=True, stderr=subprocess.STDOUT)
    took = time.perf_counter() - began
    with SnapshotFile(out) as file:
        print(f"snapshot: {sum(file.manifest.keys):,} records in {file.manifest.chunks} chunks, {file.size:,} bytes, "
              f"made in {took:.1f} s by its own process")
    server = node(folder, "egat", testnet_key("egat"), PORT_BASE, "", snapshot_blocks=0)
    server.start()
    address = with_peer_id(f"/ip4/127.0.0.1/tcp/{PORT_BASE}", testnet_key("egat").public)
    try:
        await level(server, address, height)
        quick = await follow(folder, "snapshot", 1, address, height, snapshot_when_behind=1)
        slow = await follow(folder, "replay", 2, address, height, snapshot_when_behind=0)
    finally:
        await stop_all([server])
    with (Database.open_read_only(folder / "snapshot") as first, Database.open_read_only(folder / "replay") as second):
        same = first.header(height) == second.header(height)
        began_with = first.first_height
    print(f"\n{'new node':<16}{'seconds':>10}{'CPU seconds':>13}{'received':>16}{'on disk':>16}")
    for name, follower in (("from snapshot", quick), ("full replay", slow)):
        print(f"{name:<16}{follower.seconds:>10.1f}{follower.cpu_s:>13.1f}{follower.received:>16,}{follower.disk:>16,}")
    ratios = (slow.seconds / quick.seconds, slow.cpu_s / quick.cpu_s, slow.received / quick.received,
              slow.disk / quick.disk)
    print("{:<16}{:>10.1f}{:>13.1f}{:>16.1f}{:>16.1f}".format("ratio", *ratios))
    print(f"\nlevel at {height:,} with equal headers: {same}; the first began at height {began_with - 1:,}")
    refused = list(flip_all(out))
    print(f"a flipped byte in each of {len(refused)} chunks: {sum(refused)} refused at that chunk")


@click.command()
@click.option("--accounts", type=click.IntRange(100), default=100_000, show_default=True)
@click.option("--blocks", type=click.IntRange(10), default=2_000, show_default=True, help="At least so many.")
def main(accounts: int, blocks: int) -> None:
    """A new node from a snapshot beside a full replay of the same chain."""
    with tempfile.TemporaryDirectory(prefix="gridtokenx-snapshot-") as folder:
        Path(folder).chmod(0o700)
        trio.run(run, Path(folder), accounts, blocks)


if __name__ == "__main__":
    main()
