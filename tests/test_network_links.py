"""Handshake, links between authorities, and finding one another, over real sockets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
import trio
from network_support import attacker, key, make, until, works

from gridtokenx.network.identity import with_peer_id
from gridtokenx.network.muxer import GuardedYamux
from gridtokenx.network.network import Network
from gridtokenx.network.settings import Channel, ListenError, NetworkError, PeerGone, TooLarge

Frames = list[tuple[bytes, Channel, bytes]]


def collect(network: Network) -> Frames:
    frames: Frames = []

    def take(public: bytes, channel: Channel, frame: bytes) -> None:
        frames.append((public, channel, frame))

    network.on_frame = take
    return frames


async def pair(stack: AsyncExitStack, **options: object) -> tuple[Network, Network]:
    first = make(1, **options)
    await stack.enter_async_context(first.running())
    second = make(2, bootstrap=tuple(first.addresses), **options)
    await stack.enter_async_context(second.running())
    for network in (first, second):
        network.set_authorities([key(1).public, key(2).public])
    await until(lambda: first.linked() and second.linked())
    return first, second


async def crash(network: Network) -> None:
    """What its peers see of a kill -9: sockets that end without a word."""
    for connection in network._swarm.get_connections():
        assert isinstance(connection.muxed_conn, GuardedYamux)
        await connection.muxed_conn.sever()


async def test_frames_arrive_in_order_on_their_channels() -> None:
    async with AsyncExitStack() as stack:
        first, second = await pair(stack, gossip=False)
        frames = collect(second)
        big = bytes(range(256)) * 4096 * 3
        assert first.send(second.public, Channel.BODIES, big)
        for number in range(500):
            assert first.send(second.public, Channel.VOTES, number.to_bytes(4, "big") * 50)
        assert first.broadcast(Channel.VOTES, b"last") == 1
        await until(lambda: len(frames) == 502)
        votes = [frame for _, channel, frame in frames if channel is Channel.VOTES]
        assert votes == [number.to_bytes(4, "big") * 50 for number in range(500)] + [b"last"]
        assert [frame for _, channel, frame in frames if channel is Channel.BODIES] == [big]
        assert {public for public, _, _ in frames} == {first.public}
        # Coalesced: far fewer writes than frames.
        assert first.statistics()["link_writes"] < 100
        with pytest.raises(TooLarge):
            first.send(second.public, Channel.VOTES, bytes((1 << 20) + 1))


async def test_a_slow_handler_fills_a_bounded_queue_and_drops_are_counted() -> None:
    async with AsyncExitStack() as stack:
        first, second = await pair(stack, gossip=False, queue_bytes=1 << 20, queue_frames=64)
        release = trio.Event()

        async def stuck(public: bytes, channel: Channel, frame: bytes) -> None:
            await release.wait()

        second.on_frame = stuck
        sent = [first.send(second.public, Channel.BODIES, bytes(64 << 10)) for _ in range(64)]
        assert sent.count(True) == 16  # a MiB waits, the rest is refused at once
        assert first.peers()[0].dropped == sent.count(False)
        release.set()
        assert not first.send(key(9).public, Channel.VOTES, b"nobody there")


async def test_a_raising_frame_handler_does_not_break_the_link() -> None:
    async with AsyncExitStack() as stack:
        first, second = await pair(stack, gossip=False)
        seen: list[bytes] = []

        def fail(public: bytes, channel: Channel, frame: bytes) -> None:
            seen.append(frame)
            raise RuntimeError("bug of the node")

        second.on_frame = fail
        for frame in (b"one", b"two"):
            first.send(second.public, Channel.VOTES, frame)
        await until(lambda: len(seen) == 2)
        assert second.statistics()["link_handlers_failed"] == 2


async def test_an_authority_that_crashed_is_linked_again() -> None:
    async with AsyncExitStack() as stack:
        first = make(1, gossip=False, authority_backoff_s=(0.05, 0.5))
        await stack.enter_async_context(first.running())
        authorities = [key(1).public, key(2).public]
        first.set_authorities(authorities)
        frames = collect(first)
        port = 0
        for life in range(2):
            options = {"listen": (f"/ip4/127.0.0.1/tcp/{port}",), "bootstrap": () if life else tuple(first.addresses)}
            second = make(2, gossip=False, **options)
            async with second.running():
                second.set_authorities(authorities)
                await until(lambda second=second: first.linked() and second.linked(), 5)
                second.send(first.public, Channel.VOTES, b"life %d" % life)
                await until(lambda life=life: len(frames) == life + 1)
                port = int(second.addresses[0].split("/")[4])
                await crash(second)
            await until(lambda: not first.linked())
        # The second life knew no address: it was dialled by the first.
        assert [frame for _, _, frame in frames] == [b"life 0", b"life 1"]


async def test_a_silent_authority_is_cut_off_and_dialled_again() -> None:
    async with AsyncExitStack() as stack:
        first = make(1, gossip=False, link_silence_s=0.4)
        await stack.enter_async_context(first.running())
        mute = make(2, gossip=False, bootstrap=tuple(first.addresses), link_silence_s=1e6)
        await stack.enter_async_context(mute.running())
        for network in (first, mute):
            network.set_authorities([key(1).public, key(2).public])
        await until(lambda: first.linked() and mute.linked())
        old = mute._swarm.get_connections()[0]
        await until(lambda: old.is_closed, 3)
        await until(lambda: first.linked() and mute.linked(), 3)


async def test_signs_of_life_keep_an_idle_link_up() -> None:
    async with AsyncExitStack() as stack:
        first, second = await pair(stack, gossip=False, link_silence_s=0.4)
        connection = first._swarm.get_connections()[0]
        await trio.sleep(1.2)
        assert not connection.is_closed
        assert first.linked() and second.linked()


async def test_only_authorities_get_links() -> None:
    async with AsyncExitStack() as stack:
        first, second = await pair(stack, gossip=False)
        frames = collect(first)
        async with attacker(first, 66) as stranger:
            await stranger.hello()
            stream = await stranger.open("/gridtokenx/votes/1")
            with pytest.raises(PeerGone), trio.fail_after(3):
                await stream.write_frame(b"vote")
                await stream.read_exactly(1)
        first.set_authorities([first.public])  # the second is voted out
        await until(lambda: not first.linked() and not second.linked(), 3)
        assert frames == []


async def test_an_oversize_frame_ends_the_connection_of_its_sender() -> None:
    first = make(1, gossip=False)
    async with first.running():
        first.set_authorities([key(66).public])
        async with attacker(first, 66) as authority:
            await authority.hello()
            stream = await authority.open("/gridtokenx/votes/1")
            await stream.write(b"\xff\xff\xff\xff" + bytes(1000))
            await until(lambda: authority.muxed.is_closed, 3)
        await works(first)


@pytest.mark.parametrize(("options", "reason"), [
    ({"chain_id": b"x" * 32}, "another chain"),
    ({"protocol_version": 2}, "protocol version"),
])
async def test_another_chain_or_version_is_refused_with_the_reason(options: dict[str, bytes], reason: str) -> None:
    first = make(1)
    async with first.running():
        other = make(2, bootstrap=tuple(first.addresses), **options)
        async with other.running():
            await until(lambda: first.peers() and other.peers())
            for network in (first, other):
                [info] = network.peers()
                assert not info.connected
                assert reason in info.error
            await until(lambda: not first._swarm.get_connections() or not other._swarm.get_connections())
            with pytest.raises(PeerGone):
                await other.request(first.public, "peers", b"")


async def test_a_full_node_says_so_but_takes_authorities() -> None:
    first = make(1, max_peers=1, gossip=False)
    async with first.running():
        first.set_authorities([key(1).public, key(4).public])
        async with AsyncExitStack() as stack:
            others = [make(number, bootstrap=tuple(first.addresses), gossip=False, peer_exchange=False)
                      for number in (2, 3, 4)]
            await stack.enter_async_context(others[0].running())
            await until(lambda: len(first.peers()) == 1)
            await stack.enter_async_context(others[1].running())
            await until(lambda: others[1].peers() and "has its 1 peers" in others[1].peers()[0].error)
            await stack.enter_async_context(others[2].running())
            await until(lambda: others[2].peers() and others[2].peers()[0].connected)


async def test_five_nodes_find_one_another_from_one_address() -> None:
    async with AsyncExitStack() as stack:
        first = make(1, gossip=False)
        await stack.enter_async_context(first.running())
        nodes = [first, *(make(number, gossip=False, bootstrap=tuple(first.addresses)) for number in range(2, 6))]
        publics = [node.public for node in nodes]
        for node in nodes[1:]:
            await stack.enter_async_context(node.running())
        for node in nodes:
            node.set_authorities(publics)
        await until(lambda: all(len(node.linked()) == 4 for node in nodes))
        # An observer that knows one node finds the rest as well.
        observer = make(9, gossip=False, bootstrap=tuple(nodes[3].addresses))
        await stack.enter_async_context(observer.running())
        observer.set_authorities(publics)
        await until(lambda: sum(info.connected for info in observer.peers()) == 5)


async def test_a_taken_port_is_reported_and_not_shared() -> None:
    first = make(1)
    async with first.running():
        port = first.addresses[0].split("/")[4]
        with pytest.raises(ListenError, match=f"cannot listen on /ip4/127.0.0.1/tcp/{port}"):
            async with make(2, listen=(f"/ip4/127.0.0.1/tcp/{port}",)).running():
                pytest.fail("the port is taken")


async def test_exceptions_of_the_body_come_out_as_they_are() -> None:
    network = make(1)
    with pytest.raises(KeyError):
        async with network.running():
            raise KeyError("mine")
    with pytest.raises(NetworkError, match="runs once"):
        async with network.running():
            pytest.fail("a network runs once")
    with trio.move_on_after(0.2) as scope:
        async with make(2).running():
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_nodes_on_one_lan_find_one_another_without_addresses() -> None:
    chain = bytes(Random().randbytes(32))  # other tests may run on this LAN
    first, second = (make(number, chain_id=chain, gossip=False, mdns=True, listen=("/ip4/0.0.0.0/tcp/0",))
                     for number in (1, 2))
    async with first.running(), second.running():
        try:
            await until(lambda: any(info.connected for info in first.peers()), 6)
        except trio.TooSlowError:
            pytest.skip("no multicast between sockets of this machine")
        await until(lambda: {info.public for info in second.peers() if info.connected} == {first.public})


CHILD = """
import sys, trio
sys.path.insert(0, sys.argv[1])
from network_support import key, make
async def main():
    network = make(2, gossip=False, listen=(f"/ip4/127.0.0.1/tcp/{sys.argv[2]}",))
    network.set_authorities([key(1).public, key(2).public])
    async with network.running():
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.processes
async def test_killed_and_paused_processes_are_linked_again() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = with_peer_id(f"/ip4/127.0.0.1/tcp/{port}", key(2).public)
    network = make(1, gossip=False, bootstrap=(address,), authority_backoff_s=(0.1, 0.5), link_silence_s=0.6)
    network.set_authorities([key(1).public, key(2).public])

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", CHILD, str(Path(__file__).parent), str(port)])

    child = start()
    try:
        async with network.running():
            await until(network.linked, 20)
            child.kill()
            child.wait()
            await until(lambda: not network.linked())
            child = start()
            await until(network.linked, 20)
            child.send_signal(signal.SIGSTOP)  # a silent partition: the connection stays, nothing comes
            await until(lambda: not network.linked(), 10)
            child.send_signal(signal.SIGCONT)
            await until(network.linked, 10)
    finally:
        child.kill()
        child.wait()
