"""The client side of `rpc`, for programs that are not peers: one TCP connection, one stream, no gossip.

    async with connect("/ip4/127.0.0.1/tcp/9000/p2p/12D3KooW…") as client:
        status = await client.call("status")
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, frozen
from libp2p.network.stream.net_stream import NetStream
from libp2p.security.pnet.protector import new_protected_conn
from libp2p.transport.tcp.tcp import TCP

from gridtokenx import codec
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.network.framing import STREAM_ERRORS, FrameStream, join_frames, shielded
from gridtokenx.network.guarded import make_upgrader, negotiate, quiet_libp2p, read_ahead
from gridtokenx.network.identity import key_pair_of, parse_address, peer_id_of
from gridtokenx.network.links import Outlet
from gridtokenx.network.muxer import GuardedYamux
from gridtokenx.network.rpc import RPC_PROTOCOL
from gridtokenx.network.settings import NetworkError, PeerGone, RemoteError, RequestTimeout, TooLarge

MAX_ANSWER = (4 << 20) + 65_536
MAX_REQUEST = 1 << 20
MAX_WAITING_PUSHES = 8192
_BATCH_BYTES = 256 << 10


class PushesLost(NetworkError):
    """The program took pushes more slowly than they came; subscribe again and ask for what was missed."""


@frozen
class Push:
    """One server push: `subscription` as the server named it, `data` as decoded."""

    subscription: int | str
    data: Any


@define
class _Call:
    done: trio.Event
    result: Any = None
    error: Exception | None = None


class RpcClient:
    """An open session. Any number of tasks may `call` at once; answers come as they are ready."""

    def __init__(self, stream: FrameStream, address: str) -> None:
        self.address = address
        self._stream = stream
        self._outlet = Outlet(max_frames=65_536, max_bytes=64 << 20)
        self._next = 1
        self._calls: dict[int, _Call] = {}
        self._pushes: deque[Push] = deque()
        self._lost = 0
        self._pushed = trio.Event()
        self._gone: PeerGone | None = None

    async def call(self, method: str, params: Any = None, timeout_s: float = 10.0) -> Any:
        """The result of `method`. Raises RemoteError (code, message), RequestTimeout, PeerGone, TooLarge."""
        if self._gone is not None:
            raise PeerGone(str(self._gone))
        identifier = self._next
        self._next += 1
        frame = codec.encode([identifier, method, params])
        if len(frame) > MAX_REQUEST:
            raise TooLarge(f"a request of {len(frame)} bytes; at most {MAX_REQUEST} are allowed")
        if not self._outlet.push(frame):
            raise TooLarge("too many requests are waiting to be sent; wait for answers first")
        waiting = self._calls[identifier] = _Call(trio.Event())
        try:
            with trio.move_on_after(timeout_s) as timer:
                await waiting.done.wait()
            if timer.cancelled_caught and not waiting.done.is_set():
                raise RequestTimeout(f"no answer to {method} within {timeout_s} s")
        finally:
            del self._calls[identifier]
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    async def pushes(self) -> AsyncIterator[Push]:
        """Pushes as they come, for one consumer. Raises PeerGone when the session ends, PushesLost after a gap."""
        while True:
            while self._pushes:
                yield self._pushes.popleft()
            if self._lost:
                lost, self._lost = self._lost, 0
                raise PushesLost(f"{lost} pushes came while {MAX_WAITING_PUSHES} were waiting")
            if self._gone is not None:
                raise PeerGone(str(self._gone))
            self._pushed = trio.Event()
            await self._pushed.wait()

    async def _write(self) -> None:
        try:
            while True:
                await self._outlet.wait()
                await self._stream.write(join_frames(self._outlet.take(_BATCH_BYTES)))
        except PeerGone as error:
            self._end(error)

    async def _read(self) -> None:
        try:
            while True:
                value = codec.decode(await self._stream.read_frame(MAX_ANSWER), max_bytes=MAX_ANSWER)
                if not isinstance(value, list) or len(value) != 3:
                    raise codec.CodecError("an answer is an array of three")
                self._take(*value)
        except PeerGone as error:
            self._end(error)
        except (TooLarge, codec.CodecError) as error:
            self._end(PeerGone(f"the node sent what a node does not send: {error}"))

    def _take(self, identifier: Any, status: Any, value: Any) -> None:
        if identifier == 0:
            if status is None:
                self._end(PeerGone(f"the node ended the session: {value}"))
            elif len(self._pushes) < MAX_WAITING_PUSHES and not self._lost:
                self._pushes.append(Push(status, value))
                self._pushed.set()
            else:
                self._lost += 1
            return
        waiting = self._calls.get(identifier) if type(identifier) is int else None
        if waiting is None:
            return  # its caller has given up
        if status is True:
            waiting.result = value
        elif isinstance(value, list) and len(value) == 2:
            waiting.error = RemoteError(str(value[1]), str(value[0]))
        else:
            waiting.error = RemoteError("an answer of unknown form", "malformed")
        waiting.done.set()

    def _end(self, error: PeerGone) -> None:
        if self._gone is None:
            self._gone = error
        for waiting in self._calls.values():
            if not waiting.done.is_set():
                waiting.error = PeerGone(str(self._gone))
                waiting.done.set()
        self._pushed.set()


async def _refuse_streams(muxed: GuardedYamux) -> None:
    """A client serves nothing; streams that the node opens are ended."""
    try:
        while True:
            await (await muxed.accept_stream()).reset()
    except STREAM_ERRORS:
        return


@asynccontextmanager
async def connect(address: str, key: PrivateKey | None = None, *, psk: str | None = None,
                  timeout_s: float = 5.0) -> AsyncIterator[RpcClient]:
    """A session with the node at `address` (`/ip4/…/tcp/…/p2p/…`); without `key` under a throw-away identity.

    Raises AddressError, and PeerGone with the reason when the node cannot be reached within `timeout_s`.
    """
    quiet_libp2p()
    target, public = parse_address(address, with_peer=True)
    assert public is not None
    peer_id = peer_id_of(public)
    upgrader = make_upgrader(key_pair_of(key or PrivateKey.generate()))
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            muxed: GuardedYamux | None = None
            try:
                try:
                    with trio.fail_after(timeout_s):
                        raw = read_ahead(await TCP().dial(target))
                        try:
                            secured = await upgrader.upgrade_security(
                                new_protected_conn(raw, psk) if psk else raw, True, peer_id)
                            connection = await upgrader.upgrade_connection(secured, peer_id)
                        except BaseException:
                            with shielded(1.0):
                                await raw.close()
                            raise
                        assert isinstance(connection, GuardedYamux)
                        muxed = connection
                        nursery.start_soon(muxed.start)
                        await muxed.event_started.wait()
                        nursery.start_soon(_refuse_streams, muxed)
                        stream = FrameStream(NetStream(await muxed.open_stream(), None, None))
                        await negotiate(stream, RPC_PROTOCOL)
                except trio.TooSlowError as error:
                    raise PeerGone(f"{address}: no session within {timeout_s} s") from error
                except (*STREAM_ERRORS, ValueError) as error:
                    raise PeerGone(f"{address}: {_root(error)}") from error
                client = RpcClient(stream, address)
                nursery.start_soon(client._write)
                nursery.start_soon(client._read)
                try:
                    yield client
                finally:
                    client._end(PeerGone(f"{address}: the session was closed here"))
            except BaseException as error:
                raised = error
                raise
            finally:
                if muxed is not None:
                    with shielded(1.0):
                        await muxed.sever()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        if raised is not None and not isinstance(raised, trio.Cancelled):
            raise raised from raised.__cause__  # not wrapped in a group: callers expect their own exception
        raise


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
