"""`gridtokenx start`: puts a node together from its configuration and runs it until told to stop."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import structlog
import trio

from gridtokenx import __version__
from gridtokenx.consensus.config import KeySigner, KeyVerifier
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.genesis import Genesis, load_genesis
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.network.network import Network
from gridtokenx.network.settings import Hello, NetworkConfig, Rate, Topic
from gridtokenx.node.chain import BlockRules, Chain
from gridtokenx.node.config import NodeConfig, load_network_key, load_node_key
from gridtokenx.node.epochs import members_of
from gridtokenx.node.evidence import evidence_in
from gridtokenx.node.feed import Feed
from gridtokenx.node.pool import Pool
from gridtokenx.node.recover import replay
from gridtokenx.node.replica import Replica
from gridtokenx.node.rpc import RpcServer
from gridtokenx.node.service import Checkpoints, Service
from gridtokenx.store.database import Database
from gridtokenx.store.disk import RealDisk
from gridtokenx.store.errors import LogError, LogLost, NotInitialised
from gridtokenx.store.log import Log, set_aside

EXIT_CONFIG = 2
GC_ALLOCATIONS = 50_000
"""Between collections of cycles: a block makes thousands of objects that live as long as it is not checkpointed. With
Python's default of 700 a loaded node spent a fifth of its time looking through them."""
SWITCH_S = 0.0005
"""A thread that computes (a checkpoint, a big block) gives way to the event loop so often. With Python's default of
5 ms every call that lets go of the interpreter, as each signature check does, waits that long to get it back."""
EXIT_INVARIANT = 3
LOG_DIRECTORY = "log"
LOST_MARK = "log-was-lost"


def configure_logging(config: NodeConfig) -> None:
    """structlog to standard error or a file, JSON or pretty."""
    level = getattr(logging, config.log.level.upper())
    stream = sys.stderr if config.log.file is None else config.log.file.open("a", encoding="utf-8")
    renderer: structlog.types.Processor
    if config.log.format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            lambda _, __, event: {"node": config.node.name, **event},
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if config.log.format == "json" else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )


def _unchanged(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return event


def open_database(config: NodeConfig, genesis: Genesis) -> Database:
    """The node's database, made from genesis the first time. Raises StoreError naming what does not fit."""
    map_bytes = config.store.map_size_mib << 20
    try:
        return Database.open(config.node.data_dir, genesis.chain_id, map_bytes=map_bytes)
    except NotInitialised:
        header = genesis.header()
        return Database.create(config.node.data_dir, genesis.chain_id, genesis.canonical(),
                               state=genesis.initial_state(), pages=genesis.view().pages,
                               header=header.encode(), header_hash=header.hash, map_bytes=map_bytes)


def open_log(data_dir: Path, genesis: Genesis, database: Database) -> tuple[Log, bool, int]:
    """The durable log, whether one was lost (CONSENSUS 6), and the last epoch in which nothing may be signed, or -1.

    A lost log is set aside, and a mark left that outlives restarts: empty until the node has learnt from the others
    in which epoch that was, then the epoch's number. Raises LogError for what does not fit.
    """
    path, mark = data_dir / LOG_DIRECTORY, data_dir / LOST_MARK
    fresh = False
    try:
        log = Log.open(path, genesis.chain_id)
    except LogLost as error:
        leave_mark(data_dir)
        kept = set_aside(path)
        structlog.get_logger("node").error("log_damaged", error=str(error), kept=str(kept))
        log, fresh = Log.open(path, genesis.chain_id), True
    if log.fresh and database.executed_height > 0:
        leave_mark(data_dir)
        fresh = True
    barred = mark.read_text("ascii").strip() if mark.exists() else None
    if fresh or barred == "":
        return log, True, -1
    try:
        return log, False, -1 if barred is None else int(barred)
    except ValueError as error:
        log.close()
        raise LogError(f"{mark} must hold the number of an epoch, or nothing: {error}") from error


def leave_mark(data_dir: Path, epoch: int | None = None) -> None:
    """Durable before the fresh log has anything in it, or before the node goes on."""
    disk = RealDisk()
    new = data_dir / (LOST_MARK + ".new")
    new.unlink(missing_ok=True)
    file = disk.create(new)
    file.pwrite(0, b"" if epoch is None else f"{epoch}\n".encode())
    file.sync()
    file.close()
    disk.rename(new, data_dir / LOST_MARK)
    disk.sync_directory(data_dir)


def network_settings(config: NodeConfig, *, authority: bool) -> NetworkConfig:
    """Authorities get final blocks from one another, so they need no gossip of them; they publish it for others."""
    section = config.network
    return NetworkConfig(
        listen=section.listen, announce=section.announce, bootstrap=section.bootstrap, mdns=section.mdns,
        peer_exchange=section.peer_exchange, max_peers=section.max_peers,
        max_connections_per_address=section.max_connections_per_address, psk=load_network_key(config),
        topics=frozenset(Topic) - {Topic.BLOCK} if authority else frozenset(Topic),
        rpc_max_sessions=config.rpc.max_sessions, rpc_max_sessions_per_peer=config.rpc.max_sessions_per_peer,
        rpc_queue_frames=config.rpc.max_queued_pushes, max_request=config.rpc.max_request_bytes,
        rpc_requests=Rate(per_s=config.rpc.max_requests_per_s, burst=2 * config.rpc.max_requests_per_s),
    )


async def serve(config: NodeConfig, stop: trio.Event) -> None:
    """Runs a node until `stop` is set. Raises GridTokenXError for what keeps it from starting or going on."""
    log = structlog.get_logger("node")
    genesis = load_genesis(config.node.genesis)
    key = load_node_key(config)
    database = open_database(config, genesis)
    try:
        with closing(database.snapshot()) as snapshot:
            listed = key.public in {public for _, public in members_of(snapshot)}
        if listed:
            log_file, lost, barred = open_log(config.node.data_dir, genesis, database)
        else:
            log_file, lost, barred = Log.open(config.node.data_dir / LOG_DIRECTORY, genesis.chain_id), False, -1
        if lost:
            log.warning("log_lost", consequence="this authority follows the chain and signs nothing until the next "
                                                "epoch begins")
        try:
            await _serve(config, stop, genesis, key, database, log_file, log, lost, barred)
        finally:
            log_file.close()
    finally:
        database.close()


async def _serve(config: NodeConfig, stop: trio.Event, genesis: Genesis, key: PrivateKey, database: Database,
                 log_file: Log, log: structlog.stdlib.BoundLogger, lost: bool, barred: int) -> None:
    genesis_hash = genesis.header().hash
    snapshot = database.snapshot()
    parameters = read_parameters(snapshot)
    snapshot.close()
    rules = BlockRules(
        me=key.public, max_block_bytes=parameters.max_block_bytes,
        max_block_weight=parameters.max_block_weight, max_block_transactions=4096, weight_guess=100)
    chain = Chain(genesis, database, genesis.books(), rules)
    start, recovered, replayed = await trio.to_thread.run_sync(replay, chain, log_file.recovered, database)
    evidence = evidence_in(log_file.recovered)
    log_file.forget_recovered()
    log.info("recovered", checkpoint=chain.base.header.height, final=start.root.height, epoch=start.config.epoch,
             votes=len(recovered.votes), blocks=len(recovered.blocks))
    consensus = Consensus(
        key.public, KeySigner(key, genesis.chain_id),
        lambda epoch: KeyVerifier(epoch.authorities, genesis.chain_id), start, recovered,
        int(trio.current_time() * 1000), time.time_ns() // 1_000_000, lost=lost, barred=barred)
    pool = Pool(max_transactions=config.pool.max_transactions, max_bytes=config.pool.max_bytes,
                max_per_account=config.pool.max_transactions_per_account)
    replica = Replica(chain, pool, consensus, key, evidence)
    hello = Hello(chain_id=genesis.chain_id, genesis_hash=genesis_hash, name=config.node.name,
                  head_height=lambda: chain.head.header.height)
    network = Network(network_settings(config, authority=consensus.core is not None), key, hello)
    network.set_authorities(consensus.keys)
    names = {authority.public: authority.name for authority in genesis.authorities}
    names.update((public, name) for name, public in members_of(chain.state))
    feed = Feed(names)
    for block in replayed:
        feed.final(block)
    service = Service(replica, network, log_file, database, feed,
                      Checkpoints(config.store.checkpoint_blocks, config.store.checkpoint_interval_ms,
                                  config.store.history_blocks),
                      lambda epoch: leave_mark(config.node.data_dir, epoch))
    rpc = RpcServer(service, genesis, database, config, __version__)
    network.serve_rpc(rpc.handle)
    async with service.running():
        log.info("started", name=config.node.name, authority=names.get(key.public, ""), height=start.root.height,
                 addresses=network.addresses)
        await stop.wait()
        log.info("stopping")
    chain.close()


async def _until_signalled(config: NodeConfig) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            async def listen() -> None:
                async for _ in signals:
                    stop.set()
                    return
            nursery.start_soon(listen)
            await serve(config, stop)
            nursery.cancel_scope.cancel()


def run(config: NodeConfig) -> int:
    """Runs until SIGTERM or Ctrl-C. Exit codes: 0 stopped on request, 2 cannot start, 3 a broken invariant."""
    configure_logging(config)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()                                 # what is imported stays: no need to look through it again
    gc.set_threshold(GC_ALLOCATIONS, 10, 20)
    log = structlog.get_logger("node")
    code = 0
    try:
        trio.run(_until_signalled, config)
    except* InvariantError as group:
        code = EXIT_INVARIANT
        for error in _leaves(group):
            log.critical("invariant_broken", error=str(error))
    except* GridTokenXError as group:
        code = code or EXIT_CONFIG
        for error in _leaves(group):
            log.error("cannot_run", error=str(error), kind=type(error).__name__)
    return code


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
