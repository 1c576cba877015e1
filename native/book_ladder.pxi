# Price levels. A key counts ticks away from the best imaginable price of its side (sells: from 0 upwards, buys: from the
# highest downwards), so that the best order always has the least key and both sides share all code. Levels lie in pages
# of 64 with a bitmap, pages in branches of 64, at most 25 branches in a ladder; whatever is empty goes back to its pool.
# So an empty book costs eight bytes, and pages never outnumber live orders.

cdef inline uint32_t key_of(int side, uint32_t tick) noexcept nogil:
    return tick if side else LAST_TICK - tick

cdef inline int32_t price_of(int side, uint32_t key) noexcept nogil:
    return <int32_t>((key if side else LAST_TICK - key) * TICK)

cdef inline uint32_t level_at(Core* c, uint32_t ladder, uint32_t key) noexcept nogil:
    """The level of a key that has orders."""
    cdef Branch* branch = c.branches + c.ladders[ladder].branch[key >> 12]
    return (branch.page[(key >> 6) & 63] << 6) | (key & 63)

cdef inline uint32_t level_open(Core* c, BookSide* side, uint32_t key) noexcept nogil:
    """The level of a key that is about to get an order; makes what is missing on the way."""
    cdef Ladder* ladder
    cdef Branch* branch
    cdef uint32_t number, place = key >> 12
    if UNLIKELY(side.ladder == 0):
        number = c.ladders_free
        if number:
            c.ladders_free = c.ladders[number].free_next
        else:
            number = c.ladders_top
            c.ladders_top += 1
        side.ladder = number
    ladder = c.ladders + side.ladder
    if UNLIKELY(not (ladder.bits >> place) & 1):
        number = c.branches_free
        if number:
            c.branches_free = c.branches[number].free_next
        else:
            number = c.branches_top
            c.branches_top += 1
        ladder.branch[place] = number
        ladder.bits |= <uint32_t>1 << place
    branch = c.branches + ladder.branch[place]
    place = (key >> 6) & 63
    if UNLIKELY(not (branch.bits >> place) & 1):
        number = c.pages_free
        if number:
            c.pages_free = c.pages[number].free_next
        else:
            number = c.pages_top
            c.pages_top += 1
        branch.page[place] = number
        branch.bits |= <uint64_t>1 << place
    number = branch.page[place]
    c.pages[number].bits |= <uint64_t>1 << (key & 63)
    if key < side.best:
        side.best = key
    return (number << 6) | (key & 63)

cdef inline uint32_t least_key(Core* c, uint32_t ladder) noexcept nogil:
    cdef Ladder* l = c.ladders + ladder
    cdef Branch* branch
    cdef uint32_t high, middle
    if l.bits == 0:
        return NOTHING
    high = LOWEST_BIT(l.bits)
    branch = c.branches + l.branch[high]
    middle = LOWEST_BIT(branch.bits)
    return (high << 12) | (middle << 6) | LOWEST_BIT(c.pages[branch.page[middle]].bits)

cdef inline void level_close(Core* c, BookSide* side, uint32_t key) noexcept nogil:
    """The level of this key has become empty."""
    cdef Ladder* ladder = c.ladders + side.ladder
    cdef uint32_t high = key >> 12, middle = (key >> 6) & 63
    cdef uint32_t b = ladder.branch[high]
    cdef Branch* branch = c.branches + b
    cdef uint32_t p = branch.page[middle]
    cdef Page* page = c.pages + p
    page.bits &= ~(<uint64_t>1 << (key & 63))
    if page.bits == 0:
        page.free_next = c.pages_free
        c.pages_free = p
        branch.bits &= ~(<uint64_t>1 << middle)
        if branch.bits == 0:
            branch.free_next = c.branches_free
            c.branches_free = b
            ladder.bits &= ~(<uint32_t>1 << high)
    if key == side.best:
        side.best = least_key(c, side.ladder)

# ---- orders in queues

cdef inline uint32_t order_take(Core* c) noexcept nogil:
    cdef uint32_t slot = c.orders_free
    if slot:
        c.orders_free = c.orders[slot].next
        PREFETCH(c.orders + c.orders_free)
    else:
        slot = c.orders_top
        c.orders_top += 1
        PREFETCH(c.orders + slot + 8)
    return slot

cdef inline void order_join(Core* c, uint32_t slot) noexcept nogil:
    """Puts a filled-in order at the end of its queue and into the index."""
    cdef Order* order = c.orders + slot
    cdef Window* window = c.windows + order.window
    cdef uint32_t number = level_open(c, &window.sides[2 * order.zone + order.side], order.key)
    cdef Level* level = c.levels + number
    order.level = number
    order.next = 0
    order.prev = level.tail
    if level.tail:
        c.orders[level.tail].next = slot
    else:
        level.head = slot
    level.tail = slot
    if order.sequence > window.last_sequence:
        window.last_sequence = order.sequence
    window.live += 1
    c.live += 1
    index_put(c, order.id, slot)

cdef inline void order_leave(Core* c, uint32_t slot) noexcept nogil:
    """Takes an order out of its queue and the index; its slot is free afterwards, its other fields still readable."""
    cdef Order* order = c.orders + slot
    cdef Window* window = c.windows + order.window
    if order.prev:
        c.orders[order.prev].next = order.next
    else:
        c.levels[order.level].head = order.next
    if order.next:
        c.orders[order.next].prev = order.prev
    else:
        c.levels[order.level].tail = order.prev
        if order.prev == 0:
            level_close(c, &window.sides[2 * order.zone + order.side], order.key)
    index_remove(c, slot)
    order.next = c.orders_free
    c.orders_free = slot
    window.live -= 1
    c.live -= 1

# ---- reading a side

cdef uint64_t side_read(Core* c, BookSide* side, bint descending, uint64_t levels_most, int64_t now_ms, CResting* records,
                        CDepth* depth) noexcept nogil:
    """Writes orders (or, with `depth`, at most `levels_most` levels of unexpired orders) by key; returns how many."""
    cdef Ladder* ladder
    cdef Branch* branch
    cdef Order* order
    cdef uint64_t high_bits, middle_bits, low_bits, written = 0
    cdef uint32_t high, middle, low, page, slot
    if side.best == NOTHING:
        return 0
    ladder = c.ladders + side.ladder
    high_bits = ladder.bits
    while high_bits:
        high = HIGHEST_BIT(high_bits) if descending else LOWEST_BIT(high_bits)
        high_bits &= ~(<uint64_t>1 << high)
        branch = c.branches + ladder.branch[high]
        middle_bits = branch.bits
        while middle_bits:
            middle = HIGHEST_BIT(middle_bits) if descending else LOWEST_BIT(middle_bits)
            middle_bits &= ~(<uint64_t>1 << middle)
            page = branch.page[middle]
            low_bits = c.pages[page].bits
            while low_bits:
                low = HIGHEST_BIT(low_bits) if descending else LOWEST_BIT(low_bits)
                low_bits &= ~(<uint64_t>1 << low)
                slot = c.levels[(page << 6) | low].head
                if depth != NULL:
                    if written == levels_most:
                        return written
                    depth[written].price = price_of(c.orders[slot].side, c.orders[slot].key)
                    depth[written].orders = 0
                    depth[written].quantity_wh = 0
                while slot:
                    order = c.orders + slot
                    if depth != NULL:
                        if order.expires_ms == 0 or order.expires_ms > now_ms:
                            depth[written].orders += 1
                            depth[written].quantity_wh += order.quantity_wh
                    else:
                        order_record(c, order, records + written)
                        written += 1
                    slot = order.next
                if depth != NULL and depth[written].orders:
                    written += 1
    return written

cdef void order_record(Core* c, Order* order, CResting* out) noexcept nogil:
    memset(out, 0, sizeof(CResting))
    out.order_id = order.id
    out.sequence = order.sequence
    out.quantity_wh = order.quantity_wh
    out.expires_ms = order.expires_ms
    out.participant = order.participant
    out.meter = order.meter
    out.window = c.windows[order.window].window
    out.price = price_of(order.side, order.key)
    out.zone = order.zone
    out.side = order.side
    out.flags = order.flags
    out.profile = order.profile
    out.display_wh = order.display_wh
