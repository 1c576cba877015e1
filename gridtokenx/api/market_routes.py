"""Endpoints about trading and the grid: orders, books, trades, statistics, prices, grid status."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from gridtokenx.api.answers import at_depth, at_head, decode_cursor, encode_cursor, to_address
from gridtokenx.api.backend import Backend, Map
from gridtokenx.api.errors_of import errors_of
from gridtokenx.api.models.chain import Transaction
from gridtokenx.api.models.grid import GridStatus, WindowBalance
from gridtokenx.api.models.market import History, LandedBook, Order, OrderBook, Orders, Prices, Stats, Trades
from gridtokenx.api.problems import Problem, unknown
from gridtokenx.api.submissions import REQUEST_BODY, Submissions
from gridtokenx.ledger import grid_queries, market_queries, queries, settlement_queries, tariff_queries
from gridtokenx.ledger.depth import WindowDepth, landed
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.orders import BUY, SELL

ADDRESS = "^(gtx1[02-9ac-hj-np-z]{58}|[0-9a-f]{64})$"
CURSOR = "^[A-Za-z0-9_-]{1,64}$"
MAX_LISTED = 500
MAX_LEVELS = 200
MAX_WINDOWS = 672
FLAGS = 50
MAX_HISTORY_TRADES = 2_000

Window = Annotated[int, Path(ge=0, le=MAX_WINDOW, description="Unix seconds // 900")]
OrderId = Annotated[str, Path(pattern="^[0-9]{1,19}$")]
WhichWindow = Annotated[int | None, Query(ge=0, le=MAX_WINDOW)]
WhichZone = Annotated[int | None, Query(ge=0, le=63)]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED)]
Cursor = Annotated[str | None, Query(pattern=CURSOR, description="`next` of the page before")]
Account = Annotated[str, Query(pattern=ADDRESS)]
WaitMs = Annotated[int, Query(ge=0, le=60_000)]


def orders_page(state: StateReader, address: bytes, limit: int, cursor: str | None) -> Map:
    """An account's open orders, first due first, with the cursor of the next page."""
    after = (0, 0) if cursor is None else decode_cursor(cursor, 2)
    items = queries.open_orders(state, address, limit, (after[0], after[1]))
    more = len(items) == limit
    return {"items": items, "next": encode_cursor(items[-1]["expires_ms"], items[-1]["order"]) if more else None}


def trades_page(backend: Backend, limit: int, cursor: str | None, **where: Any) -> Map:
    """Trades newest first, with the cursor of the next page."""
    below = None if cursor is None else decode_cursor(cursor, 2)
    found = backend.reads.trades(limit, below=None if below is None else (below[0], below[1]), **where)
    return {"items": [trade for _, trade in found],
            "next": encode_cursor(*found[-1][0]) if len(found) == limit else None}


def zone_books(state: StateReader, depth: WindowDepth, zone: int | None, levels: int) -> Map:
    """The books of one zone or of all."""
    rows = [{"zone": entry["zone"], "name": entry["name"], "bids": depth.side(entry["zone"], BUY, levels),
             "asks": depth.side(entry["zone"], SELL, levels)}
            for entry in queries.zones(state) if zone in (None, entry["zone"])]
    return {"window": depth.window, "height": queries.market_clock(state).height, "zones": rows}


def check_zone(state: StateReader, zone: int | None) -> None:
    """Raises Problem for a zone that the grid does not have."""
    if zone is not None:
        listed = queries.zones(state)
        if zone >= len(listed):
            raise unknown(f"no zone {zone}; there are 0 to {len(listed) - 1}")


def market_routes(backend: Backend, submissions: Submissions) -> APIRouter:
    router, reads = APIRouter(), backend.reads

    def coming(window: int | None) -> int:
        """The window asked for, or the next one open for trading."""
        return queries.market_clock(reads.view.state).tradable.start if window is None else window

    # ------------------------------------------------------------ orders

    @router.get("/energy/orders", response_model=Orders, responses=errors_of(404), tags=["energy"])
    async def orders(request: Request, account: Account, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """An account's open orders, first due first."""
        address = to_address(account)
        return await at_head(request, reads, lambda: orders_page(reads.view.state, address, limit, cursor))

    @router.get("/energy/orders/{order_id}", response_model=Order, responses=errors_of(404), tags=["energy"])
    async def order(request: Request, order_id: OrderId) -> Response:
        """An open order. One that was filled, cancelled or has lapsed is not in the state any more."""
        def look() -> Map:
            found = queries.order(reads.view.state, int(order_id))
            if found is None:
                raise unknown(f"order {order_id} is not open")
            return found

        return await at_head(request, reads, look)

    @router.post("/energy/orders", response_model=Transaction, tags=["energy"],
                 responses=errors_of(403, 413, 415, 422, 503) | {202: {
                     "model": Transaction, "description": "in the pool, not final yet"}},
                 openapi_extra=REQUEST_BODY)
    async def place(request: Request, wait_ms: WaitMs = 0) -> Response:
        """Hands in a signed transaction that places orders. Its receipts have the orders' ids."""
        raw = await submissions.read(request)
        _check_operations(submissions.decoded(raw).operations, PlaceOrder.KIND, None)
        return await submissions.submit(request, raw, wait_ms)

    @router.delete("/energy/orders/{order_id}", response_model=Transaction, tags=["energy"],
                   responses=errors_of(403, 413, 415, 422, 503) | {202: {
                       "model": Transaction, "description": "in the pool, not final yet"}},
                   openapi_extra=REQUEST_BODY)
    async def cancel(request: Request, order_id: OrderId, wait_ms: WaitMs = 0) -> Response:
        """Hands in a signed transaction that cancels this order."""
        raw = await submissions.read(request)
        _check_operations(submissions.decoded(raw).operations, CancelOrder.KIND, int(order_id))
        return await submissions.submit(request, raw, wait_ms)

    # ------------------------------------------------------------ books, trades, prices

    @router.get("/energy/orderbook/{window}", response_model=OrderBook, responses=errors_of(404),
                tags=["energy"])
    async def orderbook(request: Request, window: Window, zone: WhichZone = None,
                        levels: Annotated[int, Query(ge=1, le=MAX_LEVELS)] = 20) -> Response:
        """Open orders of a window by zone and price. Prices are limits; `/landed` has them with wheeling and losses."""
        def look(depth: WindowDepth) -> Map:
            check_zone(reads.view.state, zone)
            return zone_books(reads.view.state, depth, zone, levels)

        return await at_depth(request, backend, window, look)

    @router.get("/energy/orderbook/{window}/landed", response_model=LandedBook, responses=errors_of(404),
                tags=["energy"])
    async def landed_orderbook(request: Request, window: Window, zone: Annotated[int, Query(ge=0, le=63)],
                     levels: Annotated[int, Query(ge=1, le=MAX_LEVELS)] = 20) -> Response:
        """What a new order of a zone would meet over all paths with capacity left: landed asks, netback bids."""
        def look(depth: WindowDepth) -> Map:
            state = reads.view.state
            check_zone(state, zone)
            left = market_queries.residuals(state, window)
            asks, bids = (landed(depth, backend.depths.routes(zone, side), left, side, levels) for side in (BUY, SELL))
            return {"window": window, "height": queries.market_clock(state).height, "zone": zone, "bids": bids,
                    "asks": asks}

        return await at_depth(request, backend, window, look)

    @router.get("/energy/trades", response_model=Trades, responses=errors_of(404), tags=["energy"])
    async def trades(request: Request, account: Annotated[str | None, Query(pattern=ADDRESS)] = None,
                     window: WhichWindow = None, zone: WhichZone = None, limit: Limit = 100,
                     cursor: Cursor = None) -> Response:
        """Trades, newest first: of all, of an account, of a window, of a zone (buying or selling)."""
        address = None if account is None else to_address(account)
        return await at_head(request, reads, lambda: trades_page(
            backend, limit, cursor, account=address, window=window, zone=zone))

    @router.get("/energy/history/{window}", response_model=History, responses=errors_of(404), tags=["energy"])
    async def history(request: Request, window: Window, zone: WhichZone = None,
                      blocks: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 200) -> Response:
        """Prices at which a window was traded, block by block, oldest first: of all zones or of one."""
        def wanted(trade: Map) -> bool:
            return zone is None or zone in (trade["buy_zone"], trade["sell_zone"])

        async with reads.view.lock:
            check_zone(reads.view.state, zone)
        trades = [trade for trade in await reads.at_length(queries.trades, window) if wanted(trade)]

        def look() -> Map:
            # Those of a settled window have left the state; the index has them, as far as it is looked through.
            made = trades or [trade for _, trade in reversed(reads.trades(
                MAX_HISTORY_TRADES, window=window, zone=zone))]
            return {"window": window, "height": queries.market_clock(reads.view.state).height,
                    "items": reads.price_history(made, blocks)}

        return await at_head(request, reads, look)

    @router.get("/energy/stats", response_model=Stats, responses=errors_of(), tags=["energy"])
    async def stats(request: Request, windows: Annotated[int, Query(ge=1, le=MAX_WINDOWS)] = 96) -> Response:
        """Participants, meters and orders, and what was traded in the windows around now: half past, half coming."""
        def look() -> Map:
            state = reads.view.state
            clock = queries.market_clock(state)
            first = max(0, clock.now_ms // 900_000 - windows // 2)
            return {"height": clock.height, **grid_queries.counters(state),
                    "windows": grid_queries.traded(state, first, first + windows - 1)}

        return await at_head(request, reads, look)

    @router.get("/energy/prices", response_model=Prices, responses=errors_of(), tags=["energy"])
    async def prices(request: Request, window: WhichWindow = None) -> Response:
        """Per zone traded, best and indicative prices of a window (the next one open for trading), and tariffs."""
        def look(depth: WindowDepth) -> Map:
            state = reads.view.state
            return {"window": depth.window, "height": queries.market_clock(state).height,
                    "zones": queries.prices(state, depth.window, depth.side),
                    "indicative": tariff_queries.indicative_prices(state, depth.window, depth.energy),
                    "rates": tariff_queries.rates(state, depth.window)}

        async with reads.view.lock:
            number = coming(window)
        return await at_depth(request, backend, number, look)

    @router.get("/grid/status", response_model=GridStatus, responses=errors_of(), tags=["grid"])
    async def grid(request: Request, window: WhichWindow = None) -> Response:
        """Zones with their last settled balance, corridors with what is left of them in a window, halts and flags."""
        def look() -> Map:
            state = reads.view.state
            return {"height": queries.market_clock(state).height, **grid_queries.grid(state, coming(window)),
                    "flags": settlement_queries.flags(state, None, FLAGS)}

        return await at_head(request, reads, look)

    @router.get("/grid/windows/{window}", response_model=WindowBalance, responses=errors_of(), tags=["grid"])
    async def balance(request: Request, window: Window) -> Response:
        """Where a window's energy came from and went, per zone and in all, once it is settled."""
        return await at_head(request, reads, lambda: settlement_queries.window(reads.view.state, window))

    return router


def _check_operations(operations: tuple[tuple[Any, ...], ...], kind: int, order_id: int | None) -> None:
    """Raises Problem unless all are of the kind, and cancel the order that the path names."""
    others = sorted({operation[0] for operation in operations if operation[0] != kind})
    if others:
        raise Problem(422, "wrong_operation", f"the transaction has operations of kind {', '.join(map(str, others))}; "
                                              f"this endpoint takes kind {kind}")
    if order_id is not None and [operation[1:] for operation in operations] != [(order_id,)]:
        raise Problem(422, "wrong_operation", f"the transaction does not cancel order {order_id}, and that alone")
