"""Timed work: what is due by the block's time, in order (due time, kind, id), up to a fixed weight (CONSENSUS 2).

Operations compare times themselves, so no result depends on how far the sweep has come; what is left over is a
reason for another block.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from gridtokenx._native.orderbook import Kind
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.records import WindowBook
from gridtokenx.market import monthly
from gridtokenx.market.clearing import clear_window, forget_window
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.closing import Closing, lapse
from gridtokenx.market.deadlines import after_halt
from gridtokenx.market.desk import Desk
from gridtokenx.market.halts import trading
from gridtokenx.market.indicative import publish
from gridtokenx.market.settlement import settle_window
from gridtokenx.market.work import Work, read_timed_key, timed_key

LEAST_ROOM = 900
"""The least weight with which uncrossing is begun; what comes first in a block has it even at the lowest limit."""


class TimedWork:
    """One block's share of the queue."""

    def __init__(self, context: Context, desk: Desk) -> None:
        self.context = context
        self.desk = desk
        self.spent = 0
        self.unfinished = False
        self.gated: set[int] = set()        # windows of which no order is left
        self._added: list[bytes] = []

    def run(self) -> None:
        """Does what is due; sets `unfinished` when the limit came first."""
        session = self.context.session
        after_halt(self.context)
        for key in self._due():
            if session.get(key) is None:        # what was done before it made it void
                continue
            _, kind, item = read_timed_key(key)
            if not self._spend(weights.CLEAR_RECORD) or not self._do(kind, item):
                return
            session.put(key, None)

    def _due(self) -> Iterator[bytes]:
        """Keys of the queue that are due, in order; those that work itself adds are met in this block too."""
        scanned = self.context.session.scan(spaces.TIMED_PREFIX)
        last = timed_key(self.context.now_ms + 1, Work.GATE, 0)
        first: bytes | None = None
        while True:
            if first is None:
                first = next(scanned, (last,))[0]
            if self._added and self._added[0] < first:
                yield heappop(self._added)
            elif first >= last:
                return
            else:
                key, first = first, None
                yield key

    def _do(self, kind: Work, item: int) -> bool:
        match kind:
            case Work.GATE:
                return self._gate(item)
            case Work.EXPIRY:
                return self._expire(item)
            case Work.SETTLE:
                return self._settle(item)
            case Work.CLEAR:
                return clear_window(self.context, item, self._spend)
            case Work.UNCROSS:
                return self._uncross(item, Kind.UNCROSS)
            case Work.RESUME:
                return self._uncross(item, Kind.RESUME)
            case Work.MONTH:
                return monthly.run(self.context, item, self._spend)
            case Work.FORGET:
                return forget_window(self.context, item, self._spend)
        raise InvariantError(f"timed work of kind {kind}")

    def _gate(self, window: int) -> bool:
        session, closing = self.context.session, Closing(self.context)
        done = closing.gate(window, session.rows(spaces.orders_of_window(window)), self._spend)
        closing.post()
        if not done or not self._spend(weights.PUBLISH):
            return False
        publish(session, self.context.parameters, window)
        book: WindowBook = session.get(spaces.window(window))
        session.put(spaces.window(window), WindowBook(book.trades, book.settled, 1))
        self.gated.add(window)
        return True

    def _expire(self, order_id: int) -> bool:
        order = self.context.session.get(spaces.order(order_id))
        if order is None:
            return True
        if not self._spend(weights.RELEASE):
            return False
        lapse(self.context, order_id, order)
        return True

    def _uncross(self, window: int, kind: Kind) -> bool:
        """Resumes a window, or goes on with what it left; False when the block's share of it was not enough."""
        session, context = self.context.session, self.context
        if gate_ms(window) <= context.now_ms:       # all its orders are closed
            if kind is Kind.UNCROSS:
                session.put(spaces.work_left(window), None)
            return True
        if kind is Kind.UNCROSS and trading(session, window).halted_until_ms:
            return True                             # the resume puts it back into the queue
        room = context.parameters.max_timed_weight - self.spent
        if room < LEAST_ROOM:
            self.unfinished = True
            return False
        self.spent += self.desk.uncross(window, kind, room)
        if kind is Kind.UNCROSS and session.get(spaces.work_left(window)) is not None:
            self.unfinished = True
            return False
        return True

    def _settle(self, window: int) -> bool:
        following = settle_window(self.context, window, self._spend)
        if following is None:
            return False
        if following < timed_key(self.context.now_ms + 1, Work.GATE, 0):
            heappush(self._added, following)
        return True

    def _spend(self, weight: int) -> bool:
        if self.spent + weight > self.context.parameters.max_timed_weight:
            self.unfinished = True
            return False
        self.spent += weight
        return True
