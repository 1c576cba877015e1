"""Length-prefixed frames over one libp2p stream: 4 bytes big endian, then the frame."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.net_stream import NetStream

from gridtokenx.network.settings import PeerGone, TooLarge

HEADER_BYTES = 4
_CHUNK = 65_536
STREAM_ERRORS = (BaseLibp2pError, trio.BrokenResourceError, trio.ClosedResourceError, OSError, EOFError)
"""What reading from or writing to a stream raises when the stream or its connection has ended."""


def shielded(seconds: float) -> trio.CancelScope:
    """For cleaning up while cancelled: at most `seconds`, which no cancellation from outside shortens."""
    return trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)


class FrameStream:
    """Reads and writes whole frames.

    A read that was cancelled may have lost bytes inside the muxer, and a write that was cancelled may have left
    half a frame: after either the stream is only good for `reset`.
    """

    def __init__(self, stream: INetStream) -> None:
        # The muxed stream below is read directly: NetStream takes two locks per read to keep a state that is
        # not used here.
        assert isinstance(stream, NetStream)
        self.stream = stream
        self._muxed = stream.muxed_stream
        self._buffer = bytearray()
        self._position = 0

    async def _fill(self, missing: int) -> None:
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        try:
            data = await self._muxed.read(max(_CHUNK, missing))
        except STREAM_ERRORS as error:
            raise PeerGone(f"the stream ended: {error or type(error).__name__}") from error
        if not data:
            raise PeerGone("the stream ended")
        self._buffer += data

    async def read_exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises PeerGone if the stream ends before."""
        while (have := len(self._buffer) - self._position) < size:
            await self._fill(size - have)
        start = self._position
        self._position = start + size
        return bytes(memoryview(self._buffer)[start:self._position])

    async def read_frame(self, limit: int) -> bytes:
        """The next frame. Raises TooLarge if it claims more than `limit` bytes, PeerGone at the stream's end."""
        size = int.from_bytes(await self.read_exactly(HEADER_BYTES), "big")
        if size > limit:
            raise TooLarge(f"a frame of {size} bytes; at most {limit} are allowed here")
        return await self.read_exactly(size)

    def buffered_frame(self, limit: int) -> bytes | None:
        """The next frame if it has been received in whole already. Raises TooLarge."""
        start = self._position + HEADER_BYTES
        if len(self._buffer) < start:
            return None
        size = int.from_bytes(self._buffer[self._position:start], "big")
        if size > limit:
            raise TooLarge(f"a frame of {size} bytes; at most {limit} are allowed here")
        if len(self._buffer) < start + size:
            return None
        self._position = start + size
        return bytes(memoryview(self._buffer)[start:self._position])

    async def write(self, data: bytes) -> None:
        """Raises PeerGone if the stream has ended or the peer stopped reading it."""
        try:
            await self.stream.write(data)
        except STREAM_ERRORS as error:
            raise PeerGone(f"the stream ended: {error or type(error).__name__}") from error

    async def write_frame(self, frame: bytes) -> None:
        await self.write(frame_bytes(frame))

    async def reset(self) -> None:
        """Ends the stream at once, for both sides; never raises and cannot be cancelled half-way."""
        with shielded(1.0):
            try:
                await self.stream.reset()
            except STREAM_ERRORS:
                return

    async def close(self) -> None:
        """Ends the own side; what was written is still delivered. Never raises."""
        with shielded(1.0):
            try:
                await self.stream.close()
            except STREAM_ERRORS:
                return


def frame_bytes(frame: bytes) -> bytes:
    return len(frame).to_bytes(HEADER_BYTES, "big") + frame


def join_frames(frames: Iterable[bytes]) -> bytes:
    """Several frames as they go over the stream, to be written at once."""
    parts: list[bytes] = []
    for frame in frames:
        parts.append(len(frame).to_bytes(HEADER_BYTES, "big"))
        parts.append(frame)
    return b"".join(parts)
