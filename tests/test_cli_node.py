"""The command line, the client and the testnet's agents against a real node: one authority, one process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from attrs import evolve, frozen
from click.testing import CliRunner

from gridtokenx.cli import cli
from gridtokenx.client import Account, Disconnected, NoNode, RequestFailed, connect
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.grid.kinds import Role
from gridtokenx.ledger.genesis import Authority, dump_genesis, load_genesis
from gridtokenx.ledger.operations import Deposit, PlaceOrder, RegisterParticipant, Transfer
from gridtokenx.ledger.receipts import Code
from gridtokenx.market.orders import Side
from gridtokenx.network.identity import with_peer_id
from gridtokenx.node.lost_log import permit_first_start
from testnet.agents import Agent
from testnet.enrolment import DEPOSIT_UTHB, Enrolled, enrol
from testnet.households import load_households
from testnet.keys import testnet_key
from testnet.layout import FOLDER
from testnet.link import Link

pytestmark = pytest.mark.processes
START_TIMEOUT_S = 60
FEE_UTHB = 1_000


@frozen
class RunningNode:
    """A node as its own process, and a folder with key files."""

    folder: Path
    address: str
    config: Path
    process: subprocess.Popen[bytes]

    def key(self, name: str) -> Path:
        path = self.folder / "keys" / f"{name}.key"
        if not path.exists():
            save_key(path, testnet_key(name), None)
        return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o700)
    key, port = testnet_key("egat"), free_port()
    genesis = evolve(load_genesis(FOLDER / "genesis.toml"), authorities=(Authority("EGAT", key.public),),
                     genesis_ms=round(time.time() * 1000), market_rate=1)
    (folder / "genesis.toml").write_text(dump_genesis(genesis))
    save_key(folder / "egat.key", key, None)
    permit_first_start(folder / "data")
    config = folder / "gridtokenx.toml"
    config.write_text(f'[node]\nname = "egat"\ndata_dir = "data"\nkey_file = "egat.key"\ngenesis = "genesis.toml"\n'
                      f'[network]\nlisten = ["/ip4/127.0.0.1/tcp/{port}"]\n[store]\nmap_size_mib = 256\n')
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(config)],
                                   stdout=log, stderr=log)
    address = with_peer_id(f"/ip4/127.0.0.1/tcp/{port}", key.public)
    try:
        trio.run(answers, address, process, folder / "log")
        yield RunningNode(folder, address, config, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 0, (folder / "log").read_text()
        finally:
            process.kill()


async def answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the node has made a block: the first one comes with the first heartbeat or transaction."""
    with trio.fail_after(START_TIMEOUT_S):
        while True:
            assert process.poll() is None, log.read_text()
            try:
                async with connect([address], timeout_s=2) as client:
                    await client.status()
                    return
            except NoNode:
                await trio.sleep(0.1)


def run(node: RunningNode, *arguments: str | Path, fails: bool = False) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"GRIDTOKENX_NODE": node.address})
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_status_names_node_chain_and_clock(node: RunningNode) -> None:
    shown = run(node, "status")
    for word in ("egat", "validator (EGAT)", "gridtokenx-testnet", "market clock", "2025-04-21"):
        assert word in shown
    table = json.loads(run(node, "status", "--json"))
    assert table["authority"] == "EGAT"
    assert table["public"] == encode_address(testnet_key("egat").public)
    assert len(bytes.fromhex(table["state_root"])) == 32


def test_the_node_of_this_folder_is_the_default(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(node.folder)
    monkeypatch.delenv("GRIDTOKENX_NODE", raising=False)
    result = CliRunner().invoke(cli, ["status", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["name"] == "egat"


def test_a_transfer_is_final_and_found_again(node: RunningNode) -> None:
    bob = PrivateKey.generate().public
    shown = run(node, "account", encode_address(bob), fails=True)
    assert "first THB" in shown
    sent = json.loads(run(node, "transfer", encode_address(bob), "12.345678", "--memo", "rent", "--json",
                          "--key", node.key("issuer")))
    assert sent["state"] == "final"
    assert "12.345678 THB, free to spend" in run(node, "account", encode_address(bob))
    found = run(node, "transaction", sent["id"])
    assert "final" in found
    assert "OK" in found
    block = json.loads(run(node, "block", str(sent["height"]), "--json"))
    assert sent["id"] in block["transaction_ids"]
    assert block["proposer"] == "EGAT"
    assert str(sent["height"]) in run(node, "block")


def test_what_fails_says_what_to_do(node: RunningNode) -> None:
    poor = node.folder / "keys" / "poor.key"
    save_key(poor, PrivateKey.generate(), None)
    to = encode_address(testnet_key("tax").public)
    assert "ask an issuer" in run(node, "transfer", to, "1", "--key", poor, fails=True)
    assert "UNFUNDED" in run(node, "transfer", to, "1000000", "--key", node.key("issuer"), fails=True)
    assert "no participant" in run(node, "order", "place", "buy", "1", "4", "--key", node.key("issuer"), fails=True)
    assert "no final block" in run(node, "block", "999999", fails=True)
    assert "unknown" in run(node, "transaction", "ab" * 32)
    assert "Bangkok, Central" in run(node, "trade", "book", "Mars", fails=True)


def test_lists_are_shown_with_units(node: RunningNode) -> None:
    assert "EGAT" in run(node, "authorities")
    assert "alone" in run(node, "peers")
    assert "uTHB/kWh" in run(node, "parameters")
    assert "Northeast" in run(node, "trade", "prices")
    assert "the book is empty" in run(node, "trade", "book", "South")


async def linked(node: RunningNode, nursery: trio.Nursery) -> tuple[Link, bytes]:
    link = Link([node.address])
    nursery.start_soon(link.run)
    return link, (await (await link.client()).status())["chain_id"]


async def buy_from_a_neighbour(node: RunningNode) -> list[Enrolled]:
    """Enrols two households twice over; the second buys 0.2 kWh of the 0.3 kWh that the first offers."""
    households = [evolve(household, zone="North") for household in load_households(200) if household.pv_w][:2]
    zones = [zone.name for zone in load_genesis(node.folder / "genesis.toml").zones]
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            link, chain_id = await linked(node, nursery)
            issuer = Agent(testnet_key("issuer"), chain_id, link, FEE_UTHB)
            registrar = Agent(testnet_key("registrar"), chain_id, link, FEE_UTHB)
            status = await (await link.client()).status()
            now_ms = status["market_time_s"] * 1000
            enrolled, deposited = await enrol(households, zones, issuer, registrar, now_ms, print)
            assert deposited == 2 * DEPOSIT_UTHB
            again, deposited = await enrol(households, zones, issuer, registrar, now_ms, print)
            assert deposited == 0
            assert [one.meter for one in again] == [one.meter for one in enrolled]

            window = status["market_time_s"] // 900 + 8
            seller, buyer = (Agent(one.key, chain_id, link, FEE_UTHB) for one in enrolled)
            sale = await seller.do([PlaceOrder(enrolled[0].meter, window, Side.SELL, 3_000, 300)])
            purchase = await buyer.do([PlaceOrder(enrolled[1].meter, window, Side.BUY, 5_000, 200)])
            assert sale.ok and purchase.ok
            assert len(link.latencies) == link.finals
            nursery.cancel_scope.cancel()
    return enrolled


def test_households_are_enrolled_once_and_trade_with_each_other(node: RunningNode) -> None:
    enrolled = trio.run(buy_from_a_neighbour, node)
    folder = node.folder / "keys"
    save_key(folder / "buyer.key", enrolled[1].key, None)
    trades = json.loads(run(node, "trade", "list", "--json", "--account", folder / "buyer.key"))
    assert [(trade["buy_meter"], trade["sell_meter"]) for trade in trades] == [(enrolled[1].meter, enrolled[0].meter)]
    assert trades[0]["delivered_wh"] == 200
    save_key(folder / "seller.key", enrolled[0].key, None)
    assert "North" in run(node, "account", folder / "buyer.key")
    placed = json.loads(run(node, "order", "place", "sell", "0.2", "4.50", "--json", "--key", folder / "seller.key"))
    number = placed["receipts"][0][1][0]
    assert str(number) in run(node, "order", "list", folder / "seller.key")
    assert "0.2 kWh" in run(node, "order", "cancel", str(number), "--key", folder / "seller.key")
    assert "UNKNOWN_ORDER" in run(node, "order", "cancel", str(number), "--key", folder / "seller.key", fails=True)


async def enrol_grid_operator(node: RunningNode) -> int:
    """Gives it money and a licence; returns a window that is open for a while."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            link, chain_id = await linked(node, nursery)
            status = await (await link.client()).status()
            issuer, registrar = (Agent(testnet_key(name), chain_id, link, FEE_UTHB) for name in ("issuer", "registrar"))
            who = testnet_key("a grid operator").public
            assert (await issuer.do([Deposit(who, 10_000_000)])).ok
            assert (await registrar.do([RegisterParticipant(
                who, "G-1", Role.GRID_OPERATOR, 0, status["market_time_s"] * 1000 + 10**10)])).ok
            nursery.cancel_scope.cancel()
    return int(status["market_time_s"]) // 900 + 9


def test_every_kind_of_order_from_the_command_line(node: RunningNode) -> None:
    folder = node.folder / "keys"
    seller, buyer, grid = folder / "seller.key", folder / "buyer.key", node.key("a grid operator")
    window = str(trio.run(enrol_grid_operator, node))
    meters = [json.loads(run(node, "account", key, "--json"))["participant"]["meters"][0] for key in (seller, buyer)]

    def place(key: Path, *words: str, fails: bool = False) -> str:
        return run(node, "order", "place", *words, "--window", window, "--key", key, fails=fails)

    def number(key: Path, *words: str) -> str:
        return str(json.loads(place(key, *words, "--json"))["receipts"][0][1][0])

    berg = number(seller, "sell", "1", "4.00", "--iceberg", "0.2", "--self-trade", "oldest")
    assert "0.8 kWh" in run(node, "order", "list", seller)
    assert "4.00" in run(node, "trade", "book", "North", "--window", window)
    landed = run(node, "trade", "book", "North", "--window", window, "--landed", "buy")
    assert "North" in landed and "0.2" in landed
    assert "KILLED" in place(buyer, "buy", "1.5", "5.00", "--fok", fails=True)
    assert "WOULD_TRADE" in place(buyer, "buy", "0.1", "5.00", "--post-only", fails=True)
    assert "0.1 kWh" in place(buyer, "buy", "0.1", "5.00", "--ioc", "--filter", "renewable")
    assert "1 (renewable)" in place(buyer, "buy", "0.1", "5.00", "--filter", "nuclear", fails=True)
    assert "0.1 kWh" in place(buyer, "buy", "0.1", "--market", "--min-fill", "0.1")
    assert "BAD_TIME_IN_FORCE" in place(buyer, "buy", "0.1", "3.00", "--good-till", "2020-01-01T10:00", fails=True)
    assert "0.688 kWh" in run(node, "order", "amend", berg, "--quantity", "0.9", "--key", seller)
    resting = number(buyer, "buy", "0.2", "3.00", "--post-only")
    assert "placed" in run(node, "order", "requote", "--cancel", resting, "--place", "buy", "0.3", "3.10",
                           "--place", "buy", "0.2", "3.00", "--window", window, "--key", buyer)
    assert "2" in run(node, "order", "cancel-all", "--window", window, "--key", buyer)
    assert "no open orders" in run(node, "order", "list", buyer)

    offer = node.folder / "offer.json"
    run(node, "bilateral", "offer", "0.3", "0.10", "--from", str(meters[0]), "--to", str(meters[1]), "--window", window,
        "--out", offer, "--key", seller)
    assert "0.3 kWh" in run(node, "bilateral", "show", offer)
    assert "your own" in run(node, "bilateral", "accept", offer, "--key", seller, fails=True)
    assert "delivered  0.3 kWh" in run(node, "bilateral", "accept", offer, "--key", buyer)
    assert "AGREED_ALREADY" in run(node, "bilateral", "accept", offer, "--key", buyer, fails=True)

    run(node, "grid", "capacity", "0", "10", "20.5", "--window", window, "--key", grid)
    assert "2.5 kWh" in run(node, "grid", "corridors", "--window", window)
    assert "NOT_GRID_OPERATOR" in run(node, "grid", "halt", window, "--key", buyer, fails=True)
    run(node, "grid", "halt", window, "--key", grid)
    assert "until it is resumed" in run(node, "trade", "status", "--window", window)
    assert "HALTED" in place(buyer, "buy", "0.1", "3.00", fails=True)
    run(node, "grid", "resume", window, "--key", grid)
    assert "open until" in run(node, "trade", "status", "--window", window)
    assert "renewable" in run(node, "trade", "filters")
    run(node, "order", "cancel", berg, "--key", seller)


def test_the_program_on_the_traders_page_runs(node: RunningNode) -> None:
    """Word for word, as household 17, which is enrolled first; it goes on for ever, so it is stopped."""
    trio.run(enrol_household, node, 17)
    page = (FOLDER.parent / "docs" / "trader.md").read_text()
    [program] = [part for part in re.findall(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE) if "import trio" in part]
    save_key(node.folder / "household.key", testnet_key("household 17"), None)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", f"NODE = {node.address!r}\n" + textwrap.dedent(program)], cwd=node.folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(FOLDER.parent)})
    assert process.stdout is not None and process.stderr is not None
    try:
        first = process.stdout.readline()
        assert "code=0" in first and "'state': 'final'" in first, first + process.stderr.read()
    finally:
        process.kill()
        process.communicate()


async def enrol_household(node: RunningNode, index: int) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            link, chain_id = await linked(node, nursery)
            status = await (await link.client()).status()
            zones = [zone.name for zone in load_genesis(node.folder / "genesis.toml").zones]
            issuer, registrar = (Agent(testnet_key(name), chain_id, link, FEE_UTHB) for name in ("issuer", "registrar"))
            await enrol([load_households()[index]], zones, issuer, registrar, status["market_time_s"] * 1000, print)
            nursery.cancel_scope.cancel()


async def test_a_refused_transaction_does_not_hold_up_those_behind_it(node: RunningNode) -> None:
    """The middle one of three is refused at submission; the third was signed after it and waits for its nonce."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            link, chain_id = await linked(node, nursery)
            issuer = Agent(testnet_key("issuer"), chain_id, link, FEE_UTHB)
            key = PrivateKey.generate()
            assert (await issuer.do([Deposit(key.public, 10_000_000)])).ok
            agent = Agent(key, chain_id, link, FEE_UTHB)
            first = await agent.send([Transfer(issuer.key.public, 1)])
            refused = await agent.send([Transfer(issuer.key.public, 0)])
            third = await agent.send([Transfer(issuer.key.public, 2)])
            await refused.done.wait()
            assert not refused.final
            assert not third.done.is_set()
            await agent.do([Transfer(issuer.key.public, 3)])
            await third.done.wait()
            assert first.ok and third.ok
            assert agent.recoveries == 1
            nursery.cancel_scope.cancel()


async def test_the_client_tells_refusal_error_and_disconnection_apart(node: RunningNode) -> None:
    with trio.fail_after(30):
        async with connect([node.address]) as client:
            status = await client.status()
            owner = await client.account(testnet_key("issuer").public)
            assert owner is not None
            account = Account(testnet_key("issuer"), status["chain_id"], owner["nonce"])
            height = status["height"]
            cases = {
                Code.FEE_TOO_LOW: account.sign([Transfer(bytes(32), 1)], valid_until_height=height + 99, fee_uthb=0),
                Code.EXPIRED: evolve(account).sign([Transfer(bytes(32), 1)], valid_until_height=0, fee_uthb=FEE_UTHB),
                Code.BAD_SIGNATURE: Account(account.key, bytes(32), owner["nonce"]).sign(
                    [Transfer(bytes(32), 1)], valid_until_height=height + 99, fee_uthb=FEE_UTHB),
            }
            answers = await client.submit([signed.raw for signed in cases.values()])
            assert [answer.code for answer in answers] == list(cases)
            assert all(answer.message and not answer.accepted for answer in answers)
            assert (await client.submit([b"garbage"]))[0].code == Code.MALFORMED
            with pytest.raises(RequestFailed, match="no method"):
                await client.call("nonsense")
            with pytest.raises(RequestFailed, match="parameters"):
                await client.call("block")
        with pytest.raises(Disconnected):
            await client.status()
        with pytest.raises(NoNode, match="no node"):
            async with connect([]):
                pass


async def test_who_stops_to_follow_blocks_may_follow_them_again(node: RunningNode) -> None:
    """As often as one likes in a session, which has few subscriptions at a time."""
    async with connect([node.address]) as client:
        status, owner = await client.status(), await client.account(testnet_key("issuer").public)
        assert owner is not None
        account = Account(testnet_key("issuer"), status["chain_id"], owner["nonce"])

        async def next_block(scope: trio.CancelScope) -> None:
            async for _ in client.blocks():
                scope.cancel()

        with trio.fail_after(60):
            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(next_block, nursery.cancel_scope)
                    while True:
                        signed = account.sign([Transfer(testnet_key("tax").public, 1)],
                                              valid_until_height=1 << 40, fee_uthb=FEE_UTHB)
                        await client.submit([signed.raw])
                        await trio.sleep(0.05)


def test_a_second_node_on_the_same_data_is_refused(node: RunningNode) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gridtokenx.cli", "start", "--config", str(node.config)], capture_output=True,
        text=True, timeout=60, check=False,
        env={**os.environ, "GRIDTOKENX_NETWORK__LISTEN": f"/ip4/127.0.0.1/tcp/{free_port()}"})
    assert second.returncode != 0
    assert "Traceback" not in second.stderr
