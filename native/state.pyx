# cython: language_level=3, boundscheck=False, wraparound=False
"""What a block reads and writes, on its way between records and bytes: a block asks for hundreds of thousands of records
a day, most of them new ones that no state holds.

`gridtokenx.ledger` has the rules: `schema` which record a key holds (`Values`), `state` what lies over what (`Layer`,
`Merged`), `session` how a block works on it (`Working`) and what it changed (`Changes`).
"""

from bisect import bisect_left, bisect_right, insort

from cython cimport freelist, no_gc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

cdef bytes EMPTY = b""


cdef inline int space_of(bytes key) except -1:
    if PyBytes_GET_SIZE(key) == 0:
        raise KeyError("a key has at least the byte of its space")
    return (<const uint8_t*>PyBytes_AS_STRING(key))[0]


cdef inline bint below(bytes first, bytes second) noexcept:
    cdef Py_ssize_t a = PyBytes_GET_SIZE(first), b = PyBytes_GET_SIZE(second)
    cdef int order = memcmp(PyBytes_AS_STRING(first), PyBytes_AS_STRING(second), min(a, b))
    return order < 0 or (order == 0 and a < b)


include "values.pxi"
include "changes.pxi"
include "layers.pxi"


cdef class Working:
    """Records read through `parent` once, and changed as objects or as bytes; every change can be undone."""

    def __init__(self, object parent, object height, object release_due, Values values not None):
        self.parent, self.height, self.release_due = parent, height, release_due
        self._layer = parent if isinstance(parent, Layer) else None
        self._values = values
        self._entries, self._journal, self._changed, self._touched = {}, [], [None] * 256, 0

    cdef Entry _found(self, bytes key, object raw):
        cdef Entry entry = Entry.__new__(Entry)
        entry.key = key
        entry.raw = entry.now = raw
        self._entries[key] = entry
        return entry

    cdef Entry entry(self, bytes key):
        """What stands at `key`: `now` of it may be read, `set` and `record_of` take it."""
        cdef PyObject* known = PyDict_GetItemWithError(self._entries, key)
        if known != NULL:
            return <Entry>known
        return self._found(key, self.parent.get(key) if self._layer is None else self._layer.find(key))

    cdef object now(self, bytes key):
        """What stands at `key`, for whoever looks once and does not change it: nothing is kept of it."""
        cdef PyObject* known = PyDict_GetItemWithError(self._entries, key)
        if known != NULL:
            return (<Entry>known).now
        return self.parent.get(key) if self._layer is None else self._layer.find(key)

    cdef object record_of(self, Entry entry):
        """The record of an entry, made of its bytes when nobody asked for it before."""
        if type(entry.now) is not bytes:
            return entry.now
        value = self._values.decode(entry.key, <bytes>entry.now)
        if entry.now is entry.raw:
            entry.before = value
        entry.now = value
        return value

    cdef int set(self, Entry entry, object value) except -1:
        """`put` at the entry's key."""
        cdef int space
        self._journal.append(entry)
        self._journal.append(entry.now)
        if not entry.changed:
            space = space_of(entry.key)
            entry.changed, entry.head = True, head_of(entry.key)
            self._touched += 1
            if self._changed[space] is None:
                self._changed[space] = []
            (<list>self._changed[space]).append(entry)
        entry.now = value
        return 0

    def get(self, bytes key not None):
        """The record at `key` as it stands now, or None."""
        return self.record_of(self.entry(key))

    def peek(self, bytes key not None):
        """The same, but as its canonical bytes where nobody asked for the record yet."""
        return self.entry(key).now

    def record(self, bytes key not None, object value):
        """The record of a `value` that `key` holds, given as the record itself, as its bytes, or None."""
        return self._values.decode(key, <bytes>value) if type(value) is bytes else value

    def put(self, bytes key not None, object value):
        """Sets the record at `key`, given as a record or as its canonical bytes; None removes it."""
        self.set(self.entry(key), value)

    def mark(self):
        """A point that `rollback` returns to."""
        return len(self._journal)

    def rollback(self, Py_ssize_t mark):
        """Undoes every `put` since `mark`."""
        cdef list journal = self._journal
        while len(journal) > mark:
            value = journal.pop()
            (<Entry>journal.pop()).now = value

    @property
    def keys_touched(self):
        """At least as many as `changed` gives."""
        return self._touched

    def changed(self):
        """The `Changes` that this block makes: what is as it was is none of them."""
        cdef Changes changes = Changes.__new__(Changes)
        cdef Entry entry
        changes.values, changes.entries = self._values, []
        for entries in self._changed:
            if entries is not None:
                for entry in ascending(<list>entries):
                    if self._differs(entry):
                        changes.entries.append(entry)
        return changes

    cdef bint _differs(self, Entry entry) except -1:
        cdef object now = entry.now
        if now is None or entry.raw is None:
            return now is not entry.raw
        if type(now) is bytes:      # they are canonical: the same record has the same
            return not (now is entry.raw or <bytes>now == entry.raw)
        if now is entry.before:
            return False
        if entry.before is None:
            entry.before = self._values.decode(entry.key, entry.raw)
        return now != entry.before

    def scan(self, bytes prefix not None):
        """Keys of the *parent's* state under `prefix` that still stand, with their records as they are now.

        Keys added in this block are not met: callers look for what was due or listed before it.
        """
        cdef Entry entry
        for key, raw in self.parent.scan(prefix):
            entry = self._met(key, raw)
            if entry.now is not None:
                yield key, self.record_of(entry)

    def rows(self, bytes prefix not None):
        """`scan` with what `peek` gives."""
        cdef Entry entry
        for key, raw in self.parent.scan(prefix):
            entry = self._met(key, raw)
            if entry.now is not None:
                yield key, entry.now

    cdef inline Entry _met(self, bytes key, object raw):
        cdef PyObject* known = PyDict_GetItemWithError(self._entries, key)
        return <Entry>known if known != NULL else self._found(key, raw)
