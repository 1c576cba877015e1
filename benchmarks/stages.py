"""What each stage of a node costs per transaction, on one core, in blocks of 200 with the real ledger and store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.cluster import benchmark_genesis
from gridtokenx import codec
from gridtokenx.client import Account
from gridtokenx.consensus.interface import Build
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.operations import Transfer
from gridtokenx.ledger.transaction import Transaction, decode_transaction
from gridtokenx.market.book import Books
from gridtokenx.node.chain import BlockRules, Chain
from gridtokenx.node.pool import Pool
from gridtokenx.node.records import LogKind, encode_block
from gridtokenx.store.database import Database
from gridtokenx.store.log import Log
from testnet.keys import testnet_key

BLOCK = 200
BLOCKS = 5
SENDERS = 100


def stage_costs() -> dict[str, float]:
    """Microseconds per transaction of each stage; transfers between accounts."""
    keys = [testnet_key(f"bench {number}") for number in range(SENDERS)]
    genesis = benchmark_genesis(4, keys, 10**12, 1)
    accounts = [Account(key, genesis.chain_id, 0) for key in keys]
    raws = [accounts[number % SENDERS].sign([Transfer(accounts[(number + 1) % SENDERS].address, 1)],
                                            valid_until_height=1 << 40, fee_uthb=10_000).raw
            for number in range(BLOCK * BLOCKS)]
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name), genesis, raws)


def _timed(costs: dict[str, float], name: str, work: Callable[[], object]) -> None:
    began = time.process_time()
    work()
    costs[name] = costs.get(name, 0.0) + (time.process_time() - began) * 1e6 / (BLOCK * BLOCKS)


def _chain(folder: Path, genesis, name: str) -> tuple[Database, Chain]:  # type: ignore[no-untyped-def]
    header = genesis.header()
    database = Database.create(folder / name, genesis.chain_id, genesis.canonical(), state=genesis.initial_state(),
                               pages=genesis.view().pages, header=header.encode(), header_hash=header.hash)
    parameters = genesis.parameters
    rules = BlockRules(genesis.authorities[0].public, parameters.max_block_bytes, parameters.max_block_weight, 4096, 100)
    return database, Chain(genesis, database, Books(genesis.book_zones()), rules)


def _measure(folder: Path, genesis, raws: list[bytes]) -> dict[str, float]:  # type: ignore[no-untyped-def]
    costs: dict[str, float] = {}
    transactions: list[Transaction] = []
    _timed(costs, "decode", lambda: transactions.extend(decode_transaction(raw) for raw in raws))
    _timed(costs, "verify signature", lambda: [t.signatures_verify(genesis.chain_id) for t in transactions])
    leader_store, leader = _chain(folder, genesis, "leader")
    voter_store, voter = _chain(folder, genesis, "voter")
    log = Log.open(folder / "log", genesis.chain_id)
    pool = Pool()
    for start in range(0, len(transactions), BLOCK):
        part = transactions[start:start + BLOCK]
        admission = leader.admission()
        _timed(costs, "admit (node that accepts it)", lambda part=part, admission=admission: [admission.admit(t) for t in part])
        _timed(costs, "pool", lambda part=part: [pool.add(t, leader.nonce_at_head(t.sender)) for t in part])
        ready = pool.ready(leader.nonces_at(leader.head), BLOCK, 1 << 20)
        base = leader.head.header
        effect = Build(0, base.view + 1, leader.head.digest, base.height + 1, base.timestamp_ms + 100, False)
        built = []
        _timed(costs, "build (leader)", lambda: built.append(leader.build(effect, ready)))
        block = built[0]
        copy = voter.add(block.digest, block.header, block.transactions)
        _timed(costs, "execute (others)", lambda: voter.execute(copy))
        if copy.failure or len(block.transactions) != BLOCK:
            raise SystemExit(f"the block did not execute: {copy.failure}, {len(block.transactions)} transactions")
        raw = encode_block(block.header.encode(), [t.raw for t in block.transactions])
        _timed(costs, "log and sync", lambda raw=raw: (log.append(int(LogKind.BLOCK), raw), log.sync()))
        _timed(costs, "frames (encode, decode, hash)", lambda part=part: [
            digest(Domain.TRANSACTION, t) for t in codec.decode(codec.encode([1, [t.raw for t in part]]))[1]])
        for chain in (leader, voter):
            chain.finalize(block.digest, None)
        pool.remove(block.ids)
    finals = voter.stored_finals()
    _timed(costs, "checkpoint", lambda: voter_store.checkpoint(finals))
    log.close()
    for chain, store in ((leader, leader_store), (voter, voter_store)):
        chain.close()
        store.close()
    return costs


if __name__ == "__main__":
    for stage, cost in stage_costs().items():
        print(f"{stage:34} {cost:7.1f} us")
