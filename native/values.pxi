# Records and their bytes.


cdef class Values:
    """Reads bytes as records and writes records as bytes, by the space of their key.

    Records are immutable, so equal bytes of a space are one record: what was read or written lately, up to `most`, need
    not be read again. `readers` has per space what reads it, or None for the bytes themselves; `chain` the same by the
    second byte of a key, for the space `chain_space`, whose records are few. `writers` has per class what writes it. Records
    of the spaces `seldom` are hardly ever read soon after, and not remembered.
    """

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
        known = PyDict_GetItemWithError(<dict>self._known[space], raw)
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
        writer = PyDict_GetItemWithError(self._writers, type(value))
        raw = value.encode() if writer == NULL else (<object>writer)(value)
        space = space_of(key)
        if space != self._chain_space:
            self._remember(space, raw, value)
        return raw

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
