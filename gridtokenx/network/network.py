"""The peer-to-peer network as the node uses it: one object, everything in one owned nursery.

A connection counts as a peer once both sides have exchanged `/gridtokenx/hello/1` and found the same chain, genesis
and protocol version. Until then it may use no other protocol of ours except `rpc`, whose clients are not peers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
import trio
from attrs import Factory, define
from libp2p.abc import INetConn, INetStream
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from gridtokenx import codec
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.network.addresses import AddressBook
from gridtokenx.network.finding import Finder
from gridtokenx.network.framing import FrameStream, shielded
from gridtokenx.network.gossip import Gossip
from gridtokenx.network.guarded import ConnectionWatcher, GuardedHost, GuardedSwarm, probe_port
from gridtokenx.network.handshake import MAX_HELLO, PeerHello, decode_hello, encode_hello
from gridtokenx.network.identity import (
    NotEd25519,
    host_and_port,
    key_pair_of,
    parse_address,
    peer_id_of,
    public_of,
    with_peer_id,
)
from gridtokenx.network.limits import Offence
from gridtokenx.network.links import Links
from gridtokenx.network.muxer import GuardedYamux
from gridtokenx.network.requests import Requests
from gridtokenx.network.rpc import RpcHandler, RpcServer
from gridtokenx.network.settings import (
    Channel,
    FrameHandler,
    GossipHandler,
    HandshakeRefused,
    Hello,
    ListenError,
    NetworkConfig,
    NetworkError,
    PeerGone,
    PeerInfo,
    RequestHandler,
    Topic,
)
from gridtokenx.network.standing import Anchor, Standings, read_memory, write_memory

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger()

HELLO_PROTOCOL = "/gridtokenx/hello/1"
_MAX_REFUSED = 64
_SWEEP_S = 2.0
_UNGREETED_S = 10.0
_DEAD_S = 95.0
"""The muxer pings every 30 s; a connection over which nothing came for three of them is dead."""
_SAVE_S = 60.0
_STOP_S = 5.0
_GOODBYE_S = 1.5


@define(eq=False)
class _Peer:
    public: bytes
    name: str
    since: float
    outbound: bool
    head_height: int
    gossip: bool
    address: str
    connections: list[SwarmConn] = Factory(list)
    """Those that are alive; the newest, which is used, last."""


class Network:
    """Peers, links between authorities, gossip, requests and rpc of one node.

    `on_frame` and `on_gossip` are set before `running`. A network runs once.
    """

    def __init__(self, config: NetworkConfig, key: PrivateKey, hello: Hello) -> None:
        self.config = config
        self.public = key.public
        self.hello = hello
        key_pair = key_pair_of(key)
        self._swarm = GuardedSwarm(config, key_pair)
        self._host = GuardedHost(self._swarm)
        self._standings = Standings()
        self._book = AddressBook(key.public, int.from_bytes(key.public[:8], "big"))
        self._bootstrap = {self._book.configure(text) for text in config.bootstrap} - {key.public}
        for text in (*config.listen, *config.announce):
            parse_address(text, with_peer=False)
        self._requests = Requests(config, self._host, self._admitted, self.report)
        self._links = Links(config, self._host, self._admitted)
        self._rpc = RpcServer(config, self._host)
        self._gossip = (Gossip(config, self._host, hello.chain_id, self._admitted, self.report, self._throttled)
                        if config.gossip else None)
        self._peers: dict[bytes, _Peer] = {}
        self._refused: dict[bytes, PeerInfo] = {}
        self._waiting: dict[bytes, trio.Event] = {}
        self._closed_bytes = [0, 0]
        self._finder = Finder(
            config, key.public, self._book, connected=lambda: self._peers,
            chosen=lambda: [peer.public for peer in self._peers.values() if peer.outbound],
            authorities=lambda: self._links.authorities,
            is_authority=lambda: self._is_authority, important=self._important,
            banned_s=lambda public: self._standings.banned_s(public, trio.current_time()), reach=self._reach,
            request=self.request, report=self.report)
        self._stop = trio.Event()
        self._tasks: trio.Nursery | None = None
        self._started = False
        self._is_authority = False
        self._host.set_stream_handler(HELLO_PROTOCOL, self._on_hello)  # type: ignore[arg-type]
        if config.peer_exchange:
            self._requests.serve("peers", self._finder.answer)
        self._swarm.host_banned_s = lambda host: self._standings.host_banned_s(host, trio.current_time())
        self._swarm.register_notifee(ConnectionWatcher(self._connected, self._disconnected))

    # ------------------------------------------------------------ life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listens and connects for as long as the body runs. Raises ListenError.

        Shutting down says goodbye to the peers even when the body was cancelled; it takes at most some seconds.
        """
        if self._started:
            raise NetworkError("a network runs once; make a new one")
        self._started = True
        for text in self.config.listen:
            probe_port(Multiaddr(text))
        self._remember()
        raised: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._run)
                try:
                    yield
                except BaseException as error:
                    raised = error
                    raise
                finally:
                    self._stop.set()
        except BaseExceptionGroup as group:
            # Not wrapped in groups: callers expect their own exception, or ours.
            if raised is not None and not isinstance(raised, trio.Cancelled):
                raise raised from raised.__cause__
            raise _single(group) from None

    async def _run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        # Shielded, so that a cancelled node still closes its sockets in order; bounded by _STOP_S once stopping.
        with trio.CancelScope(shield=True) as scope:
            async with background_trio_service(self._swarm):
                try:
                    await self._listen()
                    async with trio.open_nursery() as tasks:
                        self._tasks = tasks
                        if self._gossip is not None:
                            await tasks.start(self._gossip.run)
                        tasks.start_soon(self._finder.dial_loop)
                        tasks.start_soon(self._sweep_loop)
                        tasks.start_soon(self._save_loop)
                        if self.config.peer_exchange:
                            tasks.start_soon(self._finder.exchange_loop)
                        if self.config.mdns:
                            from gridtokenx.network import mdns  # zeroconf is loaded only where it is wanted

                            told = self.config.announce or map(str, self._host.get_transport_addrs())
                            tasks.start_soon(mdns.run, self.hello.chain_id, self.public, list(told),
                                             self._finder.learn_nearby)
                        log.info("network.started", addresses=self.addresses)
                        task_status.started()
                        await self._stop.wait()
                        scope.deadline = trio.current_time() + _STOP_S
                        tasks.cancel_scope.cancel()
                finally:
                    self._tasks = None
                    await self._save()
                    await self._swarm.close_all(_GOODBYE_S)
            log.info("network.stopped")

    async def _listen(self) -> None:
        addresses = [Multiaddr(text) for text in self.config.listen]
        if addresses:
            await self._swarm.listen(*addresses)
        for address in addresses:
            if str(address) not in self._swarm.listeners:
                raise ListenError(f"cannot listen on {address}")

    @property
    def addresses(self) -> list[str]:
        """Where this network listens, with the `/p2p` part that others need."""
        return [with_peer_id(str(address), self.public) for address in self._host.get_transport_addrs()]

    # ------------------------------------------------------------ authorities

    def set_authorities(self, publics: Iterable[bytes]) -> None:
        """Who may open links to us and to whom we keep them; may change while running."""
        chosen = frozenset(publics)
        for public in self._links.authorities - chosen:
            self._links.stop(public)
        self._links.authorities = chosen - {self.public}
        self._is_authority = self.public in chosen
        for public in self._links.authorities & self._peers.keys():
            self._link(self._peers[public])
        self._finder.wake.set()
        self._finder.asking.set()

    @property
    def on_frame(self) -> FrameHandler | None:
        """Called for every frame of an authority, one at a time per authority and channel, in order.

        While it waits nothing more is read from that stream. What it raises is logged.
        """
        return self._links.on_frame

    @on_frame.setter
    def on_frame(self, handler: FrameHandler | None) -> None:
        self._links.on_frame = handler

    def send(self, public: bytes, channel: Channel, frame: bytes) -> bool:
        """Queues a frame for an authority without waiting.

        False, and counted as dropped, if it is not linked or its queue is full. Raises TooLarge.
        """
        return self._links.send(public, channel, frame)

    def broadcast(self, channel: Channel, frame: bytes) -> int:
        """Queues a frame for every other authority; returns for how many it was queued. Raises TooLarge."""
        return sum(self._links.send(public, channel, frame) for public in self._links.authorities)

    def linked(self) -> frozenset[bytes]:
        """The authorities to which frames can be sent now."""
        return frozenset(public for public in self._links.authorities if self._links.linked(public))

    # ------------------------------------------------------------ gossip, requests, rpc

    @property
    def on_gossip(self) -> GossipHandler | None:
        """Called for every message that others publish, before it is passed on: False means invalid.

        Messages of one neighbour are handled one at a time. What it raises is logged, the message not passed on.
        """
        return self._gossip.handler if self._gossip else None

    @on_gossip.setter
    def on_gossip(self, handler: GossipHandler | None) -> None:
        if self._gossip is None:
            raise NetworkError("this network runs without gossip")
        self._gossip.handler = handler

    async def publish(self, topic: Topic, data: bytes) -> None:
        """Gossips `data`. Raises TooLarge beyond `max_gossip`, NetworkError without gossip."""
        if self._gossip is None:
            raise NetworkError("this network runs without gossip")
        await self._gossip.publish(topic, data)

    def serve(self, name: str, handler: RequestHandler) -> None:
        """Answers requests `name` of peers by `handler(public, payload)`."""
        self._requests.serve(name, handler)

    async def request(self, public: bytes, name: str, payload: bytes, timeout_s: float = 5.0) -> bytes:
        """Asks one peer. Raises RequestTimeout, PeerGone, RemoteError (its error) or TooLarge."""
        peer = self._peers.get(public)
        if peer is None:
            raise PeerGone(f"{public.hex()[:16]} is not connected")
        return await self._requests.request(peer.connections[-1], public, name, payload, timeout_s)

    def serve_rpc(self, handler: RpcHandler) -> None:
        """Answers the sessions of clients by `handler(session, method, params)`."""
        self._rpc.serve(handler)

    def report(self, public: bytes, offence: Offence, detail: str = "") -> None:
        """Lowers a peer's score; when it falls too low the peer is cut off and banned for a while.

        Authorities are throttled but never banned: a quorum may need them.
        """
        now = trio.current_time()
        log.debug("network.offence", peer=public.hex()[:16], offence=offence.name, detail=detail)
        peer = self._peers.get(public)
        host = "" if peer is None or peer.outbound else _remote_host(peer.connections[-1])
        if self._standings.report(public, host, offence, now, bannable=public not in self._links.authorities):
            log.warning("network.peer_banned", peer=public.hex()[:16], seconds=self._standings.banned_s(public, now),
                        offence=offence.name, detail=detail)
            self.disconnect(public)

    def _throttled(self, public: bytes) -> bool:
        return self._standings.peers.throttled(public, trio.current_time())

    def disconnect(self, public: bytes) -> None:
        """Ends all connections with a peer, soon."""
        for connection in self._swarm.get_connections(peer_id_of(public)):
            self._close_soon(connection)

    # ------------------------------------------------------------ what is going on

    def peers(self) -> list[PeerInfo]:
        """Connected peers first, then those that were refused or could not be reached, with the reason."""
        now = trio.current_time()
        infos = [self._info(peer, now) for peer in self._peers.values()]
        shown = set(self._peers)
        for public, info in self._refused.items():
            if public not in shown:
                shown.add(public)
                infos.append(info)
        for known in self._book.all():
            if known.error and known.public not in shown:
                infos.append(PeerInfo(
                    public=known.public, address=next(iter(known.addresses), ""), connected=False,
                    authority=known.public in self._links.authorities, error=known.error,
                    score=self._standings.peers.score(known.public, now)))
        return infos

    def _info(self, peer: _Peer, now: float) -> PeerInfo:
        muxed = [connection.muxed_conn for connection in peer.connections]
        rtt = max((m.rtt() for m in muxed if isinstance(m, GuardedYamux)), default=0.0)
        dropped = self._links.dropped.get(peer.public, 0)
        if self._gossip is not None:
            dropped += self._gossip.dropped.get(peer.public, 0)
        return PeerInfo(
            public=peer.public, address=peer.address, name=peer.name, connected_s=now - peer.since,
            outbound=peer.outbound, authority=peer.public in self._links.authorities,
            linked=self._links.linked(peer.public), head_height=peer.head_height,
            sent_bytes=sum(m.sent_bytes for m in muxed if isinstance(m, GuardedYamux)),
            received_bytes=sum(m.received_bytes for m in muxed if isinstance(m, GuardedYamux)),
            dropped=dropped, rtt_ms=rtt * 1000 or None, score=self._standings.peers.score(peer.public, now))

    def statistics(self) -> dict[str, int]:
        """Counters since the start and present sizes, for metrics."""
        muxed = [connection.muxed_conn for connection in self._swarm.get_connections()]
        counts = {
            "peers": len(self._peers), "connections": len(muxed), "authorities_linked": len(self.linked()),
            "known_peers": len(self._book),
            "sent_bytes": self._closed_bytes[0] + sum(m.sent_bytes for m in muxed if isinstance(m, GuardedYamux)),
            "received_bytes":
                self._closed_bytes[1] + sum(m.received_bytes for m in muxed if isinstance(m, GuardedYamux)),
            "refused_connections": self._swarm.refused_connections, "refused_streams": self._host.refused_streams,
            "failed_stream_handlers": self._host.failed_handlers,
            "link_frames_sent": self._links.sent_frames, "link_frames_received": self._links.received_frames,
            "link_frames_dropped": sum(self._links.dropped.values()), "link_writes": self._links.writes,
            "link_handlers_failed": self._links.failed_handlers,
            "requests_sent": self._requests.sent, "requests_served": self._requests.served,
            "requests_failed": self._requests.failed,
            "rpc_sessions": len(self._rpc.sessions), "rpc_refused": self._rpc.refused,
        }
        if self._gossip is not None:
            counts |= self._gossip.statistics()
        return counts

    # ------------------------------------------------------------ handshake

    def _own_hello(self, refusal: str = "") -> bytes:
        addresses = self.config.announce or [str(address) for address in self._host.get_transport_addrs()]
        return encode_hello(self.hello, list(addresses), refusal, gossip=self._gossip is not None)

    def _check_hello(self, public: bytes, raw: bytes, *, outbound: bool) -> PeerHello:
        """The other side's hello. Raises HandshakeRefused, and CodecError for garbage."""
        theirs = decode_hello(raw, self.hello)
        banned_s = self._standings.banned_s(public, trio.current_time())
        if banned_s:
            raise HandshakeRefused(f"banned for another {banned_s:.0f} s")
        if public not in self._peers and not self._important(public):
            # Who comes by himself does not get the places that are kept for peers of our own choice.
            kept = 0 if outbound else min(self.config.target_peers, self.config.max_peers // 2)
            most = self.config.max_peers - kept
            if sum(outbound or not peer.outbound for peer in self._peers.values()) >= most:
                raise HandshakeRefused(f"this node has its {most} peers")
        return theirs

    def _important(self, public: bytes) -> bool:
        return public in self._links.authorities or public in self._bootstrap

    async def _on_hello(self, net_stream: INetStream) -> None:
        """The side that was dialled: hears first, answers, then both judge."""
        stream = FrameStream(net_stream)
        connection = stream.stream.swarm_conn
        assert connection is not None
        try:
            public = public_of(net_stream.muxed_conn.peer_id)
            with trio.fail_after(self.config.handshake_timeout_s):
                raw = await stream.read_frame(MAX_HELLO)
                try:
                    theirs = self._check_hello(public, raw, outbound=False)
                except (HandshakeRefused, codec.CodecError) as error:
                    await stream.write_frame(self._own_hello(str(error)))
                    await stream.close()
                    self._refuse(public, connection, str(error), outbound=False)
                    self._close_soon(connection)
                    return
                await stream.write_frame(self._own_hello())
            await stream.close()
            self._admit(public, connection, theirs, outbound=False)
        except (NetworkError, trio.TooSlowError) as error:
            log.info("network.handshake_failed", peer=str(net_stream.muxed_conn.peer_id), reason=str(error))
            self._close_soon(connection)

    async def _greet(self, public: bytes, connection: SwarmConn) -> None:
        """The side that dialled. Raises HandshakeRefused, PeerGone, CodecError."""
        try:
            with trio.fail_after(self.config.handshake_timeout_s):
                stream = await self._host.open_stream(connection, HELLO_PROTOCOL, self.config.handshake_timeout_s)
                await stream.write_frame(self._own_hello())
                theirs = self._check_hello(public, await stream.read_frame(MAX_HELLO), outbound=True)
            await stream.close()
        except HandshakeRefused as error:
            self._refuse(public, connection, str(error), outbound=True)
            raise
        except trio.TooSlowError as error:
            raise PeerGone(f"no hello within {self.config.handshake_timeout_s} s") from error
        self._admit(public, connection, theirs, outbound=True)

    def _refuse(self, public: bytes, connection: SwarmConn, reason: str, *, outbound: bool) -> None:
        log.warning("network.peer_refused", peer=public.hex()[:16], address=_remote(connection), reason=reason)
        self._refused.pop(public, None)
        self._refused[public] = PeerInfo(public=public, address=_remote(connection), connected=False,
                                         outbound=outbound, error=reason)
        while len(self._refused) > _MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _admit(self, public: bytes, connection: SwarmConn, theirs: PeerHello, *, outbound: bool) -> None:
        if connection.is_closed or self._tasks is None:
            return
        now = trio.current_time()
        peer = self._peers.get(public)
        if peer is None:
            peer = _Peer(public, theirs.name, now, outbound, theirs.head_height, theirs.gossip, _remote(connection))
            self._peers[public] = peer
            log.info("network.peer_connected", peer=public.hex()[:16], name=peer.name, address=peer.address,
                     outbound=outbound)
        peer.name, peer.head_height, peer.gossip = theirs.name, theirs.head_height, theirs.gossip
        peer.connections.append(connection)
        self._refused.pop(public, None)
        known = self._book.get(public)
        if known is not None:
            self._book.succeeded(known)
        try:
            self._book.learn(public, theirs.addresses, teller=public, seen_host=_remote_host(connection))
        except (NetworkError, ValueError) as error:
            self.report(public, Offence.INVALID, f"addresses in its hello: {error}")
        waiting = self._waiting.pop(public, None)
        if waiting is not None:
            waiting.set()
        if public in self._links.authorities:
            self._link(peer)
        if self._gossip is not None and theirs.gossip:
            self._tasks.start_soon(self._gossip.peer_up, connection, public)
        self._finder.asking.set()

    async def _admitted(self, net_stream: INetStream) -> bytes | None:
        """The peer behind a stream, once its handshake is done; None if it is not within the time for one."""
        try:
            public = public_of(net_stream.muxed_conn.peer_id)
        except NotEd25519:
            return None
        if public not in self._peers:
            # The other side may have finished the handshake a moment before this one.
            if len(self._waiting) > self.config.max_connections:
                return None
            with trio.move_on_after(self.config.handshake_timeout_s):
                await self._waiting.setdefault(public, trio.Event()).wait()
        if public not in self._peers:
            self._waiting.pop(public, None)
            return None
        return public

    def _link(self, peer: _Peer) -> None:
        """Opens our streams to an authority; only authorities do, others would be refused."""
        if self._is_authority and self._tasks is not None and peer.connections:
            self._tasks.start_soon(self._links.run, peer.public, peer.connections[-1])

    # ------------------------------------------------------------ connections

    async def _connected(self, conn: INetConn) -> None:
        try:
            public = public_of(conn.muxed_conn.peer_id)
        except NotEd25519:
            self._close_soon(conn)
            return
        if self._standings.banned_s(public, trio.current_time()):
            self._close_soon(conn)

    async def _disconnected(self, conn: INetConn) -> None:
        muxed = conn.muxed_conn
        if isinstance(muxed, GuardedYamux):
            self._closed_bytes[0] += muxed.sent_bytes
            self._closed_bytes[1] += muxed.received_bytes
        assert isinstance(conn, SwarmConn)
        self._requests.forget(conn)
        try:
            public = public_of(muxed.peer_id)
        except NotEd25519:
            return
        peer = self._peers.get(public)
        if peer is None or conn not in peer.connections:
            return
        peer.connections.remove(conn)
        if peer.connections:  # it came back before its old connection was cleaned up
            if self._gossip is not None and peer.gossip:
                self._gossip.connection_down(public, muxed)
            if public in self._links.authorities and not self._links.linked(public):
                self._link(peer)
            return
        del self._peers[public]
        self._requests.forget_peer(public)
        if self._gossip is not None:
            self._gossip.peer_down(public)
        log.info("network.peer_disconnected", peer=public.hex()[:16], name=peer.name)
        self._finder.lost(public)

    async def _reach(self, public: bytes, address: str) -> None:
        """Dials a peer and greets it. Raises NetworkError or CodecError."""
        connection = await self._swarm.dial(Multiaddr(address), peer_id_of(public))
        try:
            await self._greet(public, connection)
        except (NetworkError, codec.CodecError):
            self._close_soon(connection)
            raise

    # ------------------------------------------------------------ over restarts

    def _remember(self) -> None:
        """Bans and anchors of the last run."""
        path = self.config.memory_file
        raw = None if path is None else read_memory(path)
        if raw is None:
            return
        try:
            for anchor in self._standings.restore(raw, trio.current_time(), time.time()):
                self._book.remember(anchor.public, anchor.address)
        except (codec.CodecError, NetworkError) as error:
            log.warning("network.memory_damaged", path=str(path), error=str(error),
                        consequence="bans and known peers of the last run are forgotten")

    async def _save(self) -> None:
        if self.config.memory_file is None:
            return
        self._standings.changed = False
        anchors = [Anchor(public, address) for public, address in self._book.anchors()]
        raw = self._standings.encode(anchors, trio.current_time(), time.time())
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(write_memory, self.config.memory_file, raw)

    async def _save_loop(self) -> None:
        """Every minute, and soon after a ban."""
        saved_s = trio.current_time()
        while True:
            await trio.sleep(_SWEEP_S)
            if self._standings.changed or trio.current_time() - saved_s > _SAVE_S:
                saved_s = trio.current_time()
                await self._save()

    def _close_soon(self, connection: INetConn) -> None:
        async def close() -> None:
            with shielded(2.0):
                await connection.close()

        if self._tasks is not None:
            self._tasks.start_soon(close)

    async def _sweep_loop(self) -> None:
        """Ends connections that never greeted and those that have died silently."""
        seen: dict[SwarmConn, tuple[float, tuple[int, float], float]] = {}
        while True:
            await trio.sleep(_SWEEP_S)
            now = trio.current_time()
            current: dict[SwarmConn, tuple[float, tuple[int, float], float]] = {}
            for connection in self._swarm.get_connections():
                muxed = connection.muxed_conn
                if not isinstance(connection, SwarmConn) or not isinstance(muxed, GuardedYamux):
                    continue
                since, heard, heard_at = seen.get(connection, (now, (-1, 0.0), now))
                if (muxed.received_bytes, muxed.rtt()) != heard:
                    heard, heard_at = (muxed.received_bytes, muxed.rtt()), now
                current[connection] = (since, heard, heard_at)
                if now - heard_at > _DEAD_S:
                    log.info("network.connection_dead", address=_remote(connection))
                    await muxed.sever()
                elif now - since > _UNGREETED_S and not self._in_use(connection):
                    log.info("network.connection_unused", address=_remote(connection))
                    self._close_soon(connection)
            seen = current

    def _in_use(self, connection: SwarmConn) -> bool:
        try:
            public = public_of(connection.muxed_conn.peer_id)
        except NotEd25519:
            return False
        peer = self._peers.get(public)
        return (peer is not None and connection in peer.connections) or self._rpc.serves(public)


def _single(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _remote(connection: INetConn) -> str:
    addresses = connection.get_transport_addresses()
    return str(addresses[0]) if addresses else ""


def _remote_host(connection: INetConn) -> str:
    addresses = connection.get_transport_addresses()
    return host_and_port(addresses[0])[1] if addresses else ""
