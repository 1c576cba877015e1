"""Request and answer between peers: one request at a time per stream, streams kept for the next one.

A fresh stream costs milliseconds, so a stream that served a request is used again; a stream that failed in any
way never is, so nothing can be answered with the answer of another request. An answer is a status byte (0 good,
1 an error as [code, message]) and the payload, in one frame.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.network.connection.swarm_connection import SwarmConn

from gridtokenx import codec
from gridtokenx.errors import GridTokenXError
from gridtokenx.network.framing import FrameStream
from gridtokenx.network.guarded import GuardedHost
from gridtokenx.network.limits import Offence, TokenBucket
from gridtokenx.network.settings import (
    NetworkConfig,
    PeerGone,
    RemoteError,
    RequestHandler,
    RequestTimeout,
    TooLarge,
)

log = structlog.get_logger()

_GOOD, _BAD = b"\x00", b"\x01"
_KEPT_STREAMS = 4
_IDLE_S = 120.0
_HANDLER_TIMEOUT_S = 30.0
_MAX_STREAMS_PER_PEER = 16


def protocol_of(name: str) -> str:
    return f"/gridtokenx/{name}/1"


class Requests:
    """Both sides of request/answer protocols."""

    def __init__(self, config: NetworkConfig, host: GuardedHost,
                 admitted: Callable[[INetStream], Awaitable[bytes | None]],
                 report: Callable[[bytes, Offence, str], None]) -> None:
        self._config = config
        self._host = host
        self._admitted = admitted
        self._report = report
        self._idle: dict[tuple[SwarmConn, str], list[FrameStream]] = {}
        self._buckets: dict[bytes, TokenBucket] = {}
        self._serving: dict[bytes, int] = {}
        self.sent = 0
        self.served = 0
        self.failed = 0

    # ------------------------------------------------------------ asking

    async def request(self, connection: SwarmConn, public: bytes, name: str, payload: bytes,
                      timeout_s: float) -> bytes:
        """The answer. Raises RequestTimeout, PeerGone, RemoteError or TooLarge."""
        if len(payload) > self._config.max_request:
            raise TooLarge(f"a request of {len(payload)} bytes; at most {self._config.max_request} are allowed")
        self.sent += 1
        with trio.move_on_after(timeout_s):
            idle = self._idle.setdefault((connection, name), [])
            while idle:
                try:
                    return await self._exchange(connection, name, idle.pop(), payload)
                except PeerGone:
                    continue  # the other side had closed the kept stream
            stream = await self._host.open_stream(connection, protocol_of(name), timeout_s)
            return await self._exchange(connection, name, stream, payload)
        self.failed += 1
        self._report(public, Offence.UNRESPONSIVE, name)
        raise RequestTimeout(f"no answer to {name} within {timeout_s} s")

    async def _exchange(self, connection: SwarmConn, name: str, stream: FrameStream, payload: bytes) -> bytes:
        done = False
        try:
            await stream.write_frame(payload)
            answer = await stream.read_frame(self._config.max_answer)
            done = True
        finally:
            idle = self._idle.get((connection, name))
            if done and idle is not None and len(idle) < _KEPT_STREAMS:
                idle.append(stream)
            else:
                await stream.reset()
        if answer[:1] == _GOOD:
            return answer[1:]
        try:
            code, message = codec.decode(answer[1:])
            raise RemoteError(str(message), str(code))
        except (codec.CodecError, ValueError, TypeError) as error:
            raise RemoteError("an answer of unknown form", "malformed") from error

    def forget(self, connection: SwarmConn) -> None:
        """The connection has ended."""
        for key in [key for key in self._idle if key[0] is connection]:
            del self._idle[key]

    def forget_peer(self, public: bytes) -> None:
        self._buckets.pop(public, None)

    # ------------------------------------------------------------ answering

    def serve(self, name: str, handler: RequestHandler) -> None:
        """Answers requests of admitted peers. A GridTokenXError of the handler goes back with its message."""

        async def handle(net_stream: INetStream) -> None:
            stream = FrameStream(net_stream)
            public = await self._admitted(net_stream)
            if public is None or self._serving.get(public, 0) >= _MAX_STREAMS_PER_PEER:
                await stream.reset()
                return
            self._serving[public] = self._serving.get(public, 0) + 1
            try:
                await self._serve_stream(public, name, stream, handler)
            finally:
                self._serving[public] -= 1
                if not self._serving[public]:
                    del self._serving[public]
                await stream.reset()

        self._host.set_stream_handler(protocol_of(name), handle)  # type: ignore[arg-type]

    async def _serve_stream(self, public: bytes, name: str, stream: FrameStream, handler: RequestHandler) -> None:
        while True:
            with trio.move_on_after(_IDLE_S) as timer:
                try:
                    payload = await stream.read_frame(self._config.max_request)
                except PeerGone:
                    return
                except TooLarge as error:
                    self._report(public, Offence.INVALID, str(error))
                    return
            if timer.cancelled_caught:
                return
            bucket = self._buckets.get(public)
            if bucket is None:
                bucket = self._buckets[public] = TokenBucket(self._config.peer_requests, trio.current_time())
            wait_s = bucket.wait_s(1, trio.current_time())
            if wait_s:
                self._report(public, Offence.FLOOD, name)
                await trio.sleep(min(wait_s, 5.0))
            answer = await self._answer(public, name, payload, handler)
            try:
                await stream.write_frame(answer)
            except PeerGone:
                return

    async def _answer(self, public: bytes, name: str, payload: bytes, handler: RequestHandler) -> bytes:
        self.served += 1
        code, message = "timeout", f"no answer ready within {_HANDLER_TIMEOUT_S} s"
        try:
            with trio.move_on_after(_HANDLER_TIMEOUT_S):
                answer = await handler(public, payload)
                if len(answer) + 1 <= self._config.max_answer:
                    return _GOOD + answer
                code, message = "too_large", f"the answer has {len(answer)} bytes; ask for less"
        except GridTokenXError as error:
            code, message = type(error).__name__, str(error)
        except Exception:
            self.failed += 1
            log.exception("network.request_handler_failed", request=name, peer=public.hex()[:16])
            code, message = "internal", "the request could not be handled"
        return _BAD + codec.encode([code, message[:1024]])
