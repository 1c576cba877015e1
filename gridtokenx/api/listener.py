"""Sockets of the interface: Hypercorn speaks HTTP and WebSocket, what surrounds it bounds connections and writes.

Hypercorn writes shielded from cancellation and without a time limit, so that one client that stops reading could hold
a whole shutdown. Every stream is therefore guarded here: a write that takes too long breaks its connection.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.logging import Logger
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from gridtokenx.api.protection import App
from gridtokenx.api.settings import HttpSettings, client_key
from gridtokenx.errors import GridTokenXError, leaves

KEEP_ALIVE_S = 30
IDLE_S = 90
PING_S = 20
HEADER_BYTES = 16 << 10
WEBSOCKET_MESSAGE_BYTES = 64 << 10
REFUSE_S = 1.0
KINDS_MOST = 64
FULL = (b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\n"
        b"connection: close\r\ncontent-length: %d\r\n\r\n%b")
FULL_BODY = (b'{"type":"urn:gridtokenx:problem:busy","title":"Service Unavailable","status":503,"code":"busy",'
             b'"detail":"too many connections","what_to_do":"close connections, or try again later"}')


class CannotListen(GridTokenXError):
    """The address cannot be had."""


class GuardedStream(trio.abc.HalfCloseableStream):
    """A client's connection whose writes end in time."""

    def __init__(self, stream: trio.SocketStream, timeout_s: float) -> None:
        self._stream = stream
        self._timeout_s = timeout_s
        self.socket = stream.socket

    async def send_all(self, data: bytes | memoryview) -> None:
        with trio.move_on_after(self._timeout_s) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError(f"the client read nothing for {self._timeout_s:.0f} s")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Traces:
    """A trace of every kind of failure, once: a client may cause the same one as often as it likes."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, ...]] = set()

    def of(self, error: BaseException) -> dict[str, Any]:
        """What to log of it beside the message."""
        kind = tuple(type(leaf).__name__ for leaf in leaves(error))[:8]
        said = {"error": "; ".join(dict.fromkeys(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error)))[:500]}
        if kind in self._seen or len(self._seen) >= KINDS_MOST:
            return said
        self._seen.add(kind)
        return {**said, "exc_info": error}


class _Log(Logger):
    """Hypercorn's messages as the node's."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._log = structlog.get_logger("http")
        self._traces = _Traces()

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """Written where the request id is known: `Protection`."""

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        del kwargs
        self._log.warning("hypercorn", message=message % args if args else message)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        del kwargs
        error = sys.exception()
        self._log.error("hypercorn", message=message % args if args else message,
                        **({} if error is None else self._traces.of(error)))

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        del kwargs
        self._log.debug("hypercorn", message=message % args if args else message)


class _Connection(TCPServer):
    """Hypercorn's, but a client that has gone does not keep its place until the idle time is over."""

    _ended = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._ended = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if not (self._ended and isinstance(event, Updated)):
            await super().protocol_send(event)


def _config() -> Config:
    config = Config()
    config.accesslog, config.errorlog = None, None
    config.logger_class = _Log
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = 1 << 30
    config.read_timeout = IDLE_S
    config.h11_max_incomplete_size = HEADER_BYTES
    config.websocket_max_message_size = WEBSOCKET_MESSAGE_BYTES
    config.websocket_ping_interval = PING_S
    config.include_server_header = False
    return config


class HttpServer:
    """Serves `app` within the limits of `settings`."""

    def __init__(self, app: App, settings: HttpSettings) -> None:
        self._app = ASGIWrapper(cast(Any, app))
        self._settings = settings
        self._config = _config()
        self._clients: Counter[str] = Counter()
        self._traces = _Traces()
        self._open: set[GuardedStream] = set()
        self._log = structlog.get_logger("http")
        self.refused = 0
        """Connections beyond a limit."""
        self.port = settings.port

    @property
    def connections(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listens; leaving closes every connection. Raises CannotListen."""
        settings, context = self._settings, WorkerContext(None)
        try:
            listeners = await trio.open_tcp_listeners(settings.port, host=settings.host)
        except OSError as error:
            raise CannotListen(f"{settings.address} cannot be used: {error.strerror or error}") from error
        self.port = listeners[0].socket.getsockname()[1]
        self._log.info("http_listening", host=settings.host, port=self.port)

        async def serve(stream: trio.SocketStream) -> None:
            await self._serve(stream, context)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                await context.terminated.set()
                # Without waiting: a cancellation met here would take the place of the error that led here.
                for stream in list(self._open):
                    stream.socket.close()

    async def _serve(self, stream: trio.SocketStream, context: WorkerContext) -> None:
        try:
            host = stream.socket.getpeername()[0]
        except OSError:
            await stream.aclose()
            return
        client = client_key(host, "", ())
        most = self._settings.max_connections_per_client
        proxied = bool(self._settings.trusted_proxies) and client_key(host, "0.0.0.0", self._settings.trusted_proxies) \
            == "0.0.0.0"
        if len(self._open) >= self._settings.max_connections or (self._clients[client] >= most and not proxied):
            self.refused += 1
            await _refuse(stream)
            return
        guarded = GuardedStream(stream, self._settings.send_timeout_s)
        self._open.add(guarded)
        self._clients[client] += 1
        try:
            await _Connection(self._app, self._config, context, ConnectionState({}), cast(Any, guarded))
        except Exception as error:  # noqa: BLE001 - a defect that a client's bytes can reach must not stop the node
            self._log.warning("connection_failed", client=client, **self._traces.of(error))
        finally:
            self._open.discard(guarded)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            await trio.aclose_forcefully(guarded)


async def _refuse(stream: trio.SocketStream) -> None:
    with trio.move_on_after(REFUSE_S):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(FULL % (len(FULL_BODY), FULL_BODY))
    await trio.aclose_forcefully(stream)
