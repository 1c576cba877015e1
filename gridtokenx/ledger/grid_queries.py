"""What clients ask about the grid and the market as a whole: corridors of a window, halts, what a zone's orders meet.

As in `ledger.queries`: maps with text keys and the unit in the name, read from one state.
"""

from __future__ import annotations

from typing import Any

from attrs import asdict

from gridtokenx._native.orderbook import LOT_WH, Engine
from gridtokenx.ledger import spaces
from gridtokenx.ledger.market_records import UNTIL_RESUMED
from gridtokenx.ledger.metering_records import Balance
from gridtokenx.ledger.queries import Map, market_clock, zones
from gridtokenx.ledger.records import Corridor, Counters, Market, Profile, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.settlement_queries import settling
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.corridors import corridor_window
from gridtokenx.market.halts import trading
from gridtokenx.market.loading import window_content
from gridtokenx.market.orders import BUY, SELL

MAX_WINDOW_ORDERS = 1 << 17


def grid(state: StateReader, window: int) -> Map:
    """Zones with their last settled balance, corridors with what the window's trades left of them, and halts.

    A corridor's direction is binding when less than a lot of it is left. `halted_until_ms` is market time, 0 while
    trading, null while halted until resumed.
    """
    session = Session(state, market_clock(state).height + 1)
    settled = settling(state).window - 1
    halted = trading(session, window).halted_until_ms
    rows = []
    for zone in zones(state):
        raw = state.get(spaces.balance(settled, zone["zone"])) if settled >= 0 else None
        rows.append({"zone": zone["zone"], "name": zone["name"], "loss_ppm": zone["loss_ppm"],
                     "wheel_uthb_kwh": zone["wheel_uthb_kwh"], "settled_window": settled if raw is not None else None,
                     **_measured(Balance.decode(raw) if raw is not None else None)})
    return {"window": window, "halted": bool(halted), "halted_until_ms": None if halted == UNTIL_RESUMED else halted,
            "zones": rows, "corridors": corridors(state, window)}


def _measured(balance: Balance | None) -> Map:
    names = ("minted", "consumed", "imports", "exports", "losses", "residual")
    return {f"{name}_wh": None if balance is None else getattr(balance, name) for name in names} | {
        "flagged": balance is not None and bool(balance.flagged)}


def corridors(state: StateReader, window: int) -> list[Map]:
    """All corridors by id, each way with its capacity in the window and what is left of it, Wh."""
    session = Session(state, market_clock(state).height + 1)
    rows = []
    for key, raw in state.scan(bytes((Space.CORRIDOR,))):
        corridor, now = Corridor.decode(raw), corridor_window(session, window, key[1])
        rows.append({
            "corridor": key[1], "first": corridor.first, "second": corridor.second,
            "forward_wh": now.forward_wh, "backward_wh": now.backward_wh,
            "forward_left_wh": now.forward_left_wh, "backward_left_wh": now.backward_left_wh,
            "flow_wh": now.forward_wh - now.forward_left_wh, "loss_ppm": corridor.loss_ppm,
            "wheel_uthb_kwh": corridor.wheel_uthb_kwh,
            "forward_binding": now.forward_left_wh < LOT_WH, "backward_binding": now.backward_left_wh < LOT_WH,
        })
    return rows


def landed_book(state: StateReader, window: int, zone: int, levels: int) -> Map:
    """What a new order of the zone would meet over all paths that have capacity left, best first.

    `asks`: `[landed price, zone, path, limit, Wh shown, orders]`, with wheeling and losses in the price; `bids` the
    same with the netback. Prices in uTHB/kWh, asks' rounded up and bids' rounded down; limits in mTHB/kWh.
    """
    clock = market_clock(state)
    session = Session(state, clock.height + 1)
    listed = [Zone.decode(raw) for _, raw in state.scan(bytes((Space.ZONE,)))]
    lines = [Corridor.decode(raw) for _, raw in state.scan(bytes((Space.CORRIDOR,)))]
    filters = [Profile.decode(raw) for _, raw in state.scan(bytes((Space.PROFILE,)))]
    content = window_content(session, window, len(lines))
    engine = Engine([(entry.loss_ppm, entry.wheel_uthb_kwh) for entry in listed],
                    corridors=[(line.first, line.second, line.loss_ppm, line.wheel_uthb_kwh) for line in lines],
                    profiles=[(entry.sources, entry.zones) for entry in filters],
                    max_orders=min(MAX_WINDOW_ORDERS, len(content.records) + 1), max_windows=1)
    engine.load(window, content.records, capacities=content.capacities, residuals=content.residuals,
                flags=content.flags, work_left=content.work_left)

    def side(number: int) -> list[list[Any]]:
        rows = []
        for (numerator, denominator), other, path, limit, orders, wh in engine.landed_depth(
                window, zone, number, levels, now_ms=clock.now_ms):
            uthb = -(-numerator * 1000 // denominator) if number == SELL else numerator * 1000 // denominator
            rows.append([uthb, other, path, limit, wh, orders])
        return rows

    return {"window": window, "zone": zone, "bids": side(BUY), "asks": side(SELL)}


def traded(state: StateReader, first: int, last: int) -> list[Map]:
    """What was traded in each window from `first` to `last` that is still in state and had any trade."""
    rows = []
    for window in range(first, last + 1):
        found = [Market.decode(raw) for _, raw in state.scan(spaces.market(window))]
        wh = sum(market.traded_wh for market in found)
        if wh:
            value = sum(market.value_uthb for market in found)
            rows.append({"window": window, "trades": sum(market.trades for market in found), "traded_wh": wh,
                         "value_uthb": value, "average_price_uthb_kwh": value * 1000 // wh})
    return rows


def counters(state: StateReader) -> Map:
    """How many participants, meters and open orders there are; orders ever placed."""
    raw = state.get(spaces.COUNTERS)
    found = asdict(Counters() if raw is None else Counters.decode(raw))
    return {name: found[name] for name in ("participants", "meters", "open_orders", "orders")}
