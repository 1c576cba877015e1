# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
"""The compiled order book: every window and zone in one Engine, shared over corridors (MARKET 3 to 5).

One call takes a batch: a structured array of OPERATION in, arrays of TRADE, RESULT (one per operation) and CLOSED out; the
GIL is released while it matches. Energy is in Wh, prices in mTHB/kWh (multiples of 10, 0 to 1 000 000), money in uTHB,
times in ms. Order ids and sequences are the ledger's u64 counters; participants and meters are the ledger's u32 numbers.

OPERATION  order_id u8, quantity_wh i8, expires_ms i8, participant u4, meter u4, window i4, price_mthb_kwh i4, minimum_wh u4,
           display_wh u4, zone u1, kind u1 (Kind), side u1 (Side), force u1 (Force), flags u1 (SelfTrade, + POST_ONLY),
           profile u1 (buys), source u1 (sells), to_zone u1, path u1, corridor u1, group u2, reserved u4 (0).
             PLACE      a market order is a limit order at the limit the ledger resolved; `expires_ms` is 0 except with
                        GOOD_TILL_TIME; 0 in minimum_wh and display_wh means none
             CANCEL     order_id and the order's window; in a group, minimum_wh is what must be left of it (0: any)
             AMEND      order_id, window, price and quantity_wh, the new total, filled part included; POST_ONLY counts
             BILATERAL  order_id (of the trade), quantity_wh delivered from `zone` to `to_zone` over `path`, price
             CAPACITY   quantity_wh is the new capacity of `corridor` in direction `side` (0 as declared, 1 against);
                        a closed corridor has 0 both ways
             HALT, RESUME, UNCROSS (goes on with what a bound interrupted; refused while the window is halted)
           Neighbours with the same `group` other than 0 happen together or not at all: cancels, then POST_ONLY places.
TRADE      maker_id u8, taker_id u8, delivered_wh i8 (q), injected_wh i8 (q_in), wheel_uthb i8, maker_remaining_wh i8,
           taker_remaining_wh i8 (both at their own meters, hidden part included, after the fill; 0 means gone), operation
           u4 (index in the batch), window i4, price_mthb_kwh i4, seller_zone u1, buyer_zone u1, taker_side u1, path u1.
           The buyer pays price * injected_wh + wheel_uthb, the seller gets price * injected_wh. A bilateral trade has
           maker_id 0.
RESULT     sequence u8 (of the resting order, else 0), filled_wh i8, remaining_wh i8 (both at the own meter; what rests,
           or what is released; of CAPACITY the residual), visits u2, fills u2, code u4 (Code).
CLOSED     order_id u8, remaining_wh i8, sequence u8, operation u4, window i4, participant u4, zone u1, side u1,
           reason u2 (Reason): resting orders that left in passing, in the order of their removal, and icebergs that show
           their next slice under a new `sequence` (else 0). A maker that was filled to exactly zero is not in it (its
           trade says maker_remaining_wh 0), nor is one that a CANCEL or AMEND removed (its result says so).
WORK_LEFT  sequence u8, closed_low u8, closed_high u8, window i4, price_mthb_kwh i4, again u4, reserved u4 (0): where an
           interrupted uncrossing goes on: with the first resting buy at or after (price descending, sequence); `closed`
           are the (zone, path)s that this buy's run has found inadmissible; `again` (0 or 1) says that another pass must
           follow, since this one has traded or a residual rose after the interruption.
RESTING    order_id u8, sequence u8, quantity_wh i8 (left), expires_ms i8 (0: till gate), participant u4, meter u4,
           window i4, price_mthb_kwh i4, total_wh u4 (filled part included), display_wh u4, shown_wh u4 (of icebergs, else
           0), zone u1, side u1, flags u1, profile u1, source u1, three that are 0: a record of the ledger, loaded in (zone,
           side, price, sequence) order, which is the digest's order too.
DEPTH      price_mthb_kwh i4, orders u4, quantity_wh i8.
RECORD     the 16 bytes of an order flow file: id u4, price i4 (ticks), quantity u4 (lots), kind u1 (RecordKind), side u1,
           owner u2; with FILL, their trades: maker_id u4, taker_id u4, price_mthb_kwh i4, delivered_wh u4, injected_wh u4,
           operation u4, window i4, seller_zone u1, buyer_zone u1, taker_side u1, path u1.

What the rule book leaves open is fixed so.
- A candidate is *visited* when it ranks first, has not expired, and its landed price is below limit + 1 (for a sell its
  netback above limit - 1, with and without the losses), in mTHB/kWh: beyond that no fill can be admissible.
- Self-trade prevention applies to an own order with which the incoming one would trade, so after the fill was found
  admissible. In uncrossing the mode is that of the order that counts as incoming, which is the newest.
- The limits of 128 fills and 1024 visits end a run as soon as they are reached and at least one lot is left.
- A fill-or-kill order is filled when less than a lot is left. An amend that would leave less than a lot open cancels.
- Fills trade what an iceberg shows; its next slice comes when less than a lot of it is left.
- Uncrossing runs a resting iceberg by the slice it shows. The bounds of a batch interrupt it when an unexpired candidate
  is found and none is left; UNCROSS goes on at that point, with what would have followed.
- In a window with work left, CAPACITY changes the residual and does not trade; RESUME leaves the work to UNCROSS.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

import struct
import sys
from collections import namedtuple
from enum import IntEnum
from fractions import Fraction

import numpy as np

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError

include "book_types.pxi"
include "book_index.pxi"
include "book_ladder.pxi"
include "book_search.pxi"
include "book_match.pxi"
include "book_place.pxi"
include "book_uncross.pxi"
include "book_batch.pxi"
include "book_compact.pxi"
include "book_quick.pxi"


class BookError(GridTokenXError):
    """A batch, record or query that the engine refuses; nothing was changed."""


class EngineFull(BookError):
    """The batch or the window might need more orders, windows or memory than the engine was given."""


class WindowNotLoaded(BookError):
    """An operation or query names a window that is not loaded."""


class Kind(IntEnum):
    PLACE = KIND_PLACE
    CANCEL = KIND_CANCEL
    AMEND = KIND_AMEND
    BILATERAL = KIND_BILATERAL
    CAPACITY = KIND_CAPACITY
    HALT = KIND_HALT
    RESUME = KIND_RESUME
    UNCROSS = KIND_UNCROSS


class RecordKind(IntEnum):
    """Of the compact record. MODIFY names what is to be left, not the total."""

    LIMIT = RECORD_LIMIT
    CANCEL = RECORD_CANCEL
    IOC = RECORD_IOC
    FOK = RECORD_FOK
    POST_ONLY = RECORD_POST_ONLY
    MODIFY = RECORD_MODIFY


class Side(IntEnum):
    BUY = SIDE_BUY
    SELL = SIDE_SELL


class Force(IntEnum):
    """Time in force."""

    GOOD_TILL_GATE = FORCE_GATE
    GOOD_TILL_TIME = FORCE_TIME
    IOC = FORCE_IOC
    FOK = FORCE_FOK


class SelfTrade(IntEnum):
    """What to do when an order would trade with one of the same participant. OFF is for replayed files."""

    CANCEL_NEWEST = STP_NEWEST
    CANCEL_OLDEST = STP_OLDEST
    CANCEL_BOTH = STP_BOTH
    OFF = STP_OFF


class Code(IntEnum):
    """How an operation ended; from 16 on it was refused and changed nothing."""

    RESTING = CODE_RESTING
    FILLED = CODE_FILLED
    CLOSED_BELOW_LOT = CODE_CLOSED_BELOW_LOT
    CANCELLED_IOC = CODE_CANCELLED_IOC
    CANCELLED_LIMIT = CODE_CANCELLED_LIMIT
    CANCELLED_SELF_TRADE = CODE_CANCELLED_SELF_TRADE
    CANCELLED = CODE_CANCELLED
    REDUCED = CODE_REDUCED
    DONE = CODE_DONE
    UNFINISHED = CODE_UNFINISHED
    KILLED = CODE_KILLED
    UNKNOWN_ORDER = CODE_UNKNOWN_ORDER
    DUPLICATE_ORDER = CODE_DUPLICATE_ORDER
    EXPIRED = CODE_EXPIRED
    INVALID = CODE_INVALID
    WOULD_TRADE = CODE_WOULD_TRADE
    HALTED = CODE_HALTED
    WORK_LEFT = CODE_WORK_LEFT
    NO_PATH = CODE_NO_PATH
    NO_CAPACITY = CODE_NO_CAPACITY
    GROUP_REFUSED = CODE_GROUP_REFUSED


class Reason(IntEnum):
    """Why a resting order was closed, or changed, in passing."""

    EXPIRED = REASON_EXPIRED
    BELOW_LOT = REASON_BELOW_LOT
    SELF_TRADE = REASON_SELF_TRADE
    SLICE = REASON_SLICE


LOT_WH = LOT
TICK_MTHB_KWH = TICK
PRICE_MOST_MTHB_KWH = LAST_TICK * TICK
QUANTITY_MOST_WH = MOST_WH
MOST_FILLS = FILLS_MOST
MOST_VISITS = VISITS_MOST
MOST_ZONES = ZONES_MOST
MOST_SLICES = SLICES_MOST
POST_ONLY_FLAG = POST_ONLY
HALTED_FLAG = HALTED
UNFINISHED_FLAG = UNFINISHED


def _layout(size, *fields):
    """A dtype of little-endian fields (name, type, offset): the C structure of book_types.pxi.

    Without gaps, since NumPy gives arrays a packed dtype when it joins them, which would be another one.
    """
    return np.dtype({"names": [name for name, _, _ in fields], "formats": ["<" + kind for _, kind, _ in fields],
                     "offsets": [offset for _, _, offset in fields], "itemsize": size})


OPERATION = _layout(
    64, ("order_id", "u8", 0), ("quantity_wh", "i8", 8), ("expires_ms", "i8", 16), ("participant", "u4", 24),
    ("meter", "u4", 28), ("window", "i4", 32), ("price_mthb_kwh", "i4", 36), ("minimum_wh", "u4", 40),
    ("display_wh", "u4", 44), ("zone", "u1", 48), ("kind", "u1", 49), ("side", "u1", 50), ("force", "u1", 51),
    ("flags", "u1", 52), ("profile", "u1", 53), ("source", "u1", 54), ("to_zone", "u1", 55), ("path", "u1", 56),
    ("corridor", "u1", 57), ("group", "u2", 58), ("reserved", "u4", 60))
TRADE = _layout(
    72, ("maker_id", "u8", 0), ("taker_id", "u8", 8), ("delivered_wh", "i8", 16), ("injected_wh", "i8", 24),
    ("wheel_uthb", "i8", 32), ("maker_remaining_wh", "i8", 40), ("taker_remaining_wh", "i8", 48), ("operation", "u4", 56),
    ("window", "i4", 60), ("price_mthb_kwh", "i4", 64), ("seller_zone", "u1", 68), ("buyer_zone", "u1", 69),
    ("taker_side", "u1", 70), ("path", "u1", 71))
RESULT = _layout(
    32, ("sequence", "u8", 0), ("filled_wh", "i8", 8), ("remaining_wh", "i8", 16), ("visits", "u2", 24), ("fills", "u2", 26),
    ("code", "u4", 28))
CLOSED = _layout(
    40, ("order_id", "u8", 0), ("remaining_wh", "i8", 8), ("sequence", "u8", 16), ("operation", "u4", 24),
    ("window", "i4", 28), ("participant", "u4", 32), ("zone", "u1", 36), ("side", "u1", 37), ("reason", "u2", 38))
RESTING = _layout(
    72, ("order_id", "u8", 0), ("sequence", "u8", 8), ("quantity_wh", "i8", 16), ("expires_ms", "i8", 24),
    ("participant", "u4", 32), ("meter", "u4", 36), ("window", "i4", 40), ("price_mthb_kwh", "i4", 44),
    ("total_wh", "u4", 48), ("display_wh", "u4", 52), ("shown_wh", "u4", 56), ("zone", "u1", 60), ("side", "u1", 61),
    ("flags", "u1", 62), ("profile", "u1", 63), ("source", "u1", 64), ("spare", "u1", 65), ("reserved", "u2", 66),
    ("reserved_too", "u4", 68))
WORK_LEFT = _layout(
    40, ("sequence", "u8", 0), ("closed_low", "u8", 8), ("closed_high", "u8", 16), ("window", "i4", 24),
    ("price_mthb_kwh", "i4", 28), ("again", "u4", 32), ("reserved", "u4", 36))
DEPTH = _layout(16, ("price_mthb_kwh", "i4", 0), ("orders", "u4", 4), ("quantity_wh", "i8", 8))
RECORD = _layout(16, ("id", "u4", 0), ("price", "i4", 4), ("quantity", "u4", 8), ("kind", "u1", 12), ("side", "u1", 13),
                 ("owner", "u2", 14))
FILL = _layout(
    32, ("maker_id", "u4", 0), ("taker_id", "u4", 4), ("price_mthb_kwh", "i4", 8), ("delivered_wh", "u4", 12),
    ("injected_wh", "u4", 16), ("operation", "u4", 20), ("window", "i4", 24), ("seller_zone", "u1", 28),
    ("buyer_zone", "u1", 29), ("taker_side", "u1", 30), ("path", "u1", 31))

if (sys.byteorder != "little" or sizeof(COperation) != OPERATION.itemsize or sizeof(CTrade) != TRADE.itemsize
        or sizeof(CResult) != RESULT.itemsize or sizeof(CClosed) != CLOSED.itemsize
        or sizeof(CResting) != RESTING.itemsize or sizeof(CWorkLeft) != WORK_LEFT.itemsize or sizeof(CDepth) != DEPTH.itemsize
        or sizeof(CRecord) != RECORD.itemsize or sizeof(CCompactTrade) != FILL.itemsize
        or sizeof(Order) != 64 or sizeof(Queue) != 192 or sizeof(Window) % 64):
    raise ImportError("the order book needs a little-endian machine with natural alignment")

Outcome = namedtuple("Outcome", "trades results closed next_sequence work_left uncross_fills uncross_visits")
Replayed = namedtuple("Replayed", "trades remaining_wh codes closed next_sequence")
Path = namedtuple("Path", "loss_ppm wheel_uthb_kwh corridors directions")
Quote = namedtuple("Quote", "filled_wh value_uthb wheel_uthb worst_mthb_kwh fills")

_SNAPSHOT = struct.Struct("<8sIIq")
_SNAPSHOT_WINDOW = struct.Struct("<iIQ")
_MAGIC = b"GTXBOOK2"
_PLACE, _REMAINING, _CODE, _WORD = np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.uint8), np.dtype(np.uint64)
NOTHING_CLOSED = np.empty(0, CLOSED)        # what most batches have


cdef void* memory_of(array) except? NULL:
    """Where the items of a contiguous array are, while somebody holds it."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE)
    PyBuffer_Release(&buffer)
    return buffer.buf


def _checked(array, dtype, what):
    # Mostly it is the very dtype; comparing the fields of two takes longer than a small batch.
    if not isinstance(array, np.ndarray) or (array.dtype is not dtype and array.dtype != dtype) or array.ndim != 1:
        raise BookError(f"{what} must be a one-dimensional array of dtype {what.upper()}")
    if not array.flags.c_contiguous or <size_t>memory_of(array) % 8:
        return array.copy()
    return array


def _paths(zones, corridors, start, end):
    """The simple paths of an ordered pair: at most 8 of at most 6 corridors, first by (number, corridor ids)."""
    found = []

    def walk(zone, taken, seen):
        if zone == end:
            found.append((len(taken), tuple(corridor for corridor, _ in taken), taken))
            return
        if len(taken) == PATH_CORRIDORS_MOST:
            return
        for number, (a, b, _, _) in enumerate(corridors):
            if zone in (a, b):
                other = b if zone == a else a
                if other not in seen:
                    walk(other, (*taken, (number, int(zone == b))), seen | {other})

    walk(start, (), {start})
    paths = []
    for _, ids, taken in sorted(found)[:PATHS_MOST]:
        elements = [zones[start], *((zones[end],) if end != start else ()), *(corridors[n][2:] for n in ids)]
        loss, wheel = sum(loss for loss, _ in elements), sum(wheel for _, wheel in elements)
        if wheel > 1_000_000_000:
            raise BookError(f"the path {ids} from zone {start} to {end} wheels at {wheel} uTHB/kWh; at most 10^9")
        if loss <= 500_000:
            paths.append(Path(loss, wheel, ids, tuple(direction for _, direction in taken)))
    return paths


cdef object copied(const void* items, uint64_t count, size_t item, dtype):
    """An array of its own. Where memory is given, NumPy does not look through the fields for what must be cleared."""
    words = np.empty(count * (item // 8), _WORD)
    if count:
        memcpy(memory_of(words), items, count * item)
    return np.ndarray(count, dtype, words)


def joined(pieces, last):
    """The pieces of an output in one array."""
    return np.concatenate([*pieces, last]) if pieces else last


cdef void* grown(void* memory, uint64_t* capacity, uint64_t wanted, size_t item, int huge) noexcept:
    """A scratch array with room for `wanted` items, whose content is not kept; NULL when memory is refused, and then the
    old one stays."""
    cdef uint64_t size = capacity[0] if capacity[0] else 4096
    cdef void* fresh
    if memory != NULL and wanted <= capacity[0]:
        return memory
    while size < wanted:
        size *= 2
    fresh = pool_reserve(size * item, huge)
    if fresh == NULL:
        return NULL
    pool_release(memory, capacity[0] * item)
    capacity[0] = size
    return fresh


include "book_engine.pxi"
