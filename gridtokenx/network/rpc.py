"""Long-lived `rpc` sessions, server side: requests, answers and pushes multiplexed on one stream.

Frames of canonical CBOR. Client to server `[id, method, params]`, id 1 .. 2^64-1 chosen by the client. Server to
client `[id, true, result]`, `[id, false, [code, message]]`, and pushes `[0, subscription, data]`. The farewell
`[0, null, reason]` comes before the server closes a session on its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from libp2p.abc import INetStream

from gridtokenx import codec
from gridtokenx.errors import GridTokenXError
from gridtokenx.network.framing import FrameStream, frame_bytes, join_frames
from gridtokenx.network.guarded import GuardedHost
from gridtokenx.network.identity import NotEd25519, public_of
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.links import Outlet
from gridtokenx.network.settings import NetworkConfig, PeerGone, RemoteError, TooLarge

log = structlog.get_logger()

RPC_PROTOCOL = "/gridtokenx/rpc/1"
MAX_METHOD_CHARACTERS = 64
_BATCH_BYTES = 256 << 10
_FAREWELL_S = 1.0

RpcHandler = Callable[["RpcSession", str, Any], Awaitable[Any]]
"""(session, method, params) -> result, anything that the codec can encode. Up to their first wait, handlers run
in the order in which the requests of a session came. A GridTokenXError goes to the client as its error."""


class RpcSession:
    """One client. `public` is the key its connection proved, a throw-away one for clients without identity."""

    def __init__(self, number: int, public: bytes, address: str, config: NetworkConfig) -> None:
        self.number = number
        self.public = public
        self.address = address
        self.closed = trio.Event()
        """Set when the session has ended; whoever pushes into it waits for that to stop."""
        self.reason = ""
        self.requests = 0
        self.pushes = 0
        self._config = config
        self._outlet = Outlet(config.rpc_queue_frames, config.rpc_queue_bytes)
        self._scope = trio.CancelScope()
        self._running = trio.CapacityLimiter(config.rpc_max_concurrent)
        self._held_bytes = 0
        self._given_back = trio.Event()

    def push(self, subscription: int | str, data: Any) -> bool:
        """Sends `data` without waiting. False once the session is closed, as it is when the client is too slow.

        Raises CodecError if `data` has no canonical form.
        """
        if self.closed.is_set():
            return False
        return self.push_encoded(codec.encode([0, subscription, data]))

    def push_encoded(self, frame: bytes) -> bool:
        """The same for a whole encoded `[0, subscription, data]`, so that many sessions share one encoding."""
        if self.closed.is_set() or not self._enqueue(frame):
            return False
        self.pushes += 1
        return True

    def close(self, reason: str) -> None:
        """Ends the session; the client is told `reason`."""
        if not self.closed.is_set():
            self.reason = reason
            self.closed.set()
            self._scope.cancel()

    def _enqueue(self, frame: bytes) -> bool:
        if self._outlet.push(frame):
            return True
        self.close(f"too slow: {len(self._outlet)} answers and pushes were waiting to be read")
        return False

    async def run(self, stream: FrameStream, handler: RpcHandler) -> None:
        """Until the client goes or the session is closed; the stream is ended in any case."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, stream)
                    await self._read(stream, handler, nursery)
                    nursery.cancel_scope.cancel()
        finally:
            self.closed.set()
            told = False
            if self.reason:
                with trio.move_on_after(_FAREWELL_S):
                    try:
                        await stream.write(frame_bytes(codec.encode([0, None, self.reason])))
                        told = True
                    except PeerGone:
                        told = False
            await (stream.close() if told else stream.reset())

    async def _write(self, stream: FrameStream) -> None:
        try:
            while True:
                await self._outlet.wait()
                await stream.write(join_frames(self._outlet.take(_BATCH_BYTES)))
        except PeerGone:
            self.closed.set()
            self._scope.cancel()

    async def _read(self, stream: FrameStream, handler: RpcHandler, nursery: trio.Nursery) -> None:
        bucket = TokenBucket(self._config.rpc_requests, trio.current_time())
        while True:
            try:
                raw = await stream.read_frame(self._config.max_request)
                identifier, method, params = _decode_request(raw, self._config.max_request)
            except PeerGone:
                return
            except (TooLarge, codec.CodecError) as error:
                self.close(f"malformed request: {error}")
                return
            self.requests += 1
            wait_s = bucket.wait_s(1, trio.current_time())
            if wait_s:
                await trio.sleep(wait_s)
            # Not read further while enough is being handled: the client is slowed down by its own full window.
            borrower = object()
            await self._running.acquire_on_behalf_of(borrower)
            while self._held_bytes and self._held_bytes + len(raw) > self._config.rpc_max_held_bytes:
                self._given_back = trio.Event()
                await self._given_back.wait()
            self._held_bytes += len(raw)
            nursery.start_soon(self._handle, borrower, len(raw), identifier, method, params, handler)
            # So that the handler takes its first step before the next one is started (in trio, tasks that become
            # runnable together run in random order).
            await trio.lowlevel.checkpoint()

    async def _handle(self, borrower: object, size: int, identifier: int, method: str, params: Any,
                      handler: RpcHandler) -> None:
        try:
            try:
                frame = codec.encode([identifier, True, await handler(self, method, params)])
                if len(frame) > self._config.max_answer:
                    frame = _failure(identifier, "too_large", f"the answer has {len(frame)} bytes; ask for less")
            except RemoteError as error:
                frame = _failure(identifier, error.code, error.message)
            except GridTokenXError as error:
                frame = _failure(identifier, str(getattr(error, "code", type(error).__name__)), str(error))
            except Exception:
                log.exception("network.rpc_handler_failed", method=method, session=self.number)
                frame = _failure(identifier, "internal", "the request could not be handled")
            if not self.closed.is_set():
                self._enqueue(frame)
        finally:
            self._running.release_on_behalf_of(borrower)
            self._held_bytes -= size
            self._given_back.set()


def _failure(identifier: int, code: str, message: str) -> bytes:
    return codec.encode([identifier, False, [code, message[:4096]]])


def _decode_request(raw: bytes, limit: int) -> tuple[int, str, Any]:
    value = codec.decode(raw, max_bytes=limit)
    if not isinstance(value, list) or len(value) != 3:
        raise codec.CodecError("a request is [id, method, params]")
    identifier, method, params = value
    if type(identifier) is not int or identifier < 1:
        raise codec.CodecError("the id of a request is an integer from 1 on")
    if not isinstance(method, str) or not 1 <= len(method) <= MAX_METHOD_CHARACTERS:
        raise codec.CodecError(f"a method is a text of 1 to {MAX_METHOD_CHARACTERS} characters")
    return identifier, method, params


class RpcServer:
    """Accepts sessions within the limits of the configuration."""

    def __init__(self, config: NetworkConfig, host: GuardedHost) -> None:
        self._config = config
        self._host = host
        self._next = 1
        self.sessions: dict[int, RpcSession] = {}
        self.refused = 0

    def serve(self, handler: RpcHandler) -> None:
        async def handle(net_stream: INetStream) -> None:
            stream = FrameStream(net_stream)
            try:
                public = public_of(net_stream.muxed_conn.peer_id)
            except NotEd25519:
                await stream.reset()
                return
            reason = self._refusal(public)
            if reason:
                self.refused += 1
                log.info("network.rpc_refused", reason=reason)
                with trio.move_on_after(_FAREWELL_S):
                    await stream.write(frame_bytes(codec.encode([0, None, reason])))
                await stream.close()
                return
            remote = net_stream.get_remote_address()
            session = RpcSession(self._next, public, f"{remote[0]}:{remote[1]}" if remote else "?", self._config)
            self._next += 1
            self.sessions[session.number] = session
            try:
                await session.run(stream, handler)
            finally:
                del self.sessions[session.number]
                log.debug("network.rpc_ended", session=session.number, reason=session.reason or "client left")

        self._host.set_stream_handler(RPC_PROTOCOL, handle)  # type: ignore[arg-type]

    def _refusal(self, public: bytes) -> str:
        if len(self.sessions) >= self._config.rpc_max_sessions:
            return f"this node serves at most {self._config.rpc_max_sessions} sessions"
        if sum(s.public == public for s in self.sessions.values()) >= self._config.rpc_max_sessions_per_peer:
            return f"a peer has at most {self._config.rpc_max_sessions_per_peer} sessions here"
        return ""

    def serves(self, public: bytes) -> bool:
        return any(session.public == public for session in self.sessions.values())
