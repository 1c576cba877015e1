# Uncrossing, MARKET 5: what follows whatever raised a residual or resumed a window, in pieces of bounded work.
#
# Resting buys by (limit descending, sequence) run as incoming against resting sells, in passes; a pass that traded is followed
# by another. When a bound of the batch is used up and something might still trade, the window keeps the point where the
# pass goes on: the buy, what its run has found closed, and whether another pass must follow. A run that goes on there does
# what one without interruption would have done; since a visit fills, removes an order, or closes one more (zone, path),
# bounds of one visit and one fill are enough to get to the end.

cdef uint32_t crossing(Core* c, Window* window) noexcept nogil:
    """Bits of the zones whose best buy might trade with a sell by all but quantities and profiles: no run of another zone's
    buys would meet a candidate."""
    cdef uint32_t seller, buyer, near, pair, i, zones = 0, least = NOTHING, buyers
    cdef int32_t limit
    cdef int64_t value
    cdef bint alone
    for seller in range(c.zone_count):
        least = min(least, window.best[16 + seller])
    if least == NOTHING:
        return 0
    # Nobody's limit is below the least of the sells and meets one.
    buyers = zones_below(c, window.best, SIDE_SELL, least)
    while buyers:
        buyer = LOWEST_BIT(buyers)
        buyers &= buyers - 1
        limit = price_of(SIDE_BUY, window.best[buyer])
        near = zones_near(c, window.best + 16, SIDE_BUY, buyer, <uint32_t>limit // TICK)
        while near:
            seller = LOWEST_BIT(near)
            near &= near - 1
            pair = 16 * seller + buyer
            for i in range(c.route_count[pair]):
                if open_to(c, window, c.routes + c.route_first[pair] + i, SIDE_SELL,
                           price_of(SIDE_SELL, window.best[16 + seller]), limit, &alone, &value):
                    zones |= <uint32_t>1 << buyer
    return zones

cdef inline uint32_t first_buy(Core* c, Window* window, uint32_t place, uint32_t key, uint64_t sequence) noexcept nogil:
    """The first buy of a queue at or after (key, sequence), or 0."""
    cdef Queue* queue = c.queues + window.queue[128 + place]
    cdef uint32_t found = least_key_from(c, queue, key), slot
    cdef Level* level
    if found == key:
        level = c.levels + level_at(c, queue, key)
        if c.orders[level.tail].sequence >= sequence:
            slot = level.head
            while c.orders[slot].sequence < sequence:
                slot = c.orders[slot].next
            return slot
        found = least_key_from(c, queue, key + 1)
    return 0 if found == NOTHING else c.levels[level_at(c, queue, found)].head

cdef void uncross(Core* c, uint32_t window_slot, uint32_t number, int64_t now_ms, uint64_t* next_sequence, uint32_t* visits,
                  uint32_t* fills, bint compact) noexcept nogil:
    """From the window's point on if it has one, else from the top.

    Expired buys are passed over. A queue whose order met no candidate is left alone until the next fill: its later orders
    want less. Not so if the order met some before it was interrupted, and what it found closed there hides the rest.
    """
    cdef Window* window = c.windows + window_slot
    cdef Incoming order
    cdef Order* resting
    cdef uint32_t zone, bits, sub, key, slot, place, following, chosen, chosen_key, chosen_place
    cdef uint32_t at_key = window.point_key             # the pass goes on at or after (at_key, at_sequence)
    cdef uint64_t at_sequence = window.point_sequence
    cdef bint resumes = at_sequence != 0, again = resumes and window.point_again, pending = True
    cdef uint32_t all_zones = (<uint32_t>1 << c.zone_count) - 1
    cdef uint32_t zones             # where the pass has something to run
    cdef uint32_t left
    cdef uint32_t idle[16]          # profiles per zone
    cdef uint32_t known[16]         # profiles per zone whose next buy is in `next_buy`
    cdef uint32_t next_buy[512]     # by place, 32 zone + profile: the next one of the pass, or 0
    c.raised = False
    window.point_sequence = window.point_key = 0
    while pending:
        zones = crossing(c, window)
        if zones == 0:
            break
        memset(idle, 0, sizeof(idle))
        memset(known, 0, sizeof(known))
        while True:
            chosen, chosen_key, chosen_place = 0, NOTHING, 0
            left = zones
            while left:
                zone = LOWEST_BIT(left)
                left &= left - 1
                bits = window.filled[zone] & ~idle[zone]
                while bits:
                    sub = LOWEST_BIT(bits)
                    bits &= bits - 1
                    place = 32 * zone + sub
                    if not (known[zone] >> sub) & 1:
                        next_buy[place] = first_buy(c, window, place, at_key, at_sequence)
                        known[zone] |= <uint32_t>1 << sub
                    slot = next_buy[place]
                    if slot == 0:
                        continue
                    key = key_at(c, c.orders[slot].level)
                    if key < chosen_key or (key == chosen_key
                                            and c.orders[slot].sequence < c.orders[chosen].sequence):
                        chosen, chosen_key, chosen_place = slot, key, place
            if chosen == 0:
                break
            resting = c.orders + chosen
            following = resting.next
            prepare(c, &order, SIDE_BUY, chosen_place >> 5, chosen_place & 31)
            if UNLIKELY(resumes):
                resumes = False
                if chosen_key == at_key and resting.sequence == at_sequence:
                    order.closed[0], order.closed[1] = window.point_closed[0], window.point_closed[1]
            at_key, at_sequence = chosen_key, resting.sequence + 1
            zone, sub = chosen_place >> 5, chosen_place & 31
            next_buy[chosen_place] = following
            if following == 0:
                known[zone] &= ~(<uint32_t>1 << sub)
            if resting.flags & EXPIRES and resting.expires_ms <= now_ms:
                continue
            order.id = resting.id
            order.sequence = resting.sequence
            order.left = resting.quantity_wh
            order.hidden = resting.hidden_wh
            order.now_ms = now_ms
            order.number = number
            order.participant = resting.participant
            order.price = price_of(SIDE_BUY, chosen_key)
            order.window = window.window
            order.mode = resting.flags & 3
            order.code = CODE_RESTING
            order.fills_most = <uint32_t>c.uncross_fills
            order.visits_most = <uint32_t>c.uncross_visits
            match(c, window, &order, next_sequence, compact, True, False)
            c.uncross_fills -= order.fills
            c.uncross_visits -= order.visits
            visits[0] += order.visits
            fills[0] += order.fills
            resting.quantity_wh = <uint32_t>order.left
            if order.fills:
                again = True
                zones = all_zones
                memset(idle, 0, sizeof(idle))
            elif not (order.met or order.closed[0] or order.closed[1]):
                idle[zone] |= <uint32_t>1 << sub
                known[zone] &= ~(<uint32_t>1 << sub)
            if order.left < LOT:
                if slice_next(c, chosen, number, next_sequence):
                    if following == 0:      # it is the last of its price again
                        next_buy[chosen_place] = chosen
                        known[zone] |= <uint32_t>1 << sub
                    continue
                if order.left + order.hidden:
                    report(c, chosen, number, REASON_BELOW_LOT)
                order_leave(c, chosen)
            elif order.code == CODE_CANCELLED_SELF_TRADE:
                report(c, chosen, number, REASON_SELF_TRADE)
                order_leave(c, chosen)
            elif order.code == CODE_CANCELLED_LIMIT:
                window.flags |= UNFINISHED
                window.point_key, window.point_sequence, window.point_again = chosen_key, order.sequence, again
                window.point_closed[0], window.point_closed[1] = order.closed[0], order.closed[1]
                c.raised = False
                return
        pending, again = again, False
        resumes = False
        at_key, at_sequence = 0, 0
    c.raised = False

cdef inline void settle(Core* c, uint32_t number, uint32_t window_slot, int64_t now_ms, uint64_t* next_sequence,
                        CResult* result) noexcept nogil:
    """After an operation that raised a residual or resumed the window."""
    cdef uint32_t visits = 0, fills = 0
    if c.windows[window_slot].flags:
        if c.windows[window_slot].flags & UNFINISHED:
            c.windows[window_slot].point_again = True
        c.raised = False
        return
    uncross(c, window_slot, number, now_ms, next_sequence, &visits, &fills, False)
    result.visits = <uint16_t>min(result.visits + visits, <uint32_t>65535)
    result.fills = <uint16_t>min(result.fills + fills, <uint32_t>65535)
    if c.windows[window_slot].flags & UNFINISHED and result.code == CODE_DONE:
        result.code = CODE_UNFINISHED
