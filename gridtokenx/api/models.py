"""The shapes of answers, for the OpenAPI description. Handlers answer from the same queries as rpc; tests hold both
together. Fields named `…_thb`, `…_kwh`, `…_thb_kwh` are decimal text beside the exact integer of the same name.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from gridtokenx.json_form import decimal_name

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes in hexadecimal")]
Address = Annotated[str, Field(pattern="^gtx1[02-9ac-hj-np-z]{58}$", description="bech32m, prefix gtx")]
Number = Annotated[str, Field(pattern="^[0-9]{1,20}$", description="a number beyond 2^53, as text")]
Level = Annotated[list[int], Field(min_length=3, max_length=3,
                                   description="price mTHB/kWh, Wh shown, orders")]

class Answer(BaseModel):
    """Nothing but the named fields."""

    model_config = ConfigDict(extra="forbid")


def with_decimal_fields(model: type[Answer]) -> type[Answer]:
    """`model` with a field of decimal text beside each amount."""
    beside: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        shown = decimal_name(name)
        if shown is not None and field.annotation in (int, int | None):
            beside[shown] = (str if field.annotation is int else str | None,
                             Field(description=f"`{name}` as decimal text"))
    made = create_model(model.__name__, __base__=model, **beside)
    made.__doc__ = model.__doc__
    return made


class ProblemDetails(BaseModel):
    """RFC 9457. `code` is for programs, `detail` and `what_to_do` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    what_to_do: str
    request_id: str | None = None
    ledger_code: int | None = Field(None, description="of a refused transaction: docs/ledger.md")
    ledger_code_name: str | None = None
    errors: list[dict[str, Any]] | None = Field(None, description="of a bad request: where and what")


# ------------------------------------------------------------------ chain


class Status(Answer):
    """What the network is doing, as one node sees it."""

    name: str
    version: str
    chain_id: Hash
    chain_name: str
    authority: str = Field(description="empty for an observer")
    public: Address | None
    height: int = Field(description="of the newest final block")
    hash: Hash
    state_root: Hash
    timestamp_ms: int
    epoch: int
    view: int
    leader: str
    delta_ms: int
    market_time_s: int
    market_rate: int
    window: int = Field(description="the one that delivers now")
    peers: int
    pending_transactions: int
    produced: dict[str, int] = Field(description="blocks by authority since the node started")
    confirmations: int = Field(description="transactions submitted here that became final since the node started")
    confirmation_p50_ms: int | None = Field(description="submission to finality, of the last 1 024; null: none yet")
    confirmation_p99_ms: int | None
    checkpoint_height: int
    certificates_verified: int
    uptime_ms: int


@with_decimal_fields
class Block(Answer):
    height: int
    hash: Hash
    parent: Hash
    view: int
    timestamp_ms: int
    proposer: str
    state_root: Hash
    transactions_root: Hash
    receipts_root: Hash
    certified: bool = Field(description="false: a later block's certificate makes it final")
    transaction_ids: list[Hash]
    codes: list[int] = Field(description="first failing code of each transaction, or 0")
    trades: int
    traded_wh: int
    value_uthb: int
    zones: list[list[int]] = Field(description="[Wh, uTHB] traded per buyers' zone")


class Blocks(Answer):
    items: list[Block]
    next: int | None = Field(description="`from` of the next page")


class OperationOf(Answer):
    kind: int
    name: str
    fields: list[Any] = Field(description="as docs/ledger.md lists them; bytes in hexadecimal")


class ReceiptOf(Answer):
    code: int
    name: str
    data: list[Any]


@with_decimal_fields
class Transaction(Answer):
    """`pending`; `final` with receipts; `refused` for good or `evicted` by this node's pool, with the reason."""

    id: Hash
    state: str = Field(pattern="^(pending|final|refused|evicted)$")
    reason: str | None
    height: int | None
    index: int | None
    code: int | None = Field(description="first failing code of its operations, or 0")
    code_name: str | None
    receipts: list[ReceiptOf] | None
    sender: Address | None
    nonce: int | None
    valid_until_height: int | None
    fee_uthb: int | None
    operations: list[OperationOf] | None


class SignatureIn(Answer):
    public: str = Field(pattern="^[0-9a-f]{64}$")
    signature: str = Field(pattern="^[0-9a-f]{128}$")


class SignedBytes(Answer):
    """A signed transaction as its bytes in hexadecimal."""

    transaction: str = Field(pattern="^([0-9a-f]{2})+$", max_length=131_072)


class SignedParts(Answer):
    """A signed transaction as its payload (canonical CBOR in hexadecimal) and the signatures over it."""

    payload: str = Field(pattern="^([0-9a-f]{2})+$", max_length=131_072)
    signatures: list[SignatureIn] = Field(min_length=1, max_length=16)


@with_decimal_fields
class Authority(Answer):
    name: str
    public: Address
    produced: int = Field(description="blocks since the node started")
    silent: bool | None = None
    heard_ms_ago: int | None = None
    late_views: int | None = None
    clock_offset_ms: int | None = None
    finalized_height: int | None = None


class Authorities(Answer):
    items: list[Authority]


class Peer(Answer):
    public: Address
    name: str
    address: str
    connected: bool
    connected_s: int
    outbound: bool
    authority: bool
    linked: bool
    sent_bytes: int
    received_bytes: int
    dropped: int
    error: str


class Peers(Answer):
    items: list[Peer]


class ParameterOf(Answer):
    name: str
    value: int
    unit: str
    help: str


class Parameters(Answer):
    items: list[ParameterOf]


class FoundThing(Answer):
    """`id` is a height, hash, address, number or name, as `kind` says; `account` is whose it is."""

    kind: str = Field(pattern="^(block|transaction|account|meter|participant|certificate|order|window|zone|authority)$")
    id: str
    text: str = Field(description="more about it for people, or empty")
    account: Address | None


class Found(Answer):
    items: list[FoundThing]


# ------------------------------------------------------------------ proofs

Hex = Annotated[str, Field(pattern="^([0-9a-f]{2})*$")]


class BoundaryOf(Answer):
    header: Hex
    certificate: Hex
    authorities: Hex


class FinalityOf(Answer):
    """From genesis to the final block: who was to sign, and who did."""

    genesis: Hex
    authorities: Hex
    boundaries: list[BoundaryOf]
    header: Hex
    certificate: Hex


class AncestorOf(Answer):
    header: Hex
    path: Hex


class RecordClaim(Answer):
    key: Hex
    value: Hex | None = Field(description="null: there is no such record")
    path: Hex


class TransactionClaim(Answer):
    index: int
    count: int
    transaction: Hex
    path: list[Hex]
    receipt: Hex
    receipt_path: list[Hex]


class LightProof(Answer):
    """As docs/proofs.md describes it. Checked with the chain's genesis alone."""

    format: str = Field(pattern="^gridtokenx-proof$")
    version: int
    finality: FinalityOf
    ancestor: AncestorOf | None
    claims: list[RecordClaim | TransactionClaim]


# ------------------------------------------------------------------ market


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


# ------------------------------------------------------------------ grid


@with_decimal_fields
class GridZone(Answer):
    zone: int
    name: str
    loss_ppm: int
    wheel_uthb_kwh: int
    settled_window: int | None = Field(description="whose energies these are")
    minted_wh: int | None
    consumed_wh: int | None
    imports_wh: int | None
    exports_wh: int | None
    losses_wh: int | None
    residual_wh: int | None
    flagged: bool


@with_decimal_fields
class GridCorridor(Answer):
    corridor: int
    window: int
    first: int
    second: int
    forward_wh: int
    backward_wh: int
    forward_left_wh: int
    backward_left_wh: int
    flow_wh: int = Field(description="from first to second")
    loss_ppm: int
    wheel_uthb_kwh: int
    forward_binding: bool
    backward_binding: bool


@with_decimal_fields
class Flag(Answer):
    window: int
    zone: int
    residual_wh: int
    tolerance_wh: int
    height: int
    cleared: int = Field(description="height, or 0")


class GridStatus(Answer):
    window: int
    height: int
    halted: bool
    halted_until_ms: int | None = Field(description="market time; null: until resumed")
    zones: list[GridZone]
    corridors: list[GridCorridor]
    flags: list[Flag]


@with_decimal_fields
class Energies(Answer):
    """GT: minted + supplied = consumed + losses + taken; sold = bought + losses."""

    minted_wh: int = Field(description="injected at meters")
    consumed_wh: int = Field(description="withdrawn at meters")
    supplied_wh: int = Field(description="by utilities to meters")
    taken_wh: int = Field(description="by utilities from meters")
    bought_wh: int
    sold_wh: int
    losses_wh: int
    imports_wh: int = Field(description="at boundary meters, physical")
    exports_wh: int


@with_decimal_fields
class ZoneBalance(Energies):
    zone: int
    name: str
    residual_wh: int = Field(description="what the meters do not explain")
    tolerance_wh: int
    flagged: bool
    meters: int
    estimated: int = Field(description="meters without a reading of their own")
    boundary_meters: int
    short_uthb_kwh: int
    long_uthb_kwh: int


class WindowBalance(Answer):
    """A window's energy. Zones are listed once they are settled."""

    window: int
    phase: str = Field(pattern="^(opens_later|trading|closed|settling|settled|final)$")
    deadline_ms: int = Field(description="of readings, market time")
    final_ms: int
    zones: list[ZoneBalance]
    totals: Energies
    exact: bool = Field(description="the sums above hold to the Wh")
    flags: list[int] = Field(description="zones")


# ------------------------------------------------------------------ accounts


@with_decimal_fields
class Balance(Answer):
    address: Address
    nonce: int = Field(description="of the next transaction")
    balance_uthb: int = Field(description="free")
    bids_uthb: int
    proceeds_uthb: int
    locked_uthb: int
    collateral_uthb: int
    credit_uthb: int
    total_uthb: int
    dues_uthb: int
    participant: int
    threshold: int
    keys: list[Address]


@with_decimal_fields
class Participant(Answer):
    participant: int
    address: Address
    licence: str
    role: int
    zone: int
    expires_ms: int
    credit_uthb: int
    meters: list[int]


@with_decimal_fields
class Energy(Answer):
    """GT since the beginning."""

    minted_wh: int
    delivered_wh: int
    received_wh: int
    burned_wh: int
    supplied_wh: int
    taken_wh: int


@with_decimal_fields
class Due(Answer):
    utility: Address
    amount_uthb: int


class Account(Answer):
    account: Balance
    participant: Participant | None
    energy: Energy
    dues: list[Due]


@with_decimal_fields
class Line(Answer):
    rule: int
    rule_name: str
    quantity_wh: int
    amount_uthb: int = Field(description="above zero: paid by the meter's owner")
    rate: int | None = Field(None, description="uTHB/kWh, or ppm in lines of VAT")


class WindowBill(Answer):
    model_config = ConfigDict(extra="allow")

    window: int
    meter: int
    owner: Address
    zone: int
    lines: list[Line]


@with_decimal_fields
class Bill(Answer):
    """Every settled window of an account's meters on a day."""

    address: Address
    day: int = Field(description="since 1970-01-01, Bangkok")
    first_window: int
    windows: list[WindowBill]
    rules: list[Line]
    pays_uthb: int
    withdrawn_wh: int
    injected_wh: int
    estimated: int
    corrected: int
    dues_uthb: int


@with_decimal_fields
class Certificate(Answer):
    certificate: int
    status: str
    meter: int
    owner: Address
    source: int
    zone: int
    first_window: int
    last_window: int
    avoided_g: int
    credit_g: int
    height: int
    issued_ms: int
    price_uthb: int
    buyer: str
    beneficiary: str
    purpose: str
    retired_ms: int


class Certificates(Answer):
    items: list[Certificate]
    next: str | None
