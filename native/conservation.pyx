# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
"""The conservation checker: nothing is created or lost (DESIGN 6, MARKET 7), nothing carries more than it can (MARKET 4).

What has to balance is given as arrays of RECORD, say of balances, escrows, trades, readings and flows: `group` u4 names the
sum a record belongs to (an asset, an asset in a window and zone, a corridor's direction in a window ...), `identity` u4 is
the caller's name for the record (index of a key, meter, trade), `amount` i8 its signed contribution in the group's own unit
(Wh or uTHB; balances after minus before, minted positive, burned negative, as the caller's rule says). `check_sums` compares
each group's sum, exact in 128 bits, with what is expected; `check_limits` with a range, where a corridor's direction has its
capacity as the most and everything else its expected sum as both; `find_negative` names the records that may not be below
zero. One pass each, the GIL released.

A violation names the record from which on its group's running sum was never again what it may be: of trades, transfers or
flows given in their order, each with all its parts next to one another, that is the one which broke the rule.
"""

import sys
from collections import namedtuple

import numpy as np

from gridtokenx.errors import GridTokenXError

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #define FETCH(p) __builtin_prefetch((const void *)(p), 0, 0)
    /* A sum is a wrapped 64-bit number and, `span` further on, how often it wrapped: that is rare, so it is a branch and not
       a wider addition. */
    static inline void add_to(int64_t *sum, int64_t amount, uint64_t span) {
        int64_t total;
        if (__builtin_expect(__builtin_add_overflow(*sum, amount, &total), 0)) sum[span] += amount > 0 ? 1 : -1;
        *sum = total;
    }
    """
    void FETCH(const void*) nogil
    void add_to(int64_t*, int64_t, uint64_t) nogil

cdef struct Record:
    uint32_t group
    uint32_t identity
    int64_t amount

cdef enum:
    STREAMS = 4         # parts of the array that are read side by side: one alone waits for memory
    AHEAD = 64          # records
    FEW = 512           # up to so many groups, four tables of sums stay in the first-level cache
    SOME = 1024         # ... and two

RECORD = np.dtype([("group", "<u4"), ("identity", "<u4"), ("amount", "<i8")])
if sys.byteorder != "little" or sizeof(Record) != RECORD.itemsize:
    raise ImportError("the conservation checker needs a little-endian machine")


class ConservationError(GridTokenXError):
    """Input that cannot be checked: wrong dtype, or a record of a group that does not exist."""


# array, record, identity: where the sum went wrong for good, None when no record would have made it right
SumViolation = namedtuple("SumViolation", "group expected actual array record identity")
LimitViolation = namedtuple("LimitViolation", "group least most actual array record identity")
NegativeAmount = namedtuple("NegativeAmount", "record group identity amount")

cdef inline bint add_four(const Record* r, uint64_t groups, int64_t* first, int64_t* second, int64_t* third,
                          int64_t* fourth, uint64_t span) noexcept nogil:
    """Neighbours go to different tables where there are some: records of one group in a row would wait for each other's
    store. False, and nothing added, when one of them is of a group that does not exist."""
    FETCH(r + AHEAD)
    if r[0].group >= groups or r[1].group >= groups or r[2].group >= groups or r[3].group >= groups:
        return False
    add_to(first + r[0].group, r[0].amount, span)
    add_to(second + r[1].group, r[1].amount, span)
    add_to(third + r[2].group, r[2].amount, span)
    add_to(fourth + r[3].group, r[3].amount, span)
    return True


cdef bint add_all(const Record* records, uint64_t n, uint64_t groups, uint64_t lanes, int64_t* sums) noexcept nogil:
    """Adds up all records in `lanes` tables of sums, with as many of carries behind; False when one of them is of a group
    that does not exist."""
    cdef uint64_t part = n // STREAMS // 4 * 4, i = 0, span = lanes * groups
    cdef int64_t* second = sums + 1 % lanes * groups
    cdef int64_t* third = sums + 2 % lanes * groups
    cdef int64_t* fourth = sums + 3 % lanes * groups
    while i < part:
        if not (add_four(records + i, groups, sums, second, third, fourth, span)
                and add_four(records + part + i, groups, sums, second, third, fourth, span)
                and add_four(records + 2 * part + i, groups, sums, second, third, fourth, span)
                and add_four(records + 3 * part + i, groups, sums, second, third, fourth, span)):
            return False
        i += 4
    i = STREAMS * part
    while i < n:
        if records[i].group >= groups:
            return False
        add_to(sums + records[i].group, records[i].amount, span)
        i += 1
    return True


cdef inline bint within(int64_t low, int64_t carry, int64_t least, int64_t most) noexcept nogil:
    """Whether carry * 2^64 + low is in the range: never, when it needs more than 64 bits."""
    return carry == 0 and least <= low <= most


cdef uint64_t never_again(const Record* records, uint64_t n, uint32_t group, int64_t least, int64_t most, int64_t* sum,
                          bint* lost) noexcept nogil:
    """Goes on with a group's running sum, its carry behind it; index of the first record here since which it was out of its
    range. `lost` says whether it has been since a record, here or before."""
    cdef uint64_t i, found = n
    for i in range(n):
        if records[i].group == group:
            add_to(sum, records[i].amount, 1)
            if within(sum[0], sum[1], least, most):
                lost[0] = False
            elif not lost[0]:
                lost[0] = True
                found = i
    return found


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
        raise ConservationError("records must be one-dimensional arrays of dtype RECORD")
    if not records.flags.c_contiguous or not records.flags.aligned or records.ctypes.data % 8:
        return records.copy()
    return records


def _bound(sums, name):
    if not isinstance(sums, np.ndarray) or sums.dtype != np.int64 or sums.ndim != 1:
        raise ConservationError(f"{name} must be a one-dimensional int64 array, one sum per group")
    return np.require(sums, requirements="CA")


def check_sums(records, expected, *, limit=16):
    """Sums `records`, an array of RECORD or a sequence of them, by group and compares with `expected`, an int64 array with
    one entry per group.

    Returns the first `limit` violations in group order, as SumViolation(group, expected, actual, array, record, identity)
    with exact sums; empty when everything is conserved. `array`, `record` and `identity` are of the record from which on
    the running sum was never what is expected, None when the group has no records. Raises ConservationError for a wrong
    dtype or a group without an expected sum.
    """
    expected = _bound(expected, "expected")
    return [SumViolation(found.group, *found[2:]) for found in check_limits(records, expected, expected, limit=limit)]


def check_limits(records, least, most, *, limit=16):
    """As `check_sums`, for sums that lie between `least` and `most`, both included: LimitViolation(group, least, most,
    actual, array, record, identity).

    A corridor's direction in a window is a group whose most is its capacity; each trade over it adds the energy it takes
    to the direction it goes, and subtracts what it gives back from the other.
    """
    cdef uint64_t n, groups, lanes, g, lane, i
    cdef bint good = True, lost
    cdef int64_t total[2]
    cdef int64_t lower, upper
    cdef const uint8_t[::1] source
    cdef const int64_t[::1] least_view, most_view
    cdef const Record* first
    cdef int64_t* sums
    arrays = [_checked(part) for part in ((records,) if isinstance(records, np.ndarray) else records)]
    least, most = _bound(least, "least"), _bound(most, "most")
    groups = least.shape[0]
    if most.shape[0] != groups:
        raise ConservationError(f"{groups} least sums and {most.shape[0]} most; one of both per group is needed")
    if groups > <uint64_t>1 << 32:
        raise ConservationError(f"{groups} groups; a group is a 32-bit number")
    least_view, most_view = least, most
    lanes = 4 if groups <= FEW else 2 if groups <= SOME else 1
    sums = <int64_t*>calloc(2 * lanes * groups + 1, sizeof(int64_t))
    if sums == NULL:
        raise MemoryError(f"no memory for {groups} sums")
    violations = []
    try:
        for number, part in enumerate(arrays):
            n = part.shape[0]
            if n:
                source = part.view(np.uint8)
                first = <const Record*>&source[0]
                with nogil:
                    good = add_all(first, n, groups, lanes, sums)
                if not good:
                    bad = int(np.argmax(part["group"] >= groups))
                    raise ConservationError(f"record {bad} of array {number}, identity {part[bad]['identity']}, is of "
                                            f"group {part[bad]['group']}; there are {groups}, from 0")
        for g in range(groups):
            total[0] = total[1] = 0
            for lane in range(lanes):
                total[1] += sums[(lanes + lane) * groups + g]
                add_to(total, sums[lane * groups + g], 1)
            if not within(total[0], total[1], least_view[g], most_view[g]):
                if len(violations) >= limit:
                    break
                violations.append((g, least_view[g], most_view[g], (int(total[1]) << 64) + total[0]))
    finally:
        free(sums)
    found = []
    for group, low_bound, high_bound, actual in violations:
        g, lower, upper = group, low_bound, high_bound
        total[0] = total[1] = 0
        lost = False
        where = (None, None, None)
        for number, part in enumerate(arrays):
            n = part.shape[0]
            if n:
                source = part.view(np.uint8)
                first = <const Record*>&source[0]
                with nogil:
                    i = never_again(first, n, <uint32_t>g, lower, upper, total, &lost)
                if i < n:
                    where = (number, i, first[i].identity)
        found.append(LimitViolation(group, low_bound, high_bound, actual, *where))
    return found


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
