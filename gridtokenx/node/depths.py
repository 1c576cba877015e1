"""Depth of the windows that clients ask for, kept up with the final blocks (`ledger.depth`).

A window is read from the state once; afterwards it follows what the final blocks changed. One that nobody asked for
over many blocks is read anew. At most `WINDOWS_MOST` are kept, those asked for last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from gridtokenx._native.orderbook import Path
from gridtokenx.ledger import spaces
from gridtokenx.ledger.depth import WindowDepth
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.queries import market_clock
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.orders import BUY
from gridtokenx.node.reads import Reads

WINDOWS_MOST = 32
BLOCKS_MOST = 64
"""So many blocks are followed; further back, reading the window anew is no more work."""

_Answer = TypeVar("_Answer")


def _read(state: StateReader, window: int) -> tuple[int, WindowDepth]:
    return market_clock(state).height, WindowDepth(state, window)


class Depths:
    """Over one view, for rpc, HTTP and feeds alike; on its event loop."""

    def __init__(self, reads: Reads, genesis: Genesis) -> None:
        self._reads = reads
        self._grid = genesis.books(max_orders=1, max_windows=1).engine
        self._known: OrderedDict[int, tuple[int, WindowDepth]] = OrderedDict()      # at which height

    async def read(self, window: int, look: Callable[[WindowDepth], _Answer]) -> _Answer:
        """What `look` makes of the window at the newest final block. To be called without the view's lock."""
        async with self._reads.view.lock:
            known = self.known(window)
            if known is not None:
                return look(known)
        height, depth = await self._reads.at_length(_read, window)
        async with self._reads.view.lock:
            return look(self.take(height, depth))

    def known(self, window: int) -> WindowDepth | None:
        """The window as of the newest final block; None when it must be read from the state."""
        entry = self._known.get(window)
        return None if entry is None else self._brought(*entry)

    def take(self, height: int, depth: WindowDepth) -> WindowDepth:
        """One read from the state of a recent final block; read anew when that is too long ago."""
        return self._brought(height, depth) or self.now(depth.window)

    def now(self, window: int) -> WindowDepth:
        """The window, read from the newest state if it is not known."""
        known = self.known(window)
        if known is not None:
            return known
        fresh = self._brought(self._reads.view.head.height, WindowDepth(self._reads.view.state, window))
        assert fresh is not None
        return fresh

    def routes(self, zone: int, side: int) -> Sequence[tuple[int, int, Path]]:
        """(other zone, number, path) of all paths over which an order of `side` in a zone can trade."""
        return [(other, number, path) for other in range(len(self._grid.zones))
                for number, path in enumerate(self._grid.paths(*((other, zone) if side == BUY else (zone, other))))]

    def paths(self, seller_zone: int, buyer_zone: int) -> list[Path]:
        return self._grid.paths(seller_zone, buyer_zone)

    def _brought(self, height: int, depth: WindowDepth) -> WindowDepth | None:
        """The depth as of the newest final block; None if what happened since `height` is not to be had."""
        view, keys = self._reads.view, self._changed_since(height, spaces.orders_of_window(depth.window))
        if keys is None:
            self._known.pop(depth.window, None)
            return None
        depth.follow([(key, view.state.get(key)) for key in keys])
        depth.at(market_clock(view.state).now_ms)
        self._known[depth.window] = view.head.height, depth
        self._known.move_to_end(depth.window)
        if len(self._known) > WINDOWS_MOST:
            self._known.popitem(last=False)
        return depth

    def _changed_since(self, height: int, prefix: bytes) -> list[bytes] | None:
        """The keys with the prefix that blocks after that height changed; None if too many did, or nobody knows."""
        top = self._reads.view.head.height
        if not top - BLOCKS_MOST <= height <= top:
            return None
        found: set[bytes] = set()
        for at in range(height + 1, top + 1):
            keys = self._reads.changed_keys(at)
            if keys is None:
                return None
            found.update(key for key in keys if key.startswith(prefix))
        return sorted(found)
