# What a block found at the keys it asked for, and what it changed.

cdef inline uint64_t head_of(bytes key) noexcept:
    """The eight bytes after that of the space as a number, zeros for those that a key has not."""
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(key)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(key), i
    cdef uint64_t head = 0
    if size > 8:
        for i in range(1, 9):
            head = head << 8 | at[i]
    else:
        for i in range(1, 9):
            head = head << 8 | (at[i] if i < size else 0)
    return head


@no_gc
@freelist(16384)         # a large block's
cdef class Entry:
    """What the block found at a key, and what is there now. Records refer to no entry: there are no cycles to look for."""


cdef struct Place:
    uint64_t head
    PyObject* entry


cdef inline bint before(const Place* one, const Place* other) noexcept:
    """By their keys, of which most differ in their heads."""
    if one.head != other.head:
        return one.head < other.head
    return below((<Entry>one.entry).key, (<Entry>other.entry).key)


cdef Py_ssize_t run_end(const Place* places, Py_ssize_t at, Py_ssize_t count) noexcept:
    """Where those that ascend from `at` on end."""
    if at < count:
        at += 1
        while at < count and not before(&places[at], &places[at - 1]):
            at += 1
    return at


cdef Py_ssize_t merge_runs(const Place* places, Py_ssize_t count, Place* out) noexcept:
    """Writes two runs after another as one; returns how many of these there are."""
    cdef Py_ssize_t made = 0, at = 0, i, j, middle, end
    while at < count:
        middle = run_end(places, at, count)
        end = run_end(places, middle, count)
        i, j = at, middle
        while i < middle and j < end:
            if before(&places[j], &places[i]):
                out[at] = places[j]
                j += 1
            else:
                out[at] = places[i]
                i += 1
            at += 1
        memcpy(&out[at], &places[i], (middle - i) * sizeof(Place))
        memcpy(&out[at + middle - i], &places[j], (end - j) * sizeof(Place))
        at, made = end, made + 1
    return made


cdef list ascending(list entries):
    """Entries of one space in the order of their keys: most come so, or in runs, which are merged."""
    cdef Py_ssize_t count = len(entries), i
    cdef Place* places = <Place*>malloc(2 * count * sizeof(Place))
    cdef Place* out = places + count
    if places == NULL:
        raise MemoryError
    try:
        for i in range(count):
            places[i].head, places[i].entry = (<Entry>entries[i]).head, <PyObject*>entries[i]
        if run_end(places, 0, count) == count:
            return entries
        while merge_runs(places, count, out) > 1:
            memcpy(places, out, count * sizeof(Place))
        return [<Entry>out[i].entry for i in range(count)]
    finally:
        free(places)


@no_gc
cdef class Changes:
    """The changes of one block by ascending key: (key, record before or None, record now or None) for whoever asks.

    Kernels read the entries, where records may still be bytes. It is what the block changed as long as nothing is put.
    """

    def __init__(self, Values values not None, changes=()):
        """Of what was changed elsewhere: rows as they are read here, records also as their bytes."""
        cdef Entry entry
        self.values, self.entries = values, []
        for key, before, now in changes:
            entry = Entry.__new__(Entry)
            entry.key, entry.now = key, now
            if type(before) is bytes:
                entry.raw = before
            else:
                entry.before = before
            self.entries.append(entry)

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, Py_ssize_t index):
        if not 0 <= index < len(self.entries):
            raise IndexError(f"change {index} of {len(self.entries)}")
        return self._row(<Entry>self.entries[index])

    def __iter__(self):
        for entry in self.entries:
            yield self._row(<Entry>entry)

    cdef tuple _row(self, Entry entry):
        return entry.key, self._record(entry.key, former(entry)), self._record(entry.key, entry.now)

    cdef object _record(self, bytes key, object value):
        return self.values.decode(key, <bytes>value) if type(value) is bytes else value

    cdef Py_ssize_t _first(self, bytes key) noexcept:
        """Index of the first change that is not below `key`."""
        cdef Py_ssize_t low = 0, high = len(self.entries), middle
        while low < high:
            middle = (low + high) // 2
            if below((<Entry>self.entries[middle]).key, key):
                low = middle + 1
            else:
                high = middle
        return low

    cdef list _under(self, int space):
        return self.entries[self._first(bytes((space,))):self._first(bytes((space + 1,)))]

    def of_space(self, int space):
        """Those whose keys are of the space."""
        return [self._row(<Entry>entry) for entry in self._under(space)]

    def keys(self, int space):
        """The keys of `of_space`."""
        return [(<Entry>entry).key for entry in self._under(space)]

    def gone(self, int space):
        """Those keys of `keys` that hold nothing any more."""
        return [(<Entry>entry).key for entry in self._under(space) if (<Entry>entry).now is None]

    def before(self, bytes key not None):
        """The record that was at `key`, where it was changed; else None."""
        cdef Py_ssize_t index = self._first(key)
        if index == len(self.entries) or (<Entry>self.entries[index]).key != key:
            return None
        return self._record(key, former(<Entry>self.entries[index]))

    def encode(self):
        """Makes bytes of every record there is now: what the key is to hold."""
        cdef Entry entry
        cdef list raws = []
        for entry in self.entries:
            raws.append(None if entry.now is None else self.values.encode(entry.key, entry.now))
        self.raws = raws

    def encoded(self):
        """Key -> canonical bytes now, or None."""
        cdef Py_ssize_t i
        if self.raws is None:
            self.encode()
        if self.known is None:
            self.known = {}
            for i in range(len(self.entries)):
                self.known[(<Entry>self.entries[i]).key] = self.raws[i]
        return self.known
