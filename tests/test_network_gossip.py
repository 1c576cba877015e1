"""Gossip over real sockets: it reaches all, survives what is hostile, and a restart loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint
from network_support import Attacker, attacker, key, make, until, works

from gridtokenx.network.gossip import MESHSUB, SeenCache
from gridtokenx.network.identity import key_pair_of, peer_id_of
from gridtokenx.network.network import Network
from gridtokenx.network.settings import NetworkError, Rate, TooLarge, Topic

Messages = list[tuple[Topic, bytes, bytes]]
MANY = Rate(per_s=1e6, burst=1e6)
VAST = Rate(per_s=1e12, burst=1e12)
UNLIMITED = {"peer_gossip_messages": MANY, "peer_gossip_bytes": VAST, "origin_gossip_messages": MANY,
             "origin_gossip_bytes": VAST}


def collect(network: Network, verdict: bool | None = True) -> Messages:
    messages: Messages = []

    async def take(topic: Topic, data: bytes, forwarder: bytes, origin: bytes) -> bool | None:
        messages.append((topic, data, origin))
        return verdict

    network.on_gossip = take
    return messages


def meshed(networks: Sequence[Network], least: int = 1) -> bool:
    return all(network._gossip is not None and len(network._gossip.mesh(topic)) >= least
               for network in networks for topic in Topic)


async def line(stack: AsyncExitStack, count: int, **options: object) -> list[Network]:
    """Nodes of which each knows only the one before it."""
    networks: list[Network] = []
    for number in range(1, count + 1):
        bootstrap = tuple(networks[-1].addresses) if networks else ()
        networks.append(make(number, bootstrap=bootstrap, peer_exchange=False, **options))
        await stack.enter_async_context(networks[-1].running())
    await until(lambda: meshed(networks))
    return networks


async def test_gossip_reaches_all_also_over_others() -> None:
    async with AsyncExitStack() as stack:
        networks = await line(stack, 4)
        inboxes = [collect(network) for network in networks]
        await until(lambda: meshed(networks[1:3], 2))
        for topic in Topic:
            await networks[0].publish(topic, topic.encode() * 1000)
        await networks[3].publish(Topic.TX, bytes(64 << 10))
        await until(lambda: [len(inbox) for inbox in inboxes] == [1, 4, 4, 3])
        assert {(topic, origin) for topic, _, origin in inboxes[3]} == {(topic, key(1).public) for topic in Topic}
        assert inboxes[0] == [(Topic.TX, bytes(64 << 10), key(4).public)]
        big = bytes(range(256)) * 6000  # a block of 1.5 MB
        await networks[0].publish(Topic.BLOCK, big)
        await until(lambda: (Topic.BLOCK, big, key(1).public) in inboxes[3])
        with pytest.raises(TooLarge):
            await networks[0].publish(Topic.BLOCK, bytes(3 << 20))


async def test_a_restart_loses_no_messages() -> None:
    # libp2p numbers messages from the second of the start on, so that a restarted node repeats its numbers.
    async with AsyncExitStack() as stack:
        first = make(1, **UNLIMITED)
        await stack.enter_async_context(first.running())
        inbox = collect(first)
        for life in range(2):
            second = make(2, bootstrap=tuple(first.addresses), **UNLIMITED)
            async with second.running():
                await until(lambda second=second: meshed([first, second]))
                for number in range(60):
                    await second.publish(Topic.TX, b"%d/%d" % (life, number))
                await until(lambda life=life: len(inbox) == 60 * (life + 1))
        assert len({data for _, data, _ in inbox}) == 120


async def test_raising_and_slow_handlers_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridtokenx.network.gossip.HANDLER_TIMEOUT_S", 0.1)
    async with AsyncExitStack() as stack:
        first, second, third = await line(stack, 3)
        calls: list[bytes] = []
        inbox = collect(third)

        async def fail(topic: Topic, data: bytes, forwarder: bytes, origin: bytes) -> bool:
            calls.append(data)
            if data == b"slow":
                await trio.sleep_forever()
            if data == b"bug":
                raise RuntimeError("a validator with a bug")
            return True

        second.on_gossip = fail
        for data in (b"bug", b"slow", b"fine"):
            await first.publish(Topic.TX, data)
        await until(lambda: inbox)
        assert calls == [b"bug", b"slow", b"fine"]
        assert inbox == [(Topic.TX, b"fine", key(1).public)]  # only what was found good is passed on
        assert all(info.score == 0 for info in second.peers())


async def test_invalid_messages_are_not_passed_on_and_cost_the_sender() -> None:
    async with AsyncExitStack() as stack:
        first, second, third = await line(stack, 3)
        collect(second, verdict=False)
        inbox = collect(third)
        await first.publish(Topic.TX, b"bad")
        await until(lambda: any(info.score < 0 for info in second.peers()))
        await trio.sleep(0.1)
        assert inbox == []


async def open_gossip(peer: Attacker) -> Attacker:
    await peer.hello()
    peer.stream = await peer.open(MESHSUB)  # type: ignore[attr-defined]
    return peer


async def send(peer: Attacker, raw: bytes) -> None:
    await peer.stream.write(encode_uvarint(len(raw)) + raw)  # type: ignore[attr-defined]


def message(number: int, topic: str, data: bytes, sequence: int = 1) -> rpc_pb2.Message:
    made = rpc_pb2.Message(data=data, topicIDs=[topic], from_id=peer_id_of(key(number).public).to_bytes(),
                           seqno=sequence.to_bytes(8, "big"))
    made.signature = key_pair_of(key(number)).private_key.sign(b"libp2p-pubsub:" + made.SerializeToString())
    return made


async def test_the_killers_of_pubsub() -> None:
    random = Random(4)
    network = make(1)
    inbox = collect(network)
    async with network.running():
        assert network._gossip is not None
        topic = network._gossip.names[Topic.TX]
        good = message(66, topic, b"good")
        junk_id = rpc_pb2.Message(data=b"x", topicIDs=[topic], from_id=b"junk", key=b"\xff\xfe", seqno=bytes(8),
                                  signature=bytes(64))
        forged = rpc_pb2.Message()
        forged.CopyFrom(good)
        forged.data = b"forged"
        short = message(66, topic, b"short", 2)
        short.seqno = b"1"
        two_topics = message(66, topic, b"two", 3)
        two_topics.topicIDs.append(topic)
        bad = [
            random.randbytes(200), b"\xff" * 50,
            *(rpc_pb2.RPC(publish=[each]).SerializeToString()
              for each in (junk_id, forged, short, two_topics, message(66, "other", b"x", 4), rpc_pb2.Message())),
            rpc_pb2.RPC(publish=[good] * 100).SerializeToString(),
            rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=str(n)) for n in range(50)]
                        ).SerializeToString(),
        ]
        for number, raw in enumerate(bad):
            async with attacker(network, 100 + number) as peer:
                await open_gossip(peer)
                await send(peer, raw)
                await until(lambda number=number: any(
                    info.public == key(100 + number).public and info.score < 0 for info in network.peers()) or
                    peer.muxed.is_closed)
        async with attacker(network, 99) as peer:
            await open_gossip(peer)
            await peer.stream.write(b"\xff\xff\xff\x7f" + bytes(5000))  # type: ignore[attr-defined]  claims 256 MiB
            await until(lambda: any(info.score < 0 for info in network.peers()))
        assert inbox == []
        async with attacker(network, 66) as peer:
            await open_gossip(peer)
            await send(peer, rpc_pb2.RPC(publish=[good, good]).SerializeToString())
            await until(lambda: inbox)
        assert [data for _, data, _ in inbox] == [b"good"]
        await works(network)


async def test_hostile_control_messages_leave_no_trace() -> None:
    random = Random(5)
    network = make(1)
    async with network.running():
        assert network._gossip is not None
        router = network._gossip.router
        topic = network._gossip.names[Topic.TX]
        async with attacker(network, 66) as peer:
            await open_gossip(peer)
            rpc = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)])
            for number in range(300):
                name = f"topic{number}"
                rpc.control.prune.append(rpc_pb2.ControlPrune(topicID=name, backoff=1 << 60))
                rpc.control.graft.append(rpc_pb2.ControlGraft(topicID=name))
                rpc.control.ihave.append(rpc_pb2.ControlIHave(topicID=name, messageIDs=[random.randbytes(40)]))
            rpc.control.prune.insert(0, rpc_pb2.ControlPrune(
                topicID=topic, backoff=1 << 60, peers=[rpc_pb2.PeerInfo(peerID=random.randbytes(38))]))
            rpc.control.ihave.insert(0, rpc_pb2.ControlIHave(
                topicID=topic, messageIDs=[random.randbytes(40) for _ in range(5000)]))
            rpc.control.iwant.append(rpc_pb2.ControlIWant(messageIDs=[random.randbytes(40) for _ in range(5000)]))
            await send(peer, rpc.SerializeToString())
            await until(lambda: topic in router.back_off)
            assert set(router.back_off) == {topic}
            assert set(router.graft_flood_tracking[peer_id_of(key(66).public)]) == {topic}
            assert all(names == {topic} for names in map(set, router.ihave_message_limits.values()))
            assert max(router.back_off[topic].values()) < 1 << 40
        await works(network)


async def test_a_flood_of_subscriptions_is_cut_off_and_does_not_stop_the_node() -> None:
    network = make(1)
    async with network.running():
        assert network._gossip is not None
        topic = network._gossip.names[Topic.TX]
        rpc = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=n % 2 == 0, topicid=topic) for n in range(16)])
        raw = rpc.SerializeToString()
        flood = (encode_uvarint(len(raw)) + raw) * 2000
        async with attacker(network, 66) as peer:
            await open_gossip(peer)
            try:
                await peer.stream.write(flood)  # type: ignore[attr-defined]
            except Exception:  # noqa: BLE001  the connection may end while this writes
                await trio.sleep(0)
            await until(lambda: peer.muxed.is_closed)
        assert network.statistics()["gossip_limited"] > 10
        await works(network)


async def test_rates_per_neighbour_and_per_origin() -> None:
    tight = Rate(per_s=1, burst=20)
    async with AsyncExitStack() as stack:
        first, second = await line(stack, 2, **{**UNLIMITED, "origin_gossip_messages": tight})
        inbox = collect(second)
        for number in range(60):
            await first.publish(Topic.TX, b"%d" % number)
        await until(lambda: second.statistics()["gossip_limited"] >= 38 and len(inbox) >= 20)
        assert len(inbox) <= 22
        assert second.peers()[0].dropped >= 38
        assert second.peers()[0].score == 0  # the neighbour is not to blame for the origin
    async with AsyncExitStack() as stack:
        first, second = await line(stack, 2, **{**UNLIMITED, "peer_gossip_messages": tight})
        inbox = collect(second)
        for number in range(40):
            await first.publish(Topic.TX, b"%d" % number)
        await until(lambda: second.statistics()["gossip_limited"] >= 18 and len(inbox) >= 20)
        assert len(inbox) <= 22
        assert second.peers()[0].score < 0


async def test_maps_stay_small() -> None:
    async with AsyncExitStack() as stack:
        first, second = await line(stack, 2, **UNLIMITED)
        inbox = collect(second)
        for number in range(300):
            await first.publish(Topic.TX, b"%d" % number)
            if number % 50 == 49:
                await until(lambda number=number: len(inbox) > number)
        await until(lambda: len(inbox) == 300)
        for network in (first, second):
            assert network._gossip is not None
            router = network._gossip.router
            assert not router.equivocation_detection
            assert all(len(times) <= 1 for times in router.recent_message_deliveries.values())
            assert len(network._gossip.pubsub.validation_cache.cache) == 0
    seen = SeenCache()
    for number in range(100_010):
        seen.add(number.to_bytes(4, "big"))
    assert len(seen) == 100_000


async def test_a_network_without_gossip_says_so() -> None:
    network = make(1, gossip=False)
    async with network.running():
        with pytest.raises(NetworkError, match="without gossip"):
            await network.publish(Topic.TX, b"x")
        other = make(2, bootstrap=tuple(network.addresses))
        async with other.running():
            await until(lambda: other.peers() and other.peers()[0].connected)
