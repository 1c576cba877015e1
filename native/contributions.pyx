# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a block's changes of records contribute to the sums that must balance: what the rules of
`gridtokenx.ledger.conservation` and `metered_sums` say of the records that blocks change by the thousand, where these are
possible and within ordinary bounds. All others, and whatever is wrong, are left to the rules themselves.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from gridtokenx._native.state cimport Changes, Entry, Working, former

include "packed.pxi"

cdef extern from *:
    """
    typedef __int128 wide_t;
    """
    ctypedef int64_t wide_t

cdef enum:
    QUARTERS = 4
    # Groups of `gridtokenx.ledger.conservation.Sum`.
    THB = 0
    BIDS = 1
    COLLATERAL = 2
    PROCEEDS = 3
    BOUGHT = 4
    SOLD = 5
    OPEN_BUYS = 6
    OPEN_SELLS = 7
    DUES = 8

cdef int64_t MOST = <int64_t>1 << 59                # of an amount; what is more is left to numbers without bounds
cdef int64_t ORDINARY = <int64_t>1 << 36            # of an order's price and energy
cdef wide_t MILLION = 1_000_000

SUMS = {"THB": THB, "BIDS": BIDS, "COLLATERAL": COLLATERAL, "PROCEEDS": PROCEEDS, "BOUGHT": BOUGHT, "SOLD": SOLD,
        "OPEN_BUYS": OPEN_BUYS, "OPEN_SELLS": OPEN_SELLS, "DUES": DUES}


cdef class Entries:
    """Pairs of integers one after the other, as the native checker's records lie in memory: index << 32 | group, and a
    signed amount. `beyond` is the first of them whose amount needs more than 64 bits, which is not among them."""

    cdef int64_t* pairs
    cdef size_t used, room
    cdef readonly object beyond

    def __cinit__(self):
        self.pairs, self.used, self.room = NULL, 0, 0

    def __dealloc__(self):
        free(self.pairs)

    def __iadd__(self, tuple numbers):
        cdef Py_ssize_t i
        cdef int64_t amount
        for i in range(0, len(numbers), 2):
            try:
                amount = numbers[i + 1]
            except OverflowError:
                if self.beyond is None:
                    self.beyond = (numbers[i], numbers[i + 1])
                continue
            add(self, numbers[i], 0, amount)
        return self

    def raw(self):
        """The records' bytes."""
        return PyBytes_FromStringAndSize(<const char*>self.pairs, self.used * sizeof(int64_t))


cdef inline int add(Entries entries, int64_t at, int64_t group, int64_t amount) except -1:
    cdef int64_t* grown
    if entries.used == entries.room:
        grown = <int64_t*>realloc(entries.pairs, (2 * entries.room + 4096) * sizeof(int64_t))
        if grown == NULL:
            raise MemoryError
        entries.pairs, entries.room = grown, 2 * entries.room + 4096
    entries.pairs[entries.used], entries.pairs[entries.used + 1] = at | group, amount
    entries.used += 2
    return 0


cdef class Contributions:
    """The kernel; made once, with the records' classes by name, the spaces and the sums that the ledger has. ValueError
    when a class has other attributes, or a sum another number, than it knows."""

    cdef Shape account, position, order, meter, reading, settlement, lot, energy, traded
    cdef int account_space, position_space, order_space, reading_space, settlement_space, lot_space, energy_space
    cdef int traded_space
    cdef uint8_t meter_space
    cdef int64_t buy

    def __init__(self, dict classes not None, spaces not None, dict sums not None, *, buy):
        if sums != SUMS:
            raise ValueError(f"the sums are {sums}; the kernel knows {SUMS}")
        self.account, self.position, self.order = (shape_of(classes, name) for name in ("Account", "Position", "Order"))
        self.meter, self.reading, self.traded = (shape_of(classes, name) for name in ("Meter", "Reading", "Traded"))
        self.settlement, self.lot, self.energy = (shape_of(classes, name) for name in ("Settlement", "Lot", "Energy"))
        self.account_space, self.position_space, self.order_space = spaces["ACCOUNT"], spaces["POSITION"], spaces["ORDER"]
        self.reading_space, self.settlement_space = spaces["READING"], spaces["SETTLEMENT"]
        self.lot_space, self.energy_space, self.traded_space = spaces["LOT"], spaces["ENERGY"], spaces["TRADED"]
        self.meter_space, self.buy = spaces["METER"], buy

    def gather(self, Changes changes not None, Py_ssize_t index, dict rules not None, Working session not None, Entries entries not None,
               zone_group, int64_t accounts, int64_t lots):
        """Appends (index << 32 | group, amount) of the changes from the one at `index` on, up to one that is left to the
        `rules`, by space; returns the index of that one. `accounts` and `lots` are the first of their groups, `zone_group(window,
        zone)` that of a zone's."""
        cdef Py_ssize_t count = len(changes.entries)
        cdef Entry change
        cdef bytes key, window = None
        cdef object before, now
        cdef int space, last = -1
        cdef bint ruled = False, done
        cdef int64_t at, group = 0, zone = -1
        cdef int64_t bill[7]        # zone, and what `_settlement` takes
        while index < count:
            change = <Entry>changes.entries[index]
            key, before, now = change.key, former(change), change.now
            space = (<const uint8_t*>PyBytes_AS_STRING(key))[0]
            if space != last:           # changes come by space
                last, ruled = space, space in rules
            if ruled:
                at = <int64_t>index << 32
                if space == self.account_space:
                    done = self._account(at, before, now, entries)
                elif space == self.position_space:
                    done = self._position(at, before, now, entries)
                elif space == self.order_space:
                    done = self._order(at, now, -1, before, 1, entries)
                elif space == self.reading_space:
                    done = self._reading(session, key, now)
                elif space == self.settlement_space:
                    done = now is None or read_any(self.settlement, now, MOST, 1, 7, bill)
                    if now is not None and done:
                        # Bills come by window, and in a town by zone: the group is seldom another one.
                        if window is None or bill[0] != zone or memcmp(
                                PyBytes_AS_STRING(key), PyBytes_AS_STRING(window), 5):
                            window, zone = key, bill[0]
                            group = zone_group(key[1:5], zone)
                        done = self._settlement(at, before, bill + 1, accounts, group, lots, entries)
                elif space == self.energy_space:
                    done = self._energy(at, before, now, accounts, entries)
                elif space == self.lot_space:
                    done = self._lot(at, before, now, lots, entries)
                elif space == self.traded_space:
                    done = self._traded(at, before, now, entries)
                else:
                    done = False
                if not done:
                    return index
            index += 1
        return index

    cdef bint _account(self, int64_t at, object before, object now, Entries entries) except -1:
        cdef int64_t o[12]
        cdef int64_t n[12]      # from balance on
        if now is None or not read_any(self.account, before, MOST, 1, 12, o) or not read_any(self.account, now, MOST, 1, 12, n):
            return False
        # balance 0, bids 1, proceeds 2, collateral 3, credit 4, locked 5, released 6, freed 7, height, ..., dues 11
        if n[0] < 0 or n[1] < 0 or n[2] < 0 or n[6] < 0 or n[11] < 0 or not 0 <= n[7] <= n[3] or n[5] != max(
                0, n[3] - n[4]):
            return False
        add(entries, at, THB, n[0] + n[1] + n[2] + n[5] + n[6] - (o[0] + o[1] + o[2] + o[5] + o[6]))
        if n[1] != o[1]:
            add(entries, at, BIDS, n[1] - o[1])
        if n[3] != o[3] or n[7] != o[7]:
            add(entries, at, COLLATERAL, n[3] - n[7] - o[3] + o[7])
        if n[2] != o[2]:
            add(entries, at, PROCEEDS, n[2] - o[2])
        if n[11] != o[11]:
            add(entries, at, DUES, n[11] - o[11])
        return True

    cdef bint _position(self, int64_t at, object before, object now, Entries entries) except -1:
        cdef int64_t o[9]
        cdef int64_t n[9]
        cdef int i
        if now is None:
            return True
        if not read_any(self.position, before, MOST, 0, 9, o) or not read_any(self.position, now, MOST, 0, 9, n):
            return False
        for i in range(9):
            if n[i] < 0:
                return False
        if n[1] != o[1]:
            add(entries, at, BOUGHT, n[1] - o[1])
        if n[0] != o[0]:
            add(entries, at, SOLD, n[0] - o[0])
        if n[3] != o[3]:
            add(entries, at, OPEN_BUYS, n[3] - o[3])
        if n[2] != o[2]:
            add(entries, at, OPEN_SELLS, n[2] - o[2])
        return True

    cdef bint _order(self, int64_t at, object first, int first_sign, object second, int second_sign,
                     Entries entries) except -1:
        cdef int64_t f[17]
        cdef int64_t s[17]
        cdef wide_t first_held, second_held
        if not self._held(first, f, &first_held) or not self._held(second, s, &second_held):
            return False
        if first is not None:
            self._add_order(at, f, <int64_t>first_held, first_sign, entries)
        if second is not None:
            self._add_order(at, s, <int64_t>second_held, second_sign, entries)
        return True

    cdef bint _held(self, object order, int64_t* o, wide_t* held) except -1:
        """What an order holds back, money or collateral. False: beyond bounds."""
        cdef wide_t product
        held[0] = 0
        if order is None:
            return True
        if not read_any(self.order, order, MOST, 3, 8, o):        # side 0, price 1, quantity, remaining 3, ..., term 6, VAT 7
            return False
        if not (0 <= o[1] < ORDINARY and 0 <= o[3] < ORDINARY and 0 <= o[6] < ORDINARY and 0 <= o[7] < ORDINARY):
            return False
        if o[0] == self.buy:
            if o[6] > MILLION or o[7] > MILLION:
                return False
            product = <wide_t>o[1] * o[3] * (MILLION + o[6]) * (MILLION + o[7])
            held[0] = (product + MILLION * MILLION - 1) / (MILLION * MILLION)
        else:
            held[0] = <wide_t>o[6] * o[3]
        return held[0] <= MOST

    cdef int _add_order(self, int64_t at, int64_t* o, int64_t held, int sign, Entries entries) except -1:
        cdef bint buys = o[0] == self.buy
        add(entries, at, BIDS if buys else COLLATERAL, sign * held)
        add(entries, at, OPEN_BUYS if buys else OPEN_SELLS, sign * o[3])
        return 0

    cdef bint _reading(self, Working session, bytes key, object now) except -1:
        cdef int64_t n[2]
        cdef int64_t m[4]       # injection, withdrawal, since, boundary
        cdef bytes place
        if now is None:
            return True
        if not read_any(self.reading, now, MOST, 0, 2, n):
            return False
        if PyBytes_GET_SIZE(key) != 9:
            return False
        place = PyBytes_FromStringAndSize(PyBytes_AS_STRING(key) + 4, 5)
        (<uint8_t*>PyBytes_AS_STRING(place))[0] = self.meter_space
        meter = session.entry(place).now
        if meter is None or not read_any(self.meter, meter, MOST, 7, 4, m) or m[3]:
            return False
        return 0 <= n[0] <= m[0] // QUARTERS and 0 <= n[1] <= m[1] // QUARTERS

    cdef bint _settlement(self, int64_t at, object before, int64_t* n, int64_t account, int64_t zone, int64_t lots,
                          Entries entries) except -1:
        """`n`: minted, burned, bought, sold, supplied, taken now."""
        cdef int64_t o[6]
        cdef int i
        cdef int[6] order = [0, 1, 4, 5, 2, 3]
        if not read_any(self.settlement, before, MOST, 2, 6, o):
            return False
        if n[0] + n[4] + n[2] != n[1] + n[5] + n[3]:
            return False
        for i in range(6):
            if n[i] < 0:
                return False
        for i in range(6):
            n[order[i]] -= o[order[i]]
            if n[order[i]]:
                add(entries, at, account + i, -n[order[i]])
                add(entries, at, zone + i, -n[order[i]])
                if i == 0:
                    add(entries, at, lots, -n[0])
        return True

    cdef bint _energy(self, int64_t at, object before, object now, int64_t account, Entries entries) except -1:
        cdef int64_t o[6]
        cdef int64_t n[6]       # minted, delivered, received, burned, supplied, taken
        cdef int[6] order = [0, 3, 4, 5, 2, 1]
        cdef int i
        if not read_any(self.energy, before, MOST, 0, 6, o) or not read_any(self.energy, now, MOST, 0, 6, n):
            return False
        for i in range(6):
            if n[order[i]] != o[order[i]]:
                add(entries, at, account + i, n[order[i]] - o[order[i]])
        return True

    cdef bint _lot(self, int64_t at, object before, object now, int64_t lots, Entries entries) except -1:
        cdef int64_t o[3]
        cdef int64_t n[3]       # minted, delivered, claimed
        if now is None or not read_any(self.lot, before, MOST, 2, 3, o) or not read_any(self.lot, now, MOST, 2, 3, n):
            return False
        if n[0] < n[1] or n[0] < n[2] or n[1] < 0 or n[2] < 0:
            return False
        if n[0] != o[0]:
            add(entries, at, lots, n[0] - o[0])
        return True

    cdef bint _traded(self, int64_t at, object before, object now, Entries entries) except -1:
        cdef int64_t o[2]
        cdef int64_t n[2]       # sale, collateral
        if not read_any(self.traded, before, MOST, 4, 2, o) or not read_any(self.traded, now, MOST, 4, 2, n):
            return False
        if o[0] or o[1]:
            add(entries, at, PROCEEDS, o[0])
            add(entries, at, COLLATERAL, o[1])
        if n[0] or n[1]:
            add(entries, at, PROCEEDS, -n[0])
            add(entries, at, COLLATERAL, -n[1])
        return True
