# Reading canonical CBOR that this chain wrote, without making objects: integers, byte strings and heads of arrays.
# What is wrong sets `bad`, and nothing more is read then.

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    UNSIGNED = 0
    NEGATIVE = 1
    BYTES = 2
    TEXT = 3
    ARRAY = 4

cdef struct Fields:
    const uint8_t* at
    const uint8_t* end
    bint bad


cdef inline uint64_t head(Fields* f, int* major) noexcept nogil:
    """The kind of the next value and its argument."""
    cdef int low, size
    cdef uint64_t argument
    if f.bad or f.at >= f.end:
        f.bad = True
        return 0
    major[0] = f.at[0] >> 5
    low = f.at[0] & 31
    f.at += 1
    if low < 24:
        return low
    size = 1 << (low - 24)
    if low > 27 or f.end - f.at < size:
        f.bad = True
        return 0
    argument = 0
    while size:
        argument = argument << 8 | f.at[0]
        f.at += 1
        size -= 1
    return argument


cdef inline int64_t number(Fields* f) noexcept nogil:
    """A signed integer of 64 bits."""
    cdef int major = 0
    cdef uint64_t argument = head(f, &major)
    if major > NEGATIVE or argument >> 63:
        f.bad = True
        return 0
    return -1 - <int64_t>argument if major == NEGATIVE else <int64_t>argument


cdef inline uint64_t count(Fields* f) noexcept nogil:
    """How many values the array that begins here has."""
    cdef int major = ARRAY
    cdef uint64_t argument = head(f, &major)
    if major != ARRAY or argument > <uint64_t>(f.end - f.at):
        f.bad = True
        return 0
    return argument


cdef inline const uint8_t* octets(Fields* f, uint64_t length) noexcept nogil:
    """A byte string of this length."""
    cdef int major = BYTES
    cdef const uint8_t* found
    if head(f, &major) != length or major != BYTES or f.bad or <uint64_t>(f.end - f.at) < length:
        f.bad = True
        return f.at
    found = f.at
    f.at += length
    return found


cdef void skip(Fields* f) noexcept nogil:
    """One value, whatever it is."""
    cdef int major = 0
    cdef uint64_t argument = head(f, &major)
    if major == BYTES or major == TEXT:
        if argument > <uint64_t>(f.end - f.at):
            f.bad = True
        else:
            f.at += argument
    elif major == ARRAY:
        while argument and not f.bad:
            skip(f)
            argument -= 1
