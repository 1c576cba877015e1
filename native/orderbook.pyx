# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
"""The compiled order book: every window and zone in one Engine, price-time priority, exact fills (MARKET 3 and 5).

One call takes a batch: a structured array of OPERATION in, arrays of TRADE, RESULT (one per operation) and CLOSED out; the
GIL is released while it matches. Energy is in Wh, prices in mTHB/kWh (multiples of 10, 0 to 1 000 000), money in uTHB,
times in ms. Order ids and sequences are the ledger's u64 counters; participants and meters are the ledger's u32 numbers.

OPERATION  order_id u8, quantity_wh i8, expires_ms i8, participant u4, meter u4, window i4, price_mthb_kwh i4, zone u1,
           kind u1 (Kind), side u1 (Side), force u1 (Force), flags u1 (SelfTrade), profile u1 (0), reserved u2 (0),
           minimum_wh u4 (0), display_wh u4 (0). A market order is a limit order at the limit the ledger resolved.
           `expires_ms` is 0 except with GOOD_TILL_TIME. A CANCEL needs order_id and the order's window; the rest is
           ignored. Fields marked (0) have their place for profiles, minimum fills and icebergs and must be zero.
TRADE      maker_id u8, taker_id u8, delivered_wh i8 (q), injected_wh i8 (q_in), wheel_uthb i8, maker_remaining_wh i8,
           taker_remaining_wh i8 (both at their own meters, after the fill; 0 means gone), operation u4 (index in the
           batch), window i4, price_mthb_kwh i4, seller_zone u1, buyer_zone u1, taker_side u1, path u1 (0 inside a zone).
           The buyer pays price * injected_wh + wheel_uthb, the seller gets price * injected_wh.
RESULT     sequence u8 (of the resting order, else 0), filled_wh i8, remaining_wh i8 (both at the own meter; what rests,
           or what is released), visits u2, fills u2, code u4 (Code).
CLOSED     order_id u8, remaining_wh i8, operation u4, window i4, participant u4, zone u1, side u1, reason u2 (Reason):
           resting orders that left in passing, in the order of their removal. A maker that was filled to exactly zero is
           not in it (its trade says maker_remaining_wh 0), nor is one that a CANCEL removed (its result says so).
RESTING    order_id u8, sequence u8, quantity_wh i8 (left), expires_ms i8 (0: till gate), participant u4, meter u4,
           window i4, price_mthb_kwh i4, zone u1, side u1, flags u1, profile u1, display_wh u4: a record of the ledger,
           loaded in (zone, side, price, sequence) order, which is the digest's order too.
DEPTH      price_mthb_kwh i4, orders u4, quantity_wh i8.

What the rule book leaves open is fixed so. A candidate is *visited* when its limit crosses the incoming limit and it has
not expired; the first one that does not cross ends the run and is not counted. Self-trade prevention applies to an own
order with which the incoming one would trade, so after the fill was found admissible. The limits of 128 fills and 1024
visits end the run as soon as they are reached and at least one lot is left.
"""

import sys
from collections import namedtuple
from enum import IntEnum

import numpy as np

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError

include "book_types.pxi"
include "book_index.pxi"
include "book_ladder.pxi"
include "book_match.pxi"


class BookError(GridTokenXError):
    """A batch, record or query that the engine refuses; nothing was changed."""


class EngineFull(BookError):
    """The batch or the window might need more orders, windows or memory than the engine was given."""


class WindowNotLoaded(BookError):
    """An operation or query names a window that is not loaded."""


class Kind(IntEnum):
    PLACE = KIND_PLACE
    CANCEL = KIND_CANCEL


class Side(IntEnum):
    BUY = SIDE_BUY
    SELL = SIDE_SELL


class Force(IntEnum):
    """Time in force."""

    GOOD_TILL_GATE = FORCE_GATE
    GOOD_TILL_TIME = FORCE_TIME
    IOC = FORCE_IOC


class SelfTrade(IntEnum):
    """What to do when an order would trade with one of the same participant."""

    CANCEL_NEWEST = STP_NEWEST
    CANCEL_OLDEST = STP_OLDEST
    CANCEL_BOTH = STP_BOTH


class Code(IntEnum):
    """How an operation ended; from 16 on it was refused and changed nothing."""

    RESTING = CODE_RESTING
    FILLED = CODE_FILLED
    CLOSED_BELOW_LOT = CODE_CLOSED_BELOW_LOT
    CANCELLED_IOC = CODE_CANCELLED_IOC
    CANCELLED_LIMIT = CODE_CANCELLED_LIMIT
    CANCELLED_SELF_TRADE = CODE_CANCELLED_SELF_TRADE
    CANCELLED = CODE_CANCELLED
    UNKNOWN_ORDER = CODE_UNKNOWN_ORDER
    DUPLICATE_ORDER = CODE_DUPLICATE_ORDER
    EXPIRED = CODE_EXPIRED
    INVALID = CODE_INVALID


class Reason(IntEnum):
    """Why a resting order was closed in passing."""

    EXPIRED = REASON_EXPIRED
    BELOW_LOT = REASON_BELOW_LOT
    SELF_TRADE = REASON_SELF_TRADE


LOT_WH = LOT
TICK_MTHB_KWH = TICK
PRICE_MOST_MTHB_KWH = LAST_TICK * TICK
QUANTITY_MOST_WH = MOST_WH
MOST_FILLS = FILLS_MOST
MOST_VISITS = VISITS_MOST
MOST_ZONES = ZONES_MOST


def _layout(size, *fields):
    """A dtype of little-endian fields (name, type, offset): the C structure of book_types.pxi.

    Without gaps, since NumPy gives arrays a packed dtype when it joins them, which would be another one.
    """
    return np.dtype({"names": [name for name, _, _ in fields], "formats": ["<" + kind for _, kind, _ in fields],
                     "offsets": [offset for _, _, offset in fields], "itemsize": size})


OPERATION = _layout(
    56, ("order_id", "u8", 0), ("quantity_wh", "i8", 8), ("expires_ms", "i8", 16), ("participant", "u4", 24),
    ("meter", "u4", 28), ("window", "i4", 32), ("price_mthb_kwh", "i4", 36), ("zone", "u1", 40), ("kind", "u1", 41),
    ("side", "u1", 42), ("force", "u1", 43), ("flags", "u1", 44), ("profile", "u1", 45), ("reserved", "u2", 46),
    ("minimum_wh", "u4", 48), ("display_wh", "u4", 52))
TRADE = _layout(
    72, ("maker_id", "u8", 0), ("taker_id", "u8", 8), ("delivered_wh", "i8", 16), ("injected_wh", "i8", 24),
    ("wheel_uthb", "i8", 32), ("maker_remaining_wh", "i8", 40), ("taker_remaining_wh", "i8", 48), ("operation", "u4", 56),
    ("window", "i4", 60), ("price_mthb_kwh", "i4", 64), ("seller_zone", "u1", 68), ("buyer_zone", "u1", 69),
    ("taker_side", "u1", 70), ("path", "u1", 71))
RESULT = _layout(
    32, ("sequence", "u8", 0), ("filled_wh", "i8", 8), ("remaining_wh", "i8", 16), ("visits", "u2", 24), ("fills", "u2", 26),
    ("code", "u4", 28))
CLOSED = _layout(
    32, ("order_id", "u8", 0), ("remaining_wh", "i8", 8), ("operation", "u4", 16), ("window", "i4", 20),
    ("participant", "u4", 24), ("zone", "u1", 28), ("side", "u1", 29), ("reason", "u2", 30))
RESTING = _layout(
    56, ("order_id", "u8", 0), ("sequence", "u8", 8), ("quantity_wh", "i8", 16), ("expires_ms", "i8", 24),
    ("participant", "u4", 32), ("meter", "u4", 36), ("window", "i4", 40), ("price_mthb_kwh", "i4", 44), ("zone", "u1", 48),
    ("side", "u1", 49), ("flags", "u1", 50), ("profile", "u1", 51), ("display_wh", "u4", 52))
DEPTH = _layout(16, ("price_mthb_kwh", "i4", 0), ("orders", "u4", 4), ("quantity_wh", "i8", 8))

if (sys.byteorder != "little" or sizeof(COperation) != OPERATION.itemsize or sizeof(CTrade) != TRADE.itemsize
        or sizeof(CResult) != RESULT.itemsize or sizeof(CClosed) != CLOSED.itemsize
        or sizeof(CResting) != RESTING.itemsize or sizeof(CDepth) != DEPTH.itemsize):
    raise ImportError("the order book needs a little-endian machine with natural alignment")

Outcome = namedtuple("Outcome", "trades results closed next_sequence")


def _checked(array, dtype, what):
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        raise BookError(f"{what} must be a one-dimensional array of dtype {what.upper()}")
    if not array.flags.c_contiguous or not array.flags.aligned or array.ctypes.data % 8:
        return array.copy()
    return array


cdef bint grown(void** memory, uint64_t* capacity, uint64_t wanted, size_t item, int huge) noexcept:
    """Makes room in a scratch array, whose content is not kept. False when memory is refused."""
    cdef uint64_t size = capacity[0] if capacity[0] else 4096
    cdef void* fresh
    if wanted <= capacity[0]:
        return True
    while size < wanted:
        size *= 2
    fresh = pool_reserve(size * item, huge)
    if fresh == NULL:
        return False
    if memory[0] != NULL:
        pool_release(memory[0], capacity[0] * item)
    memory[0] = fresh
    capacity[0] = size
    return True


cdef class Engine:
    """All books of one node. `zones` gives (loss_ppm, wheel_uthb_kwh) per zone; memory is bounded by `max_orders`
    live orders and `max_windows` loaded windows, and costs nothing until it is used.

    Not for two threads at once: a call made while `process` runs raises BookError.
    """

    cdef Core c
    cdef bint busy
    cdef readonly int max_orders
    cdef readonly int max_windows
    cdef readonly tuple zones

    def __cinit__(self, zones, *, max_orders=1 << 17, max_windows=2048, huge_pages=False):
        cdef Core* c = &self.c
        cdef uint64_t table
        memset(c, 0, sizeof(Core))
        zones = tuple((int(loss), int(wheel)) for loss, wheel in zones)
        if not 1 <= len(zones) <= ZONES_MOST:
            raise BookError(f"{len(zones)} zones; 1 to {ZONES_MOST} are allowed")
        for loss, wheel in zones:
            if not 0 <= loss <= 500_000 or not 0 <= wheel <= 1_000_000_000:
                raise BookError(f"zone ({loss} ppm, {wheel} uTHB/kWh): loss is 0 to 500 000, wheeling 0 to 10^9")
        if not 1 <= max_orders <= 1 << 25:
            raise BookError(f"max_orders {max_orders}; 1 to 2^25 are allowed")
        if not 1 <= max_windows <= 65_534:
            raise BookError(f"max_windows {max_windows}; 1 to 65 534 are allowed")
        self.zones, self.max_orders, self.max_windows = zones, max_orders, max_windows
        c.huge = bool(huge_pages)
        c.zone_count = len(zones)
        for number, (loss, wheel) in enumerate(zones):
            c.zones[<int>number].keep_ppm = PPM - <int64_t>loss
            c.zones[<int>number].wheel_uthb_kwh = wheel
        # slot 0 of every pool means "none"
        c.orders_capacity = <uint32_t>max_orders + 1
        c.pages_capacity = c.orders_capacity
        c.windows_capacity = <uint32_t>max_windows + 1
        c.ladders_capacity = <uint32_t>(max_windows * 2 * len(zones)) + 1
        c.branches_capacity = min(c.orders_capacity, 25 * c.ladders_capacity)
        c.orders_top = c.pages_top = c.windows_top = c.ladders_top = c.branches_top = 1
        table = 16
        while table < 4 * <uint64_t>max_windows:
            table *= 2
        c.window_mask = <uint32_t>(table - 1)
        c.orders = <Order*>pool_reserve(c.orders_capacity * sizeof(Order), c.huge)
        c.levels = <Level*>pool_reserve(64 * <size_t>c.pages_capacity * sizeof(Level), c.huge)
        c.pages = <Page*>pool_reserve(c.pages_capacity * sizeof(Page), c.huge)
        c.branches = <Branch*>pool_reserve(c.branches_capacity * sizeof(Branch), c.huge)
        c.ladders = <Ladder*>pool_reserve(c.ladders_capacity * sizeof(Ladder), c.huge)
        c.windows = <Window*>pool_reserve(c.windows_capacity * sizeof(Window), c.huge)
        c.window_table = <uint32_t*>pool_reserve(table * sizeof(uint32_t), c.huge)
        if (c.orders == NULL or c.levels == NULL or c.pages == NULL or c.branches == NULL or c.ladders == NULL
                or c.windows == NULL or c.window_table == NULL or not index_reserve(c, 1)):
            raise MemoryError(f"no address space for {max_orders} orders")

    def __dealloc__(self):
        cdef Core* c = &self.c
        pool_release(c.orders, c.orders_capacity * sizeof(Order))
        pool_release(c.levels, 64 * <size_t>c.pages_capacity * sizeof(Level))
        pool_release(c.pages, c.pages_capacity * sizeof(Page))
        pool_release(c.branches, c.branches_capacity * sizeof(Branch))
        pool_release(c.ladders, c.ladders_capacity * sizeof(Ladder))
        pool_release(c.windows, c.windows_capacity * sizeof(Window))
        pool_release(c.window_table, (<size_t>c.window_mask + 1) * sizeof(uint32_t))
        pool_release(c.index, (c.index_mask + 1) * sizeof(uint64_t))
        pool_release(c.slots, c.slots_capacity * sizeof(uint32_t))
        pool_release(c.trades, c.trades_capacity * sizeof(CTrade))
        pool_release(c.closed, c.closed_capacity * sizeof(CClosed))

    cdef int check_idle(self) except -1:
        if self.busy:
            raise BookError("the engine is in use by another thread")
        return 0

    cdef uint32_t slot_of(self, window) except 0:
        cdef uint32_t slot = 0
        self.check_idle()
        if -(1 << 31) <= window < 1 << 31:
            slot = window_find(&self.c, window)
        if slot == 0:
            raise WindowNotLoaded(f"window {window} is not loaded")
        return slot

    cdef BookSide* side_of(self, window, zone, side) except NULL:
        cdef uint32_t slot = self.slot_of(window)
        if not 0 <= zone < self.c.zone_count:
            raise BookError(f"zone {zone}; there are {self.c.zone_count}, from 0")
        if side not in (0, 1):
            raise BookError(f"side {side}; 0 is buy, 1 is sell")
        return &self.c.windows[slot].sides[2 * <int>zone + <int>side]

    def process(self, operations, *, now_ms, next_sequence):
        """Applies a batch in order. `now_ms` is the time against which expiries count (expired when expires_ms <=
        now_ms); `next_sequence` is the ledger's counter, at least 1 and above every sequence in the windows touched.

        Returns Outcome(trades, results, closed, next_sequence), arrays of exactly the right size. Raises BookError,
        WindowNotLoaded or EngineFull before anything has changed; a batch once begun cannot fail.
        """
        cdef Core* c = &self.c
        cdef uint64_t n, i, places = 0, sequence, wanted
        cdef uint32_t slot = 0
        cdef int32_t last_window = 0
        cdef int64_t now
        cdef const uint8_t[::1] source
        cdef uint8_t[::1] target
        cdef COperation* ops
        cdef CResult* results
        self.check_idle()
        operations = _checked(operations, OPERATION, "operation")
        if not -(1 << 63) <= now_ms < 1 << 63:
            raise BookError(f"now_ms {now_ms} is not a 64-bit time")
        n = operations.shape[0]
        if not 1 <= next_sequence <= (1 << 63) - 1 - n:
            raise BookError(f"next_sequence {next_sequence}; it starts at 1 and must stay below 2^63")
        now = now_ms
        sequence = next_sequence
        result_array = np.zeros(n, RESULT)
        if n == 0:
            return Outcome(np.empty(0, TRADE), result_array, np.empty(0, CLOSED), next_sequence)
        if n >= 1 << 31:
            raise BookError(f"{n} operations; a batch has at most 2^31 - 1")
        if not grown(<void**>&c.slots, &c.slots_capacity, n, sizeof(uint32_t), c.huge):
            raise EngineFull(f"no memory for a batch of {n} operations")
        source = operations.view(np.uint8)
        ops = <COperation*>&source[0]
        for i in range(n):
            if slot == 0 or ops[i].window != last_window:
                last_window = ops[i].window
                slot = window_find(c, last_window)
                if slot == 0:
                    raise WindowNotLoaded(f"operation {i} is for window {last_window}, which is not loaded")
                if c.windows[slot].last_sequence >= sequence:
                    raise BookError(f"next_sequence {next_sequence} is not above {c.windows[slot].last_sequence}, "
                                    f"which rests in window {last_window}")
            c.slots[i] = slot
            places += ops[i].kind == KIND_PLACE
        wanted = c.live + places
        if wanted > c.orders_capacity - 1:
            raise EngineFull(f"{c.live} orders rest and {places} may join; the engine holds {c.orders_capacity - 1}")
        # A fill closes a maker or ends the operation, and an operation makes at most 128.
        if (not index_reserve(c, wanted)
                or not grown(<void**>&c.trades, &c.trades_capacity, min(FILLS_MOST * places, wanted + places),
                             sizeof(CTrade), c.huge)
                or not grown(<void**>&c.closed, &c.closed_capacity, wanted, sizeof(CClosed), c.huge)):
            raise EngineFull(f"no memory for a batch of {n} operations")
        c.trades_used = c.closed_used = 0
        target = result_array.view(np.uint8)
        results = <CResult*>&target[0]
        self.busy = True
        with nogil:
            run(c, ops, n, now, &sequence, results)
        self.busy = False
        trades = np.empty(c.trades_used, TRADE)
        if c.trades_used:
            target = trades.view(np.uint8)
            memcpy(&target[0], c.trades, c.trades_used * sizeof(CTrade))
        closed = np.empty(c.closed_used, CLOSED)
        if c.closed_used:
            target = closed.view(np.uint8)
            memcpy(&target[0], c.closed, c.closed_used * sizeof(CClosed))
        return Outcome(trades, result_array, closed, sequence)

    def load(self, window, records):
        """Opens a window with the orders that rest in it: an array of RESTING in strictly ascending (zone, side, price,
        sequence) order, empty for a new window. Raises BookError naming the record that is wrong or out of order, or
        EngineFull; then the window is not loaded and nothing changed."""
        cdef Core* c = &self.c
        cdef uint64_t n, i, at
        cdef uint32_t slot, order_slot
        cdef int32_t number
        cdef const uint8_t[::1] source
        cdef CResting* all_records = NULL
        cdef CResting* r
        cdef CResting* previous
        cdef Order* order
        self.check_idle()
        if not -(1 << 31) <= window < 1 << 31:
            raise BookError(f"window {window} is not a 32-bit number")
        number = window
        if window_find(c, number):
            raise BookError(f"window {window} is loaded already; forget it first")
        records = _checked(records, RESTING, "resting")
        n = records.shape[0]
        if c.windows_live == c.windows_capacity - 1:
            raise EngineFull(f"{c.windows_live} windows are loaded; the engine holds no more")
        if c.live + n > c.orders_capacity - 1:
            raise EngineFull(f"{c.live} orders rest, window {window} has {n}; the engine holds {c.orders_capacity - 1}")
        if not index_reserve(c, c.live + n):
            raise EngineFull(f"no memory for {n} orders")
        if n:
            source = records.view(np.uint8)
            all_records = <CResting*>&source[0]
        for i in range(n):
            r = all_records + i
            if (r.window != number or r.zone >= c.zone_count or r.side > SIDE_SELL or r.flags > STP_BOTH or r.profile
                    or r.display_wh or r.price < 0 or r.price > LAST_TICK * TICK or r.price % TICK or r.quantity_wh < LOT
                    or r.quantity_wh > MOST_WH or r.expires_ms < 0 or r.sequence == 0 or r.sequence >> 63):
                raise BookError(f"record {i} of window {window} is out of range: {records[i]}")
            if i:
                previous = r - 1
                if ((r.zone, r.side, r.price, r.sequence)
                        <= (previous.zone, previous.side, previous.price, previous.sequence)):
                    raise BookError(f"record {i} of window {window} is not in (zone, side, price, sequence) order")
        slot = c.windows_free
        if slot:
            c.windows_free = c.windows[slot].free_next
        else:
            slot = c.windows_top
            c.windows_top += 1
        memset(c.windows + slot, 0, sizeof(Window))
        c.windows[slot].window = number
        for i in range(2 * c.zone_count):
            c.windows[slot].sides[i].best = NOTHING
        window_table_put(c, slot)
        c.windows_live += 1
        for i in range(n):
            r = all_records + i
            if index_find(c, r.order_id):
                self.forget(window)
                raise BookError(f"record {i} of window {window}: order {r.order_id} rests already")
            order_slot = order_take(c)
            order = c.orders + order_slot
            order.id = r.order_id
            order.sequence = r.sequence
            order.expires_ms = r.expires_ms
            order.quantity_wh = <uint32_t>r.quantity_wh
            order.participant = r.participant
            order.meter = r.meter
            order.key = key_of(r.side, <uint32_t>r.price // TICK)
            order.window = <uint16_t>slot
            order.zone = r.zone
            order.side = r.side
            order.flags = r.flags
            order.profile = r.profile
            order.display_wh = r.display_wh
            order_join(c, order_slot)

    def forget(self, window):
        """Drops a window and all its orders from the engine. Raises WindowNotLoaded."""
        cdef Core* c = &self.c
        cdef uint32_t slot = self.slot_of(window)
        cdef BookSide* side
        cdef int i
        for i in range(2 * c.zone_count):
            side = &c.windows[slot].sides[i]
            while side.best != NOTHING:
                order_leave(c, c.levels[level_at(c, side.ladder, side.best)].head)
            if side.ladder:
                c.ladders[side.ladder].free_next = c.ladders_free
                c.ladders_free = side.ladder
        window_table_remove(c, slot)
        c.windows[slot].free_next = c.windows_free
        c.windows_free = slot
        c.windows_live -= 1

    @property
    def live(self):
        """How many orders rest."""
        return self.c.live

    def windows(self):
        """The loaded windows, ascending."""
        cdef uint32_t i
        self.check_idle()
        return sorted(self.c.windows[self.c.window_table[i]].window
                      for i in range(self.c.window_mask + 1) if self.c.window_table[i])

    def loaded(self, window):
        """True iff the window is loaded."""
        self.check_idle()
        return -(1 << 31) <= window < 1 << 31 and window_find(&self.c, window) != 0

    def records(self, window):
        """The window's resting orders as `load` takes them: RESTING in (zone, side, price, sequence) order."""
        cdef Core* c = &self.c
        cdef uint32_t slot = self.slot_of(window)
        cdef uint64_t written = 0
        cdef uint8_t[::1] target
        cdef CResting* out
        cdef int i
        array = np.empty(c.windows[slot].live, RESTING)
        if c.windows[slot].live:
            target = array.view(np.uint8)
            out = <CResting*>&target[0]
            for i in range(2 * c.zone_count):
                written += side_read(c, &c.windows[slot].sides[i], (i & 1) == SIDE_BUY, 0, 0, out + written, NULL)
        return array

    def digest(self, windows=None):
        """SHA-256 over the records of the given windows (all loaded ones by default), windows ascending. A window
        without orders adds nothing, so the digest is the ledger's content and not the engine's history."""
        chosen = self.windows() if windows is None else sorted(set(windows))
        return digest(Domain.BOOK_DIGEST, *(self.records(window).tobytes() for window in chosen))

    def depth(self, window, zone, side, levels=10, *, now_ms=0):
        """The best `levels` prices of one side, best first: DEPTH of orders not expired at `now_ms`. The default, 0,
        counts every order that rests."""
        cdef BookSide* chosen = self.side_of(window, zone, side)
        cdef uint8_t[::1] target
        cdef uint64_t written = 0
        cdef int64_t now = now_ms
        cdef uint64_t most = min(max(0, levels), LAST_TICK + 1, self.c.live)
        array = np.empty(most, DEPTH)
        if most:
            target = array.view(np.uint8)
            written = side_read(&self.c, chosen, False, most, now, NULL, <CDepth*>&target[0])
        return array[:written]

    def best(self, window, zone):
        """(highest buy limit, lowest sell limit) that rest, mTHB/kWh; None where a side is empty."""
        cdef BookSide* buys = self.side_of(window, zone, SIDE_BUY)
        cdef BookSide* sells = self.side_of(window, zone, SIDE_SELL)
        return (None if buys.best == NOTHING else price_of(SIDE_BUY, buys.best),
                None if sells.best == NOTHING else price_of(SIDE_SELL, sells.best))
