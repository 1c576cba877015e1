# The run of one operation over the book, MARKET 3 and 5 for trade inside one zone.
#
# Magnitudes (checked at entry): quantities <= 10^7 Wh, prices <= 10^6, L <= 500 000 ppm, W <= 10^9, hence every product
# below is at most 2 x 10^16 and 64 bits are exact.

cdef enum:
    SIDE_BUY = 0
    SIDE_SELL = 1
    KIND_PLACE = 0
    KIND_CANCEL = 1
    FORCE_GATE = 0
    FORCE_TIME = 1
    FORCE_IOC = 2
    STP_NEWEST = 0
    STP_OLDEST = 1
    STP_BOTH = 2
    # results
    CODE_RESTING = 0
    CODE_FILLED = 1
    CODE_CLOSED_BELOW_LOT = 2
    CODE_CANCELLED_IOC = 3
    CODE_CANCELLED_LIMIT = 4
    CODE_CANCELLED_SELF_TRADE = 5
    CODE_CANCELLED = 6
    CODE_UNKNOWN_ORDER = 16
    CODE_DUPLICATE_ORDER = 17
    CODE_EXPIRED = 18
    CODE_INVALID = 19
    # why a resting order was closed in passing
    REASON_EXPIRED = 0
    REASON_BELOW_LOT = 1
    REASON_SELF_TRADE = 2

cdef inline void report_closed(Core* c, Order* order, uint32_t operation, uint8_t reason) noexcept nogil:
    cdef CClosed* out = c.closed + c.closed_used
    c.closed_used += 1
    out.order_id = order.id
    out.remaining_wh = order.quantity_wh
    out.operation = operation
    out.window = c.windows[order.window].window
    out.participant = order.participant
    out.zone = order.zone
    out.side = order.side
    out.reason = reason

cdef inline bint well_formed(Core* c, COperation* op) noexcept nogil:
    if op.zone >= c.zone_count or op.side > SIDE_SELL or op.force > FORCE_IOC or op.flags > STP_BOTH:
        return False
    if op.profile or op.reserved or op.minimum_wh or op.display_wh:
        return False
    if op.price < 0 or op.price > LAST_TICK * TICK or op.price % TICK:
        return False
    if op.quantity_wh < LOT or op.quantity_wh > MOST_WH or op.quantity_wh % LOT:
        return False
    return op.expires_ms > 0 if op.force == FORCE_TIME else op.expires_ms == 0

cdef inline void place(Core* c, COperation* op, uint32_t number, uint32_t window_slot, int64_t now_ms,
                       uint64_t* next_sequence, CResult* result) noexcept nogil:
    """Matches an order against the other side of its zone, then rests or cancels what is left."""
    cdef Window* window = c.windows + window_slot
    cdef Zone* zone = c.zones + op.zone
    cdef int side = op.side
    cdef BookSide* other = &window.sides[2 * op.zone + (side ^ 1)]
    cdef uint32_t tick = <uint32_t>op.price // TICK
    cdef uint32_t reach = tick if side == SIDE_BUY else LAST_TICK - tick      # last key of the other side that can trade
    cdef int64_t left = op.quantity_wh, buyer, seller, delivered, injected, wheel, price, funds
    cdef int64_t keep = zone.keep_ppm
    cdef uint32_t fills = 0, visits = 0, slot
    cdef uint8_t code = CODE_RESTING
    cdef Order* maker
    cdef CTrade* trade
    while left >= LOT:
        if fills == FILLS_MOST or visits == VISITS_MOST:
            code = CODE_CANCELLED_LIMIT
            break
        if other.best > reach:
            break
        slot = c.levels[level_at(c, other.ladder, other.best)].head
        maker = c.orders + slot
        if UNLIKELY(maker.expires_ms != 0 and maker.expires_ms <= now_ms):
            report_closed(c, maker, number, REASON_EXPIRED)
            order_leave(c, slot)
            continue
        PREFETCH(c.orders + maker.next)
        visits += 1

        if side == SIDE_BUY:
            buyer = left
            seller = maker.quantity_wh
        else:
            buyer = maker.quantity_wh
            seller = left
        delivered = seller if keep == PPM else seller * keep // PPM
        if buyer < delivered:
            delivered = buyer
        injected = delivered if keep == PPM else (delivered * PPM + keep - 1) // keep
        wheel = (zone.wheel_uthb_kwh * delivered + 500) // 1000
        if side == SIDE_BUY:
            price = price_of(SIDE_SELL, other.best)
            if price * injected + wheel > op.price * delivered:
                break
        else:
            funds = price_of(SIDE_BUY, other.best) * delivered - wheel
            if funds < 0:
                break
            price = funds // (injected * TICK) * TICK
            if price < op.price:
                break

        if UNLIKELY(maker.participant == op.participant):
            if op.flags != STP_NEWEST:
                report_closed(c, maker, number, REASON_SELF_TRADE)
                order_leave(c, slot)
            if op.flags != STP_OLDEST:
                code = CODE_CANCELLED_SELF_TRADE
                break
            continue

        fills += 1
        if side == SIDE_BUY:
            left -= delivered
            maker.quantity_wh -= <uint32_t>injected
        else:
            left -= injected
            maker.quantity_wh -= <uint32_t>delivered
        trade = c.trades + c.trades_used
        c.trades_used += 1
        trade.maker_id = maker.id
        trade.taker_id = op.order_id
        trade.delivered_wh = delivered
        trade.injected_wh = injected
        trade.wheel_uthb = wheel
        trade.maker_remaining_wh = maker.quantity_wh
        trade.taker_remaining_wh = left
        trade.operation = number
        trade.window = op.window
        trade.price = <int32_t>price
        trade.seller_zone = op.zone
        trade.buyer_zone = op.zone
        trade.taker_side = side
        trade.path = 0
        if maker.quantity_wh < LOT:
            if maker.quantity_wh:
                report_closed(c, maker, number, REASON_BELOW_LOT)
            order_leave(c, slot)

    result.visits = <uint16_t>visits
    result.fills = <uint16_t>fills
    result.filled_wh = op.quantity_wh - left
    result.remaining_wh = left
    if left == 0:
        code = CODE_FILLED
    elif left < LOT:
        code = CODE_CLOSED_BELOW_LOT
    elif code == CODE_RESTING and op.force == FORCE_IOC:
        code = CODE_CANCELLED_IOC
    result.code = code
    if code != CODE_RESTING:
        return
    slot = order_take(c)
    maker = c.orders + slot
    maker.id = op.order_id
    maker.sequence = next_sequence[0]
    maker.expires_ms = op.expires_ms
    maker.quantity_wh = <uint32_t>left
    maker.participant = op.participant
    maker.meter = op.meter
    maker.key = key_of(side, tick)
    maker.window = <uint16_t>window_slot
    maker.zone = op.zone
    maker.side = op.side
    maker.flags = op.flags
    maker.profile = op.profile
    maker.display_wh = 0
    order_join(c, slot)
    result.sequence = next_sequence[0]
    next_sequence[0] += 1

cdef inline void apply(Core* c, COperation* op, uint32_t number, uint32_t window_slot, int64_t now_ms,
                       uint64_t* next_sequence, CResult* result) noexcept nogil:
    cdef uint32_t slot
    if op.kind == KIND_CANCEL:
        slot = index_find(c, op.order_id)
        if slot == 0 or c.orders[slot].window != window_slot:
            result.code = CODE_UNKNOWN_ORDER
            return
        result.code = CODE_CANCELLED
        result.remaining_wh = c.orders[slot].quantity_wh
        order_leave(c, slot)
    elif op.kind != KIND_PLACE or not well_formed(c, op):
        result.code = CODE_INVALID
    elif op.force == FORCE_TIME and op.expires_ms <= now_ms:
        result.code = CODE_EXPIRED
    elif index_find(c, op.order_id):
        result.code = CODE_DUPLICATE_ORDER
    else:
        place(c, op, number, window_slot, now_ms, next_sequence, result)

cdef inline uint32_t level_peek(Core* c, COperation* op, uint32_t window_slot) noexcept nogil:
    """The level where the order would rest if its page exists, else 0. For prefetching: it may be out of date by then."""
    cdef BookSide* side
    cdef Ladder* ladder
    cdef Branch* branch
    cdef uint32_t key
    if op.zone >= c.zone_count or op.side > SIDE_SELL or <uint32_t>op.price > LAST_TICK * TICK:
        return 0
    side = &c.windows[window_slot].sides[2 * op.zone + op.side]
    key = key_of(op.side, <uint32_t>op.price // TICK)
    ladder = c.ladders + side.ladder
    if not (ladder.bits >> (key >> 12)) & 1:
        return 0
    branch = c.branches + ladder.branch[key >> 12]
    if not (branch.bits >> ((key >> 6) & 63)) & 1:
        return 0
    return (branch.page[(key >> 6) & 63] << 6) | (key & 63)

cdef inline void look_ahead(Core* c, COperation* ops, uint64_t n, uint64_t i) noexcept nogil:
    """Asks for the lines that operations 24, 16 and 8 places ahead will touch: most of the time is waiting for them."""
    cdef uint32_t level, slot
    cdef Order* order
    cdef COperation* op
    if i + 24 < n:
        PREFETCH(c.index + index_home(c, <uint32_t>ops[i + 24].order_id))
    if i + 16 < n:
        op = ops + i + 16
        if op.kind == KIND_CANCEL:
            slot = index_peek(c, op.order_id)
            if slot:
                PREFETCH(c.orders + slot)
        else:
            level = level_peek(c, op, c.slots[i + 16])
            if level:
                PREFETCH(c.levels + level)
                PREFETCH(c.pages + (level >> 6))
    if i + 8 < n:
        op = ops + i + 8
        if op.kind == KIND_CANCEL:
            slot = index_peek(c, op.order_id)
            if slot:
                order = c.orders + slot
                PREFETCH(c.levels + order.level)
                PREFETCH(c.orders + order.prev)
                PREFETCH(c.orders + order.next)
        else:
            level = level_peek(c, op, c.slots[i + 8])
            if level:
                PREFETCH(c.orders + c.levels[level].tail)

cdef void run(Core* c, COperation* ops, uint64_t n, int64_t now_ms, uint64_t* next_sequence,
              CResult* results) noexcept nogil:
    cdef uint64_t i
    for i in range(n):
        look_ahead(c, ops, n, i)
        apply(c, ops + i, <uint32_t>i, c.slots[i], now_ms, next_sequence, results + i)
