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
    """The least residual on the path, Wh; no limit inside a zone. A path with less than a lot is closed (MARKET 4)."""
    cdef int64_t least = WIDEST_WH, residual
    cdef uint32_t i
    for i in range(PATH_CORRIDORS_MOST):        # all of them: how many count is not to be foreseen
        residual = window.residual[route.edge[i]]
        if residual < least:
            least = residual
    return least

cdef inline void edge_change(Window* window, uint32_t edge, int64_t change) noexcept nogil:
    window.residual[edge] += change
    window.tight = (window.tight & ~(<uint64_t>1 << edge)) | (<uint64_t>(window.residual[edge] < LOT) << edge)

cdef inline void path_take(Core* c, Window* window, Route* route, int64_t injected, int64_t delivered) noexcept nogil:
    cdef uint32_t i
    for i in range(route.length):
        edge_change(window, route.edge[i], -injected)
        edge_change(window, route.edge[i] ^ 1, delivered)
        c.raised = True

cdef inline uint64_t head_sequence(Core* c, uint32_t queue_number) noexcept nogil:
    return c.orders[c.levels[c.queues[queue_number].level].head].sequence

cdef inline uint32_t queue_named(Window* window, int side, uint32_t name, bint simple) noexcept nogil:
    """A queue's number; if `simple`, it is named by its zone, plus 1, so that only of the chosen one the number is read."""
    return window.queue[queue_index(side, name - 1, 0)] if simple else name

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

cdef void rank_route(Route* route) noexcept nogil:
    """Both sides in one form, without a branch in the search: what is worse ranks higher."""
    cdef int64_t keep = route.keep_ppm, wheel = route.wheel_uthb_kwh
    route.rank[SIDE_SELL].rate, route.rank[SIDE_SELL].fixed = 1_000_000_000, keep * wheel
    route.rank[SIDE_SELL].over, route.rank[SIDE_SELL].bound = keep, 1000 * keep
    route.rank[SIDE_BUY].rate, route.rank[SIDE_BUY].fixed = -1000 * keep, keep * wheel
    route.rank[SIDE_BUY].over, route.rank[SIDE_BUY].bound = 1, -1_000_000_000

cdef inline bint open_to(Core* c, Window* window, Route* route, int other, int32_t price, int32_t limit, bint* alone,
                         int64_t* value) noexcept nogil:
    """Whether an order at `limit` might trade over the route with one of side `other` at `price`, by all but quantities:
    landed price below limit + 1, or netback above limit - 1 with and without the losses, and a lot of capacity. Beyond
    that no fill can be: only the rounding of wheeling helps, by half a uTHB at most. `value`, over `over`, ranks it."""
    cdef Rank* rank = route.rank + other
    value[0] = price * rank.rate + rank.fixed
    if value[0] >= (limit + 2 * <int64_t>other - 1) * rank.bound:
        return False
    # A netback below zero is above limit - 1 without the losses only if it says so itself.
    if UNLIKELY(limit == 0) and not other and price * <int64_t>1000 - route.wheel_uthb_kwh <= -1000:
        return False
    if UNLIKELY(route.edges & window.tight):
        alone[0] = False            # a fill elsewhere may give it back
        return False
    return True

# Most zones are out of reach by best price, least loss and least wheeling, which is told for all at once and without
# division. In ticks: a buy at R meets a sell at k only if k < R - (R l + (1 - l) W / 10^4 - 0.1); a sell at R meets a buy at k
# only if k > R + (R l + W / 10^4 - 0.15) for R > 0, or k > W / 10^4 - 0.2 for R = 0. So with y = R l + (1 - l) W / 10^4 - 0.2
# at least floor(y) + 1 ticks lie between. Losses and tolls are rounded down, hence nothing within reach is missed.

cdef inline uint32_t zones_below(Core* c, const uint32_t* best, uint32_t side, uint32_t tick) noexcept nogil:
    """As `zones_near` if nothing were lost on the way and no toll taken: no zone less, and told in a third of the steps."""
    return below_reach(best, <int32_t>key_of(side ^ 1, tick), c.zone_count)

cdef inline uint32_t zones_near(Core* c, const uint32_t* best, uint32_t side, uint32_t zone, uint32_t tick) noexcept nogil:
    """Bits of the zones whose best order, of the other side's `best`, an order of `zone` at `tick` might trade with."""
    cdef uint32_t row = 256 * side + 16 * zone
    return within_reach(best, c.loss + row, c.toll + row, tick, <int32_t>key_of(side ^ 1, tick), c.zone_count)

cdef uint32_t toll_of(int64_t keep_ppm, int64_t wheel_uthb_kwh) noexcept nogil:
    """((1 - L) W / 10^4 - 0.2) in ticks of 2^-16, and one tick."""
    cdef int64_t ticks = min(keep_ppm * wheel_uthb_kwh // PPM, 10_000 * <int64_t>TOLL_MOST - 2000) - 2000
    return <uint32_t>((ticks * 65_536 + 655_360_000) // 10_000)

cdef inline bint search(Core* c, Window* window, Incoming* order, Candidate* found, bint simple) noexcept nogil:
    """The best-ranked order whose (zone, path) is open and that might be admissible."""
    cdef int other = order.side ^ 1
    cdef uint32_t* best = window.best + 16 * other
    cdef uint32_t near = order.zones
    cdef uint32_t zone, way, i, queue, chosen = 0
    cdef int32_t price
    cdef int64_t value, best_value = INT64_MAX, best_over = 1
    cdef uint64_t closed
    cdef int sign
    cdef bint alone = True
    cdef Route* route
    cdef Route* best_route = c.routes
    # In simple books no order gets nearer during a run: what was not near at its beginning need not be looked for.
    if simple:
        near &= zones_below(c, best, order.side, <uint32_t>order.price // TICK)
    else:
        near &= zones_near(c, best, order.side, order.zone, <uint32_t>order.price // TICK)
    while near:
        zone = LOWEST_BIT(near)
        near &= near - 1
        way = 256 * order.side + 16 * order.zone + zone
        if simple:
            queue = zone + 1
            price = price_of(other, best[zone])
        else:
            queue = best_queue(c, window, order, zone, &alone)
            if queue == 0:
                continue
            price = price_of(other, c.queues[queue].best)
        route = c.routes + c.ways_first[way]
        closed = order.closed[zone >> 3] >> 8 * (zone & 7)
        for i in range(c.ways_count[way]):
            if UNLIKELY((closed >> i) & 1):
                route += 1
                continue
            if not open_to(c, window, route, other, price, order.price, &alone, &value):
                route += 1
                continue
            sign = compare_fractions(value, route.rank[other].over, best_value, best_over)
            if UNLIKELY(sign == 0) and chosen != queue:     # else the same order by a path with more corridors or higher ids
                alone = False
                sign = -1 if (head_sequence(c, queue_named(window, other, queue, simple))
                              < head_sequence(c, queue_named(window, other, chosen, simple))) else 1
            # Which is better cannot be foreseen: no branch.
            chosen = queue if sign < 0 else chosen
            best_route = route if sign < 0 else best_route
            best_value = value if sign < 0 else best_value
            best_over = route.rank[other].over if sign < 0 else best_over
            route += 1
    if chosen:
        found.queue = queue_named(window, other, chosen, simple)
    found.route = best_route
    found.alone = alone
    return chosen != 0

cdef bint find_candidate(Core* c, Window* window, Incoming* order, Candidate* found) noexcept nogil:
    return search(c, window, order, found, False)
