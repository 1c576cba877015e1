"""The client library over HTTP against a real node, and whole programs in other processes: Python and JavaScript."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from api_support import ApiNode, api_node, trade_a_little
from ledger_support import ISSUER, REGISTRAR
from test_node_rpc import HOUSES, enrolment

from gridtokenx.client import (
    BadAnswer,
    Disconnected,
    HttpClient,
    HttpRefused,
    RequestFailed,
    TrioHttpClient,
    open_feed,
)
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.operations import PlaceOrder, Transfer
from gridtokenx.ledger.receipts import Code
from gridtokenx.market.orders import Side

EXAMPLES = Path(__file__).parent.parent / "examples"
TRADER = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from gridtokenx.crypto.keys import PrivateKey
from trader import main
main(sys.argv[1], *(PrivateKey(bytes.fromhex(seed)) for seed in sys.argv[2:]))
"""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ApiNode]:
    async with api_node(tmp_path / "egat") as found:
        yield found


def plain_program(url: str) -> None:
    with HttpClient(url) as client:
        account = client.sign_in(ISSUER)
        signed = account.sign([Transfer(REGISTRAR.public, 5)], valid_until_height=client.height() + 50,
                              fee_uthb=64_000)
        first, again = client.submit(signed, wait_ms=30_000), client.submit(signed)
        assert (first["state"], first["code"]) == ("final", 0)
        assert (again["id"], again["state"]) == (first["id"], "final")
        assert client.look_up(f"/accounts/{encode_address(bytes(31) + b'1')}") is None
        account = client.sign_in(ISSUER)
        account.nonce -= 1
        with pytest.raises(HttpRefused, match="nonce") as caught:
            client.submit(account.sign([Transfer(REGISTRAR.public, 6)], valid_until_height=900, fee_uthb=64_000))
        assert (caught.value.code, caught.value.ledger_code) == ("refused", Code.WRONG_NONCE)
        with pytest.raises(ValueError, match="60000"):
            client.submit(signed, wait_ms=60_001)
        heights = [block["height"] for block in client.get("/blocks")["items"]]
        assert heights[-1] == client.height()
    with HttpClient("http://127.0.0.1:1") as nobody, pytest.raises(Disconnected):
        nobody.height()


async def test_a_plain_program_signs_submits_and_reads(node: ApiNode) -> None:
    await trio.to_thread.run_sync(plain_program, str(node.http.base_url))


async def test_a_program_on_trio_does_the_same(node: ApiNode) -> None:
    await trade_a_little(node)
    async with TrioHttpClient(str(node.http.base_url)) as client:
        account = await client.sign_in(HOUSES[2])
        signed = account.sign([PlaceOrder(3, node.window, Side.BUY, 4000, 200)],
                              valid_until_height=await client.height() + 50, fee_uthb=64_000)
        assert (await client.submit(signed, wait_ms=30_000))["code_name"] == "OK"
        trades = [trade async for trade in client.pages("/energy/trades", limit=1)]
        assert trades == (await client.get("/energy/trades"))["items"]
        assert len(trades) > 1
        assert await client.look_up("/blocks/99999") is None
        with pytest.raises(HttpRefused, match="less than or equal") as caught:
            await client.get("/energy/orderbook/999999999999")
        assert caught.value.code == "bad_request"
        with pytest.raises(HttpRefused):
            await client.look_up("/energy/orderbook/x")


async def test_something_that_is_no_node_is_told_apart(tmp_path: Path) -> None:
    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, other, [listener])
        async with TrioHttpClient(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
            with pytest.raises(BadAnswer, match="is it a node's"):
                await client.height()
        nursery.cancel_scope.cancel()


async def test_a_feed_tells_every_block_once_and_refuses_nonsense(node: ApiNode) -> None:
    await trade_a_little(node)
    top = (await node.get("/status"))["height"]
    url = str(node.http.base_url)
    seller = encode_address(HOUSES[0].public)
    async with open_feed([url], [{"channel": "blocks"}, {"channel": "trades", "account": seller},
                                 {"channel": "depth", "window": node.window, "zone": 0}], after=0) as feed:
        heights, kinds = [], set()
        async for message in feed:
            kinds.add((message["channel"], message["type"]))
            if message["channel"] == "blocks":
                heights.append(message["block"]["height"])
            if heights and heights[-1] == top and len(kinds) == 3:
                break
        assert heights == list(range(1, top + 1))
        assert kinds == {("blocks", "event"), ("trades", "event"), ("depth", "snapshot")}
        assert feed.height("trades", account=seller) is not None
    async with open_feed([url], [{"channel": "weather"}]) as feed:
        with pytest.raises(RequestFailed, match="channel is one of"):
            await anext(feed)


# ---------------------------------------------------------------- whole programs


async def test_a_trader_in_another_process_registers_buys_is_settled_and_reads_its_bill(tmp_path: Path) -> None:
    async with api_node(tmp_path / "egat", market_rate=900) as node, trio.open_nursery() as nursery:
        for sender, *operations in enrolment():
            await node.wallet.do(sender, *operations)

        async def sell() -> None:
            """A seller in every window that opens; its transactions also keep blocks coming."""
            offered = 0
            while True:
                now = (await node.get("/status"))["window"]
                orders = [PlaceOrder(1, window, Side.SELL, 3_000, 2_000) for window in range(
                    max(offered, now + 3), now + 24)]
                operations = orders or [Transfer(HOUSES[1].public, 1)]
                await node.rpc.call("submit", [[node.wallet.made(HOUSES[0], *operations)]])
                offered = now + 24
                await trio.sleep(0.3)

        nursery.start_soon(sell)
        with trio.fail_after(120):
            ended = await trio.run_process(
                [sys.executable, "-c", TRADER, str(node.http.base_url), ISSUER.seed.hex(), REGISTRAR.seed.hex()],
                capture_stdout=True, capture_stderr=True, check=False)
        assert ended.returncode == 0, (ended.stdout, ended.stderr)
        said = ended.stdout.decode()
        assert "bought 1 kWh" in said.replace("1.000", "1").replace("1.0", "1"), said
        assert "settled: withdrawn 1300 Wh, bought 1000 Wh" in said
        for line in ("PURCHASE", "WHEELING", "ENERGY", "FT", "SUPPLY_VAT"):
            assert line in said, said
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(shutil.which("node") is None or not (EXAMPLES / "javascript" / "node_modules").exists(),
                    reason="no Node.js with tweetnacl on this machine (scripts/javascript.sh installs the latter)")
async def test_a_javascript_program_signs_the_same_bytes(node: ApiNode) -> None:
    program = EXAMPLES / "javascript"
    with trio.fail_after(60):
        ended = await trio.run_process(["node", str(program / "trader.mjs"), str(node.http.base_url),
                                        ISSUER.seed.hex()], capture_stdout=True, capture_stderr=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.decode()
    assert "deposit: final in block" in said and "transfer: final in block" in said
    assert f"has {70 - 0.001:.3f} THB left" in said, said
    # Byte for byte what the library makes of the same transaction, with numbers of every length.
    script = f"""
        import nacl from "{program}/node_modules/tweetnacl/nacl-fast.js";
        import {{ hex, sign, unhex }} from "{program}/transaction.mjs";
        const keys = nacl.sign.keyPair.fromSeed(unhex("{ISSUER.seed.hex()}"));
        const operations = [[1, unhex("{REGISTRAR.public.hex()}"), 9007199254740993n, new Uint8Array(40)],
            [10, unhex("{REGISTRAR.public.hex()}"), "ใบอนุญาต", 3, 255, 65536, -500]];
        console.log(hex(sign(keys, new Uint8Array(32).fill(7), {{ nonce: 300, validUntilHeight: 24, fee: 70000n,
            operations }}).raw));"""
    made = await trio.run_process(["node", "--input-type=module", "-e", script], capture_stdout=True)
    from gridtokenx.ledger.transaction import encode_payload, sign_transaction

    payload = encode_payload(ISSUER.public, 300, 24, 70_000, [
        [1, REGISTRAR.public, 9007199254740993, bytes(40)], [10, REGISTRAR.public, "ใบอนุญาต", 3, 255, 65536, -500]])
    assert made.stdout.decode().strip() == sign_transaction(bytes([7]) * 32, [ISSUER], payload).hex()
