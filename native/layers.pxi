# What blocks changed, layer over layer.


cdef list merged(list keys, list fresh):
    """Both, ascending, as `keys` is: mostly `fresh` ones of later windows and hours are above. `keys` is used up when all are."""
    cdef Py_ssize_t start
    fresh.sort()
    start = bisect_left(keys, fresh[0])
    if start == len(keys):
        keys.extend(fresh)          # who walks along them knows where they ended
        return keys
    return keys[:start] + sorted(keys[start:] + fresh)


cdef class _Shelf:
    """Keys that lie together and what they hold."""

    cdef list keys(self):
        """All, ascending."""
        cdef list fresh = self.fresh
        if fresh:
            self.fresh = []
            self.ascending = merged(self.ascending, fresh)
        return self.ascending


# Where the shelf of a number is looked for first is told by the upper bits of this product, to which all of a number's come
# (Fibonacci hashing).
cdef uint64_t SPREAD = 0x9E3779B97F4A7C15


cdef class _Shelves:
    """Shelves by their numbers, of which no object need be made to find one, or that there is none."""

    def __cinit__(self):
        self.all = []
        self._grow(6)

    def __dealloc__(self):
        free(self.places)

    cdef int _grow(self, int bits) except -1:
        cdef PyObject** places = <PyObject**>calloc(<size_t>1 << bits, sizeof(PyObject*))
        if places == NULL:
            raise MemoryError
        free(self.places)
        self.places, self.bits, self.mask = places, bits, (<size_t>1 << bits) - 1
        for shelf in self.all:
            self._place(shelf)
        return 0

    cdef int _place(self, _Shelf shelf) noexcept:
        cdef size_t place = shelf.number * SPREAD >> 64 - self.bits
        while self.places[place] != NULL:
            place = place + 1 & self.mask
        self.places[place] = <PyObject*>shelf       # `all` keeps it
        return 0

    cdef inline PyObject* at(self, uint64_t number) noexcept:
        """Borrowed; NULL when there is none."""
        cdef size_t place = number * SPREAD >> 64 - self.bits
        cdef PyObject* found = self.places[place]
        while found != NULL and (<_Shelf>found).number != number:
            place = place + 1 & self.mask
            found = self.places[place]
        return found

    cdef _Shelf new(self, uint64_t number):
        cdef _Shelf shelf = _Shelf.__new__(_Shelf)
        shelf.number = number
        shelf.values, shelf.ascending, shelf.fresh = {}, [], []
        if 2 * <size_t>len(self.all) > self.mask:
            self._grow(self.bits + 2)
        self.all.append(shelf)
        self._place(shelf)
        return shelf


cdef inline uint64_t padded(const uint8_t* at, Py_ssize_t size, uint8_t pad) noexcept:
    """The four bytes after the first one of a key, where there are that many."""
    cdef uint64_t number = 0
    cdef Py_ssize_t i
    for i in range(1, 5):
        number = number << 8 | (at[i] if i < size else pad)
    return number


cdef class Rows:
    """(key, value or None) of all that a `Merged` has, in no order."""

    def __init__(self, Merged merged not None):
        self.merged = merged

    def __len__(self):
        return self.merged._size

    def __iter__(self):
        cdef _Shelf shelf
        for shelf in self.merged._shelves.all:
            yield from shelf.values.items()


cdef class Merged:
    """The changes of several blocks over `base`, whose `last_key` tells how far its keys of a space go: beyond lies nothing.

    `before` was that over an earlier base: what it knew, up to `most` keys and as many pages, is not read again. Blocks
    that it had and `base` has not are to be added before anything is read.

    Keys of a space of `of_windows` go on with a window (four bytes): those of a window are a shelf. Whoever works at a
    window meets them all, in small tables, while a hundred thousand of a day would lie far apart in one.
    """

    def __init__(self, object base, Merged before=None, Py_ssize_t most=0, of_windows=()):
        cdef int space
        self.base = base
        self.pages = {}
        for space in range(256):
            self._of_windows[space] = space in of_windows
        self._shelves, self._numbers, self._size = _Shelves.__new__(_Shelves), [None] * 256, 0
        # What was read of `base`, which does not change.
        self._read, self._read_pages = {}, {}
        if before is not None:
            self._read = before._known(most)
            self._read_pages = known_of(before._read_pages, before.pages, most)
        self._last = [None] * 256

    @property
    def size(self):
        """How many keys it remembers."""
        return self._size + len(self._read)

    def flat(self):
        """Key -> what it holds now, or None."""
        cdef dict values = {}
        cdef _Shelf shelf
        for shelf in self._shelves.all:
            values.update(shelf.values)
        return values

    cdef dict _known(self, Py_ssize_t most):
        """What was read below and changed here, as `known_of` gives it."""
        return known_of(self._read, self.flat() if self._size <= most else None, most)

    cdef inline uint64_t _number(self, bytes key, int space) noexcept:
        cdef uint64_t first = <uint64_t>space << 32
        if not self._of_windows[space]:
            return first
        return first | padded(<const uint8_t*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), 0)

    cdef _Shelf _new_shelf(self, uint64_t number, int space):
        cdef _Shelf shelf = self._shelves.new(number)
        if self._numbers[space] is None:
            self._numbers[space] = []
        insort(self._numbers[space], number)
        return shelf

    def add(self, Layer view not None):
        """Takes in the changes of the next block."""
        cdef Changes made = view._made
        cdef Py_ssize_t i
        if made is not None:
            for i in range(len(made.entries)):
                self._put((<Entry>made.entries[i]).key, made.raws[i])
        else:
            for key, value in view.known().items():
                self._put(key, value)
        self.pages.update(view.pages)

    cdef int _put(self, bytes key, object value) except -1:
        cdef int space = space_of(key)
        cdef uint64_t number = self._number(key, space)
        cdef PyObject* found = self._shelves.at(number)
        cdef _Shelf shelf = <_Shelf>found if found != NULL else self._new_shelf(number, space)
        cdef Py_ssize_t before = len(shelf.values)
        shelf.values[key] = value
        if len(shelf.values) > before:
            shelf.fresh.append(key)
            self._size += 1
        return 0

    def range(self, bytes prefix not None):
        """(key, what it holds or None) under `prefix`, ascending, of what was changed; None if nothing was."""
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(prefix)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix)
        cdef uint64_t first, last
        cdef list numbers
        cdef PyObject* shelf
        cdef int space
        if not size:
            numbers = [number for some in self._numbers if some is not None for number in <list>some]
            return self._along(numbers, prefix)
        space = at[0]
        if self._numbers[space] is None:
            return None
        if size > 4 or not self._of_windows[space]:
            shelf = self._shelves.at(self._number(prefix, space))
            return None if shelf == NULL else along(<_Shelf>shelf, prefix)
        first, last = <uint64_t>space << 32 | padded(at, size, 0), <uint64_t>space << 32 | padded(at, size, 0xFF)
        numbers = self._numbers[space]
        numbers = numbers[bisect_left(numbers, first):bisect_right(numbers, last)]
        return self._along(numbers, prefix) if numbers else None

    def _along(self, list numbers, bytes prefix):
        for number in numbers:
            rows = along(<_Shelf>self._shelves.at(number), prefix)
            if rows is not None:
                yield from rows

    cdef bint reach(self, bytes key) except -1:
        """Whether `base` has a key of the same space that is not below `key`."""
        cdef int space = space_of(key)
        cdef object last = self._last[space]
        if last is None:
            last = self.base.last_key(bytes((space,)))
            if last is None:
                last = EMPTY
            self._last[space] = last
        return last is not EMPTY and not below(<bytes>last, key)

    def reaches(self, bytes key not None):
        return self.reach(key)

    cdef object find(self, bytes key):
        """What `key` holds, or None."""
        cdef PyObject* found = self._shelves.at(self._number(key, space_of(key)))
        cdef object value
        if found != NULL:
            found = PyDict_GetItemWithError((<_Shelf>found).values, key)
            if found != NULL:
                return <object>found
        if not self.reach(key):
            return None
        found = PyDict_GetItemWithError(self._read, key)
        if found != NULL:
            return <object>found
        value = self._read[key] = self.base.get(key)
        return value

    def get(self, bytes key not None):
        return self.find(key)

    cdef object find_page(self, bytes path):
        cdef PyObject* found = PyDict_GetItemWithError(self.pages, path)
        cdef object page
        if found == NULL:
            found = PyDict_GetItemWithError(self._read_pages, path)
        if found != NULL:
            return <object>found
        page = self._read_pages[path] = self.base.page(path)
        return page

    def page(self, bytes path not None):
        return self.find_page(path)


cdef dict known_of(dict read, dict values, Py_ssize_t most):
    """What was read below and what was changed above (None: more than `most`), if that is not too much; else what was
    changed. `read` is used up: who still asks above finds what was changed there first."""
    if values is None:
        return {}
    if len(read) + len(values) <= most:
        read.update(values)
        return read
    return dict(values) if len(values) <= most else {}


cdef object along(_Shelf shelf, bytes prefix):
    """(key, value) of a shelf's keys under `prefix`; None if there are none."""
    cdef list keys = shelf.keys()
    cdef Py_ssize_t start = bisect_left(keys, prefix)
    if start == len(keys) or not (<bytes>keys[start]).startswith(prefix):
        return None
    return span(keys, start, prefix, shelf.values)


cdef class Layer:
    """One block's changes of keys and pages over `parent`. Where `recent` is set it has all of these, and what is below.

    These may be given as `Changes`, or as a `Merged` to which nothing is added any more: a table is made of them when
    somebody asks. Most blocks of a fork are laid into a `Merged` and asked for nothing.
    """

    def __init__(self, object parent, object header, object changes=None, dict pages=None):
        self.parent, self.header, self.recent = parent, header, None
        self.pages = {} if pages is None else pages
        if isinstance(changes, Merged):
            self._merged = changes
        elif not isinstance(changes, Changes):
            self._changes = {} if changes is None else changes
        elif (<Changes>changes).known is not None:
            self._changes = (<Changes>changes).known
        else:
            self._made = changes
            if self._made.raws is None:
                self._made.encode()

    @property
    def changes(self):
        return self.known()

    cdef dict known(self):
        if self._changes is None:
            self._changes = self._merged.flat() if self._made is None else self._made.encoded()
            self._made = self._merged = None
        return self._changes

    cdef object find(self, bytes key):
        """What `key` holds, or None."""
        cdef Layer layer = self
        cdef Merged recent
        cdef PyObject* found
        while True:
            recent = layer.recent       # which another thread may take away meanwhile
            if recent is not None:
                return recent.find(key)
            found = PyDict_GetItemWithError(layer.known(), key)
            if found != NULL:
                return <object>found
            if not isinstance(layer.parent, Layer):
                return layer.parent.get(key)
            layer = <Layer>layer.parent

    def get(self, bytes key not None):
        return self.find(key)

    def page(self, bytes path not None):
        cdef Layer layer = self
        cdef Merged recent
        cdef PyObject* found
        while True:
            recent = layer.recent
            if recent is not None:
                return recent.find_page(path)
            found = PyDict_GetItemWithError(layer.pages, path)
            if found != NULL:
                return <object>found
            if not isinstance(layer.parent, Layer):
                return layer.parent.page(path)
            layer = <Layer>layer.parent


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
