"""Orders of a block: funded one by one, matched by the engine in one batch, their effects posted (MARKET 3, 5).

Whether an order is funded never depends on matching in its own block, so orders are checked and funded as they
come, in order, and given to the engine together by `flush`; it makes no difference how often that is called.
"""

from __future__ import annotations

import numpy as np
from attrs import define, field, frozen

from gridtokenx._native.orderbook import OPERATION, Kind
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Counters, Meter, Order, Participant, WindowBook
from gridtokenx.ledger.tariff_records import Series
from gridtokenx.market import positions
from gridtokenx.market.book import Books, WindowContent
from gridtokenx.market.clock import gate_ms, opens_ms
from gridtokenx.market.closing import due_ms, due_orders, lapse
from gridtokenx.market.loading import structured, window_content
from gridtokenx.market.money import buy_escrow, collateral_rate
from gridtokenx.market.orders import BUY, Force
from gridtokenx.market.posting import Deferred, Fill, Posting
from gridtokenx.market.rates import series_at
from gridtokenx.market.reference import window_band
from gridtokenx.market.tariffs import LOT_WH, PRICE_MOST, TICK, Band
from gridtokenx.market.work import Work, timed_key

_OPERATION_FIELDS = ("order_id", "quantity_wh", "expires_ms", "participant", "meter", "window", "price_mthb_kwh",
                     "zone", "kind", "side", "force")

@frozen
class _WindowRules:
    opens_ms: int
    gate_ms: int
    band: Band
    vat_ppm: int


@define
class Desk:
    """Orders of one block. Without `books` it only checks and funds (admission)."""

    context: Context
    books: Books | None
    fills: list[Fill] = field(factory=list)
    weight: int = 0                 # of matching and of orders released lazily
    open_before: int = 0            # orders open when the block's first transaction began
    _rows: list[tuple[int, ...]] = field(factory=list)
    _pending: list[Deferred] = field(factory=list)
    _placed: dict[int, Deferred] = field(factory=dict)
    _rules: dict[int, _WindowRules] = field(factory=dict)
    _in_engine: set[int] = field(factory=set)
    _places: int = 0
    _fills_worst: int = 0           # of the queued orders

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
            term, vat = parameters.fee_ppm, rules.vat_ppm
            funds.hold_bid(session, sender, buy_escrow(price, quantity_wh, term, vat))
        else:
            term, vat = collateral_rate(parameters.short_cap_mthb_kwh, price), 0
            funds.hold_collateral(session, sender, term * quantity_wh)
        if session.get(spaces.window(window)) is None:
            session.put(spaces.window(window), WindowBook())
            session.put(timed_key(rules.gate_ms, Work.GATE, window), spaces.PRESENT)

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
        self._fills_worst += weights.most_fills(quantity_wh)
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
                window_band(self.context.session, self.context.parameters, window),
                series_at(self.context.session, Series.VAT, window))
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
                self._fills_worst -= weights.most_fills(deferred.order.quantity_wh)
        del self._rows[mark:], self._pending[mark:]

    @property
    def pending_worst(self) -> int:
        """The most that the queued operations can weigh when the engine runs them."""
        if not self._placed:
            return 0
        placed = len(self._placed)
        # A fill closes a resting order or ends the search, which visits one order more than it fills.
        fills = self._fills_worst
        if self.books is None or not self.books.corridor_count:
            fills = min(fills, self.open_before + self._places + placed)
        keys = weights.KEYS_PER_BATCH + fills * weights.KEYS_PER_FILL + placed * weights.KEYS_PER_ORDER
        return fills * weights.FILL + (fills + placed) * weights.VISIT + keys * weights.KEY

    # ------------------------------------------------------------ the engine

    def flush(self) -> None:
        """Runs the queued operations through the engine and posts trades, closings and results."""
        if not self._rows:
            return
        if self.books is None:
            raise InvariantError("a desk without books cannot match")
        session = self.context.session
        operations = structured(self._rows, OPERATION, _OPERATION_FIELDS)
        for window in sorted({row[5] for row in self._rows}):
            self.books.ensure(window, self._load)
        counters: Counters = session.get(spaces.COUNTERS)
        outcome = self.books.process(operations, now_ms=self.context.now_ms, next_sequence=counters.sequence)
        trades, results, closed = outcome.trades, outcome.results, outcome.closed
        posting = Posting(self.context, self.books, outcome.next_sequence)
        posting.post(trades, results, closed, self._pending)
        self.fills += posting.fills
        self.weight += len(trades) * weights.FILL + len(posting.lapsed) * weights.RELEASE
        self.weight += int(results["visits"].sum(dtype=np.int64)) * weights.VISIT
        self._in_engine |= posting.live.keys() | posting.lapsed
        self._in_engine.update(deferred.order_id for deferred in self._pending)
        self._rows, self._pending, self._placed, self._fills_worst = [], [], {}, 0

    def _load(self, window: int) -> WindowContent:
        assert self.books is not None
        return window_content(self.context.session, window, self.books.corridor_count)

    def in_engine(self, order_id: int) -> bool:
        """Whether the engine itself has dealt with the order in this block, closing included."""
        return order_id in self._in_engine

    # ------------------------------------------------------------ closing without the engine

    def release_due(self, owner: bytes) -> None:
        """Closes the owner's orders that were due by the parent's time, which counts as done already."""
        for order_id in due_orders(self.context, owner):
            self.weight += weights.RELEASE
            lapse(self.context, order_id, self.context.session.get(spaces.order(order_id)))
