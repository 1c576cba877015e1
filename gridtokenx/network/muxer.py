"""yamux behind a guard: streams of one connection, bounded in number, in bytes and in time.

See `guarded.py` for what was found wrong with the muxer of py-libp2p 0.8.1.
"""

from __future__ import annotations

import struct
from typing import Any

import libp2p.stream_muxer.yamux.yamux as yamux_module
import structlog
import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from gridtokenx.network.framing import shielded
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.settings import Rate

log = structlog.get_logger()

YAMUX_ID = TProtocol(yamux_module.PROTOCOL_ID)
MAX_WINDOW = 1 << 20
"""Largest receive window of one stream; 10 MB/s over a round trip of 100 ms."""
MAX_BUFFERED = 8 << 20
"""Received over one connection and not read yet, all streams together, but for 64 KiB of each stream."""
MAX_STREAMS = 128
"""Of one connection, both directions together."""
STREAM_RATE = Rate(per_s=40, burst=160)
"""New streams of one connection, opened by the other side."""
WRITE_TIMEOUT_S = 5.0
"""A connection that takes no bytes for so long is closed."""
_MAX_READ = 65_536


class PeerFlood(trio.TooSlowError):
    """The peer sent beyond the window or opened too many streams.

    Derives from TooSlowError because that is what Yamux.handle_incoming answers by closing the connection.
    """


class _BoundedBuffer(bytearray):
    """What came on one stream and was not read yet."""

    def __init__(self, data: bytearray, siblings: _BoundedBuffers) -> None:
        super().__init__(data)
        self._siblings = siblings

    def extend(self, data: Any) -> None:
        size = len(self) + len(data)
        if size > MAX_WINDOW + _MAX_READ:
            raise PeerFlood("the peer sent more than the receive window allows")
        if size > _MAX_READ and sum(map(len, self._siblings.values())) + len(data) > MAX_BUFFERED:
            raise PeerFlood(f"the peer sent {MAX_BUFFERED} bytes that nobody has read")
        super().extend(data)


class _BoundedBuffers(dict[int, bytearray]):
    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        super().__setitem__(stream_id, _BoundedBuffer(buffer, self))


class _BoundedStreams(dict[int, YamuxStream]):
    def __setitem__(self, stream_id: int, stream: YamuxStream) -> None:
        if len(self) >= MAX_STREAMS:
            raise PeerFlood(f"more than {MAX_STREAMS} streams in one connection")
        super().__setitem__(stream_id, stream)


class LeanStream(YamuxStream):
    """A muxed stream that waits for window credit without polling and returns credit in larger parts.

    One task may write at a time.
    """

    def __init__(self, stream_id: int, conn: Yamux, is_initiator: bool) -> None:
        self._changed = trio.Event()
        super().__init__(stream_id, conn, is_initiator)

    # The muxer's reader assigns both from outside; a writer that waits wants to know.
    @property
    def send_window(self) -> int:
        return self._send_window

    @send_window.setter
    def send_window(self, size: int) -> None:
        self._send_window = size
        if size > 0:
            self._changed.set()

    @property
    def closed(self) -> bool:
        return self._closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._closed = closed
        if closed:
            self._changed.set()

    async def write(self, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            if self.send_closed or self.closed:
                raise MuxedStreamError("the stream is closed for writing")
            if self.send_window <= 0:
                self._changed = trio.Event()
                with trio.move_on_after(WRITE_TIMEOUT_S) as timer:
                    await self._changed.wait()
                if timer.cancelled_caught:
                    raise MuxedStreamError(f"the peer read nothing for {WRITE_TIMEOUT_S} s")
                continue
            size = min(self.send_window, yamux_module.MAX_MESSAGE_SIZE - yamux_module.HEADER_SIZE, len(data) - sent)
            self.send_window -= size
            header = struct.pack(yamux_module.YAMUX_HEADER_FORMAT, 0, yamux_module.TYPE_DATA, 0, self.stream_id, size)
            await self.conn._write_frame(header + data[sent:sent + size])
            sent += size

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:  # noqa: ARG002
        async with self.window_lock:
            buffered = len(self.conn.stream_buffers.get(self.stream_id, b""))
            delta = self.target_recv_window - (self.recv_window + buffered)
            if delta < self.target_recv_window // 2:
                return
            self.recv_window += delta
            delta += self._apply_autotune_epoch(buffered)
        await self.send_window_update(delta)


# The muxer names both in its own module; there is no other place to put ours.
yamux_module.YamuxStream = LeanStream  # type: ignore[misc]
yamux_module.MAX_WINDOW_SIZE = MAX_WINDOW


class GuardedYamux(Yamux):
    """Bounded in memory, counted in bytes, and never raising out of its tasks."""

    def __init__(self, secured_conn: ISecureConn, peer_id: ID, is_initiator: bool | None = None) -> None:
        super().__init__(secured_conn, peer_id, is_initiator=is_initiator)
        self.streams = _BoundedStreams()
        self.stream_buffers = _BoundedBuffers()
        self.sent_bytes = 0
        self.received_bytes = 0
        self.stream_bucket = TokenBucket(STREAM_RATE, trio.current_time())

    async def start(self) -> None:
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001  whatever a peer provoked ends its connection only
            log.warning("network.muxer_failed", peer=str(self.peer_id), error=repr(error))
            await self._cleanup_on_error()
        finally:
            self.event_started.set()  # else Swarm.add_conn would wait for ever

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            with shielded(WRITE_TIMEOUT_S) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                # Half of an encrypted message may be out; nothing sensible can follow it.
                await self.sever()
                raise MuxedStreamError(f"the peer took no bytes for {WRITE_TIMEOUT_S} s")
        self.sent_bytes += len(data)

    async def _read_data_body(self, length: int) -> bytes:
        self.received_bytes += length + yamux_module.HEADER_SIZE
        return await super()._read_data_body(length)

    async def close(self, error_code: int = yamux_module.GO_AWAY_NORMAL) -> None:
        if self.event_shutting_down.is_set():
            # Its reader is cleaning up already. The wait of libp2p at this place would only keep a connection that
            # the other side has closed among those that count.
            await self.sever()
        else:
            await super().close(error_code)

    async def farewell(self) -> None:
        """Tells the other side that we leave, and closes the socket."""
        try:
            await self._write_frame(struct.pack(
                yamux_module.YAMUX_HEADER_FORMAT, 0, yamux_module.TYPE_GO_AWAY, 0, 0, yamux_module.GO_AWAY_NORMAL))
        except (BaseLibp2pError, OSError, trio.ClosedResourceError):
            log.debug("network.no_farewell", peer=str(self.peer_id))
        await self.sever()

    async def sever(self) -> None:
        """Closes the socket without a farewell; the reader then cleans up."""
        with shielded(1.0):
            try:
                await self.secured_conn.close()
            except (BaseLibp2pError, OSError, trio.ClosedResourceError):
                return


class GuardedMuxer(MuxerMultistream):
    """MuxerMultistream.new_conn names Yamux itself, whatever class was registered; this one does not."""

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = GuardedYamux(conn, peer_id, is_initiator=conn.is_initiator)
        return self._annotate_connection(muxed, conn, protocol)
