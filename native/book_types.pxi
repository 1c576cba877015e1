# The structures of the order engine. Layouts of the records that go in and out equal the NumPy dtypes in orderbook.pyx
# (checked at import); the others are private.

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "machine.h" nogil:
    """
    /* One piece of matching code serves the general batch and the compact one: inlined with constant arguments, it loses
       what the compact one has no use for. The compiler is not asked for its opinion. */
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    """
    uint32_t LOWEST_BIT(uint64_t)
    uint32_t HIGHEST_BIT(uint64_t)
    void PREFETCH(const void*)
    bint LIKELY(bint)
    bint UNLIKELY(bint)
    int compare_fractions(int64_t, int64_t, int64_t, int64_t)
    uint32_t within_reach(const uint32_t*, const uint16_t*, const uint32_t*, uint32_t, int32_t, uint32_t)
    int64_t divided(int64_t, uint64_t)
    uint32_t below_reach(const uint32_t*, int32_t, uint32_t)
    uint32_t* either(bint, uint32_t*, uint32_t*)
    void* pool_reserve(size_t, int)
    void pool_release(void*, size_t)

cdef enum:
    LOT = 100                   # Wh
    TICK = 10                   # mTHB/kWh
    LAST_TICK = 100_000         # 1 000 000 mTHB/kWh
    MOST_WH = 10_000_000        # an order's quantity
    MOST_LOTS = 40_000_000      # of a compact record: what 32 bits hold in Wh
    PPM = 1_000_000
    FILLS_MOST = 128            # per operation (CONSENSUS 2)
    TRADES_AT_ONCE = 32_768     # that the scratch holds, uncrossing apart; a batch that makes more is taken in pieces
    VISITS_MOST = 1024
    ZONES_MOST = 16
    SOURCES_MOST = 8
    PROFILES_MOST = 32
    CORRIDORS_MOST = 32
    PATHS_MOST = 8              # per ordered pair of zones
    PATH_CORRIDORS_MOST = 6
    SLICES_MOST = 20            # an iceberg shows at least so much of its quantity, one in 20
    WIDEST_WH = 1_000_000_000_000       # no corridor carries more in a window
    NO_EDGE = 64                # fills up a path's edges
    KEPT_MOST = 1024            # pages that stay though they are empty; a power of two
    NOTHING = 0x3FFFFFFF        # no key: beyond every key and reach, so one comparison says "empty or too dear"
    TOLL_MOST = 32_767          # ticks that the filter of zones counts at most

cdef enum:
    EXPIRES = 4                 # flags of an order; the two low bits are its self-trade mode
    ICEBERG = 8
    HALTED = 1                  # flags of a window
    UNFINISHED = 2

cdef struct COperation:         # 64 bytes
    uint64_t order_id
    int64_t quantity_wh
    int64_t expires_ms
    uint32_t participant
    uint32_t meter
    int32_t window
    int32_t price
    uint32_t minimum_wh
    uint32_t display_wh
    uint8_t zone
    uint8_t kind
    uint8_t side
    uint8_t force
    uint8_t flags
    uint8_t profile
    uint8_t source
    uint8_t to_zone
    uint8_t path
    uint8_t corridor
    uint16_t group
    uint32_t reserved

cdef struct CTrade:             # 72 bytes
    uint64_t maker_id
    uint64_t taker_id
    int64_t delivered_wh
    int64_t injected_wh
    int64_t wheel_uthb
    int64_t maker_remaining_wh
    int64_t taker_remaining_wh
    uint32_t operation
    int32_t window
    int32_t price
    uint8_t seller_zone
    uint8_t buyer_zone
    uint8_t taker_side
    uint8_t path

cdef struct CResult:            # 32 bytes
    uint64_t sequence
    int64_t filled_wh
    int64_t remaining_wh
    uint16_t visits
    uint16_t fills
    uint32_t code

cdef struct CClosed:            # 40 bytes
    uint64_t order_id
    int64_t remaining_wh
    uint64_t sequence
    uint32_t operation
    int32_t window
    uint32_t participant
    uint8_t zone
    uint8_t side
    uint16_t reason

cdef struct CResting:           # 72 bytes
    uint64_t order_id
    uint64_t sequence
    int64_t quantity_wh
    int64_t expires_ms
    uint32_t participant
    uint32_t meter
    int32_t window
    int32_t price
    uint32_t total_wh
    uint32_t display_wh
    uint32_t shown_wh
    uint8_t zone
    uint8_t side
    uint8_t flags
    uint8_t profile
    uint8_t source
    uint8_t spare
    uint16_t reserved
    uint32_t reserved_too

cdef struct CWorkLeft:          # 40 bytes
    uint64_t sequence
    uint64_t closed_low
    uint64_t closed_high
    int32_t window
    int32_t price
    uint32_t again
    uint32_t reserved

cdef struct CDepth:             # 16 bytes
    int32_t price
    uint32_t orders
    int64_t quantity_wh

cdef struct CRecord:            # 16 bytes: the compact operation, in ticks and lots
    uint32_t id
    int32_t price
    uint32_t quantity
    uint8_t kind
    uint8_t side
    uint16_t owner

cdef struct CCompactTrade:      # 32 bytes
    uint32_t maker_id
    uint32_t taker_id
    int32_t price
    uint32_t delivered_wh
    uint32_t injected_wh
    uint32_t operation
    int32_t window
    uint8_t seller_zone
    uint8_t buyer_zone
    uint8_t taker_side
    uint8_t path

cdef struct Order:              # 64 bytes, one line of the cache; slot 0 stands for "none"
    uint64_t id
    uint32_t next               # towards later sequences; in a free slot the next free one, less the slot after this
    uint32_t prev
    uint32_t level
    uint32_t quantity_wh        # what is shown and left, at the order's own meter
    uint32_t participant
    uint16_t flags              # self-trade mode, EXPIRES, ICEBERG
    uint16_t window             # its slot; 0 in slot 0
    uint64_t sequence
    int64_t expires_ms          # 0: good till gate
    uint32_t meter
    uint32_t hidden_wh
    uint32_t display_wh         # 0: all is shown
    uint32_t total_wh           # as placed or amended, filled part included

cdef struct Level:              # the queue of one price
    uint32_t head
    uint32_t tail

cdef struct Page:               # 64 neighbouring prices; page p holds levels 64 p .. 64 p + 63
    uint64_t bits               # which levels have orders
    uint32_t key                # of level 64 p
    uint32_t queue              # 0: in the pool
    uint32_t free_next
    uint32_t ringed             # whether the ring of kept pages names it
    uint32_t spare[2]           # 32 bytes: none lies across two lines of the cache

cdef struct Branch:             # 64 neighbouring pages
    uint64_t bits               # which of them have orders
    uint32_t page[64]
    uint32_t free_next
    uint32_t pages              # how many there are

cdef struct Queue:              # 192 bytes: sells of one (window, zone, source), buys of one (window, zone, profile)
    uint32_t best               # least key with orders, or NOTHING
    uint32_t bits               # which branches exist; 25 reach 100 000 ticks
    uint32_t free_next
    uint16_t window             # its slot
    uint8_t place               # 16 * side + zone
    uint8_t sub                 # source or profile
    uint32_t level              # of the best key, if there is one
    uint32_t recent[8]          # pages that orders came to, by key / 64 modulo 8; one may be another's by now
    uint32_t spare[3]
    uint32_t branch[25]
    uint32_t spare_too[7]

cdef struct Window:
    uint32_t best[32]           # [16 * side + zone]: least key over the queues there, or NOTHING
    uint64_t last_sequence      # no greater one was given up to the last batch: queues are in sequence order
    int32_t window
    uint32_t free_next
    uint32_t live
    uint32_t flags              # HALTED, UNFINISHED
    uint64_t point_sequence     # 0, or where an interrupted uncrossing goes on: the buy,
    uint64_t point_closed[2]    # what its run has found closed,
    uint32_t point_key          # its place in the pass,
    uint32_t point_again        # and whether another pass must follow
    uint64_t tight              # edges with less than a lot of residual
    uint32_t filled[32]         # which sources or profiles have orders in [16 * side + zone]
    int64_t residual[72]        # [2 * corridor + direction], signed Wh; at NO_EDGE there is no limit
    int64_t capacity[64]
    uint32_t queue[640]         # [8 * zone + source] for sells, [128 + 32 * zone + profile] for buys; 0: never used

cdef struct Rank:               # (price * rate + fixed) / over ranks resting orders of a side, the least first; see open_to
    int64_t rate, fixed, over, bound

cdef struct Route:              # a path of an ordered pair of zones, or a zone to itself
    Rank rank[2]                # by the side of the resting order
    int64_t keep_ppm            # 10^6 - L
    uint64_t inverse            # 2^82 / keep_ppm, rounded up: divides by it, see divided
    int64_t wheel_uthb_kwh      # W
    uint8_t seller_zone
    uint8_t buyer_zone
    uint8_t path
    uint8_t length
    uint8_t edge[8]             # 2 * corridor + direction, then NO_EDGE
    uint64_t edges              # the same as bits

cdef struct Spot:               # a window and zone that a compact batch names
    uint32_t window             # its slot
    uint32_t zone
    uint32_t queue[2]           # by side; where each has one
    Window* at

cdef struct Undo:               # one order before a dry run changed it; newest last
    Order order
    uint32_t slot
    uint32_t key
    uint32_t queue
    uint32_t what

cdef struct Core:
    Order* orders
    Level* levels
    Page* pages
    Branch* branches
    Queue* queues
    Window* windows
    uint64_t* index             # low half of an order id << 32 | slot, 0 empty
    uint32_t* dense             # slots by id where ids are dense, else NULL
    uint32_t* window_table      # slots of windows by number
    uint32_t* slots             # scratch: window slot per operation
    Spot* spots                 # scratch: by place
    CTrade* trades              # scratch of one batch
    CCompactTrade* compact
    CClosed* closed
    Undo* undo
    uint64_t trades_used, trades_capacity, compact_capacity, closed_used, closed_capacity
    uint64_t undo_used, undo_capacity, slots_capacity, spots_capacity, dense_capacity
    uint32_t orders_capacity, orders_free, live
    uint32_t icebergs, expiring         # how many of the live ones
    uint32_t pages_capacity, pages_top, pages_free
    uint32_t kept[1024]                 # a ring of pages that are, or were, empty in their places
    uint32_t kept_next
    uint32_t branches_capacity, branches_top, branches_free
    uint32_t queues_capacity, queues_top, queues_free
    uint32_t windows_capacity, windows_top, windows_free, windows_live, window_mask
    uint64_t index_mask
    uint32_t index_shift, zone_count, corridor_count, profile_count, source_count
    int huge
    bint journal                # a dry run: every change is written down
    bint raised                 # a residual grew in this operation
    bint simple                 # one source and one profile, which accepts all: a queue for a side and zone
    bint plain                  # and one zone without losses or wheeling
    int64_t uncross_fills, uncross_visits       # left of the batch's bound
    Route* routes
    size_t route_total
    uint32_t route_first[256]   # [16 * seller zone + buyer zone]
    uint32_t route_count[256]
    uint16_t ways_first[512]    # the same by [256 * side + 16 * zone + other], as an incoming order of `side` sees it
    uint16_t ways_count[512]
    uint16_t loss[512]          # [256 * side + 16 * zone + other]: least loss of the paths, in 2^-16, rounded down
    uint32_t toll[512]          # and least wheeling, see toll_of
    uint32_t profile_sources[32]
    uint32_t profile_zones[32]
    uint32_t accepting[128]     # [8 * seller zone + source]: which profiles buy there
