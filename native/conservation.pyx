# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
"""The conservation checker: nothing is created or lost (DESIGN 6, MARKET 7).

What has to balance is given as one array of RECORD: `group` u4 names the sum a record belongs to (an asset, an asset in a
window, a corridor ...), `identity` u4 is the caller's name for the record (index of a key, meter, trade), `amount` i8 its
signed contribution in the group's own unit (Wh or uTHB; balances after minus before, minted positive, burned negative, as
the caller's rule says). `check_sums` compares each group's sum, exact in 128 bits, with what is expected;
`find_negative` names the records that may not be below zero. One pass each, the GIL released.
"""

import sys
from collections import namedtuple

import numpy as np

from gridtokenx.errors import GridTokenXError

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #define SUM_OVERFLOWS(a, b, out) __builtin_add_overflow((a), (b), (out))
    #define FETCH(p) __builtin_prefetch((const void *)(p), 0, 0)
    """
    bint SUM_OVERFLOWS(int64_t, int64_t, int64_t*) nogil
    void FETCH(const void*) nogil

cdef struct Record:
    uint32_t group
    uint32_t identity
    int64_t amount

cdef enum:
    LANES = 4
    WIDE = 4096     # up to so many groups, four tables of sums stay in the first-level cache

RECORD = np.dtype([("group", "<u4"), ("identity", "<u4"), ("amount", "<i8")])
if sys.byteorder != "little" or sizeof(Record) != RECORD.itemsize:
    raise ImportError("the conservation checker needs a little-endian machine")


class ConservationError(GridTokenXError):
    """Input that cannot be checked: wrong dtype, or a record of a group that does not exist."""


SumViolation = namedtuple("SumViolation", "group expected actual")
NegativeAmount = namedtuple("NegativeAmount", "record group identity amount")

cdef inline void add(int64_t* sums, int64_t* carries, uint64_t at, int64_t amount) noexcept nogil:
    # A sum is carry * 2^64 + the wrapped 64-bit sum: overflow is rare, so it is a branch and not a wider addition.
    cdef int64_t total
    if SUM_OVERFLOWS(sums[at], amount, &total):
        carries[at] += 1 if amount > 0 else -1
    sums[at] = total


cdef int64_t add_all(const Record* records, uint64_t n, uint64_t groups, int64_t* sums, int64_t* carries,
                     uint64_t lanes) noexcept nogil:
    """Adds up all records; -1, or the index of the first one whose group does not exist.

    Neighbours go to different lanes of sums: records of one group in a row would wait for each other's store.
    """
    cdef uint64_t i = 0, second = groups, third = 2 * groups, fourth = 3 * groups
    cdef uint32_t a, b, c, d
    if lanes == LANES:
        while i + 4 <= n:
            FETCH(records + i + 64)
            a = records[i].group
            b = records[i + 1].group
            c = records[i + 2].group
            d = records[i + 3].group
            if a >= groups or b >= groups or c >= groups or d >= groups:
                break
            add(sums, carries, a, records[i].amount)
            add(sums, carries, second + b, records[i + 1].amount)
            add(sums, carries, third + c, records[i + 2].amount)
            add(sums, carries, fourth + d, records[i + 3].amount)
            i += 4
    while i < n:
        a = records[i].group
        if a >= groups:
            return <int64_t>i
        add(sums, carries, a, records[i].amount)
        i += 1
    return -1


cdef uint64_t next_negative(const Record* records, uint64_t n, uint64_t start) noexcept nogil:
    """Index of the first negative amount from `start` on, or n. Blocks of 16 are tested at once by their sign bits."""
    cdef uint64_t i = start, j
    cdef int64_t signs
    while i + 16 <= n:
        signs = 0
        for j in range(16):
            signs |= records[i + j].amount
        if signs < 0:
            break
        i += 16
    while i < n and records[i].amount >= 0:
        i += 1
    return i


def _checked(records):
    if not isinstance(records, np.ndarray) or records.dtype != RECORD or records.ndim != 1:
        raise ConservationError("records must be a one-dimensional array of dtype RECORD")
    if not records.flags.c_contiguous or not records.flags.aligned or records.ctypes.data % 8:
        return records.copy()
    return records


def check_sums(records, expected, *, limit=16):
    """Sums `records` by group and compares with `expected`, an int64 array with one entry per group.

    Returns the first `limit` violations in group order, as SumViolation(group, expected, actual) with exact sums; empty
    when everything is conserved. Raises ConservationError for a wrong dtype or a group without an expected sum.
    """
    cdef uint64_t n, groups, lanes, g, lane
    cdef int64_t bad = -1, low, carry, total
    cdef const uint8_t[::1] source
    cdef const int64_t[::1] wanted
    cdef const Record* first
    cdef int64_t* sums
    cdef int64_t* carries
    records = _checked(records)
    if not isinstance(expected, np.ndarray) or expected.dtype != np.int64 or expected.ndim != 1:
        raise ConservationError("expected must be a one-dimensional int64 array, one sum per group")
    n, groups = records.shape[0], expected.shape[0]
    if groups > 1 << 32:
        raise ConservationError(f"{groups} groups; a group is a 32-bit number")
    violations = []
    if groups == 0:
        if n:
            raise ConservationError(f"record 0 is of group {records[0]['group']}; there are no groups")
        return violations
    wanted = np.ascontiguousarray(expected)
    lanes = LANES if groups <= WIDE else 1
    sums = <int64_t*>calloc(2 * lanes * groups, sizeof(int64_t))
    if sums == NULL:
        raise MemoryError(f"no memory for {groups} sums")
    try:
        carries = sums + lanes * groups
        if n:
            source = records.view(np.uint8)
            first = <const Record*>&source[0]
            with nogil:
                bad = add_all(first, n, groups, sums, carries, lanes)
            if bad >= 0:
                raise ConservationError(f"record {bad}, identity {records[bad]['identity']}, is of group "
                                        f"{records[bad]['group']}; there are {groups}, from 0")
        for g in range(groups):
            low = sums[g]
            carry = carries[g]
            for lane in range(1, lanes):
                carry += carries[lane * groups + g]
                if SUM_OVERFLOWS(low, sums[lane * groups + g], &total):
                    carry += 1 if low > 0 else -1
                low = total
            if low != wanted[g] or carry:
                violations.append(SumViolation(g, wanted[g], (int(carry) << 64) + low))
                if len(violations) >= limit:
                    break
    finally:
        free(sums)
    return violations


def find_negative(records, *, limit=16):
    """The first `limit` records whose amount is below zero, as NegativeAmount(record, group, identity, amount).

    For arrays of values that may not be negative: balances, escrows, remaining capacities. Raises ConservationError for
    a wrong dtype.
    """
    cdef uint64_t n, i = 0
    cdef const uint8_t[::1] source
    cdef const Record* first
    records = _checked(records)
    n = records.shape[0]
    found = []
    if n == 0:
        return found
    source = records.view(np.uint8)
    first = <const Record*>&source[0]
    while len(found) < limit:
        with nogil:
            i = next_negative(first, n, i)
        if i == n:
            break
        found.append(NegativeAmount(i, first[i].group, first[i].identity, first[i].amount))
        i += 1
    return found
