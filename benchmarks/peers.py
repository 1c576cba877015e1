"""Order books of PyPI that can be called from Python, each driven operation by operation, as its users drive it.

An adapter takes a flow's limit orders, IOC orders and cancels (ids are the file's) and says what is left in the book,
so that a run can be compared with ours. A peer without IOC orders places a limit order and cancels what is left of it;
one that gives out ids of its own is asked by them. The slow ones are given fewer of the timed operations, the first of
the same file. Time is that of the process: other work on the machine does not count.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gridtokenx._native.orderbook import RecordKind
from gridtokenx.flow import Flow

# limit and ioc (id, side, price, quantity), cancel (id), lots left
Adapter = tuple[Callable[[int, int, int, int], object], Callable[[int, int, int, int], object],
                Callable[[int], object], Callable[[], int]]


def limit_order_book() -> Adapter:
    book = importlib.import_module("limit_order_book").LimitOrderBook()
    buy, sell, has, cancel_order = book.limit_buy, book.limit_sell, book.has, book.cancel

    def limit(name: int, side: int, price: int, quantity: int) -> None:
        (sell if side else buy)(name, quantity, price)

    def ioc(name: int, side: int, price: int, quantity: int) -> None:
        (sell if side else buy)(name, quantity, price)
        if has(name):
            cancel_order(name)

    def cancel(name: int) -> None:
        if has(name):
            cancel_order(name)

    return limit, ioc, cancel, book.volume


def orderly_chaos() -> Adapter:
    module = importlib.import_module("orderly_chaos")
    errors = importlib.import_module("orderly_chaos.errors")
    book = module.LimitOrderBook()
    buy, sell = book.limit_buy, book.limit_sell

    def limit(name: int, side: int, price: int, quantity: int) -> None:
        (sell if side else buy)(name, quantity, price)

    def ioc(name: int, side: int, price: int, quantity: int) -> None:
        if (sell if side else buy)(name, quantity, price) < quantity:
            book.cancel(name)

    def cancel(name: int) -> None:
        with contextlib.suppress(errors.UnknownOrderIdError):
            book.cancel(name)

    return limit, ioc, cancel, lambda: book.volume_buy() + book.volume_sell()


def obook() -> Adapter:
    module = importlib.import_module("obook")
    book, ids = module.Book(max_orders=4_000_000), {}
    submit, events = book.submit, book.events

    def limit(name: int, side: int, price: int, quantity: int) -> None:
        ids[name] = submit(name, side, price, quantity).order_id    # a user of its own: no self-trade prevention
        events()

    def ioc(name: int, side: int, price: int, quantity: int) -> None:
        submit(name, side, price, quantity, module.LIMIT, module.IOC)
        events()

    def cancel(name: int) -> None:
        if name in ids:
            book.cancel(ids.pop(name), name)
            events()

    return limit, ioc, cancel, lambda: sum(order.qty - order.filled for order in book.book())


def litebook() -> Adapter:
    module = importlib.import_module("litebook")
    book, ids, sides = module.OrderBook(tick_size=1.0), {}, (module.OrderType.Buy, module.OrderType.Sell)

    def limit(name: int, side: int, price: int, quantity: int) -> None:
        order = book.create_order(sides[side], price, quantity)
        book.add(order)
        ids[name] = order.id

    def ioc(_: int, side: int, price: int, quantity: int) -> None:
        order = book.create_order(sides[side], price, quantity)
        book.add(order)
        book.cancel(order.id)

    def cancel(name: int) -> None:
        if name in ids:
            book.cancel(ids.pop(name))

    return limit, ioc, cancel, lambda: round(sum(order.quantity for order in book.buy_orders + book.sell_orders))


def _like_orderbook(module: Any) -> Adapter:
    """Two packages of one author with one interface."""
    book, orders, sides = module.OrderBook(), {}, (module.OrderSide.BID, module.OrderSide.ASK)
    prices: dict[int, Decimal] = {}

    def make(side: int, price: int, quantity: int) -> Any:
        exact = prices.get(price)
        if exact is None:
            exact = prices[price] = Decimal(price)
        return module.Order(side=sides[side], price=exact, original_quantity=quantity)

    def limit(name: int, side: int, price: int, quantity: int) -> None:
        order = orders[name] = make(side, price, quantity)
        book.add_limit_order(order)

    def ioc(_: int, side: int, price: int, quantity: int) -> None:
        order = make(side, price, quantity)
        book.add_limit_order(order)
        if order.remaining_quantity:
            book.cancel_order(order.order_id)

    def cancel(name: int) -> None:
        order = orders.pop(name, None)
        if order is not None:
            book.cancel_order(order.order_id)

    return limit, ioc, cancel, lambda: sum(order.remaining_quantity for _, order in book.orders.values())


def cython_orderbook() -> Adapter:
    return _like_orderbook(importlib.import_module("cython_orderbook"))


def akhil4n_orderbook() -> Adapter:
    return _like_orderbook(importlib.import_module("orderbook"))


def lightmatchingengine() -> Adapter:
    module = importlib.import_module("lightmatchingengine.lightmatchingengine")
    engine, orders, sides = module.LightMatchingEngine(), {}, (module.Side.BUY, module.Side.SELL)

    def limit(name: int, side: int, price: int, quantity: int) -> None:
        orders[name], _ = engine.add_order("X", price, quantity, sides[side])

    def ioc(_: int, side: int, price: int, quantity: int) -> None:
        order, _ = engine.add_order("X", price, quantity, sides[side])
        if order.leaves_qty > 0:
            engine.cancel_order(order.order_id, "X")

    def cancel(name: int) -> None:
        order = orders.pop(name, None)
        if order is not None and order.leaves_qty > 0:
            engine.cancel_order(order.order_id, "X")

    def left() -> int:
        book = engine.order_books["X"]
        return sum(order.leaves_qty for side in (book.bids, book.asks) for queue in side.values() for order in queue)

    return limit, ioc, cancel, left


# name on PyPI: (module, adapter, timed operations, largest prefill it is given). Not among them: fastlob and pylobo,
# which pin versions of other packages; nanobook 0.19.2, which never returns from an order of the mix flow.
PEERS: dict[str, tuple[str, Callable[[], Adapter], int, int]] = {
    "limit-order-book": ("limit_order_book", limit_order_book, 100_000, 1_000_000),
    "orderly-chaos": ("orderly_chaos", orderly_chaos, 100_000, 1_000_000),
    "litebook": ("litebook", litebook, 50_000, 100_000),
    "cython-orderbook": ("cython_orderbook", cython_orderbook, 50_000, 100_000),
    "akhil4n-orderbook": ("orderbook", akhil4n_orderbook, 20_000, 100_000),
    "obook": ("obook", obook, 20_000, 100_000),
    "lightmatchingengine": ("lightmatchingengine", lightmatchingengine, 5_000, 100_000),
}


def installed() -> tuple[list[str], list[str]]:
    """(those that can be run, those that are missing)."""
    found = [name for name, (module, *_) in PEERS.items() if importlib.util.find_spec(module)]
    return found, [name for name in PEERS if name not in found]


def play(name: str, flow: Flow) -> tuple[float, int, int] | None:
    """(ns per operation, timed operations, lots left in the book), or None when the prefill is too large for it."""
    _, make, operations, prefill_most = PEERS[name]
    if flow.prefill > prefill_most:
        return None
    limit, ioc, cancel, left = make()
    records = flow.records[: flow.prefill + operations]
    rows = list(zip(records["kind"].tolist(), records["id"].tolist(), records["side"].tolist(),
                    records["price"].tolist(), records["quantity"].tolist(), strict=True))
    for _, order_id, side, price, quantity in rows[: flow.prefill]:
        limit(order_id, side, price, quantity)
    timed = rows[flow.prefill:]
    gc.collect()
    start = time.process_time_ns()
    for kind, order_id, side, price, quantity in timed:
        if kind == RecordKind.LIMIT:
            limit(order_id, side, price, quantity)
        elif kind == RecordKind.CANCEL:
            cancel(order_id)
        else:
            ioc(order_id, side, price, quantity)
    return (time.process_time_ns() - start) / len(timed), len(timed), left()
