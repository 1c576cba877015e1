"""Requests between peers and rpc sessions of clients, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from network_support import attacker, key, make, until, works

from gridtokenx import codec
from gridtokenx.errors import GridTokenXError
from gridtokenx.network.client import RpcClient, connect
from gridtokenx.network.framing import frame_bytes
from gridtokenx.network.identity import peer_id_of
from gridtokenx.network.network import Network
from gridtokenx.network.rpc import RPC_PROTOCOL, RpcSession
from gridtokenx.network.settings import (
    AddressError,
    PeerGone,
    Rate,
    RemoteError,
    RequestTimeout,
    TooLarge,
)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Network, Network]]:
    server = make(1, gossip=False)
    async with server.running():
        asker = make(2, gossip=False, bootstrap=tuple(server.addresses))
        async with asker.running():
            await until(lambda: asker.peers() and asker.peers()[0].connected)
            yield server, asker


async def test_requests_are_answered_also_at_once_and_big() -> None:
    async def double(public: bytes, payload: bytes) -> bytes:
        assert public == key(2).public
        if payload.startswith(b"wait"):
            await trio.sleep(0.05)
        return payload * 2

    async with two() as (server, asker):
        server.serve("double", double)
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            answers[number] = await asker.request(server.public, "double", b"wait %d" % number)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, number)
        assert answers == {number: b"wait %d" % number * 2 for number in range(8)}
        big = bytes(1 << 20)
        assert await asker.request(server.public, "double", big) == big * 2
        with pytest.raises(TooLarge):
            await asker.request(server.public, "double", bytes((1 << 20) + 1))


async def test_failed_requests_have_typed_errors() -> None:
    class NotFound(GridTokenXError):
        pass

    async def handler(public: bytes, payload: bytes) -> bytes:
        if payload == b"typed":
            raise NotFound("no block 7")
        if payload == b"bug":
            raise ZeroDivisionError
        if payload == b"huge":
            return bytes(5 << 20)
        await trio.sleep_forever()
        return b""

    async with two() as (server, asker):
        server.serve("fail", handler)
        for payload, code in ((b"typed", "NotFound"), (b"bug", "internal"), (b"huge", "too_large")):
            with pytest.raises(RemoteError) as caught:
                await asker.request(server.public, "fail", payload)
            assert caught.value.code == code
        with pytest.raises(RequestTimeout):
            await asker.request(server.public, "fail", b"hang", timeout_s=0.1)
        assert asker.peers()[0].score < 0
        with pytest.raises(PeerGone, match="does not speak"):
            await asker.request(server.public, "unknown", b"")
        with pytest.raises(PeerGone, match="not connected"):
            await asker.request(key(9).public, "fail", b"")


async def test_a_peer_that_goes_ends_the_request() -> None:
    started = trio.Event()

    async def hang(public: bytes, payload: bytes) -> bytes:
        started.set()
        await trio.sleep_forever()
        return b""

    async with two() as (server, asker):
        server.serve("hang", hang)

        async def leave() -> None:
            await started.wait()
            server.disconnect(asker.public)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            with pytest.raises(PeerGone):
                await asker.request(server.public, "hang", b"")


async def test_strangers_get_no_answers_before_the_handshake() -> None:
    server = make(3, gossip=False, handshake_timeout_s=0.5)
    async with server.running():
        async with attacker(server, 66) as stranger:
            stream = await stranger.open("/gridtokenx/peers/1")
            with pytest.raises(PeerGone), trio.fail_after(3):
                await stream.write_frame(b"")
                await stream.read_exactly(1)
        await works(server)


# ------------------------------------------------------------------ rpc


@asynccontextmanager
async def session(handler: Any, **options: Any) -> AsyncIterator[tuple[Network, RpcClient]]:
    server = make(1, gossip=False, **options)
    server.serve_rpc(handler)
    async with server.running(), connect(server.addresses[0]) as client:
        yield server, client


async def test_concurrent_calls_share_one_session() -> None:
    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        await trio.sleep(params["wait_ms"] / 1000)
        return {"method": method, "number": params["number"]}

    async with session(handler) as (server, client):
        order: list[int] = []

        async def call(number: int) -> None:
            answer = await client.call("work", {"number": number, "wait_ms": 10 * (5 - number)})
            assert answer == {"method": "work", "number": number}
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(call, number)
        assert order == [4, 3, 2, 1, 0]
        assert server.statistics()["rpc_sessions"] == 1


async def test_handlers_start_in_the_order_of_the_requests() -> None:
    seen: list[int] = []

    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        seen.append(params)
        await trio.sleep(0)
        return None

    async with session(handler) as (_, client):
        for number in range(300):
            client._outlet.push(codec.encode([number + 1, "submit", number]))
        await until(lambda: len(seen) == 300)
        assert seen == list(range(300))


async def test_errors_carry_code_and_message() -> None:
    class Refused(GridTokenXError):
        code = "nonce_too_low"

    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        if method == "typed":
            raise Refused("nonce 3; the account is at 5")
        if method == "float":
            return 0.5
        if method == "huge":
            return bytes(5 << 20)
        if method == "hang":
            await trio.sleep_forever()
        raise RuntimeError("a bug")

    async with session(handler) as (_, client):
        for method, code in (("typed", "nonce_too_low"), ("bug", "internal"), ("float", "CodecError"),
                             ("huge", "too_large")):
            with pytest.raises(RemoteError) as caught:
                await client.call(method)
            assert caught.value.code == code
        with pytest.raises(RequestTimeout):
            await client.call("hang", timeout_s=0.1)
        with pytest.raises(TooLarge):
            await client.call("big", bytes(1 << 20))


async def test_pushes_reach_the_subscriber_until_it_leaves() -> None:
    sessions: list[RpcSession] = []

    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        sessions.append(session)
        return "subscribed"

    async with session(handler) as (server, client):
        assert await client.call("subscribe", ["blocks"]) == "subscribed"
        for number in range(100):
            assert sessions[0].push("blocks", {"height": number})
        got = []
        async for push in client.pushes():
            got.append((push.subscription, push.data["height"]))
            if len(got) == 100:
                break
        assert got == [("blocks", number) for number in range(100)]
        sessions[0].close("maintenance")
        with pytest.raises(PeerGone, match="maintenance"):
            async for _ in client.pushes():
                pytest.fail("nothing more is pushed")
        with pytest.raises(PeerGone, match="maintenance"):
            await client.call("subscribe")
        assert not sessions[0].push("blocks", 1)
        await until(lambda: server.statistics()["rpc_sessions"] == 0)


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    sessions: list[RpcSession] = []

    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        sessions.append(session)
        return None

    server = make(1, gossip=False, rpc_queue_bytes=1 << 20)
    server.serve_rpc(handler)
    async with server.running():
        async with attacker(server, 66) as slow:
            stream = await slow.open(RPC_PROTOCOL)
            await stream.write_frame(codec.encode([1, "subscribe", None]))
            await until(lambda: sessions)
            pushed = 0
            with trio.fail_after(3):
                while sessions[0].push("depth", bytes(32 << 10)):
                    pushed += 1
                    await trio.sleep(0)
            assert pushed < 100
            assert "too slow" in sessions[0].reason
            await until(lambda: server.statistics()["rpc_sessions"] == 0)
        async with connect(server.addresses[0]) as client:  # others are served on
            assert await client.call("still") is None


async def test_malformed_requests_end_only_their_session() -> None:
    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        return method

    async with session(handler) as (server, client):
        for raw in (b"\xff\x00junk", codec.encode([0, "m", None]), codec.encode(["1", "m", None]),
                    codec.encode([1, "m" * 65, None]), codec.encode({"id": 1}), b""):
            async with attacker(server, 66) as bad:
                stream = await bad.open(RPC_PROTOCOL)
                await stream.write_frame(raw)
                farewell = codec.decode(await stream.read_frame(1 << 16))
                assert farewell[:2] == [0, None]
                assert "malformed" in farewell[2]
        async with attacker(server, 66) as bad:
            stream = await bad.open(RPC_PROTOCOL)
            await stream.write(b"\x7f\xff\xff\xff")
            assert "at most" in codec.decode(await stream.read_frame(1 << 16))[2]
        assert await client.call("fine") == "fine"


async def test_too_many_sessions_are_refused_with_the_reason() -> None:
    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        return None

    async with session(handler, rpc_max_sessions=1) as (server, first):
        async with connect(server.addresses[0]) as second:
            with pytest.raises(PeerGone, match="at most 1 sessions"):
                await second.call("status")
        await first.call("status")


async def test_a_session_beyond_its_rate_is_slowed_not_refused() -> None:
    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        return None

    async with session(handler, rpc_requests=Rate(per_s=100, burst=10)) as (_, client):
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(client.call, "status")
        assert trio.current_time() - start >= 0.15


async def test_unreachable_nodes_and_bad_addresses_have_clear_errors() -> None:
    server = make(1, gossip=False)
    async with server.running():
        address = server.addresses[0]
        wrong = address.rsplit("/", 1)[0] + "/" + peer_id_of(key(2).public).to_base58()
        with pytest.raises(PeerGone):
            async with connect(wrong):
                pytest.fail("another identity")
        with pytest.raises(PeerGone, match="does not speak"):
            async with connect(address):
                pytest.fail("it serves no rpc")
    with pytest.raises(PeerGone):
        async with connect(address):
            pytest.fail("nobody is there")
    with pytest.raises(AddressError):
        async with connect("/ip4/127.0.0.1/tcp/1"):
            pytest.fail("no identity")


async def test_private_networks_need_the_key() -> None:
    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        return "inside"

    psk = "ab" * 32
    server = make(1, gossip=False, psk=psk, handshake_timeout_s=1.0)
    server.serve_rpc(handler)
    async with server.running():
        async with connect(server.addresses[0], psk=psk) as client:
            assert await client.call("status") == "inside"
        with pytest.raises(PeerGone):
            async with connect(server.addresses[0], timeout_s=1.5):
                pytest.fail("without the key")
        member = make(2, gossip=False, psk=psk, bootstrap=tuple(server.addresses))
        async with member.running():
            await until(lambda: member.peers() and member.peers()[0].connected)


async def test_the_body_of_a_session_raises_its_own_exceptions() -> None:
    async def handler(session: RpcSession, method: str, params: Any) -> Any:
        return None

    server = make(1, gossip=False)
    server.serve_rpc(handler)
    async with server.running():
        with pytest.raises(KeyError):
            async with connect(server.addresses[0]):
                raise KeyError("mine")
    assert frame_bytes(b"ab") == b"\x00\x00\x00\x02ab"
