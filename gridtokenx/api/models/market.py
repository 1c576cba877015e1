"""Orders, books, trades, prices."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from gridtokenx.api.models.parts import Answer, Level, Number, with_decimal_fields


@with_decimal_fields
class Order(Answer):
    """An open order."""

    order: Number
    window: int
    meter: int
    zone: int
    side: int = Field(description="0 buy, 1 sell")
    price_mthb_kwh: int
    quantity_wh: int
    remaining_wh: int
    expires_ms: int = Field(description="market time")
    height: int
    hidden_wh: int = Field(description="of an iceberg, what is not shown")
    display_wh: int = Field(description="what an iceberg shows at once; 0: all is shown")
    profile: int = Field(description="a buyer's filter; 0 accepts all")
    source: int
    self_trade: int


class Orders(Answer):
    items: list[Order]
    next: str | None


class ZoneBook(Answer):
    zone: int
    name: str
    bids: list[Level]
    asks: list[Level]


class OrderBook(Answer):
    """Open orders of a window by zone, best prices first."""

    window: int
    height: int
    zones: list[ZoneBook]


@with_decimal_fields
class LandedLevel(Answer):
    """Levels of one zone appear once per path: they are the same orders."""

    landed_uthb_kwh: int = Field(description="price with wheeling and losses, or netback")
    zone: int
    path: list[int] = Field(description="corridors")
    number: int = Field(description="of the path")
    price_mthb_kwh: int
    shown_wh: int
    orders: int
    path_wh: int | None = Field(description="what the path still carries; null inside the zone")


class LandedBook(Answer):
    """What a new order of one zone would meet, over all paths with capacity left."""

    window: int
    height: int
    zone: int
    bids: list[LandedLevel]
    asks: list[LandedLevel]


@with_decimal_fields
class Trade(Answer):
    window: int
    number: int = Field(description="in its window")
    height: int
    buy_order: Number
    sell_order: Number
    buy_meter: int
    sell_meter: int
    buy_zone: int
    sell_zone: int
    taker_side: int
    price_mthb_kwh: int
    delivered_wh: int
    injected_wh: int
    value_uthb: int
    wheel_uthb: int
    fee_uthb: int
    vat_uthb: int
    source: int
    profile: int
    path: list[int] = Field(description="corridors from seller to buyer")
    kind: int


class Trades(Answer):
    """Newest first."""

    items: list[Trade]
    next: str | None


@with_decimal_fields
class BlockPrices(Answer):
    """Trades of one block."""

    height: int
    timestamp_ms: int
    first_price_mthb_kwh: int
    high_price_mthb_kwh: int
    low_price_mthb_kwh: int
    last_price_mthb_kwh: int
    trades: int
    traded_wh: int
    value_uthb: int


class History(Answer):
    """Oldest block first."""

    window: int
    height: int
    items: list[BlockPrices]


@with_decimal_fields
class WindowStats(Answer):
    window: int
    trades: int
    traded_wh: int
    value_uthb: int
    average_price_uthb_kwh: int


class Stats(Answer):
    height: int
    participants: int
    meters: int
    orders: int = Field(description="ever placed")
    open_orders: int
    windows: list[WindowStats]


@with_decimal_fields
class ZonePrices(Answer):
    zone: int
    name: str
    window: int
    traded_wh: int
    value_uthb: int
    trades: int
    last_price_mthb_kwh: int | None
    low_price_mthb_kwh: int | None
    high_price_mthb_kwh: int | None
    bid_mthb_kwh: int | None
    ask_mthb_kwh: int | None
    band_low_mthb_kwh: int
    band_high_mthb_kwh: int


class Indicative(Answer):
    model_config = ConfigDict(extra="allow")

    zone: int
    name: str
    window: int
    published: bool


class Rates(Answer):
    model_config = ConfigDict(extra="allow")

    window: int
    on_peak: bool
    energy_uthb_kwh: list[int]
    ft_uthb_kwh: int
    buy_back_uthb_kwh: int
    vat_ppm: int
    reference_uthb_kwh: int


class Prices(Answer):
    window: int
    height: int
    zones: list[ZonePrices]
    indicative: list[Indicative]
    rates: Rates
