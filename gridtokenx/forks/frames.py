"""Everything on a chain as tables: Polars data frames, Arrow underneath (`frame.to_arrow()`, `frame.to_pandas()`).

Integers in base units with the unit in the column's name, as in state: Wh, uTHB (a millionth of a baht), mTHB/kWh, ppm.
`delivery` is the beginning of a window in Thailand. Rows come in the order of the state's keys, so that equal
chains give equal frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from attrs import asdict, define, field
from numpy.typing import NDArray

from gridtokenx._native import columns
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import funds
from gridtokenx.ledger.parameters import REGISTRY
from gridtokenx.ledger.records import Account, Corridor, CorridorWindow, Identity, Market, Meter, Order
from gridtokenx.ledger.schema import decode_value
from gridtokenx.ledger.spaces import Space, corridor, meter, trade, window_of
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.clock import WINDOW_MS, MarketClock
from gridtokenx.market.orders import Side
from gridtokenx.market.posting import Fill
from gridtokenx.market.rules import BillRule

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

_SIDES = {int(side): side.name.lower() for side in Side}
_SOURCES = {int(source): source.name.lower() for source in Source}
_RULES = {int(rule): rule.name.lower() for rule in BillRule}
TIME = pl.Datetime("ms", "Asia/Bangkok")
Row = tuple[Any, ...]
Column = NDArray[np.int64]
Schema = dict[str, Any]
Settled = tuple[list[Column], list[Column], list[bytes]]

_WINDOW: Schema = {"window": pl.Int64, "delivery": TIME}
_TRADES: Schema = _WINDOW | {
    "number": pl.Int64, "height": pl.Int64, "buyer": pl.String, "seller": pl.String, "buy_meter": pl.Int64,
    "sell_meter": pl.Int64, "buy_zone": pl.Int64, "sell_zone": pl.Int64, "taker": pl.String,
    "price_mthb_kwh": pl.Int64, "delivered_wh": pl.Int64, "injected_wh": pl.Int64, "value_uthb": pl.Int64,
    "wheel_uthb": pl.Int64, "fee_uthb": pl.Int64, "vat_uthb": pl.Int64, "source": pl.String, "profile": pl.Int64,
    "path": pl.List(pl.Int64)}
_ORDERS: Schema = _WINDOW | {
    "order": pl.UInt64, "meter": pl.Int64, "owner": pl.String, "zone": pl.Int64, "side": pl.String,
    "price_mthb_kwh": pl.Int64, "quantity_wh": pl.Int64, "remaining_wh": pl.Int64}
_ACCOUNTS: Schema = {
    "account": pl.String, "participant": pl.Int64, "balance_uthb": pl.Int64, "bids_uthb": pl.Int64,
    "proceeds_uthb": pl.Int64, "locked_uthb": pl.Int64, "dues_uthb": pl.Int64, "total_uthb": pl.Int64}
_METERS: Schema = {
    "meter": pl.Int64, "owner": pl.String, "participant": pl.Int64, "zone": pl.Int64, "source": pl.String,
    "tariff": pl.Int64, "injection_w": pl.Int64, "withdrawal_w": pl.Int64, "boundary": pl.Int64}
_READINGS: Schema = _WINDOW | {
    "meter": pl.Int64, "injected_wh": pl.Int64, "withdrawn_wh": pl.Int64, "quality": pl.Int64, "revision": pl.Int64}
_SETTLEMENTS: Schema = _WINDOW | {
    "meter": pl.Int64, "owner": pl.String, "zone": pl.Int64, "injected_wh": pl.Int64, "withdrawn_wh": pl.Int64,
    "bought_wh": pl.Int64, "sold_wh": pl.Int64, "supplied_wh": pl.Int64, "taken_wh": pl.Int64, "quality": pl.Int64,
    "pays_uthb": pl.Int64}
_BILLS: Schema = _WINDOW | {
    "meter": pl.Int64, "owner": pl.String, "rule": pl.String, "quantity_wh": pl.Int64, "rate_uthb_kwh": pl.Int64,
    "amount_uthb": pl.Int64}
_ENERGY: Schema = _WINDOW | {"zone": pl.Int64} | dict.fromkeys((
    "minted_wh", "consumed_wh", "supplied_wh", "taken_wh", "bought_wh", "sold_wh", "losses_wh", "imports_wh",
    "exports_wh", "residual_wh", "tolerance_wh", "flagged", "meters", "estimated", "short_uthb_kwh",
    "long_uthb_kwh"), pl.Int64)
_PRICES: Schema = _WINDOW | dict.fromkeys((
    "zone", "trades", "traded_wh", "value_uthb", "last_mthb_kwh", "low_mthb_kwh", "high_mthb_kwh", "renewable_wh"),
    pl.Int64) | {"average_mthb_kwh": pl.Float64}
_FLOWS: Schema = _WINDOW | dict.fromkeys((
    "corridor", "forward_wh", "backward_wh", "forward_left_wh", "backward_left_wh", "net_forward_wh"), pl.Int64)
_NET_FLOWS: Schema = _WINDOW | {"corridor": pl.Int64, "net_forward_wh": pl.Int64}
_BLOCKS: Schema = {"height": pl.Int64, "hash": pl.String, "market": TIME, "transactions": pl.Int64,
                   "trades": pl.Int64, "traded_wh": pl.Int64}
_PARAMETERS: Schema = {"parameter": pl.String, "value": pl.Int64, "unit": pl.String, "help": pl.String}


@define(eq=False)
class Frames:
    """`chain.frames`: every method reads the chain as it stands now."""

    chain: Chain
    _bills: tuple[StateReader, Settled] | None = field(default=None, init=False, repr=False)

    def trades(self) -> pl.DataFrame:
        """Trades that state still holds, and those made here that it has cleared since."""
        kept = dict(self.chain.state.scan(bytes((Space.TRADE,))))
        cleared: dict[bytes, Fill] = {}
        for mined in reversed(self.chain.blocks):
            for fill in mined.fills:
                key = trade(fill.window, fill.number)
                if key not in kept:
                    kept[key], cleared[key] = fill.trade.encode(), fill
        keys = sorted(kept)
        (window, number, height, buy_meter, sell_meter, buy_zone, sell_zone, taker, price, delivered, injected, wheel,
         fee, vat, source, profile, path), paths = columns.trades((key, kept[key]) for key in keys)
        fills = [(row, cleared[key]) for row, key in enumerate(keys) if key in cleared] if cleared else []
        return _table(_TRADES, [
            window, window * WINDOW_MS, number, height,
            self._owners(buy_meter, {row: fill.buyer for row, fill in fills}),
            self._owners(sell_meter, {row: fill.seller for row, fill in fills}), buy_meter, sell_meter, buy_zone,
            sell_zone, _worded(_SIDES, taker), price, delivered, injected, price * injected, wheel, fee, vat,
            _worded(_SOURCES, source), profile, pl.Series(paths, dtype=pl.List(pl.Int64)).gather(path)])

    def orders(self) -> pl.DataFrame:
        """Orders that rest in the books."""
        rows = []
        for key, order in self._records(Space.ORDER):
            record: Order = order
            number = _number(key, 1, 9)
            window = window_of(number)
            rows.append((window, _start(window), number, record.meter, _address(self._owner(record.meter)),
                         record.zone, _side(record.side), record.price, record.quantity_wh, record.remaining_wh))
        return _frame(_ORDERS, rows)

    def accounts(self) -> pl.DataFrame:
        """Money as it can be spent in the next block."""
        rows = []
        for key, raw in self._records(Space.ACCOUNT):
            found: Account = funds.settled(raw, self.chain.height + 1)
            rows.append((_address(key[1:]), found.participant, found.balance, found.bids, found.proceeds,
                         found.locked, found.dues, found.total))
        return _frame(_ACCOUNTS, rows)

    def meters(self) -> pl.DataFrame:
        rows = []
        for key, record in self._records(Space.METER):
            found: Meter = record
            rows.append((_number(key, 1, 5), _address(found.owner), found.participant, found.zone,
                         Source(found.source).name.lower(), found.tariff, found.injection_w, found.withdrawal_w,
                         found.boundary))
        return _frame(_METERS, rows)

    def readings(self) -> pl.DataFrame:
        """As the meters signed them; boundary meters' injected is what came into their zone."""
        return _frame(_READINGS, [
            (*_window(key), _number(key, 5, 9), found.injected_wh, found.withdrawn_wh, found.quality, found.revision)
            for key, found in self._records(Space.READING)])

    def settlements(self) -> pl.DataFrame:
        """A row per settled meter and window; `pays_uthb` below zero is received."""
        bills, _, owners = self._settled()
        window, number, owner, zone, injected, withdrawn, bought, sold, supplied, taken, quality, _, pays = bills
        return _table(_SETTLEMENTS, [window, window * WINDOW_MS, number, _named(owners, owner), zone, injected,
                                     withdrawn, bought, sold, supplied, taken, quality, pays])

    def bills(self) -> pl.DataFrame:
        """Every line of every meter and window: above zero the owner pays."""
        bills, (bill, rule, quantity, rate, amount), owners = self._settled()
        window, number, owner = (column[bill] for column in bills[:3])
        return _table(_BILLS, [window, window * WINDOW_MS, number, _named(owners, owner), _worded(_RULES, rule),
                               quantity, rate, amount])

    def energy(self) -> pl.DataFrame:
        """The balance of every settled window and zone (MARKET 7)."""
        rows = []
        for key, found in self._records(Space.BALANCE):
            fields = asdict(found)
            rows.append((*_window(key), key[5], *(fields[name.removesuffix("_wh")] if name.endswith("_wh")
                                                  else fields[name] for name in list(_ENERGY)[3:])))
        return _frame(_ENERGY, rows)

    def prices(self) -> pl.DataFrame:
        """Trade of a window by the buyers' zone; the average is weighted by energy and in mTHB/kWh."""
        rows = []
        for key, record in self._records(Space.MARKET):
            found: Market = record
            rows.append((*_window(key), key[5], found.trades, found.traded_wh, found.value_uthb, found.last_price,
                         found.low_price, found.high_price, found.renewable_wh,
                         found.value_uthb / found.traded_wh if found.traded_wh else None))
        return _frame(_PRICES, rows)

    def flows(self) -> pl.DataFrame:
        """Corridors in the windows that used or changed them: capacity, what is left, and the net flow forward."""
        rows = []
        for key, record in self._records(Space.CORRIDOR_WINDOW):
            found: CorridorWindow = record
            rows.append((*_window(key), key[5], found.forward_wh, found.backward_wh, found.forward_left_wh,
                         found.backward_left_wh, found.forward_wh - found.forward_left_wh))
        return _frame(_FLOWS, rows)

    def net_flows(self) -> pl.DataFrame:
        """Net energy forward over each corridor by all `trades`: longer than state keeps `flows`."""
        sums: dict[tuple[int, int], int] = {}
        for window, start, injected, delivered, path in self.trades().select(
                "window", "sell_zone", "injected_wh", "delivered_wh", "path").rows():
            at = start
            for number in path:
                line: Corridor = self.chain.record(corridor(number))
                forward = line.first == at
                at = line.second if forward else line.first
                sums[window, number] = sums.get((window, number), 0) + (injected if forward else -delivered)
        return _frame(_NET_FLOWS, [(window, _start(window), number, sums[window, number])
                                   for window, number in sorted(sums)])

    def blocks(self) -> pl.DataFrame:
        """The blocks that were made here."""
        identity: Identity = self.chain.identity
        clock = MarketClock(identity.genesis_ms, identity.market_start_ms, identity.market_rate)
        return _frame(_BLOCKS, [
            (mined.header.height, mined.header.hash.hex(), clock.at(mined.header.timestamp_ms), len(mined.receipts),
             len(mined.fills), sum(fill.trade.delivered_wh for fill in mined.fills)) for mined in self.chain.blocks])

    def parameters(self) -> pl.DataFrame:
        values = self.chain.parameters
        return _frame(_PARAMETERS, [(entry.name, getattr(values, entry.name), entry.unit, entry.help)
                                    for entry in REGISTRY])

    def measures(self) -> pl.DataFrame:
        """Self-sufficiency, savings and their fairness, prices, losses, CO2: docs/measures.md has the formulas."""
        from gridtokenx.forks.measures import measures
        return measures(self.chain, self.table)

    def savings(self) -> pl.DataFrame:
        """A row per account: what it pays, and what it would pay alone with its utility (docs/measures.md)."""
        from gridtokenx.forks.measures import savings
        return savings(self.chain, self.table)

    def table(self, name: str) -> pl.DataFrame:
        """One of these tables, by its name."""
        found: pl.DataFrame = getattr(self, name)()
        return found

    # ------------------------------------------------------------ inside

    def _records(self, space: Space) -> Iterator[tuple[bytes, Any]]:
        for key, raw in self.chain.state.scan(bytes((space,))):
            yield key, decode_value(key, raw)

    def _settled(self) -> Settled:
        """All bills; read once while the chain stands where it does, for two tables are made of them."""
        state = self.chain.state
        if self._bills is None or self._bills[0] is not state:
            self._bills = state, columns.settlements(state.scan(bytes((Space.SETTLEMENT,))))
        return self._bills[1]

    def _owners(self, meters: Column, others: dict[int, bytes]) -> pl.Series:
        """The addresses of those who own the meters; in some rows of `others`."""
        names: dict[bytes, int] = {}
        places = np.zeros(len(meters), np.int64)
        for row, owner in others.items():
            places[row] = names.setdefault(owner, len(names))
        rest = np.delete(np.arange(len(meters)), list(others))
        numbers, at = np.unique(meters[rest], return_inverse=True)
        places[rest] = np.array([names.setdefault(self._owner(each), len(names)) for each in numbers.tolist()],
                                np.int64)[at]
        return _named(list(names), places)

    def _owner(self, number: int) -> bytes:
        found: Meter = self.chain.record(meter(number))
        return found.owner


def _untimed(schema: Schema) -> Schema:
    return {name: pl.Int64 if kind == TIME else kind for name, kind in schema.items()}


def _named(owners: list[bytes], places: Column) -> pl.Series:
    """The address of each of `places` in `owners`."""
    return pl.Series([_address(owner) for owner in owners], dtype=pl.String).gather(places)


def _worded(words: dict[int, str], numbers: Column) -> pl.Series:
    """The word of each of `numbers`."""
    return pl.Series([words.get(each) for each in range(max(words) + 1)], dtype=pl.String).gather(numbers)


def _table(schema: Schema, columns: list[Column | pl.Series]) -> pl.DataFrame:
    return _timed(schema, pl.DataFrame(dict(zip(schema, columns, strict=True))))


def _frame(schema: Schema, rows: list[Row]) -> pl.DataFrame:
    return _timed(schema, pl.DataFrame(
        rows, schema=_untimed(schema), orient="row"))


def _timed(schema: Schema, frame: pl.DataFrame) -> pl.DataFrame:
    """With its times, of milliseconds, as the schema has them."""
    times = [name for name, kind in schema.items() if kind == TIME]
    return frame.with_columns(
        pl.from_epoch(pl.col(name), "ms").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Bangkok")
        for name in times)


@lru_cache(1 << 16)
def _address(address: bytes) -> str:
    """Written once for each account: rows name the same ones again and again."""
    return encode_address(address)


def _start(window: int) -> int:
    return window * WINDOW_MS


def _window(key: bytes) -> tuple[int, int]:
    window = _number(key, 1, 5)
    return window, _start(window)


def _number(key: bytes, first: int, end: int) -> int:
    return int.from_bytes(key[first:end], "big")


def _side(side: int) -> str:
    return _SIDES[side]
