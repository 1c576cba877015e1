# One order's run over the book, MARKET 3 and 5.
#
# Magnitudes (checked at entry): quantities < 2^32 Wh, W <= 10^9, hence every product below is at most 5 x 10^18 and 64 bits
# are exact.

cdef enum:
    SIDE_BUY = 0
    SIDE_SELL = 1
    STP_NEWEST = 0
    STP_OLDEST = 1
    STP_BOTH = 2
    STP_OFF = 3                 # replayed files only
    # results
    CODE_RESTING = 0
    CODE_FILLED = 1
    CODE_CLOSED_BELOW_LOT = 2
    CODE_CANCELLED_IOC = 3
    CODE_CANCELLED_LIMIT = 4
    CODE_CANCELLED_SELF_TRADE = 5
    CODE_CANCELLED = 6
    CODE_REDUCED = 7
    CODE_DONE = 8
    CODE_UNFINISHED = 9
    CODE_KILLED = 10
    CODE_UNKNOWN_ORDER = 16
    CODE_DUPLICATE_ORDER = 17
    CODE_EXPIRED = 18
    CODE_INVALID = 19
    CODE_WOULD_TRADE = 20
    CODE_HALTED = 21
    CODE_WORK_LEFT = 22
    CODE_NO_PATH = 23
    CODE_NO_CAPACITY = 24
    CODE_GROUP_REFUSED = 25
    # why a resting order was closed, or changed, in passing
    REASON_EXPIRED = 0
    REASON_BELOW_LOT = 1
    REASON_SELF_TRADE = 2
    REASON_SLICE = 3

cdef struct Amounts:
    int64_t delivered, injected, wheel, price
    bint admissible

cdef void report(Core* c, uint32_t slot, uint32_t operation, uint8_t reason) noexcept nogil:
    """A resting order leaves, or shows its next slice."""
    cdef CClosed* out = c.closed + c.closed_used
    cdef Queue* queue = queue_at(c, c.orders[slot].level)
    c.closed_used += 1
    out.order_id = c.orders[slot].id
    out.remaining_wh = <int64_t>c.orders[slot].quantity_wh + c.orders[slot].hidden_wh
    out.sequence = c.orders[slot].sequence if reason == REASON_SLICE else 0
    out.operation = operation
    out.window = c.windows[queue.window].window
    out.participant = c.orders[slot].participant
    out.zone = queue.place & 15
    out.side = queue.place >> 4
    out.reason = reason

cdef bint slice_next(Core* c, uint32_t slot, uint32_t operation, uint64_t* next_sequence) noexcept nogil:
    """What an iceberg shows is below one lot: its next slice takes the next sequence and the end of the queue. False
    when less than a lot is left of the whole order."""
    cdef Order* order = c.orders + slot
    cdef uint64_t left = <uint64_t>order.quantity_wh + order.hidden_wh
    cdef uint32_t key = key_at(c, order.level), queue = c.pages[order.level >> 6].queue
    if left < LOT:
        return False
    if c.journal:
        note(c, slot, UNDO_SLICE)
    order_unlink(c, slot)
    order.quantity_wh = <uint32_t>min(left, <uint64_t>order.display_wh)
    order.hidden_wh = <uint32_t>(left - order.quantity_wh)
    order.sequence = next_sequence[0]
    next_sequence[0] += 1
    order_link(c, slot, queue, key)
    report(c, slot, operation, REASON_SLICE)
    return True

cdef inline void amounts_of(Route* route, int64_t offer, int64_t buyer, int64_t seller, int64_t limit, int64_t sell_price,
                            bint buy_rests, Amounts* out) noexcept nogil:
    """The fill of a buy at `limit` with a sell at `sell_price`: q, q_in, wheel(q), p, and whether it is admissible."""
    cdef int64_t keep = route.keep_ppm, delivered = seller, funds
    if keep == PPM:
        if offer < delivered:
            delivered = offer
        if buyer < delivered:
            delivered = buyer
        out.injected = delivered
    else:
        if offer < delivered:
            delivered = offer       # floor is monotonous: the lesser of the two decides
        delivered = delivered * keep // PPM
        if buyer < delivered:
            delivered = buyer
        out.injected = divided(delivered * PPM + keep - 1, route.inverse)
    out.delivered = delivered
    out.wheel = (route.wheel_uthb_kwh * delivered + 500) // 1000
    if not buy_rests:
        out.price = sell_price
        out.admissible = sell_price * out.injected + out.wheel <= limit * delivered
        return
    funds = limit * delivered - out.wheel
    if funds < 0:
        out.admissible = False
        return
    out.price = limit if out.wheel == 0 and out.injected == delivered else funds // (out.injected * TICK) * TICK
    out.admissible = out.price >= sell_price

cdef inline void write_trade(Core* c, Incoming* order, uint64_t maker_id, uint64_t taker_id, int64_t maker_left,
                             int64_t taker_left, int taker_side, int64_t price, int64_t delivered, int64_t injected,
                             int64_t wheel, int seller_zone, int buyer_zone, int path, bint compact) noexcept nogil:
    cdef CTrade* trade
    cdef CCompactTrade* small
    if compact:
        small = c.compact + c.trades_used
        c.trades_used += 1
        small.maker_id = <uint32_t>maker_id
        small.taker_id = <uint32_t>taker_id
        small.price = <int32_t>price
        small.delivered_wh = <uint32_t>delivered
        small.injected_wh = <uint32_t>injected
        small.operation = order.number
        small.window = order.window
        small.seller_zone = <uint8_t>seller_zone
        small.buyer_zone = <uint8_t>buyer_zone
        small.taker_side = <uint8_t>taker_side
        small.path = <uint8_t>path
        return
    trade = c.trades + c.trades_used
    c.trades_used += 1
    trade.maker_id = maker_id
    trade.taker_id = taker_id
    trade.delivered_wh = delivered
    trade.injected_wh = injected
    trade.wheel_uthb = wheel
    trade.maker_remaining_wh = maker_left
    trade.taker_remaining_wh = taker_left
    trade.operation = order.number
    trade.window = order.window
    trade.price = <int32_t>price
    trade.seller_zone = <uint8_t>seller_zone
    trade.buyer_zone = <uint8_t>buyer_zone
    trade.taker_side = <uint8_t>taker_side
    trade.path = <uint8_t>path

cdef inline void match(Core* c, Window* window, Incoming* order, uint64_t* next_sequence, bint compact, bint dry,
                       bint simple) noexcept nogil:
    """Trades the incoming order with the best of the other side until nothing is left, admissible or allowed.

    `dry` says that the run may have to be taken back, `compact` how trades are written, `simple` that one queue a side and
    zone holds nothing that expires or is hidden, and self-trade prevention is off. They are constants of the caller; the
    compiler removes what they exclude.
    """
    cdef int side = order.side, other = side ^ 1
    cdef Candidate found
    cdef Queue* queue
    cdef Order* maker
    cdef uint32_t slot, following, key
    cdef int64_t left = order.left, shown, moved, maker_moved, price
    cdef Amounts fill
    cdef bint maker_first
    cdef uint8_t mode
    while left >= LOT:
        if UNLIKELY(order.fills >= order.fills_most or order.visits >= order.visits_most) and (
                simple or order.sequence == 0):
            order.code = CODE_CANCELLED_LIMIT
            break
        if not (search(c, window, order, &found, True) if simple else find_candidate(c, window, order, &found)):
            break
        queue = c.queues + found.queue
        order.met = True
        price = price_of(other, queue.best)
        slot = c.levels[queue.level].head
        while True:
            maker = c.orders + slot
            following = maker.next
            PREFETCH(c.orders + following)
            if not simple and UNLIKELY(maker.flags & EXPIRES) and maker.expires_ms <= order.now_ms:
                report(c, slot, order.number, REASON_EXPIRED)
                order_leave(c, slot)
                if following and found.alone:
                    slot = following
                    continue
                break
            if not simple and UNLIKELY(order.sequence != 0) and (
                    order.fills >= order.fills_most or order.visits >= order.visits_most):
                order.left = left
                order.code = CODE_CANCELLED_LIMIT
                return
            order.visits += 1
            shown = maker.quantity_wh
            # Uncrossing: of each pair the smaller sequence counts as resting.
            maker_first = simple or order.sequence == 0 or maker.sequence < order.sequence
            if side == SIDE_BUY:
                amounts_of(found.route, path_offer(c, window, found.route), left, shown, order.price, price,
                           not maker_first, &fill)
            else:
                amounts_of(found.route, path_offer(c, window, found.route), shown, left, price, order.price, True, &fill)
            if not fill.admissible:
                key = found.route.seller_zone if other else found.route.buyer_zone
                order.closed[key >> 3] |= <uint64_t>1 << ((key & 7) * 8 + found.route.path)
                break

            if not simple and UNLIKELY(maker.participant == order.participant) and order.mode != STP_OFF:
                mode = order.mode if maker_first else <uint8_t>(maker.flags & 3)
                if mode == STP_BOTH or mode == (STP_OLDEST if maker_first else STP_NEWEST):
                    report(c, slot, order.number, REASON_SELF_TRADE)
                    order_leave(c, slot)
                if mode == STP_BOTH or mode == (STP_NEWEST if maker_first else STP_OLDEST):
                    order.left = left
                    order.code = CODE_CANCELLED_SELF_TRADE
                    return
                if following == 0 or not found.alone or order.visits >= order.visits_most:
                    break
                slot = following
                continue

            order.fills += 1
            if side == SIDE_BUY:
                moved, maker_moved = fill.delivered, fill.injected
            else:
                moved, maker_moved = fill.injected, fill.delivered
            left -= moved
            if dry and c.journal:
                note(c, slot, UNDO_CHANGE)
            shown -= maker_moved
            maker.quantity_wh = <uint32_t>shown
            if not simple and UNLIKELY(maker.flags & ICEBERG):
                shown += maker.hidden_wh
            if maker_first:
                write_trade(c, order, maker.id, order.id, shown, left + order.hidden, side, fill.price, fill.delivered,
                            fill.injected, fill.wheel, found.route.seller_zone, found.route.buyer_zone,
                            found.route.path, compact)
            else:
                write_trade(c, order, order.id, maker.id, left + order.hidden, shown, SIDE_SELL, fill.price,
                            fill.delivered, fill.injected, fill.wheel, found.route.seller_zone,
                            found.route.buyer_zone, found.route.path, compact)
            if found.route.length:
                path_take(c, window, found.route, fill.injected, fill.delivered)
            if maker.quantity_wh < LOT:
                if not simple and UNLIKELY(maker.flags & ICEBERG) and slice_next(c, slot, order.number, next_sequence):
                    if following == 0:
                        break
                else:
                    if shown:
                        report(c, slot, order.number, REASON_BELOW_LOT)
                    order_leave(c, slot)
                    if following == 0:
                        break
                slot = following
            if (left < LOT or not found.alone or order.fills >= order.fills_most
                    or order.visits >= order.visits_most):
                break
            if found.route.length and path_offer(c, window, found.route) < LOT:
                break
            if slot == 0:
                break
    order.left = left
