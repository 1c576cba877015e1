"""What each stage of a node costs per transaction, on one core, in blocks of 200 with the real ledger and store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from benchmarks.cluster import benchmark_genesis
from benchmarks.workload import FEE_UTHB, FOREVER, MONEY_UTHB, TRADERS, licences, meters, signed_load, traders
from gridtokenx import codec
from gridtokenx.client import Account
from gridtokenx.consensus.interface import Build
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.operations import Operation
from gridtokenx.ledger.transaction import Transaction, decode_transaction, signatures_verify
from gridtokenx.node.chain import BlockRules, Chain, ChainBlock
from gridtokenx.node.pool import Pool
from gridtokenx.node.records import LogKind, encode_block
from gridtokenx.store.database import Database
from gridtokenx.store.log import Log
from testnet.keys import testnet_key

BLOCK = 200
BLOCKS = 10
COUNT = BLOCK * BLOCKS


@define
class Costs:
    """CPU microseconds per transaction, by stage."""

    by_stage: dict[str, float] = field(factory=dict)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.by_stage[stage] = self.by_stage.get(stage, 0.0) + (time.process_time() - began) * 1e6 / COUNT


@define
class Peer:
    """A node without network: a store and its chain."""

    store: Database
    chain: Chain

    @classmethod
    def create(cls, folder: Path, genesis: Genesis) -> Peer:
        header = genesis.header()
        store = Database.create(folder, genesis.chain_id, genesis.canonical(), state=genesis.initial_state(),
                                pages=genesis.view().pages, header=header.encode(), header_hash=header.hash)
        parameters = genesis.parameters
        rules = BlockRules(genesis.authorities[0].public, parameters.max_block_bytes, parameters.max_block_weight,
                           4096, 100)
        return cls(store, Chain(genesis, store, genesis.books(), rules))

    def build(self, candidates: list[Transaction]) -> ChainBlock:
        base = self.chain.head.header
        return self.chain.build(Build(0, base.view + 1, self.chain.head.digest, base.height + 1,
                                      base.timestamp_ms + 100, False), candidates)

    def close(self) -> None:
        self.chain.close()
        self.store.close()


def stage_costs() -> dict[str, float]:
    """Microseconds of CPU per transaction of each stage, for the load of the throughput benchmark."""
    genesis = benchmark_genesis(4, traders(), MONEY_UTHB, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        leader, voter = Peer.create(folder / "leader", genesis), Peer.create(folder / "voter", genesis)
        log = Log.open(folder / "log", genesis.chain_id)
        try:
            _register(genesis, leader, voter)
            ids = list(range(1, TRADERS + 1))
            return _measure(signed_load(genesis, ids, genesis.market_start_ms // 900_000, COUNT), leader, voter, log)
        finally:
            log.close()
            leader.close()
            voter.close()


def _register(genesis: Genesis, leader: Peer, voter: Peer) -> None:
    registrar = Account(testnet_key("registrar"), genesis.chain_id, 0)
    zones = len(genesis.zones)
    operations: list[Operation] = [*licences(zones, genesis.market_start_ms + 365 * 86_400_000),
                                   *meters(list(range(1, TRADERS + 1)), zones)]
    for start in range(0, len(operations), 50):
        signed = registrar.sign(operations[start:start + 50], valid_until_height=FOREVER, fee_uthb=50 * FEE_UTHB)
        _both(leader.build([decode_transaction(signed.raw)]), leader, voter)


def _both(block: ChainBlock, leader: Peer, voter: Peer, costs: Costs | None = None) -> None:
    copy = voter.chain.add(block.digest, block.header, block.transactions)
    with (costs or Costs()).of("execute (others)"):
        voter.chain.execute(copy)
    if copy.failure:
        raise SystemExit(f"the block did not execute: {copy.failure}")
    for peer in (leader, voter):
        peer.chain.finalize(block.digest, None)


def _measure(raws: list[bytes], leader: Peer, voter: Peer, log: Log) -> dict[str, float]:
    costs = Costs()
    with costs.of("decode"):
        transactions = [decode_transaction(raw) for raw in raws]
    with costs.of("verify signature"):
        good = all(signatures_verify(leader.chain.chain_id, transactions))
    if not good:
        raise SystemExit("a signature of the load does not verify")
    pool = Pool()
    for start in range(0, COUNT, BLOCK):
        part = transactions[start:start + BLOCK]
        with costs.of("admit (the node that accepts it)"):
            admission = leader.chain.admission()
            for transaction in part:
                admission.admit(transaction)
        with costs.of("pool"):
            for transaction in part:
                pool.add(transaction, leader.chain.nonce_at_head(transaction.sender))
            ready = pool.ready(leader.chain.nonces_at(leader.chain.head), BLOCK, 1 << 20)
        with costs.of("build (the leader)"):
            block = leader.build(ready)
        if len(block.transactions) != BLOCK:
            raise SystemExit(f"{len(block.transactions)} transactions in a block of {BLOCK}")
        _both(block, leader, voter, costs)
        pool.remove(block.ids)
        with costs.of("log and sync"):
            log.append(int(LogKind.BLOCK), encode_block(block.header.encode(), [t.raw for t in block.transactions]))
            log.sync()
        with costs.of("frames (encode, decode, hash)"):
            for raw in codec.decode(codec.encode([1, [t.raw for t in part]]))[1]:
                digest(Domain.TRANSACTION, raw)
    with costs.of("checkpoint"):
        voter.store.checkpoint(voter.chain.stored_finals())
    return costs.by_stage


def main() -> None:
    for stage, cost in stage_costs().items():
        print(f"{stage:34} {cost:7.1f} us")


if __name__ == "__main__":
    main()
