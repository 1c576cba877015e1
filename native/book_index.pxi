# From order id to slot: open addressing sized to live orders, not to capacity nor to the ids, which grow for ever.
# Eight neighbouring ids share a home group, one cache line, so that ids given in a row stay in a row; a search goes on in the
# same column of the next groups, which keeps runs short however dense the ids are. Entries hold the id's low half; the
# order itself tells apart ids that agree in it. Where the caller's ids are dense from 0 (a replayed file), slots are looked up
# directly instead.

cdef inline uint64_t index_home(Core* c, uint32_t low) noexcept nogil:
    return (<uint64_t>((<uint32_t>(low >> 3) * <uint32_t>0x9E3779B1) >> c.index_shift) << 3) | (low & 7)

cdef inline uint64_t index_place(Core* c, uint64_t id) noexcept nogil:
    """Where the id's entry is, or the empty place that ends its search."""
    cdef uint32_t low = <uint32_t>id
    cdef uint64_t i = index_home(c, low), entry
    while True:
        entry = c.index[i]
        if entry == 0 or (<uint32_t>(entry >> 32) == low and c.orders[<uint32_t>entry].id == id):
            return i
        i = (i + 8) & c.index_mask

cdef inline uint32_t index_peek(Core* c, uint64_t id) noexcept nogil:
    """Most likely the id's slot, from the index alone, or 0. For prefetching: the orders themselves are not read."""
    cdef uint32_t low = <uint32_t>id, tries
    cdef uint64_t i, entry
    if c.dense != NULL:
        return c.dense[id] if id < c.dense_capacity else 0
    i = index_home(c, low)
    for tries in range(4):
        entry = c.index[i]
        if <uint32_t>(entry >> 32) == low or entry == 0:
            return <uint32_t>entry
        i = (i + 8) & c.index_mask
    return 0

cdef uint32_t hash_find(Core* c, uint64_t id) noexcept nogil:
    return <uint32_t>c.index[index_place(c, id)]

cdef inline uint32_t index_find(Core* c, uint64_t id) noexcept nogil:
    if c.dense != NULL:
        return c.dense[id] if id < c.dense_capacity else 0
    return hash_find(c, id)

cdef void hash_put(Core* c, uint64_t id, uint32_t slot) noexcept nogil:
    cdef uint32_t low = <uint32_t>id
    cdef uint64_t i = index_home(c, low)
    while c.index[i]:
        i = (i + 8) & c.index_mask
    c.index[i] = (<uint64_t>low << 32) | slot

cdef inline void index_put(Core* c, uint64_t id, uint32_t slot) noexcept nogil:
    if c.dense != NULL:
        c.dense[id] = slot
    else:
        hash_put(c, id, slot)

cdef void hash_remove(Core* c, uint32_t slot) noexcept nogil:
    """Takes the entry out and moves later ones of its run up, so that no tombstones gather."""
    cdef uint32_t low = <uint32_t>c.orders[slot].id
    cdef uint64_t entry = (<uint64_t>low << 32) | slot, mask = c.index_mask
    cdef uint64_t i = index_home(c, low), j
    while c.index[i] != entry:
        i = (i + 8) & mask
    j = i
    while True:
        j = (j + 8) & mask
        entry = c.index[j]
        if entry == 0:
            break
        if ((j - index_home(c, <uint32_t>(entry >> 32))) & mask) >= ((j - i) & mask):
            c.index[i] = entry
            i = j
    c.index[i] = 0

cdef inline void index_remove(Core* c, uint32_t slot) noexcept nogil:
    if c.dense != NULL:
        c.dense[c.orders[slot].id] = 0
    else:
        hash_remove(c, slot)

cdef int index_reserve(Core* c, uint64_t orders) noexcept nogil:
    """Room for so many live orders in a quarter of the places. False when memory is refused; then nothing changed."""
    cdef uint64_t size = 1024, i, entry
    cdef uint64_t* old = c.index
    cdef uint64_t* fresh
    cdef uint64_t old_size = c.index_mask + 1
    cdef uint32_t bits = 10
    if c.dense != NULL:
        return True
    while size < 4 * orders:
        size *= 2
        bits += 1
    if old != NULL and size <= old_size:
        return True
    fresh = <uint64_t*>pool_reserve(size * sizeof(uint64_t), c.huge)
    if fresh == NULL:
        return False
    c.index = fresh
    c.index_mask = size - 1
    c.index_shift = 32 - (bits - 3)
    if old != NULL:
        for i in range(old_size):
            entry = old[i]
            if entry:
                hash_put(c, (entry >> 32), <uint32_t>entry)
        pool_release(old, old_size * sizeof(uint64_t))
    return True

# ---- windows, by number

cdef inline uint32_t window_home(Core* c, int32_t window) noexcept nogil:
    return (<uint32_t>window * <uint32_t>0x9E3779B1) >> 8 & c.window_mask

cdef inline uint32_t window_find(Core* c, int32_t window) noexcept nogil:
    cdef uint32_t i = window_home(c, window), slot
    while True:
        slot = c.window_table[i]
        if slot == 0 or c.windows[slot].window == window:
            return slot
        i = (i + 1) & c.window_mask

cdef void window_table_put(Core* c, uint32_t slot) noexcept nogil:
    cdef uint32_t i = window_home(c, c.windows[slot].window)
    while c.window_table[i]:
        i = (i + 1) & c.window_mask
    c.window_table[i] = slot

cdef void window_table_remove(Core* c, uint32_t slot) noexcept nogil:
    cdef uint32_t mask = c.window_mask, i = window_home(c, c.windows[slot].window), j, other
    while c.window_table[i] != slot:
        i = (i + 1) & mask
    j = i
    while True:
        j = (j + 1) & mask
        other = c.window_table[j]
        if other == 0:
            break
        if ((j - window_home(c, c.windows[other].window)) & mask) >= ((j - i) & mask):
            c.window_table[i] = other
            i = j
    c.window_table[i] = 0
