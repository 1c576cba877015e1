# cython: boundscheck=False, wraparound=False
"""Tells whether bytes are one value of canonical CBOR, before anything is built from them; and writes such bytes.

A general decoder must not see hostile bytes first: tags make it build big integers, regular expressions or values
that share parts without bound. Here every byte is looked at once, depth is bounded, nothing is allocated.
`gridtokenx.codec` says what is allowed; UTF-8 is left to the decoder.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

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


# What the first bytes of a transaction claim: [payload, signatures], and in the payload [version, sender, nonce, valid
# until, fee, flags, operations, ...].

def transaction_head(bytes raw not None):
    """(sender, nonce, fee, number of operations) as the bytes claim, or None if they do not begin as a transaction of
    version 1. Nothing behind them is looked at."""
    cdef Reader reader
    cdef uint64_t argument = 0
    cdef uint64_t numbers[4]
    cdef const uint8_t* sender
    cdef int index
    reader.at = <const uint8_t*> PyBytes_AS_STRING(raw)
    reader.end = reader.at + PyBytes_GET_SIZE(raw)
    if not (_expect(&reader, 4, 2) and _read(&reader, 2, &argument)):
        return None
    if argument > <uint64_t> (reader.end - reader.at):
        return None
    reader.end = reader.at + argument
    if not (_expect(&reader, 4, 7) and _expect(&reader, 0, 1) and _expect(&reader, 2, 32)):
        return None
    if reader.end - reader.at < 32:
        return None
    sender = reader.at
    reader.at += 32
    for index in range(4):
        if not _read(&reader, 0, &numbers[index]):
            return None
    if not _read(&reader, 4, &argument) or argument == 0:
        return None
    return (<const char*> sender)[:32], numbers[0], numbers[2], argument


cdef bint _read(Reader* reader, int major, uint64_t* argument) noexcept nogil:
    return reader.at < reader.end and reader.at[0] >> 5 == major and head(reader, argument) == GOOD


cdef bint _expect(Reader* reader, int major, uint64_t wanted) noexcept nogil:
    cdef uint64_t argument = 0
    return _read(reader, major, &argument) and argument == wanted


# ------------------------------------------------------------ writing

cdef struct Writer:
    uint8_t* bytes
    size_t size
    size_t room


cdef bint _grow(Writer* writer, size_t more) noexcept nogil:
    cdef size_t room = writer.room * 2 if writer.room else 256
    cdef void* grown
    if room < writer.size + more:
        room = writer.size + more
    grown = realloc(writer.bytes, room)
    if grown == NULL:
        return False
    writer.bytes = <uint8_t*> grown
    writer.room = room
    return True


cdef bint _put_head(Writer* writer, int major, uint64_t argument) noexcept nogil:
    cdef int size, index
    cdef uint8_t* to
    if writer.room - writer.size < 9 and not _grow(writer, 9):
        return False
    to = writer.bytes + writer.size
    if argument < 24:
        to[0] = <uint8_t> (major << 5 | argument)
        writer.size += 1
        return True
    index = 0 if argument < 1 << 8 else 1 if argument < 1 << 16 else 2 if argument >> 32 == 0 else 3
    size = 1 << index
    to[0] = <uint8_t> (major << 5 | 24 + index)
    for index in range(size):
        to[1 + index] = <uint8_t> (argument >> (8 * (size - 1 - index)))
    writer.size += 1 + size
    return True


cdef bint _put_bytes(Writer* writer, int major, const char* data, size_t size) noexcept nogil:
    if not _put_head(writer, major, size):
        return False
    if writer.room - writer.size < size and not _grow(writer, size):
        return False
    memcpy(writer.bytes + writer.size, data, size)
    writer.size += size
    return True


cdef int _put(Writer* writer, object value, int depth) except -1:
    """1: written; 0: a value that has no canonical form, or that is left to the slower encoder."""
    cdef Py_ssize_t size
    cdef const char* text
    kind = type(value)
    if kind is bytes:
        return _put_bytes(writer, 2, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if kind is int:
        try:
            return _put_head(writer, 0, <uint64_t> value) if value >= 0 else _put_negative(writer, value)
        except OverflowError:
            return 0
    if kind is str:
        try:
            text = PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError:
            return 0
        return _put_bytes(writer, 3, text, size)
    if value is None:
        return _put_head(writer, 7, 22)
    if kind is bool:
        return _put_head(writer, 7, 21 if value else 20)
    if depth == 0:
        return 0
    if kind is list:
        if not _put_head(writer, 4, len(<list> value)):
            return 0
        for part in <list> value:
            if not _put(writer, part, depth - 1):
                return 0
        return 1
    if kind is tuple:
        if not _put_head(writer, 4, len(<tuple> value)):
            return 0
        for part in <tuple> value:
            if not _put(writer, part, depth - 1):
                return 0
        return 1
    if kind is dict:
        return _put_map(writer, <dict> value, depth)
    return 0


cdef int _put_negative(Writer* writer, object value) except -1:
    cdef uint64_t argument = -1 - value
    return 0 if argument >> 63 else _put_head(writer, 1, argument)


cdef int _put_map(Writer* writer, dict value, int depth) except -1:
    cdef list keys = list(value)
    if all([type(key) is int for key in keys]):
        keys.sort()
    elif all([type(key) is str for key in keys]):
        try:
            keys.sort(key=_text_order)
        except UnicodeEncodeError:
            return 0
    else:
        return 0
    if keys and type(keys[0]) is int and keys[0] < 0:
        return 0
    if not _put_head(writer, 5, len(keys)):
        return 0
    for key in keys:
        if not _put(writer, key, 1) or not _put(writer, value[key], depth - 1):
            return 0
    return 1


def _text_order(str key):
    raw = key.encode()
    return len(raw), raw


def canonical(value, int max_depth):
    """The canonical bytes of a value nested at most `max_depth` levels; None if it has none, or another encoder is to
    say so."""
    cdef Writer writer
    writer.bytes = NULL
    writer.size = writer.room = 0
    try:
        if not _put(&writer, value, max_depth):
            return None
        return PyBytes_FromStringAndSize(<char*> writer.bytes, writer.size)
    finally:
        free(writer.bytes)


cdef object in_tuples(object value):
    cdef list items
    if type(value) is not list:
        return value
    items = <list>value
    return tuple([in_tuples(item) for item in items])


def tuples(value):
    """A decoded value with tuples in the place of its lists, inside too."""
    return in_tuples(value)
