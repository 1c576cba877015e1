"""What waits for the actor: votes, timers and results first, clients' transactions when there is time for them.

A full queue of urgent items makes its producers wait, and with them the sockets they read. A full queue of bulk
items refuses at once, so that clients hear of an overload while they can still go elsewhere. So memory stays bounded
and a flood of transactions never delays a vote by more than one slice of work.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio
from attrs import define, field

URGENT_MOST = 4096
BULK_MOST = 256
BULK_MOST_BYTES = 2 << 20

Item = TypeVar("Item")


@define(eq=False)
class Inbox(Generic[Item]):
    """Two bounded queues with one reader."""

    _urgent: deque[Item] = field(factory=deque)
    _bulk: deque[tuple[Item, int]] = field(factory=deque)
    _bulk_bytes: int = 0
    _arrived: trio.Event = field(factory=trio.Event)
    _space: trio.Event = field(factory=trio.Event)

    async def put(self, item: Item) -> None:
        """Waits while the queue of urgent items is full."""
        while len(self._urgent) >= URGENT_MOST:
            await self._space.wait()
        self._urgent.append(item)
        self._arrived.set()

    def offer_bulk(self, item: Item, size_bytes: int) -> bool:
        """False if the queue of bulk items is full; one item always fits."""
        if self._bulk and (len(self._bulk) >= BULK_MOST or self._bulk_bytes + size_bytes > BULK_MOST_BYTES):
            return False
        self._bulk.append((item, size_bytes))
        self._bulk_bytes += size_bytes
        self._arrived.set()
        return True

    async def wait(self, timeout_s: float) -> None:
        """Until something arrives, at once if something urgent is here; or `timeout_s` has passed."""
        if not self._urgent:
            self._arrived = trio.Event()
            with trio.move_on_after(timeout_s):
                await self._arrived.wait()

    def take_urgent(self) -> list[Item]:
        """All urgent items there are now."""
        items = list(self._urgent)
        self._urgent.clear()
        self._freed()
        return items

    def first_bulk(self) -> Item | None:
        """The oldest bulk item; it stays until `drop_bulk`, so that it can be worked off in slices."""
        return self._bulk[0][0] if self._bulk else None

    def drop_bulk(self) -> None:
        _, size_bytes = self._bulk.popleft()
        self._bulk_bytes -= size_bytes

    def _freed(self) -> None:
        self._space.set()
        self._space = trio.Event()
