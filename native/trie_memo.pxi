# Pages met lately, by place and hash, each with the hashes of its inner nodes: included by trie.pyx.
#
# The hash of a subtree says all that is in it, so a page found by it is the right one whatever state is read. What is
# found need not be read and taken apart again, and only what changes in it is hashed.

cdef enum:
    DENSE_NIBBLES = 4       # pages at fewer nibbles have a place each,
    DENSE = 4369            # which is 1 + 16 + 256 + 4096 of them;
    SHARED = 4096           # those below share places, by their paths' hash

cdef uint64_t SCATTER = 0x9E3779B97F4A7C15

cdef struct Kept:
    bint filled
    int depth
    uint8_t hash[32]
    Page page


cdef inline uint64_t prefix_of(const uint8_t* key, int depth) noexcept nogil:
    """The first `depth` nibbles, at most sixteen, as a number."""
    cdef uint64_t value = 0
    cdef int index
    for index in range(8):
        value = value << 8 | key[index]
    return value >> 4 * (16 - depth) if 0 < depth < 16 else value if depth else 0


cdef class Memo:
    """What `update` may keep between calls. Results are the same with and without. Who finds it `busy` does without."""

    cdef Kept* _places
    cdef bint busy

    def __cinit__(self):
        self._places = <Kept*> calloc(DENSE + SHARED, sizeof(Kept))
        if self._places == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._places)

    cdef inline Kept* place(self, const uint8_t* key, int depth) noexcept nogil:
        cdef uint64_t prefix = prefix_of(key, depth)
        if depth < DENSE_NIBBLES:
            return &self._places[((1 << 4 * depth) - 1) // 15 + prefix]
        return &self._places[DENSE + ((prefix + <uint64_t> depth) * SCATTER >> 52)]

    cdef Page* take(self, const uint8_t* key, int depth, const uint8_t* hash, Page* spare) noexcept nogil:
        """The page at `depth` nibbles of `key` whose subtree has this hash, or NULL. It may be changed: one that has a
        place of its own is changed there, and not found until it is kept again; any other is copied to `spare`."""
        cdef Kept* kept = self.place(key, depth)
        if not kept.filled or kept.depth != depth or memcmp(kept.hash, hash, 32) != 0:
            return NULL
        if depth < DENSE_NIBBLES:
            kept.filled = 0
            return &kept.page
        spare[0] = kept.page
        return spare

    cdef void keep(self, const uint8_t* key, int depth, const uint8_t* hash, Page* page) noexcept nogil:
        cdef Kept* kept = self.place(key, depth)
        kept.filled, kept.depth = 1, depth
        memcpy(kept.hash, hash, 32)
        if page != &kept.page:
            kept.page = page[0]

    cdef bint has_root(self, bytes root):
        return self._places.filled and len(root) == 32 and memcmp(self._places.hash, PyBytes_AS_STRING(root), 32) == 0
