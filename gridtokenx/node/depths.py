"""Depth of the windows that clients ask for, kept up with the final blocks (`ledger.depth`).

A window is read from the state once; afterwards it follows the changes of the final blocks that no checkpoint holds
yet. One that nobody asked for over several checkpoints is read anew. At most `WINDOWS_MOST` are kept, those asked for
last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from gridtokenx._native.orderbook import Path
from gridtokenx.ledger.depth import WindowDepth
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.queries import market_clock
from gridtokenx.ledger.state import StateView
from gridtokenx.market.orders import BUY
from gridtokenx.node.chain import Chain, ChainBlock

WINDOWS_MOST = 32


class Depths:
    """For one task at a time; the chain must not move meanwhile."""

    def __init__(self, chain: Chain, genesis: Genesis) -> None:
        self._chain = chain
        self._grid = genesis.books(max_orders=1, max_windows=1).engine
        self._known: OrderedDict[int, tuple[bytes, WindowDepth]] = OrderedDict()     # at which block

    def known(self, window: int) -> WindowDepth | None:
        """The window as of the newest final block; None when it must be read from the state."""
        entry = self._known.get(window)
        if entry is None:
            return None
        blocks = self._since(entry[0])
        if blocks is None:
            del self._known[window]
            return None
        return self._brought(window, entry[1], blocks)

    def take(self, at: StateView, depth: WindowDepth) -> WindowDepth:
        """One read from the state of a recent final block; read anew when that is too long ago."""
        blocks = self._since(at.header.hash)
        if blocks is None:
            depth, blocks = WindowDepth(self._chain.state, depth.window), []
        return self._brought(depth.window, depth, blocks)

    def routes(self, zone: int, side: int) -> Sequence[tuple[int, int, Path]]:
        """(other zone, number, path) of all paths over which an order of `side` in a zone can trade."""
        return [(other, number, path) for other in range(len(self._grid.zones))
                for number, path in enumerate(self._grid.paths(*((other, zone) if side == BUY else (zone, other))))]

    def paths(self, seller_zone: int, buyer_zone: int) -> list[Path]:
        return self._grid.paths(seller_zone, buyer_zone)

    def _brought(self, window: int, depth: WindowDepth, blocks: list[ChainBlock]) -> WindowDepth:
        for block in blocks:
            assert block.state is not None
            depth.follow(block.state.changes.items())
        depth.at(market_clock(self._chain.state).now_ms)
        self._known[window] = self._chain.head.digest, depth
        self._known.move_to_end(window)
        if len(self._known) > WINDOWS_MOST:
            self._known.popitem(last=False)
        return depth

    def _since(self, digest: bytes) -> list[ChainBlock] | None:
        """The final blocks after that one, oldest first; None when they are not all held."""
        blocks: list[ChainBlock] = []
        for block in reversed(self._chain.finals()):
            if block.digest == digest:
                return blocks[::-1]
            blocks.append(block)
        return blocks[::-1] if self._chain.base.digest == digest else None
