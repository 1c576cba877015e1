"""Trading sessions: the windows of one are traded together in rounds, in the quarter hour before the first one's gate.

In a round every agent is asked, and its open orders are brought in line with what it wants: placed, amended or
cancelled. Operations of a house are packed into as few transactions as can be. With the uniform-price auction
(`clearing`) there is one round, and what it trades is posted at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from attrs import define, field, frozen
from numpy.typing import NDArray

from gridtokenx._native.canonical import tuples
from gridtokenx.errors import GridTokenXError
from gridtokenx.forks import Chain, Mined, Refusal
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import AmendOrder, BilateralTrade, CancelOrder, Operation, PlaceOrder
from gridtokenx.ledger.receipts import SUCCESS, Code, Outcome
from gridtokenx.ledger.records import Market, Order, Position
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.transaction import MAX_OPERATIONS
from gridtokenx.market import positions
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.orders import Side
from gridtokenx.market.rates import window_rates
from gridtokenx.market.tariffs import band
from gridtokenx.scenario.agents import Book, Orders, Situation, Whole
from gridtokenx.scenario.clearing import hold_auction
from gridtokenx.scenario.population import QUARTERS, House
from gridtokenx.scenario.schema import CONTINUOUS, UNIFORM_PRICE
from gridtokenx.units import LOT_WH, PPM, PRICE_TICK_MTHB, UTHB_PER_THB

NONE = -1
MTHB = UTHB_PER_THB // 1000         # uTHB/kWh in a mTHB/kWh


class AgentError(GridTokenXError):
    """An agent that answers with something else than orders; the message names the house and what is allowed."""


@define
class Tally:
    """What became of operations: by kind, and by code where they failed."""

    done: Counter[str] = field(factory=Counter)
    failed: Counter[str] = field(factory=Counter)


@frozen
class _Sent:
    """A transaction in flight: whose, and of each operation its name and the place of its window in the horizon."""

    house: int
    places: list[int]
    names: list[str]


@define(eq=False)
class _Making:
    """Operations of a house: their fields, names and places."""

    fields: list[tuple[Any, ...]] = field(factory=list)
    names: list[str] = field(factory=list)
    places: list[int] = field(factory=list)

    def add(self, place: int, operation: Operation) -> None:
        self.fields.append(tuples(operation.fields()))
        self.names.append(operation.NAME)
        self.places.append(place)

    def place(self, places: list[int], orders: list[tuple[Any, ...]]) -> None:
        self.fields += orders
        self.names += [PlaceOrder.NAME] * len(orders)
        self.places += places


@define(eq=False)
class Floor:
    """All trading of a run. `position_wh` and `open` are by house and window of the horizon `windows`."""

    chain: Chain
    houses: Sequence[House]
    windows: range
    rounds: int
    mechanism: str = CONTINUOUS
    tally: Tally = field(factory=Tally)
    position_wh: Whole = field(init=False)
    open: NDArray[np.uint64] = field(init=False)
    _asked_wh: Whole = field(init=False)
    _limit: Whole = field(init=False)
    _worths: Whole = field(init=False)
    _by_meter: dict[int, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        shape = (len(self.houses), len(self.windows))
        self.position_wh = np.zeros(shape, np.int64)
        self.open = np.zeros(shape, np.uint64)
        self._asked_wh, self._limit, self._worths = (np.zeros(shape, np.int64) for _ in range(3))
        self._by_meter = {house.meter: number for number, house in enumerate(self.houses)}
        for key, raw in self.chain.head.scan(bytes((Space.POSITION,))):     # what residents have traded before
            window, number = int.from_bytes(key[1:5], "big"), self._by_meter.get(int.from_bytes(key[5:], "big"))
            if number is not None and window in self.windows:
                held = positions.settled(Position.decode(raw), self.chain.height + 1)
                self.position_wh[number, window - self.windows.start] = held.sold - held.bought

    def session(self, windows: range) -> None:
        """Trades `windows`, whose session begins now. Raises AgentError."""
        if self.mechanism == UNIFORM_PRICE:
            hold_auction(self, windows)
            return
        begin_ms = self.chain.now_ms
        for round_ in range(self.rounds):
            if round_:
                due_ms = begin_ms + WINDOW_MS * round_ // (self.rounds + 1)
                if due_ms > self.chain.now_ms:
                    self._take(self.chain.warp(due_ms), {})
            self._round(windows, round_)

    def orders(self) -> pl.DataFrame:
        """The last order of every house and window that made one: all its lots, its limit, its true worth."""
        rows, places = np.nonzero(self._asked_wh)
        asked = self._asked_wh[rows, places]
        first_ms = self.windows.start * WINDOW_MS
        return pl.DataFrame({
            "window": places + self.windows.start, "delivery": places * WINDOW_MS + first_ms,
            "meter": np.array([house.meter for house in self.houses], np.int64)[rows],
            "zone": np.array([house.zone for house in self.houses], np.int64)[rows],
            "side": np.where(asked > 0, "sell", "buy").tolist(), "price_mthb_kwh": self._limit[rows, places],
            "worth_mthb_kwh": self._worths[rows, places],
            "quantity_wh": np.abs(asked) // LOT_WH * LOT_WH}).with_columns(
                pl.from_epoch("delivery", "ms").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Bangkok"),
                pl.col("side").cast(pl.String)).sort("window", "meter")

    # ------------------------------------------------------------ a round

    def answers(self, windows: range, round_: int) -> tuple[Whole, Whole]:
        """What every house wants in `windows`, and its limit prices: asks all agents. Raises AgentError.

        Where no order makes sense it wants nothing, otherwise no more than its meter can carry (MARKET 3). What it asks
        for is kept for `orders`.
        """
        worth = self._worth(windows)
        first = windows.start - self.windows.start
        part = slice(first, first + len(windows))
        look = _Looking(self.chain, windows)
        wanted, price = (np.empty((len(self.houses), len(windows)), np.int64) for _ in range(2))
        for number, house in enumerate(self.houses):
            least, most = worth[house.tariff]
            situation = Situation(
                windows, round_, self.rounds, house.zone, house.expected_wh[part],
                self.position_wh[number, part].copy(), most, least, look=partial(look.book, house.zone),
                battery=house.battery, stored_wh=house.stored_wh)
            orders = _checked(house, house.agent.orders(situation), len(windows))
            wanted[number], price[number] = orders.quantity_wh, orders.price
        least, most = (np.array([worth[house.tariff][side] for house in self.houses]) for side in (0, 1))
        expected = np.array([house.expected_wh[part] for house in self.houses])
        self._worths[:, part] = np.where(expected > 0, least, most)
        injection, withdrawal = (np.array(watts, np.int64)[:, None] // QUARTERS for watts in (
            [house.injection_w for house in self.houses], [house.withdrawal_w for house in self.houses]))
        wanted = np.clip(wanted, -withdrawal, injection)
        wanted[(least > most) | (np.abs(wanted) < LOT_WH)] = 0
        asking = wanted != 0
        self._asked_wh[:, part] = np.where(asking, wanted + self.position_wh[:, part], self._asked_wh[:, part])
        self._limit[:, part] = np.where(asking, price, self._limit[:, part])
        return wanted, price

    def worth(self, house: House, windows: range) -> tuple[int, int]:
        """(least, most) of `Situation` for a house, in the first window of a session."""
        least, most = self._worth(windows)[house.tariff]
        return int(least[0]), int(most[0])

    def book(self, zone: int, windows: range) -> Book:
        """The best prices in a zone now."""
        return _Looking(self.chain, windows).book(zone)

    def send(self, operations: Mapping[int, Sequence[tuple[int, Operation]]]) -> None:
        """Sends (window, operation) of houses by meter, and takes in what they bring."""
        sent: dict[int, _Sent] = {}
        for meter, some in operations.items():
            made = _Making()
            for window, operation in some:
                made.add(window - self.windows.start, operation)
            self._submit(self._by_meter[meter], made, sent)
        self._take(self.chain.flush(), sent)

    def _submit(self, number: int, made: _Making, sent: dict[int, _Sent]) -> None:
        for start in range(0, len(made.fields), MAX_OPERATIONS):
            part = slice(start, start + MAX_OPERATIONS)
            ticket = self.chain.submit_fields(self.houses[number].address, tuple(made.fields[part]))
            sent[ticket] = _Sent(number, made.places[part], made.names[part])

    def _round(self, windows: range, round_: int) -> None:
        first = windows.start - self.windows.start
        sent: dict[int, _Sent] = {}
        wanted, price = self.answers(windows, round_)
        rows, columns = np.nonzero(wanted)
        asked = wanted[rows, columns]
        places, sides = (first + columns).tolist(), np.where(asked > 0, int(Side.SELL), int(Side.BUY)).tolist()
        times, prices = (windows.start + columns).tolist(), price[rows, columns].tolist()
        lots = (np.abs(asked) // LOT_WH * LOT_WH).tolist()
        ends = [0, *np.cumsum(np.count_nonzero(wanted, axis=1)).tolist()]
        resting = np.any(self.open[:, first:first + len(windows)] != 0, axis=1)
        for number, house in enumerate(self.houses):
            if resting[number]:
                made = self._operations(number, house, first, wanted[number], price[number])
            else:
                own = slice(ends[number], ends[number + 1])
                made = _Making()
                made.place(places[own], PlaceOrder.plain_fields(house.meter, times[own], sides[own], prices[own],
                                                                lots[own]))
            self._submit(number, made, sent)
        self._take(self.chain.flush(), sent)

    def _operations(self, number: int, house: House, first: int, wanted: Whole, price: Whole) -> _Making:
        """What brings a house's open orders in line with what it wants."""
        open_ = self.open[number, first:first + len(wanted)]
        made = _Making()
        wholes, prices, held = wanted.tolist(), price.tolist(), open_.tolist()
        for at, (quantity, limit, order_id) in enumerate(zip(wholes, prices, held, strict=True)):
            place = first + at
            record: Order | None = self.chain.record(spaces.order(order_id)) if order_id else None
            if record is not None:
                side = Side.SELL if quantity > 0 else Side.BUY
                # With losses what was filled is no whole number of lots; the new total is.
                total = (record.quantity_wh - record.remaining_wh + abs(quantity)) // LOT_WH * LOT_WH
                if quantity and record.side == side:
                    if (record.price, record.quantity_wh) != (limit, total):
                        made.add(place, AmendOrder(order_id, limit, total))
                    continue
                made.add(place, CancelOrder(order_id))
            if quantity:
                made.add(place, PlaceOrder(
                    house.meter, self.windows.start + place, Side.SELL if quantity > 0 else Side.BUY, limit,
                    abs(quantity) // LOT_WH * LOT_WH))
        return made

    def _take(self, blocks: Iterable[Mined], sent: dict[int, _Sent]) -> None:
        """Takes in what blocks brought: orders that rest, energy that was traded, what failed."""
        for mined in blocks:
            for ticket, receipt in mined.receipts.items():
                each = sent.get(ticket)
                if each is None:
                    continue
                if isinstance(receipt, Refusal):
                    for name in each.names:
                        self._failed(name, receipt.code)
                else:
                    self._outcomes(each, receipt.outcomes)
            for fill in mined.fills:
                place = fill.window - self.windows.start
                if 0 <= place < len(self.windows):
                    for meter, moved in ((fill.trade.sell_meter, fill.trade.injected_wh),
                                         (fill.trade.buy_meter, -fill.trade.delivered_wh)):
                        house = self._by_meter.get(meter)
                        if house is not None:
                            self.position_wh[house, place] += moved

    def _outcomes(self, sent: _Sent, outcomes: Sequence[Outcome]) -> None:
        places, order_ids, done = [], [], []
        for place, name, outcome in zip(sent.places, sent.names, outcomes, strict=True):
            if outcome.code not in SUCCESS:
                self._failed(name, Code(outcome.code))
                continue
            done.append(name)
            if name != BilateralTrade.NAME:
                data = outcome.data                             # a cancel's has no more than what it cancelled
                places.append(place)
                order_ids.append(data[0] if len(data) > 2 and data[2] else 0)
        self.tally.done.update(done)
        self.open[sent.house, places] = order_ids               # of several of a window the last one counts

    def _failed(self, name: str, code: Code) -> None:
        self.tally.failed[f"{name}: {code.name}"] += 1

    # ------------------------------------------------------------ prices

    def _worth(self, windows: range) -> dict[int, tuple[Whole, Whole]]:
        """(least, most) of `Situation` by tariff class, from the rates in force and the price band."""
        chain, parameters = self.chain, self.chain.parameters
        session = Session(chain.head, chain.height + 1)
        found: dict[int, list[tuple[int, int]]] = {house.tariff: [] for house in self.houses}
        for window in windows:
            rates = window_rates(session, parameters, window)
            limits = band(rates.reference, rates.buy_back, parameters.price_band_ppm)
            for tariff, values in found.items():
                most = min(rates.retail(tariff) * PPM // (PPM + parameters.fee_ppm) // MTHB, limits.high)
                least = max(-(-rates.buy_back // MTHB), limits.low)
                values.append((-(-least // PRICE_TICK_MTHB), most // PRICE_TICK_MTHB))
        ticks = {tariff: np.array(values, np.int64).T * PRICE_TICK_MTHB for tariff, values in found.items()}
        return {tariff: (both[0], both[1]) for tariff, both in ticks.items()}


@define(eq=False)
class _Looking:
    """The best prices as a round begins, read when the first agent asks."""

    chain: Chain
    windows: range
    _books: dict[int, Book] = field(factory=dict)

    def book(self, zone: int) -> Book:
        if not self._books:
            self._read()
        return self._books.get(zone) or self._empty()

    def _empty(self) -> Book:
        none = np.full(len(self.windows), NONE, np.int64)
        return Book(none, none.copy(), none.copy(), np.zeros(len(self.windows), np.int64))

    def _read(self) -> None:
        zones = 0
        while self.chain.record(spaces.zone(zones)) is not None:
            self._books[zones] = self._empty()
            zones += 1
        for at, window in enumerate(self.windows):
            for _, raw in self.chain.head.scan(spaces.orders_of_window(window)):
                order = Order.decode(raw)
                book = self._books[order.zone]
                if order.side == Side.BUY:
                    book.bid[at] = max(book.bid[at], order.price)
                elif book.ask[at] == NONE or order.price < book.ask[at]:
                    book.ask[at] = order.price
            for zone, book in self._books.items():
                market: Market | None = self.chain.record(spaces.market(window, zone))
                if market is not None and market.trades:
                    book.last[at] = market.last_price
                    book.trades[at] = market.trades


def _checked(house: House, orders: Orders, count: int) -> Orders:
    for name in ("quantity_wh", "price"):
        values = getattr(orders, name)
        if not isinstance(values, np.ndarray) or values.shape != (count,) or values.dtype != np.int64:
            raise AgentError(f"the agent of {house.name} answers {name} = {values!r}; an int64 array with {count} "
                             "entries, one per window of the session, is allowed")
    return orders
