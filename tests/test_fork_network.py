"""A fork as a network: nodes that begin with its state, and the same outcome as in process, through real consensus."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define, evolve, field
from click.testing import CliRunner
from ledger_support import THB, genesis, key
from node_support import AUTHORITY_KEYS
from test_scenario import text

import gridtokenx
from gridtokenx.cli import cli
from gridtokenx.consensus.config import KeySigner, KeyVerifier
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keystore import save_key
from gridtokenx.forks import Chain, ForkError, Mined
from gridtokenx.forks.mined import mined_from
from gridtokenx.forks.network import GENESIS_FILE, configurations, make_network, network_genesis
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.genesis import Genesis, GenesisError, decode_genesis, load_genesis
from gridtokenx.ledger.genesis_fork import ForkGenesis
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.transaction import decode_transaction, sign_transaction
from gridtokenx.network.identity import peer_id_of
from gridtokenx.node.chain import BlockRules, ChainBlock
from gridtokenx.node.chain import Chain as NodeChain
from gridtokenx.node.config import load_config, load_node_key
from gridtokenx.node.pool import Pool
from gridtokenx.node.recover import replay
from gridtokenx.node.replica import Replica
from gridtokenx.scenario import Result, parse_scenario, run
from gridtokenx.store.database import Database
from gridtokenx.store.log import Log

NOW_MS = 1_800_000_000_000
AUTHORITY = AUTHORITY_KEYS[0]


# ---------------------------------------------------------------- the same outcome


@define(eq=False)
class Node:
    """One authority: consensus, pool, log and store of a real node, in virtual time."""

    genesis: Genesis
    path: Path
    now_ms: int = 1_000
    database: Database = field(init=False)
    log: Log = field(init=False)
    replica: Replica = field(init=False)

    def __attrs_post_init__(self) -> None:
        made, parameters = self.genesis, self.genesis.parameters
        header = made.header()
        self.database = Database.create(self.path, made.chain_id, made.canonical(), state=made.initial_state(),
                                        pages=made.view().pages, header=header.encode(), header_hash=header.hash,
                                        map_bytes=256 << 20)
        self.log = Log.open(self.path / "log", made.chain_id)
        chain = NodeChain(made, self.database, made.books(), BlockRules(
            AUTHORITY.public, parameters.max_block_bytes, parameters.max_block_weight, 4096, 100))
        start, recovered, _ = replay(chain, self.log.recovered, self.database)
        consensus = Consensus(AUTHORITY.public, KeySigner(AUTHORITY, made.chain_id),
                              lambda config: KeyVerifier(config.authorities, made.chain_id), start, recovered,
                              self.now_ms, made.genesis_ms)
        self.replica = Replica(chain, Pool(), consensus)

    def block(self, clock_ms: int, raws: list[bytes]) -> tuple[ChainBlock, dict[bytes, tuple[int, str]]]:
        """The next block, which is final when its clock stands at `clock_ms`; and what the pool refused."""
        if len(self.replica.chain.finals()) >= 40:
            blocks = self.replica.chain.checkpoint_blocks()
            self.database.checkpoint(blocks)
            self.replica.chain.checkpoint_done(len(blocks))
        self.now_ms += 60_000               # long enough for a block without any transaction
        self.replica.at(self.now_ms, clock_ms)
        refused = {digest: (code, said) for digest, code, said in self.replica.submit(raws) if code}
        while not (finals := self._turns()):
            self.now_ms = max(self.now_ms + 1, self.replica.deadline_ms or 0)
            self.replica.at(self.now_ms, clock_ms)
            self.replica.tick()
        block, = finals
        return block, refused

    def _turns(self) -> list[ChainBlock]:
        finals: list[ChainBlock] = []
        while True:
            turn = self.replica.take_turn()
            for kind, payload in turn.log:
                self.log.append(int(kind), payload)
            if turn.must_sync:
                self.log.sync()
            finals += turn.finals
            for job in turn.jobs:
                job.run()
                self.replica.job_done(job)
            if not turn.jobs:
                return finals

    def close(self) -> None:
        self.replica.chain.close()
        self.log.close()
        self.database.close()


@define(eq=False)
class Live(Chain):
    """A chain whose blocks a node makes, of transactions that are signed."""

    node: Node | None = None

    def _mine(self, parameters: Parameters, step_ms: int) -> tuple[Mined, bool]:
        assert self.node is not None
        signers = {each.public: each for each in self._keys.values()}
        waiting = self._transactions(parameters)
        raws = {sign_transaction(self.chain_id, [signers[made.sender]], made.payload): entry for made, entry in waiting}
        tickets = {decode_transaction(raw).id: entry.ticket for raw, entry in raws.items()}
        block, refused = self.node.block(self.head.header.timestamp_ms + step_ms, list(raws))
        assert not refused and block.state is not None and block.result is not None
        mined = mined_from(block.result, block.transactions, (), tickets)
        self._pool = [entry for entry in self._pool if entry.ticket not in mined.receipts]
        self._state = block.state
        self.blocks.append(mined)
        return mined, block.result.unfinished


def begun(chain: Chain) -> ForkGenesis:
    return network_genesis(chain, [("dev0", AUTHORITY.public)], genesis_ms=NOW_MS)


def same_keys(made: Chain, chain: Chain) -> Chain:
    made._keys.update(chain._keys)
    return made


def outcome(launch: Callable[[Chain], Chain]) -> Result:
    scenario = parse_scenario(text(windows=12, session=6, rounds=2, strategy="linear").replace("06:00", "10:00"))
    return run(scenario, launch=launch)


def test_a_run_in_process_and_through_a_network_of_one_authority_are_the_same(tmp_path: Path) -> None:
    """Show 3: consensus, signatures, pool, log and store of a real node give the trades, bills and balances of the
    process that has none of them."""
    nodes: list[Node] = []

    def process(chain: Chain) -> Chain:
        return same_keys(gridtokenx.new_chain(begun(chain), salt=chain.salt), chain)

    def network(chain: Chain) -> Chain:
        content = begun(chain)
        nodes.append(Node(content, tmp_path / "node"))
        return same_keys(Live(content.view(), None, chain.salt, signs=True, node=nodes[0]), chain)

    try:
        with outcome(process) as one, outcome(process) as again, outcome(network) as live:
            assert one.hash == again.hash == live.hash
            assert one.trades.height > 5 and one.trades.equals(live.trades)
            assert one.bills.equals(live.bills)
            assert one.table("accounts").equals(live.table("accounts"))
            assert live.chain.height == nodes[0].replica.chain.head.header.height > 15
            assert live.tally == one.tally and not any("SIGN" in name for name in live.tally.failed)
            # Not the same blocks: those of the network name who made them, and in which view.
            assert live.chain.head.header.proposer == AUTHORITY.public
            audit_totals(live.chain.head)
    finally:
        for node in nodes:
            node.close()


# ---------------------------------------------------------------- its genesis


@pytest.fixture
def traded() -> Iterator[Chain]:
    with run(parse_scenario(text(windows=2, session=2).replace("06:00", "10:00"))) as result:
        yield result.chain


def test_the_state_goes_on_where_the_fork_stands(traded: Chain) -> None:
    content = begun(traded)
    with gridtokenx.new_chain(content, salt=traded.salt) as chain:
        assert chain.height == 0 and chain.now_ms == traded.now_ms and chain.chain_id != traded.chain_id
        before, after = (each.frames.accounts().drop("balance_uthb") for each in (traded, chain))
        assert before.equals(after)
        for table in ("trades", "settlements", "meters", "parameters", "flows"):
            assert getattr(chain.frames, table)().equals(getattr(traded.frames, table)().filter(True)), table
        audit_totals(chain.head)
        chain.advance(2)
        audit_totals(chain.head)
        with pytest.raises(ForkError, match="0 authorities; 1 to 16 are allowed"):
            network_genesis(traded, [], genesis_ms=NOW_MS)
        with pytest.raises(ForkError, match="1 to 86400 is allowed"):
            network_genesis(traded, [("a", AUTHORITY.public)], genesis_ms=NOW_MS, market_rate=0)


def test_its_genesis_reads_as_it_was_written(traded: Chain, tmp_path: Path) -> None:
    content = begun(traded)
    raw = content.canonical()
    read = decode_genesis(raw)
    assert read.canonical() == raw and read.chain_id == content.chain_id and read.header() == content.header()
    assert (read.zones, read.parameters) == (content.zones, content.parameters)
    (tmp_path / GENESIS_FILE).write_bytes(raw)
    assert load_genesis(tmp_path / GENESIS_FILE).chain_id == content.chain_id
    with pytest.raises(GenesisError, match="in the data directories"):
        read.initial_state()
    with pytest.raises(GenesisError, match="not the canonical form"):
        decode_genesis(evolve(content, name="another").canonical())     # block 0 is not of that chain
    other = network_genesis(traded, [("dev0", AUTHORITY_KEYS[1].public)], genesis_ms=NOW_MS)
    assert other.chain_id != content.chain_id


# ---------------------------------------------------------------- nodes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.processes
def test_wallets_and_the_interface_use_a_fork_that_was_started(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    me, friend = key("me"), encode_address(key("friend").public)
    save_key(tmp_path / "me.key", me, None)
    with gridtokenx.new_chain(genesis(rate=1)) as chain:
        chain.override.balance(me.public, 50 * THB)
        chain.dump(tmp_path / "fork")
    port, http = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gridtokenx.cli", "fork", "start", str(tmp_path / "fork"), "--out",
         str(tmp_path / "net"), "--port", str(port), "--http", f"127.0.0.1:{http}", "--fund", f"{friend}=7"])
    try:
        read = partial(httpx.get, timeout=5)
        base = f"http://127.0.0.1:{http}/api/v1"
        wait_for(lambda: read(f"{base}/status").json(), process)
        config, = configurations(tmp_path / "net")
        public = load_node_key(load_config(config, {})).public
        node = f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id_of(public)}"
        done = subprocess.run(
            [sys.executable, "-m", "gridtokenx.cli", "transfer", friend, "2", "--key", str(tmp_path / "me.key"),
             "--node", node], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert int(read(f"{base}/accounts/{friend}/balance").json()["balance_uthb"]) == 9 * THB
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with Database.open_read_only(config.parent / "data") as database:
        assert database.chain_id == load_genesis(config.parent / GENESIS_FILE).chain_id


def wait_for(ask: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    for _ in range(600):
        assert process.poll() is None, "the node has stopped"
        with suppress(httpx.HTTPError):
            return ask()
        time.sleep(0.1)
    pytest.fail("the node does not answer")


def test_several_authorities_get_folders_of_their_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with gridtokenx.new_chain(genesis(rate=1)) as chain:
        chain.dump(tmp_path / "fork")
    again = ["fork", "start", str(tmp_path / "fork"), "--out", str(tmp_path / "net"), "--authorities", "3", "--no-run"]
    done = CliRunner().invoke(cli, again)
    assert done.exit_code == 0, done.output
    configs = [load_config(path, {}) for path in configurations(tmp_path / "net")]
    genesis_of = [load_genesis(config.node.genesis) for config in configs]
    assert len(configs) == 3 and len({each.chain_id for each in genesis_of}) == 1
    assert [each.public for each in genesis_of[0].authorities] == [load_node_key(config).public for config in configs]
    assert all(len(config.network.bootstrap) == 2 for config in configs)
    assert CliRunner().invoke(cli, again).exit_code == 0        # made already: nothing is made anew
    assert genesis_of[0].canonical() == (tmp_path / "net" / "dev0" / GENESIS_FILE).read_bytes()
    with gridtokenx.load(tmp_path / "fork") as chain, pytest.raises(ForkError, match="holds a network already"):
        make_network(chain, tmp_path / "net", genesis_ms=NOW_MS)
    bad = CliRunner().invoke(cli, [*again[:4], str(tmp_path / "other"), "--fund", "me"])
    assert bad.exit_code == 2 and "ADDRESS=THB" in bad.output
