# Price levels. A key counts ticks away from the best imaginable price of its side (sells: from 0 upwards, buys: from the
# highest downwards), so that the best order always has the least key and both sides share all code. Levels lie in pages
# of 64 with a bitmap, pages in branches of 64, at most 25 branches in a queue. Prices come and go, so a page that has become
# empty stays where it is until KEPT_MOST others have followed it into the ring; then it goes back to its pool, and its branch
# with its last page. So an empty queue costs little, and pages outnumber live orders by KEPT_MOST at most. Page 0 and branch
# 0 stand for "none"; branch 0 has no pages.

cdef inline uint32_t key_of(int side, uint32_t tick) noexcept nogil:
    cdef uint32_t flip = <uint32_t>side - 1     # without a branch: sides follow no pattern
    return (tick ^ flip) + ((LAST_TICK + 1) & flip)

cdef inline int32_t price_of(int side, uint32_t key) noexcept nogil:
    return <int32_t>(key_of(side, key) * TICK)

cdef inline uint32_t queue_index(int side, uint32_t zone, uint32_t sub) noexcept nogil:
    return 8 * zone + sub if side else 128 + 32 * zone + sub

cdef uint32_t queue_make(Core* c, uint32_t window_slot, int side, uint32_t zone, uint32_t sub) noexcept nogil:
    cdef uint32_t number = c.queues_free
    cdef Queue* queue
    if number:
        c.queues_free = c.queues[number].free_next
    else:
        number = c.queues_top
        c.queues_top += 1
    queue = c.queues + number
    queue.best = NOTHING
    queue.level = 0
    queue.bits = 0
    queue.window = <uint16_t>window_slot
    queue.place = <uint8_t>(16 * side + zone)
    queue.sub = <uint8_t>sub
    c.windows[window_slot].queue[queue_index(side, zone, sub)] = number
    return number

cdef inline uint32_t queue_open(Core* c, uint32_t window_slot, int side, uint32_t zone, uint32_t sub) noexcept nogil:
    """The queue's number; makes it on first use."""
    cdef uint32_t number = c.windows[window_slot].queue[queue_index(side, zone, sub)]
    return number if LIKELY(number != 0) else queue_make(c, window_slot, side, zone, sub)

cdef inline uint32_t page_at(Core* c, Queue* queue, uint32_t key) noexcept nogil:
    return c.branches[queue.branch[key >> 12]].page[(key >> 6) & 63]

cdef inline uint32_t level_at(Core* c, Queue* queue, uint32_t key) noexcept nogil:
    """The level of a key that has orders."""
    return (page_at(c, queue, key) << 6) | (key & 63)

cdef inline uint32_t key_at(Core* c, uint32_t level) noexcept nogil:
    return c.pages[level >> 6].key | (level & 63)

cdef inline Queue* queue_at(Core* c, uint32_t level) noexcept nogil:
    return c.queues + c.pages[level >> 6].queue

cdef uint32_t page_make(Core* c, uint32_t queue_number, uint32_t key) noexcept nogil:
    """An empty page, and where needed the branch, for a key that has none."""
    cdef Queue* queue = c.queues + queue_number
    cdef uint32_t number, place = key >> 12
    if queue.branch[place] == 0:
        number = c.branches_free
        if number:
            c.branches_free = c.branches[number].free_next
        else:
            number = c.branches_top
            c.branches_top += 1
        queue.branch[place] = number
    number = c.pages_free
    if number:
        c.pages_free = c.pages[number].free_next
    else:
        number = c.pages_top
        c.pages_top += 1
    c.branches[queue.branch[place]].page[(key >> 6) & 63] = number
    c.branches[queue.branch[place]].pages += 1
    c.pages[number].key = key & ~<uint32_t>63
    c.pages[number].queue = queue_number
    return number

cdef void page_give(Core* c, Queue* queue, uint32_t p) noexcept nogil:
    """An empty page, and its branch if that has no other, go back to their pools."""
    cdef uint32_t high = c.pages[p].key >> 12, b = queue.branch[high]
    cdef Branch* branch = c.branches + b
    branch.page[(c.pages[p].key >> 6) & 63] = 0
    c.pages[p].key = NOTHING
    c.pages[p].queue = 0
    c.pages[p].free_next = c.pages_free
    c.pages_free = p
    branch.pages -= 1
    if branch.pages == 0:
        branch.free_next = c.branches_free
        c.branches_free = b
        queue.branch[high] = 0

cdef void pages_give(Core* c, Queue* queue) noexcept nogil:
    """All pages of a queue without orders."""
    cdef uint32_t high, middle, p
    cdef Branch* branch
    for high in range(25):
        branch = c.branches + queue.branch[high]
        for middle in range(64):
            p = branch.page[middle]
            if p:
                page_give(c, queue, p)

cdef void page_filled(Core* c, Queue* queue, uint32_t p) noexcept nogil:
    """The page is about to get its first order."""
    cdef uint32_t high = c.pages[p].key >> 12
    c.branches[queue.branch[high]].bits |= <uint64_t>1 << ((c.pages[p].key >> 6) & 63)
    queue.bits |= <uint32_t>1 << high

cdef void page_emptied(Core* c, Queue* queue, uint32_t p) noexcept nogil:
    """The page has lost its last order. It joins the ring if it is not there yet, and the oldest there leaves it."""
    cdef uint32_t high = c.pages[p].key >> 12, old
    cdef Branch* branch = c.branches + queue.branch[high]
    branch.bits &= ~(<uint64_t>1 << ((c.pages[p].key >> 6) & 63))
    if branch.bits == 0:
        queue.bits &= ~(<uint32_t>1 << high)
    if LIKELY(c.pages[p].ringed):
        return
    old = c.kept[c.kept_next]
    c.kept[c.kept_next] = p
    c.kept_next = (c.kept_next + 1) & (KEPT_MOST - 1)
    c.pages[p].ringed = True
    c.pages[old].ringed = False
    if c.pages[old].bits == 0 and c.pages[old].queue:
        page_give(c, c.queues + c.pages[old].queue, old)

cdef void best_raise(Core* c, Queue* queue, uint32_t key, uint32_t level) noexcept nogil:
    cdef Window* window = c.windows + queue.window
    if queue.best == NOTHING:
        window.filled[queue.place] |= <uint32_t>1 << queue.sub
    queue.best = key
    queue.level = level
    if key < window.best[queue.place]:
        window.best[queue.place] = key

cdef inline uint32_t level_open(Core* c, uint32_t queue_number, uint32_t key) noexcept nogil:
    """The level of a key that is about to get an order; makes what is missing on the way."""
    cdef Queue* queue = c.queues + queue_number
    cdef uint32_t number = page_at(c, queue, key)
    if UNLIKELY(number == 0):
        number = page_make(c, queue_number, key)
    if UNLIKELY(c.pages[number].bits == 0):
        page_filled(c, queue, number)
    c.pages[number].bits |= <uint64_t>1 << (key & 63)
    number = (number << 6) | (key & 63)
    if UNLIKELY(key < queue.best):
        best_raise(c, queue, key, number)
    return number

cdef inline uint32_t best_page(Core* c, Queue* queue) noexcept nogil:
    """The page of the least key; 0 if there are no orders."""
    cdef Branch* branch
    if queue.bits == 0:
        return 0
    branch = c.branches + queue.branch[LOWEST_BIT(queue.bits)]
    return branch.page[LOWEST_BIT(branch.bits)]

cdef uint32_t least_key_from(Core* c, Queue* queue, uint32_t key) noexcept nogil:
    """The least key >= `key` that has orders, or NOTHING."""
    cdef Branch* branch
    cdef uint64_t bits
    cdef uint32_t high = key >> 12, middle = (key >> 6) & 63, low = key & 63
    if key > LAST_TICK:
        return NOTHING
    if (queue.bits >> high) & 1:
        branch = c.branches + queue.branch[high]
        if (branch.bits >> middle) & 1:
            bits = c.pages[branch.page[middle]].bits & (~<uint64_t>0 << low)
            if bits:
                return (key & ~<uint32_t>63) | LOWEST_BIT(bits)
        bits = branch.bits & (~<uint64_t>0 << middle << 1)
        if middle < 63 and bits:
            middle = LOWEST_BIT(bits)
            return (high << 12) | (middle << 6) | LOWEST_BIT(c.pages[branch.page[middle]].bits)
    bits = queue.bits & (~<uint64_t>0 << high << 1)
    if bits == 0:
        return NOTHING
    high = LOWEST_BIT(bits)
    branch = c.branches + queue.branch[high]
    middle = LOWEST_BIT(branch.bits)
    return (high << 12) | (middle << 6) | LOWEST_BIT(c.pages[branch.page[middle]].bits)

cdef void window_best_fall(Core* c, Window* window, Queue* queue) noexcept nogil:
    """The queue's best is no longer what it was; finds the least over the queues of its zone and side."""
    cdef uint32_t least = queue.best, bits = window.filled[queue.place] & ~(<uint32_t>1 << queue.sub), other
    if least == NOTHING:
        window.filled[queue.place] = bits
    while bits:
        other = window.queue[queue_index(queue.place >> 4, queue.place & 15, LOWEST_BIT(bits))]
        bits &= bits - 1
        if c.queues[other].best < least:
            least = c.queues[other].best
    window.best[queue.place] = least

cdef inline void level_close(Core* c, uint32_t level) noexcept nogil:
    """The level has become empty."""
    cdef uint32_t p = level >> 6, low
    cdef Page* page = c.pages + p
    cdef Queue* queue = c.queues + page.queue
    cdef Window* window
    page.bits &= ~(<uint64_t>1 << (level & 63))
    if UNLIKELY(page.bits == 0):
        page_emptied(c, queue, p)
    if level != queue.level:
        return
    # Mostly the next price is on the same page.
    if UNLIKELY(page.bits == 0):
        p = best_page(c, queue)
        page = c.pages + p
        if p == 0:
            queue.best = NOTHING
            queue.level = 0
            window_best_fall(c, c.windows + queue.window, queue)
            return
    low = LOWEST_BIT(page.bits)
    queue.best = page.key | low
    queue.level = (p << 6) | low
    PREFETCH(c.orders + c.levels[queue.level].head)
    PREFETCH(c.orders + c.levels[(p << 6) | LOWEST_BIT((page.bits & (page.bits - 1)) | <uint64_t>1 << 63)].head)
    window = c.windows + queue.window
    if LIKELY((window.filled[queue.place] & (window.filled[queue.place] - 1)) == 0):
        window.best[queue.place] = queue.best
    else:
        window_best_fall(c, window, queue)

# ---- orders in queues

# Fresh memory is zero, which says that the next free slot is the one after: slots never used need no case of their own.

cdef inline uint32_t order_take(Core* c) noexcept nogil:
    cdef uint32_t slot = c.orders_free
    c.orders_free = c.orders[slot].next + slot + 1
    PREFETCH(c.orders + c.orders_free)
    return slot

cdef inline void order_give(Core* c, uint32_t slot) noexcept nogil:
    c.orders[slot].next = c.orders_free - slot - 1
    c.orders_free = slot

cdef inline void order_link(Core* c, uint32_t slot, uint32_t queue_number, uint32_t key) noexcept nogil:
    """Puts an order at the end of the queue at a price."""
    cdef Order* order = c.orders + slot
    cdef uint32_t number = level_open(c, queue_number, key)
    cdef Level* level = c.levels + number
    order.level = number
    order.next = 0
    order.prev = level.tail
    if level.tail:
        c.orders[level.tail].next = slot
    else:
        level.head = slot
    level.tail = slot

cdef inline void order_unlink(Core* c, uint32_t slot) noexcept nogil:
    cdef Order* order = c.orders + slot
    cdef Level* level = c.levels + order.level
    if order.prev:
        c.orders[order.prev].next = order.next
    else:
        level.head = order.next
    if order.next:
        c.orders[order.next].prev = order.prev
    else:
        level.tail = order.prev
        if order.prev == 0:
            level_close(c, order.level)

cdef inline void order_count(Core* c, Window* window, uint32_t slot, int32_t change) noexcept nogil:
    window.live += change
    c.live += change
    if UNLIKELY(c.orders[slot].flags & (ICEBERG | EXPIRES)):
        c.icebergs += change if c.orders[slot].flags & ICEBERG else 0
        c.expiring += change if c.orders[slot].flags & EXPIRES else 0

cdef inline void order_join(Core* c, uint32_t slot, uint32_t queue_number, uint32_t key) noexcept nogil:
    """Puts a filled-in order into its queue and the index."""
    order_link(c, slot, queue_number, key)
    order_count(c, c.windows + c.orders[slot].window, slot, 1)
    index_put(c, c.orders[slot].id, slot)

cdef inline void order_leave(Core* c, uint32_t slot) noexcept nogil:
    """Takes an order out of its queue and the index; its slot is free afterwards, its other fields still readable."""
    cdef Window* window = c.windows + c.orders[slot].window
    if UNLIKELY(c.journal):
        note(c, slot, UNDO_LEAVE)
    order_unlink(c, slot)
    index_remove(c, slot)
    order_give(c, slot)
    order_count(c, window, slot, -1)

# ---- a dry run and its undoing: every change is written down, and taken back newest first

cdef enum:
    UNDO_LEAVE = 0
    UNDO_CHANGE = 1
    UNDO_SLICE = 2
    UNDO_JOIN = 3

cdef void note(Core* c, uint32_t slot, uint32_t what) noexcept nogil:
    cdef Undo* undo = c.undo + c.undo_used
    c.undo_used += 1
    undo.what = what
    undo.slot = slot
    undo.order = c.orders[slot]
    undo.key = key_at(c, undo.order.level)
    undo.queue = c.pages[undo.order.level >> 6].queue

cdef void order_put_back(Core* c, Undo* undo) noexcept nogil:
    """Between the neighbours it had, which are there again since all later changes were taken back before."""
    cdef uint32_t slot = undo.slot, number = level_open(c, undo.queue, undo.key)
    c.orders[slot] = undo.order
    c.orders[slot].level = number
    if undo.order.prev:
        c.orders[undo.order.prev].next = slot
    else:
        c.levels[number].head = slot
    if undo.order.next:
        c.orders[undo.order.next].prev = slot
    else:
        c.levels[number].tail = slot

cdef void undo_to(Core* c, uint64_t mark) noexcept nogil:
    """Takes back what was noted since `mark`."""
    cdef Undo* undo
    cdef Window* window
    cdef uint32_t slot
    while c.undo_used > mark:
        c.undo_used -= 1
        undo = c.undo + c.undo_used
        slot = undo.slot
        window = c.windows + undo.order.window
        if undo.what == UNDO_JOIN:
            order_unlink(c, slot)
            index_remove(c, slot)
            order_give(c, slot)
            order_count(c, window, slot, -1)
        elif undo.what == UNDO_LEAVE:
            order_take(c)               # the slot itself was the newest free one
            order_put_back(c, undo)
            index_put(c, c.orders[slot].id, slot)
            order_count(c, window, slot, 1)
        elif undo.what == UNDO_SLICE:
            order_unlink(c, slot)
            order_put_back(c, undo)
        else:
            c.orders[slot].quantity_wh = undo.order.quantity_wh

# ---- reading

cdef void order_record(Core* c, uint32_t slot, CResting* out) noexcept nogil:
    cdef Order* order = c.orders + slot
    cdef Queue* queue = queue_at(c, order.level)
    memset(out, 0, sizeof(CResting))
    out.order_id = order.id
    out.sequence = order.sequence
    out.quantity_wh = <int64_t>order.quantity_wh + order.hidden_wh
    out.expires_ms = order.expires_ms
    out.participant = order.participant
    out.meter = order.meter
    out.window = c.windows[queue.window].window
    out.zone = queue.place & 15
    out.side = queue.place >> 4
    out.price = price_of(out.side, key_at(c, order.level))
    out.flags = order.flags & 3
    if out.side:
        out.source = queue.sub
    else:
        out.profile = queue.sub
    out.total_wh = order.total_wh
    out.display_wh = order.display_wh
    out.shown_wh = order.quantity_wh if order.display_wh else 0

cdef uint64_t queue_read(Core* c, Queue* queue, CResting* records) noexcept nogil:
    """Writes the queue's orders by key, then sequence; returns how many."""
    cdef uint64_t written = 0
    cdef uint32_t key = queue.best, slot
    while key != NOTHING:
        slot = c.levels[level_at(c, queue, key)].head
        while slot:
            order_record(c, slot, records + written)
            written += 1
            slot = c.orders[slot].next
        key = least_key_from(c, queue, key + 1)
    return written

cdef uint64_t depth_read(Core* c, Queue* queue, uint64_t levels_most, int64_t now_ms, CDepth* depth) noexcept nogil:
    """Writes at most `levels_most` prices that have unexpired orders, best first, what is hidden not counted."""
    cdef uint64_t written = 0
    cdef uint32_t key = queue.best, slot
    while key != NOTHING and written < levels_most:
        slot = c.levels[level_at(c, queue, key)].head
        depth[written].price = price_of(queue.place >> 4, key)
        depth[written].orders = 0
        depth[written].quantity_wh = 0
        while slot:
            if c.orders[slot].expires_ms == 0 or c.orders[slot].expires_ms > now_ms:
                depth[written].orders += 1
                depth[written].quantity_wh += c.orders[slot].quantity_wh
            slot = c.orders[slot].next
        if depth[written].orders:
            written += 1
        key = least_key_from(c, queue, key + 1)
    return written
