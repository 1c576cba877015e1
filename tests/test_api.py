"""The HTTP interface of a real node over a real socket: answers, errors, limits; and the gateway beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from api_support import ApiNode, api_node, trade_a_little
from ledger_support import ISSUER, REGISTRAR
from test_node_rpc import HOUSES

from gridtokenx.api.gateway import gateway
from gridtokenx.api.models import accounts as accounts_models
from gridtokenx.api.models import chain as chain_models
from gridtokenx.api.models import grid as grid_models
from gridtokenx.api.models import market as market_models
from gridtokenx.api.models import parts as parts_models
from gridtokenx.api.models import proofs as proofs_models
from gridtokenx.api.settings import HttpSettings, client_key, split_listen
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.json_form import plain, with_decimals
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder, Transfer
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.transaction import decode_transaction
from gridtokenx.light.verify import Trust, read_proof, verify
from gridtokenx.market.orders import Side

SELLER = encode_address(HOUSES[0].public)
NOBODY = encode_address(bytes(31) + b"\x01")
FOUR = 4


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ApiNode]:
    async with api_node(tmp_path / "egat") as found:
        yield found


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["status"], found["code"], found["type"]) == (status, code, f"urn:gridtokenx:problem:{code}")
    assert found["what_to_do"]
    assert found["request_id"] == answer.headers["x-request-id"]
    parts_models.ProblemDetails.model_validate(found)
    return found


async def checked(node: ApiNode, path: str, model: Any, **query: Any) -> Any:
    """The answer, which has exactly the fields that the description says."""
    found = await node.get(path, **query)
    model.model_validate(found, strict=True)
    return found


async def test_answers_are_those_of_rpc_and_of_the_described_shape(node: ApiNode) -> None:
    await trade_a_little(node)
    status = await checked(node, "/status", chain_models.Status)
    assert status["chain_id"] == (await node.rpc.call("status"))["chain_id"].hex()
    top = status["height"]
    for height in (0, 1, top):
        block = await checked(node, f"/blocks/{height}", chain_models.Block)
        assert block == with_decimals(plain(await node.rpc.call("block", [height])))
        assert await node.get(f"/blocks/hash/{block['hash']}") == block
    page = await checked(node, "/blocks", chain_models.Blocks, **{"from": 0}, limit=FOUR)
    assert ([block["height"] for block in page["items"]], page["next"]) == ([0, 1, 2, 3], 4)
    assert (await node.get("/blocks", limit=2))["next"] is None
    identity = (await node.get(f"/blocks/{top}"))["transaction_ids"][0]
    made = await checked(node, f"/transactions/{identity}", chain_models.Transaction)
    assert (made["state"], made["height"], made["code_name"], made["operations"][0]["name"]) == (
        "final", top, "OK", "place order")
    money = await checked(node, f"/accounts/{SELLER}/balance", accounts_models.Balance)
    assert money["balance_uthb"] == (await node.rpc.call("account", [HOUSES[0].public]))["balance_uthb"]
    assert round(float(money["total_thb"]) * 1_000_000) == money["total_uthb"]
    assert (await checked(node, f"/accounts/{HOUSES[0].public.hex()}", accounts_models.Account))["account"] == money
    book = await checked(node, f"/energy/orderbook/{node.window}", market_models.OrderBook, levels=5)
    told = await node.rpc.call("book", [node.window, 0, 5])
    assert (book["zones"][0]["bids"], book["zones"][0]["asks"]) == (told["bids"], told["asks"])
    assert told["bids"]
    assert told["asks"]
    landed = await checked(node, f"/energy/orderbook/{node.window}/landed", market_models.LandedBook, zone=0)
    assert landed["asks"][0]["landed_uthb_kwh"] >= 1000 * told["asks"][0][0]      # wheeling and losses come on top
    assert landed["asks"] == with_decimals(await node.rpc.call("landed", [node.window, 0, 0, 20]))
    assert landed["bids"] == with_decimals(await node.rpc.call("landed", [node.window, 0, 1, 20]))
    prices = await checked(node, "/energy/prices", market_models.Prices, window=node.window)
    assert prices["zones"][0]["ask_mthb_kwh"] == told["asks"][0][0]
    stats = await checked(node, "/energy/stats", market_models.Stats)
    assert stats["windows"][0]["trades"] == len((await node.get("/energy/trades"))["items"])
    grid = await checked(node, "/grid/status", grid_models.GridStatus, window=node.window)
    assert [zone["name"] for zone in grid["zones"]] == [zone["name"] for zone in prices["zones"]]
    assert (await checked(node, "/authorities", chain_models.Authorities))["items"][0]["name"] == "EGAT"
    assert await checked(node, "/network/peers", chain_models.Peers) == {"items": []}
    parameters = await checked(node, "/parameters", chain_models.Parameters)
    numbers = {row["name"]: row["value"] for row in parameters["items"]}
    assert numbers == await node.rpc.call("parameters")
    assert (await checked(node, f"/accounts/{SELLER}/bills", accounts_models.Bill))["windows"] == []
    assert (await checked(node, f"/accounts/{SELLER}/certificates", accounts_models.Certificates))["items"] == []


async def test_prices_of_a_window_block_by_block_and_its_balance(node: ApiNode) -> None:
    await trade_a_little(node)
    trades = list(reversed((await node.get("/energy/trades"))["items"]))
    history = await checked(node, f"/energy/history/{node.window}", market_models.History)
    assert [row["last_price_mthb_kwh"] for row in history["items"]] == [trade["price_mthb_kwh"] for trade in trades]
    assert [row["height"] for row in history["items"]] == [trade["height"] for trade in trades]
    assert sum(row["traded_wh"] for row in history["items"]) == sum(trade["delivered_wh"] for trade in trades)
    block = await node.get(f"/blocks/{trades[0]['height']}")
    assert history["items"][0]["timestamp_ms"] == block["timestamp_ms"]
    assert (await node.get(f"/energy/history/{node.window}", blocks=1))["items"] == history["items"][-1:]
    assert (await node.get(f"/energy/history/{node.window}", zone=trades[0]["buy_zone"]))["items"] == history["items"]
    assert (await node.get(f"/energy/history/{node.window + 1}"))["items"] == []
    is_problem(await node.http.get(f"/api/v1/energy/history/{node.window}?zone=63"), 404, "unknown")
    balance = await checked(node, f"/grid/windows/{node.window}", grid_models.WindowBalance)
    assert (balance["phase"], balance["zones"], balance["totals"]["minted_wh"]) == ("trading", [], 0)


async def test_search_finds_whatever_a_text_may_mean(node: ApiNode) -> None:
    await trade_a_little(node)

    async def kinds(text: str) -> list[tuple[str, str]]:
        found = await checked(node, "/search", chain_models.Found, q=text)
        return [(item["kind"], item["id"]) for item in found["items"]]

    block = await node.get("/blocks/2")
    order = (await node.get(f"/accounts/{SELLER}/orders"))["items"][0]["order"]
    [account] = (await node.get("/search", q=SELLER))["items"]
    assert (account["kind"], account["account"]) == ("account", SELLER)
    assert await kinds(HOUSES[0].public.hex()) == [("account", HOUSES[0].public.hex())]
    assert await kinds(block["hash"]) == [("block", "2")]
    assert await kinds(block["transaction_ids"][0]) == [("transaction", block["transaction_ids"][0])]
    assert await kinds("2") == [("block", "2"), ("meter", "2"), ("participant", "2")]
    assert ("order", order) in await kinds(order)
    assert await kinds(str(node.window)) == [("window", str(node.window))]
    assert await kinds("2026-05-11T10:00") == [("window", "1976076")]
    assert (await kinds("10:15"))[0][0] == "window"
    assert ("authority", "EGAT") in await kinds("egat")
    zone = (await node.get("/grid/status"))["zones"][0]
    assert ("zone", "0") in await kinds(zone["name"].upper())
    licence = (await node.get(f"/accounts/{SELLER}"))["participant"]["licence"]
    assert ("participant", "1") in await kinds(licence)
    for nothing in (NOBODY, "f" * 64, "2026-02-30T10:00", "99:99", "no such thing", "9" * 19, " ", "٣"):
        assert await kinds(nothing) == [], nothing


async def test_pages_go_on_where_the_last_one_ended(node: ApiNode) -> None:
    await trade_a_little(node)
    for path in ("/energy/trades", f"/accounts/{SELLER}/trades", f"/accounts/{SELLER}/orders"):
        everything = (await node.get(path, limit=100))["items"]
        assert len(everything) >= 2
        found: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = await node.get(path, limit=1, **cursor)
            found += page["items"]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert found == everything
    first, second = (await node.get("/energy/trades", limit=2))["items"]
    assert first["height"] >= second["height"]
    orders = await checked(node, "/energy/orders", market_models.Orders, account=SELLER)
    assert orders == await node.get(f"/accounts/{SELLER}/orders")
    single = await checked(node, f"/energy/orders/{orders['items'][0]['order']}", market_models.Order)
    assert single == orders["items"][0]
    assert int(single["order"]) > 1 << 53           # which is why it is text
    is_problem(await node.http.get("/api/v1/energy/trades", params={"cursor": "AAAA"}), 404, "bad_cursor")


async def test_final_data_have_entity_tags(node: ApiNode) -> None:
    await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
    for path in ("/blocks/0", "/blocks/1", "/parameters", "/blocks?from=0&limit=1", "/grid/status"):
        first = await node.http.get("/api/v1" + path)
        again = await node.http.get("/api/v1" + path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]
    assert "immutable" in (await node.http.get("/api/v1/blocks/1")).headers["cache-control"]
    tag = (await node.http.get("/api/v1/parameters")).headers["etag"]
    await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
    changed = await node.http.get("/api/v1/parameters", headers={"if-none-match": tag})
    assert changed.status_code == 200


async def test_transactions_are_submitted_signed_as_cbor_or_json(node: ApiNode) -> None:
    raw = node.wallet.made(ISSUER, Transfer(REGISTRAR.public, 1))
    answer = await node.http.post("/api/v1/transactions?wait_ms=30000", content=raw,
                                  headers={"content-type": "application/cbor"})
    found = answer.json()
    chain_models.Transaction.model_validate(found, strict=True)
    assert (answer.status_code, found["state"], found["code"]) == (200, "final", 0)
    assert found["id"] == digest(Domain.TRANSACTION, raw).hex()
    assert answer.headers["location"] == f"/api/v1/transactions/{found['id']}"
    again = await node.http.post("/api/v1/transactions", json={"transaction": raw.hex()})
    assert again.json() == found
    parts = decode_transaction(node.wallet.made(ISSUER, Transfer(REGISTRAR.public, 2)))
    answer = await node.http.post("/api/v1/transactions", json={
        "payload": parts.payload.hex(),
        "signatures": [{"public": public.hex(), "signature": signature.hex()} for public, signature in
                       parts.signatures]})
    assert answer.status_code in (200, 202)
    assert answer.json()["id"] == parts.id.hex()
    with trio.fail_after(30):
        while (await node.get(f"/transactions/{parts.id.hex()}"))["state"] != "final":
            await trio.sleep(0.05)

    async def post(content: bytes, kind: str = "application/cbor") -> httpx.Response:
        return await node.http.post("/api/v1/transactions", content=content, headers={"content-type": kind})

    fresh = node.wallet.made(ISSUER, Transfer(REGISTRAR.public, 3))
    bad = fresh[:-1] + bytes([fresh[-1] ^ 1])
    assert is_problem(await post(bad), 422, "refused")["ledger_code_name"] == "BAD_SIGNATURE"
    assert is_problem(await post(b"junk"), 422, "refused")["ledger_code"] == Code.MALFORMED
    is_problem(await post(b"{}", "application/json"), 400, "bad_request")
    is_problem(await post(b"[" * 5000, "application/json"), 400, "bad_request")
    is_problem(await post(b'{"transaction":"0G"}', "application/json"), 400, "bad_request")
    is_problem(await post(b"", "application/cbor"), 400, "bad_request")
    is_problem(await post(b"x", "text/plain"), 415, "unsupported_media_type")
    is_problem(await post(bytes(70_000)), 413, "too_large")
    is_problem(await post(bytes(300_000)), 413, "too_large")
    late = node.wallet.made(ISSUER, Transfer(REGISTRAR.public, 2), nonce=0)
    assert is_problem(await post(late), 422, "refused")["ledger_code_name"] == "WRONG_NONCE"


async def test_orders_are_placed_and_cancelled_by_signed_transactions_only(node: ApiNode) -> None:
    await trade_a_little(node)
    headers = {"content-type": "application/cbor"}
    place = node.wallet.made(HOUSES[0], PlaceOrder(1, node.window, Side.SELL, 5000, 200))
    answer = await node.http.post("/api/v1/energy/orders?wait_ms=30000", content=place, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (200, 0)
    order = answer.json()["receipts"][0]["data"][0]
    assert (await node.get(f"/energy/orders/{order}"))["remaining_wh"] == 200
    other = node.wallet.made(ISSUER, Transfer(REGISTRAR.public, 1))
    wrong = await node.http.post("/api/v1/energy/orders", content=other, headers=headers)
    is_problem(wrong, 422, "wrong_operation")
    cancel = node.wallet.made(HOUSES[0], CancelOrder(order))
    elsewhere = await node.http.request("DELETE", f"/api/v1/energy/orders/{order + 1}", content=cancel,
                                        headers=headers)
    is_problem(elsewhere, 422, "wrong_operation")
    answer = await node.http.request("DELETE", f"/api/v1/energy/orders/{order}?wait_ms=30000", content=cancel,
                                     headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (200, 0)
    is_problem(await node.http.get(f"/api/v1/energy/orders/{order}"), 404, "unknown")


async def test_what_is_wrong_is_a_problem_that_says_what_to_do(node: ApiNode) -> None:
    for path, status, code in (
        ("/api/v1/blocks/999999", 404, "unknown"), ("/api/v1/blocks/-1", 400, "bad_request"),
        ("/api/v1/blocks/x", 400, "bad_request"), ("/api/v1/nothing", 404, "not_found"), ("/nothing", 404, "not_found"),
        (f"/api/v1/blocks/hash/{'0' * 64}", 404, "unknown"), ("/api/v1/blocks/hash/00", 400, "bad_request"),
        (f"/api/v1/transactions/{'0' * 64}", 404, "unknown"), (f"/api/v1/accounts/{NOBODY}", 404, "unknown"),
        (f"/api/v1/accounts/{SELLER[:-1]}q", 404, "unknown"), ("/api/v1/accounts/gtx1", 400, "bad_request"),
        ("/api/v1/energy/orderbook/5?zone=60", 404, "unknown"), ("/api/v1/energy/orderbook/5/landed?zone=60", 404,
                                                               "unknown"),
        ("/api/v1/energy/orders", 400, "bad_request"), ("/api/v1/blocks?limit=0", 400, "bad_request"),
    ):
        is_problem(await node.http.get(path), status, code)
    wrong = await node.http.put("/api/v1/status")
    is_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    assert (await node.http.options("/api/v1/energy/orders/1")).headers["allow"] == "DELETE, GET"


async def test_limits_hold_and_other_origins_are_shut_out(tmp_path: Path) -> None:
    async with api_node(tmp_path / "egat", max_requests_per_s=1, max_connections_per_client=3,
                        cors_origins=["https://friend.example"]) as node:
        answer = await node.http.get("/api/v1/status")
        assert "access-control-allow-origin" not in answer.headers
        with trio.fail_after(60):
            while answer.status_code != 429:
                answer = await node.http.get("/api/v1/status")
        is_problem(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1
        for origin, allowed in (("https://friend.example", "https://friend.example"), ("https://other.example", None)):
            answer = await node.http.get("/api/v1/status", headers={"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
        streams = [await trio.open_tcp_stream("127.0.0.1", node.port) for _ in range(3)]
        with trio.fail_after(10):
            refused = b""
            while b"too many connections" not in refused:
                part = await streams[-1].receive_some()
                assert part
                refused += part
        for stream in streams:
            await stream.aclose()


async def test_a_client_that_has_gone_leaves_its_place_at_once(tmp_path: Path) -> None:
    async with api_node(tmp_path / "egat", max_connections_per_client=4) as node:
        for path in ("/api/v1/status", "/api/v1/nothing", "/livez"):
            for _ in range(5):
                async with httpx.AsyncClient(base_url=node.http.base_url, timeout=30) as other:
                    answer = await other.get(path)
                    with trio.fail_after(10):       # well below the time that an idle connection may stay open
                        while answer.status_code == 503:
                            answer = await other.get(path)
        for method in ("HEAD", "TRACE", "OPTIONS", "PATCH"):
            assert (await node.http.request(method, "/api/v1/status")).status_code == 405


async def test_health_and_metrics(node: ApiNode) -> None:
    await trade_a_little(node)
    assert (await node.http.get("/livez")).text == "ok\n"
    assert (await node.http.get("/readyz")).text == "ok\n"
    text = (await node.http.get("/metrics")).text
    assert 'gridtokenx_confirmation_seconds_bucket{le="+Inf"}' in text
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines()
              if not line.startswith("#")}
    height = (await node.get("/status"))["height"]
    assert 0 < values["gridtokenx_blockchain_height"] <= height
    assert values["gridtokenx_energy_trades_total"] == len((await node.get("/energy/trades"))["items"])
    assert values["gridtokenx_network_peers"] == 0
    assert values["gridtokenx_consensus_rounds"] > 0
    assert values['gridtokenx_api_requests_total{method="GET",route="/livez",status="200"}'] == 2


async def test_proofs_are_believed_by_whoever_knows_the_genesis(node: ApiNode) -> None:
    await trade_a_little(node)
    trust = Trust.of_hash(bytes.fromhex((await node.get("/blocks/0"))["hash"]))
    answer = await node.http.get(f"/api/v1/proofs/accounts/{SELLER}")
    proofs_models.LightProof.model_validate(answer.json(), strict=True)
    proven = verify(read_proof(answer.content), trust)
    held = Account.decode(proven.value(spaces.account(HOUSES[0].public)) or b"")
    told = await node.get(f"/accounts/{SELLER}/balance")
    assert (held.nonce, held.total) == (told["nonce"], told["total_uthb"])
    made = (await node.get("/blocks/2"))["transaction_ids"][0]
    [transaction] = verify(read_proof((await node.http.get(f"/api/v1/proofs/transactions/{made}")).content),
                           trust).transactions
    assert transaction.id.hex() == made
    clock, nothing = spaces.CLOCK, spaces.certificate(1)
    both = await node.http.get("/api/v1/proofs/records", params={"key": [clock.hex(), nothing.hex()]})
    proven = verify(read_proof(both.content), trust)
    assert proven.value(clock) and proven.value(nothing) is None
    assert verify(read_proof((await node.http.get("/api/v1/proofs/certificates/1")).content), trust).records == {
        nothing: None}
    is_problem(await node.http.get(f"/api/v1/proofs/transactions/{'0' * 64}"), 404, "unknown")
    is_problem(await node.http.get("/api/v1/proofs/records", params={"key": ["00", "00"]}), 400, "bad_request")
    described = (await node.http.get("/api/v1/openapi.json")).json()["paths"]["/api/v1/proofs/records"]["get"]
    assert described["parameters"][0]["schema"]["uniqueItems"] is True
    is_problem(await node.http.get("/api/v1/proofs/records"), 400, "bad_request")
    async with gateway(node.folder / "data", HttpSettings(host="127.0.0.1", port=0)) as server, \
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
        with trio.fail_after(30):
            while (found := await http.get(f"/api/v1/proofs/transactions/{made}")).status_code != 200:
                await trio.sleep(0.05)
        assert verify(read_proof(found.content), trust).transactions[0].id.hex() == made


async def test_a_gateway_reads_the_same_and_takes_nothing(node: ApiNode) -> None:
    await trade_a_little(node)
    async with gateway(node.folder / "data", HttpSettings(host="127.0.0.1", port=0)) as server, \
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
        top = (await node.get("/status"))["height"]
        with trio.fail_after(30):
            while (await http.get("/api/v1/status")).json()["height"] < top:
                await trio.sleep(0.05)
        await node.wallet.do(ISSUER, Transfer(REGISTRAR.public, 1))
        for path in (f"/blocks/{top}", "/energy/trades", f"/energy/trades?account={SELLER}", f"/accounts/{SELLER}",
                     f"/energy/orderbook/{node.window}", f"/energy/orderbook/{node.window}/landed?zone=1"):
            mine, theirs = (await http.get("/api/v1" + path)).json(), await node.get(path)
            for answer in (mine, theirs):
                answer.pop("height", None)
            assert mine == theirs, path
        raw = node.wallet.made(ISSUER, Transfer(REGISTRAR.public, 1))
        answer = await http.post("/api/v1/transactions", content=raw, headers={"content-type": "application/cbor"})
        is_problem(answer, 403, "read_only")
        with trio.fail_after(30):           # blocks made meanwhile reach it with the next checkpoint
            while (await http.get("/api/v1/status")).json()["height"] <= top:
                await trio.sleep(0.05)


def test_who_is_counted_behind_proxies() -> None:
    import ipaddress

    proxies = (ipaddress.ip_network("10.0.0.0/8"),)
    assert client_key("192.0.2.7", "198.51.100.1", ()) == "192.0.2.7"
    assert client_key("192.0.2.7", "198.51.100.1", proxies) == "192.0.2.7"
    assert client_key("10.0.0.1", "198.51.100.1", proxies) == "198.51.100.1"
    assert client_key("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.9.9.9", proxies) == "198.51.100.1"
    assert client_key("10.0.0.1", "nonsense", proxies) == "10.0.0.1"
    assert client_key("2001:db8::1:2", "", ()) == "2001:db8::/64"
    assert split_listen("[::1]:80") == ("::1", 80)
    for bad in ("", "80", "host:80", "127.0.0.1:", "127.0.0.1:99999"):
        with pytest.raises(ValueError, match=r"wanted|not appear"):
            split_listen(bad)


def test_decimals_stand_beside_amounts() -> None:
    shown = with_decimals({"a_uthb": 1_500_000, "rows": [{"b_wh": None, "price_mthb_kwh": 4500, "r_uthb_kwh": 1}]})
    assert shown == {"a_uthb": 1_500_000, "a_thb": "1.50", "rows": [
        {"b_wh": None, "b_kwh": None, "price_mthb_kwh": 4500, "price_thb_kwh": "4.50", "r_uthb_kwh": 1,
         "r_thb_kwh": "0.000001"}]}
