# cython: language_level=3, boundscheck=False, wraparound=False
"""The canonical CBOR of a record's fields, both ways: integers of 64 bits, bytes, text, true, false, null and tuples of
these. `gridtokenx.ledger.records` says which record has which fields.

A record is small and there are hundreds in a block, so that a general encoder spends most of its time on being called.
`Form` reads and writes the records themselves, without making arrays of them.
Decoding is for bytes that this chain wrote; whatever else it is given is refused with FieldsError.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Realloc
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from gridtokenx.errors import InvariantError

include "slots.pxi"

MOST_ATTRIBUTES = MOST_SLOTS

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? 0xFFFFFFFFFFFFFFFF
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    bint PyLong_Check(object value)

cdef enum:
    MAX_DEPTH = 16
    UNSIGNED = 0
    NEGATIVE = 1 << 5
    BYTES = 2 << 5
    TEXT = 3 << 5
    ARRAY = 4 << 5
    FALSE = 0xF4
    TRUE = 0xF5
    NULL_VALUE = 0xF6


class FieldsError(InvariantError):
    """A field that a record cannot hold, or bytes that are not a record's."""


cdef uint8_t* _buffer = NULL       # used by one call at a time: nothing in between lets go of the interpreter
cdef Py_ssize_t _capacity = 0


cdef int reserve(Py_ssize_t size) except -1:
    global _buffer, _capacity
    cdef uint8_t* grown
    if size > _capacity:
        grown = <uint8_t*>PyMem_Realloc(_buffer, 2 * size + 4096)
        if grown == NULL:
            raise MemoryError
        _buffer, _capacity = grown, 2 * size + 4096
    return 0


cdef inline Py_ssize_t put_head(Py_ssize_t at, int major, uint64_t argument) noexcept:
    """Writes at most 9 bytes, which are there; returns where they end."""
    cdef int size, shift
    if argument < 24:
        _buffer[at] = <uint8_t>(major | argument)
        return at + 1
    if argument < 0x100:
        _buffer[at] = <uint8_t>(major | 24)
        size = 1
    elif argument < 0x10000:
        _buffer[at] = <uint8_t>(major | 25)
        size = 2
    elif argument < 0x100000000:
        _buffer[at] = <uint8_t>(major | 26)
        size = 4
    else:
        _buffer[at] = <uint8_t>(major | 27)
        size = 8
    at += 1
    shift = 8 * size
    while shift:
        shift -= 8
        _buffer[at] = <uint8_t>(argument >> shift)
        at += 1
    return at


cdef Py_ssize_t put(object value, Py_ssize_t at, int depth) except -1:
    """Writes one value; returns where it ends."""
    cdef int overflow = 0
    cdef long long number
    cdef Py_ssize_t size, index
    cdef const char* text
    cdef bint is_tuple
    reserve(at + 16)
    if type(value) is int or (PyLong_Check(value) and type(value) is not bool):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow == 0:
            if number >= 0:
                return put_head(at, UNSIGNED, <uint64_t>number)
            return put_head(at, NEGATIVE, <uint64_t>(-1 - number))
        if overflow > 0 and value < 1 << 64:
            return put_head(at, UNSIGNED, PyLong_AsUnsignedLongLong(value))
        raise FieldsError(f"{value} needs more than 64 bits")
    if type(value) is bytes:
        size = PyBytes_GET_SIZE(value)
        reserve(at + 16 + size)
        at = put_head(at, BYTES, size)
        memcpy(_buffer + at, PyBytes_AS_STRING(value), size)
        return at + size
    is_tuple = type(value) is tuple
    if is_tuple or type(value) is list:
        if depth >= MAX_DEPTH:
            raise FieldsError(f"nested deeper than {MAX_DEPTH} levels")
        size = PyTuple_GET_SIZE(value) if is_tuple else PyList_GET_SIZE(value)
        at = put_head(at, ARRAY, size)
        for index in range(size):
            at = put(<object>PyTuple_GET_ITEM(value, index) if is_tuple else <object>PyList_GET_ITEM(value, index), at,
                     depth + 1)
        return at
    if type(value) is str:
        text = PyUnicode_AsUTF8AndSize(value, &size)
        reserve(at + 16 + size)
        at = put_head(at, TEXT, size)
        memcpy(_buffer + at, text, size)
        return at + size
    if value is None or type(value) is bool:
        _buffer[at] = NULL_VALUE if value is None else TRUE if value else FALSE
        return at + 1
    raise FieldsError(f"{type(value).__name__} is no field of a record")


def encode(fields not None):
    """The canonical array of a tuple or list. Raises FieldsError for what a record cannot hold."""
    cdef Py_ssize_t size = put(fields, 0, 0)
    return PyBytes_FromStringAndSize(<char*>_buffer, size)


# ------------------------------------------------------------------ decoding


cdef struct Reader:
    const uint8_t* at
    const uint8_t* end


cdef int short() except -1:
    raise FieldsError("the bytes end inside a value")


cdef object take(Reader* reader, int depth):
    cdef int low, major, size
    cdef uint64_t argument = 0
    cdef Py_ssize_t index, length
    cdef object item
    cdef tuple made
    if reader.at >= reader.end:
        short()
    low = reader.at[0] & 31
    major = reader.at[0] & 0xE0
    reader.at += 1
    if major == 0xE0:
        if low == FALSE & 31 or low == TRUE & 31:
            return low == TRUE & 31
        if low == NULL_VALUE & 31:
            return None
        raise FieldsError("a float or simple value; a record has none")
    if low < 24:
        argument = low
    elif low <= 27:
        size = 1 << (low - 24)
        if reader.end - reader.at < size:
            short()
        while size:
            argument = argument << 8 | reader.at[0]
            reader.at += 1
            size -= 1
    else:
        raise FieldsError("an indefinite length; a record has none")
    if major == UNSIGNED:
        return argument
    if major == NEGATIVE:
        if argument >> 63:
            raise FieldsError("an integer below -2^63")
        return -1 - <long long>argument
    if argument > <uint64_t>(reader.end - reader.at):
        short()
    length = <Py_ssize_t>argument
    if major == BYTES:
        item = PyBytes_FromStringAndSize(<char*>reader.at, length)
        reader.at += length
        return item
    if major == TEXT:
        item = PyUnicode_DecodeUTF8(<char*>reader.at, length, NULL)
        reader.at += length
        return item
    if major != ARRAY:
        raise FieldsError("a map or tag; a record has none")
    if depth >= MAX_DEPTH:
        raise FieldsError(f"nested deeper than {MAX_DEPTH} levels")
    made = PyTuple_New(length)
    for index in range(length):
        item = take(reader, depth + 1)
        Py_INCREF(item)
        PyTuple_SET_ITEM(made, index, item)
    return made


def decode(bytes raw not None):
    """The fields that `encode` gave as a tuple; arrays inside are tuples too. Raises FieldsError."""
    cdef Reader reader
    reader.at = <const uint8_t*>PyBytes_AS_STRING(raw)
    reader.end = reader.at + PyBytes_GET_SIZE(raw)
    if reader.at < reader.end and reader.at[0] & 0xE0 != ARRAY:
        raise FieldsError("a record is an array")
    fields = take(&reader, 0)
    if reader.at != reader.end:
        raise FieldsError("bytes after the record")
    return fields


# ------------------------------------------------------------------ records


cdef class Form(Shape):
    """A class of records and its canonical array: the attributes in their order.

    Those after the first `least` are left out from the first on after which all are 0 or empty. `defaults` are what
    attributes have that the bytes do not name; it ends with the last attribute.
    """

    cdef tuple defaults

    def __init__(self, type cls not None, tuple names not None, tuple defaults not None, Py_ssize_t least=MOST_SLOTS):
        Shape.__init__(self, cls, names)
        self.defaults, self.least = defaults, least

    def write(self, record not None):
        """The canonical bytes of a record of the class."""
        cdef Py_ssize_t size = self.size, at, i
        if type(record) is not self.cls:
            raise TypeError(f"a {type(record).__name__} is no {self.cls.__name__}")
        while size > self.least and not self.get(record, size - 1):
            size -= 1
        reserve(16)
        at = put_head(0, ARRAY, size)
        for i in range(size):
            at = put(self.get(record, i), at, 1)
        return PyBytes_FromStringAndSize(<char*>_buffer, at)

    def read(self, bytes raw not None):
        """The record that `write` gave the bytes of. Raises FieldsError."""
        cdef Reader reader
        cdef Py_ssize_t size, i
        cdef object record = self.new()
        reader.at = <const uint8_t*>PyBytes_AS_STRING(raw)
        reader.end = reader.at + PyBytes_GET_SIZE(raw)
        if reader.at == reader.end or reader.at[0] & 0xE0 != ARRAY:
            raise FieldsError("a record is an array")
        if reader.at[0] & 31 < 24:
            size = reader.at[0] & 31
            reader.at += 1
        elif reader.at[0] & 31 == 24 and reader.end - reader.at > 1:
            size = reader.at[1]
            reader.at += 2
        else:
            raise FieldsError("more attributes than a record has")
        if size > self.size or size < self.size - len(self.defaults):
            raise FieldsError(f"{size} attributes; a {self.cls.__name__} has {self.size}")
        for i in range(size):
            self.set(record, i, take(&reader, 1))
        if reader.at != reader.end:
            raise FieldsError("bytes after the record")
        for i in range(size, self.size):
            self.set(record, i, self.defaults[i - self.size + len(self.defaults)])
        return record
