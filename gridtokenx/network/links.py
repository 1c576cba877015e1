"""The direct streams between authorities: votes on one, bodies on the other (CONSENSUS 4).

Each side opens its own pair of streams towards the other and only writes to those; it reads from the pair that
the other side opened. So neither depends on who dialled, and a stream that breaks is replaced by its owner.
An empty frame is a sign of life and is not delivered.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.network.connection.swarm_connection import SwarmConn

from gridtokenx.network.framing import FrameStream, join_frames
from gridtokenx.network.guarded import GuardedHost
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.muxer import GuardedYamux
from gridtokenx.network.settings import Channel, FrameHandler, NetworkConfig, PeerGone, TooLarge

log = structlog.get_logger()

PROTOCOLS = {Channel.VOTES: "/gridtokenx/votes/1", Channel.BODIES: "/gridtokenx/bodies/1"}
_BATCH_BYTES = 256 << 10
_OPEN_TIMEOUT_S = 3.0
_LONGEST_PAUSE_S = 1.0


class Outlet:
    """Frames waiting for one stream, bounded in number and bytes; full means that the new frame is refused."""

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: bytes) -> bool:
        if len(self._frames) >= self._max_frames or self._bytes + len(frame) > self._max_bytes:
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        self._wake.set()
        return True

    async def wait(self, timeout_s: float = float("inf")) -> None:
        """Until a frame waits, at most `timeout_s`."""
        if self._frames:
            await trio.lowlevel.checkpoint()
            return
        self._wake = trio.Event()
        with trio.move_on_after(timeout_s):
            await self._wake.wait()

    def take(self, most_bytes: int) -> list[bytes]:
        """The frames for one write: at least one if any waits, about `most_bytes` together."""
        batch: list[bytes] = []
        size = 0
        while self._frames and (not batch or size + len(self._frames[0]) <= most_bytes):
            frame = self._frames.popleft()
            size += len(frame)
            batch.append(frame)
        self._bytes -= size
        return batch


class Links:
    """The links to all authorities that are connected. `Network` tells it of connections that come and go."""

    def __init__(self, config: NetworkConfig, host: GuardedHost,
                 admitted: Callable[[INetStream], Awaitable[bytes | None]]) -> None:
        self._config = config
        self._host = host
        self._admitted = admitted
        self._outlets: dict[tuple[bytes, Channel], Outlet] = {}
        self._outgoing: dict[bytes, trio.CancelScope] = {}
        self._incoming: dict[tuple[bytes, Channel], trio.CancelScope] = {}
        self.authorities: frozenset[bytes] = frozenset()
        self.on_frame: FrameHandler | None = None
        self.dropped: dict[bytes, int] = {}
        self.sent_frames = 0
        self.received_frames = 0
        self.writes = 0
        self.failed_handlers = 0
        for channel in Channel:
            host.set_stream_handler(PROTOCOLS[channel], self._handler(channel))  # type: ignore[arg-type]

    def limit(self, channel: Channel) -> int:
        """The largest frame of a channel, in bytes."""
        return self._config.max_vote_frame if channel is Channel.VOTES else self._config.max_body_frame

    def linked(self, public: bytes) -> bool:
        return all((public, channel) in self._outlets for channel in Channel)

    def send(self, public: bytes, channel: Channel, frame: bytes) -> bool:
        """Queues a frame. False, and counted, if there is no link or its queue is full. Raises TooLarge."""
        if len(frame) > self.limit(channel):
            raise TooLarge(f"a frame of {len(frame)} bytes; {channel.name} takes at most {self.limit(channel)}")
        outlet = self._outlets.get((public, channel))
        if outlet is not None and outlet.push(frame):
            self.sent_frames += 1
            return True
        self.dropped[public] = self.dropped.get(public, 0) + 1
        return False

    def stop(self, public: bytes) -> None:
        """It is no authority any more: both directions end."""
        for scope in [self._outgoing.get(public), *(self._incoming.get((public, channel)) for channel in Channel)]:
            if scope is not None:
                scope.cancel()

    # ------------------------------------------------------------ outgoing

    async def run(self, public: bytes, connection: SwarmConn) -> None:
        """Keeps our two streams on this connection until it ends or another connection takes over.

        An authority that does not take our streams yet (its list may be a moment older) is asked again.
        """
        previous = self._outgoing.get(public)
        first, longest = self._config.authority_backoff_s
        wait = first
        with trio.CancelScope() as scope:
            self._outgoing[public] = scope
            if previous is not None:
                previous.cancel()
            try:
                while not connection.is_closed:
                    since = trio.current_time()
                    try:
                        await self._open_and_write(public, connection)
                    except* PeerGone as group:
                        log.info("network.authority_link_lost", peer=public.hex()[:16], reason=_first(group))
                    finally:
                        self._discard(public, scope)
                    wait = first if trio.current_time() - since > longest else min(longest, wait * 2)
                    await trio.sleep(wait)
            finally:
                if self._outgoing.get(public) is scope:
                    del self._outgoing[public]

    async def _open_and_write(self, public: bytes, connection: SwarmConn) -> None:
        async with trio.open_nursery() as nursery:
            for channel in Channel:
                stream = await self._host.open_stream(connection, PROTOCOLS[channel], _OPEN_TIMEOUT_S)
                outlet = Outlet(self._config.queue_frames, self._config.queue_bytes)
                self._outlets[public, channel] = outlet
                nursery.start_soon(self._write, outlet, stream, channel)
                nursery.start_soon(self._watch, stream)
            log.info("network.authority_linked", peer=public.hex()[:16])

    def _discard(self, public: bytes, scope: trio.CancelScope) -> None:
        """Counts what was not sent, unless another connection has taken over and made new outlets."""
        if self._outgoing.get(public) is not scope:
            return
        for channel in Channel:
            outlet = self._outlets.pop((public, channel), None)
            if outlet is not None and len(outlet):
                self.dropped[public] = self.dropped.get(public, 0) + len(outlet)

    async def _watch(self, stream: FrameStream) -> None:
        """Nothing is ever sent back on our streams; reading notices their end when there is nothing to write."""
        await stream.read_exactly(1)
        raise PeerGone("the peer wrote on a stream that is ours alone")

    async def _write(self, outlet: Outlet, stream: FrameStream, channel: Channel) -> None:
        silence = self._config.link_silence_s / 3 if channel is Channel.VOTES else float("inf")
        try:
            while True:
                await outlet.wait(silence)
                batch = outlet.take(_BATCH_BYTES)
                if batch or channel is Channel.VOTES:
                    await stream.write(join_frames(batch or (b"",)))
                    self.writes += 1
        finally:
            await stream.reset()

    # ------------------------------------------------------------ incoming

    def _handler(self, channel: Channel) -> Callable[[INetStream], Awaitable[None]]:
        async def handle(net_stream: INetStream) -> None:
            stream = FrameStream(net_stream)
            public = await self._admitted(net_stream)
            if public is None or public not in self.authorities:
                log.info("network.link_refused", peer=str(net_stream.muxed_conn.peer_id), channel=channel.name)
                await stream.reset()
                return
            await self._read(public, channel, stream)

        return handle

    async def _read(self, public: bytes, channel: Channel, stream: FrameStream) -> None:
        key = (public, channel)
        previous = self._incoming.get(key)
        limit = self.limit(channel)
        silence = self._config.link_silence_s if channel is Channel.VOTES else float("inf")
        connection = stream.stream.swarm_conn
        frames = TokenBucket(self._config.link_frames, trio.current_time())
        volume = TokenBucket(self._config.link_bytes, trio.current_time())
        with trio.CancelScope() as scope:
            self._incoming[key] = scope
            if previous is not None:
                previous.cancel()
            try:
                while public in self.authorities:
                    frame = stream.buffered_frame(limit)
                    if frame is None:
                        with trio.move_on_after(silence):
                            frame = await stream.read_frame(limit)
                    if frame is None:
                        log.info("network.authority_silent", peer=public.hex()[:16], seconds=silence)
                        if connection is not None:
                            await _sever(connection)
                        return
                    now = trio.current_time()
                    wait_s = max(frames.wait_s(1, now), volume.wait_s(len(frame), now))
                    if wait_s:
                        await trio.sleep(min(wait_s, _LONGEST_PAUSE_S))
                    if frame:
                        self.received_frames += 1
                        await self._deliver(public, channel, frame)
            except PeerGone:
                return
            except TooLarge as error:
                log.warning("network.frame_refused", peer=public.hex()[:16], channel=channel.name, reason=str(error))
                if connection is not None:
                    await _sever(connection)
            finally:
                if self._incoming.get(key) is scope:
                    del self._incoming[key]
                await stream.reset()

    async def _deliver(self, public: bytes, channel: Channel, frame: bytes) -> None:
        if self.on_frame is None:
            return
        try:
            answer = self.on_frame(public, channel, frame)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # the link must live on; the handler's owner sees it in the log
            self.failed_handlers += 1
            log.exception("network.frame_handler_failed", peer=public.hex()[:16], channel=channel.name)


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def _sever(connection: SwarmConn) -> None:
    muxed = connection.muxed_conn
    if isinstance(muxed, GuardedYamux):
        await muxed.sever()
