# cython: boundscheck=False, wraparound=False
"""Rows of a checkpoint: what each block of several changed, key by key, in the order in which the database keeps them."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef uint64_t MAX_END = 0xFFFFFFFF
cdef uint64_t PRIME = 0x100000001B3     # of FNV-1a
cdef uint64_t MIXER = 0x9E3779B97F4A7C15    # of Fibonacci hashing


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


cdef bint read_masks(bytes page, int* leaves, int* children) noexcept:
    """Whether these are a trie page's bytes (`native/trie.pyx`), by their length."""
    cdef const uint8_t* raw = <const uint8_t*> PyBytes_AS_STRING(page)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(page), wanted = 4
    cdef int index
    if size < 4:
        return False
    leaves[0] = raw[0] << 8 | raw[1]
    children[0] = raw[2] << 8 | raw[3]
    if leaves[0] & children[0]:
        return False
    for index in range(16):
        wanted += 64 * (leaves[0] >> index & 1) + 32 * (children[0] >> index & 1)
    return size == wanted


cdef inline int width(int leaves, int children, int index) noexcept:
    return 64 * (leaves >> index & 1) + 32 * (children >> index & 1)


cdef bytes difference(bytes old, bytes new):
    """What page `old` has otherwise than `new`; None where that is not less than half of `old`, or these are no pages."""
    cdef uint8_t out[7 + 16 * 64]
    cdef const uint8_t* ours = <const uint8_t*> PyBytes_AS_STRING(old) + 4
    cdef const uint8_t* theirs = <const uint8_t*> PyBytes_AS_STRING(new) + 4
    cdef int old_leaves = 0, old_children = 0, leaves = 0, children = 0, index, here, there, marks = 0
    cdef Py_ssize_t used = 7
    if not read_masks(old, &old_leaves, &old_children) or not read_masks(new, &leaves, &children):
        return None
    for index in range(16):
        here = width(old_leaves, old_children, index)
        there = width(leaves, children, index)
        if here and (here != there or memcmp(ours, theirs, here) != 0):
            marks |= 1 << index
            memcpy(out + used, ours, here)
            used += here
        ours += here
        theirs += there
    if 2 * used >= PyBytes_GET_SIZE(old):
        return None
    out[0] = 2
    memcpy(out + 1, PyBytes_AS_STRING(old), 4)
    out[5] = <uint8_t> (marks >> 8)
    out[6] = <uint8_t> marks
    return PyBytes_FromStringAndSize(<char*> out, used)


def restore(bytes newer not None, bytes row not None):
    """The page that `row`, made by `difference`, tells of, from the one after it. Raises ValueError if they do not fit."""
    cdef uint8_t out[4 + 16 * 64]
    cdef const uint8_t* stored = <const uint8_t*> PyBytes_AS_STRING(row)
    cdef const uint8_t* later = <const uint8_t*> PyBytes_AS_STRING(newer) + 4
    cdef int old_leaves, old_children, leaves = 0, children = 0, index, here, there, marks
    cdef Py_ssize_t used = 4, at = 7, size = PyBytes_GET_SIZE(row)
    if size < 7 or stored[0] != 2 or not read_masks(newer, &leaves, &children):
        raise ValueError("no difference of two pages")
    old_leaves = stored[1] << 8 | stored[2]
    old_children = stored[3] << 8 | stored[4]
    marks = stored[5] << 8 | stored[6]
    if old_leaves & old_children or marks & ~(old_leaves | old_children):
        raise ValueError("the masks of a difference contradict each other")
    memcpy(out, stored + 1, 4)
    for index in range(16):
        here = width(old_leaves, old_children, index)
        there = width(leaves, children, index)
        if marks >> index & 1:
            if at + here > size:
                raise ValueError("a difference is cut off")
            memcpy(out + used, stored + at, here)
            at += here
        elif here:
            if here != there:
                raise ValueError("a difference does not belong to this page")
            memcpy(out + used, later, here)
        used += here
        later += there
    if at != size:
        raise ValueError("a difference has bytes left over")
    return PyBytes_FromStringAndSize(<char*> out, used)


cdef inline bint whole(bytes row) noexcept:
    """One row in eight, as good as at random, is a whole page: reading one back soon meets one."""
    cdef const uint8_t* raw = <const uint8_t*> PyBytes_AS_STRING(row)
    cdef uint64_t mixed = 0x6BF29CE484222325
    cdef Py_ssize_t index
    for index in range(PyBytes_GET_SIZE(row)):
        mixed = (mixed ^ raw[index]) * PRIME
    return not mixed * MIXER >> 61      # the height, which comes last, has not reached all bits of `mixed`


def gather(blocks):
    """`{key: (number of the block, value)}` of the changes of several blocks; a list `[number, value, number, value, ...]`
    of keys that more than one changed, in their order."""
    cdef dict found = {}
    cdef object number, value, entries
    cdef int at = 0
    for changes in blocks:
        number = at
        for key, value in changes.items():
            if type(key) is not bytes or not (value is None or type(value) is bytes):
                raise TypeError(f"a change is bytes to bytes or None, not {type(key).__name__} to "
                                f"{type(value).__name__}")
            entries = found.setdefault(key, (number, value))
            if type(entries) is list:
                (<list> entries).append(number)
                (<list> entries).append(value)
            elif (<tuple> entries)[0] is not number:
                found[key] = [(<tuple> entries)[0], (<tuple> entries)[1], number, value]
        at += 1
    return found


def advance(list touched not None, dict gathered not None, list before not None, list suffixes not None,
            bytes absent not None, bytes present not None, bint pages):
    """Steps through the changes of each of the keys `touched`, ascending; `before` has (key, value) of those that the
    database has, ascending.

    `suffixes` has per block what follows a key in a row of history, or None for a block without history. Of `pages` of
    the trie most rows hold but the difference from the page after the block, which `restore` undoes. Returns
    (rows of history, rows to put, keys to delete, per block the keys that it really changed), all ascending: no key is
    the beginning of another one.
    """
    cdef list rows = [], puts = [], gone = [], changed = [[] for _ in suffixes]
    cdef tuple held
    cdef bytes key, suffix, row, made
    cdef object entries, now, first, value
    cdef Py_ssize_t at, number, met = 0, size
    for key in touched:
        first = now = None
        if met < PyList_GET_SIZE(before):
            held = <tuple> before[met]
            if held[0] == key:
                first = now = held[1]
                met += 1
        entries = gathered[key]
        size = PyTuple_GET_SIZE(entries) if type(entries) is tuple else PyList_GET_SIZE(entries)
        for at in range(0, size, 2):
            value = (<tuple> entries)[at + 1] if type(entries) is tuple else (<list> entries)[at + 1]
            if value is now or value == now:
                continue
            number = (<tuple> entries)[at] if type(entries) is tuple else (<list> entries)[at]
            suffix = suffixes[number]
            if suffix is not None:
                row = joined(key, suffix)
                made = None
                if pages and now is not None and value is not None and not whole(row):
                    made = difference(now, value)
                if made is None:
                    made = absent if now is None else joined(present, now)
                rows.append((row, made))
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
