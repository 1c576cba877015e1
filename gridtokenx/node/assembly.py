"""A node out of its parts: the start-up order of CONSENSUS 6, for the process and for the simulator alike.

Store and log are open. The log is replayed on top of the checkpoint, consensus starts where that ends, and only then is
there a network.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import frozen

from gridtokenx.consensus.config import KeySigner, KeyVerifier, Signer
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.network.network import Network
from gridtokenx.node.chain import BlockRules, Chain
from gridtokenx.node.epochs import members_of
from gridtokenx.node.evidence import evidence_in
from gridtokenx.node.feed import Feed
from gridtokenx.node.lost_log import OpenedLog
from gridtokenx.node.machine import Machine
from gridtokenx.node.pool import Pool
from gridtokenx.node.recover import replay
from gridtokenx.node.replica import Replica
from gridtokenx.node.service import Checkpoints, Service
from gridtokenx.store.database import Database

MAX_BLOCK_TRANSACTIONS = 4096
WEIGHT_GUESS = 100


@frozen
class Parts:
    """What a node is made of."""

    genesis: Genesis
    key: PrivateKey
    database: Database
    opened: OpenedLog
    pool: Pool
    checkpoints: Checkpoints
    machine: Machine
    network: Callable[[Chain, Consensus], Network]
    on_barred: Callable[[int], None]
    signer: Signer | None = None          # of consensus votes; the key by default
    feed: Callable[[dict[bytes, str]], Feed] = Feed


async def assemble(parts: Parts) -> Service:
    """Replays the log and puts the node together; nothing runs yet. Raises InvariantError if what is final does not
    execute."""
    genesis, key, database, log = parts.genesis, parts.key, parts.database, parts.opened.log
    with database.snapshot() as snapshot:
        parameters = read_parameters(snapshot)
    rules = BlockRules(
        me=key.public, max_block_bytes=parameters.max_block_bytes, max_block_weight=parameters.max_block_weight,
        max_block_transactions=MAX_BLOCK_TRANSACTIONS, weight_guess=WEIGHT_GUESS)
    chain = Chain(genesis, database, genesis.books(), rules)
    start, recovered, replayed = await parts.machine.in_thread(replay, chain, log.recovered, database)
    evidence = evidence_in(log.recovered)
    log.forget_recovered()
    consensus = Consensus(
        key.public, parts.signer or KeySigner(key, genesis.chain_id),
        lambda epoch: KeyVerifier(epoch.authorities, genesis.chain_id), start, recovered,
        round(trio.current_time() * 1000), parts.machine.clock_ms(), lost=parts.opened.lost, barred=parts.opened.barred)
    replica = Replica(chain, parts.pool, consensus, key, evidence)
    network = parts.network(chain, consensus)
    network.set_authorities(consensus.keys)
    names = {authority.public: authority.name for authority in genesis.authorities}
    names.update((public, name) for name, public in members_of(chain.state))
    feed = parts.feed(names)
    for block in replayed:
        feed.final(block)
    return Service(replica, network, log, database, feed, parts.checkpoints, parts.on_barred, parts.machine)
