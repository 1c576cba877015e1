# Accounts and positions in numbers: where their attributes are, what came free before the block counted in full
# (`gridtokenx.ledger.funds.settled`, `gridtokenx.market.positions.settled`).

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

include "packed.pxi"

cdef extern from *:
    """
    typedef __int128 wide_t;
    """
    ctypedef int64_t wide_t

cdef enum:
    # Attributes of an account.
    BALANCE = 1
    BIDS = 2
    PROCEEDS = 3
    COLLATERAL = 4
    CREDIT = 5
    LOCKED = 6
    RELEASED = 7
    FREED = 8
    HEIGHT = 9
    DUES = 12
    ACCOUNT_SIZE = 13
    # Of a position.
    SOLD = 0
    BOUGHT = 1
    OPEN_SELL = 2
    OPEN_BUY = 3
    POSITION_HEIGHT = 4
    FREED_SELL = 5
    FREED_BUY = 6
    NEW_SOLD = 7
    NEW_BOUGHT = 8
    POSITION_SIZE = 9

cdef int64_t MOST = <int64_t>1 << 59                # of an amount; what is more is left to numbers without bounds
cdef int64_t ORDINARY = <int64_t>1 << 36            # of an order's price and energy
cdef int64_t PPM = 1_000_000


cdef inline void settle_account(int64_t* a, int64_t height) noexcept:
    cdef int64_t locked
    if a[HEIGHT] < height and (a[RELEASED] or a[FREED]):
        a[COLLATERAL] -= a[FREED]
        locked = max(0, a[COLLATERAL] - a[CREDIT])
        a[BALANCE] += a[RELEASED] + a[LOCKED] - locked
        a[LOCKED] = locked
        a[RELEASED] = a[FREED] = 0


cdef inline void settle_position(int64_t* p, int64_t height) noexcept:
    if p[POSITION_HEIGHT] < height:
        p[FREED_SELL] = p[FREED_BUY] = p[NEW_SOLD] = p[NEW_BOUGHT] = 0


cdef inline int64_t escrow_of(int64_t price, int64_t quantity, int64_t fee_ppm, int64_t vat_ppm) noexcept:
    """Of a buy with price x quantity below ORDINARY and ppm up to PPM (`gridtokenx.market.money.buy_escrow`)."""
    return <int64_t>((<wide_t>(price * quantity) * (PPM + fee_ppm) * (PPM + vat_ppm) + <wide_t>PPM * PPM - 1)
                     // (<wide_t>PPM * PPM))
