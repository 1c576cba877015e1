# cython: language_level=3, boundscheck=False, wraparound=False
"""What a block reads and writes, on its way between records and bytes: a block asks for hundreds of thousands of records
a day, most of them new ones that no state holds.

`gridtokenx.ledger` has the rules: `schema` which record a key holds (`Values`), `state` what lies over what (`Layer`,
`Merged`), `session` how a block works on it (`Working`).
"""

from cython cimport no_gc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

cdef bytes EMPTY = b""


cdef inline int space_of(bytes key) except -1:
    if PyBytes_GET_SIZE(key) == 0:
        raise KeyError("a key has at least the byte of its space")
    return (<const uint8_t*>PyBytes_AS_STRING(key))[0]


# ------------------------------------------------------------------ records and bytes


cdef class Values:
    """Reads bytes as records and writes records as bytes, by the space of their key.

    Records are immutable, so equal bytes of a space are one record: what was read or written lately, up to `most`, need
    not be read again. `readers` has per space what reads it, or None for the bytes themselves; `chain` the same by the
    second byte of a key, for the space `chain_space`, whose records are few. `writers` has per class what writes it. Records
    of the spaces `seldom` are hardly ever read soon after, and not remembered.
    """

    cdef list _known        # by space; None: not remembered
    cdef dict _readers, _chain, _writers
    cdef int _chain_space
    cdef Py_ssize_t _count, _most

    def __init__(self, dict readers not None, int chain_space, dict chain not None, dict writers not None,
                 Py_ssize_t most, seldom=()):
        self._readers, self._chain_space, self._chain, self._writers = readers, chain_space, chain, writers
        self._known = [None if space in seldom else {} for space in range(256)]
        self._count, self._most = 0, most

    cpdef object decode(self, bytes key, bytes raw):
        """The record (or, for numbers and indexes, the canonical bytes) that `key` holds. KeyError: no such space."""
        cdef int space = space_of(key)
        cdef object reader
        cdef PyObject* known
        if space == self._chain_space:
            return self._chain[key[1]](raw)
        reader = self._readers[space]
        if reader is None:
            return raw
        if self._known[space] is None:
            return reader(raw)
        known = PyDict_GetItem(<dict>self._known[space], raw)
        if known != NULL:
            return <object>known
        value = reader(raw)
        self._remember(space, raw, value)
        return value

    cpdef bytes encode(self, bytes key, object value):
        """The canonical bytes of what `key` is to hold."""
        cdef int space
        cdef bytes raw
        cdef PyObject* writer
        if type(value) is bytes:
            return <bytes>value
        writer = PyDict_GetItem(self._writers, type(value))
        raw = value.encode() if writer == NULL else (<object>writer)(value)
        space = space_of(key)
        if space != self._chain_space:
            self._remember(space, raw, value)
        return raw

    def encode_changes(self, list changes not None):
        """Key -> canonical bytes, or None, of each (key, record before, record now)."""
        cdef dict made = {}
        cdef tuple change
        cdef object now
        for change in changes:
            now = change[2]
            made[change[0]] = None if now is None else self.encode(change[0], now)
        return made

    cdef int _remember(self, int space, bytes raw, object value) except -1:
        if self._known[space] is None:
            return 0
        if self._count >= self._most:
            for known in self._known:
                if known is not None:
                    (<dict>known).clear()
            self._count = 0
        self._count += 1
        (<dict>self._known[space])[raw] = value
        return 0


# ------------------------------------------------------------------ layers of bytes


cdef dict known_of(dict read, dict values, Py_ssize_t most):
    """What was read below and what was changed above, if that is not too much; else what was changed. `read` is used up:
    who still asks above finds what was changed there first."""
    if len(read) + len(values) <= most:
        read.update(values)
        return read
    return dict(values) if len(values) <= most else {}


cdef class Merged:
    """The changes of several blocks over `base`, whose `last_key` tells how far its keys of a space go: beyond lies nothing.

    `before` was that over an earlier base: what it knew, up to `most` keys and as many pages, is not read again. Blocks
    that it had and `base` has not are to be added before anything is read.
    """

    cdef readonly object base
    cdef readonly dict values, pages
    cdef dict _read, _read_pages
    cdef list _last         # by space, the last key that `base` has of it, or b""; None: not asked yet
    cdef readonly dict added

    def __init__(self, object base, Merged before=None, Py_ssize_t most=0):
        self.base = base
        self.values, self.pages = {}, {}
        # What was read of `base`, which does not change.
        self._read = {} if before is None else known_of(before._read, before.values, most)
        self._read_pages = {} if before is None else known_of(before._read_pages, before.pages, most)
        self._last = [None] * 256
        self.added = {}         # keys of `values` by space: a list of each block that added some

    @property
    def size(self):
        """How many keys it remembers."""
        return len(self.values) + len(self._read)

    def add(self, Layer view not None):
        """Takes in the changes of the next block."""
        cdef dict values = self.values, added = {}
        cdef list keys
        cdef bytes key
        cdef object value
        cdef Py_ssize_t before
        for key, value in view.changes.items():
            before = len(values)
            values[key] = value
            if len(values) > before:
                keys = <list>added.get(space_of(key))
                if keys is None:
                    keys = added[space_of(key)] = []
                keys.append(key)
        self.pages.update(view.pages)
        for space, keys in added.items():
            self.added.setdefault(space, []).append(keys)

    cpdef bint reaches(self, bytes key) except -1:
        """Whether `base` has a key of the same space that is not below `key`."""
        cdef int space = space_of(key)
        cdef object last = self._last[space]
        if last is None:
            last = self.base.last_key(bytes((space,)))
            if last is None:
                last = EMPTY
            self._last[space] = last
        return last is not EMPTY and key <= <bytes>last

    cpdef object get(self, bytes key):
        cdef PyObject* found = PyDict_GetItem(self.values, key)
        cdef object value
        if found != NULL:
            return <object>found
        if not self.reaches(key):
            return None
        found = PyDict_GetItem(self._read, key)
        if found != NULL:
            return <object>found
        value = self._read[key] = self.base.get(key)
        return value

    cpdef object page(self, bytes path):
        cdef PyObject* found = PyDict_GetItem(self.pages, path)
        cdef object page
        if found == NULL:
            found = PyDict_GetItem(self._read_pages, path)
        if found != NULL:
            return <object>found
        page = self._read_pages[path] = self.base.page(path)
        return page


cdef class Layer:
    """One block's changes of keys and pages over `parent`. Where `recent` is set it has all of these, and what is below."""

    cdef public object parent, header, recent
    cdef readonly dict changes, pages

    def __init__(self, object parent, object header, dict changes=None, dict pages=None):
        self.parent, self.header, self.recent = parent, header, None
        self.changes = {} if changes is None else changes
        self.pages = {} if pages is None else pages

    cpdef object get(self, bytes key):
        cdef object reader = self
        cdef PyObject* found
        while isinstance(reader, Layer):
            if (<Layer>reader).recent is not None:
                return (<Merged?>(<Layer>reader).recent).get(key)
            found = PyDict_GetItem((<Layer>reader).changes, key)
            if found != NULL:
                return <object>found
            reader = (<Layer>reader).parent
        return reader.get(key)

    cpdef object page(self, bytes path):
        cdef object reader = self
        cdef PyObject* found
        while isinstance(reader, Layer):
            if (<Layer>reader).recent is not None:
                return (<Merged?>(<Layer>reader).recent).page(path)
            found = PyDict_GetItem((<Layer>reader).pages, path)
            if found != NULL:
                return <object>found
            reader = (<Layer>reader).parent
        return reader.page(path)


def span(list keys not None, Py_ssize_t start, bytes prefix not None, dict changes not None):
    """(key, value or None) of `keys`, ascending, from the one at `start` on while they begin with `prefix`."""
    cdef Py_ssize_t index
    cdef bytes key
    for index in range(start, len(keys)):
        key = <bytes>keys[index]
        if not key.startswith(prefix):
            return
        yield key, changes[key]


def over(upper, lower):
    """(key, value) of `lower`, ascending, as `upper` changes it, whose value None takes a key away."""
    cdef object row = next(lower, None)
    for key, value in upper:
        while row is not None and (<tuple>row)[0] < key:
            yield row
            row = next(lower, None)
        if row is not None and (<tuple>row)[0] == key:
            row = next(lower, None)
        if value is not None:
            yield key, value
    while row is not None:
        yield row
        row = next(lower, None)


# ------------------------------------------------------------------ a block's records


@no_gc
cdef class _Entry:
    """What the block found at a key, and what is there now. Records refer to no entry: there are no cycles to look for."""

    cdef bytes raw          # the canonical bytes that the parent has, or None
    cdef object before      # the record that was read of them; None while none was
    cdef object now         # a record, or the canonical bytes of one that nobody asked for yet
    cdef bint changed


cdef class Working:
    """Records read through `parent` once, and changed as objects or as bytes; every change can be undone."""

    cdef public object parent
    cdef public object height, release_due
    cdef Values _values
    cdef dict _entries
    cdef list _journal      # (entry, what it was), one after the other
    cdef dict _changed      # keys that were ever changed, by space: most come in their order there
    cdef Py_ssize_t _touched

    def __init__(self, object parent, object height, object release_due, Values values not None):
        self.parent, self.height, self.release_due = parent, height, release_due
        self._values = values
        self._entries, self._journal, self._changed, self._touched = {}, [], {}, 0

    cdef _Entry _found(self, bytes key, object raw):
        cdef _Entry entry = _Entry.__new__(_Entry)
        entry.raw = entry.now = raw
        self._entries[key] = entry
        return entry

    cdef inline _Entry _entry(self, bytes key):
        cdef PyObject* known = PyDict_GetItem(self._entries, key)
        if known != NULL:
            return <_Entry>known
        if isinstance(self.parent, Layer):
            return self._found(key, (<Layer>self.parent).get(key))
        return self._found(key, self.parent.get(key))

    cdef object _read(self, bytes key, _Entry entry):
        """The record at `key`, made of its bytes when nobody asked for it before."""
        if type(entry.now) is not bytes:
            return entry.now
        value = self._values.decode(key, <bytes>entry.now)
        if entry.now is entry.raw:
            entry.before = value
        entry.now = value
        return value

    def get(self, bytes key not None):
        """The record at `key` as it stands now, or None."""
        return self._read(key, self._entry(key))

    def peek(self, bytes key not None):
        """The same, but as its canonical bytes where nobody asked for the record yet."""
        return self._entry(key).now

    def record(self, bytes key not None, object value):
        """The record of a `value` that `key` holds, given as the record itself, as its bytes, or None."""
        return self._values.decode(key, <bytes>value) if type(value) is bytes else value

    def put(self, bytes key not None, object value):
        """Sets the record at `key`, given as a record or as its canonical bytes; None removes it."""
        cdef _Entry entry = self._entry(key)
        cdef PyObject* keys
        self._journal.append(entry)
        self._journal.append(entry.now)
        if not entry.changed:
            entry.changed = True
            self._touched += 1
            keys = PyDict_GetItem(self._changed, space_of(key))
            if keys == NULL:
                self._changed[space_of(key)] = [key]
            else:
                (<list>keys).append(key)
        entry.now = value

    def mark(self):
        """A point that `rollback` returns to."""
        return len(self._journal)

    def rollback(self, Py_ssize_t mark):
        """Undoes every `put` since `mark`."""
        cdef list journal = self._journal
        while len(journal) > mark:
            value = journal.pop()
            (<_Entry>journal.pop()).now = value

    @property
    def keys_touched(self):
        """At least as many as `changed` gives."""
        return self._touched

    def changed(self, packed=()):
        """[(key, record before the block or None, record now or None)] of what differs, by ascending key. Records of the
        spaces `packed` may be given as their canonical bytes."""
        cdef list found = []
        cdef _Entry entry
        cdef bytes key
        cdef bint as_bytes
        cdef object before, now
        for space in sorted(self._changed):
            as_bytes = space in packed
            for key in sorted(<list>self._changed[space]):
                entry = <_Entry>self._entries[key]
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
                        entry.before = self._values.decode(key, entry.raw)
                    if now == entry.before:
                        continue
                before = entry.before if entry.before is not None else entry.raw
                if not as_bytes:
                    before, now = self.record(key, before), self.record(key, now)
                found.append((key, before, now))
        return found

    def scan(self, bytes prefix not None):
        """Keys of the *parent's* state under `prefix` that still stand, with their records as they are now.

        Keys added in this block are not met: callers look for what was due or listed before it.
        """
        cdef _Entry entry
        for key, raw in self.parent.scan(prefix):
            entry = self._met(key, raw)
            if entry.now is not None:
                yield key, self._read(key, entry)

    def rows(self, bytes prefix not None):
        """`scan` with what `peek` gives."""
        cdef _Entry entry
        for key, raw in self.parent.scan(prefix):
            entry = self._met(key, raw)
            if entry.now is not None:
                yield key, entry.now

    cdef inline _Entry _met(self, bytes key, object raw):
        cdef PyObject* known = PyDict_GetItem(self._entries, key)
        return <_Entry>known if known != NULL else self._found(key, raw)
