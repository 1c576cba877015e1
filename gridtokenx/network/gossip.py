"""Gossip of transactions, blocks and grid state over libp2p's gossipsub 1.1, guarded.

Traps of py-libp2p 0.8.1 handled here, each with a test in test_network_gossip.py:

- Undecodable RPCs, senders whose key cannot be decoded and validators that raise end the whole process: reading,
  checking and delivering are done here, and nothing they raise goes further than the stream.
- Every subscription becomes a task, found by looking through all tasks there are: 64 KiB of them stop the process for
  minutes. Control messages and subscriptions have a rate of their own, and one RPC is handled at a time.
- Every message becomes a task without limit: here the messages of one neighbour are handled one after another,
  so a neighbour that sends too fast fills its own window.
- Sequence numbers restart at the second of the start, so a restarted node repeats its own and is ignored as seen:
  they start at the microsecond.
- The built-in spam limit drops honest traffic at 10 messages/s per neighbour: rates of our own, per neighbour and
  per origin, in messages and bytes.
- Subscription queues of 32 lose messages: there are none, messages go to the handler directly; outgoing queues are
  longer.
- The heartbeat is 120 s by default and stretched by "adaptive gossip"; an exception in it ends the process.
- A signed address record is rebuilt for every RPC and checked twice on arrival: it is neither sent nor read.
- A peer that comes back before its old connection is cleaned up loses its subscriptions, and is never sent a message
  again: they are kept while the stream on which it sent them lives.
- Two tasks write to one stream, so that the chunks of large messages can interleave: writes are serialized.
- Maps that grow with whatever a peer names (topics in PRUNE, back-offs, deliveries) or pin whole messages
  (equivocation): control messages are filtered first, and the maps are cut at each heartbeat.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import libp2p.pubsub.gossipsub as gossipsub_module
import libp2p.pubsub.pubsub as pubsub_module
import structlog
import trio
from google.protobuf.message import DecodeError
from libp2p.abc import IMuxedConn, INetStream
from libp2p.crypto.keys import PrivateKey as LibPrivateKey
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.pubsub_notifee import PubsubNotifee
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.tools.anyio_service import background_trio_service
from libp2p.tools.anyio_service.api import InternalManagerAPI
from libp2p.utils.varint import encode_uvarint
from nacl import bindings
from nacl.exceptions import BadSignatureError

from gridtokenx.network.framing import FrameStream
from gridtokenx.network.guarded import GuardedHost, GuardedManager
from gridtokenx.network.identity import NotEd25519, peer_id_of, public_of
from gridtokenx.network.limits import Offence, RateTable
from gridtokenx.network.settings import GossipHandler, NetworkConfig, PeerGone, TooLarge, Topic

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger()

MESHSUB = gossipsub_module.PROTOCOL_ID_V11
"""1.2 costs 2.3 times as much CPU per message."""
HEARTBEAT_S = 1
HANDLER_TIMEOUT_S = 5.0
_DEGREE, _DEGREE_LOW, _DEGREE_HIGH = 6, 4, 8
_SEEN_S = 120.0
_MAX_SEEN = 100_000
_MAX_CONTROL_ENTRIES = 64
_MAX_CONTROL_IDS = 2048
_MAX_MESSAGES_PER_RPC = 64
_MAX_BACK_OFF_S = 3600
_OUTGOING_RPCS = 256
_SEQUENCE_BYTES = 8

Report = Callable[[bytes, Offence, str], None]


def _no_record(host: object) -> tuple[bytes, bool]:  # noqa: ARG001
    return b"", False


gossipsub_module.env_to_send_in_RPC = _no_record  # type: ignore[attr-defined]
pubsub_module.env_to_send_in_RPC = _no_record  # type: ignore[attr-defined]


def _forgetful() -> Any:
    return deque[float](maxlen=1)


class SeenCache:
    """Message ids of the last two minutes, bounded; libp2p's own is swept by a thread per instance."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def has(self, key: bytes) -> bool:
        return key in self._seen

    def add(self, key: bytes) -> bool:
        if key in self._seen:
            return False
        self._seen[key] = time.monotonic() + _SEEN_S
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return True

    def sweep(self) -> None:
        now = time.monotonic()
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)


class GuardedGossipSub(GossipSub):
    """The router, with a heartbeat that survives and control messages that cannot fill memory."""

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__(
            protocols=[MESHSUB], degree=_DEGREE, degree_low=_DEGREE_LOW, degree_high=_DEGREE_HIGH,
            heartbeat_initial_delay=0.2, heartbeat_interval=HEARTBEAT_S, do_px=False, px_peers_count=0,
            prune_back_off=10, unsubscribe_back_off=5, adaptive_gossip_enabled=False, spam_protection_enabled=False,
            eclipse_protection_enabled=False, max_pending_messages_per_peer=16)
        self.topics = topics
        # Scores are kept for the whole network, not for gossip alone; without a scorer its code is skipped.
        self.scorer = None
        self.recent_message_deliveries = defaultdict(_forgetful)
        self.max_rpc = 1 << 20

    @property
    def manager(self) -> InternalManagerAPI:
        return GuardedManager(self._manager)  # type: ignore[return-value]

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:  # noqa: ARG002
        # A second message with the same id never gets here: it was seen.
        return True

    async def heartbeat(self) -> None:
        await trio.sleep(self.heartbeat_initial_delay)
        while True:
            try:
                grafts, prunes = self.mesh_heartbeat()
                self.fanout_heartbeat()
                await self._emit_control_msgs(grafts, prunes, self.gossip_heartbeat())
                self.mcache.shift()
                self._periodic_security_cleanup()
                self._trim()
            except Exception:
                log.exception("network.gossip_heartbeat_failed")
            await trio.sleep(HEARTBEAT_S)

    def _trim(self) -> None:
        now = int(time.time())
        for topic in list(self.back_off):
            if topic not in self.topics:
                del self.back_off[topic]
                continue
            entries = self.back_off[topic]
            for peer in [peer for peer, until in entries.items() if until <= now]:
                del entries[peer]
        for peer in list(self._pending_messages):
            self._prune_pending_messages(peer)
        self.equivocation_detection.clear()
        seen = self.pubsub.seen_messages if self.pubsub is not None else None
        if isinstance(seen, SeenCache):
            seen.sweep()

    def bounded(self, control: rpc_pb2.ControlMessage) -> rpc_pb2.ControlMessage:
        """What is left of a control message: our topics, a bounded number of entries and ids, nobody's addresses."""
        kept = rpc_pb2.ControlMessage()
        ids = 0
        for ihave in control.ihave[:_MAX_CONTROL_ENTRIES]:
            if ihave.topicID in self.topics and ids < _MAX_CONTROL_IDS:
                chosen = ihave.messageIDs[: _MAX_CONTROL_IDS - ids]
                ids += len(chosen)
                kept.ihave.append(rpc_pb2.ControlIHave(topicID=ihave.topicID, messageIDs=chosen))
        for iwant in control.iwant[:_MAX_CONTROL_ENTRIES]:
            if ids < _MAX_CONTROL_IDS:
                chosen = iwant.messageIDs[: _MAX_CONTROL_IDS - ids]
                ids += len(chosen)
                kept.iwant.append(rpc_pb2.ControlIWant(messageIDs=chosen))
        for graft in control.graft[:_MAX_CONTROL_ENTRIES]:
            if graft.topicID in self.topics:
                kept.graft.append(graft)
        for prune in control.prune[:_MAX_CONTROL_ENTRIES]:
            if prune.topicID in self.topics:
                kept.prune.append(rpc_pb2.ControlPrune(
                    topicID=prune.topicID, backoff=min(prune.backoff, _MAX_BACK_OFF_S)))
        return kept

    def send_rpc(self, peer_id: ID, rpc: rpc_pb2.RPC, priority: bool = False) -> None:
        # The same object goes to every neighbour, so that it is serialized once (see GuardedPubsub.write_msg).
        rpc.ClearField("senderRecord")
        queue = self.pubsub.peer_queues.get(peer_id) if self.pubsub is not None else None
        if queue is None:
            return
        if peer_id in self._pending_control or rpc.ByteSize() > queue.max_message_size:
            super().send_rpc(peer_id, rpc, priority)
        elif not queue.push(rpc, priority=priority):
            self._handle_dropped_rpc(peer_id, rpc, "queue_full")


class GuardedPubsub(Pubsub):
    """Reads, checks and delivers messages itself; topics, meshes and sending are libp2p's."""

    def __init__(self, gossip: Gossip, host: GuardedHost, router: GuardedGossipSub, max_rpc: int) -> None:
        self.gossip = gossip
        self._guarded_router = router
        self._locks: WeakKeyDictionary[INetStream, trio.Lock] = WeakKeyDictionary()
        self._serialized: tuple[rpc_pb2.RPC, bytes] | None = None
        self._reading: dict[ID, INetStream] = {}
        super().__init__(host, router, strict_signing=True, max_inbound_rpc_size=max_rpc,
                         max_subscriptions_per_rpc=16, max_subscriptions_per_peer=16, allowed_topics=router.topics)
        self.seen_messages.stop()
        self.seen_messages = SeenCache()  # type: ignore[assignment]
        self.counter = time.time_ns() // 1000
        # Peers are told to pubsub after their handshake, not when a connection appears.
        swarm = host.swarm
        swarm.notifees = [notifee for notifee in swarm.notifees if not isinstance(notifee, PubsubNotifee)]

    @property
    def manager(self) -> InternalManagerAPI:
        return GuardedManager(self._manager)  # type: ignore[return-value]

    async def run(self) -> None:
        self.event_handle_peer_queue_started.set()
        self.event_handle_dead_peer_queue_started.set()
        try:
            await self.manager.wait_finished()
        finally:
            self._clear_subscription_state()

    def get_hello_packet(self) -> rpc_pb2.RPC:
        return rpc_pb2.RPC(subscriptions=[
            rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in self.topic_ids])

    async def _handle_new_peer(self, peer_id: ID) -> None:
        await super()._handle_new_peer(peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            queue._queue.max_size = _OUTGOING_RPCS
            queue.max_message_size = self.max_inbound_rpc_size

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        rpc_msg.ClearField("senderRecord")
        cached = self._serialized
        if cached is not None and cached[0] is rpc_msg:
            raw = cached[1]
        else:
            raw = rpc_msg.SerializeToString()
            self._serialized = (rpc_msg, raw)
        lock = self._locks.get(stream)
        if lock is None:
            lock = self._locks[stream] = trio.Lock()
        try:
            async with lock:
                await stream.write(encode_uvarint(len(raw)) + raw)
        except (BaseLibp2pError, OSError):
            self._handle_dead_peer(stream.muxed_conn.peer_id)
            return False
        return True

    async def stream_handler(self, stream: INetStream) -> None:
        peer_id = stream.muxed_conn.peer_id
        frames = FrameStream(stream)
        public = await self.gossip.admitted(stream)
        if public is None:
            await frames.reset()
            return
        self._reading[peer_id] = stream
        try:
            while True:
                size = await _read_varint(frames)
                if size > self.max_inbound_rpc_size:
                    raise TooLarge(f"an RPC of {size} bytes; at most {self.max_inbound_rpc_size} are allowed")
                await self._take(peer_id, public, await frames.read_exactly(size))
                await trio.lowlevel.checkpoint()        # what has arrived at once is not all handled at once
        except PeerGone:
            return
        except (TooLarge, DecodeError, ValueError) as error:
            self.gossip.report(public, Offence.INVALID, f"gossip: {error}")
        finally:
            if self._reading.get(peer_id) is stream:
                del self._reading[peer_id]
                self._forget_all_subscriptions(peer_id)
            await frames.reset()

    def _handle_dead_peer(self, peer_id: ID) -> None:
        # Called when our stream has ended. A peer that restarted has sent its subscriptions on a new stream already
        # and will not repeat them.
        kept = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if peer_id in self._reading:
            for topic in kept:
                self.handle_subscription(peer_id, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic))

    async def _take(self, peer_id: ID, public: bytes, raw: bytes) -> None:
        rpc = rpc_pb2.RPC()
        rpc.ParseFromString(raw)
        if len(rpc.publish) > _MAX_MESSAGES_PER_RPC or len(rpc.subscriptions) > self.max_subscriptions_per_rpc:
            raise TooLarge(f"an RPC with {len(rpc.publish)} messages and {len(rpc.subscriptions)} subscriptions")
        for message in rpc.publish:
            await self.gossip.receive(peer_id, public, message)
        if not self.gossip.takes_control(public, rpc, len(raw)):
            return
        for subscription in rpc.subscriptions:
            self.handle_subscription(peer_id, subscription)
        if rpc.HasField("control"):
            bounded = rpc_pb2.RPC()
            bounded.control.CopyFrom(self._guarded_router.bounded(rpc.control))
            await self._guarded_router.handle_rpc(bounded, peer_id)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Passes on a message that has been checked, or is our own."""
        await self._guarded_router.publish(msg_forwarder, msg)


class Gossip:
    """Topics of one chain: `handler` gets what others publish, `publish` sends."""

    def __init__(self, config: NetworkConfig, host: GuardedHost, chain_id: bytes,
                 admitted: Callable[[INetStream], Awaitable[bytes | None]], report: Report,
                 throttled: Callable[[bytes], bool]) -> None:
        self._config = config
        self._host = host
        self._own = public_of(host.get_id())
        self._signer: LibPrivateKey = host.get_private_key()
        self.admitted = admitted
        self.report = report
        self._throttled = throttled
        self.handler: GossipHandler | None = None
        self.names = {topic: f"/gridtokenx/{chain_id.hex()[:16]}/{topic}" for topic in Topic}
        self._topics = {name: topic for topic, name in self.names.items()}
        self._by_peer = RateTable(config.peer_gossip_messages, config.peer_gossip_bytes)
        self._by_origin = RateTable(config.origin_gossip_messages, config.origin_gossip_bytes)
        self._control_by_peer = RateTable(config.peer_gossip_control, config.peer_gossip_bytes)
        self.dropped: dict[bytes, int] = {}
        self.published = self.delivered = self.invalid = self.duplicates = self.limited = 0
        max_rpc = config.max_gossip + 4096
        self.router = GuardedGossipSub(frozenset(self._topics))
        self.pubsub = GuardedPubsub(self, host, self.router, max_rpc)

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(background_trio_service(self.pubsub))
            await stack.enter_async_context(background_trio_service(self.router))
            await self.pubsub.wait_until_ready()
            for topic in sorted(self._config.topics):
                await self.pubsub.subscribe(self.names[topic])
            task_status.started()
            await trio.sleep_forever()

    async def peer_up(self, connection: SwarmConn, public: bytes) -> None:
        """Opens our stream to a peer that passed the handshake and speaks gossip."""
        if not connection.is_closed:
            try:
                await self.pubsub._handle_new_peer_with_retry(peer_id_of(public))
            except (BaseLibp2pError, OSError) as error:
                log.info("network.gossip_refused", peer=public.hex()[:16], reason=str(error))

    def connection_down(self, public: bytes, muxed: IMuxedConn) -> None:
        """One of several connections of a peer has ended; our stream is opened anew if it was on that one."""
        stream = self.pubsub.peers.get(peer_id_of(public))
        if stream is None or stream.muxed_conn is muxed:
            self.pubsub._handle_dead_peer(peer_id_of(public))

    def peer_down(self, public: bytes) -> None:
        self._by_peer.forget(public)
        self._control_by_peer.forget(public)
        self.dropped.pop(public, None)
        self.pubsub._handle_dead_peer(peer_id_of(public))

    def mesh(self, topic: Topic) -> frozenset[bytes]:
        """The neighbours to which messages of `topic` are sent directly."""
        return frozenset(public_of(peer) for peer in self.router.mesh.get(self.names[topic], ()))

    async def publish(self, topic: Topic, data: bytes) -> None:
        if len(data) > self._config.max_gossip:
            raise TooLarge(f"a message of {len(data)} bytes; gossip takes at most {self._config.max_gossip}")
        if not self.pubsub.peer_topics.get(self.names[topic]):
            return                          # nobody near listens
        message = rpc_pb2.Message(
            data=data, topicIDs=[self.names[topic]], from_id=self._host.get_id().to_bytes(),
            seqno=self.pubsub._next_seqno())
        message.signature = self._signer.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
        self.pubsub._mark_msg_seen(message)
        self.published += 1
        await self.pubsub.push_msg(self._host.get_id(), message)

    async def receive(self, forwarder: ID, public: bytes, message: rpc_pb2.Message) -> None:
        """Checks one message, cheap things first, hands it to the handler and passes it on. Does not raise."""
        try:
            topic = self._topics.get(message.topicIDs[0]) if len(message.topicIDs) == 1 else None
            now = trio.current_time()
            size = len(message.data)
            if not self._by_peer.allow(public, size, now, 4.0 if self._throttled(public) else 1.0):
                self._limit(public, Offence.FLOOD)
                return
            if self.pubsub._is_msg_seen(message):
                self.duplicates += 1
                return
            origin = public_of(ID(message.from_id))
            if topic is None or len(message.seqno) != _SEQUENCE_BYTES or not _signed(origin, message):
                self.invalid += 1
                self.report(public, Offence.INVALID, "gossip: topic, sequence number or signature")
                return
            if origin == self._own:
                return
            self.pubsub._mark_msg_seen(message)
            if not self._by_origin.allow(origin, size, now):
                self._limit(public, None)
                return
            if await self._accepted(topic, message.data, public, origin):
                self.delivered += 1
                await self.pubsub.push_msg(forwarder, message)
        except NotEd25519 as error:
            self.invalid += 1
            self.report(public, Offence.INVALID, f"gossip: {error}")
        except Exception:
            log.exception("network.gossip_failed", peer=public.hex()[:16])

    def takes_control(self, public: bytes, rpc: rpc_pb2.RPC, size: int) -> bool:
        """False for subscriptions and control messages beyond a neighbour's rate: each makes tasks inside libp2p."""
        if not rpc.subscriptions and not rpc.HasField("control"):
            return True
        if self._control_by_peer.allow(public, size, trio.current_time(), 4.0 if self._throttled(public) else 1.0):
            return True
        self._limit(public, Offence.FLOOD)
        return False

    def _limit(self, public: bytes, offence: Offence | None) -> None:
        self.limited += 1
        self.dropped[public] = self.dropped.get(public, 0) + 1
        if offence is not None:
            self.report(public, offence, "gossip")

    async def _accepted(self, topic: Topic, data: bytes, forwarder: bytes, origin: bytes) -> bool:
        if self.handler is None:
            return True
        verdict: bool | None = False
        try:
            with trio.move_on_after(HANDLER_TIMEOUT_S) as timer:
                verdict = await self.handler(topic, data, forwarder, origin)
        except Exception:  # a bug of the handler's owner, not an offence of the peer
            log.exception("network.gossip_handler_failed", topic=topic)
            return False
        if timer.cancelled_caught:
            log.warning("network.gossip_handler_slow", topic=topic, seconds=HANDLER_TIMEOUT_S)
            return False
        if verdict is False:
            self.invalid += 1
            self.report(forwarder, Offence.INVALID, f"gossip: {topic}")
            return False
        return True

    def statistics(self) -> dict[str, int]:
        return {
            "gossip_published": self.published, "gossip_delivered": self.delivered, "gossip_invalid": self.invalid,
            "gossip_duplicates": self.duplicates, "gossip_limited": self.limited,
            "gossip_neighbours": len(self.pubsub.peers), "gossip_seen": len(self.pubsub.seen_messages),  # type: ignore[arg-type]
        }


def _signed(origin: bytes, message: rpc_pb2.Message) -> bool:
    body = rpc_pb2.Message(
        data=message.data, topicIDs=message.topicIDs, from_id=message.from_id, seqno=message.seqno)
    signed = PUBSUB_SIGNING_PREFIX.encode() + body.SerializeToString()
    if len(message.signature) != bindings.crypto_sign_BYTES:
        return False
    try:
        bindings.crypto_sign_open(message.signature + signed, origin)
    except BadSignatureError:
        return False
    return True


async def _read_varint(frames: FrameStream) -> int:
    value = 0
    for shift in range(0, 35, 7):
        byte = (await frames.read_exactly(1))[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise TooLarge("a length prefix of more than five bytes")


