# Compact records in one zone without losses, wheeling or profiles, self-trade prevention off, and nothing resting that
# expires or is hidden: then every order that crosses is admissible, at the resting price, for as much as both have. The same
# rules as `place` and `cancel` in a loop of its own, since here every instruction shows. Whatever is not a plain limit order,
# IOC or cancel goes the common way.

cdef struct Plain:              # what the loop keeps at hand
    Order* orders
    Level* levels
    uint32_t* dense
    uint64_t dense_capacity
    CCompactTrade* trade        # the next one
    uint64_t sequence
    uint32_t queue[2]           # by side
    int32_t window
    int32_t live                # orders that joined less those that left

cdef inline uint32_t slot_named(Plain* p, uint32_t id) noexcept nogil:
    return p.dense[id] if LIKELY(id < p.dense_capacity) else 0

cdef inline void plain_give(Core* c, Plain* p, uint32_t slot, uint32_t id) noexcept nogil:
    p.dense[id] = 0
    p.orders[slot].next = c.orders_free
    c.orders_free = slot
    p.live -= 1

cdef inline uint32_t plain_cancel(Core* c, Plain* p, uint32_t slot, uint32_t id) noexcept nogil:
    """What was left of it. Neighbours are told by address, so that the middle of a queue and its ends go one way."""
    cdef Order* order = p.orders + slot
    cdef uint32_t number = order.level, before = order.prev, behind = order.next
    cdef uint32_t* to_next = &p.orders[before].next if before else &p.levels[number].head
    cdef uint32_t* to_prev = &p.orders[behind].prev if behind else &p.levels[number].tail
    to_next[0] = behind
    to_prev[0] = before
    plain_give(c, p, slot, id)
    if UNLIKELY((before | behind) == 0):
        level_close(c, number)
    return order.quantity_wh

cdef inline uint32_t plain_match(Core* c, Plain* p, CRecord* record, uint32_t number, uint32_t left,
                                 uint32_t* fills) noexcept nogil:
    """What is left. The level's ends are written once, when the run leaves it."""
    cdef int other = record.side ^ 1
    cdef Queue* queue = c.queues + p.queue[other]
    cdef uint32_t reach = key_of(other, record.price), slot, level_number, moved, rest, maker_id, following
    cdef int32_t price
    cdef Level* level
    cdef Order* maker
    cdef CCompactTrade* trade
    while queue.best <= reach:      # NOTHING is beyond every reach
        level_number = level_at(c, queue, queue.best)
        level = p.levels + level_number
        price = price_of(other, queue.best)
        slot = level.head
        while True:
            maker = p.orders + slot
            PREFETCH(p.orders + maker.next)
            moved = left if left < maker.quantity_wh else maker.quantity_wh
            rest = maker.quantity_wh - moved
            left -= moved
            fills[0] += 1
            trade = p.trade
            p.trade += 1
            maker_id = <uint32_t>maker.id
            trade.maker_id = maker_id
            trade.taker_id = record.id
            trade.price = price
            trade.delivered_wh = moved
            trade.injected_wh = moved
            trade.operation = number
            trade.window = p.window
            (<uint32_t*>&trade.seller_zone)[0] = <uint32_t>record.side << 16      # zones and path 0: one store for four
            if rest >= LOT:
                maker.quantity_wh = rest
                break
            if UNLIKELY(rest != 0):
                maker.quantity_wh = rest
                report(c, slot, number, REASON_BELOW_LOT)
            following = maker.next
            plain_give(c, p, slot, maker_id)
            slot = following
            if slot == 0 or left < LOT or fills[0] == FILLS_MOST:
                break
        level.head = slot
        if slot == 0:
            level.tail = 0
            level_close(c, level_number)
        else:
            p.orders[slot].prev = 0
        if left < LOT or fills[0] == FILLS_MOST:
            break
    return left

cdef inline void plain_rest(Core* c, Plain* p, CRecord* record, uint32_t left) noexcept nogil:
    cdef uint32_t key = key_of(record.side, record.price), slot = c.orders_free, page, number
    cdef Queue* queue = c.queues + p.queue[record.side]
    cdef Level* level
    cdef Order* order
    if LIKELY(slot != 0):
        c.orders_free = p.orders[slot].next
    else:
        slot = c.orders_top
        c.orders_top += 1
    page = page_at(c, queue, key)
    if UNLIKELY(page == 0):
        page = page_make(c, p.queue[record.side], key)
    number = (page << 6) | (key & 63)
    level = p.levels + number
    order = p.orders + slot
    order.id = record.id
    order.next = 0
    order.prev = level.tail
    order.level = number
    order.quantity_wh = left
    order.participant = record.owner
    order.flags = STP_OFF
    order.sequence = p.sequence
    order.expires_ms = 0
    order.meter = 0
    order.hidden_wh = 0
    order.display_wh = 0
    order.total_wh = LOT * record.quantity
    p.sequence += 1
    p.live += 1
    p.dense[record.id] = slot
    if level.tail:
        p.orders[level.tail].next = slot
    else:
        level.head = slot
        if UNLIKELY(c.pages[page].bits == 0):
            page_filled(c, queue, page)
        c.pages[page].bits |= <uint64_t>1 << (key & 63)
        if key < queue.best:
            best_raise(c, queue, key)
    level.tail = slot

cdef inline uint32_t level_ahead(Core* c, Plain* p, CRecord* record) noexcept nogil:
    """Where the record's order would rest if it is one; some level otherwise."""
    cdef int side = record.side & 1
    return level_at(c, c.queues + p.queue[side],
                    key_of(side, record.price if LIKELY(<uint32_t>record.price <= LAST_TICK) else 0))

cdef void run_plain(Core* c, CRecord* records, uint64_t n, uint32_t window_slot, int64_t now_ms, uint64_t* next_sequence,
                    uint32_t* remaining, uint8_t* codes) noexcept nogil:
    cdef Plain state
    cdef Plain* p = &state
    cdef CRecord* record
    cdef Order* order
    cdef uint64_t i
    cdef uint32_t slot, left, fills
    cdef bint far = c.live > 131_072            # too many for the nearer caches: levels and their ends need asking, too
    p.orders, p.levels, p.dense, p.dense_capacity = c.orders, c.levels, c.dense, c.dense_capacity
    p.trade = c.compact
    p.sequence = next_sequence[0]
    p.queue[0], p.queue[1] = queue_open(c, window_slot, SIDE_BUY, 0, 0), queue_open(c, window_slot, SIDE_SELL, 0, 0)
    p.window = c.windows[window_slot].window
    p.live = 0
    for i in range(n):
        # Most of the time goes by waiting for memory: ask for the lines of the operations 24, 16 and 8 places ahead. Who
        # does not rest is slot 0, whose line is at hand.
        if LIKELY(i + 24 < n):
            PREFETCH(p.dense + records[i + 24].id)
            PREFETCH(p.orders + slot_named(p, records[i + 16].id))
            order = p.orders + slot_named(p, records[i + 8].id)
            PREFETCH(p.levels + order.level)
            PREFETCH(p.orders + order.prev)
            PREFETCH(p.orders + order.next)
            if far:
                PREFETCH(p.levels + level_ahead(c, p, records + i + 8))
                PREFETCH(p.orders + p.levels[level_ahead(c, p, records + i + 4)].tail)
        record = records + i
        slot = slot_named(p, record.id)
        if record.kind == RECORD_CANCEL:
            codes[i] = CODE_CANCELLED if slot else CODE_UNKNOWN_ORDER
            remaining[i] = plain_cancel(c, p, slot, record.id) if LIKELY(slot != 0) else 0
            continue
        if UNLIKELY(slot != 0 or not is_ordinary(c, record)):
            next_sequence[0] = p.sequence
            c.trades_used = p.trade - c.compact
            apply_odd(c, record, <uint32_t>i, window_slot, 0, STP_OFF, now_ms, next_sequence, remaining + i, codes + i)
            p.sequence = next_sequence[0]
            p.trade = c.compact + c.trades_used
            continue
        fills = 0
        left = plain_match(c, p, record, <uint32_t>i, LOT * record.quantity, &fills)
        remaining[i] = left
        if left < LOT:
            codes[i] = CODE_CLOSED_BELOW_LOT if UNLIKELY(left != 0) else CODE_FILLED
        elif UNLIKELY(fills == FILLS_MOST):
            codes[i] = CODE_CANCELLED_LIMIT
        elif record.kind == RECORD_IOC:
            codes[i] = CODE_CANCELLED_IOC
        else:
            codes[i] = CODE_RESTING
            plain_rest(c, p, record, left)
    next_sequence[0] = p.sequence
    c.trades_used = p.trade - c.compact
    c.live += p.live
    c.windows[window_slot].live += p.live
