# cython: boundscheck=False, wraparound=False
"""Tells whether bytes are one value of canonical CBOR, before anything is built from them.

A general decoder must not see hostile bytes first: tags make it build big integers, regular expressions or values
that share parts without bound. Here every byte is looked at once, depth is bounded, nothing is allocated.
`gridtokenx.codec` says what is allowed; UTF-8 is left to the decoder.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp

cdef enum Fault:
    GOOD = 0
    SHORT
    LONG_FORM
    INDEFINITE
    TAG
    FLOAT
    SIMPLE
    NEGATIVE
    KEY_KIND
    KEY_ORDER
    DEPTH
    TRAILING

_REASONS = {
    SHORT: "the bytes end inside a value",
    LONG_FORM: "a number or length in more bytes than it needs",
    INDEFINITE: "an indefinite length or a reserved form",
    TAG: "a tag; none is allowed",
    FLOAT: "a float; numbers are integers",
    SIMPLE: "a simple value other than true, false and null",
    NEGATIVE: "an integer below -2^63",
    KEY_KIND: "the keys of a map are all unsigned integers or all text",
    KEY_ORDER: "map keys out of order or repeated",
    DEPTH: "nested too deep",
    TRAILING: "bytes after the value",
}

cdef struct Reader:
    const uint8_t* at
    const uint8_t* end


cdef Fault head(Reader* reader, uint64_t* argument) noexcept nogil:
    """Reads the first byte of an item and its argument, in shortest form."""
    cdef int low
    cdef int size
    cdef uint64_t value = 0
    cdef int index
    if reader.at >= reader.end:
        return SHORT
    low = reader.at[0] & 31
    reader.at += 1
    if low < 24:
        argument[0] = low
        return GOOD
    if low > 27:
        return INDEFINITE
    size = 1 << (low - 24)
    if reader.end - reader.at < size:
        return SHORT
    for index in range(size):
        value = value << 8 | reader.at[index]
    reader.at += size
    argument[0] = value
    if low == 24:
        return LONG_FORM if value < 24 else GOOD
    return LONG_FORM if value >> (4 * size) == 0 else GOOD


cdef Fault item(Reader* reader, int depth) noexcept nogil:
    """Reads one value; `depth` more levels of arrays and maps are allowed."""
    cdef uint64_t argument = 0
    cdef uint64_t index, length, before_length = 0, before_value = 0
    cdef int major, key_major = -1
    cdef uint8_t first
    cdef const uint8_t* before = NULL
    cdef int order
    cdef Fault fault
    if reader.at >= reader.end:
        return SHORT
    first = reader.at[0]
    major = first >> 5
    if major == 6:
        return TAG
    if major == 7:
        if first == 0xF4 or first == 0xF5 or first == 0xF6:
            reader.at += 1
            return GOOD
        return FLOAT if 0xF9 <= first <= 0xFB else INDEFINITE if first > 0xFB else SIMPLE
    fault = head(reader, &argument)
    if fault != GOOD or major == 0:
        return fault
    if major == 1:
        return NEGATIVE if argument >> 63 else GOOD
    length = <uint64_t> (reader.end - reader.at)
    if major <= 3:
        if argument > length:
            return SHORT
        reader.at += argument
        return GOOD
    if depth == 0:
        return DEPTH
    if argument > (length if major == 4 else length >> 1):
        return SHORT  # each value has a byte at least
    if major == 4:
        for index in range(argument):
            fault = item(reader, depth - 1)
            if fault != GOOD:
                return fault
        return GOOD
    for index in range(argument):
        if reader.at >= reader.end:
            return SHORT
        major = reader.at[0] >> 5
        if major != 0 and major != 3 or key_major >= 0 and major != key_major:
            return KEY_KIND
        key_major = major
        fault = head(reader, &length)
        if fault != GOOD:
            return fault
        if major == 0:
            if index and length <= before_value:
                return KEY_ORDER
            before_value = length
        else:
            if length > <uint64_t> (reader.end - reader.at):
                return SHORT
            if index:
                if length < before_length:
                    return KEY_ORDER
                if length == before_length:
                    order = memcmp(before, reader.at, length)
                    if order >= 0:
                        return KEY_ORDER
            before = reader.at
            before_length = length
            reader.at += length
        fault = item(reader, depth - 1)
        if fault != GOOD:
            return fault
    return GOOD


def fault(bytes data not None, int max_depth):
    """None if `data` is one canonical value nested at most `max_depth` levels, else what is wrong and where."""
    cdef Reader reader
    cdef Fault found
    reader.at = <const uint8_t*> PyBytes_AS_STRING(data)
    reader.end = reader.at + PyBytes_GET_SIZE(data)
    with nogil:
        found = item(&reader, max_depth)
        if found == GOOD and reader.at != reader.end:
            found = TRAILING
    if found == GOOD:
        return None
    return f"{_REASONS[found]} (near byte {reader.at - <const uint8_t*> PyBytes_AS_STRING(data)})"


cdef object in_tuples(object value):
    cdef list items
    if type(value) is not list:
        return value
    items = <list>value
    return tuple([in_tuples(item) for item in items])


def tuples(value):
    """A decoded value with tuples in the place of its lists, inside too."""
    return in_tuples(value)
