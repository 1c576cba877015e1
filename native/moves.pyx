# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Orders that come to rest and orders that leave at their gate, thousands at a time, and what both do to accounts and
positions: those that are plain, which are nearly all. What is not, and whatever is wrong, is left to the rules of
`gridtokenx.market.posting` and `gridtokenx.market.closing`.

Plain is an order until the gate without conditions, and whatever has numbers within the bounds of such an order.
"""

from gridtokenx._native.state cimport Entry, Working

include "moves.pxi"

cdef enum:
    MOVES = 4
    # Attributes of an order.
    METER = 0
    ZONE = 2
    SIDE = 3
    PRICE = 4
    QUANTITY = 5
    REMAINING = 6
    EXPIRES = 7
    SEQUENCE = 8
    TERM = 9
    VAT = 10
    SOURCE = 12
    DISPLAY = 15
    HIDDEN = 16
    ORDER_SIZE = 17
    # Of a deferred operation.
    DEFERRED_WINDOW = 0
    DEFERRED_KIND = 1
    DEFERRED_ID = 2
    DEFERRED_OWNER = 3
    DEFERRED_ORDER = 4
    BORROWED = 7
    PLACE_BORROWED = 8
    METER_OWNER = 0
    BUY = 0
    SELL = 1


cdef class _Sums:
    cdef int64_t[MOVES] moves


cdef inline _Sums sums_of(dict known, object of):
    cdef _Sums sums = known.get(of)
    if sums is None:
        sums = known[of] = _Sums.__new__(_Sums)
    return sums


cdef int add_up(dict known, dict sums, int count) except -1:
    """Adds what was summed up to lists of numbers."""
    cdef _Sums some
    cdef list numbers
    cdef int i
    for of, some in known.items():
        numbers = sums.get(of)
        if numbers is None:
            numbers = sums[of] = [0] * count
        for i in range(count):
            if some.moves[i]:
                numbers[i] += some.moves[i]
    return 0


cdef bint read_moves(object moves, int64_t* numbers) except -1:
    cdef Py_ssize_t i
    for i in range(MOVES):
        if not read((<list?>moves)[i], MOST, numbers + i):
            return False
    return True


cdef class Moves:
    """The kernel; made once, with the records' classes by name, their spaces, what index entries hold, and the numbers
    that rules and engine have. ValueError when a class has other attributes than it knows."""

    cdef Shape account, position, meter, order, deferred, outcome
    cdef uint8_t account_space, position_space, meter_space, order_space, orders_of_space
    cdef bytes present
    cdef object place, ok
    cdef int64_t resting
    cdef frozenset renewable

    def __init__(self, dict classes not None, spaces not None, *, bytes present not None, place, resting, ok,
                 frozenset renewable not None):
        self.account, self.position, self.meter = (shape_of(classes, name) for name in ("Account", "Position", "Meter"))
        self.order, self.deferred, self.outcome = (shape_of(classes, name) for name in ("Order", "Deferred", "Outcome"))
        self.account_space, self.position_space, self.meter_space = spaces["ACCOUNT"], spaces["POSITION"], spaces["METER"]
        self.order_space, self.orders_of_space = spaces["ORDER"], spaces["ORDERS_OF"]
        self.present, self.place, self.resting, self.ok, self.renewable = present, place, resting, ok, renewable

    cdef bytes index_key(self, bytes owner, int64_t due, uint64_t order_id):
        cdef Py_ssize_t size = len(owner)
        cdef bytes key = PyBytes_FromStringAndSize(NULL, 1 + size + 16)
        cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(key)
        at[0] = self.orders_of_space
        memcpy(at + 1, PyBytes_AS_STRING(owner), size)
        write(at + 1 + size, due, 8)
        write(at + 9 + size, order_id, 8)
        return key

    # ------------------------------------------------------------ accounts and positions

    def accounts(self, Working session not None, dict moves not None):
        """`funds.apply_moves` with [bids, proceeds, released, freed] by address; returns those that are not plain."""
        cdef Entry entry
        cdef object some
        cdef int64_t height = session.height
        cdef int64_t[ACCOUNT_SIZE] a
        cdef int64_t[MOVES] m
        cdef list left = []
        cdef bytes space = bytes((self.account_space,))
        for address, some in moves.items():
            entry = session.entry(space + <bytes?>address)
            if not read_moves(some, m) or not read_any(self.account, entry.now, MOST, 0, ACCOUNT_SIZE, a):
                left.append((address, some))
                continue
            settle_account(a, height)
            a[BIDS] += m[0]
            a[PROCEEDS] += m[1]
            a[RELEASED] += m[2]
            a[FREED] += m[3]
            a[HEIGHT] = height
            session.set(entry, write_all(self.account, a))
        return left

    def positions(self, Working session not None, dict moves not None):
        """`positions.apply_moves` with Wh [sold, bought, closed sells, closed buys] by (window, meter); returns those that
        are not plain."""
        cdef Entry entry
        cdef object some
        cdef int64_t height = session.height, window, meter
        cdef int64_t[POSITION_SIZE] p
        cdef int64_t[MOVES] m
        cdef list left = []
        cdef tuple place
        for place, some in moves.items():
            window, meter = place[0], place[1]
            entry = session.entry(window_key(self.position_space, window, meter))
            if not read_moves(some, m) or not read_any(self.position, entry.now, MOST, 0, POSITION_SIZE, p):
                left.append((place, some))
                continue
            settle_position(p, height)
            p[SOLD] += m[0]
            p[BOUGHT] += m[1]
            p[OPEN_SELL] -= m[0] + m[2]
            p[OPEN_BUY] -= m[1] + m[3]
            p[POSITION_HEIGHT] = height
            p[FREED_SELL] += m[2]
            p[FREED_BUY] += m[3]
            p[NEW_SOLD] += m[0]
            p[NEW_BOUGHT] += m[1]
            session.set(entry, write_all(self.position, p))
        return left

    # ------------------------------------------------------------ orders

    def lapse(self, Working session not None, rows, int64_t window, int64_t gate, spend, weight, dict accounts not None,
              dict positions not None, dict resting not None, other):
        """Closes a window's orders at its gate while `spend` has room for their `weight`: (how many of them, whether that
        was all). Adds up what they held by account and position, and [demand, supply, renewable Wh] by zone.

        One that is not plain goes to `other(order_id, order)` and does not count.
        """
        cdef object order, meter
        cdef int64_t[ORDER_SIZE] o
        cdef int64_t closed = 0
        cdef dict by_owner = {}, by_meter = {}, by_zone = {}
        cdef _Sums money, energy, rest
        cdef bytes key, owner
        cdef uint64_t order_id
        cdef bint all_ = True
        cdef int i
        for key, order in rows:
            if not spend(weight):
                all_ = False
                break
            order_id = 0
            for i in range(8):
                order_id = order_id << 8 | (<const uint8_t*>PyBytes_AS_STRING(key))[1 + i]
            if not read_any(self.order, order, MOST, 0, ORDER_SIZE, o) or o[EXPIRES] or not (
                    0 <= o[REMAINING] <= ORDINARY and 0 <= o[PRICE] < ORDINARY and 0 <= o[TERM] and 0 <= o[VAT] <= PPM
                    and (o[REMAINING] == 0 or o[PRICE] <= ORDINARY // o[REMAINING])
                    and (o[TERM] <= PPM if o[SIDE] == BUY else o[SIDE] == SELL and (
                        o[REMAINING] == 0 or o[TERM] <= ORDINARY // o[REMAINING]))):
                other(order_id, session.record(key, order))
                continue
            meter = session.record_of(session.entry(key_of(self.meter_space, o[METER])))
            if type(meter) is not self.meter.cls:
                other(order_id, session.record(key, order))
                continue
            owner = <bytes?>self.meter.get(meter, METER_OWNER)
            session.set(session.entry(key), None)
            session.set(session.entry(self.index_key(owner, gate, order_id)), None)
            money, energy = sums_of(by_owner, owner), sums_of(by_meter, (window, o[METER]))
            rest = sums_of(by_zone, o[ZONE])
            if o[SIDE] == BUY:
                held = escrow_of(o[PRICE], o[REMAINING], o[TERM], o[VAT])
                money.moves[0] -= held
                money.moves[2] += held
                energy.moves[3] += o[REMAINING]
                rest.moves[0] += o[REMAINING]
            else:
                money.moves[3] += o[TERM] * o[REMAINING]
                energy.moves[2] += o[REMAINING]
                rest.moves[1] += o[REMAINING]
                if o[SOURCE] in self.renewable:
                    rest.moves[2] += o[REMAINING]
            closed += 1
        add_up(by_owner, accounts, MOVES)
        add_up(by_meter, positions, MOVES)
        add_up(by_zone, resting, 3)
        return closed, all_

    def rest(self, Working session not None, list results not None, list pending not None, set busy not None, set named not None, gate_of):
        """Puts orders to rest that were placed and met nothing: of the engine's `results` (sequence, filled, remaining,
        code) those whose place in the batch is not in `busy` and whose order is not in `named`. Returns the places of all
        others. `gate_of(window)` is when a window's orders are due.
        """
        cdef object deferred, made, outcome
        cdef list others = []
        cdef tuple result
        cdef int64_t sequence, filled, remaining, code, borrowed, due
        cdef int64_t[ORDER_SIZE] o
        cdef uint64_t order_id
        cdef dict gates = {}
        cdef Py_ssize_t index
        cdef bytes key
        for index in range(len(results)):
            result, deferred = <tuple?>results[index], pending[index]
            others.append(index)
            if type(deferred) is not self.deferred.cls or self.deferred.get(deferred, DEFERRED_KIND) is not self.place:
                continue
            if self.deferred.get(deferred, PLACE_BORROWED) is not False:
                continue
            sequence, filled, remaining, code = result[0], result[1], result[2], result[3]
            if code != self.resting or filled or not (
                    read(self.deferred.get(deferred, BORROWED), 0, &borrowed)
                    and read_all(self.order, self.deferred.get(deferred, DEFERRED_ORDER), MOST, 0, ORDER_SIZE, o)) or (
                    o[EXPIRES] or o[DISPLAY] or o[HIDDEN] or remaining != o[QUANTITY] or remaining != o[REMAINING]):
                continue
            made = self.deferred.get(deferred, DEFERRED_ID)
            if index in busy or made in named:
                continue
            order_id, window = made, self.deferred.get(deferred, DEFERRED_WINDOW)
            if window not in gates:
                gates[window] = gate_of(window)
            due = gates[window]
            outcome = self.outcome.new()
            self.outcome.set(outcome, 0, self.ok)
            self.outcome.set(outcome, 1, (made, result[1], result[2], 0))
            deferred.outcome = outcome
            session.set(session.entry(self.index_key(<bytes?>self.deferred.get(deferred, DEFERRED_OWNER), due, order_id)),
                        self.present)
            o[SEQUENCE] = sequence
            key = PyBytes_FromStringAndSize(NULL, 9)
            (<uint8_t*>PyBytes_AS_STRING(key))[0] = self.order_space
            write(<uint8_t*>PyBytes_AS_STRING(key) + 1, order_id, 8)
            session.set(session.entry(key), write_all(self.order, o))
            others.pop()
        return others
