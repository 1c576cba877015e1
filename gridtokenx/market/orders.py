"""What an order says (MARKET 3): sides, times in force and conditions, with the numbers of the wire and the engine."""

from __future__ import annotations

from typing import Protocol

from gridtokenx._native.orderbook import MOST_SLICES, Force, SelfTrade, Side
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.market.tariffs import LOT_WH, PRICE_MOST, TICK, Band

__all__ = ["BUY", "MARKET_FLAG", "PLACE_ORDER", "POST_ONLY_FLAG", "SELL", "Force", "SelfTrade", "Side", "Terms"]

BUY = Side.BUY
SELL = Side.SELL
PLACE_ORDER = 20        # the operation
POST_ONLY_FLAG = 4      # beside the self-trade mode in the two low bits
MARKET_FLAG = 8


class Terms(Protocol):
    """The order that a participant asks for, as `ledger.operations.PlaceOrder` has it. 0 means none where it may be."""

    @property
    def meter(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def side(self) -> Side: ...
    @property
    def price_mthb_kwh(self) -> int: ...
    @property
    def quantity_wh(self) -> int: ...
    @property
    def time_in_force(self) -> Force: ...
    @property
    def expires_ms(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def minimum_wh(self) -> int: ...
    @property
    def display_wh(self) -> int: ...
    @property
    def profile(self) -> int: ...


def check_price(price: int) -> None:
    """Raises Failed unless the price is on the tick and within its bounds."""
    if price % TICK:
        raise Failed(Code.OUT_OF_TICK, f"price {price}; a multiple of {TICK} mTHB/kWh is needed")
    if not 0 <= price <= PRICE_MOST:
        raise Failed(Code.PRICE_LIMIT, f"price {price}; 0 to {PRICE_MOST} mTHB/kWh are allowed")


def check_limit(price: int, window: int, band: Band) -> None:
    """Raises Failed unless an order of the window may carry this limit."""
    check_price(price)
    if not band.admits(price):
        raise Failed(Code.OUT_OF_BAND, f"price {price}; in window {window} {band.low} to {band.high} mTHB/kWh are "
                                       "allowed")


def check_quantity(quantity_wh: int, most_wh: int) -> None:
    """Raises Failed unless it is whole lots and at most `most_wh`."""
    if quantity_wh % LOT_WH or quantity_wh <= 0:
        raise Failed(Code.OUT_OF_LOT, f"quantity {quantity_wh}; a positive multiple of {LOT_WH} Wh is needed")
    if quantity_wh > most_wh:
        raise Failed(Code.QUANTITY_LIMIT, f"quantity {quantity_wh}; at most {most_wh} Wh")


def check_expiry(force: Force, expires_ms: int, now_ms: int, gate_ms: int) -> None:
    """Raises Failed unless good till time, and nothing else, comes with an expiry until the gate."""
    if (now_ms < expires_ms <= gate_ms) is not (force is Force.GOOD_TILL_TIME) or (
            force is not Force.GOOD_TILL_TIME and expires_ms):
        raise Failed(Code.BAD_TIME_IN_FORCE,
                     f"expiry {expires_ms}; with good till time it is after {now_ms} and at most {gate_ms} "
                     "(market ms), otherwise 0")


def check_conditions(terms: Terms) -> None:
    """Raises Failed unless flags, minimum, display and profile go together with the rest of the order."""
    immediate = terms.time_in_force in (Force.IOC, Force.FOK)
    minimum, display = terms.minimum_wh, terms.display_wh
    if terms.flags & POST_ONLY_FLAG and (immediate or minimum):
        raise Failed(Code.BAD_CONDITIONS, "a post-only order has no minimum fill and is not immediate")
    if minimum and (minimum > terms.quantity_wh or terms.time_in_force is Force.FOK):
        raise Failed(Code.BAD_CONDITIONS, f"minimum fill {minimum}; at most the quantity, and none with fill or kill")
    if display and (display % LOT_WH or display > terms.quantity_wh or immediate
                    or terms.quantity_wh > MOST_SLICES * display):
        raise Failed(Code.BAD_CONDITIONS, f"display {display}; whole lots of {LOT_WH} Wh, from a {MOST_SLICES}th of "
                                          "the quantity to all of it, of an order that is not immediate")
    if terms.profile and terms.side == SELL:
        raise Failed(Code.BAD_CONDITIONS, "a filter profile is a buyer's")


def market_limit(side: Side, band: Band) -> int:
    """The limit of a market order: the edge of the band, on the tick."""
    return band.high // TICK * TICK if side == BUY else -(-band.low // TICK) * TICK
