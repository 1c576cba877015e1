"""The open orders of a window by price, kept up with the blocks that change them: what queries about depth read.

Made once from the state, then told the changes of each block: a query costs what has changed since the last one and
the levels it asks for, not the orders of the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from heapq import heapify, heappop, heappush, merge
from itertools import islice
from typing import Any

from attrs import frozen

from gridtokenx._native.orderbook import Path
from gridtokenx.grid.kinds import RENEWABLE
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import CorridorWindow, Order
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.closing import due_ms
from gridtokenx.market.money import PPM
from gridtokenx.market.orders import BUY, SELL
from gridtokenx.market.tariffs import LOT_WH

Level = list[int]       # price mTHB/kWh, Wh shown, orders


@frozen
class _Held:
    """What the sums hold of an order."""

    zone: int
    side: int
    price: int
    shown_wh: int
    remaining_wh: int
    renewable: bool
    due_ms: int


class WindowDepth:
    """The orders of one window. `at` must be called with the state's market time before it is read."""

    def __init__(self, state: StateReader, window: int) -> None:
        self.window = window
        self._gate_ms = gate_ms(window)
        self._prefix = spaces.orders_of_window(window)
        self._orders: dict[bytes, _Held] = {}
        self._levels: dict[tuple[int, int], dict[int, list[int]]] = {}
        self._energy: dict[int, list[int]] = {}
        self._expiring: list[tuple[int, bytes]] = []
        self._closed = False
        for key, raw in state.scan(self._prefix):
            self._add(key, Order.decode(raw))
        heapify(self._expiring)

    def follow(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Takes in the changes of the next block."""
        for key, raw in changes:
            if key.startswith(self._prefix):
                self._drop(key)
                if raw is not None:
                    self._add(key, Order.decode(raw))

    def at(self, now_ms: int) -> None:
        """What has expired by now is left out; after the gate nothing is open."""
        self._closed = now_ms >= self._gate_ms
        while self._expiring and self._expiring[0][0] <= now_ms:
            due, key = heappop(self._expiring)
            held = self._orders.get(key)
            if held is not None and held.due_ms == due:
                self._drop(key)

    def side(self, zone: int, side: int, levels: int) -> list[Level]:
        """The best prices of a zone's buys or sells, best first."""
        prices = {} if self._closed else self._levels.get((zone, side), {})
        return [[price, *prices[price]] for price in sorted(prices, reverse=side == BUY)[:levels]]

    def energy(self, zone: int) -> tuple[int, int, int]:
        """(asked for, offered, of it renewable) Wh in a zone, what icebergs hide included; at the gate as it stood."""
        demand, supply, renewable = self._energy.get(zone, (0, 0, 0))
        return demand, supply, renewable

    def _add(self, key: bytes, order: Order) -> None:
        due = due_ms(order, self.window)
        held = _Held(order.zone, order.side, order.price, order.remaining_wh - order.hidden_wh, order.remaining_wh,
                     order.side == SELL and order.source in RENEWABLE, due)
        self._orders[key] = held
        self._count(held, 1)
        if due < self._gate_ms:
            heappush(self._expiring, (due, key))

    def _drop(self, key: bytes) -> None:
        held = self._orders.pop(key, None)
        if held is not None:
            self._count(held, -1)

    def _count(self, held: _Held, sign: int) -> None:
        prices = self._levels.setdefault((held.zone, held.side), {})
        level = prices.setdefault(held.price, [0, 0])
        level[0] += sign * held.shown_wh
        level[1] += sign
        if not level[1]:
            del prices[held.price]
        energy = self._energy.setdefault(held.zone, [0, 0, 0])
        energy[0 if held.side == BUY else 1] += sign * held.remaining_wh
        if held.renewable:
            energy[2] += sign * held.remaining_wh


def landed(depth: WindowDepth, routes: Sequence[tuple[int, int, Path]], residuals: Sequence[CorridorWindow], side: int,
           levels: int) -> list[dict[str, Any]]:
    """What an order of `side` in a zone would meet, best first: levels of all zones with the path they come over.

    `routes` are (other zone, path number, path); those that carry less than a lot are left out. `landed_uthb_kwh` is
    the landed price at the buyer's meter, rounded up, or the netback at the seller's, rounded down; the order is that
    of the exact fractions (MARKET 5). Levels of one zone appear once per path: they are the same orders.
    """
    other = SELL if side == BUY else BUY
    books: dict[int, list[Level]] = {}
    ways = []
    for zone, number, path in routes:
        left = min(((residuals[corridor].backward_left_wh if direction else residuals[corridor].forward_left_wh)
                    for corridor, direction in zip(path.corridors, path.directions, strict=True)), default=None)
        if left is not None and left < LOT_WH:
            continue
        if zone not in books:
            books[zone] = depth.side(zone, other, levels)
        ways.append([(_rank(side, path, price), zone, number, path, left, price, wh, orders)
                     for price, wh, orders in books[zone]])
    sign = 1 if side == BUY else -1
    rows = []
    for rank, zone, number, path, left, price, wh, orders in islice(
            merge(*ways, key=lambda row: (sign * row[0], row[1], row[2])), levels):
        uthb = -(-rank.numerator // rank.denominator) if side == BUY else rank.numerator // rank.denominator
        rows.append({"landed_uthb_kwh": uthb, "zone": zone, "path": list(path.corridors), "number": number,
                     "price_mthb_kwh": price, "shown_wh": wh, "orders": orders, "path_wh": left})
    return rows


def _rank(side: int, path: Path, price: int) -> Fraction:
    """uTHB/kWh, exactly."""
    keep = PPM - path.loss_ppm
    if side == BUY:
        return Fraction(price * 1000 * PPM + path.wheel_uthb_kwh * keep, keep)
    return Fraction((price * 1000 - path.wheel_uthb_kwh) * keep, PPM)
