"""What clients ask about the grid and the market as a whole: zones, corridors and halts of a window, past trade.

As in `ledger.queries`: maps with text keys and the unit in the name, read from one state.
"""

from __future__ import annotations

from attrs import asdict

from gridtokenx._native.orderbook import LOT_WH
from gridtokenx.ledger import market_queries, spaces
from gridtokenx.ledger.market_records import UNTIL_RESUMED
from gridtokenx.ledger.metering_records import Balance
from gridtokenx.ledger.queries import Map, market_clock, zones
from gridtokenx.ledger.records import Counters, Market
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.settlement_queries import settling
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.halts import trading


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
    """All corridors with their capacities in the window, what flows from first to second, and what is used up."""
    return [{**row, "flow_wh": row["forward_wh"] - row["forward_left_wh"],
             "forward_binding": row["forward_left_wh"] < LOT_WH, "backward_binding": row["backward_left_wh"] < LOT_WH}
            for row in market_queries.capacities(state, window)]


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
