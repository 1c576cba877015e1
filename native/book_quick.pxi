# Compact records where each side of a zone has one queue (one source, one profile that accepts all), self-trade prevention is
# off, and nothing resting expires or is hidden. The same rules as `place` and `cancel` in a loop of its own, since here every
# instruction shows. In one zone without losses or wheeling every order that crosses is admissible, at the resting price, for
# as much as both have (`plain_match`); otherwise `match` does it, told what cannot be. Whatever is not a limit order, IOC or
# cancel goes the common way.

cdef struct Quick:              # what the loop keeps at hand
    Order* orders
    Level* levels
    uint32_t* dense
    uint64_t dense_capacity
    CCompactTrade* trade        # the next one of plain_match
    uint64_t sequence
    int32_t live                # orders that joined less those that left

cdef inline uint32_t slot_named(Quick* p, uint32_t id) noexcept nogil:
    return p.dense[id] if LIKELY(id < p.dense_capacity) else 0

cdef inline void quick_give(Core* c, Quick* p, uint32_t slot, uint32_t id) noexcept nogil:
    p.dense[id] = 0
    p.orders[slot].next = c.orders_free - slot - 1
    c.orders_free = slot
    p.live -= 1

# Where queues are long (`plain`), the middle is where things happen, and branches are foreseen; where they are short, the
# middle and the ends go one way, by address.

cdef inline uint32_t* chosen(bint plain, bint first, uint32_t* a, uint32_t* b) noexcept nogil:
    return (a if first else b) if plain else either(first, a, b)

cdef inline uint32_t quick_cancel(Core* c, Quick* p, uint32_t slot, uint32_t id, bint plain) noexcept nogil:
    """What was left of it."""
    cdef Order* order = p.orders + slot
    cdef uint32_t number = order.level, before = order.prev, behind = order.next
    cdef uint32_t* to_next = chosen(plain, before != 0, &p.orders[before].next, &p.levels[number].head)
    cdef uint32_t* to_prev = chosen(plain, behind != 0, &p.orders[behind].prev, &p.levels[number].tail)
    to_next[0] = behind
    to_prev[0] = before
    quick_give(c, p, slot, id)
    if UNLIKELY((before | behind) == 0):
        level_close(c, number)
    return order.quantity_wh

cdef inline void quick_rest(Core* c, Quick* p, CRecord* record, Spot* spot, uint32_t left, uint32_t page,
                            bint plain) noexcept nogil:
    """`page` is where looking ahead has found its place if queues are many (not `plain`); it may be another's by now."""
    cdef uint32_t key = key_of(record.side, record.price), slot = order_take(c), number
    cdef uint32_t queue_number = spot.queue[record.side]
    cdef Queue* queue = c.queues + queue_number
    cdef Level* level
    cdef Order* order = p.orders + slot
    # Key and queue of a page, neighbours, are looked at together.
    if plain or UNLIKELY((<uint64_t*>&c.pages[page].key)[0] != (<uint64_t>queue_number << 32 | (key & ~<uint32_t>63))):
        page = page_at(c, queue, key)
        if UNLIKELY(page == 0):
            page = page_make(c, queue_number, key)
        if not plain:
            queue.recent[(key >> 6) & 7] = page
    number = (page << 6) | (key & 63)
    level = p.levels + number
    order.id = record.id
    order.next = 0
    order.prev = level.tail
    order.level = number
    order.quantity_wh = left
    order.participant = record.owner
    order.flags = STP_OFF
    order.window = <uint16_t>spot.window
    order.sequence = p.sequence
    order.expires_ms = 0
    order.meter = 0
    order.hidden_wh = 0
    order.display_wh = 0
    order.total_wh = LOT * record.quantity
    p.sequence += 1
    p.live += 1
    p.dense[record.id] = slot
    either(level.tail != 0, &p.orders[level.tail].next, &level.head)[0] = slot
    level.tail = slot
    if UNLIKELY(c.pages[page].bits == 0):
        page_filled(c, queue, page)
    c.pages[page].bits |= <uint64_t>1 << (key & 63)
    if UNLIKELY(key < queue.best):
        best_raise(c, queue, key, number)

cdef inline uint32_t plain_match(Core* c, Quick* p, CRecord* record, Spot* spot, int32_t window, uint32_t number,
                                 uint32_t left, uint32_t* fills) noexcept nogil:
    """What is left. The level's ends are written once, when the run leaves it."""
    cdef int other = record.side ^ 1
    cdef Queue* queue = c.queues + spot.queue[other]
    cdef uint32_t reach = key_of(other, record.price), slot, level_number, moved, rest, maker_id, following
    cdef int32_t price
    cdef Level* level
    cdef Order* maker
    cdef CCompactTrade* trade
    # NOTHING is beyond every reach.
    while queue.best <= reach:
        level_number = queue.level
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
            trade.window = window
            (<uint32_t*>&trade.seller_zone)[0] = <uint32_t>record.side << 16      # zones and path 0: one store for four
            if rest >= LOT:
                maker.quantity_wh = rest
                break
            if UNLIKELY(rest != 0):
                maker.quantity_wh = rest
                report(c, slot, number, REASON_BELOW_LOT)
            following = maker.next
            quick_give(c, p, slot, maker_id)
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

cdef inline uint32_t shared_match(Core* c, CRecord* record, Spot* spot, uint32_t number, uint64_t* next_sequence,
                                  uint32_t* fills) noexcept nogil:
    """What is left."""
    cdef Incoming order
    cdef Window* window = spot.at
    order.zones = zones_near(c, window.best + 16 * (record.side ^ 1), record.side, spot.zone, record.price)
    if order.zones == 0:
        return LOT * record.quantity
    order.id = record.id
    order.sequence = 0
    order.left = LOT * <int64_t>record.quantity
    order.hidden = order.now_ms = 0
    order.number = number
    order.participant = record.owner
    order.price = record.price * TICK
    order.window = window.window
    order.fills, order.visits, order.fills_most, order.visits_most = 0, 0, FILLS_MOST, VISITS_MOST
    order.subs = 1
    order.side, order.zone, order.sub, order.mode = record.side, <uint8_t>spot.zone, 0, STP_OFF
    order.code = CODE_RESTING
    order.closed[0] = order.closed[1] = 0
    match(c, window, &order, next_sequence, True, False, True)
    fills[0] = order.fills
    return <uint32_t>order.left

# ---- looking ahead, without branches: what a cancel has no use for is asked of queue 0, whose lines are at hand

cdef struct Ahead:              # where an order would rest, found in steps
    uint32_t* entry             # of the branch, for its page
    uint32_t level

cdef inline uint32_t* entry_ahead(Core* c, CRecord* record, Spot* spot, uint32_t* low) noexcept nogil:
    cdef uint32_t side = record.side & 1
    cdef uint32_t key = key_of(side, record.price if LIKELY(<uint32_t>record.price <= LAST_TICK) else 0)
    cdef Queue* queue = c.queues + (spot.queue[side] & -<uint32_t>(record.kind != RECORD_CANCEL))
    low[0] = key & 63
    return c.branches[queue.branch[key >> 12]].page + ((key >> 6) & 63)

cdef inline uint32_t level_recent(Core* c, CRecord* record, Spot* spot) noexcept nogil:
    """The same from the queue alone, whose best key shares the line; most likely."""
    cdef uint32_t side = record.side & 1, key = key_of(side, record.price)
    cdef Queue* queue = c.queues + (spot.queue[side] & -<uint32_t>(record.kind != RECORD_CANCEL))
    return queue.recent[(key >> 6) & 7] << 6 | (key & 63)

cdef inline void prefetch_order(Quick* p, uint32_t slot) noexcept nogil:
    """What a cancel of it will touch. Who does not rest is slot 0, whose line is at hand."""
    cdef Order* order = p.orders + slot
    PREFETCH(p.levels + order.level)
    PREFETCH(p.orders + order.prev)
    PREFETCH(p.orders + order.next)

cdef inline void look_ahead_plain(Core* c, Quick* p, CRecord* records, Ahead* ahead, uint32_t i,
                                  bint far) noexcept nogil:
    """For the records 32, 20 and 10 places ahead: as far as memory is away."""
    cdef uint32_t low
    cdef uint32_t* entry
    PREFETCH(p.dense + records[32].id)
    PREFETCH(p.orders + slot_named(p, records[20].id))
    prefetch_order(p, slot_named(p, records[10].id))
    if far:
        PREFETCH(p.orders + p.levels[ahead[(i + 8) & 31].level].tail)
        entry = entry_ahead(c, records + 16, c.spots, &low)
        ahead[(i + 16) & 31].level = (entry[0] << 6) | low
        PREFETCH(p.levels + ahead[(i + 16) & 31].level)

cdef inline void look_ahead_shared(Core* c, Quick* p, CRecord* records, const uint16_t* places, Ahead* ahead,
                                   uint32_t i, bint narrow) noexcept nogil:
    """For the records 24, 16, 10, 8 and 4 places ahead: from place and id to queue and order, to branch, to page and level,
    to neighbours. Where the pages of most queues are few (`narrow`), branches are left out: they would take the room of
    other lines in the nearest cache."""
    cdef Spot* spot = c.spots + places[24]
    cdef char* line = <char*>(c.queues + spot.queue[records[24].side & 1])
    cdef Ahead* place
    cdef uint32_t slot
    PREFETCH(p.dense + records[24].id)
    PREFETCH(line)
    if UNLIKELY(not narrow):
        PREFETCH(line + 64)
        PREFETCH(line + 128)
    line = <char*>spot.at
    PREFETCH(line)
    PREFETCH(line + 64)
    PREFETCH(line + 128)
    PREFETCH(p.orders + slot_named(p, records[16].id))
    place = ahead + ((i + 16) & 31)
    if LIKELY(narrow):
        place.level = level_recent(c, records + 16, c.spots + places[16])
    else:
        place.entry = entry_ahead(c, records + 16, c.spots + places[16], &place.level)
        PREFETCH(place.entry)
        place = ahead + ((i + 10) & 31)
        place.level |= place.entry[0] << 6
    PREFETCH(p.levels + place.level)
    PREFETCH(c.pages + (place.level >> 6))
    slot = slot_named(p, records[8].id)
    prefetch_order(p, slot)
    PREFETCH(c.pages + (p.orders[slot].level >> 6))
    PREFETCH(p.orders + p.levels[ahead[(i + 4) & 31].level].tail)

cdef inline uint64_t run_quick(Core* c, CRecord* records, const uint16_t* places, uint64_t n, uint64_t first,
                               int64_t now_ms, uint64_t* next_sequence, uint32_t* remaining, uint8_t* codes,
                               bint plain) noexcept nogil:
    """As `run`. All in the first spot if there are no `places`; `plain` is a constant of the caller."""
    cdef Quick state
    cdef Quick* p = &state
    cdef Ahead ahead[32]
    cdef CRecord* record
    cdef Spot* spot = c.spots
    cdef uint64_t i = first, ahead_end = n - 32 if n > 32 else 0
    cdef uint64_t room = c.compact_capacity - FILLS_MOST - (0 if plain else c.uncross_fills)
    cdef CCompactTrade* full = c.compact + room
    cdef Window* at = c.windows + spot.window
    cdef uint32_t slot, left, fills
    cdef int32_t window = c.windows[spot.window].window
    cdef bint narrow = c.pages_top <= 8 * c.queues_top
    cdef bint far = c.live > 131_072            # too many for the nearer caches: levels and their ends need asking, too
    for slot in range(32):
        ahead[slot].entry, ahead[slot].level = c.branches.page, 0
    p.orders, p.levels, p.dense, p.dense_capacity = c.orders, c.levels, c.dense, c.dense_capacity
    p.trade = c.compact + c.trades_used
    p.sequence = next_sequence[0]
    p.live = 0
    while i < n:
        if plain:
            if UNLIKELY(p.trade > full):
                break
        elif UNLIKELY(c.trades_used > room):
            break
        if LIKELY(i < ahead_end):
            if plain:
                look_ahead_plain(c, p, records + i, ahead, <uint32_t>i, far)
            else:
                look_ahead_shared(c, p, records + i, places + i, ahead, <uint32_t>i, narrow)
        record = records + i
        if not plain:
            spot = c.spots + places[i]
            at = spot.at
        slot = slot_named(p, record.id)
        if record.kind == RECORD_CANCEL:
            if LIKELY(slot != 0) and (plain or p.orders[slot].window == spot.window):
                codes[i] = CODE_CANCELLED
                remaining[i] = quick_cancel(c, p, slot, record.id, plain)
                if not plain:
                    at.live -= 1
            else:
                codes[i] = CODE_UNKNOWN_ORDER
                remaining[i] = 0
        elif UNLIKELY(slot != 0 or not is_ordinary(c, record) or (not plain and at.flags != 0)):
            next_sequence[0] = p.sequence
            if plain:
                c.trades_used = p.trade - c.compact
            apply_odd(c, record, <uint32_t>i, spot.window, spot.zone, STP_OFF, now_ms, next_sequence, remaining + i,
                      codes + i)
            if not plain and c.raised:
                uncross_record(c, <uint32_t>i, spot.window, now_ms, next_sequence)
            p.sequence = next_sequence[0]
            p.trade = c.compact + c.trades_used
        else:
            fills = 0
            if plain:
                left = plain_match(c, p, record, spot, window, <uint32_t>i, LOT * record.quantity, &fills)
            elif zones_below(c, at.best + 16 * (record.side ^ 1), record.side, record.price):
                left = shared_match(c, record, spot, <uint32_t>i, next_sequence, &fills)
            else:
                left = LOT * record.quantity
            remaining[i] = left
            if left < LOT:
                codes[i] = CODE_CLOSED_BELOW_LOT if UNLIKELY(left != 0) else CODE_FILLED
            elif UNLIKELY(fills == FILLS_MOST):
                codes[i] = CODE_CANCELLED_LIMIT
            elif record.kind == RECORD_IOC:
                codes[i] = CODE_CANCELLED_IOC
            else:
                codes[i] = CODE_RESTING
                quick_rest(c, p, record, spot, left, 0 if plain else ahead[i & 31].level >> 6, plain)
                if not plain:
                    at.live += 1
            if not plain and UNLIKELY(c.raised):
                next_sequence[0] = p.sequence
                uncross_record(c, <uint32_t>i, spot.window, now_ms, next_sequence)
                p.sequence = next_sequence[0]
        i += 1
    next_sequence[0] = p.sequence
    c.live += p.live
    if plain:
        c.trades_used = p.trade - c.compact
        c.windows[spot.window].live += p.live
    return i

cdef uint64_t run_plain(Core* c, CRecord* records, uint64_t n, uint64_t first, int64_t now_ms, uint64_t* next_sequence,
                        uint32_t* remaining, uint8_t* codes) noexcept nogil:
    return run_quick(c, records, NULL, n, first, now_ms, next_sequence, remaining, codes, True)

cdef uint64_t run_shared(Core* c, CRecord* records, const uint16_t* places, uint64_t n, uint64_t first, int64_t now_ms,
                         uint64_t* next_sequence, uint32_t* remaining, uint8_t* codes) noexcept nogil:
    return run_quick(c, records, places, n, first, now_ms, next_sequence, remaining, codes, False)
