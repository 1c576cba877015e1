# Operations, one after another: places and amends with their conditions, cancels, bilateral trades, capacities, halts,
# groups, and the uncrossing that follows whatever raised a residual.

cdef enum:
    KIND_PLACE = 0
    KIND_CANCEL = 1
    KIND_AMEND = 2
    KIND_BILATERAL = 3
    KIND_CAPACITY = 4
    KIND_HALT = 5
    KIND_RESUME = 6
    KIND_UNCROSS = 7
    FORCE_GATE = 0
    FORCE_TIME = 1
    FORCE_IOC = 2
    FORCE_FOK = 3
    POST_ONLY = 4               # flag of an operation beside the self-trade mode
    # kinds of the compact record
    RECORD_LIMIT = 0
    RECORD_CANCEL = 1
    RECORD_IOC = 2
    RECORD_FOK = 3
    RECORD_POST_ONLY = 4
    RECORD_MODIFY = 5

cdef struct Terms:              # of an order, beside what its run needs
    int64_t quantity_wh
    int64_t expires_ms
    uint32_t meter
    uint32_t minimum_wh
    uint32_t display_wh
    uint32_t filled_wh          # before this operation: an amend
    uint8_t force
    bint post_only

cdef inline void place(Core* c, uint32_t window_slot, Incoming* order, Terms* terms, uint64_t* next_sequence,
                       CResult* result, bint plain, bint compact, bint dry) noexcept nogil:
    """Matches an order under its conditions, then rests or cancels what is left.

    Conditions ask what a greedy run would do: the run is made, written down, and taken back if it fails them.
    """
    cdef Window* window = c.windows + window_slot
    cdef bint conditional = dry and (terms.post_only or terms.force == FORCE_FOK or terms.minimum_wh != 0)
    cdef bint outer = c.journal, failed = False, was_raised = c.raised
    cdef uint64_t mark = c.undo_used, trades = c.trades_used, closed = c.closed_used, first = next_sequence[0]
    cdef int64_t residual[64]
    cdef uint32_t slot
    cdef Order* resting
    cdef Detail* detail
    order.left = terms.quantity_wh
    order.code = CODE_RESTING
    if UNLIKELY(conditional):
        c.journal = True
        memcpy(residual, window.residual, 2 * c.corridor_count * sizeof(int64_t))
    match(c, window, order, next_sequence, plain, compact, dry)
    if UNLIKELY(conditional):
        if terms.post_only:
            failed = order.fills != 0
        elif terms.force == FORCE_FOK and order.left >= LOT:
            failed = True
        else:
            failed = terms.quantity_wh - order.left < terms.minimum_wh
        if failed:
            undo_to(c, mark)
            memcpy(window.residual, residual, 2 * c.corridor_count * sizeof(int64_t))
            c.trades_used, c.closed_used, c.raised = trades, closed, was_raised
            next_sequence[0] = first
            order.left = terms.quantity_wh
            order.fills = 0
            if terms.post_only:
                order.code = CODE_WOULD_TRADE
            elif terms.force == FORCE_FOK or terms.force == FORCE_IOC:
                order.code = CODE_KILLED
            else:
                order.code = CODE_RESTING
        c.journal = outer
        if not outer:
            c.undo_used = 0
    result.visits = <uint16_t>order.visits
    result.fills = <uint16_t>order.fills
    result.filled_wh = terms.quantity_wh - order.left
    result.remaining_wh = order.left
    result.sequence = 0
    if order.left == 0:
        order.code = CODE_FILLED
    elif order.left < LOT:
        order.code = CODE_CLOSED_BELOW_LOT
    elif order.code == CODE_RESTING and terms.force == FORCE_IOC:
        order.code = CODE_CANCELLED_IOC
    result.code = order.code
    if order.code != CODE_RESTING:
        return
    slot = order_take(c)
    resting = c.orders + slot
    detail = c.details + slot
    resting.id = order.id
    resting.participant = order.participant
    resting.flags = order.mode
    resting.quantity_wh = <uint32_t>order.left
    detail.sequence = next_sequence[0]
    detail.expires_ms = terms.expires_ms
    detail.meter = terms.meter
    detail.hidden_wh = 0
    detail.display_wh = terms.display_wh
    detail.total_wh = <uint32_t>(terms.quantity_wh + terms.filled_wh)
    if terms.expires_ms:
        resting.flags |= EXPIRES
    if UNLIKELY(terms.display_wh != 0):
        resting.flags |= ICEBERG
        if resting.quantity_wh > terms.display_wh:
            detail.hidden_wh = resting.quantity_wh - terms.display_wh
            resting.quantity_wh = terms.display_wh
    order_join(c, slot, queue_open(c, window_slot, order.side, order.zone, order.sub),
               key_of(order.side, <uint32_t>order.price // TICK))
    if dry and c.journal:
        note(c, slot, UNDO_JOIN)
    result.sequence = next_sequence[0]
    next_sequence[0] += 1

cdef void place_conditional(Core* c, uint32_t window_slot, Incoming* order, Terms* terms, uint64_t* next_sequence,
                            CResult* result, bint compact) noexcept nogil:
    if compact:
        place(c, window_slot, order, terms, next_sequence, result, False, True, True)
    else:
        place(c, window_slot, order, terms, next_sequence, result, False, False, True)

cdef inline void cancel(Core* c, uint32_t window_slot, uint64_t order_id, CResult* result) noexcept nogil:
    cdef uint32_t slot = index_find(c, order_id)
    if slot == 0 or queue_at(c, c.orders[slot].level).window != window_slot:
        result.code = CODE_UNKNOWN_ORDER
        return
    result.code = CODE_CANCELLED
    result.remaining_wh = c.orders[slot].quantity_wh
    if UNLIKELY(c.orders[slot].flags & ICEBERG):
        result.remaining_wh += c.details[slot].hidden_wh
    order_leave(c, slot)

cdef inline void prepare(Core* c, Incoming* order, int side, uint32_t zone, uint32_t sub) noexcept nogil:
    order.side, order.zone, order.sub = <uint8_t>side, <uint8_t>zone, <uint8_t>sub
    order.sequence = 0
    order.hidden = 0
    order.fills = order.visits = 0
    order.fills_most, order.visits_most = FILLS_MOST, VISITS_MOST
    order.met = False
    order.closed[0] = order.closed[1] = 0
    if side == SIDE_BUY:
        order.zones, order.subs = c.profile_zones[sub], c.profile_sources[sub]
    else:
        order.zones, order.subs = 0xFFFF, 0

cdef void amend(Core* c, uint32_t window_slot, uint64_t order_id, int32_t price, int64_t now_ms, uint32_t number,
                int64_t total_wh, bint post_only, uint64_t* next_sequence, CResult* result, bint compact) noexcept nogil:
    """What is not named comes from the order in the book."""
    cdef Incoming prepared
    cdef Incoming* order = &prepared
    cdef uint32_t slot = index_find(c, order_id), key, queue_number
    cdef Order* old
    cdef Detail* detail
    cdef Queue* queue
    cdef Terms terms
    cdef int64_t left, filled
    cdef uint64_t mark = c.undo_used
    cdef bint outer = c.journal
    if slot == 0 or queue_at(c, c.orders[slot].level).window != window_slot:
        result.code = CODE_UNKNOWN_ORDER
        return
    old = c.orders + slot
    detail = c.details + slot
    queue_number = c.pages[old.level >> 6].queue
    queue = c.queues + queue_number
    key = key_at(c, old.level)
    if detail.expires_ms and detail.expires_ms <= now_ms:
        result.code = CODE_EXPIRED
        return
    if detail.display_wh and total_wh > SLICES_MOST * <int64_t>detail.display_wh:
        result.code = CODE_INVALID
        return
    left = <int64_t>old.quantity_wh + detail.hidden_wh
    filled = detail.total_wh - left
    if total_wh - filled < LOT:
        # at or below the filled part; what is less than a lot above it could not stay open either
        cancel(c, window_slot, order_id, result)
        return
    if price == price_of(queue.place >> 4, key) and total_wh < detail.total_wh:
        left = total_wh - filled
        if left < old.quantity_wh:
            old.quantity_wh = <uint32_t>left
        detail.hidden_wh = <uint32_t>(left - old.quantity_wh)
        detail.total_wh = <uint32_t>total_wh
        result.code = CODE_REDUCED
        result.sequence = detail.sequence
        result.remaining_wh = left
        return
    order.id, order.price, order.now_ms, order.number = order_id, price, now_ms, number
    order.window = c.windows[window_slot].window
    order.participant = old.participant
    order.mode = old.flags & 3
    prepare(c, order, queue.place >> 4, queue.place & 15, queue.sub)
    terms.quantity_wh = total_wh - filled
    terms.filled_wh = <uint32_t>filled
    terms.expires_ms = detail.expires_ms
    terms.meter = detail.meter
    terms.display_wh = detail.display_wh
    terms.minimum_wh = 0
    terms.force = FORCE_TIME if detail.expires_ms else FORCE_GATE
    terms.post_only = post_only
    if post_only:
        c.journal = True
    order_leave(c, slot)
    if compact:
        place(c, window_slot, order, &terms, next_sequence, result, False, True, True)
    else:
        place(c, window_slot, order, &terms, next_sequence, result, False, False, True)
    if post_only:
        if order.code == CODE_WOULD_TRADE:
            undo_to(c, mark)
            result.remaining_wh = left
        c.journal = outer
        if not outer:
            c.undo_used = 0

cdef inline bint price_good(int32_t price) noexcept nogil:
    return 0 <= price <= LAST_TICK * TICK and price % TICK == 0

cdef inline bint quantity_good(int64_t quantity_wh) noexcept nogil:
    return LOT <= quantity_wh <= MOST_WH and quantity_wh % LOT == 0

cdef inline bint well_formed(Core* c, COperation* op) noexcept nogil:
    if op.zone >= c.zone_count or op.side > SIDE_SELL or op.force > FORCE_FOK or op.flags > (POST_ONLY | STP_BOTH):
        return False
    if (op.flags & 3) > STP_BOTH or not price_good(op.price) or not quantity_good(op.quantity_wh):
        return False
    if op.side == SIDE_BUY:
        if op.profile >= c.profile_count or op.source:
            return False
    elif op.source >= c.source_count or op.profile:
        return False
    if op.to_zone or op.path or op.corridor or op.reserved:
        return False
    if op.flags & POST_ONLY and (op.force >= FORCE_IOC or op.minimum_wh):
        return False
    if op.minimum_wh and (op.minimum_wh > op.quantity_wh or op.force == FORCE_FOK):
        return False
    if op.display_wh and (op.display_wh % LOT or op.display_wh > op.quantity_wh or op.force >= FORCE_IOC
                          or op.quantity_wh > SLICES_MOST * <int64_t>op.display_wh):
        return False
    return op.expires_ms > 0 if op.force == FORCE_TIME else op.expires_ms == 0

cdef void bilateral(Core* c, uint32_t window_slot, COperation* op, Incoming* order, CResult* result,
                    bint compact) noexcept nogil:
    """`quantity_wh` is delivered from `zone` to `to_zone` over `path`; it pays losses and wheeling and uses capacity."""
    cdef Window* window = c.windows + window_slot
    cdef Route* route
    cdef int64_t injected
    if (op.zone >= c.zone_count or op.to_zone >= c.zone_count or not price_good(op.price)
            or not quantity_good(op.quantity_wh)):
        result.code = CODE_INVALID
        return
    if op.path >= c.route_count[16 * op.zone + op.to_zone]:
        result.code = CODE_NO_PATH
        return
    route = c.routes + c.route_first[16 * op.zone + op.to_zone] + op.path
    injected = (op.quantity_wh * PPM + route.keep_ppm - 1) // route.keep_ppm
    if path_offer(c, window, route) < injected:
        result.code = CODE_NO_CAPACITY
        return
    path_take(c, window, route, injected, op.quantity_wh)
    write_trade(c, order, 0, op.order_id, 0, 0, SIDE_BUY, op.price, op.quantity_wh, injected,
                (route.wheel_uthb_kwh * op.quantity_wh + 500) // 1000, op.zone, op.to_zone, op.path, compact)
    result.code = CODE_FILLED
    result.filled_wh = op.quantity_wh
    result.fills = 1

cdef bint may_cross(Core* c, Window* window) noexcept nogil:
    """Whether some buy and some sell might trade by their prices, losses and capacities left out."""
    cdef uint32_t seller, buyer
    cdef int32_t limit
    for buyer in range(c.zone_count):
        if window.best[buyer] == NOTHING:
            continue
        limit = price_of(SIDE_BUY, window.best[buyer])
        for seller in range(c.zone_count):
            if (window.best[16 + seller] != NOTHING
                    and price_of(SIDE_SELL, window.best[16 + seller]) + c.least_wheel[16 * seller + buyer] <= limit):
                return True
    return False

cdef void uncross(Core* c, uint32_t window_slot, uint32_t number, int64_t now_ms, uint64_t* next_sequence, uint32_t* visits,
                  uint32_t* fills, bint compact) noexcept nogil:
    """Resting buys by (limit descending, sequence) run as incoming against resting sells, in passes, until a pass trades
    nothing. When the batch's bound is used up and something might still trade, the window is marked.

    Expired buys are passed over. A queue whose order met no candidate is left alone until the next fill: its later orders want less.
    """
    cdef Window* window = c.windows + window_slot
    cdef Incoming order
    cdef Queue* queue
    cdef Order* resting
    cdef Detail* detail
    cdef uint32_t zone, bits, sub, key, slot, chosen, chosen_key, chosen_place, after_key
    cdef uint64_t after_sequence
    cdef uint32_t idle[16]          # profiles per zone
    cdef bint progress = True
    c.raised = False
    if not may_cross(c, window):
        return
    while progress:
        progress = False
        after_key, after_sequence = 0, 0
        memset(idle, 0, sizeof(idle))
        while True:
            chosen, chosen_key, chosen_place = 0, NOTHING, 0
            for zone in range(c.zone_count):
                bits = window.filled[zone] & ~idle[zone]
                while bits:
                    sub = LOWEST_BIT(bits)
                    bits &= bits - 1
                    queue = c.queues + window.queue[queue_index(SIDE_BUY, zone, sub)]
                    key = least_key_from(c, queue, after_key)
                    slot = 0
                    if key == after_key:
                        slot = c.levels[level_at(c, queue, key)].head
                        while slot and c.details[slot].sequence <= after_sequence:
                            slot = c.orders[slot].next
                        if slot == 0:
                            key = least_key_from(c, queue, key + 1)
                    if key == NOTHING or key > chosen_key:
                        continue
                    if slot == 0:
                        slot = c.levels[level_at(c, queue, key)].head
                    if key < chosen_key or c.details[slot].sequence < c.details[chosen].sequence:
                        chosen, chosen_key, chosen_place = slot, key, 32 * zone + sub
            if chosen == 0:
                break
            resting = c.orders + chosen
            detail = c.details + chosen
            after_key, after_sequence = chosen_key, detail.sequence
            if resting.flags & EXPIRES and detail.expires_ms <= now_ms:
                continue
            prepare(c, &order, SIDE_BUY, chosen_place >> 5, chosen_place & 31)
            order.id = resting.id
            order.sequence = detail.sequence
            order.left = resting.quantity_wh
            order.hidden = detail.hidden_wh
            order.now_ms = now_ms
            order.number = number
            order.participant = resting.participant
            order.price = price_of(SIDE_BUY, chosen_key)
            order.window = window.window
            order.mode = resting.flags & 3
            order.code = CODE_RESTING
            order.fills_most = <uint32_t>c.uncross_fills
            order.visits_most = <uint32_t>c.uncross_visits
            match(c, window, &order, next_sequence, False, compact, True)
            c.uncross_fills -= order.fills
            c.uncross_visits -= order.visits
            visits[0] += order.visits
            fills[0] += order.fills
            resting.quantity_wh = <uint32_t>order.left
            if order.fills:
                progress = True
                memset(idle, 0, sizeof(idle))
            elif not order.met:
                idle[chosen_place >> 5] |= <uint32_t>1 << (chosen_place & 31)
            if order.left < LOT:
                if not slice_next(c, chosen, number, next_sequence):
                    if order.left + order.hidden:
                        report(c, chosen, number, REASON_BELOW_LOT)
                    order_leave(c, chosen)
            elif order.code == CODE_CANCELLED_SELF_TRADE:
                report(c, chosen, number, REASON_SELF_TRADE)
                order_leave(c, chosen)
            elif order.code == CODE_CANCELLED_LIMIT:
                window.flags |= UNFINISHED
                c.raised = False
                return
    c.raised = False

cdef inline void apply(Core* c, COperation* op, uint32_t number, uint32_t window_slot, int64_t now_ms,
                       uint64_t* next_sequence, CResult* result, bint plain) noexcept nogil:
    cdef Window* window = c.windows + window_slot
    cdef Incoming order
    cdef Terms terms
    cdef uint32_t edge
    order.id = op.order_id
    order.number = number
    order.window = op.window
    order.price = op.price
    order.now_ms = now_ms
    if op.kind == KIND_CANCEL:
        cancel(c, window_slot, op.order_id, result)
    elif op.kind == KIND_PLACE:
        if not well_formed(c, op):
            result.code = CODE_INVALID
        elif op.force == FORCE_TIME and op.expires_ms <= now_ms:
            result.code = CODE_EXPIRED
        elif index_find(c, op.order_id):
            result.code = CODE_DUPLICATE_ORDER
        elif window.flags:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            order.participant = op.participant
            order.mode = op.flags & 3
            prepare(c, &order, op.side, op.zone, op.profile if op.side == SIDE_BUY else op.source)
            terms.quantity_wh = op.quantity_wh
            terms.expires_ms = op.expires_ms
            terms.meter = op.meter
            terms.minimum_wh = op.minimum_wh
            terms.display_wh = op.display_wh
            terms.filled_wh = 0
            terms.force = op.force
            terms.post_only = op.flags & POST_ONLY != 0
            if LIKELY(op.group == 0 and op.minimum_wh == 0 and op.force != FORCE_FOK and op.flags < POST_ONLY):
                place(c, window_slot, &order, &terms, next_sequence, result, plain, False, False)
            else:
                place_conditional(c, window_slot, &order, &terms, next_sequence, result, False)
    elif op.kind == KIND_AMEND:
        if not price_good(op.price) or op.quantity_wh < 0 or op.quantity_wh > MOST_WH or op.quantity_wh % LOT:
            result.code = CODE_INVALID
        elif window.flags:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            amend(c, window_slot, op.order_id, op.price, now_ms, number, op.quantity_wh, op.flags & POST_ONLY != 0,
                  next_sequence, result, False)
    elif op.kind == KIND_BILATERAL:
        if window.flags:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            bilateral(c, window_slot, op, &order, result, False)
    elif op.kind == KIND_CAPACITY:
        if op.corridor >= c.corridor_count or op.side > 1 or not 0 <= op.quantity_wh <= WIDEST_WH:
            result.code = CODE_INVALID
            return
        edge = 2 * op.corridor + op.side
        c.raised = c.raised or op.quantity_wh > window.capacity[edge]
        window.residual[edge] += op.quantity_wh - window.capacity[edge]
        window.capacity[edge] = op.quantity_wh
        result.code = CODE_DONE
        result.remaining_wh = window.residual[edge]
    elif op.kind == KIND_HALT:
        window.flags |= HALTED
        result.code = CODE_DONE
    elif op.kind == KIND_RESUME:
        c.raised = c.raised or window.flags & HALTED != 0
        window.flags &= ~<uint32_t>HALTED
        result.code = CODE_DONE
    elif op.kind == KIND_UNCROSS:
        window.flags &= ~<uint32_t>UNFINISHED
        c.raised = True
        result.code = CODE_DONE
    else:
        result.code = CODE_INVALID

cdef inline void settle(Core* c, uint32_t number, uint32_t window_slot, int64_t now_ms, uint64_t* next_sequence,
                        CResult* result) noexcept nogil:
    """After an operation that raised a residual or resumed the window."""
    cdef uint32_t visits = 0, fills = 0
    if c.windows[window_slot].flags:
        c.raised = False
        return
    uncross(c, window_slot, number, now_ms, next_sequence, &visits, &fills, False)
    result.visits = <uint16_t>min(result.visits + visits, <uint32_t>65535)
    result.fills = <uint16_t>min(result.fills + fills, <uint32_t>65535)
    if c.windows[window_slot].flags & UNFINISHED and result.code == CODE_DONE:
        result.code = CODE_UNFINISHED

cdef uint64_t run_group(Core* c, COperation* ops, uint64_t n, uint64_t first, int64_t now_ms, uint64_t* next_sequence,
                        CResult* results) noexcept nogil:
    """Cancels followed by post-only orders, all or nothing. Returns the index after the group."""
    cdef uint64_t end = first, i, closed = c.closed_used, sequence = next_sequence[0], stopped
    cdef bint good = True, placing = False
    while end < n and ops[end].group == ops[first].group:
        end += 1
    c.journal = True
    for i in range(first, end):
        if ops[i].kind == KIND_PLACE and ops[i].flags & POST_ONLY:
            placing = True
        elif ops[i].kind != KIND_CANCEL or placing:
            results[i].code = CODE_INVALID
            good = False
            break
        apply(c, ops + i, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i, False)
        if results[i].code != CODE_CANCELLED and results[i].code != CODE_RESTING:
            good = False
            break
    if not good:
        undo_to(c, 0)
        c.closed_used = closed
        next_sequence[0] = sequence
        stopped = i
        for i in range(first, end):
            if i != stopped:
                memset(results + i, 0, sizeof(CResult))
                results[i].code = CODE_GROUP_REFUSED
    c.journal = False
    c.undo_used = 0
    return end

# ---- looking ahead: most of the time is waiting for memory

cdef inline uint32_t level_peek(Core* c, uint32_t window_slot, int side, uint32_t zone, uint32_t sub,
                                uint32_t tick) noexcept nogil:
    """The level where the order would rest if its page exists, else 0. It may be out of date by then."""
    cdef uint32_t number = c.windows[window_slot].queue[queue_index(side, zone, sub)]
    cdef uint32_t key = key_of(side, tick)
    cdef Queue* queue = c.queues + number
    cdef Branch* branch
    if not (queue.bits >> (key >> 12)) & 1:
        return 0
    branch = c.branches + queue.branch[key >> 12]
    return (branch.page[(key >> 6) & 63] << 6) | (key & 63)

cdef inline void prefetch_leaving(Core* c, uint64_t id) noexcept nogil:
    cdef uint32_t slot = index_peek(c, id)
    cdef Order* order = c.orders + slot
    if slot:
        PREFETCH(c.levels + order.level)
        PREFETCH(c.orders + order.prev)
        PREFETCH(c.orders + order.next)

cdef inline void look_ahead(Core* c, COperation* ops, uint64_t n, uint64_t i) noexcept nogil:
    """Asks for the lines that operations 24, 16 and 8 places ahead will touch."""
    cdef uint32_t level
    cdef COperation* op
    if i + 24 < n:
        if c.dense != NULL:
            if ops[i + 24].order_id < c.dense_capacity:
                PREFETCH(c.dense + ops[i + 24].order_id)
        else:
            PREFETCH(c.index + index_home(c, <uint32_t>ops[i + 24].order_id))
        PREFETCH(c.windows + c.slots[i + 24])
        PREFETCH(<char*>(c.windows + c.slots[i + 24]) + 64)
    if i + 16 < n:
        op = ops + i + 16
        if op.kind == KIND_CANCEL:
            level = index_peek(c, op.order_id)
            if level:
                PREFETCH(c.orders + level)
        elif op.zone < c.zone_count and op.side <= SIDE_SELL and <uint32_t>op.price <= LAST_TICK * TICK and (
                op.profile < PROFILES_MOST and op.source < SOURCES_MOST):
            level = level_peek(c, c.slots[i + 16], op.side, op.zone, op.source if op.side else op.profile,
                               <uint32_t>op.price // TICK)
            if level:
                PREFETCH(c.levels + level)
    if i + 8 < n:
        op = ops + i + 8
        if op.kind == KIND_CANCEL:
            prefetch_leaving(c, op.order_id)
        elif op.zone < c.zone_count and op.side <= SIDE_SELL and <uint32_t>op.price <= LAST_TICK * TICK and (
                op.profile < PROFILES_MOST and op.source < SOURCES_MOST):
            level = level_peek(c, c.slots[i + 8], op.side, op.zone, op.source if op.side else op.profile,
                               <uint32_t>op.price // TICK)
            if level:
                PREFETCH(c.orders + c.levels[level].tail)

cdef inline void run_as(Core* c, COperation* ops, uint64_t n, int64_t now_ms, uint64_t* next_sequence, CResult* results,
                        bint plain) noexcept nogil:
    cdef uint64_t i = 0
    while i < n:
        look_ahead(c, ops, n, i)
        if UNLIKELY(ops[i].group != 0):
            i = run_group(c, ops, n, i, now_ms, next_sequence, results)
            continue
        apply(c, ops + i, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i, plain)
        if UNLIKELY(c.raised):
            settle(c, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i)
        i += 1

cdef void run(Core* c, COperation* ops, uint64_t n, int64_t now_ms, uint64_t* next_sequence,
              CResult* results) noexcept nogil:
    if c.plain:
        run_as(c, ops, n, now_ms, next_sequence, results, True)
    else:
        run_as(c, ops, n, now_ms, next_sequence, results, False)
