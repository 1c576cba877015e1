# Records as their canonical bytes: kernels read numbers there and write them, and no object is made of a record that only
# kernels deal with. `gridtokenx.ledger.records` says what the bytes are, `gridtokenx.ledger.spaces` what keys are.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

include "cbor.pxi"
include "plain.pxi"

cdef enum:
    NUMBER_MOST = 9         # bytes of a number, or of the head of an array


cdef bint read_packed(Shape shape, bytes raw, int64_t most, Py_ssize_t first, Py_ssize_t size, int64_t* numbers) noexcept:
    """`read_all` of a record's bytes; what these leave out is 0."""
    cdef Fields f
    cdef Py_ssize_t have, i
    f.at = <const uint8_t*>PyBytes_AS_STRING(raw)
    f.end = f.at + PyBytes_GET_SIZE(raw)
    f.bad = False
    have = <Py_ssize_t>count(&f)
    if f.bad or have > shape.size or have < min(shape.size, shape.least):
        return False
    for i in range(first):
        skip(&f)
    for i in range(size):
        numbers[i] = number(&f) if first + i < have else 0
        if not -most <= numbers[i] <= most:
            return False
    return not f.bad


cdef inline bint read_any(Shape shape, object value, int64_t most, Py_ssize_t first, Py_ssize_t size,
                          int64_t* numbers) except -1:
    """`read_all` of a record or of its bytes; `first` is among those that are always written."""
    if type(value) is bytes:
        return read_packed(shape, <bytes>value, most, first, size, numbers)
    return read_all(shape, value, most, first, size, numbers)


cdef inline uint8_t* write_head(uint8_t* at, int major, uint64_t argument) noexcept nogil:
    """Writes at most NUMBER_MOST bytes; returns where they end."""
    cdef int size, log, i
    if argument < 24:
        at[0] = <uint8_t>(major << 5 | argument)
        return at + 1
    log = 0 if argument < 0x100 else 1 if argument < 0x10000 else 2 if not argument >> 32 else 3
    size = 1 << log
    at[0] = <uint8_t>(major << 5 | 24 + log)
    for i in range(size):
        at[1 + i] = <uint8_t>(argument >> (8 * (size - 1 - i)))
    return at + 1 + size


cdef inline uint8_t* write_number(uint8_t* at, int64_t value) noexcept nogil:
    return write_head(at, UNSIGNED, <uint64_t>value) if value >= 0 else write_head(at, NEGATIVE, <uint64_t>(-1 - value))


cdef bytes write_all(Shape shape, const int64_t* numbers):
    """The bytes of a record that has only numbers."""
    cdef uint8_t[(MOST_SLOTS + 1) * NUMBER_MOST] raw
    cdef uint8_t* at
    cdef Py_ssize_t size = shape.size, i
    while size > shape.least and not numbers[size - 1]:
        size -= 1
    at = write_head(raw, ARRAY, size)
    for i in range(size):
        at = write_number(at, numbers[i])
    return PyBytes_FromStringAndSize(<const char*>raw, at - raw)


# ------------------------------------------------------------------ keys


cdef inline void write(uint8_t* at, uint64_t number, int size) noexcept:
    cdef int i
    for i in range(size):
        at[i] = <uint8_t>(number >> (8 * (size - 1 - i)))


cdef bytes key_of(uint8_t space, uint64_t number):
    cdef bytes key = PyBytes_FromStringAndSize(NULL, 5)
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(key)
    at[0] = space
    write(at + 1, number, 4)
    return key


cdef bytes window_key(uint8_t space, uint64_t window, uint64_t number):
    cdef bytes key = PyBytes_FromStringAndSize(NULL, 9)
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(key)
    at[0] = space
    write(at + 1, window, 4)
    write(at + 5, number, 4)
    return key
