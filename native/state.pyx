# cython: language_level=3, boundscheck=False, wraparound=False
"""What a block reads and writes, on its way between records and bytes: a block asks for hundreds of thousands of records
a day, most of them new ones that no state holds.

`gridtokenx.ledger` has the rules: `schema` which record a key holds (`Values`), `state` what lies over what (`Layer`,
`Merged`), `session` how a block works on it (`Working`).
"""

from bisect import bisect_left, bisect_right, insort

from cython cimport freelist, no_gc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

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
include "layers.pxi"

# ------------------------------------------------------------------ a block's records


@no_gc
@freelist(1024)
cdef class Entry:
    """What the block found at a key, and what is there now. Records refer to no entry: there are no cycles to look for."""


cdef class Working:
    """Records read through `parent` once, and changed as objects or as bytes; every change can be undone."""

    def __init__(self, object parent, object height, object release_due, Values values not None):
        self.parent, self.height, self.release_due = parent, height, release_due
        self._layer = parent if isinstance(parent, Layer) else None
        self._values = values
        self._entries, self._journal, self._changed, self._touched = {}, [], {}, 0

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
        cdef PyObject* entries
        self._journal.append(entry)
        self._journal.append(entry.now)
        if not entry.changed:
            entry.changed = True
            self._touched += 1
            entries = PyDict_GetItemWithError(self._changed, space_of(entry.key))
            if entries == NULL:
                self._changed[space_of(entry.key)] = [entry]
            else:
                (<list>entries).append(entry)
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

    cdef list _ascending(self, list entries):
        cdef Py_ssize_t i
        for i in range(1, len(entries)):
            if not below((<Entry>entries[i - 1]).key, (<Entry>entries[i]).key):
                keys = [(<Entry>entry).key for entry in entries]
                keys.sort()
                return [self._entries[key] for key in keys]
        return entries

    def changed(self, packed=()):
        """[(key, record before the block or None, record now or None)] of what differs, by ascending key. Records of the
        spaces `packed` may be given as their canonical bytes."""
        cdef list found = []
        cdef Entry entry
        cdef bint as_bytes
        cdef object before, now
        for space in sorted(self._changed):
            as_bytes = space in packed
            for entry in self._ascending(<list>self._changed[space]):
                now = entry.now
                # Bytes are canonical: the same record has the same.
                if now is None or entry.raw is None:
                    if now is entry.raw:
                        continue
                elif type(now) is bytes:
                    if now is entry.raw or <bytes>now == entry.raw:
                        continue
                else:
                    if now is entry.before:
                        continue
                    if entry.before is None:
                        entry.before = self._values.decode(entry.key, entry.raw)
                    if now == entry.before:
                        continue
                before = entry.before if entry.before is not None else entry.raw
                if not as_bytes:
                    before, now = self.record(entry.key, before), self.record(entry.key, now)
                found.append((entry.key, before, now))
        return found

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
