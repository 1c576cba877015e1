# cython: boundscheck=False, wraparound=False
"""Rows of a checkpoint: what each block of several changed, key by key, in the order in which the database keeps them."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef uint64_t MAX_END = 0xFFFFFFFF


cdef inline void write_u32(uint8_t* out, uint64_t value) noexcept:
    out[0] = <uint8_t> (value >> 24)
    out[1] = <uint8_t> (value >> 16)
    out[2] = <uint8_t> (value >> 8)
    out[3] = <uint8_t> value


cdef bytes joined(bytes first, bytes second):
    cdef Py_ssize_t head = PyBytes_GET_SIZE(first), tail = PyBytes_GET_SIZE(second)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, head + tail)
    memcpy(PyBytes_AS_STRING(made), PyBytes_AS_STRING(first), head)
    memcpy(PyBytes_AS_STRING(made) + head, PyBytes_AS_STRING(second), tail)
    return made


def gather(blocks):
    """`{key: [number of the block, value, number, value, ...]}` of the changes of several blocks, in their order."""
    cdef dict found = {}
    cdef object number, value
    cdef list entries
    cdef int at = 0
    for changes in blocks:
        number = at
        for key, value in changes.items():
            if type(key) is not bytes or not (value is None or type(value) is bytes):
                raise TypeError(f"a change is bytes to bytes or None, not {type(key).__name__} to "
                                f"{type(value).__name__}")
            entries = <list> found.get(key)
            if entries is None:
                found[key] = [number, value]
            else:
                entries.append(number)
                entries.append(value)
        at += 1
    return found


def advance(list touched not None, dict gathered not None, dict before not None, list suffixes not None,
            bytes absent not None, bytes present not None):
    """Steps through the changes of each of the keys `touched`, ascending; `before` has their values in the database.

    `suffixes` has per block what follows a key in a row of history, or None for a block without history. Returns
    (rows of history, rows to put, keys to delete, per block the keys that it really changed), all ascending: no key is
    the beginning of another one.
    """
    cdef list rows = [], puts = [], gone = [], changed = [[] for _ in suffixes]
    cdef list entries
    cdef bytes key, suffix
    cdef object now, first, value
    cdef Py_ssize_t at, number
    for key in touched:
        first = now = before.get(key)
        entries = <list> gathered[key]
        for at in range(0, PyList_GET_SIZE(entries), 2):
            value = entries[at + 1]
            if value is now or value == now:
                continue
            number = entries[at]
            suffix = suffixes[number]
            if suffix is not None:
                rows.append((joined(key, suffix), absent if now is None else joined(present, now)))
            (<list> changed[number]).append(key)
            now = value
        if now is first or now == first:
            continue
        if now is None:
            gone.append(key)
        else:
            puts.append((key, now))
    return rows, puts, gone, changed


def pack(items):
    """Count, the end of each item, the items; all numbers are 4 bytes, big-endian. Raises OverflowError."""
    cdef list kept = list(items)
    cdef Py_ssize_t count = len(kept), index
    cdef uint64_t end = 0
    cdef bytes item, made
    cdef uint8_t* out
    cdef uint8_t* body
    for item in kept:
        if item is None:
            raise TypeError("an item is bytes, not None")
        end += PyBytes_GET_SIZE(item)
    if end > MAX_END or <uint64_t> count > MAX_END:
        raise OverflowError(f"{count} items of {end} bytes in all; {MAX_END} are allowed")
    made = PyBytes_FromStringAndSize(NULL, 4 + 4 * count + <Py_ssize_t> end)
    out = <uint8_t*> PyBytes_AS_STRING(made)
    write_u32(out, count)
    body = out + 4 + 4 * count
    end = 0
    for index in range(count):
        item = <bytes> kept[index]
        memcpy(body + end, PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item))
        end += PyBytes_GET_SIZE(item)
        write_u32(out + 4 + 4 * index, end)
    return made
