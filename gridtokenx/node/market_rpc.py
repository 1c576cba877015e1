"""The rpc methods about the market: orders, books, prices, corridors, halts. One method of `MarketRpc` per rpc method.

Depth comes from `node.depths`, which keeps the windows that clients ask for; all else is a few records of the state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from gridtokenx.ledger import market_queries, queries, tariff_queries
from gridtokenx.ledger.depth import WindowDepth, landed
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.state import StateView
from gridtokenx.market.orders import BUY, SELL
from gridtokenx.node.chain import Chain
from gridtokenx.node.depths import Depths
from gridtokenx.node.request import MAX_LISTED, RequestError, hash_of, integer, meter_of, window_of

MAX_LEVELS = 200
READ_DEPTH = frozenset({"book", "landed", "prices", "indicative"})
"""These take the chain's lock themselves: a window is read for the first time without it."""

Result = TypeVar("Result")
Methods = dict[str, tuple[int, Callable[..., Awaitable[Any]]]]


def _read(state: StateView, window: int) -> tuple[StateView, WindowDepth]:
    return state, WindowDepth(state, window)


class MarketRpc:
    """`at_length` runs what reads much of the state on a thread and a snapshot of its own."""

    def __init__(self, chain: Chain, genesis: Genesis, lock: trio.Lock,
                 at_length: Callable[..., Awaitable[Any]]) -> None:
        self._chain = chain
        self._lock = lock
        self._zones = len(genesis.zones)
        self._depths = Depths(chain, genesis)
        self._at_length = at_length
        self.methods: Methods = {
            "order": (1, self._order), "orders": (2, self._orders), "position": (2, self._position),
            "book": (3, self._book), "landed": (4, self._landed), "prices": (1, self._prices),
            "indicative": (1, self._indicative), "trading": (1, self._trading), "halts": (1, self._halts),
            "capacities": (1, self._capacities), "paths": (2, self._paths), "profiles": (0, self._profiles),
        }

    def _zone(self, value: Any) -> int:
        return integer(value, "a zone", 0, self._zones - 1)

    async def _with_depth(self, window: int, read: Callable[[WindowDepth], Result]) -> Result:
        """What `read` makes of the window at the newest final block."""
        async with self._lock:
            known = self._depths.known(window)
            if known is not None:
                return read(known)
        loaded = await self._at_length(_read, window)
        async with self._lock:
            return read(self._depths.take(*loaded))

    async def _order(self, order_id: Any) -> dict[str, Any] | None:
        return queries.order(self._chain.state, integer(order_id, "an order's id", 1, (1 << 63) - 1))

    async def _orders(self, address: Any, limit: Any) -> list[dict[str, Any]]:
        return queries.open_orders(self._chain.state, hash_of(address, "an address"),
                                   integer(limit, "the limit", 1, MAX_LISTED))

    async def _position(self, meter_id: Any, window: Any) -> dict[str, Any] | None:
        return queries.position(self._chain.state, meter_of(meter_id), window_of(window))

    async def _book(self, window: Any, zone: Any, levels: Any) -> dict[str, Any]:
        number, where = window_of(window), self._zone(zone)
        most = integer(levels, "levels", 1, MAX_LEVELS)
        return await self._with_depth(number, lambda depth: {
            "window": number, "zone": where, "bids": depth.side(where, BUY, most),
            "asks": depth.side(where, SELL, most)})

    async def _landed(self, window: Any, zone: Any, side: Any, levels: Any) -> list[dict[str, Any]]:
        number, where, most = window_of(window), self._zone(zone), integer(levels, "levels", 1, MAX_LEVELS)
        own = integer(side, "the side of the order (0 buy, 1 sell)", 0, 1)
        routes = self._depths.routes(where, own)
        return await self._with_depth(number, lambda depth: landed(
            depth, routes, market_queries.residuals(self._chain.state, number), own, most))

    async def _prices(self, window: Any) -> list[dict[str, Any]]:
        return await self._with_depth(window_of(window), lambda depth: queries.prices(
            self._chain.state, depth.window, depth.side))

    async def _indicative(self, window: Any) -> list[dict[str, Any]]:
        return await self._with_depth(window_of(window), lambda depth: tariff_queries.indicative_prices(
            self._chain.state, depth.window, depth.energy))

    async def _trading(self, window: Any) -> dict[str, Any]:
        return market_queries.trading(self._chain.state, window_of(window))

    async def _halts(self, limit: Any) -> list[dict[str, Any]]:
        return market_queries.halts(self._chain.state, integer(limit, "the limit", 1, MAX_LISTED))

    async def _capacities(self, window: Any) -> list[dict[str, Any]]:
        return market_queries.capacities(self._chain.state, window_of(window))

    async def _paths(self, seller_zone: Any, buyer_zone: Any) -> list[dict[str, Any]]:
        found = self._depths.paths(self._zone(seller_zone), self._zone(buyer_zone))
        if not found:
            raise RequestError(f"no path leads from zone {seller_zone} to zone {buyer_zone}")
        return [{"path": list(path.corridors), "loss_ppm": path.loss_ppm, "wheel_uthb_kwh": path.wheel_uthb_kwh}
                for path in found]

    async def _profiles(self) -> list[dict[str, Any]]:
        return market_queries.profiles(self._chain.state)
