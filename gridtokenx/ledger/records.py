"""The records of state: what each key holds, as a frozen class with a canonical array.

`encode` gives the canonical CBOR array of the fields in the order of the class; `decode` reads state that this
chain wrote (trusted: its bytes are under the state root). Amounts are uTHB, energies Wh, powers W, prices
mTHB/kWh, rates uTHB/kWh, times ms. `docs/ledger.md` lists key and fields of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from attrs import NOTHING, define, fields

from gridtokenx._native.records import MOST_ATTRIBUTES, Form

if TYPE_CHECKING:
    from attrs import frozen
else:
    # Held to by the type checker; at run time a frozen class would cost three times as much to make, and blocks
    # make thousands of these.
    frozen = define


class Record:
    """Canonical array of the attributes, in their order; nested tuples are arrays.

    Attributes after the first `ALWAYS` are left out from the first on after which all are 0 or empty.
    """

    __slots__ = ()
    ALWAYS: ClassVar[int] = MOST_ATTRIBUTES

    def encode(self) -> bytes:
        return form_of(type(self)).write(self)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        found: Self = form_of(cls).read(raw)
        return found


_FORMS: dict[type[Record], Form] = {}


def form_of(cls: type[Any]) -> Form:
    """What reads and writes the records of a class."""
    form = _FORMS.get(cls)
    if form is None:
        attributes = fields(cls)
        form = _FORMS[cls] = Form(cls, tuple(each.name for each in attributes),
                                  tuple(each.default for each in attributes if each.default is not NOTHING), cls.ALWAYS)
    return form


# ------------------------------------------------------------------ the chain


@frozen
class Identity(Record):
    """What genesis fixed for ever. Market time = start + rate x (block timestamp - genesis time)."""

    chain_id: bytes
    rules_version: int
    genesis_ms: int
    market_start_ms: int
    market_rate: int


@frozen
class Clock(Record):
    """Height and timestamp (Unix ms) of the block that made this state."""

    height: int
    timestamp_ms: int


@frozen
class Counters(Record):
    """The last number given to a participant, a meter, an order; the next priority sequence; orders that count as open.

    `closed_orders` of these left in block `height`; their places can be taken from the next block on.
    """

    participants: int = 0
    meters: int = 0
    orders: int = 0
    sequence: int = 1
    open_orders: int = 0
    closed_orders: int = 0
    height: int = 0


@frozen
class Totals(Record):
    """THB that genesis gave, and what was minted (deposits) and burned (withdrawals) since, uTHB."""

    genesis_uthb: int
    minted_uthb: int
    burned_uthb: int

    @property
    def held_uthb(self) -> int:
        """What all accounts must hold together."""
        return self.genesis_uthb + self.minted_uthb - self.burned_uthb


@frozen
class Roles(Record):
    """Accounts with a duty.

    Issuers mint and burn THB; registrars register; operator and tax account collect; regulators publish tariffs.
    """

    issuers: tuple[bytes, ...]
    registrars: tuple[bytes, ...]
    market_operator: bytes
    tax: bytes
    regulators: tuple[bytes, ...] = ()


@frozen
class Peaks(Record):
    """The Merkle mountain range over the hashes of all headers before this block (`crypto.mountain_range`)."""

    peaks: bytes


@frozen
class Epoch(Record):
    """The present epoch: it starts after the block at `root_height`, and that at `boundary` is its last one.

    `seed` is that of its execution order.
    """

    number: int
    seed: bytes
    root_height: int
    boundary: int


@frozen
class Authorities(Record):
    """(name, public key) in the order of their turns."""

    members: tuple[tuple[str, bytes], ...]


# ------------------------------------------------------------------ money


@frozen
class Account(Record):
    """An address and its money. All of an account's money is balance + bids + proceeds + locked + released.

    balance: can be spent. bids: escrow of open buy orders. proceeds: earned, until the window settles.
    locked: collateral of sales, `max(0, collateral - credit)`. released and freed came back from escrow in block
    `height` and can be spent from the next block on: `released` is money, `freed` a part of `collateral`.
    threshold: signatures needed; 0 means the address key alone.
    dues: what it owes utilities for bills that its money did not reach; only a utility's own balance may be below zero.
    """

    nonce: int = 0
    balance: int = 0
    bids: int = 0
    proceeds: int = 0
    collateral: int = 0
    credit: int = 0
    locked: int = 0
    released: int = 0
    freed: int = 0
    height: int = 0
    participant: int = 0
    threshold: int = 0
    dues: int = 0

    @property
    def total(self) -> int:
        return self.balance + self.bids + self.proceeds + self.locked + self.released

    @property
    def spendable(self) -> int:
        """What the account can spend now: dues come first."""
        return max(0, self.balance - self.dues)


@frozen
class AccountKeys(Record):
    """The keys that may sign for an account, sorted; the account's threshold says how many must."""

    keys: tuple[bytes, ...]


# ------------------------------------------------------------------ who and what


@frozen
class Participant(Record):
    """A licence holder. `account` trades for it; sales up to `credit` uTHB of collateral need no money."""

    account: bytes
    licence: str
    role: int
    zone: int
    expires_ms: int
    credit: int


@frozen
class Meter(Record):
    """A metering point: the unit of the market. `key` signs its readings.

    `since_ms` is its registration, market time. A boundary meter (`metering_records.Boundary`) takes no part in the
    market and has no capacity there.
    """

    owner: bytes
    participant: int
    key: bytes
    zone: int
    network: int
    source: int
    tariff: int
    injection_w: int
    withdrawal_w: int
    since_ms: int = 0
    boundary: int = 0


@frozen
class Zone(Record):
    """`network` receives the zone's wheeling; `utility` supplies what meters lack (settlement).

    `credit_uthb` is the utility's credit line for the zone: beyond it is told, but nothing stops.
    """

    name: str
    loss_ppm: int
    wheel_uthb_kwh: int
    network: bytes
    utility: bytes
    credit_uthb: int = 10**15


@frozen
class Corridor(Record):
    """A line between zones `first` and `second`; `forward` is from first to second."""

    first: int
    second: int
    forward_w: int
    backward_w: int
    loss_ppm: int
    wheel_uthb_kwh: int
    network: bytes


@frozen
class Profile(Record):
    """What a buyer accepts: bits by source (`grid.kinds.Source`) and by the sellers' zone. Profile 0 accepts all."""

    name: str
    sources: int
    zones: int


# ------------------------------------------------------------------ the market


@frozen
class Order(Record):
    """A resting order. Its id is in the key; sequence is its place in time.

    Buys: `term` is fee_ppm and `vat_ppm` the VAT at entry, which escrow(remaining) follows. Sells: `term` is the
    collateral rate max(0, short_cap - price) mTHB/kWh at entry. `expires_ms` 0: good till the gate. `source` is a
    sell's, `profile` a buy's filter. `quantity_wh` is the total as placed or amended. `display_wh` 0: all is shown;
    otherwise `hidden_wh` of what remains is not. `self_trade` is a SelfTrade. The last five are left out of the
    bytes from the first on after which all are 0.
    """

    meter: int
    participant: int
    zone: int
    side: int
    price: int
    quantity_wh: int
    remaining_wh: int
    expires_ms: int
    sequence: int
    term: int
    vat_ppm: int
    height: int
    source: int = 0
    profile: int = 0
    self_trade: int = 0
    display_wh: int = 0
    hidden_wh: int = 0

    ALWAYS = 12


@frozen
class Position(Record):
    """What a meter has sold, bought and on offer in a window, Wh at its own register.

    freed_* were closed and new_* filled in block `height`: they count only from the next block on as free, or as
    a right to trade back (MARKET 3, capacity).
    """

    sold: int = 0
    bought: int = 0
    open_sell: int = 0
    open_buy: int = 0
    height: int = 0
    freed_sell: int = 0
    freed_buy: int = 0
    new_sold: int = 0
    new_bought: int = 0


@frozen
class WindowBook(Record):
    """A window that ever had an order: trades made, and how many of them are settled.

    `gated` is 1 once all orders left at the gate were closed.
    """

    trades: int = 0
    settled: int = 0
    gated: int = 0


@frozen
class CorridorWindow(Record):
    """A corridor in one window, Wh as declared (forward) and against: its capacity, and what it can still carry.

    `residual = capacity - sum of q_in this way + sum of q the other way` (MARKET 4). Windows without this record have
    the declared capacity, unused. `height` is that of the block that last changed the capacity, else 0.
    """

    forward_wh: int
    backward_wh: int
    forward_left_wh: int
    backward_left_wh: int
    height: int = 0


@frozen
class Market(Record):
    """Trade of a window by the buyers' zone: delivered Wh, value to sellers uTHB, and prices mTHB/kWh.

    `renewable_wh` is the part of the delivered energy that comes from a renewable source.
    """

    traded_wh: int = 0
    value_uthb: int = 0
    trades: int = 0
    last_price: int = 0
    low_price: int = 0
    high_price: int = 0
    renewable_wh: int = 0


@frozen
class Trade(Record):
    """One fill (MARKET 5): q delivered to the buyer, q_in injected by the seller at `price`.

    The buyer paid price x q_in + wheel + fee + vat; collateral is what stays bound of the seller's until settled.
    `source` is that of the sale, `profile` the buyer's filter (0: any source), `path` the corridors from the seller's
    zone to the buyer's, `kind` a TradeKind. The last four are left out of the bytes like an order's.
    """

    height: int
    buy_order: int
    sell_order: int
    buy_meter: int
    sell_meter: int
    buy_zone: int
    sell_zone: int
    taker_side: int
    price: int
    delivered_wh: int
    injected_wh: int
    wheel_uthb: int
    fee_uthb: int
    vat_uthb: int
    collateral_uthb: int
    source: int = 0
    profile: int = 0
    path: tuple[int, ...] = ()
    kind: int = 0

    ALWAYS = 15

    @property
    def value_uthb(self) -> int:
        """What the seller gets."""
        return self.price * self.injected_wh
