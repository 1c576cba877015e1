"""`gridtokenx start`: puts a node together from its configuration and runs it until told to stop."""

from __future__ import annotations

import signal
import sys
from contextlib import closing

import structlog
import trio

from gridtokenx import __version__
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError, InvariantError, leaves
from gridtokenx.ledger.genesis import Genesis, load_genesis
from gridtokenx.network.network import Network
from gridtokenx.network.settings import Hello, NetworkConfig, Rate, Topic
from gridtokenx.node import logs
from gridtokenx.node.assembly import Parts, assemble
from gridtokenx.node.chain import Chain
from gridtokenx.node.collector import collecting_less
from gridtokenx.node.config import NodeConfig, load_network_key, load_node_key
from gridtokenx.node.depths import Depths
from gridtokenx.node.epochs import members_of
from gridtokenx.node.facts import NodeFacts
from gridtokenx.node.lost_log import OpenedLog, first_start_permitted, leave_mark, open_log
from gridtokenx.node.machine import RealMachine
from gridtokenx.node.pool import Pool
from gridtokenx.node.reads import Reads
from gridtokenx.node.rpc import RpcServer
from gridtokenx.node.service import Checkpoints
from gridtokenx.node.snapshots import Snapshots
from gridtokenx.node.view import NodeView
from gridtokenx.store.database import Database
from gridtokenx.store.errors import NotInitialised

EXIT_CONFIG = 2
SWITCH_S = 0.0005
"""A thread that computes (a checkpoint, a big block) gives way to the event loop so often. With Python's default of
5 ms every call that lets go of the interpreter, as each signature check does, waits that long to get it back."""
EXIT_INVARIANT = 3
PEERS_FILE = "peers"


def open_database(config: NodeConfig, genesis: Genesis) -> tuple[Database, bool]:
    """The node's database, made from genesis the first time, and whether it was made just now. Raises StoreError."""
    map_bytes = config.store.map_size_mib << 20
    try:
        return Database.open(config.node.data_dir, genesis.chain_id, map_bytes=map_bytes), False
    except NotInitialised:
        header = genesis.header()
        return Database.create(config.node.data_dir, genesis.chain_id, genesis.canonical(),
                               state=genesis.initial_state(), pages=genesis.view().pages,
                               header=header.encode(), header_hash=header.hash, map_bytes=map_bytes), True


def network_settings(config: NodeConfig, *, authority: bool) -> NetworkConfig:
    """Authorities get final blocks from one another, so they need no gossip of them; they publish it for others."""
    section = config.network
    return NetworkConfig(
        listen=section.listen, announce=section.announce, bootstrap=section.bootstrap, mdns=section.mdns,
        peer_exchange=section.peer_exchange, memory_file=config.node.data_dir / PEERS_FILE,
        max_peers=section.max_peers,
        max_connections_per_address=section.max_connections_per_address, psk=load_network_key(config),
        topics=frozenset(Topic) - {Topic.BLOCK} if authority else frozenset(Topic),
        rpc_max_sessions=config.rpc.max_sessions, rpc_max_sessions_per_peer=config.rpc.max_sessions_per_peer,
        rpc_queue_frames=config.rpc.max_queued_pushes, max_request=config.rpc.max_request_bytes,
        rpc_requests=Rate(per_s=config.rpc.max_requests_per_s, burst=2 * config.rpc.max_requests_per_s),
    )


async def serve(config: NodeConfig, stop: trio.Event, *, snapshot: bool = False) -> None:
    """Runs a node until `stop` is set; with `snapshot`, one that begins with a snapshot of its peers', as a new one
    does that is far behind. Raises GridTokenXError for what keeps it from starting or going on."""
    while await _serve_once(config, stop, snapshot):
        snapshot = False            # on with the database that was built of it


async def _serve_once(config: NodeConfig, stop: trio.Event, snapshot: bool) -> bool:
    """True if the node is to start again, on a database that is ready to be put in its place."""
    log = structlog.get_logger("node")
    genesis = load_genesis(config.node.genesis)
    key = load_node_key(config)
    database, new = open_database(config, genesis)
    try:
        with closing(database.snapshot()) as present:
            listed = key.public in {public for _, public in members_of(present)}
        permitted = first_start_permitted(config.node.data_dir)
        opened = open_log(config.node.data_dir, genesis, database, listed=listed, permitted=permitted, new=new)
        if opened.lost and listed:
            log.warning("log_lost", consequence="what this authority signed is not known, so it follows the chain and "
                                                "signs nothing until the next epoch begins",
                        remedy="only if its key has never signed on this chain: stop the node, then `gridtokenx keys "
                               "never-signed`")
        try:
            return await _serve(config, stop, genesis, key, database, opened, snapshot)
        finally:
            opened.log.close()
    finally:
        database.close()


async def _serve(config: NodeConfig, stop: trio.Event, genesis: Genesis, key: PrivateKey, database: Database,
                 opened: OpenedLog, snapshot: bool) -> bool:
    log = structlog.get_logger("node")

    def network(chain: Chain, consensus: Consensus) -> Network:
        hello = Hello(chain_id=genesis.chain_id, genesis_hash=genesis.header().hash, name=config.node.name,
                      head_height=lambda: chain.head.header.height)
        return Network(network_settings(config, authority=consensus.core is not None), key, hello)

    pool = Pool(max_transactions=config.pool.max_transactions, max_bytes=config.pool.max_bytes,
                max_per_account=config.pool.max_transactions_per_account)
    service = await assemble(Parts(
        genesis=genesis, key=key, database=database, opened=opened, pool=pool, machine=RealMachine(), network=network,
        checkpoints=Checkpoints(config.store.checkpoint_blocks, config.store.checkpoint_interval_ms,
                                config.store.history_blocks),
        on_barred=lambda epoch: leave_mark(config.node.data_dir, epoch)))
    chain, consensus = service.replica.chain, service.replica.consensus
    log.info("recovered", checkpoint=chain.base.header.height, final=chain.head.header.height, epoch=consensus.epoch)
    reads = Reads(NodeView(service.replica, service.feed, database, service.chain_lock), service.feed.authority_names)
    depths = Depths(reads, genesis)
    facts = NodeFacts(service, genesis, reads, depths, config.node.name, __version__)
    rpc = RpcServer(service, genesis, reads, depths, facts, config.rpc)
    service.network.serve_rpc(rpc.handle)
    snapshots = Snapshots(config, genesis, database, service, snapshot)
    again = False

    async def begin(stopped: trio.CancelScope) -> None:
        nonlocal again
        if await snapshots.begin():
            again = True
            stopped.cancel()

    async with service.running(), trio.open_nursery() as nursery:
        nursery.start_soon(snapshots.serve)
        nursery.start_soon(begin, nursery.cancel_scope)
        if config.http.listen:
            from gridtokenx.api.node import serve_http  # nodes without the interface do without FastAPI

            nursery.start_soon(serve_http, facts, config.http)
        log.info("started", name=config.node.name, authority=service.feed.authority_names.get(key.public, ""),
                 height=chain.head.header.height, addresses=service.network.addresses)
        await stop.wait()
        log.info("stopping")
        nursery.cancel_scope.cancel()
    chain.close()
    return again


async def _until_signalled(config: NodeConfig, snapshot: bool) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            async def listen() -> None:
                async for _ in signals:
                    stop.set()
                    return
            nursery.start_soon(listen)
            await serve(config, stop, snapshot=snapshot)
            nursery.cancel_scope.cancel()


def run(config: NodeConfig, *, snapshot: bool = False) -> int:
    """Runs until SIGTERM or Ctrl-C. Exit codes: 0 stopped on request, 2 cannot start, 3 a broken invariant."""
    logs.configure(config.node.name, config.log.level, config.log.format, config.log.file)
    sys.setswitchinterval(SWITCH_S)
    log = structlog.get_logger("node")
    code = 0
    try:
        with collecting_less():
            trio.run(_until_signalled, config, snapshot)
    except* InvariantError as group:
        code = EXIT_INVARIANT
        for error in leaves(group):
            log.critical("invariant_broken", error=str(error))
    except* GridTokenXError as group:
        code = code or EXIT_CONFIG
        for error in leaves(group):
            log.error("cannot_run", error=str(error), kind=type(error).__name__)
    except* OSError as group:
        code = code or EXIT_CONFIG          # the system refused something that no other place took for its own
        for error in leaves(group):
            log.error("cannot_run", error=str(error), kind=type(error).__name__, exc_info=error)
    return code
