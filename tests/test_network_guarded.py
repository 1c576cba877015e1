"""Every trap of py-libp2p below pubsub: what a stranger sends ends its own connection and nothing else."""

from __future__ import annotations

import struct
from random import Random

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_DATA, TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT
from network_support import attacker, key, make, until, works

from gridtokenx import codec
from gridtokenx.network.framing import FrameStream
from gridtokenx.network.limits import Offence
from gridtokenx.network.muxer import MAX_STREAMS, MAX_WINDOW, GuardedYamux
from gridtokenx.network.network import HELLO_PROTOCOL, Network
from gridtokenx.network.settings import PROTOCOL_VERSION, PeerGone


def port_of(network: Network) -> int:
    return int(network.addresses[0].split("/")[4])


async def test_a_raising_stream_handler_ends_its_stream_only() -> None:
    async def fail(stream: object) -> None:
        raise RuntimeError("a handler with a bug")

    network = make(2, gossip=False)
    network._host.set_stream_handler("/test/fail/1", fail)  # type: ignore[arg-type]
    async with network.running(), attacker(network, 66) as peer:
        for _ in range(3):
            stream = await peer.open("/test/fail/1")
            with pytest.raises(PeerGone), trio.fail_after(3):
                await stream.read_exactly(1)
        assert network.statistics()["failed_stream_handlers"] == 3
        assert not peer.muxed.is_closed
        await works(network)


async def test_garbage_connections_leave_nothing_behind() -> None:
    random = Random(1)
    network = make(1, gossip=False, handshake_timeout_s=1.0)
    async with network.running():
        before = len(trio.lowlevel.current_root_task().child_nurseries)

        async def garbage(number: int) -> None:
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(network))
            async with stream:
                try:
                    match number % 4:
                        case 0:
                            await stream.send_all(random.randbytes(2000))
                        case 1:  # a length prefix of 2^63 before the negotiation
                            await stream.send_all(b"\xff" * 8 + b"\x7f" + bytes(5000))
                        case 2:  # negotiates noise, then nonsense
                            await stream.send_all(b"\x13/multistream/1.0.0\n\x07/noise\n" + random.randbytes(500))
                        case _:
                            await trio.sleep(0.1)  # says nothing and leaves
                    with trio.move_on_after(0.2):
                        while await stream.receive_some(4096):
                            pass
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for number in range(32):
                    nursery.start_soon(garbage, number)
        await until(lambda: not network._swarm.accepted, 5)
        assert len(trio.lowlevel.current_root_task().child_nurseries) == before
        await works(network)


async def test_slots_of_closed_connections_are_given_back() -> None:
    # libp2p holds one for every connection ever accepted and goes deaf after max_connections.
    network = make(1, gossip=False, max_connections=8)
    async with network.running():
        for _ in range(20):
            async with attacker(network, 66) as peer:
                await peer.hello()
            await until(lambda: network._swarm.accepted.total() < 4)
        await until(lambda: not network._swarm.accepted)
        await works(network)


async def test_connections_are_bounded_in_total_and_per_address() -> None:
    network = make(1, gossip=False, max_connections=8)
    async with network.running():
        streams = [await trio.open_tcp_stream("127.0.0.1", port_of(network)) for _ in range(8)]
        await until(lambda: network.statistics()["refused_connections"] == 4)  # half for loopback
        for stream in streams:
            await stream.aclose()
        await until(lambda: not network._swarm.accepted)
        await works(network)


async def test_a_peer_that_ignores_the_window_is_cut_off() -> None:
    network = make(1, gossip=False)
    async with network.running():
        async with attacker(network, 66) as peer:
            stream = await peer.open(HELLO_PROTOCOL)
            number = stream._muxed.stream_id  # type: ignore[attr-defined]
            frame = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, number, 60_000) + bytes(60_000)
            try:
                for _ in range(2 * MAX_WINDOW // 60_000):
                    await peer.muxed._write_frame(frame)
            except Exception:  # noqa: BLE001  the connection may end while this writes
                await trio.sleep(0)
            await until(lambda: peer.muxed.is_closed)
        await works(network)


async def test_a_flood_of_streams_is_cut_off() -> None:
    network = make(1, gossip=False)
    async with network.running():
        async with attacker(network, 66) as peer:
            try:
                for number in range(1001, 1001 + 4 * MAX_STREAMS, 2):
                    await peer.muxed._write_frame(
                        struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, FLAG_SYN, number, 0))
            except Exception:  # noqa: BLE001  the connection may end while this writes
                await trio.sleep(0)
            await until(lambda: peer.muxed.is_closed or network.statistics()["refused_streams"] > 0)
        await works(network)


async def test_random_muxer_frames_end_the_connection_only() -> None:
    random = Random(2)
    network = make(1, gossip=False)
    async with network.running():
        for _ in range(10):
            async with attacker(network, 66) as peer:
                try:
                    for _ in range(20):
                        header = struct.pack(YAMUX_HEADER_FORMAT, random.randrange(3), random.randrange(6),
                                             random.randrange(16), random.randrange(8), random.randrange(64))
                        await peer.muxed._write_frame(header + random.randbytes(random.randrange(64)))
                except Exception:  # noqa: BLE001  the connection may end while this writes
                    continue
        await works(network)


async def test_random_bytes_on_every_protocol() -> None:
    random = Random(3)
    network = make(1)
    network.set_authorities([key(66).public])

    async def echo(public: bytes, payload: bytes) -> bytes:
        return payload

    network.serve("echo", echo)
    async with network.running():
        protocols = [str(protocol) for protocol in network._host.multiselect.handlers]
        assert len(protocols) >= 7
        for protocol in protocols:
            for _ in range(2):
                async with attacker(network, 66) as peer:
                    await peer.hello()
                    stream = await peer.open(protocol)
                    try:
                        await stream.write(random.randbytes(random.randrange(1, 5000)))
                        with trio.move_on_after(0.05):
                            await stream.read_exactly(1)
                    except PeerGone:
                        continue
        await works(network)


async def test_hostile_hellos_are_refused() -> None:
    network = make(1, gossip=False)
    good = [PROTOCOL_VERSION, b"c" * 32, b"g" * 32, "x", 0, True, [], ""]
    async with network.running():
        for position, value in ((0, "1"), (1, 7), (3, b"x"), (4, -1), (5, 1), (6, [1]), (6, {}), (7, None)):
            async with attacker(network, 66) as peer:
                stream = await peer.open(HELLO_PROTOCOL)
                fields = list(good)
                fields[position] = value
                await stream.write_frame(codec.encode(fields))
                answer = codec.decode(await stream.read_frame(8192))
                assert answer[7] != ""
        async with attacker(network, 66) as peer:
            stream = await peer.open(HELLO_PROTOCOL)
            await stream.write_frame(codec.encode([*good[:6], ["/ip4/1.2.3.4/udp/1", "junk"], ""]))
            await stream.read_frame(8192)
            await until(lambda: any(info.score < 0 for info in network.peers()))
        await works(network)


async def test_bad_behaviour_leads_to_a_ban_except_of_authorities() -> None:
    network = make(1, gossip=False)
    async with network.running():
        async with attacker(network, 66) as peer:
            await peer.hello()
            for _ in range(6):
                network.report(key(66).public, Offence.INVALID)
            await until(lambda: peer.muxed.is_closed)
        async with attacker(network, 66) as peer:
            with pytest.raises(PeerGone), trio.fail_after(3):
                await peer.hello()
        network.set_authorities([key(67).public])
        async with attacker(network, 67) as peer:
            await peer.hello()
            for _ in range(50):
                network.report(key(67).public, Offence.INVALID)
            await trio.sleep(0.1)
            assert not peer.muxed.is_closed


async def test_a_cancelled_writer_does_not_break_other_streams() -> None:
    first = make(1, gossip=False)

    async def echo(public: bytes, payload: bytes) -> bytes:
        return payload

    first.serve("echo", echo)
    async with first.running():
        second = make(2, gossip=False, bootstrap=tuple(first.addresses))
        async with second.running():
            await until(lambda: second.peers() and second.peers()[0].connected)
            [connection] = second._swarm.get_connections()
            for delay in range(20):
                stream: FrameStream = await second._host.open_stream(connection, "/gridtokenx/echo/1", 3)
                with trio.move_on_after(delay / 10_000):
                    while True:
                        await stream.write(bytes(200_000))
                await stream.reset()
            assert await second.request(first.public, "echo", b"fine") == b"fine"
            assert connection is second._swarm.get_connections()[0]


async def test_a_connection_that_takes_no_bytes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridtokenx.network.muxer.WRITE_TIMEOUT_S", 0.3)
    network = make(1, gossip=False)
    async with network.running():
        async with attacker(network, 66) as peer:
            await peer.hello()
            [connection] = network._swarm.get_connections()
            muxed = connection.muxed_conn
            assert isinstance(muxed, GuardedYamux)
            peer.muxed._nursery.cancel_scope.cancel()  # type: ignore[union-attr]  reads no more, closes nothing
            await trio.sleep(0)
            with pytest.raises(Exception, match="took no bytes"), trio.fail_after(5):
                while True:
                    await muxed._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, 2, 0, 0, 0) * 50_000)
            await until(lambda: connection.is_closed)
        await works(network)


async def test_a_stopped_network_frees_its_port() -> None:
    network = make(1, gossip=False)
    async with network.running():
        port = port_of(network)
    async with make(2, gossip=False, listen=(f"/ip4/127.0.0.1/tcp/{port}",)).running():
        pass
