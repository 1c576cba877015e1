# The compact batch: 16-byte records in ticks and lots, as files of order flow have them. The same rules and the same code
# as `apply`, told at compile time what such records cannot ask for.

cdef void apply_rare(Core* c, CRecord* record, uint32_t number, uint32_t window_slot, uint32_t zone, uint8_t mode,
                     int64_t now_ms, uint64_t* next_sequence, CResult* result) noexcept nogil:
    """FOK, post-only and modify."""
    cdef Incoming order
    cdef Terms terms
    cdef int64_t total
    cdef uint32_t slot
    if record.kind != RECORD_MODIFY:
        prepare_record(c, record, number, window_slot, zone, mode, now_ms, &order, &terms)
        terms.force = FORCE_FOK if record.kind == RECORD_FOK else FORCE_GATE
        terms.post_only = record.kind == RECORD_POST_ONLY
        place_conditional(c, window_slot, &order, &terms, next_sequence, result, True)
        return
    # The file names what is to be left; the rule book the total.
    slot = index_find(c, record.id)
    total = LOT * <int64_t>record.quantity
    if slot:
        total += <int64_t>c.orders[slot].total_wh - c.orders[slot].quantity_wh - c.orders[slot].hidden_wh
    if total >> 32:
        result.code = CODE_INVALID
        return
    amend(c, window_slot, record.id, record.price * TICK, now_ms, number, total, False, next_sequence, result, True)

cdef inline void prepare_record(Core* c, CRecord* record, uint32_t number, uint32_t window_slot, uint32_t zone,
                                uint8_t mode, int64_t now_ms, Incoming* order, Terms* terms) noexcept nogil:
    order.id = record.id
    order.number = number
    order.window = c.windows[window_slot].window
    order.price = record.price * TICK
    order.now_ms = now_ms
    order.participant = record.owner
    order.mode = mode
    prepare(c, order, record.side, zone, 0)
    terms.quantity_wh = LOT * <int64_t>record.quantity
    terms.expires_ms = 0
    terms.meter = 0
    terms.minimum_wh = 0
    terms.display_wh = 0
    terms.filled_wh = 0
    terms.post_only = False

cdef void uncross_record(Core* c, uint32_t number, uint32_t window_slot, int64_t now_ms,
                         uint64_t* next_sequence) noexcept nogil:
    cdef uint32_t visits = 0, fills = 0
    if c.windows[window_slot].flags == 0:
        uncross(c, window_slot, number, now_ms, next_sequence, &visits, &fills, True)
    c.raised = False

cdef inline bint is_ordinary(Core* c, CRecord* record) noexcept nogil:
    """A limit order or IOC in range. Kind and side, neighbours, are looked at together."""
    return (((<uint16_t*>&record.kind)[0] & ~<uint32_t>(RECORD_IOC | SIDE_SELL << 8)) == 0 and record.id < c.dense_capacity
            and <uint32_t>record.price <= LAST_TICK and record.quantity - <uint32_t>1 < MOST_LOTS)

cdef void apply_odd(Core* c, CRecord* record, uint32_t number, uint32_t window_slot, uint32_t zone, uint8_t mode,
                    int64_t now_ms, uint64_t* next_sequence, uint32_t* remaining, uint8_t* code) noexcept nogil:
    """What is neither a cancel nor an ordinary order under a new id, or comes to a window with flags."""
    cdef CResult result
    result.remaining_wh = 0
    if c.windows[window_slot].flags:
        result.code = CODE_HALTED if c.windows[window_slot].flags & HALTED else CODE_WORK_LEFT
    elif (<uint32_t>record.price > LAST_TICK or record.quantity - <uint32_t>1 >= MOST_LOTS or record.side > SIDE_SELL
            or record.kind > RECORD_MODIFY or record.id >= c.dense_capacity):
        result.code = CODE_INVALID
    elif record.kind != RECORD_MODIFY and c.dense[record.id] != 0:
        result.code = CODE_DUPLICATE_ORDER
    else:
        apply_rare(c, record, number, window_slot, zone, mode, now_ms, next_sequence, &result)
    remaining[0] = <uint32_t>result.remaining_wh
    code[0] = <uint8_t>result.code

cdef inline void apply_record(Core* c, CRecord* record, uint32_t number, uint32_t window_slot, uint32_t zone,
                              uint8_t mode, int64_t now_ms, uint64_t* next_sequence, uint32_t* remaining,
                              uint8_t* code) noexcept nogil:
    cdef Incoming order
    cdef Terms terms
    cdef CResult result
    if record.kind == RECORD_CANCEL:
        result.remaining_wh = 0
        cancel(c, window_slot, record.id, &result)
    elif LIKELY(is_ordinary(c, record) and c.windows[window_slot].flags == 0 and c.dense[record.id] == 0):
        prepare_record(c, record, number, window_slot, zone, mode, now_ms, &order, &terms)
        terms.force = FORCE_IOC if record.kind == RECORD_IOC else FORCE_GATE
        place(c, window_slot, &order, &terms, next_sequence, &result, True, False)
    else:
        apply_odd(c, record, number, window_slot, zone, mode, now_ms, next_sequence, remaining, code)
        if c.raised:
            uncross_record(c, number, window_slot, now_ms, next_sequence)
        return
    remaining[0] = <uint32_t>result.remaining_wh
    code[0] = <uint8_t>result.code
    if UNLIKELY(c.raised):
        uncross_record(c, number, window_slot, now_ms, next_sequence)

cdef inline void look_ahead_records(Core* c, CRecord* records, const uint16_t* places, uint64_t i) noexcept nogil:
    """For the records 24, 16 and 8 places ahead, which exist."""
    cdef CRecord* record = records + i + 16
    cdef Order* order
    cdef char* window = <char*>(c.windows + c.spots[places[i + 24]].window)
    cdef Spot* spot = c.spots + places[i + 16]
    cdef uint32_t number
    PREFETCH(c.dense + records[i + 24].id)
    PREFETCH(window)
    PREFETCH(window + 64)
    PREFETCH(c.orders + index_find(c, record.id))
    if record.kind != RECORD_CANCEL and record.side <= SIDE_SELL:
        number = c.windows[spot.window].queue[queue_index(record.side, spot.zone, 0)]
        PREFETCH(c.queues + number)
    order = c.orders + index_find(c, records[i + 8].id)
    PREFETCH(c.levels + order.level)
    PREFETCH(c.orders + order.prev)
    PREFETCH(c.orders + order.next)

cdef uint64_t run_records(Core* c, CRecord* records, const uint16_t* places, uint64_t n, uint64_t first, uint8_t mode,
                          int64_t now_ms, uint64_t* next_sequence, uint32_t* remaining, uint8_t* codes) noexcept nogil:
    """As `run`."""
    cdef uint64_t i = first
    while i < n and LIKELY(room_left(c, c.compact_capacity)):
        if LIKELY(i + 24 < n):
            look_ahead_records(c, records, places, i)
        apply_record(c, records + i, <uint32_t>i, c.spots[places[i]].window, c.spots[places[i]].zone, mode, now_ms,
                     next_sequence, remaining + i, codes + i)
        i += 1
    return i
