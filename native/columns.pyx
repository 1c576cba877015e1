# cython: language_level=3, boundscheck=False, wraparound=False
"""Bills and trades of state as columns: a day of a town has a hundred thousand, and a table needs no object of each.

The bytes are those of `gridtokenx.ledger.metering_records.Settlement` and `gridtokenx.ledger.records.Trade`, as this
chain wrote them.
"""

import numpy as np

from gridtokenx.errors import InvariantError

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc

include "cbor.pxi"

cdef enum:
    ADDRESS = 32
    SETTLEMENT_FIELDS = 11
    NUMBERS = 9             # of the fields between owner and lines: zone to revision
    ROW = NUMBERS + 4       # window, meter, owner's place, these, sum of the lines
    LINE = 5                # row, rule, quantity, rate, amount
    TRADE_ALWAYS = 15       # of a trade's fields: height to collateral
    TRADE_FIELDS = 19
    TRADE_ROW = 17          # window, number, these without orders, collateral and kind, path's place


cdef class _Grown:
    """Rows of integers, one after the other."""

    cdef int64_t* values
    cdef size_t used, room
    cdef Py_ssize_t width

    def __cinit__(self, Py_ssize_t width):
        self.values, self.used, self.room, self.width = NULL, 0, 0, width

    def __dealloc__(self):
        free(self.values)

    cdef int64_t* row(self) except NULL:
        """Place for the next row; what was given before may have moved."""
        cdef int64_t* grown
        if self.used + self.width > self.room:
            grown = <int64_t*>realloc(self.values, (2 * self.room + 1024 * self.width) * sizeof(int64_t))
            if grown == NULL:
                raise MemoryError
            self.values, self.room = grown, 2 * self.room + 1024 * self.width
        self.used += self.width
        return self.values + self.used - self.width

    cdef list columns(self):
        """An array of each column."""
        if not self.used:
            return [np.zeros(0, np.int64) for _ in range(self.width)]
        table = np.asarray(<int64_t[:self.used // self.width, :self.width]>self.values)
        return list(np.array(table.T, order="C"))       # a copy even of a single row: this memory goes


cdef inline int64_t big_endian(const uint8_t* at) noexcept nogil:
    return <int64_t>at[0] << 24 | <int64_t>at[1] << 16 | <int64_t>at[2] << 8 | at[3]


def settlements(rows):
    """(columns of the bills, columns of their lines, owners) of (key, bytes) by window and meter.

    Of a bill: window, meter, place of its owner in `owners`, zone, injected, withdrawn, bought, sold, supplied, taken,
    quality, revision, sum of its lines. Of a line: place of its bill, rule, quantity, rate, amount.
    """
    cdef _Grown bills = _Grown(ROW), lines = _Grown(LINE)
    cdef dict places = {}
    cdef Fields f
    cdef bytes key, raw
    cdef const uint8_t* owner
    cdef const uint8_t* at
    cdef int64_t* row
    cdef int64_t* line
    cdef int64_t total
    cdef uint64_t left
    cdef Py_ssize_t i, index = 0
    for key, raw in rows:
        f.at = <const uint8_t*>PyBytes_AS_STRING(raw)
        f.end = f.at + PyBytes_GET_SIZE(raw)
        f.bad = PyBytes_GET_SIZE(key) != 9 or count(&f) != SETTLEMENT_FIELDS
        owner = octets(&f, ADDRESS)
        if f.bad:
            raise InvariantError(f"the value of {key.hex()} is no bill")
        at = <const uint8_t*>PyBytes_AS_STRING(key)
        row = bills.row()
        row[0], row[1] = big_endian(at + 1), big_endian(at + 5)
        row[2] = places.setdefault(PyBytes_FromStringAndSize(<const char*>owner, ADDRESS), len(places))
        for i in range(NUMBERS):
            row[3 + i] = number(&f)
        left = count(&f)
        total = 0
        while left and not f.bad:
            line = lines.row()
            line[0] = index
            if count(&f) != LINE - 1:
                f.bad = True
            for i in range(1, LINE):
                line[i] = number(&f)
            total += line[LINE - 1]
            left -= 1
        row[ROW - 1] = total
        if f.bad or f.at != f.end:
            raise InvariantError(f"the value of {key.hex()} is no bill")
        index += 1
    return bills.columns(), lines.columns(), list(places)


def trades(rows):
    """(columns, paths) of (key, bytes) by window and number.

    Of a trade: window, number, height, buyer's meter, seller's, their zones, taker's side, price, delivered, injected,
    wheeling, fee, VAT, source, profile, place of its path in `paths`.
    """
    cdef _Grown made = _Grown(TRADE_ROW)
    cdef dict places = {(): 0}
    cdef Fields f
    cdef bytes key, raw
    cdef list path
    cdef const uint8_t* at
    cdef int64_t* row
    cdef uint64_t fields, corridors
    cdef Py_ssize_t i
    for key, raw in rows:
        f.at = <const uint8_t*>PyBytes_AS_STRING(raw)
        f.end = f.at + PyBytes_GET_SIZE(raw)
        f.bad = PyBytes_GET_SIZE(key) != 9
        fields = count(&f)
        f.bad = f.bad or not TRADE_ALWAYS <= fields <= TRADE_FIELDS
        at = <const uint8_t*>PyBytes_AS_STRING(key)
        row = made.row()
        row[0], row[1], row[2] = big_endian(at + 1), big_endian(at + 5), number(&f)
        skip(&f)
        skip(&f)
        for i in range(3, 14):
            row[i] = number(&f)
        skip(&f)
        row[14] = number(&f) if fields > TRADE_ALWAYS else 0
        row[15] = number(&f) if fields > TRADE_ALWAYS + 1 else 0
        row[16] = 0
        if fields > TRADE_ALWAYS + 2:
            corridors, path = count(&f), []
            while corridors and not f.bad:
                path.append(number(&f))
                corridors -= 1
            row[16] = places.setdefault(tuple(path), len(places))
        if fields > TRADE_ALWAYS + 3:
            skip(&f)
        if f.bad or f.at != f.end:
            raise InvariantError(f"the value of {key.hex()} is no trade")
    return made.columns(), list(places)
