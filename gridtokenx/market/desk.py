"""Orders of a block: funded one by one, matched by the engine in batches, their effects posted (MARKET 3, 5).

Whether an order is funded never depends on matching in its own block, so orders are checked and funded as they
come, in order, and given to the engine together by `flush`; it makes no difference how often that is called. What an
order was before the engine touched it in this block is therefore kept: amends and cancels are judged by that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from gridtokenx._native.orderbook import OPERATION, Kind
from gridtokenx._native.placing import Placing
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.market_records import WorkLeft
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Account, Counters, Meter, Order, Participant, Position, WindowBook
from gridtokenx.ledger.spaces import MAX_WINDOW, Space
from gridtokenx.market import amending, halts, positions
from gridtokenx.market.book import Books, WindowContent
from gridtokenx.market.clock import gate_ms, opens_ms
from gridtokenx.market.closing import due_ms, due_orders, lapse
from gridtokenx.market.deferred import Amendment, Deferred, cancel_row, grid_row, grouped, place_row, row
from gridtokenx.market.groups import GROUPS, Group
from gridtokenx.market.loading import WORK_FIELDS, window_content
from gridtokenx.market.money import buy_escrow, collateral_rate
from gridtokenx.market.orders import (
    BUY,
    PLACE_ORDER,
    POST_ONLY_FLAG,
    SELL,
    Terms,
    check_conditions,
    check_expiry,
    check_limit,
    check_quantity,
    market_limit,
)
from gridtokenx.market.places import counters, number_order
from gridtokenx.market.posting import Fill, Posting
from gridtokenx.market.rates import window_rates
from gridtokenx.market.reference import rates_band, short_cap
from gridtokenx.market.tariffs import LOT_WH, PRICE_MOST, TICK, Band
from gridtokenx.market.work import Work, read_timed_key, timed_key

UNCROSS_SHARE = 4
"""Fills and visits of uncrossing each have at most this part of a block: else what raises a residual fits into none."""


@frozen
class WindowRules:
    opens_ms: int
    gate_ms: int
    band: Band
    vat_ppm: int
    short_cap: int          # mTHB/kWh


KERNEL = Placing(
    {record.__name__: record for record in (Account, Band, Counters, Deferred, Meter, Order, Participant, Position,
                                            WindowRules)},
    Space.__members__, counters_key=spaces.COUNTERS, kind=Kind.PLACE, place=PLACE_ORDER, lot=LOT_WH, tick=TICK,
    price_most=PRICE_MOST, fills_most=weights.MOST_FILLS, window_most=MAX_WINDOW)
"""Does with a plain order what `ledger.operations.PlaceOrder`, the check of dues and `Desk.place` do."""


@define
class Desk:
    """Orders of one block. Without `books` it only checks and funds (admission)."""

    context: Context
    books: Books | None
    fills: list[Fill] = field(factory=list)
    weight: int = 0                 # of matching and of orders released lazily
    _rows: list[bytes] = field(factory=list)
    _pending: list[Deferred] = field(factory=list)
    _placed: dict[int, Deferred] = field(factory=dict)          # in this block
    _before: dict[int, tuple[Order, bytes]] = field(factory=dict)   # order and owner before the engine touched it
    _amended: dict[int, list[Amendment]] = field(factory=dict)  # in this block
    _rules: dict[int, WindowRules] = field(factory=dict)
    _in_engine: set[int] = field(factory=set)
    _touched: set[int] = field(factory=set)     # windows whose halt was looked at
    _just_loaded: bool = False
    _group: Group | None = None
    _groups: int = 0
    _uncross_fills: int = 0         # what uncrossing may still do in this block
    _uncross_visits: int = 0
    _queued: int = 0                # orders placed or amended since the last flush
    _fills_worst: int = 0           # of the queued operations

    def begin(self) -> None:
        """The block's transactions begin: what timed work did counts as done before."""
        self._before = {}
        parameters = self.context.parameters
        share = parameters.max_block_weight // UNCROSS_SHARE
        self._uncross_fills = min(parameters.uncross_fills, share // weights.UNCROSS_FILL)
        self._uncross_visits = min(parameters.uncross_visits, share // weights.VISIT)

    # ------------------------------------------------------------ operations

    def place_plain(self, sender: bytes, operations: tuple[tuple[Any, ...], ...], index: int) -> list[Deferred]:
        """Places orders from the operation at `index` on, up to one that is not plain."""
        if self._group is not None:
            return []
        parameters, before = self.context.parameters, len(self._pending)
        self._fills_worst += KERNEL.orders(
            self.context.session, sender, operations, index, self._rules, self._touched, self.context.now_ms,
            parameters.max_open_orders, parameters.order_most_wh, parameters.fee_ppm, self._placed, self._rows,
            self._pending)
        placed = self._pending[before:]
        self._queued += len(placed)
        return placed

    def place(self, sender: bytes, terms: Terms) -> Deferred:
        """Checks and funds an order and queues it for the engine. Raises Failed; then the caller rolls back."""
        session, parameters, now = self.context.session, self.context.parameters, self.context.now_ms
        meter_id, window, side, quantity_wh = terms.meter, terms.window, terms.side, terms.quantity_wh
        meter = self.own_meter(sender, meter_id)
        rules = self.open_rules(window)
        self.touch(window)
        flags = terms.flags
        price = market_limit(side, rules.band) if flags > 7 else terms.price_mthb_kwh
        check_limit(price, window, rules.band)
        check_quantity(quantity_wh, parameters.order_most_wh)
        check_expiry(terms.time_in_force, terms.expires_ms, now, rules.gate_ms)
        profile = terms.profile
        if flags or profile or terms.minimum_wh or terms.display_wh:
            check_conditions(terms)
            if profile and session.get(spaces.profile(profile)) is None:
                raise Failed(Code.UNKNOWN_PROFILE, f"no filter profile {profile}")
        self.check_licence(meter)
        place_borrowed = self._group is not None and self._group.borrow_place()
        if not place_borrowed:
            self._find_place(parameters.max_open_orders)

        source = 0
        if side == BUY:
            self.hold_capacity(sender, window, meter_id, meter, BUY, quantity_wh)
            term, vat = parameters.fee_ppm, rules.vat_ppm
            held = buy_escrow(price, quantity_wh, term, vat)
            borrowed = 0 if self._group is None else self._group.borrow(BUY, held)
            funds.hold_bid(session, sender, held - borrowed)
        else:
            source = self.source_of_sale(sender, window, meter_id, meter, quantity_wh)
            self.hold_capacity(sender, window, meter_id, meter, SELL, quantity_wh)
            term, vat = collateral_rate(rules.short_cap, price), 0
            held = term * quantity_wh
            borrowed = 0 if self._group is None else self._group.borrow(SELL, held)
            funds.hold_collateral(session, sender, held - borrowed)
        self.open_window(window)

        order_id = self.next_order_id(window, places=0 if place_borrowed else 1)
        # Numbers only: as state has them, and as the kernels know plain orders.
        order = Order(meter_id, meter.participant, meter.zone, int(side), price, quantity_wh, quantity_wh,
                      terms.expires_ms, 0, term, vat, self.context.height, source, profile, flags & 3, terms.display_wh)
        deferred = Deferred(window, Kind.PLACE, order_id, sender, order, borrowed=borrowed,
                            place_borrowed=place_borrowed, fills_worst=weights.most_fills(quantity_wh))
        self._placed[order_id] = deferred
        self.add(deferred, place_row(window, order_id, order, terms.time_in_force, flags & (3 | POST_ONLY_FLAG),
                                        terms.minimum_wh))
        return deferred

    def cancel(self, sender: bytes, order_id: int) -> Deferred:
        """Queues a cancel. Raises Failed(UNKNOWN_ORDER) when no such order of the sender is open."""
        order = self.own_order(sender, order_id)
        window = spaces.window_of(order_id)
        self.touch(window)
        expected = 0
        if self._group is not None:
            expected = self._group.cancel(order_id, order, amended=order_id in self._amended)
        deferred = Deferred(window, Kind.CANCEL, order_id, sender)
        self.add(deferred, cancel_row(window, order_id, expected))
        return deferred

    def amend(self, sender: bytes, order_id: int, price: int, quantity_wh: int, post_only: bool) -> Deferred:
        """Checks and funds a new price and total of an order and queues it. Raises Failed; the caller rolls back."""
        order = self.own_order(sender, order_id)
        window = spaces.window_of(order_id)
        self.touch(window)
        earlier = self._amended.get(order_id, [])
        amendment = amending.fund(self, sender, order_id, order, earlier, price, quantity_wh)
        self._amended[order_id] = [*earlier, amendment]
        deferred = Deferred(window, Kind.AMEND, order_id, sender, amendment=amendment,
                            fills_worst=weights.most_fills(quantity_wh))
        self.add(deferred, row(window, Kind.AMEND, order_id, quantity_wh, price,
                                  POST_ONLY_FLAG if post_only else 0))
        return deferred

    # ------------------------------------------------------------ groups

    def begin_group(self, windows: Iterable[int]) -> None:
        """Until `end_group`, operations happen together or not at all: cancels, which free what the orders that follow
        them use, in these windows."""
        for window in windows:
            self.touch(window)
        self._groups += 1
        self._group = Group(1 + self._groups % GROUPS)

    def end_group(self) -> None:
        self._group = None

    # ------------------------------------------------------------ checks

    def own_meter(self, sender: bytes, meter_id: int) -> Meter:
        meter: Meter | None = self.context.session.get(spaces.meter(meter_id))
        if meter is None:
            raise Failed(Code.UNKNOWN_METER, f"no meter {meter_id}")
        if meter.owner != sender:
            raise Failed(Code.NOT_METER_OWNER, f"meter {meter_id} is another account's")
        return meter

    def own_order(self, sender: bytes, order_id: int) -> Order:
        """The sender's order as placed in this block, or as it was before the engine touched it in this block.

        Another's order gives the same code as none: whether it is still open may be the engine's to say, later.
        """
        placed, before = self._placed.get(order_id), self._before.get(order_id)
        order: Order | None
        if placed is not None:
            order, owner = placed.order, placed.owner
        elif before is not None:
            order, owner = before
        else:
            order = self.context.session.get(spaces.order(order_id))
            owner = b"" if order is None else self.context.session.get(spaces.meter(order.meter)).owner
        if order is None or owner != sender or due_ms(order, spaces.window_of(order_id)) <= self.context.now_ms:
            raise Failed(Code.UNKNOWN_ORDER, f"this account has no open order {order_id}")
        return order

    def check_licence(self, meter: Meter) -> None:
        participant: Participant = self.context.session.get(spaces.participant(meter.participant))
        if participant.expires_ms <= self.context.now_ms:
            raise Failed(Code.LICENCE_EXPIRED,
                         f"the licence expired at {participant.expires_ms}; it is {self.context.now_ms}")

    def rules_of(self, window: int) -> WindowRules:
        rules = self._rules.get(window)
        if rules is None:
            parameters = self.context.parameters
            rates = window_rates(self.context.session, parameters, window)
            rules = self._rules[window] = WindowRules(opens_ms(window), gate_ms(window), rates_band(rates, parameters),
                                                      rates.vat_ppm, short_cap(rates, parameters))
        return rules

    def forget_rules(self) -> None:
        """Rates may have changed, or a change of them was undone: bands, VAT and collateral are read anew."""
        self._rules.clear()

    def open_rules(self, window: int) -> WindowRules:
        """The rules of a window that is open for trading. Raises Failed."""
        rules, now = self.rules_of(window), self.context.now_ms
        if now < rules.opens_ms:
            raise Failed(Code.WINDOW_NOT_OPEN, f"window {window} opens at market time {rules.opens_ms}; it is {now}")
        if now >= rules.gate_ms:
            raise Failed(Code.WINDOW_CLOSED, f"window {window} closed at market time {rules.gate_ms}; it is {now}")
        return rules

    def source_of_sale(self, sender: bytes, window: int, meter_id: int, meter: Meter, quantity_wh: int) -> int:
        """The meter's source, or mixed for an order that goes beyond the injection capacity (MARKET 3)."""
        session, capacity = self.context.session, meter.injection_w // 4
        if not meter.source:
            return 0
        if self._group is not None:
            quantity_wh -= self._group.free_wh(window, meter_id, SELL, quantity_wh)
        position = positions.get_position(session, window, meter_id)
        if positions.offered_wh(position) + quantity_wh > capacity:
            session.release_due(sender)
            position = positions.get_position(session, window, meter_id)
            if positions.offered_wh(position) + quantity_wh > capacity:
                return 0
        return int(meter.source)

    def hold_capacity(self, sender: bytes, window: int, meter_id: int, meter: Meter, side: int,
                      quantity_wh: int) -> None:
        """Puts `quantity_wh` on offer. Raises Failed(NO_CAPACITY)."""
        session = self.context.session
        position = positions.get_position(session, window, meter_id)
        needed = quantity_wh
        if self._group is not None:
            needed -= self._group.use_wh(window, meter_id, side, quantity_wh)
        if positions.free_wh(position, meter, side) < needed:
            session.release_due(sender)
            position = positions.get_position(session, window, meter_id)
            free = positions.free_wh(position, meter, side)
            if free < needed:
                raise Failed(Code.NO_CAPACITY, f"meter {meter_id} can offer {free} Wh more in window {window}, not "
                                               f"{quantity_wh}")
        positions.hold(session, window, meter_id, position, side, quantity_wh)

    def open_window(self, window: int) -> None:
        """Makes the window's records when it has none: from now on its gate is timed work."""
        session = self.context.session
        if session.get(spaces.window(window)) is None:
            session.put(spaces.window(window), WindowBook())
            session.put(timed_key(gate_ms(window), Work.GATE, window), spaces.PRESENT)

    def next_order_id(self, window: int, places: int = 0) -> int:
        """An id of the window's, for an order that takes so many places in the books."""
        return spaces.order_id(window, number_order(self.context.session, places))

    def _find_place(self, most: int) -> None:
        """When the books are full, an order that was due by the parent's time makes room. Raises Failed(BOOK_FULL)."""
        session = self.context.session
        if counters(session).open_orders < most:
            return
        for key, _ in session.scan(spaces.TIMED_PREFIX):
            due, kind, item = read_timed_key(key)
            if due > self.context.parent_ms:
                break
            self.weight += weights.VISIT
            if kind is Work.EXPIRY:
                found = item
            elif kind is Work.GATE:
                first = next(session.scan(spaces.orders_of_window(item)), None)
                if first is None:
                    continue
                found = int.from_bytes(first[0][1:], "big")
            else:
                continue
            self.weight += weights.RELEASE
            lapse(self.context, found, session.get(spaces.order(found)))
            return
        raise Failed(Code.BOOK_FULL, f"{most} orders are open; no more are taken")

    # ------------------------------------------------------------ the queue

    def touch(self, window: int) -> None:
        """Before the first operation on a window: ends a halt that has run out, swept or not."""
        if window not in self._touched:
            self._touched.add(window)
            halts.resume_if_due(self, window)

    def load_before_change(self, window: int) -> bool:
        """Before state changes what `queue` tells the engine later: it must know the window as it was. False when the
        window has no orders yet, and the engine need not be told.
        """
        if self.context.session.get(spaces.window(window)) is None:
            return False
        if self.books is not None and not self.books.engine.loaded(window):
            self.books.ensure(window, self._load)
            self._just_loaded = True
        return True

    def queue(self, window: int, kind: Kind, quantity_wh: int = 0, corridor: int = 0, direction: int = 0) -> None:
        """Queues what cannot fail and no receipt waits for: a capacity, a halt, a resume, uncrossing."""
        self.add(Deferred(window, kind, loaded=self._just_loaded),
                    grid_row(window, kind, quantity_wh, corridor, direction))
        self._just_loaded = False

    def weigh_window(self) -> None:
        """An operation on many windows weighs by them: each is loaded."""
        self.weight += weights.WINDOW

    def add(self, deferred: Deferred, operation: bytes) -> None:
        """Queues a row of the engine's batch."""
        if self._group is not None:
            operation = grouped(operation, self._group.number)
        self._rows.append(operation)
        self._pending.append(deferred)
        if deferred.fills_worst:
            self._queued += 1
            self._fills_worst += deferred.fills_worst

    def mark(self) -> int:
        return len(self._rows)

    def rollback(self, mark: int) -> None:
        """Forgets what was queued since `mark`; no flush may lie between."""
        for deferred in reversed(self._pending[mark:]):
            if deferred.kind is Kind.PLACE:
                del self._placed[deferred.order_id]
            elif deferred.kind is Kind.AMEND:
                self._amended[deferred.order_id] = self._amended[deferred.order_id][:-1]
            elif deferred.kind is Kind.RESUME:
                self._touched.discard(deferred.window)
            if deferred.loaded and self.books is not None:
                self.books.forget(deferred.window)      # loaded from a state that is undone
            if deferred.fills_worst:
                self._queued -= 1
                self._fills_worst -= deferred.fills_worst
        del self._rows[mark:], self._pending[mark:]
        self.forget_rules()

    @property
    def pending_worst(self) -> int:
        """The most that the queued operations can weigh when the engine runs them."""
        if not self._rows:
            return 0
        fills, visits = self._fills_worst, 0
        if self.books is not None and self.books.corridor_count:        # without corridors nothing raises a residual
            fills, visits = fills + self._uncross_fills, self._uncross_visits
        keys = weights.KEYS_PER_BATCH + fills * weights.KEYS_PER_FILL + self._queued * weights.KEYS_PER_ORDER
        visits += fills + self._queued
        return fills * weights.FILL + visits * weights.VISIT + keys * weights.KEY

    # ------------------------------------------------------------ the engine

    def flush(self) -> None:
        """Runs the queued operations through the engine and posts trades, closings and results."""
        if not self._rows:
            return
        if self.books is None:
            raise InvariantError("a desk without books cannot match")
        session = self.context.session
        operations = np.frombuffer(b"".join(self._rows), OPERATION)
        windows = sorted({deferred.window for deferred in self._pending})
        for window in windows:
            self.books.ensure(window, self._load)
        answer = self.books.process(
            operations, now_ms=self.context.now_ms, next_sequence=counters(session).sequence,
            uncross_fills=self._uncross_fills, uncross_visits=self._uncross_visits)
        self._uncross_fills -= answer.uncross_fills
        self._uncross_visits -= answer.uncross_visits
        posting = Posting(self.context, self.books, answer.next_sequence)
        posting.post(answer.trades, answer.results, answer.closed, self._pending)
        self.fills += posting.fills
        self._keep_work_left(windows, answer.work_left)
        self.weight += len(answer.trades) * weights.FILL + len(posting.lapsed) * weights.RELEASE
        self.weight += int(answer.results["visits"].sum(dtype=np.int64)) * weights.VISIT
        for order_id, entry in posting.known.items():
            if order_id not in self._placed:
                self._before.setdefault(order_id, entry)
        self._in_engine |= posting.live.keys() | posting.lapsed
        self._in_engine.update(deferred.order_id for deferred in self._pending)
        self._rows, self._pending, self._queued, self._fills_worst = [], [], 0, 0

    def _keep_work_left(self, windows: list[int], points: NDArray[Any]) -> None:
        """Uncrossing that its bounds interrupted is marked in state, and is the first timed work of the next block."""
        session = self.context.session
        left = {fields[3]: fields for fields in points[list(WORK_FIELDS)].tolist()}
        for window in windows:
            fields = left.get(window)
            if fields is not None:
                sequence, low, high, _, price, again = fields
                session.put(spaces.work_left(window), WorkLeft(sequence, low, high, price, again))
                session.put(timed_key(0, Work.UNCROSS, window), spaces.PRESENT)
            elif session.get(spaces.work_left(window)) is not None:
                session.put(spaces.work_left(window), None)
                session.put(timed_key(0, Work.UNCROSS, window), None)

    def uncross(self, window: int, kind: Kind, room: int) -> int:
        """Timed work: resumes the window or goes on with its uncrossing, within a weight. Returns what was spent."""
        self._uncross_visits = min(self.context.parameters.uncross_visits, room // 4)
        self._uncross_fills = min(self.context.parameters.uncross_fills,
                                  (room - self._uncross_visits * weights.VISIT) // weights.UNCROSS_FILL)
        before, fills = self.weight, len(self.fills)
        if kind is Kind.RESUME:
            halts.resume(self, window)
        else:
            self.queue(window, kind)
        self.flush()
        spent = self.weight - before + (len(self.fills) - fills) * (weights.UNCROSS_FILL - weights.FILL)
        self.weight = before
        return spent

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
