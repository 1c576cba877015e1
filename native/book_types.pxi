# The structures of the order engine. Layouts of OPERATION, TRADE, RESULT, CLOSED and RESTING equal the NumPy dtypes
# in orderbook.pyx (checked at import); the others are private.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "machine.h" nogil:
    uint32_t LOWEST_BIT(uint64_t)
    uint32_t HIGHEST_BIT(uint64_t)
    void PREFETCH(const void*)
    bint LIKELY(bint)
    bint UNLIKELY(bint)
    void* pool_reserve(size_t, int)
    void pool_release(void*, size_t)

cdef enum:
    LOT = 100                   # Wh
    TICK = 10                   # mTHB/kWh
    LAST_TICK = 100_000         # 1 000 000 mTHB/kWh
    MOST_WH = 10_000_000        # an order's quantity
    PPM = 1_000_000
    FILLS_MOST = 128            # per operation (CONSENSUS 2)
    VISITS_MOST = 1024
    ZONES_MOST = 16
    NOTHING = 0xFFFFFFFF        # no key: beyond every key, so one comparison says "empty or too dear"

cdef struct COperation:         # 56 bytes
    uint64_t order_id
    int64_t quantity_wh
    int64_t expires_ms
    uint32_t participant
    uint32_t meter
    int32_t window
    int32_t price
    uint8_t zone
    uint8_t kind
    uint8_t side
    uint8_t force
    uint8_t flags
    uint8_t profile
    uint16_t reserved
    uint32_t minimum_wh
    uint32_t display_wh

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

cdef struct CClosed:            # 32 bytes
    uint64_t order_id
    int64_t remaining_wh
    uint32_t operation
    int32_t window
    uint32_t participant
    uint8_t zone
    uint8_t side
    uint16_t reason

cdef struct CResting:           # 56 bytes
    uint64_t order_id
    uint64_t sequence
    int64_t quantity_wh
    int64_t expires_ms
    uint32_t participant
    uint32_t meter
    int32_t window
    int32_t price
    uint8_t zone
    uint8_t side
    uint8_t flags
    uint8_t profile
    uint32_t display_wh

cdef struct CDepth:             # 16 bytes
    int32_t price
    uint32_t orders
    int64_t quantity_wh

cdef struct Order:              # 64 bytes, one cache line; slot 0 stands for "none"
    uint64_t id
    uint64_t sequence
    int64_t expires_ms          # 0: good till gate
    uint32_t quantity_wh        # what is left, at the order's own meter
    uint32_t next               # towards later sequences; in a free slot the next free one
    uint32_t prev
    uint32_t level
    uint32_t participant
    uint32_t meter
    uint32_t key                # ladder key: ticks from the best imaginable price
    uint16_t window             # slot of the window
    uint8_t zone
    uint8_t side
    uint8_t flags
    uint8_t profile
    uint16_t spare
    uint32_t display_wh

cdef struct Level:              # the queue of one price
    uint32_t head
    uint32_t tail

cdef struct Page:               # 64 neighbouring prices; page p holds levels 64 p .. 64 p + 63
    uint64_t bits               # which levels have orders
    uint32_t free_next
    uint32_t spare

cdef struct Branch:             # 64 neighbouring pages
    uint64_t bits
    uint32_t page[64]
    uint32_t free_next
    uint32_t spare

cdef struct Ladder:             # all prices of one (window, zone, side): 25 branches reach 100 000 ticks
    uint32_t bits
    uint32_t branch[25]
    uint32_t free_next

cdef struct BookSide:
    uint32_t best               # least key with orders, or NOTHING
    uint32_t ladder             # 0: no order has ever rested here

cdef struct Window:
    uint64_t last_sequence      # greatest that ever rested since loading: queues are in sequence order
    int32_t window
    uint32_t free_next
    uint32_t live
    uint32_t used
    BookSide sides[32]              # [2 * zone + side]

cdef struct Zone:
    int64_t keep_ppm            # 10^6 - loss
    int64_t wheel_uthb_kwh

cdef struct Core:
    Order* orders
    Level* levels
    Page* pages
    Branch* branches
    Ladder* ladders
    Window* windows
    uint64_t* index             # low half of an order id << 32 | slot, 0 empty
    uint32_t* window_table      # slots of windows by number
    uint32_t* slots             # scratch: window slot per operation
    CTrade* trades              # scratch of one batch
    CClosed* closed
    uint64_t trades_used, trades_capacity, closed_used, closed_capacity, slots_capacity
    uint32_t orders_capacity, orders_top, orders_free, live
    uint32_t pages_capacity, pages_top, pages_free
    uint32_t branches_capacity, branches_top, branches_free
    uint32_t ladders_capacity, ladders_top, ladders_free
    uint32_t windows_capacity, windows_top, windows_free, windows_live, window_mask
    uint64_t index_mask
    uint32_t index_shift, zone_count
    int huge
    Zone zones[16]
