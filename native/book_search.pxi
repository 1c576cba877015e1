# The search for the best order to trade with, MARKET 4 and 5.
#
# Magnitudes: prices <= 10^6, keep <= 10^6, W <= 10^9. A landed price p 10^6 / keep + W / 1000 is the fraction
# (p 10^9 + keep W) / (1000 keep), whose numerator is at most 2 x 10^15; two are compared by multiplying crosswise in 128
# bits. A netback is (1000 limit - W) keep over the common denominator 10^9: at most 10^15, compared in 64.

cdef struct Incoming:           # an order on its way through the book
    uint64_t id
    uint64_t sequence           # uncrossing: of the resting buy that is run; else 0
    int64_t left
    int64_t hidden              # uncrossing: of the resting buy that is run
    int64_t now_ms
    uint32_t number             # index in the batch
    uint32_t participant
    int32_t price
    int32_t window
    uint32_t fills, visits, fills_most, visits_most
    uint32_t zones              # the other side's zones that may be searched
    uint32_t subs               # a buy's accepted sources
    uint8_t side
    uint8_t zone
    uint8_t sub                 # source or profile
    uint8_t mode                # self-trade prevention
    uint8_t code
    bint met                    # a candidate came up since this was cleared
    uint64_t closed[2]          # [8 * other zone + path]

cdef struct Candidate:
    uint32_t queue
    bint alone                  # stays the best until its price is used up
    Route* route

cdef inline int64_t path_offer(Core* c, Window* window, Route* route) noexcept nogil:
    """The least residual on the path, Wh; no limit inside a zone. MARKET 4: nothing below one lot."""
    cdef int64_t least = WIDEST_WH, residual
    cdef uint32_t i
    for i in range(route.length):
        residual = window.residual[route.edge[i]]
        if residual < least:
            least = residual
    return least if least >= LOT else 0

cdef inline void path_take(Core* c, Window* window, Route* route, int64_t injected, int64_t delivered) noexcept nogil:
    cdef uint32_t i
    for i in range(route.length):
        window.residual[route.edge[i]] -= injected
        window.residual[route.edge[i] ^ 1] += delivered
        c.raised = True

cdef inline uint64_t head_sequence(Core* c, uint32_t queue_number) noexcept nogil:
    cdef Queue* queue = c.queues + queue_number
    return c.orders[c.levels[level_at(c, queue, queue.best)].head].sequence

cdef inline uint32_t best_queue(Core* c, Window* window, Incoming* order, uint32_t zone, bint* alone) noexcept nogil:
    """Of the queues in a zone that the order may trade with, the one with the best and then earliest head; 0 if none."""
    cdef int other = order.side ^ 1
    cdef uint32_t bits = window.filled[16 * other + zone], number, best = 0, key = NOTHING
    bits &= order.subs if other else c.accepting[8 * order.zone + order.sub]
    while bits:
        number = window.queue[queue_index(other, zone, LOWEST_BIT(bits))]
        bits &= bits - 1
        if c.queues[number].best < key:
            best, key = number, c.queues[number].best
        elif c.queues[number].best == key:
            alone[0] = False
            if head_sequence(c, number) < head_sequence(c, best):
                best = number
    return best

cdef bint find_candidate(Core* c, Window* window, Incoming* order, Candidate* found) noexcept nogil:
    """The best-ranked order whose (zone, path) is open and that might be admissible: landed price below limit + 1, or
    netback above limit - 1. Beyond that no fill can be: only the rounding of wheeling helps, by half a uTHB at most."""
    cdef int other = order.side ^ 1
    cdef uint32_t* best = window.best + 16 * other
    cdef uint32_t zone, pair, i, queue = 0
    cdef int32_t price
    cdef int64_t value, best_value = 0, best_keep = 1
    cdef int sign
    cdef bint alone = True, tied
    cdef Route* route
    found.queue = 0
    for zone in range(c.zone_count):
        if best[zone] == NOTHING or not (order.zones >> zone) & 1:
            continue
        pair = 16 * zone + order.zone if other else 16 * order.zone + zone
        # Prices and least wheeling alone, without losses, tell that most zones are out of reach.
        price = price_of(other, best[zone])
        if LIKELY(price + c.least_wheel[pair] > order.price if other else price - c.least_wheel[pair] < order.price):
            continue
        tied = False
        queue = 0
        for i in range(c.route_count[pair]):
            route = c.routes + c.route_first[pair] + i
            if UNLIKELY((order.closed[zone >> 3] >> ((zone & 7) * 8 + i)) & 1):
                continue
            if queue == 0:
                queue = best_queue(c, window, order, zone, &alone)
                if queue == 0:
                    break
                price = price_of(other, c.queues[queue].best)
            if other:
                value = price * <int64_t>1_000_000_000 + route.landed
                if value >= (order.price + <int64_t>1) * 1000 * route.keep_ppm:
                    continue
            else:
                value = price * <int64_t>1000 - route.wheel_uthb_kwh
                if value <= (order.price - <int64_t>1) * 1000:
                    continue
                value *= route.keep_ppm
                if value <= (order.price - <int64_t>1) * 1_000_000_000:
                    continue
            if UNLIKELY(path_offer(c, window, route) == 0):
                alone = False       # a fill elsewhere may give it back
                continue
            if found.queue:
                sign = (compare_fractions(value, route.keep_ppm, best_value, best_keep) if other
                        else (value < best_value) - (value > best_value))
                if sign > 0:
                    continue
                if sign == 0:
                    if found.queue == queue:
                        continue    # the same order by a path with more corridors or higher ids
                    alone = False
                    if head_sequence(c, queue) > head_sequence(c, found.queue):
                        continue
            found.queue = queue
            found.route = route
            best_value, best_keep = value, route.keep_ppm
    found.alone = alone
    return found.queue != 0
