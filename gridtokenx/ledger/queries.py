"""What clients ask of a state, as maps with text keys and the unit in the name; no side effects (rpc, CLI).

Every function reads a `StateReader` at one height. None stands for what does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import asdict, frozen

from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.records import (
    Account,
    AccountKeys,
    Clock,
    Identity,
    Market,
    Meter,
    Order,
    Participant,
    Position,
    Roles,
    Trade,
    Zone,
)
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.market import positions
from gridtokenx.market.clock import MarketClock, tradable
from gridtokenx.market.closing import due_ms
from gridtokenx.market.orders import BUY, SELL
from gridtokenx.market.reference import window_band

Map = dict[str, Any]


@frozen
class MarketNow:
    """The market's time (ms) at a state, and how many ms of it pass per real ms."""

    now_ms: int
    rate: int
    height: int
    timestamp_ms: int

    @property
    def tradable(self) -> range:
        """The windows open for trading."""
        return tradable(self.now_ms)


def market_clock(state: StateReader) -> MarketNow:
    """Raises GridTokenXError when `state` is no chain's."""
    identity, clock = state.get(spaces.IDENTITY), state.get(spaces.CLOCK)
    if identity is None or clock is None:
        raise GridTokenXError("this state has no clock: it is not a chain's")
    fixed, moving = Identity.decode(identity), Clock.decode(clock)
    market = MarketClock(fixed.genesis_ms, fixed.market_start_ms, fixed.market_rate)
    return MarketNow(market.at(moving.timestamp_ms), fixed.market_rate, moving.height, moving.timestamp_ms)


def account(state: StateReader, address: bytes) -> Map | None:
    """Money as it can be spent in the next block: `balance_uthb` free, the rest bound; `total_uthb` all of it."""
    raw = state.get(spaces.account(address))
    if raw is None:
        return None
    found = funds.settled(Account.decode(raw), market_clock(state).height + 1)
    keys = state.get(spaces.account_keys(address))
    return {
        "address": address, "nonce": found.nonce, "balance_uthb": found.balance, "bids_uthb": found.bids,
        "proceeds_uthb": found.proceeds, "locked_uthb": found.locked, "collateral_uthb": found.collateral,
        "credit_uthb": found.credit, "total_uthb": found.total, "dues_uthb": found.dues,
        "participant": found.participant, "threshold": found.threshold,
        "keys": [] if keys is None else list(AccountKeys.decode(keys).keys),
    }


def participant(state: StateReader, address: bytes) -> Map | None:
    """The licence that an account trades for, with the ids of its meters."""
    raw = state.get(spaces.account(address))
    number = 0 if raw is None else Account.decode(raw).participant
    found = state.get(spaces.participant(number)) if number else None
    if found is None:
        return None
    record = Participant.decode(found)
    return {
        "participant": number, "address": record.account, "licence": record.licence, "role": record.role,
        "zone": record.zone, "expires_ms": record.expires_ms, "credit_uthb": record.credit,
        "meters": meters_of(state, address),
    }


def meters_of(state: StateReader, address: bytes) -> list[int]:
    """Ids of the meters that an account owns, ascending."""
    return [int.from_bytes(key[33:], "big") for key, _ in state.scan(spaces.meters_of(address))]


def meter(state: StateReader, meter_id: int) -> Map | None:
    raw = state.get(spaces.meter(meter_id))
    return None if raw is None else {"meter": meter_id, **asdict(Meter.decode(raw))}


def position(state: StateReader, meter_id: int, window: int) -> Map | None:
    """What a meter has sold, bought and on offer in a window, and what it may still offer in the next block, Wh."""
    raw = state.get(spaces.meter(meter_id))
    if raw is None:
        return None
    session = Session(state, market_clock(state).height + 1)
    found: Position = positions.get_position(session, window, meter_id)
    record = Meter.decode(raw)
    return {
        "meter": meter_id, "window": window, "sold_wh": found.sold, "bought_wh": found.bought,
        "open_sell_wh": found.open_sell, "open_buy_wh": found.open_buy,
        "free_sell_wh": positions.free_wh(found, record, SELL), "free_buy_wh": positions.free_wh(found, record, BUY),
    }


def order(state: StateReader, order_id: int) -> Map | None:
    """An open order; one that was closed is not in state any more."""
    if not 0 <= order_id < 1 << 64:
        return None
    raw = state.get(spaces.order(order_id))
    return None if raw is None else _order_map(order_id, Order.decode(raw))


def _order_map(order_id: int, found: Order) -> Map:
    window = spaces.window_of(order_id)
    return {
        "order": order_id, "window": window, "meter": found.meter, "zone": found.zone, "side": found.side,
        "price_mthb_kwh": found.price, "quantity_wh": found.quantity_wh, "remaining_wh": found.remaining_wh,
        "expires_ms": due_ms(found, window), "height": found.height, "hidden_wh": found.hidden_wh,
        "display_wh": found.display_wh, "profile": found.profile, "source": found.source,
        "self_trade": found.self_trade,
    }


def open_orders(state: StateReader, address: bytes, limit: int = 500, after: tuple[int, int] = (0, 0)) -> list[Map]:
    """An account's open orders, first due first, after the one of that (due ms, id); lapsed ones are left out."""
    now_ms = market_clock(state).now_ms
    found: list[Map] = []
    for key, _ in state.scan(spaces.orders_of(address)):
        if len(found) == limit:
            break
        due = int.from_bytes(key[33:41], "big")
        if due > now_ms and (due, int.from_bytes(key[41:], "big")) > after:
            entry = order(state, int.from_bytes(key[41:], "big"))
            if entry is not None:
                found.append(entry)
    return found


Levels = dict[int, list[int]]
"""Price mTHB/kWh -> [Wh shown, orders]."""


def depth(state: StateReader, window: int) -> dict[int, tuple[Levels, Levels]]:
    """Zone -> (bids, asks) of a window's orders that have not lapsed."""
    now_ms = market_clock(state).now_ms
    found: dict[int, tuple[Levels, Levels]] = {}
    for _, raw in state.scan(spaces.orders_of_window(window)):
        resting = Order.decode(raw)
        if due_ms(resting, window) > now_ms:
            sides = found.setdefault(resting.zone, ({}, {}))
            level = sides[resting.side].setdefault(resting.price, [0, 0])
            level[0] += resting.remaining_wh - resting.hidden_wh
            level[1] += 1
    return found


def book(state: StateReader, window: int, zone: int, levels: int = 10) -> Map:
    """The best prices of both sides: `[price mTHB/kWh, Wh, orders]`, best first, of orders that have not lapsed."""
    return {"window": window, "zone": zone, **best_levels(depth(state, window).get(zone, ({}, {})), levels)}


def best_levels(sides: tuple[Levels, Levels], most: int) -> Map:
    """`bids` and `asks` of one zone as lists, best first."""
    return {"bids": [[price, *sides[BUY][price]] for price in sorted(sides[BUY], reverse=True)[:most]],
            "asks": [[price, *sides[SELL][price]] for price in sorted(sides[SELL])[:most]]}


def zones(state: StateReader) -> list[Map]:
    """All zones by id."""
    return [{"zone": key[1], **asdict(Zone.decode(raw))} for key, raw in state.scan(bytes((Space.ZONE,)))]


def prices(state: StateReader, window: int,
           best: Callable[[int, int, int], list[list[int]]] | None = None) -> list[Map]:
    """Per zone what has been traded in the window, the best prices now, and the band that limits must keep to.

    Prices in mTHB/kWh; None where there is none. `best(zone, side, levels)` knows the levels; without it they are read
    from the state.
    """
    session = Session(state, market_clock(state).height + 1)
    allowed = window_band(session, read_parameters(state), window)
    rows, resting = [], depth(state, window) if best is None else {}
    for zone in zones(state):
        raw = state.get(spaces.market(window, zone["zone"]))
        traded = Market() if raw is None else Market.decode(raw)
        bids, asks = resting.get(zone["zone"], ({}, {})) if best is None else (
            {level[0]: level[1:] for level in best(zone["zone"], side, 1)} for side in (BUY, SELL))
        rows.append({
            "zone": zone["zone"], "name": zone["name"], "window": window, "traded_wh": traded.traded_wh,
            "value_uthb": traded.value_uthb, "trades": traded.trades,
            "last_price_mthb_kwh": traded.last_price if traded.trades else None,
            "low_price_mthb_kwh": traded.low_price if traded.trades else None,
            "high_price_mthb_kwh": traded.high_price if traded.trades else None,
            "bid_mthb_kwh": max(bids, default=None), "ask_mthb_kwh": min(asks, default=None),
            "band_low_mthb_kwh": allowed.low, "band_high_mthb_kwh": allowed.high,
        })
    return rows


def trade_map(window: int, number: int, trade: Trade) -> Map:
    """One trade for a client; the meters' owners are in `meter`."""
    return {
        "window": window, "number": number, "height": trade.height, "buy_order": trade.buy_order,
        "sell_order": trade.sell_order, "buy_meter": trade.buy_meter, "sell_meter": trade.sell_meter,
        "buy_zone": trade.buy_zone, "sell_zone": trade.sell_zone, "taker_side": trade.taker_side,
        "price_mthb_kwh": trade.price, "delivered_wh": trade.delivered_wh, "injected_wh": trade.injected_wh,
        "value_uthb": trade.value_uthb, "wheel_uthb": trade.wheel_uthb, "fee_uthb": trade.fee_uthb,
        "vat_uthb": trade.vat_uthb, "source": trade.source, "profile": trade.profile, "path": list(trade.path),
        "kind": trade.kind,
    }


def trades(state: StateReader, window: int) -> list[Map]:
    """The window's trades in the order they were made, as long as it is not settled."""
    return [trade_map(window, int.from_bytes(key[5:], "big"), Trade.decode(raw))
            for key, raw in state.scan(spaces.trade(window))]


def parameters(state: StateReader) -> dict[str, int]:
    """Every parameter's value by name."""
    found: dict[str, int] = asdict(read_parameters(state))
    return found


def roles(state: StateReader) -> Map:
    """Addresses of issuers, registrars, market operator and tax account."""
    found = Roles.decode(state.get(spaces.ROLES) or b"")
    return {"issuers": list(found.issuers), "registrars": list(found.registrars),
            "market_operator": found.market_operator, "tax": found.tax}


def totals(state: StateReader) -> Map:
    """THB of genesis, minted and burned since, and what all accounts hold, added up anew. Raises InvariantError."""
    audit = audit_totals(state)
    return {"height": market_clock(state).height, **asdict(audit)}
