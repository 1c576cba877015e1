# A batch: operations one after another, groups, and what is read ahead of them.

cdef inline void apply(Core* c, COperation* op, uint32_t number, uint32_t window_slot, int64_t now_ms,
                       uint64_t* next_sequence, CResult* result) noexcept nogil:
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
                place(c, window_slot, &order, &terms, next_sequence, result, False, False)
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
        edge_change(window, edge, op.quantity_wh - window.capacity[edge])
        window.capacity[edge] = op.quantity_wh
        result.code = CODE_DONE
        result.remaining_wh = window.residual[edge]
    elif op.kind == KIND_HALT:
        window.flags |= HALTED
        result.code = CODE_DONE
    elif op.kind == KIND_RESUME:
        c.raised = c.raised or window.flags == HALTED
        window.flags &= ~<uint32_t>HALTED
        result.code = CODE_DONE
    elif op.kind == KIND_UNCROSS:
        if window.flags & HALTED:
            result.code = CODE_HALTED
        else:
            window.flags = 0
            c.raised = True
            result.code = CODE_DONE
    else:
        result.code = CODE_INVALID

cdef uint64_t run_group(Core* c, COperation* ops, uint64_t n, uint64_t first, int64_t now_ms, uint64_t* next_sequence,
                        CResult* results) noexcept nogil:
    """Cancels followed by post-only orders, all or nothing. Returns the index after the group."""
    cdef uint64_t end = first, i, closed = c.closed_used, sequence = next_sequence[0], stopped
    cdef bint good = True, placing = False
    cdef uint16_t visits
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
        apply(c, ops + i, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i)
        if results[i].code == CODE_CANCELLED and ops[i].minimum_wh and results[i].remaining_wh != ops[i].minimum_wh:
            results[i].code = CODE_INVALID
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
                visits = results[i].visits      # what was looked at counts
                memset(results + i, 0, sizeof(CResult))
                results[i].visits = visits
                results[i].code = CODE_GROUP_REFUSED
    c.journal = False
    c.undo_used = 0
    return end

# ---- looking ahead: most of the time is waiting for memory

cdef inline uint32_t level_peek(Core* c, uint32_t window_slot, int side, uint32_t zone, uint32_t sub,
                                uint32_t tick) noexcept nogil:
    """The level where the order would rest, if its page exists. It may be out of date by then."""
    cdef uint32_t number = c.windows[window_slot].queue[queue_index(side, zone, sub)]
    cdef uint32_t key = key_of(side, tick)
    cdef Queue* queue = c.queues + number
    return (page_at(c, queue, key) << 6) | (key & 63)

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

cdef inline bint room_left(Core* c, uint64_t capacity) noexcept nogil:
    """Whether one more operation's trades fit into the scratch, its uncrossing included."""
    return capacity - c.trades_used >= <uint64_t>(FILLS_MOST + c.uncross_fills)

cdef uint64_t run(Core* c, COperation* ops, uint64_t n, uint64_t first, int64_t now_ms, uint64_t* next_sequence,
                  CResult* results) noexcept nogil:
    """From operation `first` on while the scratch has room. Returns where to go on: n when all is done."""
    cdef uint64_t i = first
    while i < n and LIKELY(room_left(c, c.trades_capacity)):
        look_ahead(c, ops, n, i)
        if UNLIKELY(ops[i].group != 0):
            i = run_group(c, ops, n, i, now_ms, next_sequence, results)
            continue
        apply(c, ops + i, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i)
        if UNLIKELY(c.raised):
            settle(c, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i)
        i += 1
    return i
