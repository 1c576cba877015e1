# The compact batch: 16-byte records in ticks and lots, as files of order flow have them. The same rules and the same code as
# `apply`, told at compile time what such records cannot ask for.

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
        total += <int64_t>c.details[slot].total_wh - c.orders[slot].quantity_wh - c.details[slot].hidden_wh
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

cdef inline void apply_record(Core* c, CRecord* record, uint32_t number, uint32_t window_slot, uint32_t zone,
                              uint8_t mode, int64_t now_ms, uint64_t* next_sequence, uint32_t* remaining, uint8_t* code,
                              bint plain) noexcept nogil:
    cdef Incoming order
    cdef Terms terms
    cdef CResult result, other
    result.remaining_wh = 0
    if record.kind == RECORD_CANCEL:
        cancel(c, window_slot, record.id, &result)
    elif UNLIKELY(c.windows[window_slot].flags != 0):
        result.code = CODE_HALTED if c.windows[window_slot].flags & HALTED else CODE_WORK_LEFT
    elif UNLIKELY(<uint32_t>record.price > LAST_TICK or record.quantity - <uint32_t>1 >= MOST_LOTS
                  or record.side > SIDE_SELL or record.kind > RECORD_MODIFY or record.id >= c.dense_capacity):
        result.code = CODE_INVALID
    elif UNLIKELY(record.kind != RECORD_MODIFY and c.dense[record.id] != 0):
        result.code = CODE_DUPLICATE_ORDER
    elif UNLIKELY(record.kind > RECORD_IOC):
        other.remaining_wh = 0
        apply_rare(c, record, number, window_slot, zone, mode, now_ms, next_sequence, &other)
        result.remaining_wh, result.code = other.remaining_wh, other.code
    else:
        prepare_record(c, record, number, window_slot, 0 if plain else zone, mode, now_ms, &order, &terms)
        terms.force = FORCE_IOC if record.kind == RECORD_IOC else FORCE_GATE
        place(c, window_slot, &order, &terms, next_sequence, &result, plain, True, False)
    remaining[0] = <uint32_t>result.remaining_wh
    code[0] = <uint8_t>result.code
    if not plain and UNLIKELY(c.raised):
        uncross_record(c, number, window_slot, now_ms, next_sequence)

cdef inline void look_ahead_records(Core* c, CRecord* records, const uint16_t* places, uint64_t n, uint64_t i, bint plain,
                                    uint32_t only_slot) noexcept nogil:
    cdef CRecord* record
    cdef Order* order
    cdef uint32_t level, slot
    cdef char* window
    if i + 24 < n:
        if records[i + 24].id < c.dense_capacity:
            PREFETCH(c.dense + records[i + 24].id)
        if not plain:
            window = <char*>(c.windows + c.slots[places[i + 24]])
            PREFETCH(window)
            PREFETCH(window + 64)
    if i + 16 < n:
        record = records + i + 16
        if record.kind == RECORD_CANCEL:
            if record.id < c.dense_capacity:
                slot = c.dense[record.id]
                PREFETCH(c.orders + slot)
        elif not plain:
            if record.side <= SIDE_SELL:
                slot = c.windows[c.slots[places[i + 16]]].queue[
                    queue_index(record.side, c.slots[65536 + places[i + 16]], 0)]
                PREFETCH(c.queues + slot)
    if i + 8 < n:
        record = records + i + 8
        if record.kind == RECORD_CANCEL:
            if record.id < c.dense_capacity:
                order = c.orders + c.dense[record.id]
                PREFETCH(c.levels + order.level)
                PREFETCH(c.orders + order.prev)
                PREFETCH(c.orders + order.next)
        elif record.side <= SIDE_SELL and <uint32_t>record.price <= LAST_TICK:
            if plain:
                level = level_peek(c, only_slot, record.side, 0, 0, record.price)
                PREFETCH(c.levels + level)

cdef inline void run_records_as(Core* c, CRecord* records, const uint16_t* places, uint64_t n, uint8_t mode,
                                int64_t now_ms, uint64_t* next_sequence, uint32_t* remaining, uint8_t* codes,
                                bint plain) noexcept nogil:
    cdef uint64_t i
    cdef uint32_t only_slot = c.slots[0]
    for i in range(n):
        look_ahead_records(c, records, places, n, i, plain, only_slot)
        if plain:
            apply_record(c, records + i, <uint32_t>i, only_slot, 0, mode, now_ms, next_sequence, remaining + i,
                         codes + i, True)
        else:
            apply_record(c, records + i, <uint32_t>i, c.slots[places[i]], c.slots[65536 + places[i]], mode, now_ms,
                         next_sequence, remaining + i, codes + i, False)

cdef void run_records(Core* c, CRecord* records, const uint16_t* places, uint64_t n, uint8_t mode, int64_t now_ms,
                      uint64_t* next_sequence, uint32_t* remaining, uint8_t* codes) noexcept nogil:
    if c.plain and places == NULL:
        run_records_as(c, records, places, n, mode, now_ms, next_sequence, remaining, codes, True)
    else:
        run_records_as(c, records, places, n, mode, now_ms, next_sequence, remaining, codes, False)
