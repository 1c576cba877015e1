"""Parts of the chaos run: its plan, its proxies, what its witness notices. The run itself is scripts/chaos.sh."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from testnet.chaos import EPOCH_BLOCKS, KINDS, ProxiedRun, Witness, plan
from testnet.proxy import Proxy, State

NAMES = ["a", "b", "c", "d", "e"]


def test_the_plan_follows_from_the_seed() -> None:
    steps = plan(200, 3, NAMES)
    assert steps == plan(200, 3, NAMES) != plan(200, 4, NAMES)
    kinds = Counter(step.kind for step in steps)
    assert set(kinds) == set(KINDS)
    assert kinds["delete"] >= 1
    assert {step.kind for step in plan(50, 3, NAMES, ["cut", "slow"])} == {"cut", "slow"}
    assert all(step.victim != step.other and 0 < step.seconds <= 8 for step in steps)


def test_the_witness_sees_forks_and_repeated_transactions() -> None:
    witness = Witness()
    witness.told("a", 1, b"x" * 32, "EGAT", [b"t" * 32], 1.0)
    witness.told("b", 1, b"x" * 32, "EGAT", [b"t" * 32], 2.0)
    witness.told("a", 2, b"y" * 32, "EGAT", [], 4.5)
    assert witness.contradictions == []
    assert witness.longest_gap_s == 3.5
    witness.told("b", 2, b"z" * 32, "EGAT", [], 5.0)
    witness.told("b", 3, b"w" * 32, "EGAT", [b"t" * 32], 5.0)
    assert len(witness.contradictions) == 2
    assert witness.proposed == {"EGAT": 3}


def test_nodes_know_one_another_through_proxies_only(tmp_path: Path) -> None:
    run = ProxiedRun(tmp_path, 9500)
    assert run.new_genesis().parameters.epoch_length == EPOCH_BLOCKS
    proxies = run.proxies()
    assert len(proxies) == 20
    ports = {proxy.port for proxy in proxies.values()}
    assert len(ports) == 20
    for peer in run.authorities:
        environment = run.node(peer).environment
        known = environment["GRIDTOKENX_NETWORK__BOOTSTRAP"]
        assert sum(f"/tcp/{port}/" in known for port in ports) == 4
        assert f"/tcp/{peer.port}/" not in known
        assert f"/tcp/{peer.port}" not in environment["GRIDTOKENX_NETWORK__ANNOUNCE"]


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def test_a_proxy_forwards_delays_holds_back_and_cuts() -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        [free] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = free.socket.getsockname()[1]
        await free.aclose()
        proxy = Proxy(port, listener.socket.getsockname()[1])
        await nursery.start(proxy.run)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"one")
            assert await stream.receive_some(9) == b"one"
            proxy.become(State.SLOW, 0.01)
            await stream.send_all(b"two")
            assert await stream.receive_some(9) == b"two"
            proxy.become(State.SILENT)
            await stream.send_all(b"three")
            with trio.move_on_after(0.05) as waited:
                await stream.receive_some(9)
            assert waited.cancelled_caught
            proxy.become(State.OPEN)
            assert await stream.receive_some(9) == b"three"
            proxy.become(State.CUT)
            with trio.fail_after(5):
                try:
                    assert await stream.receive_some(9) == b""
                except trio.BrokenResourceError:
                    await trio.sleep(0)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with trio.fail_after(5), pytest.raises((AssertionError, trio.BrokenResourceError)):
                assert await stream.receive_some(9)
        nursery.cancel_scope.cancel()
