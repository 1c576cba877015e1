"""Timed work: what is due by the block's time, in order (due time, kind, id), up to a fixed weight (CONSENSUS 2).

Operations compare times themselves, so no result depends on how far the sweep has come; what is left over is a
reason for another block.
"""

from __future__ import annotations

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.records import Halt, WindowBook
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.closing import lapse
from gridtokenx.market.delivery import clear_window, settle_window
from gridtokenx.market.work import Work, read_timed_key, timed_key

HALT_MS = 60_000
"""A block so much later than its parent (real ms) ended a halt of the chain."""


class TimedWork:
    """One block's share of the queue."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.spent = 0
        self.unfinished = False
        self.gated: set[int] = set()        # windows of which no order is left

    def run(self) -> None:
        """Does what is due; sets `unfinished` when the limit came first."""
        session, now = self.context.session, self.context.now_ms
        halt = self._halt()
        for key, _ in session.scan(spaces.TIMED_PREFIX):
            due, kind, item = read_timed_key(key)
            if due > now:
                return
            if not self._spend(weights.CLEAR_RECORD):
                return
            if kind is Work.SETTLE and halt.from_ms < due <= halt.until_ms:
                # Readings could not reach a halted chain: their deadline moves (CONSENSUS 2).
                session.put(key, None)
                session.put(timed_key(halt.until_ms + WINDOW_MS, Work.SETTLE, item), spaces.PRESENT)
            elif self._do(kind, item):
                session.put(key, None)
            else:
                return

    def _do(self, kind: Work, item: int) -> bool:
        match kind:
            case Work.GATE:
                return self._gate(item)
            case Work.EXPIRY:
                return self._expire(item)
            case Work.SETTLE:
                return settle_window(self.context, item, self._spend)
            case Work.CLEAR:
                return clear_window(self.context, item, self._spend)
        raise InvariantError(f"timed work of kind {kind}")

    def _gate(self, window: int) -> bool:
        session = self.context.session
        for key, order in session.scan(spaces.orders_of_window(window)):
            if not self._spend(weights.RELEASE):
                return False
            lapse(self.context, int.from_bytes(key[1:], "big"), order)
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

    def _spend(self, weight: int) -> bool:
        if self.spent + weight > self.context.parameters.max_timed_weight:
            self.unfinished = True
            return False
        self.spent += weight
        return True

    def _halt(self) -> Halt:
        """The last halt, in market time; kept in state so that a long backlog is judged alike in later blocks."""
        session, context = self.context.session, self.context
        halt: Halt = session.get(spaces.HALT)
        if context.timestamp_ms - context.parent_timestamp_ms <= HALT_MS:
            return halt
        first = next((read_timed_key(key)[0] for key, _ in session.scan(spaces.TIMED_PREFIX)), None)
        behind = first is not None and first <= context.parent_ms
        halt = Halt(halt.from_ms if behind else context.parent_ms, context.now_ms)
        session.put(spaces.HALT, halt)
        return halt
