# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A final window's energy added to its meters' months, one after the other: what `gridtokenx.market.monthly` does with a
meter's bill, where that lies in state as bytes and has numbers within ordinary bounds. All others are left to it.
"""

from gridtokenx._native.state cimport Entry, Working

include "moves.pxi"

cdef enum:
    BILL_SIZE = 11          # attributes of a bill: owner, nine numbers, lines
    LINE_SIZE = 4
    # Of a month's energy.
    WITHDRAWN = 0
    SUPPLIED = 1
    PEAK = 2
    USAGE_SIZE = 3


cdef bint read_bill(bytes bill, int64_t rule, int64_t* withdrawn, int64_t* supplied) noexcept:
    """What a bill's meter withdrew, and the energy of its lines of `rule`. False for what is no bill, or beyond bounds."""
    cdef Fields f
    cdef uint64_t lines
    cdef int64_t of, quantity
    cdef int i
    f.at = <const uint8_t*>PyBytes_AS_STRING(bill)
    f.end = f.at + PyBytes_GET_SIZE(bill)
    f.bad = False
    if count(&f) != BILL_SIZE:
        return False
    for i in range(3):              # owner, zone, injected
        skip(&f)
    withdrawn[0] = number(&f)
    for i in range(4, BILL_SIZE - 1):
        skip(&f)
    lines = count(&f)
    supplied[0] = 0
    while lines and not f.bad:
        if count(&f) != LINE_SIZE:
            return False
        of, quantity = number(&f), number(&f)
        skip(&f)
        skip(&f)
        if of == rule:
            if not 0 <= quantity <= ORDINARY:
                return False
            supplied[0] += quantity
        lines -= 1
    return not f.bad and 0 <= withdrawn[0] <= ORDINARY and supplied[0] <= MOST


cdef class Months:
    """The kernel; made once, with the records' classes by name and their spaces, the rule of supplied energy and the weights
    that the ledger has. ValueError when a class has other attributes than it knows."""

    cdef Shape usage
    cdef uint8_t settlement_space, usage_space
    cdef int64_t energy
    cdef object count_weight, clear_weight

    def __init__(self, dict classes not None, spaces not None, *, energy, count_weight, clear_weight):
        self.usage = shape_of(classes, "Usage")
        self.settlement_space, self.usage_space = spaces["SETTLEMENT"], spaces["USAGE"]
        self.energy, self.count_weight, self.clear_weight = energy, count_weight, clear_weight

    def count(self, Working session not None, int64_t window, int64_t month, bint peak, int64_t number, int64_t last, spend):
        """Counts a window for meters from the one after `number` to `last`: (the last one counted, whether it goes on).

        It goes on, with one that is not plain, where that is left to others; else `last` is counted or `spend` refused a
        weight.
        """
        cdef Entry usage
        cdef object bill
        cdef int64_t u[USAGE_SIZE]
        cdef int64_t withdrawn, supplied
        cdef bytes key
        while number < last:
            bill = session.entry(window_key(self.settlement_space, window, number + 1)).now
            if bill is None:
                if not spend(self.clear_weight):
                    return number, False
                number += 1
                continue
            key = PyBytes_FromStringAndSize(NULL, 7)
            (<uint8_t*>PyBytes_AS_STRING(key))[0] = self.usage_space
            write(<uint8_t*>PyBytes_AS_STRING(key) + 1, month, 2)
            write(<uint8_t*>PyBytes_AS_STRING(key) + 3, number + 1, 4)
            usage = session.entry(key)
            if type(bill) is not bytes or not read_bill(<bytes>bill, self.energy, &withdrawn, &supplied) or not read_any(
                    self.usage, usage.now, MOST, 0, USAGE_SIZE, u):
                return number, True
            if not spend(self.count_weight):
                return number, False
            u[WITHDRAWN] += withdrawn
            u[SUPPLIED] += supplied
            if peak:
                u[PEAK] = max(u[PEAK], withdrawn)
            session.set(usage, write_all(self.usage, u))
            number += 1
        return number, False
