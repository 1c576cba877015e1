# What other kernels call in `gridtokenx._native.state` without going through Python.

from libc.stdint cimport uint64_t
from cpython.object cimport PyObject


cdef class Values:
    cdef list _known        # by space; None: not remembered
    cdef dict _readers, _chain, _writers
    cdef int _chain_space
    cdef Py_ssize_t _count, _most

    cpdef object decode(self, bytes key, bytes raw)
    cpdef bytes encode(self, bytes key, object value)
    cdef int _remember(self, int space, bytes raw, object value) except -1


cdef class Entry:
    cdef bytes key
    cdef bytes raw          # the canonical bytes that the parent has, or None
    cdef object before      # the record that was read of them; None while none was
    cdef object now         # a record, or the canonical bytes of one that nobody asked for yet
    cdef bint changed
    cdef uint64_t head      # what `head_of` makes of the key, once it is changed


cdef inline object former(Entry entry):
    """What was at the entry's key: a record, the bytes of one that nobody asked for, or None."""
    return entry.before if entry.before is not None else entry.raw


cdef class Changes:
    cdef list entries       # by ascending key
    cdef list raws          # what `encode` made: the bytes that each of their keys is to hold, or None; None: not yet
    cdef dict known         # what `encoded` made
    cdef Values values

    cdef tuple _row(self, Entry entry)
    cdef object _record(self, bytes key, object value)
    cdef Py_ssize_t _first(self, bytes key) noexcept
    cdef list _under(self, int space)


cdef class _Shelf:
    cdef uint64_t number
    cdef dict values
    cdef list ascending, fresh      # its keys; those that came since they were put in order

    cdef list keys(self)


cdef class _Shelves:
    cdef list all
    cdef PyObject** places      # open addressing: at least half of them are free
    cdef size_t mask
    cdef int bits

    cdef int _grow(self, int bits) except -1
    cdef int _place(self, _Shelf shelf) noexcept
    cdef PyObject* at(self, uint64_t number) noexcept
    cdef _Shelf new(self, uint64_t number)


cdef class Merged:
    cdef readonly object base
    cdef readonly dict pages
    cdef bint[256] _of_windows
    cdef _Shelves _shelves
    cdef list _numbers          # by space, the numbers of its shelves, ascending; None: there are none
    cdef Py_ssize_t _size       # keys of all
    cdef dict _read, _read_pages
    cdef list _last             # by space, the last key that `base` has of it, or b""; None: not asked yet

    cdef dict _known(self, Py_ssize_t most)
    cdef uint64_t _number(self, bytes key, int space) noexcept
    cdef _Shelf _new_shelf(self, uint64_t number, int space)
    cdef int _put(self, bytes key, object value) except -1
    cdef bint reach(self, bytes key) except -1
    cdef object find(self, bytes key)
    cdef object find_page(self, bytes path)


cdef class Rows:
    cdef Merged merged


cdef class Layer:
    cdef public object parent, header
    cdef public Merged recent
    cdef dict _changes          # None: still as `_made` or `_merged` has them
    cdef Changes _made
    cdef Merged _merged
    cdef readonly dict pages

    cdef dict known(self)
    cdef object find(self, bytes key)


cdef class Working:
    cdef readonly object parent
    cdef public object height, release_due
    cdef Values _values
    cdef Layer _layer           # the parent, where it is one
    cdef dict _entries
    cdef list _journal          # (entry, what it was), one after the other
    cdef list _changed          # by space, entries that were ever changed, most in the order of their keys; None: none
    cdef Py_ssize_t _touched

    cdef Entry _found(self, bytes key, object raw)
    cdef Entry entry(self, bytes key)
    cdef object now(self, bytes key)
    cdef object record_of(self, Entry entry)
    cdef int set(self, Entry entry, object value) except -1
    cdef bint _differs(self, Entry entry) except -1
    cdef Entry _met(self, bytes key, object raw)
