"""Orders of a block: funded one by one, matched by the engine in one batch, their effects posted (MARKET 3, 5).

Whether an order is funded never depends on matching in its own block, so orders are checked and funded as they
come, in order, and given to the engine together by `flush`; it makes no difference how often that is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen
from numpy.typing import NDArray

from gridtokenx._native.orderbook import OPERATION, RESTING, Kind, Reason
from gridtokenx._native.orderbook import Code as EngineCode
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.receipts import Code, Failed, Outcome
from gridtokenx.ledger.records import (
    Counters,
    Market,
    Meter,
    Order,
    Participant,
    Trade,
    WindowBook,
    Zone,
)
from gridtokenx.market import positions
from gridtokenx.market.book import Books
from gridtokenx.market.clock import gate_ms, opens_ms, settles_ms
from gridtokenx.market.money import buy_escrow, collateral_rate, fee_and_vat
from gridtokenx.market.orders import BUY, Force
from gridtokenx.market.reference import window_band
from gridtokenx.market.tariffs import LOT_WH, PRICE_MOST, TICK, Band
from gridtokenx.market.work import Work, timed_key

_OPERATION_FIELDS = ("order_id", "quantity_wh", "expires_ms", "participant", "meter", "window", "price_mthb_kwh",
                     "zone", "kind", "side", "force")
_RESTING_FIELDS = ("order_id", "sequence", "quantity_wh", "expires_ms", "participant", "meter", "window",
                   "price_mthb_kwh", "total_wh", "zone", "side")
_TRADE_FIELDS = ["maker_id", "taker_id", "delivered_wh", "injected_wh", "wheel_uthb", "maker_remaining_wh",
                 "taker_remaining_wh", "window", "price_mthb_kwh", "seller_zone", "buyer_zone", "taker_side"]
_CLOSED_FIELDS = ["order_id", "remaining_wh", "reason"]
_RESULT_FIELDS = ["sequence", "filled_wh", "remaining_wh", "code"]
_RESULT_CODES = {
    EngineCode.RESTING: Code.OK, EngineCode.FILLED: Code.OK, EngineCode.CLOSED_BELOW_LOT: Code.OK,
    EngineCode.CANCELLED_IOC: Code.OK, EngineCode.CANCELLED_LIMIT: Code.REMAINDER_CANCELLED,
    EngineCode.CANCELLED_SELF_TRADE: Code.SELF_TRADE, EngineCode.CANCELLED: Code.OK,
    EngineCode.UNKNOWN_ORDER: Code.UNKNOWN_ORDER,
}


@frozen
class Fill:
    """A trade of this block with its place in state and the two accounts."""

    window: int
    number: int
    trade: Trade
    buyer: bytes
    seller: bytes


@define
class Deferred:
    """An order operation on its way through the engine; `outcome` is there after `Desk.flush`."""

    order_id: int
    order: Order | None         # None: a cancel
    owner: bytes
    outcome: Outcome | None = None


@define
class _Live:
    """An order while a batch is posted. `held` is the escrow of a buy's remainder."""

    window: int
    order: Order
    owner: bytes
    remaining: int
    held: int
    fresh: bool
    gone: bool = False
    touched: bool = False


@frozen
class _WindowRules:
    opens_ms: int
    gate_ms: int
    band: Band


def due_ms(order: Order, window: int) -> int:
    """When the order closes by itself: its expiry, else its window's gate."""
    gate = gate_ms(window)
    return min(order.expires_ms, gate) if order.expires_ms else gate


@define
class Desk:
    """Orders of one block. Without `books` it only checks and funds (admission)."""

    context: Context
    books: Books | None
    fills: list[Fill] = field(factory=list)
    weight: int = 0
    open_before: int = 0            # orders open when the block's first transaction began
    _rows: list[tuple[int, ...]] = field(factory=list)
    _pending: list[Deferred] = field(factory=list)
    _placed: dict[int, Deferred] = field(factory=dict)
    _rules: dict[int, _WindowRules] = field(factory=dict)
    _in_engine: set[int] = field(factory=set)
    _places: int = 0

    # ------------------------------------------------------------ operations

    def place(self, sender: bytes, meter_id: int, window: int, side: int, price: int, quantity_wh: int, force: Force,
              expires_ms: int) -> Deferred:
        """Checks and funds an order and queues it for the engine. Raises Failed; then the caller rolls back."""
        session, parameters, now = self.context.session, self.context.parameters, self.context.now_ms
        meter: Meter | None = session.get(spaces.meter(meter_id))
        if meter is None:
            raise Failed(Code.UNKNOWN_METER, f"no meter {meter_id}")
        if meter.owner != sender:
            raise Failed(Code.NOT_METER_OWNER, f"meter {meter_id} is another account's")
        rules = self._window_rules(window)
        if now < rules.opens_ms:
            raise Failed(Code.WINDOW_NOT_OPEN, f"window {window} opens at market time {rules.opens_ms}; it is {now}")
        if now >= rules.gate_ms:
            raise Failed(Code.WINDOW_CLOSED, f"window {window} closed at market time {rules.gate_ms}; it is {now}")
        if price % TICK:
            raise Failed(Code.OUT_OF_TICK, f"price {price}; a multiple of {TICK} mTHB/kWh is needed")
        if not 0 <= price <= PRICE_MOST:
            raise Failed(Code.PRICE_LIMIT, f"price {price}; 0 to {PRICE_MOST} mTHB/kWh are allowed")
        if quantity_wh % LOT_WH or quantity_wh <= 0:
            raise Failed(Code.OUT_OF_LOT, f"quantity {quantity_wh}; a positive multiple of {LOT_WH} Wh is needed")
        if quantity_wh > parameters.order_most_wh:
            raise Failed(Code.QUANTITY_LIMIT, f"quantity {quantity_wh}; at most {parameters.order_most_wh} Wh")
        if not rules.band.admits(price):
            raise Failed(Code.OUT_OF_BAND, f"price {price}; in window {window} {rules.band.low} to {rules.band.high} "
                                           "mTHB/kWh are allowed")
        if (now < expires_ms <= rules.gate_ms) is not (force is Force.GOOD_TILL_TIME) or (
                force is not Force.GOOD_TILL_TIME and expires_ms):
            raise Failed(Code.BAD_TIME_IN_FORCE,
                         f"expiry {expires_ms}; with good till time it is after {now} and at most {rules.gate_ms} "
                         "(market ms), otherwise 0")
        participant: Participant = session.get(spaces.participant(meter.participant))
        if participant.expires_ms <= now:
            raise Failed(Code.LICENCE_EXPIRED, f"the licence expired at {participant.expires_ms}; it is {now}")
        counters: Counters = session.get(spaces.COUNTERS)
        if self.open_before + self._places >= parameters.max_open_orders:
            raise Failed(Code.BOOK_FULL, f"{parameters.max_open_orders} orders are open; no more are taken")

        position = positions.get_position(session, window, meter_id)
        if positions.free_wh(position, meter, side) < quantity_wh:
            session.release_due(sender)
            position = positions.get_position(session, window, meter_id)
            free = positions.free_wh(position, meter, side)
            if free < quantity_wh:
                raise Failed(Code.NO_CAPACITY, f"meter {meter_id} can offer {free} Wh more in window {window}, not "
                                               f"{quantity_wh}")
        positions.hold(session, window, meter_id, position, side, quantity_wh)
        if side == BUY:
            term, vat = parameters.fee_ppm, parameters.vat_ppm
            funds.hold_bid(session, sender, buy_escrow(price, quantity_wh, term, vat))
        else:
            term, vat = collateral_rate(parameters.short_cap_mthb_kwh, price), 0
            funds.hold_collateral(session, sender, term * quantity_wh)
        if session.get(spaces.window(window)) is None:
            session.put(spaces.window(window), WindowBook())
            session.put(timed_key(rules.gate_ms, Work.GATE, window), spaces.PRESENT)
            session.put(timed_key(settles_ms(window), Work.SETTLE, window), spaces.PRESENT)

        order_id = spaces.order_id(window, counters.orders + 1)
        session.put(spaces.COUNTERS, Counters(counters.participants, counters.meters, counters.orders + 1,
                                              counters.sequence, counters.open_orders))
        order = Order(meter_id, meter.participant, meter.zone, side, price, quantity_wh, quantity_wh, expires_ms, 0,
                      term, vat, self.context.height)
        deferred = Deferred(order_id, order, sender)
        self._rows.append((order_id, quantity_wh, expires_ms, meter.participant, meter_id, window, price, meter.zone,
                           Kind.PLACE, side, force))
        self._pending.append(deferred)
        self._placed[order_id] = deferred
        self._places += 1
        return deferred

    def cancel(self, sender: bytes, order_id: int) -> Deferred:
        """Queues a cancel. Raises Failed(UNKNOWN_ORDER) when no such order of the sender is open.

        Another's order gives the same code: whether it is still open may be the engine's to say, later.
        """
        window = spaces.window_of(order_id)
        placed = self._placed.get(order_id)
        order: Order | None = placed.order if placed else self.context.session.get(spaces.order(order_id))
        if order is not None:
            owner = placed.owner if placed else self.context.session.get(spaces.meter(order.meter)).owner
        if order is None or owner != sender or due_ms(order, window) <= self.context.now_ms:
            raise Failed(Code.UNKNOWN_ORDER, f"this account has no open order {order_id}")
        deferred = Deferred(order_id, None, sender)
        self._rows.append((order_id, 0, 0, 0, 0, window, 0, 0, Kind.CANCEL, 0, 0))
        self._pending.append(deferred)
        return deferred

    def _window_rules(self, window: int) -> _WindowRules:
        rules = self._rules.get(window)
        if rules is None:
            rules = self._rules[window] = _WindowRules(
                opens_ms(window), gate_ms(window),
                window_band(self.context.session, self.context.parameters, window))
        return rules

    # ------------------------------------------------------------ undo, before the engine

    def mark(self) -> int:
        return len(self._rows)

    def rollback(self, mark: int) -> None:
        """Forgets what was queued since `mark`; no flush may lie between."""
        for deferred in self._pending[mark:]:
            if deferred.order is not None:
                del self._placed[deferred.order_id]
                self._places -= 1
        del self._rows[mark:], self._pending[mark:]

    @property
    def pending_worst(self) -> int:
        """The most that the queued operations can weigh when the engine runs them."""
        places = len(self._placed)
        if not places:
            return 0
        makers = self.open_before + self._places
        fills = min(weights.MOST_FILLS * places, makers + places)
        visits = min(weights.MOST_VISITS * places, fills + makers * places)
        keys = weights.KEYS_PER_BATCH + fills * weights.KEYS_PER_FILL + places * weights.KEYS_PER_ORDER
        return fills * weights.FILL + visits * weights.VISIT + keys * weights.KEY

    # ------------------------------------------------------------ the engine

    def flush(self) -> None:
        """Runs the queued operations through the engine and posts trades, closings and results."""
        if not self._rows:
            return
        if self.books is None:
            raise InvariantError("a desk without books cannot match")
        session = self.context.session
        operations = _array(self._rows, OPERATION, _OPERATION_FIELDS)
        for window in sorted({row[5] for row in self._rows}):
            self.books.ensure(window, self._load)
        counters: Counters = session.get(spaces.COUNTERS)
        trades, results, closed, sequence = self.books.process(
            operations, now_ms=self.context.now_ms, next_sequence=counters.sequence)
        self.weight += len(trades) * weights.FILL
        self.weight += int(results["visits"].sum(dtype=np.int64)) * weights.VISIT
        _Posting(self, sequence).post(trades[_TRADE_FIELDS].tolist(), results[_RESULT_FIELDS].tolist(),
                                      closed[_CLOSED_FIELDS].tolist(), self._pending)
        self._in_engine.update(deferred.order_id for deferred in self._pending)
        self._rows, self._pending, self._placed = [], [], {}

    def _load(self, window: int) -> NDArray[Any]:
        """The window's resting orders as the session has them now, in (zone, side, price, sequence) order."""
        rows: list[tuple[Any, ...]] = []
        for key, order in self.context.session.scan(spaces.orders_of_window(window)):
            rows.append((int.from_bytes(key[1:], "big"), order.sequence, order.remaining_wh, order.expires_ms,
                         order.participant, order.meter, window, order.price, order.quantity_wh, order.zone,
                         order.side))
        rows.sort(key=lambda row: (row[9], row[10], row[7], row[1]))
        return _array(rows, RESTING, _RESTING_FIELDS)

    def in_engine(self, order_id: int) -> bool:
        """Whether the engine itself has dealt with the order in this block, closing included."""
        return order_id in self._in_engine

    # ------------------------------------------------------------ closing without the engine

    def lapse(self, order_id: int, order: Order) -> None:
        """Closes an order whose time has come: by a sweep, lazily, or because a search met it.

        What was due by the parent's time can be spent at once, anything later from the next block on, so that it
        makes no difference which of the three it was.
        """
        window = spaces.window_of(order_id)
        meter: Meter = self.context.session.get(spaces.meter(order.meter))
        self.weight += weights.RELEASE
        self._remove(order_id, order, meter.owner)
        quantity = order.remaining_wh
        session = self.context.session
        if due_ms(order, window) <= self.context.parent_ms:
            positions.return_now(session, window, order.meter, order.side, quantity)
            if order.side == BUY:
                funds.return_now(session, meter.owner, bids=_escrow(order, quantity))
            else:
                funds.return_now(session, meter.owner, collateral=order.term * quantity)
        elif order.side == BUY:
            held = _escrow(order, quantity)
            positions.apply_moves(session, window, order.meter, [0, 0, 0, quantity])
            funds.apply_moves(session, meter.owner, bids=-held, released=held)
        else:
            positions.apply_moves(session, window, order.meter, [0, 0, quantity, 0])
            funds.apply_moves(session, meter.owner, freed=order.term * quantity)

    def release_due(self, owner: bytes) -> None:
        """Closes the owner's orders that were due by the parent's time and that no sweep has met yet."""
        session, parent_ms = self.context.session, self.context.parent_ms
        for key, _ in session.scan(spaces.orders_of(owner)):
            if int.from_bytes(key[33:41], "big") > parent_ms:
                return
            order_id = int.from_bytes(key[41:], "big")
            self.lapse(order_id, session.get(spaces.order(order_id)))

    def _remove(self, order_id: int, order: Order, owner: bytes) -> None:
        session = self.context.session
        window = spaces.window_of(order_id)
        session.put(spaces.order(order_id), None)
        session.put(spaces.orders_of(owner, due_ms(order, window), order_id), None)
        if order.expires_ms:
            session.put(timed_key(order.expires_ms, Work.EXPIRY, order_id), None)
        counters: Counters = session.get(spaces.COUNTERS)
        session.put(spaces.COUNTERS, Counters(counters.participants, counters.meters, counters.orders,
                                              counters.sequence, counters.open_orders - 1))


def _array(rows: Sequence[tuple[Any, ...]], dtype: np.dtype[Any], names: tuple[str, ...]) -> NDArray[Any]:
    """Rows of the named fields as an array of `dtype`; its other fields are zero."""
    array = np.zeros(len(rows), dtype)
    for name, column in zip(names, zip(*rows, strict=True), strict=False):     # no columns of no rows
        array[name] = column
    return array


def _escrow(order: Order, quantity_wh: int) -> int:
    return buy_escrow(order.price, quantity_wh, order.term, order.vat_ppm)


class _Posting:
    """Posts one batch: sums per account, position and market first, each record written once."""

    def __init__(self, desk: Desk, sequence: int) -> None:
        self.desk = desk
        self.session = desk.context.session
        self.sequence = sequence
        self.live: dict[int, _Live] = {}
        self.accounts: dict[bytes, list[int]] = {}
        self.positions: dict[tuple[int, int], list[int]] = {}
        self.markets: dict[tuple[int, int], Market] = {}
        self.windows: dict[int, int] = {}
        self.closed_orders = 0

    def post(self, trades: list[Any], results: list[Any], closed: list[Any], pending: list[Deferred]) -> None:
        for deferred in pending:
            if deferred.order is not None:
                order = deferred.order
                held = _escrow(order, order.remaining_wh) if order.side == BUY else 0
                self.live[deferred.order_id] = _Live(
                    spaces.window_of(deferred.order_id), order, deferred.owner, order.remaining_wh, held, True)
        for trade in trades:
            self._trade(trade)
        for entry in closed:
            self._closed(entry)
        opened = 0
        for deferred, result in zip(pending, results, strict=True):
            opened += self._result(deferred, result)
        self._write(opened)

    def _order(self, order_id: int) -> _Live:
        live = self.live.get(order_id)
        if live is None:
            order: Order | None = self.session.get(spaces.order(order_id))
            if order is None:
                raise InvariantError(f"the engine names order {order_id}, which is not in state")
            meter: Meter = self.session.get(spaces.meter(order.meter))
            held = _escrow(order, order.remaining_wh) if order.side == BUY else 0
            live = self.live[order_id] = _Live(spaces.window_of(order_id), order, meter.owner, order.remaining_wh,
                                               held, False)
        live.touched = True
        return live

    def _account(self, address: bytes) -> list[int]:
        """[bids, proceeds, released, freed]"""
        moves = self.accounts.get(address)
        if moves is None:
            moves = self.accounts[address] = [0, 0, 0, 0]
        return moves

    def _position(self, window: int, meter: int) -> list[int]:
        """[sold, bought, closed sells, closed buys]"""
        moves = self.positions.get((window, meter))
        if moves is None:
            moves = self.positions[window, meter] = [0, 0, 0, 0]
        return moves

    def _trade(self, fields: Any) -> None:
        (maker_id, taker_id, delivered, injected, wheel, maker_left, taker_left, window, price, seller_zone,
         buyer_zone, taker_side) = fields
        maker, taker = self._order(maker_id), self._order(taker_id)
        if taker_side == BUY:
            buyer, seller, buy_id, sell_id = taker, maker, taker_id, maker_id
            buyer_left, seller_left = taker_left, maker_left
        else:
            buyer, seller, buy_id, sell_id = maker, taker, maker_id, taker_id
            buyer_left, seller_left = maker_left, taker_left
        order = buyer.order
        value = price * injected
        held_after = _escrow(order, buyer_left)
        room = buyer.held - held_after - value - wheel
        if room < 0:
            raise InvariantError(f"a fill of order {buy_id} takes {-room} uTHB more than its escrow")
        fee, vat = fee_and_vat(value + wheel, room, order.term, order.vat_ppm)
        moves = self._account(buyer.owner)
        moves[0] += held_after - buyer.held
        moves[2] += room - fee - vat
        self._account(seller.owner)[1] += value
        zone: Zone = self.session.get(spaces.zone(buyer_zone))
        roles = self.desk.context.roles
        if wheel:
            self._account(zone.network)[1] += wheel
        if fee:
            self._account(roles.market_operator)[1] += fee
        if vat:
            self._account(roles.tax)[1] += vat
        self._position(window, order.meter)[1] += delivered
        self._position(window, seller.order.meter)[0] += injected
        buyer.held, buyer.remaining, seller.remaining = held_after, buyer_left, seller_left
        if not maker_left:      # to exactly zero: nothing else reports it
            maker.gone = True

        number = self.windows.get(window)
        if number is None:
            number = self.session.get(spaces.window(window)).trades
        self.windows[window] = number + 1
        record = Trade(self.desk.context.height, buy_id, sell_id, order.meter, seller.order.meter, buyer_zone,
                       seller_zone, taker_side, price, delivered, injected, wheel, fee, vat,
                       seller.order.term * injected)
        self.session.put(spaces.trade(window, number), record)
        self.desk.fills.append(Fill(window, number, record, buyer.owner, seller.owner))
        place = (window, buyer_zone)
        m = self.markets.get(place)
        if m is None:
            m = self.session.get(spaces.market(window, buyer_zone)) or Market()
        self.markets[place] = Market(
            m.traded_wh + delivered, m.value_uthb + value, m.trades + 1, price,
            min(m.low_price, price) if m.trades else price, max(m.high_price, price))

    def _release(self, live: _Live) -> None:
        """The remainder of an order that left: its escrow, collateral and capacity come back."""
        quantity = live.remaining
        order = live.order
        live.gone = True
        if not quantity:
            return
        if order.side == BUY:
            moves = self._account(live.owner)
            moves[0] -= live.held
            moves[2] += live.held
            self._position(live.window, order.meter)[3] += quantity
        else:
            self._account(live.owner)[3] += order.term * quantity
            self._position(live.window, order.meter)[2] += quantity

    def _closed(self, fields: Any) -> None:
        order_id, remaining, reason = fields
        if reason == Reason.EXPIRED:
            order = self.session.get(spaces.order(order_id))
            if order is not None:       # otherwise released lazily in this block already
                self.desk.lapse(order_id, order)
            self.desk._in_engine.add(order_id)
            return
        live = self._order(order_id)
        if live.remaining != remaining:
            raise InvariantError(f"order {order_id} leaves the engine with {remaining} Wh; state says {live.remaining}")
        self._release(live)

    def _result(self, deferred: Deferred, fields: Any) -> int:
        """Sets the outcome; returns 1 when the order rests."""
        sequence, filled, remaining, engine_code = fields
        code = _RESULT_CODES.get(engine_code)
        if code is None:
            raise InvariantError(f"the engine refused order {deferred.order_id}: {EngineCode(engine_code).name}")
        if deferred.order is None:
            if code is Code.UNKNOWN_ORDER:
                deferred.outcome = Outcome(code)
                return 0
            live = self._order(deferred.order_id)
            live.remaining = remaining
            self._release(live)
            deferred.outcome = Outcome(code, (deferred.order_id, remaining))
            return 0
        rests = engine_code == EngineCode.RESTING
        live = self.live[deferred.order_id]
        deferred.outcome = Outcome(code, (deferred.order_id, filled, remaining if rests else 0,
                                          0 if rests else remaining))
        if rests:
            live.order = evolve(live.order, sequence=sequence)
            return 1
        live.remaining = remaining
        self._release(live)
        return 0

    def _write(self, opened: int) -> None:
        session, desk = self.session, self.desk
        for order_id, live in self.live.items():
            desk._in_engine.add(order_id)
            order = live.order
            if live.gone:
                if not live.fresh or order.sequence:
                    desk._remove(order_id, order, live.owner)
                continue
            if live.fresh:
                session.put(spaces.orders_of(live.owner, due_ms(order, live.window), order_id), spaces.PRESENT)
                if order.expires_ms:
                    session.put(timed_key(order.expires_ms, Work.EXPIRY, order_id), spaces.PRESENT)
            session.put(spaces.order(order_id), evolve(order, remaining_wh=live.remaining))
        for address, (bids, proceeds, released, freed) in self.accounts.items():
            funds.apply_moves(session, address, bids=bids, proceeds=proceeds, released=released, freed=freed)
        for (window, meter), moves in self.positions.items():
            positions.apply_moves(session, window, meter, moves)
        for (window, zone), market in self.markets.items():
            session.put(spaces.market(window, zone), market)
        for window, trades in self.windows.items():
            book: WindowBook = session.get(spaces.window(window))
            session.put(spaces.window(window), WindowBook(trades, book.settled, book.gated))
        counters: Counters = session.get(spaces.COUNTERS)
        session.put(spaces.COUNTERS, Counters(counters.participants, counters.meters, counters.orders, self.sequence,
                                              counters.open_orders + opened))
