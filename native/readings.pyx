# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Readings of a transaction, hundreds at a time: those that are plain, which are nearly all. What is not, and whatever is
wrong, is left to the rules of `gridtokenx.market.readings`.

Plain is a first reading of a household's meter, within its capacity, reported by one who may, before the deadline.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

include "plain.pxi"

cdef enum:
    FIELDS = 7
    SIGNATURE = 6
    CORRECTED = 2
    HEAD_MOST = 9
    QUARTERS = 4
    # Attributes of a meter.
    OWNER = 0
    KEY = 2
    ZONE = 3
    INJECTION = 7
    WITHDRAWAL = 8
    SINCE = 9
    BOUNDARY = 10


cdef inline uint8_t* put(uint8_t* at, uint64_t value) noexcept:
    """An unsigned integer in its shortest form."""
    cdef int size, i
    if value < 24:
        at[0] = <uint8_t>value
        return at + 1
    size = 1 if value < 0x100 else 2 if value < 0x10000 else 4 if value < <uint64_t>0x100000000 else 8
    at[0] = <uint8_t>(24 if size == 1 else 25 if size == 2 else 26 if size == 4 else 27)
    for i in range(size):
        at[1 + i] = <uint8_t>(value >> (8 * (size - 1 - i)))
    return at + 1 + size


cdef class Readings:
    """The kernel; made once, with the records' classes by name, their spaces, and the greatest numbers that fields of an
    operation may have, in their order. ValueError when a class has other attributes than it knows."""

    cdef Shape meter, reading, signed
    cdef uint8_t meter_space, reading_space
    cdef int64_t window_ms
    cdef int64_t[SIGNATURE] most
    cdef Py_ssize_t signature_bytes

    def __init__(self, dict classes not None, spaces not None, tuple most not None, *, window_ms, signature_bytes):
        cdef int i
        self.meter, self.reading, self.signed = (shape_of(classes, name) for name in ("Meter", "Reading", "SignedReading"))
        self.meter_space, self.reading_space = spaces["METER"], spaces["READING"]
        self.window_ms, self.signature_bytes = window_ms, signature_bytes
        for i in range(SIGNATURE):
            self.most[i] = most[i]

    cdef int64_t number(self, object reading, int field) except? -1:
        """A field of a reading that `parse` made."""
        return self.signed.get(reading, field)

    def parse(self, tuple entries not None):
        """The readings that the fields of an operation hold; None when one of them is not what it must be."""
        cdef list made = []
        cdef object entry, reading, signature
        cdef int64_t number
        cdef int i
        for entry in entries:
            if type(entry) is not tuple or len(<tuple>entry) != FIELDS:
                return None
            for i in range(SIGNATURE):
                if not read_between((<tuple>entry)[i], i == 0, self.most[i], &number):
                    return None
            signature = (<tuple>entry)[SIGNATURE]
            if type(signature) is not bytes or PyBytes_GET_SIZE(signature) != self.signature_bytes:
                return None
            reading = self.signed.new()
            for i in range(FIELDS):
                self.signed.set(reading, i, (<tuple>entry)[i])
            made.append(reading)
        return tuple(made)

    def check(self, session, readings, bytes sender not None, uint64_t zones, opened):
        """Of each reading its meter, or None where the reading is not plain; `opened(window)` says for windows whether
        readings of them can be."""
        cdef list found = []
        cdef object get = session.get, meter, reading
        cdef bytes key
        cdef int64_t window = -1, of, numbers[4], zone, since, boundary, injection, withdrawal
        cdef uint8_t* at
        cdef bint is_open = False
        cdef int i
        for reading in readings:
            found.append(None)
            if type(reading) is not self.signed.cls:
                continue
            for i in range(4):
                numbers[i] = self.number(reading, i)
            of = numbers[1]
            if of != window:
                window, is_open = of, opened(of)
            if not is_open:
                continue
            key = PyBytes_FromStringAndSize(NULL, 5)
            at = <uint8_t*>PyBytes_AS_STRING(key)
            at[0] = self.meter_space
            for i in range(4):
                at[1 + i] = <uint8_t>(numbers[0] >> (24 - 8 * i))
            meter = get(key)
            if type(meter) is not self.meter.cls:
                continue
            zone, since, boundary = self.meter.get(meter, ZONE), self.meter.get(meter, SINCE), self.meter.get(meter, BOUNDARY)
            injection, withdrawal = self.meter.get(meter, INJECTION), self.meter.get(meter, WITHDRAWAL)
            if boundary or of * self.window_ms < since or not (
                    (0 <= zone < 64 and zones >> zone & 1) or self.meter.get(meter, OWNER) == sender):
                continue
            if numbers[2] > injection // QUARTERS or numbers[3] > withdrawal // QUARTERS or (
                    self.number(reading, 4) == CORRECTED) != (self.number(reading, 5) > 0):
                continue
            found[len(found) - 1] = meter
        return found

    def signed_by(self, meter, reading, bytes prefix not None):
        """(the meter's key, the signature, what it is over) of a reading: `prefix` and its payload."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix)
        cdef uint8_t payload[1 + 5 * HEAD_MOST]
        cdef uint8_t* at = payload + 1
        cdef bytes message
        cdef int i
        payload[0] = 0x85
        for i in range(1, SIGNATURE):
            at = put(at, self.number(reading, i))
        message = PyBytes_FromStringAndSize(NULL, size + (at - payload))
        memcpy(PyBytes_AS_STRING(message), PyBytes_AS_STRING(prefix), size)
        memcpy(PyBytes_AS_STRING(message) + size, payload, at - payload)
        return self.meter.get(meter, KEY), self.signed.get(reading, SIGNATURE), message

    def take(self, session, readings, list meters not None, list good not None, Py_ssize_t index, in_time):
        """Puts readings from the one at `index` on into state, up to one that is not plain, whose signature is not good, or
        whose window's deadline has passed; returns the index of that one."""
        cdef object get = session.get, put_ = session.put, reading, made, key, height = session.height
        cdef int64_t window = -1, number, of
        cdef uint8_t* at
        cdef bint due = False
        cdef Py_ssize_t count = len(readings)
        cdef int i
        while index < count:
            reading = readings[index]
            if meters[index] is None or not good[index]:
                break
            of, number = self.number(reading, 1), self.number(reading, 0)
            if of != window:
                window, due = of, not in_time(of)
            if due:
                break
            key = PyBytes_FromStringAndSize(NULL, 9)
            at = <uint8_t*>PyBytes_AS_STRING(key)
            at[0] = self.reading_space
            for i in range(4):
                at[1 + i] = <uint8_t>(of >> (24 - 8 * i))
                at[5 + i] = <uint8_t>(number >> (24 - 8 * i))
            if get(key) is not None:
                break
            made = self.reading.new()
            for i in range(4):
                self.reading.set(made, i, self.signed.get(reading, 2 + i))
            self.reading.set(made, 4, height)
            put_(key, made)
            index += 1
        return index
