"""One direction of dialling between two nodes, as a TCP proxy that can be cut, silenced or slowed down."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

import trio
from attrs import define, field

if TYPE_CHECKING:
    from trio_typing import TaskStatus

CHUNK = 65_536


class State(Enum):
    """What becomes of bytes."""

    OPEN = "open"
    CUT = "cut"             # connections are reset, new ones refused
    SILENT = "silent"       # nothing arrives, and nobody is told
    SLOW = "slow"           # everything arrives late


@define(eq=False)
class Proxy:
    """Listens on `port` of this machine and forwards to `target`; `run` in a nursery."""

    port: int
    target: int
    state: State = State.OPEN
    delay_s: float = 0.0
    broken: int = 0
    _changed: trio.Event = field(factory=trio.Event)
    _scopes: set[trio.CancelScope] = field(factory=set)

    def become(self, state: State, delay_s: float = 0.0) -> None:
        """From now on, for connections that stand too."""
        self.state, self.delay_s = state, delay_s
        self._changed.set()
        self._changed = trio.Event()
        if state is State.CUT:
            for scope in list(self._scopes):
                scope.cancel()

    async def run(self, task_status: TaskStatus[Sequence[trio.SocketListener]] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.serve_tcp(self._serve, self.port, host="127.0.0.1", task_status=task_status)

    async def _serve(self, near: trio.SocketStream) -> None:
        if self.state is State.CUT:
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                far = await trio.open_tcp_stream("127.0.0.1", self.target)
                async with far, near, trio.open_nursery() as nursery:
                    nursery.start_soon(self._forward, near, far, nursery.cancel_scope)
                    nursery.start_soon(self._forward, far, near, nursery.cancel_scope)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                self.broken += 1            # a side has gone, and the other hears of it by its closed connection
            finally:
                self._scopes.discard(scope)

    async def _forward(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        """In order and whole: what is delayed or held back still arrives, unless the connection ends before."""
        while data := await source.receive_some(CHUNK):
            if self.state is State.SLOW:
                await trio.sleep(self.delay_s)
            while self.state is State.SILENT:
                await self._changed.wait()
            await sink.send_all(data)
        both.cancel()
