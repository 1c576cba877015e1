"""The rpc server of a real node over real sockets: one authority and one observer in this process."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from attrs import evolve
from ledger_support import EGAT, FAR, FEE, ISSUER, REGISTRAR, START_MS, THB, genesis, key
from node_support import AUTHORITY_KEYS, Cluster
from node_support import START_MS as CLUSTER_START_MS

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger.genesis import Authority, Genesis, dump_genesis, load_genesis
from gridtokenx.ledger.operations import Deposit, Operation, PlaceOrder, RegisterMeter, RegisterParticipant, Transfer
from gridtokenx.ledger.queries import market_clock
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.spaces import account as accounts_key
from gridtokenx.ledger.transaction import encode_payload, sign_transaction
from gridtokenx.light.format import decode_proof
from gridtokenx.light.verify import Trust, verify
from gridtokenx.market.clock import window_at
from gridtokenx.market.orders import Side
from gridtokenx.network.client import RpcClient, connect
from gridtokenx.network.identity import with_peer_id
from gridtokenx.network.settings import PeerGone, RemoteError
from gridtokenx.node.config import load_config
from gridtokenx.node.depths import Depths
from gridtokenx.node.feed import Feed
from gridtokenx.node.lost_log import permit_first_start
from gridtokenx.node.main import serve
from gridtokenx.node.reads import Reads
from gridtokenx.node.rpc import RpcServer
from gridtokenx.node.view import NodeView

HOUSES = [key(f"house {number}") for number in range(3)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_node(folder: Path, identity: PrivateKey, chain: Genesis, bootstrap: str = "", **store: int) -> str:
    """A node's files in `folder`; returns its address."""
    folder.mkdir(mode=0o700, parents=True)
    port = free_port()
    save_key(folder / "node.key", identity, None)
    permit_first_start(folder / "data")
    (folder / "genesis.toml").write_text(dump_genesis(chain))
    known = f'bootstrap = ["{bootstrap}"]\n' if bootstrap else ""
    numbers = "".join(f"{name} = {value}\n" for name, value in store.items())
    (folder / "gridtokenx.toml").write_text(
        f'[node]\nname = "{folder.name}"\ndata_dir = "data"\nkey_file = "node.key"\ngenesis = "genesis.toml"\n'
        f'[network]\nlisten = ["/ip4/127.0.0.1/tcp/{port}"]\n{known}[store]\nmap_size_mib = 64\n{numbers}')
    return with_peer_id(f"/ip4/127.0.0.1/tcp/{port}", identity.public)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[None]:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, load_config(folder / "gridtokenx.toml", {}), stop)
        yield
        stop.set()


@asynccontextmanager
async def client(address: str) -> AsyncIterator[RpcClient]:
    with trio.fail_after(60):
        while True:
            try:
                async with connect(address) as probe:
                    await probe.call("status", timeout_s=30)
                    break
            except PeerGone:            # not up yet
                await trio.sleep(0.05)
    async with connect(address) as session:
        yield session


@pytest.fixture
def chain() -> Genesis:
    return evolve(genesis(rate=1), genesis_ms=time.time_ns() // 1_000_000)


@pytest.fixture
async def node(tmp_path: Path, chain: Genesis) -> AsyncIterator[RpcClient]:
    address = write_node(tmp_path / "egat", EGAT, chain)
    async with running(tmp_path / "egat"), client(address) as session:
        yield session


class Wallet:
    """Signs with nonces of its own counting."""

    def __init__(self, session: RpcClient, chain: Genesis) -> None:
        self.session, self.chain = session, chain
        self.nonces: dict[bytes, int] = {}

    def made(self, sender: PrivateKey, *operations: Operation, nonce: int | None = None) -> bytes:
        if nonce is None:
            nonce = self.nonces.get(sender.public, 0)
            self.nonces[sender.public] = nonce + 1
        payload = encode_payload(sender.public, nonce, FAR, FEE, [operation.fields() for operation in operations])
        return sign_transaction(self.chain.chain_id, [sender], payload)

    async def do(self, sender: PrivateKey, *operations: Operation) -> dict[str, Any]:
        """Submitted and final; its fate."""
        [[name, code, message]] = await self.session.call("submit", [[self.made(sender, *operations)]], timeout_s=60)
        assert code == 0, message
        [fate] = await self.session.call("wait", [[name], 30_000], timeout_s=40)
        assert fate["state"] == "final", fate
        assert fate["code"] == 0, fate
        return dict(fate)


def enrolment() -> list[Any]:
    """[sender, operation, ...] that give every house money, a licence and a meter (1, 2, 3)."""
    return [
        [ISSUER, *[Deposit(house.public, 1_000 * THB) for house in HOUSES]],
        [REGISTRAR, *[RegisterParticipant(house.public, f"L-{number}", Role.PROSUMER, 0, 2 * START_MS, 0)
                      for number, house in enumerate(HOUSES)]],
        [REGISTRAR, *[RegisterMeter(number + 1, key(f"meter {number}").public, 0, Network.PEA, Source.SOLAR, 0,
                                    40_000, 40_000) for number in range(len(HOUSES))]],
    ]


async def test_status_and_reads_of_an_empty_chain(node: RpcClient, chain: Genesis) -> None:
    status = await node.call("status", timeout_s=30)
    assert (status["chain_id"], status["authority"], status["leader"]) == (chain.chain_id, "EGAT", "EGAT")
    assert status["height"] == 0
    assert await node.call("genesis") == chain.canonical()
    assert (await node.call("block", [0]))["height"] == 0
    assert await node.call("block", [999]) is None
    assert await node.call("blocks", [999, 10]) == []
    assert await node.call("trades", [{}, 10]) == []
    assert await node.call("account", [bytes(32)]) is None
    assert await node.call("meter", [1]) is None
    assert await node.call("order", [1]) is None
    assert await node.call("orders", [bytes(32), 5]) == []
    assert await node.call("peers") == []
    assert [row["name"] for row in await node.call("authorities")] == ["EGAT"]
    totals = await node.call("totals")
    assert totals["held_uthb"] == totals["genesis_uthb"] > 0
    assert await node.call("transaction", [bytes(32)]) == {"state": "unknown"}


async def test_submit_wait_and_blocks(node: RpcClient, chain: Genesis) -> None:
    wallet = Wallet(node, chain)
    raws = [wallet.made(ISSUER, Transfer(REGISTRAR.public, 1)) for _ in range(3)]
    bad = wallet.made(ISSUER, Transfer(REGISTRAR.public, 1), nonce=9)
    bad = bad[:-1] + bytes([bad[-1] ^ 1])
    answers = await node.call("submit", [[*raws, bad, b"junk", raws[0]]])
    assert [code for _, code, _ in answers] == [0, 0, 0, Code.BAD_SIGNATURE, Code.MALFORMED,
                                                Code.DUPLICATE_TRANSACTION]
    ids = [digest(Domain.TRANSACTION, raw) for raw in raws]
    assert [name for name, _, _ in answers[:3]] == ids
    fates = await node.call("wait", [ids, 30_000], timeout_s=40)
    assert [fate["state"] for fate in fates] == ["final"] * 3
    for name, fate in zip(ids, fates, strict=True):
        block = await node.call("block", [fate["height"]])
        assert block["transaction_ids"][fate["index"]] == name
        assert block["codes"][fate["index"]] == 0
        assert await node.call("transaction", [name]) == fate
    height = (await node.call("status"))["height"]
    blocks = await node.call("blocks", [0, 100])
    assert [block["height"] for block in blocks] == list(range(height + 1))
    assert [block["parent"] for block in blocks[1:]] == [block["hash"] for block in blocks[:-1]]
    trust = Trust.of_hash(chain.header().hash)
    sold = verify(decode_proof(await node.call("prove_transaction", [ids[1]])), trust)
    assert (sold.header.height, sold.transactions[0].raw) == (fates[1]["height"], raws[1])
    wanted = accounts_key(REGISTRAR.public)
    proven = verify(decode_proof(await node.call("prove", [[wanted, b"\x04" + bytes(32)]])), trust)
    assert proven.header.height >= fates[2]["height"]
    assert proven.value(b"\x04" + bytes(32)) is None
    record, seen = proven.value(wanted), (await node.call("account", [REGISTRAR.public]))["balance_uthb"]
    assert record is not None and Account.decode(record).balance == seen
    for method, bad_parameter, code in (("prove", [b""], "bad_request"), ("prove", [], "cannot_prove"),
                                        ("prove_transaction", bytes(32), "cannot_prove")):
        with pytest.raises(RemoteError) as refused:
            await node.call(method, [bad_parameter])
        assert refused.value.code == code
    began = trio.current_time()
    assert await node.call("wait", [[bytes(32)], 50]) == [{"state": "unknown"}]
    assert trio.current_time() - began < 5


async def test_market_as_the_client_sees_it(node: RpcClient, chain: Genesis) -> None:
    wallet = Wallet(node, chain)
    for sender, *operations in enrolment():
        await wallet.do(sender, *operations)
    window = (await node.call("status"))["window"] + 4
    for price in (4400, 4500, 4600):
        await wallet.do(HOUSES[0], PlaceOrder(1, window, Side.SELL, price, 1000))
        await wallet.do(HOUSES[1], PlaceOrder(2, window, Side.BUY, price + 500, 500))
    await wallet.do(HOUSES[2], PlaceOrder(3, window, Side.BUY, 5200, 100))
    everything = await node.call("trades", [{}, 100])
    assert len(everything) >= 3
    assert [trade["height"] for trade in everything] == sorted((t["height"] for t in everything), reverse=True)
    oldest_first = await node.call("trades", [{"window": window}, 100])
    assert oldest_first == everything[::-1]
    assert await node.call("trades", [{"window": window}, 2]) == oldest_first[-2:]
    assert await node.call("trades", [{"window": window + 1}, 10]) == []
    mine = await node.call("trades", [{"account": HOUSES[2].public}, 10])
    assert all(trade["buy_meter"] == 3 for trade in mine)
    assert len(mine) + len(await node.call("trades", [{"account": HOUSES[1].public}, 10])) == len(everything)
    assert await node.call("trades", [{"account": HOUSES[2].public, "window": window}, 10]) == mine[::-1]
    assert await node.call("trades", [{"account": HOUSES[2].public, "window": window + 1}, 10]) == []
    assert await node.call("trades", [{"zone": 1}, 10]) == []
    assert await node.call("trades", [{"zone": 0}, 100]) == everything
    assert (await node.call("book", [window, 0, 5]))["asks"]
    [traded, _] = await node.call("prices", [window])
    assert traded["trades"] == len(everything)
    assert sum(block["trades"] for block in await node.call("blocks", [0, 100])) == len(everything)


async def test_trades_are_told_once_while_a_checkpoint_is_being_taken_in(tmp_path: Path, chain: Genesis) -> None:
    """The store has the blocks already, the chain has not heard of it yet."""
    authorities = (Authority("A0", AUTHORITY_KEYS[0].public),)
    cluster = Cluster(evolve(chain, genesis_ms=CLUSTER_START_MS, authorities=authorities), tmp_path)
    [member] = cluster.members
    view = NodeView(member.replica, Feed({}), member.database, trio.Lock())
    reads = Reads(view, {})
    server = RpcServer(SimpleNamespace(replica=member.replica), cluster.genesis,  # type: ignore[arg-type]
                       reads, Depths(reads, cluster.genesis), None, None)  # type: ignore[arg-type]
    wallet = Wallet(None, cluster.genesis)  # type: ignore[arg-type]

    def do(sender: PrivateKey, *operations: Operation) -> None:
        assert cluster.submit(0, [wallet.made(sender, *operations)])[0][1:] == (0, "accepted")
        cluster.run(300)

    for sender, *operations in enrolment():
        do(sender, *operations)
    window = window_at(market_clock(member.chain.state).now_ms) + 4
    for price in (4400, 4500, 4600):
        do(HOUSES[0], PlaceOrder(1, window, Side.SELL, price, 1000))
        do(HOUSES[1], PlaceOrder(2, window, Side.BUY, price + 500, 500))
    for where in ({}, {"account": HOUSES[1].public}, {"window": window}):
        before = await server._trades(where, 100)
        assert len(before) >= 3
    blocks = member.chain.checkpoint_blocks()
    member.database.checkpoint(blocks)
    for where in ({"account": HOUSES[1].public}, {"window": window, "account": HOUSES[1].public}, {}):
        assert len(await server._trades(where, 100)) == len(before)
    between = await server._trades({}, 100)
    assert await server._trades({}, 2) == between[:2]
    with member.chain.private_state() as state:
        assert state.get(accounts_key(HOUSES[1].public)) == member.chain.state.get(accounts_key(HOUSES[1].public))
        assert state.header == member.chain.head.header
    member.chain.checkpoint_done(len(blocks))
    assert await server._trades({}, 100) == between
    with member.chain.private_state() as state:
        assert state.header == member.chain.head.header
    cluster.close()


async def test_subscriptions(node: RpcClient, chain: Genesis) -> None:
    wallet = Wallet(node, chain)
    number = await node.call("subscribe", ["blocks"])
    fate = await wallet.do(ISSUER, Transfer(REGISTRAR.public, 5))
    with trio.fail_after(60):
        async for push in node.pushes():
            assert push.subscription == number
            if push.data["height"] == fate["height"]:
                assert len(push.data["transaction_ids"]) == 1
                break
    async with connect(node.address) as stranger:
        with pytest.raises(RemoteError, match="no subscription"):
            await stranger.call("unsubscribe", [number])
    assert await node.call("unsubscribe", [number]) is True
    with pytest.raises(RemoteError, match="no subscription"):
        await node.call("unsubscribe", [number])
    for _ in range(8):
        await node.call("subscribe", ["blocks"])
    with pytest.raises(RemoteError, match="subscriptions"):
        await node.call("subscribe", ["blocks"])


ODD: list[Any] = [None, -1, 1 << 62, "text", b"short", [], {}, [1], True, b"x" * 5000]


async def test_bad_parameters_of_every_method_are_typed_errors(node: RpcClient) -> None:
    """Never `internal`: that would be an exception nobody expected."""
    arity = {"status": 0, "submit": 1, "transaction": 1, "wait": 2, "account": 1, "participant": 1, "meter": 1,
             "order": 1, "orders": 2, "trades": 2, "book": 3, "prices": 1, "block": 1, "blocks": 2, "authorities": 0,
             "peers": 0, "parameters": 0, "genesis": 0, "totals": 0, "certificate": 1, "certificates": 3,
             "certificate_offers": 2, "claims": 1, "claim": 2, "meter_claims": 1, "carbon": 0,
             "certificate_totals": 0, "subscribe": 1, "unsubscribe": 1}
    good: dict[str, list[Any]] = {"wait": [[bytes(32)], 0], "orders": [bytes(32), 1], "trades": [{}, 1],
                                  "book": [0, 0, 1], "blocks": [0, 1], "certificates": [bytes(32), 0, 1],
                                  "certificate_offers": [1, 1], "claim": [0, 1]}
    for method, count in arity.items():
        for parameters in ([0] * (count + 1), "text", {"a": 1}, *([[0] * (count - 1)] if count else [])):
            with pytest.raises(RemoteError) as caught:
                await node.call(method, parameters)
            assert caught.value.code == "bad_request", (method, parameters)
        for position in range(count):
            for odd in ODD:
                arguments = list(good.get(method, [None] * count))
                if arguments[position] == odd and type(arguments[position]) is type(odd):
                    continue
                arguments[position] = odd
                try:
                    await node.call(method, arguments)
                except RemoteError as error:
                    assert error.code == "bad_request", (method, arguments, error)
    for where in ({"window": "x"}, {"zone": "x"}, {"account": 5}, {"other": 1}, {"zone": 99}):
        with pytest.raises(RemoteError) as caught:
            await node.call("trades", [where, 1])
        assert caught.value.code == "bad_request"
    with pytest.raises(RemoteError) as caught:
        await node.call("nonsense", [])
    assert caught.value.code == "unknown_method"
    assert (await node.call("status"))["height"] >= 0


async def test_restart_answers_as_before_and_an_observer_follows(tmp_path: Path, chain: Genesis) -> None:
    address = write_node(tmp_path / "egat", EGAT, chain, checkpoint_blocks=2, checkpoint_interval_ms=100)
    async with running(tmp_path / "egat"), client(address) as node:
        wallet = Wallet(node, chain)
        fates = [await wallet.do(ISSUER, Transfer(REGISTRAR.public, 1)) for _ in range(5)]
        before = await node.call("blocks", [0, 100])
    watching = write_node(tmp_path / "watch", key("watch"), load_genesis(tmp_path / "egat" / "genesis.toml"), address)
    async with running(tmp_path / "egat"), running(tmp_path / "watch"), client(address) as node, \
            client(watching) as observer:
        assert (await node.call("blocks", [0, 100]))[:len(before)] == before
        with trio.fail_after(60):
            while (await observer.call("status"))["height"] < len(before) - 1:
                await trio.sleep(0.05)
        assert (await observer.call("blocks", [0, 100]))[:len(before)] == before
        name = before[fates[-1]["height"]]["transaction_ids"][0]
        with trio.fail_after(60):           # a block is final before it is durable, and only then clients are told so
            while (fate := await observer.call("transaction", [name]))["state"] == "pending":
                await trio.sleep(0.05)
        assert fate == fates[-1]
        # What a client gives the observer reaches the authority, and its finality the observer's client.
        wallet.session = observer
        assert (await wallet.do(ISSUER, Transfer(REGISTRAR.public, 1)))["height"] > fates[-1]["height"]
