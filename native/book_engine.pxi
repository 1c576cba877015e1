cdef class Engine:
    """All books of one node. `zones` gives (loss_ppm, wheel_uthb_kwh) per zone, `corridors` (zone, zone, loss_ppm,
    wheel_uthb_kwh), `profiles` (mask of accepted sources, mask of accepted seller zones) of which 0 accepts all when none
    are given. Memory is bounded by `max_orders` live orders and `max_windows` loaded windows, and costs nothing until it
    is used; with `huge_pages` it comes in large pages, and what grows with every order is paid for at once, so that no
    batch waits for the system to clear memory. With `dense_ids` = n, order ids are below n and looked up directly: what `replay` needs.

    Not for two threads at once: a call made while a batch runs raises BookError.
    """

    cdef Core c
    cdef bint busy
    cdef bint trading               # whether most of the last compact batch traded
    cdef void* fresh
    cdef object named               # the windows whose spots are filled in, or None
    cdef bint named_queues          # and their queues, too
    cdef readonly int max_orders
    cdef readonly int max_windows
    cdef readonly tuple zones
    cdef readonly tuple corridors
    cdef readonly tuple profiles
    cdef dict _paths_of

    def __cinit__(self, zones, *, corridors=(), profiles=(), sources=SOURCES_MOST, max_orders=1 << 17, max_windows=2048,
                  huge_pages=False, dense_ids=0):
        cdef Core* c = &self.c
        cdef uint64_t table, route
        cdef uint32_t i, zone, source
        memset(c, 0, sizeof(Core))
        zones = tuple((int(loss), int(wheel)) for loss, wheel in zones)
        corridors = tuple((int(a), int(b), int(loss), int(wheel)) for a, b, loss, wheel in corridors)
        if not 1 <= len(zones) <= ZONES_MOST:
            raise BookError(f"{len(zones)} zones; 1 to {ZONES_MOST} are allowed")
        for loss, wheel in zones:
            if not 0 <= loss <= 500_000 or not 0 <= wheel <= 1_000_000_000:
                raise BookError(f"zone ({loss} ppm, {wheel} uTHB/kWh): loss is 0 to 500 000, wheeling 0 to 10^9")
        if len(corridors) > CORRIDORS_MOST:
            raise BookError(f"{len(corridors)} corridors; at most {CORRIDORS_MOST} are allowed")
        for a, b, loss, wheel in corridors:
            if not (0 <= a < len(zones) and 0 <= b < len(zones) and a != b):
                raise BookError(f"a corridor from zone {a} to {b}; there are {len(zones)} zones, from 0")
            if not 0 <= loss <= 500_000 or not 0 <= wheel <= 1_000_000_000:
                raise BookError(f"corridor ({loss} ppm, {wheel} uTHB/kWh): loss is 0 to 500 000, wheeling 0 to 10^9")
        profiles = tuple((int(s), int(z)) for s, z in profiles) or ((0xFF, 0xFFFF),)
        if len(profiles) > PROFILES_MOST:
            raise BookError(f"{len(profiles)} profiles; at most {PROFILES_MOST} are allowed")
        for s, z in profiles:
            if not 0 <= s <= 0xFF or not 0 <= z <= 0xFFFF:
                raise BookError(f"profile ({s}, {z}): masks of {SOURCES_MOST} sources and {ZONES_MOST} zones are needed")
        if not 1 <= sources <= SOURCES_MOST:
            raise BookError(f"{sources} sources; 1 to {SOURCES_MOST} are allowed")
        if not 1 <= max_orders <= 1 << 25:
            raise BookError(f"max_orders {max_orders}; 1 to 2^25 are allowed")
        if not 1 <= max_windows <= 65_534:
            raise BookError(f"max_windows {max_windows}; 1 to 65 534 are allowed")
        if not 0 <= dense_ids <= 1 << 32:
            raise BookError(f"dense_ids {dense_ids}; 0 to 2^32 are allowed")
        self.zones, self.max_orders, self.max_windows = zones, max_orders, max_windows
        self.corridors, self.profiles = corridors, profiles
        c.huge = bool(huge_pages)
        c.zone_count, c.corridor_count = len(zones), len(corridors)
        c.profile_count, c.source_count = len(profiles), sources
        c.simple = sources == 1 and profiles == ((0xFF, 0xFFFF),)
        c.plain = c.simple and zones == ((0, 0),)
        for number, (s, z) in enumerate(profiles):
            c.profile_sources[<int>number], c.profile_zones[<int>number] = s, z
            for zone in range(ZONES_MOST):
                for source in range(SOURCES_MOST):
                    if (s >> source) & 1 and (z >> zone) & 1:
                        c.accepting[8 * zone + source] |= <uint32_t>1 << <int>number
        self._paths_of = {(a, b): _paths(zones, corridors, a, b) for a in range(len(zones)) for b in range(len(zones))}
        c.route_total = sum(map(len, self._paths_of.values()))
        c.routes = <Route*>pool_reserve(c.route_total * sizeof(Route), False)
        if c.routes == NULL:
            raise MemoryError("no memory for the paths between zones")
        route = 0
        for (a, b), paths in self._paths_of.items():
            i = 16 * <uint32_t>a + <uint32_t>b
            c.route_first[i], c.route_count[i] = <uint32_t>route, len(paths)
            loss = min((path.loss_ppm * 65_536 // PPM for path in paths), default=0)
            toll = min((toll_of(PPM - path.loss_ppm, path.wheel_uthb_kwh) for path in paths), default=0)
            for place in (256 * SIDE_SELL + i, 256 * SIDE_BUY + 16 * b + a):
                c.loss[<int>place], c.toll[<int>place] = loss, toll
                c.ways_first[<int>place], c.ways_count[<int>place] = <uint16_t>route, len(paths)
            for number, path in enumerate(paths):
                c.routes[route].keep_ppm = PPM - <int64_t>path.loss_ppm
                c.routes[route].wheel_uthb_kwh = path.wheel_uthb_kwh
                c.routes[route].inverse = <uint64_t>(-(-(1 << 82) // (PPM - path.loss_ppm)))
                rank_route(c.routes + route)
                c.routes[route].seller_zone, c.routes[route].buyer_zone = a, b
                c.routes[route].path, c.routes[route].length = number, len(path.corridors)
                memset(c.routes[route].edge, NO_EDGE, sizeof(c.routes[route].edge))
                for place, (corridor, direction) in enumerate(zip(path.corridors, path.directions)):
                    c.routes[route].edge[<int>place] = 2 * corridor + direction
                    c.routes[route].edges |= <uint64_t>1 << <int>(2 * corridor + direction)
                route += 1
        # slot 0 of every pool means "none"
        c.orders_capacity = <uint32_t>max_orders + 1
        c.pages_capacity = c.orders_capacity + KEPT_MOST
        c.windows_capacity = <uint32_t>max_windows + 1
        c.queues_capacity = <uint32_t>min(640 * max_windows, max_orders + 40 * max_windows * len(zones)) + 1
        c.branches_capacity = c.pages_capacity
        c.orders_free = c.pages_top = c.windows_top = c.queues_top = c.branches_top = 1
        table = 16
        while table < 4 * <uint64_t>max_windows:
            table *= 2
        c.window_mask = <uint32_t>(table - 1)
        c.dense_capacity = dense_ids
        c.orders = <Order*>pool_reserve(c.orders_capacity * sizeof(Order), c.huge)
        c.levels = <Level*>pool_reserve(64 * <size_t>c.pages_capacity * sizeof(Level), c.huge)
        c.pages = <Page*>pool_reserve(c.pages_capacity * sizeof(Page), c.huge)
        c.branches = <Branch*>pool_reserve(c.branches_capacity * sizeof(Branch), c.huge)
        c.queues = <Queue*>pool_reserve(c.queues_capacity * sizeof(Queue), c.huge)
        c.windows = <Window*>pool_reserve(c.windows_capacity * sizeof(Window), c.huge)
        c.window_table = <uint32_t*>pool_reserve(table * sizeof(uint32_t), c.huge)
        if dense_ids:
            c.dense = <uint32_t*>pool_reserve(c.dense_capacity * sizeof(uint32_t), c.huge)
        if (c.orders == NULL or c.levels == NULL or c.pages == NULL or c.branches == NULL
                or c.queues == NULL or c.windows == NULL or c.window_table == NULL or (dense_ids and c.dense == NULL)
                or not index_reserve(c, 1)):
            raise MemoryError(f"no address space for {max_orders} orders")
        c.queues[0].best = NOTHING
        if c.huge:
            memset(c.orders, 0, c.orders_capacity * sizeof(Order))
            if c.dense != NULL:
                memset(c.dense, 0, c.dense_capacity * sizeof(uint32_t))

    def __dealloc__(self):
        # No Python object is touched: the collector may have cleared them, and at exit the builtins are gone.
        cdef Core* c = &self.c
        pool_release(c.routes, c.route_total * sizeof(Route))
        pool_release(c.orders, c.orders_capacity * sizeof(Order))
        pool_release(c.levels, 64 * <size_t>c.pages_capacity * sizeof(Level))
        pool_release(c.pages, c.pages_capacity * sizeof(Page))
        pool_release(c.branches, c.branches_capacity * sizeof(Branch))
        pool_release(c.queues, c.queues_capacity * sizeof(Queue))
        pool_release(c.windows, c.windows_capacity * sizeof(Window))
        pool_release(c.window_table, (<size_t>c.window_mask + 1) * sizeof(uint32_t))
        pool_release(c.index, (c.index_mask + 1) * sizeof(uint64_t))
        pool_release(c.dense, c.dense_capacity * sizeof(uint32_t))
        pool_release(c.slots, c.slots_capacity * sizeof(uint32_t))
        pool_release(c.spots, c.spots_capacity * sizeof(Spot))
        pool_release(c.trades, c.trades_capacity * sizeof(CTrade))
        pool_release(c.compact, c.compact_capacity * sizeof(CCompactTrade))
        pool_release(c.closed, c.closed_capacity * sizeof(CClosed))
        pool_release(c.undo, c.undo_capacity * sizeof(Undo))

    cdef int check_memory(self, void* fresh, uint64_t places) except -1:
        if fresh == NULL:
            raise EngineFull(f"no memory for a batch of {places} operations")
        self.fresh = fresh
        return 0

    cdef int check_idle(self) except -1:
        if self.busy:
            raise BookError("the engine is in use by another thread")
        return 0

    cdef uint32_t slot_of(self, window) except 0:
        cdef uint32_t slot = 0
        self.check_idle()
        if -(1 << 31) <= window < 1 << 31:
            slot = window_find(&self.c, window)
        if slot == 0:
            raise WindowNotLoaded(f"window {window} is not loaded")
        return slot

    cdef int check_zone(self, zone, side=0) except -1:
        if not 0 <= zone < self.c.zone_count:
            raise BookError(f"zone {zone}; there are {self.c.zone_count}, from 0")
        if side not in (0, 1):
            raise BookError(f"side {side}; 0 is buy, 1 is sell")
        return 0

    cdef int make_room(self, uint64_t places, bint compact, uint64_t trades) except -1:
        """All that a batch with so many orders, amends and bilateral trades might need, and scratch for so many trades
        before they are taken. Raises EngineFull."""
        cdef Core* c = &self.c
        cdef uint64_t wanted = c.live + places
        if wanted > c.orders_capacity - 1:
            raise EngineFull(f"{c.live} orders rest and {places} may join; the engine holds {c.orders_capacity - 1}")
        if not index_reserve(c, wanted):
            raise EngineFull(f"no memory for a batch of {places} orders")
        if compact:
            self.check_memory(grown(c.compact, &c.compact_capacity, trades, sizeof(CCompactTrade), c.huge), places)
            if c.huge and c.compact != self.fresh:
                memset(self.fresh, 0, c.compact_capacity * sizeof(CCompactTrade))
            c.compact = <CCompactTrade*>self.fresh
        else:
            self.check_memory(grown(c.trades, &c.trades_capacity, trades, sizeof(CTrade), c.huge), places)
            c.trades = <CTrade*>self.fresh
        # An order leaves once, and shows its next slice at most once a trade.
        self.check_memory(grown(c.closed, &c.closed_capacity, wanted + trades, sizeof(CClosed), c.huge), places)
        c.closed = <CClosed*>self.fresh
        self.check_memory(grown(c.undo, &c.undo_capacity, wanted + places + 4096, sizeof(Undo), False), places)
        c.undo = <Undo*>self.fresh
        c.trades_used = c.closed_used = c.undo_used = 0
        c.journal = c.raised = False
        return 0

    def process(self, operations, *, now_ms, next_sequence, uncross_fills=1024, uncross_visits=8192):
        """Applies a batch in order. `now_ms` is the time against which expiries count (expired when expires_ms <=
        now_ms); `next_sequence` is the ledger's counter, at least 1 and above every sequence in the windows touched;
        the last two bound all uncrossing in the batch.

        Returns Outcome(trades, results, closed, next_sequence, work_left, uncross_fills, uncross_visits): arrays of
        exactly the right size; `work_left` is WORK_LEFT of those windows of the batch that have some, ascending; the
        last two are what uncrossing spent of its bounds. Raises BookError, WindowNotLoaded or EngineFull before anything
        has changed; a batch once begun cannot fail.
        """
        cdef Core* c = &self.c
        cdef uint64_t n, i, places = 0, sequence, done = 0
        cdef uint32_t slot = 0
        cdef int32_t last_window = 0
        cdef int64_t now
        cdef COperation* ops
        cdef CResult* results
        self.check_idle()
        operations = _checked(operations, OPERATION, "operation")
        if not -(1 << 63) <= now_ms < 1 << 63:
            raise BookError(f"now_ms {now_ms} is not a 64-bit time")
        if not 0 <= uncross_fills <= 1 << 20 or not 0 <= uncross_visits <= 1 << 30:
            raise BookError(f"uncrossing bounds {uncross_fills} and {uncross_visits}; at most 2^20 fills, 2^30 visits")
        n = operations.shape[0]
        c.uncross_fills, c.uncross_visits = uncross_fills, uncross_visits
        if not 1 <= next_sequence <= (1 << 63) - 1 - n:
            raise BookError(f"next_sequence {next_sequence}; it starts at 1 and must stay below 2^63")
        now = now_ms
        sequence = next_sequence
        result_array = np.zeros(n, RESULT)
        if n == 0:
            return Outcome(np.empty(0, TRADE), result_array, np.empty(0, CLOSED), next_sequence, np.empty(0, WORK_LEFT),
                           0, 0)
        if n >= 1 << 24:
            raise BookError(f"{n} operations; a batch has at most 2^24 - 1")
        self.check_memory(grown(c.slots, &c.slots_capacity, n, sizeof(uint32_t), c.huge), n)
        c.slots = <uint32_t*>self.fresh
        ops = <COperation*>memory_of(operations)
        for i in range(n):
            if slot == 0 or ops[i].window != last_window:
                last_window = ops[i].window
                slot = window_find(c, last_window)
                if slot == 0:
                    raise WindowNotLoaded(f"operation {i} is for window {last_window}, which is not loaded")
                if c.windows[slot].last_sequence >= sequence:
                    raise BookError(f"next_sequence {next_sequence} is not above {c.windows[slot].last_sequence}, "
                                    f"which rests in window {last_window}")
            c.slots[i] = slot
            places += ops[i].kind == KIND_PLACE or ops[i].kind == KIND_AMEND or ops[i].kind == KIND_BILATERAL
            if (c.dense != NULL and ops[i].kind == KIND_PLACE and ops[i].order_id >= c.dense_capacity):
                raise BookError(f"operation {i} names order {ops[i].order_id}; ids are below {c.dense_capacity}")
        self.make_room(places, False, TRADES_AT_ONCE + c.uncross_fills)
        results = <CResult*>memory_of(result_array)
        self.busy = True
        trades, closed = [], []
        try:
            while True:
                with nogil:
                    done = run(c, ops, n, done, now, &sequence, results)
                if done == n:
                    break
                trades.append(self.taken_trades(False))
                closed.append(self.taken_closed())
        finally:
            self.busy = False
        if sequence != <uint64_t>next_sequence:
            for i in range(n):
                c.windows[c.slots[i]].last_sequence = sequence - 1
        unfinished = set()
        for i in range(n):
            if UNLIKELY(c.windows[c.slots[i]].flags & UNFINISHED):
                unfinished.add(c.slots[i])
        return Outcome(joined(trades, self.taken_trades(False)), result_array, joined(closed, self.taken_closed()),
                       sequence, self.points(unfinished),
                       uncross_fills - c.uncross_fills, uncross_visits - c.uncross_visits)

    cdef object points(self, slots):
        """WORK_LEFT of these unfinished windows."""
        cdef Core* c = &self.c
        cdef uint32_t slot
        rows = []
        for slot in slots:
            window = c.windows + slot
            rows.append((window.window, window.point_sequence, window.point_closed[0], window.point_closed[1],
                         price_of(SIDE_BUY, window.point_key), window.point_again))
        rows.sort()
        array = np.zeros(len(rows), WORK_LEFT)
        if rows:
            for name, column in zip(("window", "sequence", "closed_low", "closed_high", "price_mthb_kwh", "again"),
                                    zip(*rows)):
                array[name] = column
        return array

    cdef object taken_trades(self, bint compact):
        cdef Core* c = &self.c
        cdef uint64_t count = c.trades_used
        c.trades_used = 0
        if compact:
            return copied(c.compact, count, sizeof(CCompactTrade), FILL)
        return copied(c.trades, count, sizeof(CTrade), TRADE)

    cdef object taken_closed(self):
        cdef uint64_t count = self.c.closed_used
        self.c.closed_used = 0
        return copied(self.c.closed, count, sizeof(CClosed), CLOSED) if count else NOTHING_CLOSED

    cdef uint32_t name_windows(self, windows) except 0:
        """Fills in the spots of the windows in turn, zone by zone. The same windows as in the last batch, which are the rule,
        are found as they were left: nothing has been loaded or forgotten since, and what names them cannot change."""
        cdef Core* c = &self.c
        cdef uint32_t count, zone, slot, i = 0
        if windows is self.named:
            return <uint32_t>len(windows) * c.zone_count
        if not 1 <= len(windows) * c.zone_count <= 65536:
            raise BookError(f"{len(windows)} windows of {c.zone_count} zones; 1 to 65 536 places are allowed")
        count = len(windows) * c.zone_count
        self.named, self.named_queues = None, False
        self.check_memory(grown(c.spots, &c.spots_capacity, count, sizeof(Spot), c.huge), count)
        c.spots = <Spot*>self.fresh
        for window in windows:
            slot = self.slot_of(window)
            for zone in range(c.zone_count):
                c.spots[i].window = slot
                c.spots[i].at = c.windows + slot
                c.spots[i].zone = zone
                i += 1
        if type(windows) is range:
            self.named = windows
        return count

    def replay(self, records, *, windows=range(1), places=None, next_sequence=1, self_trade=STP_OFF, now_ms=0):
        """A batch of compact RECORDs, for an engine with dense ids. `windows` are loaded windows; `places`, u2 per record,
        says where: index into `windows` times number of zones, plus zone (zone 0 of the first by default).

        Returns Replayed(trades as FILL, remaining_wh u4 and codes u1 per record, closed, next_sequence). Raises BookError,
        WindowNotLoaded or EngineFull before anything has changed.
        """
        cdef Core* c = &self.c
        cdef uint64_t n, i, sequence, done = 0
        cdef uint32_t count, slot
        cdef int64_t now = now_ms
        cdef int side
        cdef uint8_t mode
        cdef const uint16_t* place = NULL
        cdef uint16_t greatest = 0
        cdef bint quick, plain, halted = False
        cdef bint direct
        cdef CRecord* all_records
        cdef CCompactTrade* scratch
        cdef uint64_t scratch_capacity
        cdef uint32_t* remaining
        cdef uint8_t* codes
        self.check_idle()
        if c.dense == NULL:
            raise BookError("compact records need an engine with dense_ids")
        records = _checked(records, RECORD, "record")
        n = records.shape[0]
        if n >= 1 << 31:
            raise BookError(f"{n} records; a batch has at most 2^31 - 1")
        if self_trade not in (0, 1, 2, 3):
            raise BookError(f"self_trade {self_trade}; 0 to 3 are allowed")
        mode = self_trade
        if not 1 <= next_sequence <= (1 << 63) - 1 - n:
            raise BookError(f"next_sequence {next_sequence}; it starts at 1 and must stay below 2^63")
        sequence = next_sequence
        count = self.name_windows(windows)
        for i in range(0, count, c.zone_count):
            slot = c.spots[i].window
            if c.windows[slot].last_sequence >= sequence:
                raise BookError(f"next_sequence {next_sequence} is not above what rests in window "
                                f"{c.windows[slot].window}")
            halted = halted or c.windows[slot].flags != 0
        if n == 0:
            return Replayed(np.empty(0, FILL), np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty(0, CLOSED),
                            next_sequence)
        quick = c.simple and mode == STP_OFF and c.icebergs == 0 and c.expiring == 0
        plain = quick and c.plain and places is None and c.windows_live == 1 and not halted
        if places is None and not plain:
            places = np.zeros(n, _PLACE)
        if places is not None:
            if not isinstance(places, np.ndarray) or places.dtype != _PLACE or places.shape != (n,):
                raise BookError(f"places must be {n} numbers of dtype uint16")
            flags = places.flags
            if not (flags.c_contiguous and flags.aligned):
                places = places.copy()
            place = <const uint16_t*>memory_of(places)
            for i in range(n):
                greatest = max(greatest, place[i])
            if greatest >= count:
                raise BookError(f"place {greatest}; there are {count}, from 0")
        c.uncross_fills, c.uncross_visits = 1 << 16, 1 << 24
        self.make_room(n, True, TRADES_AT_ONCE + c.uncross_fills)
        # Where every other operation trades, trades are written where the caller will read them: copying them costs more
        # than memory for those that do not come.
        direct = plain and self.trading
        if direct:
            words = np.empty(4 * (min(n + n // 2, <uint64_t>TRADES_AT_ONCE) + FILLS_MOST), _WORD)
        if quick and not self.named_queues:
            for i in range(count):
                for side in range(2):
                    c.spots[i].queue[side] = queue_open(c, c.spots[i].window, side, c.spots[i].zone, 0)
            self.named_queues = True
        all_records = <CRecord*>memory_of(records)
        remaining_array = np.empty(n, _REMAINING)
        code_array = np.empty(n, _CODE)
        remaining, codes = <uint32_t*>memory_of(remaining_array), <uint8_t*>memory_of(code_array)
        self.busy = True
        trades, closed = [], []
        scratch, scratch_capacity = c.compact, c.compact_capacity
        if direct:
            c.compact, c.compact_capacity = <CCompactTrade*>memory_of(words), len(words) // 4
        try:
            while True:
                with nogil:
                    if plain:
                        done = run_plain(c, all_records, n, done, now, &sequence, remaining, codes)
                    elif quick:
                        done = run_shared(c, all_records, place, n, done, now, &sequence, remaining, codes)
                    else:
                        done = run_records(c, all_records, place, n, done, mode, now, &sequence, remaining, codes)
                if done == n:
                    break
                trades.append(self.taken_trades(True))
                closed.append(self.taken_closed())
            self.trading = len(trades) > 0 or 2 * c.trades_used > n
            if direct and not trades:
                last = np.ndarray(c.trades_used, FILL, words)
            else:
                last = self.taken_trades(True)
        finally:
            self.busy = False
            c.compact, c.compact_capacity = scratch, scratch_capacity
        if sequence != <uint64_t>next_sequence:
            for i in range(0, count, c.zone_count):
                c.windows[c.spots[i].window].last_sequence = sequence - 1
        return Replayed(joined(trades, last), remaining_array, code_array,
                        joined(closed, self.taken_closed()), sequence)

    # ------------------------------------------------------------ windows

    def load(self, window, records, *, capacities=None, residuals=None, flags=0, work_left=None):
        """Opens a window with the orders that rest in it: an array of RESTING in strictly ascending (zone, side, price,
        sequence) order, empty for a new window. `capacities` and `residuals` are int64 arrays of Wh, one row of (as
        declared, against) per corridor; capacities are 0 and residuals equal them unless given. `flags` are those of
        `flags_of`; `work_left` are the rows of the method, one if and only if they have UNFINISHED_FLAG. Raises
        BookError naming what is wrong or out of order, or EngineFull; then the window is not loaded and nothing
        changed."""
        cdef Core* c = &self.c
        cdef uint64_t n, i
        cdef uint32_t slot, order_slot
        cdef int32_t number
        cdef int64_t shown
        cdef const uint8_t[::1] source
        cdef CResting* all_records = NULL
        cdef CResting* r
        cdef CResting* previous
        cdef Order* order
        self.check_idle()
        if not -(1 << 31) <= window < 1 << 31:
            raise BookError(f"window {window} is not a 32-bit number")
        number = window
        if window_find(c, number):
            raise BookError(f"window {window} is loaded already; forget it first")
        if not 0 <= flags <= (HALTED | UNFINISHED):
            raise BookError(f"flags {flags} of window {window}; 0 to 3 are allowed")
        point = np.empty(0, WORK_LEFT) if work_left is None else _checked(work_left, WORK_LEFT, "work_left")
        if len(point) != (flags & UNFINISHED != 0):
            raise BookError(f"window {window} has flags {flags} and {len(point)} rows of work left; one goes with "
                            f"flag {UNFINISHED} and only with it")
        for row in point:
            if (row["window"] != window or not price_good(row["price_mthb_kwh"]) or row["again"] > 1 or row["reserved"]
                    or not 0 < row["sequence"] < 1 << 63):
                raise BookError(f"the work left of window {window} is out of range: {row}")
        records = _checked(records, RESTING, "resting")
        shape = (len(self.corridors), 2)
        capacities = np.zeros(shape, np.int64) if capacities is None else np.asarray(capacities)
        residuals = capacities if residuals is None else np.asarray(residuals)
        for array, low in ((capacities, 0), (residuals, -(1 << 60))):
            if array.shape != shape or array.dtype != np.int64:
                raise BookError(f"capacities and residuals are int64 arrays of shape {shape}")
            if array.size and not (low <= array.min() and array.max() <= (<int64_t>WIDEST_WH if low == 0 else 1 << 60)):
                raise BookError(f"window {window}: a capacity is 0 to {<int64_t>WIDEST_WH} Wh, a residual within +-2^60")
        n = records.shape[0]
        if c.windows_live == c.windows_capacity - 1:
            raise EngineFull(f"{c.windows_live} windows are loaded; the engine holds no more")
        if c.live + n > c.orders_capacity - 1:
            raise EngineFull(f"{c.live} orders rest, window {window} has {n}; the engine holds {c.orders_capacity - 1}")
        if not index_reserve(c, c.live + n):
            raise EngineFull(f"no memory for {n} orders")
        if n:
            source = records.view(np.uint8)
            all_records = <CResting*>&source[0]
        for i in range(n):
            r = all_records + i
            shown = r.shown_wh if r.display_wh else r.quantity_wh
            if (r.window != number or r.zone >= c.zone_count or r.side > SIDE_SELL or r.flags > STP_BOTH
                    or r.profile >= (1 if r.side else c.profile_count) or r.source >= (c.source_count if r.side else 1)
                    or not price_good(r.price) or r.quantity_wh < LOT or r.quantity_wh > MOST_WH
                    or r.total_wh < r.quantity_wh or r.total_wh > 2 * MOST_WH or shown < LOT or shown > r.quantity_wh
                    or (r.display_wh and shown > r.display_wh) or (not r.display_wh and r.shown_wh)
                    or r.expires_ms < 0 or r.sequence == 0 or r.sequence >> 63 or r.spare or r.reserved
                    or r.reserved_too or (c.dense != NULL and r.order_id >= c.dense_capacity)):
                raise BookError(f"record {i} of window {window} is out of range: {records[i]}")
            if i:
                previous = r - 1
                if ((r.zone, r.side, r.price, r.sequence)
                        <= (previous.zone, previous.side, previous.price, previous.sequence)):
                    raise BookError(f"record {i} of window {window} is not in (zone, side, price, sequence) order")
        slot = c.windows_free
        if slot:
            c.windows_free = c.windows[slot].free_next
        else:
            slot = c.windows_top
            c.windows_top += 1
        memset(c.windows + slot, 0, sizeof(Window))
        c.windows[slot].window = number
        c.windows[slot].flags = flags
        for row in point:
            c.windows[slot].point_key = key_of(SIDE_BUY, <uint32_t>(<int32_t>row["price_mthb_kwh"] // TICK))
            c.windows[slot].point_sequence = row["sequence"]
            c.windows[slot].point_again = row["again"]
            c.windows[slot].point_closed[0] = row["closed_low"]
            c.windows[slot].point_closed[1] = row["closed_high"]
        c.windows[slot].residual[NO_EDGE] = WIDEST_WH
        for i in range(32):
            c.windows[slot].best[i] = NOTHING
        for i in range(c.corridor_count):
            for side in range(2):
                c.windows[slot].capacity[2 * i + <uint64_t>side] = capacities[i, side]
                edge_change(c.windows + slot, 2 * <uint32_t>i + <uint32_t>side, residuals[i, side])
        window_table_put(c, slot)
        self.named = None
        c.windows_live += 1
        for i in range(n):
            r = all_records + i
            if index_find(c, r.order_id):
                self.forget(window)
                raise BookError(f"record {i} of window {window}: order {r.order_id} rests already")
            order_slot = order_take(c)
            order = c.orders + order_slot
            shown = r.shown_wh if r.display_wh else r.quantity_wh
            order.id = r.order_id
            order.quantity_wh = <uint32_t>shown
            order.participant = r.participant
            order.flags = <uint16_t>(r.flags | (EXPIRES if r.expires_ms else 0) | (ICEBERG if r.display_wh else 0))
            order.window = <uint16_t>slot
            order.sequence = r.sequence
            order.expires_ms = r.expires_ms
            order.meter = r.meter
            order.hidden_wh = <uint32_t>(r.quantity_wh - shown)
            order.display_wh = r.display_wh
            order.total_wh = r.total_wh
            order_join(c, order_slot, queue_open(c, slot, r.side, r.zone, r.source if r.side else r.profile),
                       key_of(r.side, <uint32_t>r.price // TICK))
            c.windows[slot].last_sequence = max(c.windows[slot].last_sequence, r.sequence)

    def forget(self, window):
        """Drops a window and all its orders from the engine. Raises WindowNotLoaded."""
        cdef Core* c = &self.c
        cdef uint32_t slot = self.slot_of(window), number
        cdef Queue* queue
        cdef int i
        for i in range(640):
            number = c.windows[slot].queue[i]
            if number == 0:
                continue
            queue = c.queues + number
            while queue.best != NOTHING:
                order_leave(c, c.levels[queue.level].head)
            pages_give(c, queue)
            queue.free_next = c.queues_free
            c.queues_free = number
        window_table_remove(c, slot)
        self.named = None
        c.windows[slot].free_next = c.windows_free
        c.windows_free = slot
        c.windows_live -= 1

    @property
    def live(self):
        """How many orders rest."""
        return self.c.live

    def windows(self):
        """The loaded windows, ascending."""
        cdef uint32_t i
        self.check_idle()
        return sorted(self.c.windows[self.c.window_table[i]].window
                      for i in range(self.c.window_mask + 1) if self.c.window_table[i])

    def loaded(self, window):
        """True iff the window is loaded."""
        self.check_idle()
        return -(1 << 31) <= window < 1 << 31 and window_find(&self.c, window) != 0

    def records(self, window):
        """The window's resting orders as `load` takes them: RESTING in (zone, side, price, sequence) order."""
        cdef Core* c = &self.c
        cdef uint32_t slot = self.slot_of(window), zone, bits, number, first
        cdef uint64_t written = 0, begun
        cdef uint8_t[::1] target
        cdef CResting* out
        cdef int side
        array = np.empty(c.windows[slot].live, RESTING)
        if not c.windows[slot].live:
            return array
        target = array.view(np.uint8)
        out = <CResting*>&target[0]
        for zone in range(c.zone_count):
            for side in range(2):
                begun = written
                bits = first = c.windows[slot].filled[16 * side + zone]
                while bits:
                    number = c.windows[slot].queue[queue_index(side, zone, LOWEST_BIT(bits))]
                    bits &= bits - 1
                    written += queue_read(c, c.queues + number, out + written)
                if side == SIDE_BUY or first & (first - 1):
                    part = array[begun:written]
                    part[:] = part[np.lexsort((part["sequence"], part["price_mthb_kwh"]))]
        return array

    def residuals(self, window):
        """What each corridor can still carry in the window, Wh, signed: a row of (as declared, against) per corridor."""
        cdef uint32_t slot = self.slot_of(window)
        return np.array([[self.c.windows[slot].residual[2 * i], self.c.windows[slot].residual[2 * i + 1]]
                         for i in range(<int>self.c.corridor_count)], np.int64).reshape(-1, 2)

    def capacities(self, window):
        """The corridors' capacities in the window, Wh, as `residuals`."""
        cdef uint32_t slot = self.slot_of(window)
        return np.array([[self.c.windows[slot].capacity[2 * i], self.c.windows[slot].capacity[2 * i + 1]]
                         for i in range(<int>self.c.corridor_count)], np.int64).reshape(-1, 2)

    def flags_of(self, window):
        """HALTED_FLAG and UNFINISHED_FLAG (see `work_left`), or 0."""
        return self.c.windows[self.slot_of(window)].flags

    def work_left(self, window):
        """Where the window's uncrossing goes on: WORK_LEFT, a row if it was interrupted, else none."""
        cdef uint32_t slot = self.slot_of(window)
        return self.points([slot] if self.c.windows[slot].flags & UNFINISHED else [])

    cdef bytes state_of(self, window):
        """The window in bytes: nothing when it says no more than an empty one without corridors."""
        cdef uint32_t slot = self.slot_of(window)
        records = self.records(window).tobytes()
        if not self.c.corridor_count and not self.c.windows[slot].flags:
            return records
        return b"".join(self.parts_of(window, records))

    cdef tuple parts_of(self, window, records):
        return (_SNAPSHOT_WINDOW.pack(window, self.flags_of(window), len(records)), self.work_left(window).tobytes(),
                self.capacities(window).tobytes(), self.residuals(window).tobytes(), records)

    def digest(self, windows=None):
        """SHA-256 over orders, capacities, residuals, flags and work left of the given windows (all loaded ones by
        default), windows ascending. Without corridors, a window without orders adds nothing: the digest is the
        ledger's content and not the engine's history."""
        chosen = self.windows() if windows is None else sorted(set(windows))
        return digest(Domain.BOOK_DIGEST, *(self.state_of(window) for window in chosen))

    def snapshot(self):
        """All loaded windows in bytes, for `restore` of an engine of the same zones, corridors and profiles."""
        parts = [_SNAPSHOT.pack(_MAGIC, len(self.zones), len(self.corridors), self.c.windows_live)]
        for window in self.windows():
            parts += self.parts_of(window, self.records(window).tobytes())
        return b"".join(parts)

    def restore(self, data):
        """Replaces everything loaded by a snapshot. Raises BookError or EngineFull; the engine is empty then."""
        self.check_idle()
        for window in self.windows():
            self.forget(window)
        try:
            magic, zones, corridors, count = _SNAPSHOT.unpack_from(data)
            if magic != _MAGIC or zones != len(self.zones) or corridors != len(self.corridors):
                raise BookError(f"not a snapshot of {len(self.zones)} zones and {len(self.corridors)} corridors")
            at, grid = _SNAPSHOT.size, 16 * corridors
            for _ in range(count):
                window, flags, size = _SNAPSHOT_WINDOW.unpack_from(data, at)
                at += _SNAPSHOT_WINDOW.size
                rows = int(flags & UNFINISHED != 0)
                if size % RESTING.itemsize or at + rows * WORK_LEFT.itemsize + 2 * grid + size > len(data):
                    raise BookError(f"the snapshot ends inside window {window}")
                point = np.frombuffer(data, WORK_LEFT, rows, at)
                at += rows * WORK_LEFT.itemsize
                capacities = np.frombuffer(data, np.int64, 2 * corridors, at).reshape(-1, 2)
                residuals = np.frombuffer(data, np.int64, 2 * corridors, at + grid).reshape(-1, 2)
                records = np.frombuffer(data, RESTING, size // RESTING.itemsize, at + 2 * grid)
                self.load(window, records, capacities=capacities, residuals=residuals, flags=flags, work_left=point)
                at += 2 * grid + size
            if at != len(data):
                raise BookError(f"{len(data) - at} bytes follow the snapshot")
        except (BookError, struct.error) as error:
            for window in self.windows():
                self.forget(window)
            if isinstance(error, struct.error):
                raise BookError(f"the snapshot is cut short: {error}") from None
            raise

    # ------------------------------------------------------------ queries

    def paths(self, seller_zone, buyer_zone):
        """The paths of the ordered pair, as TRADE and BILATERAL number them."""
        self.check_zone(seller_zone)
        self.check_zone(buyer_zone)
        return list(self._paths_of[seller_zone, buyer_zone])

    def depth(self, window, zone, side, levels=10, *, now_ms=0):
        """The best `levels` prices of one side, best first: DEPTH of orders not expired at `now_ms`, what icebergs hide
        not counted. The default, 0, counts every order that rests."""
        cdef Core* c = &self.c
        cdef uint32_t slot = self.slot_of(window), bits, number
        cdef uint8_t[::1] target
        cdef uint64_t written, most
        cdef int64_t now = now_ms
        cdef CDepth* out
        self.check_zone(zone, side)
        most = min(max(0, levels), LAST_TICK + 1, c.live)
        parts = []
        bits = c.windows[slot].filled[16 * <int>side + <int>zone]
        while bits and most:
            number = c.windows[slot].queue[queue_index(side, zone, LOWEST_BIT(bits))]
            bits &= bits - 1
            array = np.empty(most + 1, DEPTH)
            target = array.view(np.uint8)
            out = <CDepth*>&target[0]
            written = depth_read(c, c.queues + number, most, now, out)
            parts.append(array[:written])
        if len(parts) == 1:
            return parts[0]
        merged = {}
        for part in parts:
            for price, orders, quantity in part.tolist():
                before = merged.get(price, (0, 0))
                merged[price] = (before[0] + orders, before[1] + quantity)
        rows = [(price, *merged[price]) for price in sorted(merged, reverse=side == SIDE_BUY)[:most]]
        return np.array(rows, DEPTH)

    def resting(self, order_ids):
        """Which of the orders rest: a bool per id of a one-dimensional array of unsigned integers."""
        cdef uint64_t i
        cdef uint8_t[::1] out
        cdef const uint64_t[::1] ids = np.require(order_ids, np.uint64, ("C", "A"))
        self.check_idle()
        found = np.zeros(ids.shape[0], np.uint8)
        out = found
        for i in range(<uint64_t>ids.shape[0]):
            out[i] = index_find(&self.c, ids[i]) != 0
        return found.view(bool)

    def best(self, window, zone):
        """(highest buy limit, lowest sell limit) that rest, mTHB/kWh; None where a side is empty."""
        cdef uint32_t slot = self.slot_of(window)
        self.check_zone(zone)
        cdef uint32_t buys = self.c.windows[slot].best[<int>zone], sells = self.c.windows[slot].best[16 + <int>zone]
        return (None if buys == NOTHING else price_of(SIDE_BUY, buys),
                None if sells == NOTHING else price_of(SIDE_SELL, sells))

    def landed_depth(self, window, zone, side, levels=10, *, now_ms=0):
        """What a new order of the zone would meet on the other side's book `side`: rows (price at the buyer landed, or
        netback at the seller, exact as (numerator, denominator) in mTHB/kWh; zone; path; limit price; orders; Wh shown),
        best first, over all paths that have a lot of capacity left."""
        cdef uint32_t slot = self.slot_of(window)
        self.check_zone(zone, side)
        rows = []
        for other in range(<int>self.c.zone_count):
            pair = (other, zone) if side == SIDE_SELL else (zone, other)
            found = self.depth(window, other, side, levels, now_ms=now_ms).tolist()
            for number, path in enumerate(self._paths_of[pair]):
                offers = [self.c.windows[slot].residual[2 * <int>corridor + <int>direction]
                          for corridor, direction in zip(path.corridors, path.directions)]
                if min(offers, default=LOT) < LOT:
                    continue
                keep = PPM - path.loss_ppm
                for price, orders, quantity in found:
                    if side == SIDE_SELL:
                        landed = (price * 10**9 + path.wheel_uthb_kwh * keep, 1000 * keep)
                    else:
                        landed = ((1000 * price - path.wheel_uthb_kwh) * keep, 10**9)
                    rows.append((landed, other, number, price, orders, quantity))
        sign = 1 if side == SIDE_SELL else -1
        rows.sort(key=lambda row: (sign * Fraction(*row[0]), row[1:3]))
        return rows[:max(0, levels)]

    def orders_of(self, window, participant):
        """The participant's resting orders in the window, as RESTING."""
        records = self.records(window)
        return records[records["participant"] == participant]

    def quote(self, window, zone, side, quantity_wh, limit_mthb_kwh, *, profile=0, source=0, participant=0xFFFFFFFF,
              now_ms=0):
        """What an order would trade now, as a dry run: Quote(filled_wh at its own meter, value_uthb, wheel_uthb, the
        worst price, fills). Nothing changes."""
        cdef Core* c = &self.c
        cdef uint32_t slot = self.slot_of(window)
        cdef Incoming order
        cdef uint64_t sequence = c.windows[slot].last_sequence + 1, tight
        cdef int64_t residual[64]
        self.check_zone(zone, side)
        if not quantity_good(quantity_wh) or not price_good(limit_mthb_kwh):
            raise BookError(f"{quantity_wh} Wh at {limit_mthb_kwh}: lots up to 10 000 kWh and ticks up to 1 000 000")
        if not 0 <= profile < c.profile_count or not 0 <= source < c.source_count:
            raise BookError(f"profile {profile} or source {source} does not exist")
        if not 0 <= participant < 1 << 32:
            raise BookError(f"participant {participant} is not a 32-bit number")
        self.make_room(1, False, FILLS_MOST)
        order.id, order.participant, order.price, order.number = 0, participant, limit_mthb_kwh, 0
        order.window, order.now_ms, order.mode, order.code = window, now_ms, STP_NEWEST, CODE_RESTING
        prepare(c, &order, side, zone, profile if side == SIDE_BUY else source)
        order.left = quantity_wh
        tight = c.windows[slot].tight
        memcpy(residual, c.windows[slot].residual, sizeof(residual))
        c.journal = True
        match(c, c.windows + slot, &order, &sequence, False, True, False)
        undo_to(c, 0)
        memcpy(c.windows[slot].residual, residual, sizeof(residual))
        c.windows[slot].tight = tight
        c.journal = c.raised = False
        trades = self.taken_trades(False)
        prices = trades["price_mthb_kwh"].astype(np.int64)
        worst = None if not len(prices) else int(prices.max() if side == SIDE_BUY else prices.min())
        return Quote(quantity_wh - order.left, int((prices * trades["injected_wh"]).sum()),
                     int(trades["wheel_uthb"].sum()), worst, order.fills)
