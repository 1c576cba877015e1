# Orders under their conditions: place, cancel, amend, and bilateral trades.

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
                       CResult* result, bint compact, bint dry) noexcept nogil:
    """Matches an order under its conditions, then rests or cancels what is left.

    Conditions ask what a greedy run would do: the run is made, written down, and taken back if it fails them.
    """
    cdef Window* window = c.windows + window_slot
    cdef bint conditional = dry and (terms.post_only or terms.force == FORCE_FOK or terms.minimum_wh != 0)
    cdef bint outer = c.journal, failed = False, was_raised = c.raised
    cdef uint64_t mark = c.undo_used, trades = c.trades_used, closed = c.closed_used, first = next_sequence[0]
    cdef int64_t residual[64]
    cdef uint64_t tight = window.tight
    cdef uint32_t slot
    cdef Order* resting
    order.left = terms.quantity_wh
    order.code = CODE_RESTING
    if UNLIKELY(conditional):
        c.journal = True
        memcpy(residual, window.residual, 2 * c.corridor_count * sizeof(int64_t))
    match(c, window, order, next_sequence, compact, dry, False)
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
            window.tight = tight
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
    resting.id = order.id
    resting.participant = order.participant
    resting.flags = order.mode
    resting.window = <uint16_t>window_slot
    resting.quantity_wh = <uint32_t>order.left
    resting.sequence = next_sequence[0]
    resting.expires_ms = terms.expires_ms
    resting.meter = terms.meter
    resting.hidden_wh = 0
    resting.display_wh = terms.display_wh
    resting.total_wh = <uint32_t>(terms.quantity_wh + terms.filled_wh)
    if terms.expires_ms:
        resting.flags |= EXPIRES
    if UNLIKELY(terms.display_wh != 0):
        resting.flags |= ICEBERG
        if resting.quantity_wh > terms.display_wh:
            resting.hidden_wh = resting.quantity_wh - terms.display_wh
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
        place(c, window_slot, order, terms, next_sequence, result, True, True)
    else:
        place(c, window_slot, order, terms, next_sequence, result, False, True)

cdef inline void cancel(Core* c, uint32_t window_slot, uint64_t order_id, CResult* result) noexcept nogil:
    cdef uint32_t slot = index_find(c, order_id)
    if slot == 0 or c.orders[slot].window != window_slot:
        result.code = CODE_UNKNOWN_ORDER
        return
    result.code = CODE_CANCELLED
    result.remaining_wh = c.orders[slot].quantity_wh
    if UNLIKELY(c.orders[slot].flags & ICEBERG):
        result.remaining_wh += c.orders[slot].hidden_wh
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
    cdef Queue* queue
    cdef Terms terms
    cdef int64_t left, filled
    cdef uint64_t mark = c.undo_used
    cdef bint outer = c.journal
    if slot == 0 or c.orders[slot].window != window_slot:
        result.code = CODE_UNKNOWN_ORDER
        return
    old = c.orders + slot
    queue_number = c.pages[old.level >> 6].queue
    queue = c.queues + queue_number
    key = key_at(c, old.level)
    if old.expires_ms and old.expires_ms <= now_ms:
        result.code = CODE_EXPIRED
        return
    if old.display_wh and total_wh > SLICES_MOST * <int64_t>old.display_wh:
        result.code = CODE_INVALID
        return
    left = <int64_t>old.quantity_wh + old.hidden_wh
    filled = old.total_wh - left
    if total_wh - filled < LOT:
        # at or below the filled part; what is less than a lot above it could not stay open either
        cancel(c, window_slot, order_id, result)
        return
    if price == price_of(queue.place >> 4, key) and total_wh < old.total_wh:
        left = total_wh - filled
        if left < old.quantity_wh:
            old.quantity_wh = <uint32_t>left
        old.hidden_wh = <uint32_t>(left - old.quantity_wh)
        old.total_wh = <uint32_t>total_wh
        result.code = CODE_REDUCED
        result.sequence = old.sequence
        result.remaining_wh = left
        return
    order.id, order.price, order.now_ms, order.number = order_id, price, now_ms, number
    order.window = c.windows[window_slot].window
    order.participant = old.participant
    order.mode = old.flags & 3
    prepare(c, order, queue.place >> 4, queue.place & 15, queue.sub)
    terms.quantity_wh = total_wh - filled
    terms.filled_wh = <uint32_t>filled
    terms.expires_ms = old.expires_ms
    terms.meter = old.meter
    terms.display_wh = old.display_wh
    terms.minimum_wh = 0
    terms.force = FORCE_TIME if old.expires_ms else FORCE_GATE
    terms.post_only = post_only
    if post_only:
        c.journal = True
    order_leave(c, slot)
    place_conditional(c, window_slot, order, &terms, next_sequence, result, compact)
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
