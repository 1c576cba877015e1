"""The rpc methods about the market: orders, books, prices, corridors, halts. One method of `MarketRpc` per rpc method.

Depth comes from `node.depths`, which keeps the windows that clients ask for; all else is a few records of the state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gridtokenx.ledger import market_queries, queries, tariff_queries
from gridtokenx.ledger.depth import landed
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.orders import BUY, SELL
from gridtokenx.node.depths import Depths
from gridtokenx.node.reads import Reads
from gridtokenx.node.request import MAX_LISTED, RequestError, hash_of, integer, meter_of, window_of

MAX_LEVELS = 200
READ_DEPTH = frozenset({"book", "landed", "prices", "indicative"})
"""These take the chain's lock themselves: a window is read for the first time without it."""

Methods = dict[str, tuple[int, Callable[..., Awaitable[Any]]]]


class MarketRpc:
    def __init__(self, reads: Reads, depths: Depths, genesis: Genesis) -> None:
        self._reads = reads
        self._zones = len(genesis.zones)
        self._depths = depths
        self.methods: Methods = {
            "order": (1, self._order), "orders": (2, self._orders), "position": (2, self._position),
            "book": (3, self._book), "landed": (4, self._landed), "prices": (1, self._prices),
            "indicative": (1, self._indicative), "trading": (1, self._trading), "halts": (1, self._halts),
            "capacities": (1, self._capacities), "paths": (2, self._paths), "profiles": (0, self._profiles),
        }

    @property
    def _state(self) -> StateReader:
        return self._reads.view.state

    def _zone(self, value: Any) -> int:
        return integer(value, "a zone", 0, self._zones - 1)

    async def _order(self, order_id: Any) -> dict[str, Any] | None:
        return queries.order(self._state, integer(order_id, "an order's id", 1, (1 << 63) - 1))

    async def _orders(self, address: Any, limit: Any) -> list[dict[str, Any]]:
        return queries.open_orders(self._state, hash_of(address, "an address"),
                                   integer(limit, "the limit", 1, MAX_LISTED))

    async def _position(self, meter_id: Any, window: Any) -> dict[str, Any] | None:
        return queries.position(self._state, meter_of(meter_id), window_of(window))

    async def _book(self, window: Any, zone: Any, levels: Any) -> dict[str, Any]:
        number, where = window_of(window), self._zone(zone)
        most = integer(levels, "levels", 1, MAX_LEVELS)
        return await self._depths.read(number, lambda depth: {
            "window": number, "zone": where, "bids": depth.side(where, BUY, most),
            "asks": depth.side(where, SELL, most)})

    async def _landed(self, window: Any, zone: Any, side: Any, levels: Any) -> list[dict[str, Any]]:
        number, where, most = window_of(window), self._zone(zone), integer(levels, "levels", 1, MAX_LEVELS)
        own = integer(side, "the side of the order (0 buy, 1 sell)", 0, 1)
        routes = self._depths.routes(where, own)
        return await self._depths.read(number, lambda depth: landed(
            depth, routes, market_queries.residuals(self._state, number), own, most))

    async def _prices(self, window: Any) -> list[dict[str, Any]]:
        return await self._depths.read(window_of(window), lambda depth: queries.prices(
            self._state, depth.window, depth.side))

    async def _indicative(self, window: Any) -> list[dict[str, Any]]:
        return await self._depths.read(window_of(window), lambda depth: tariff_queries.indicative_prices(
            self._state, depth.window, depth.energy))

    async def _trading(self, window: Any) -> dict[str, Any]:
        return market_queries.trading(self._state, window_of(window))

    async def _halts(self, limit: Any) -> list[dict[str, Any]]:
        return market_queries.halts(self._state, integer(limit, "the limit", 1, MAX_LISTED))

    async def _capacities(self, window: Any) -> list[dict[str, Any]]:
        return market_queries.capacities(self._state, window_of(window))

    async def _paths(self, seller_zone: Any, buyer_zone: Any) -> list[dict[str, Any]]:
        found = self._depths.paths(self._zone(seller_zone), self._zone(buyer_zone))
        if not found:
            raise RequestError(f"no path leads from zone {seller_zone} to zone {buyer_zone}")
        return [{"path": list(path.corridors), "loss_ppm": path.loss_ppm, "wheel_uthb_kwh": path.wheel_uthb_kwh}
                for path in found]

    async def _profiles(self) -> list[dict[str, Any]]:
        return market_queries.profiles(self._state)
