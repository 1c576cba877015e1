# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Orders of a transaction, one after the other: those that are plain, which are nearly all. What is not, and whatever is
wrong, is left to the rules of `gridtokenx.market.desk`.

Plain is an order until the gate without conditions, in a window that the block has orders in, by the owner of a licensed
meter who has the energy, and the money without anything that was to be released first.
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t
from libc.string cimport memset

from gridtokenx._native.state cimport Entry, Working

include "moves.pxi"

cdef enum:
    FIELDS = 7
    QUARTERS = 4
    COUNTER_BITS = 40
    FILL_LEAST_WH = 50
    BUY = 0
    SELL = 1
    # Attributes of a meter.
    OWNER = 0
    PARTICIPANT = 1
    ZONE = 3
    SOURCE = 5
    INJECTION = 7
    WITHDRAWAL = 8
    LICENCE_ENDS = 4        # of a participant
    # Of counters.
    ORDERS = 2
    OPEN_ORDERS = 4
    CLOSED_ORDERS = 5
    COUNTERS_HEIGHT = 6
    COUNTERS_SIZE = 7


# A record of the engine's OPERATION: gridtokenx.market.deferred packs the same.
cdef packed struct Row:
    uint64_t order_id
    int64_t quantity_wh, expires_ms
    uint32_t participant, meter
    int32_t window, price
    uint32_t minimum_wh, display_wh
    uint8_t zone, kind, side, force, flags, profile, source
    uint8_t[3] others
    uint16_t group
    uint32_t end


cdef class Placing:
    """The kernel; made once, with the records' classes by name, their spaces and the numbers that rules and engine have.
    ValueError when a class has other attributes than it knows."""

    cdef Shape account, position, meter, participant, counters, order, deferred, rules, band
    cdef uint8_t account_space, position_space, meter_space, participant_space, window_space
    cdef bytes counters_key
    cdef object kind, place
    cdef int64_t lot, tick, price_most, fills_most, window_most

    def __init__(self, dict classes not None, spaces not None, *, bytes counters_key not None, kind, place, lot, tick,
                 price_most, fills_most, window_most):
        self.account, self.position, self.meter, self.participant = (
            shape_of(classes, name) for name in ("Account", "Position", "Meter", "Participant"))
        self.counters, self.order, self.deferred = (
            shape_of(classes, name) for name in ("Counters", "Order", "Deferred"))
        self.rules, self.band = (shape_of(classes, name) for name in ("WindowRules", "Band"))
        self.account_space, self.position_space, self.meter_space = spaces["ACCOUNT"], spaces["POSITION"], spaces["METER"]
        self.participant_space, self.window_space = spaces["PARTICIPANT"], spaces["WINDOW"]
        self.counters_key, self.kind, self.place = counters_key, kind, place
        self.lot, self.tick, self.price_most, self.fills_most = lot, tick, price_most, fills_most
        self.window_most = window_most

    def orders(self, Working session not None, bytes sender not None, tuple operations not None, Py_ssize_t index, dict rules not None,
               set touched not None, int64_t now_ms, int64_t places, int64_t quantity_most, int64_t fee_ppm,
               dict placed not None, list rows not None, list pending not None):
        """Places the orders from the operation at `index` on, up to one that is not plain: appends to `rows` and `pending`
        and puts into `placed` what the engine is to do. Returns the sum of the fills that they may make."""
        cdef object height_ = session.height, found, rule, value, order, deferred
        cdef Entry account = session.entry(bytes((self.account_space,)) + sender), counters, position
        cdef object meter = None, participant_, zone_
        cdef tuple fields
        cdef int64_t a[ACCOUNT_SIZE]
        cdef int64_t p[POSITION_SIZE]
        cdef int64_t c[COUNTERS_SIZE]
        cdef int64_t height = height_, number, window, side, price, quantity, force, expires, meter_number = -1
        cdef int64_t participant = 0, zone = 0, source = 0, injection = 0, withdrawal = 0, ends = 0, opens, gate, low, high
        cdef int64_t vat, cap, free, term, held, locked, fills, order_source, order_vat, worst = 0
        cdef uint64_t order_id
        cdef Py_ssize_t count = len(operations), i, first = index
        cdef Row row
        if not 0 <= fee_ppm <= PPM or not read_any(self.account, account.now, MOST, 0, ACCOUNT_SIZE, a):
            return 0
        counters = session.entry(self.counters_key)
        if a[DUES] > a[CREDIT] or not read_any(self.counters, counters.now, MOST, 0, COUNTERS_SIZE, c):
            return 0
        settle_account(a, height)
        if c[CLOSED_ORDERS] and c[COUNTERS_HEIGHT] < height:        # places.counters
            c[OPEN_ORDERS] -= c[CLOSED_ORDERS]
            c[CLOSED_ORDERS] = 0
        memset(&row, 0, sizeof(row))
        while index < count:
            fields = <tuple?>operations[index]
            if len(fields) != FIELDS + 1 or fields[0] != self.place:
                break
            if not (read_between(fields[1], 0, 0xFFFFFFFF, &number) and read_between(fields[2], 0, self.window_most, &window)
                    and read_between(fields[3], BUY, SELL, &side) and read_between(fields[4], 0, self.price_most, &price)
                    and read_between(fields[5], 1, min(quantity_most, ORDINARY), &quantity)
                    and read_between(fields[6], 0, 0, &force) and read_between(fields[7], 0, 0, &expires)):
                break
            if quantity % self.lot or price % self.tick or price * quantity >= ORDINARY or c[OPEN_ORDERS] >= places:
                break
            if number != meter_number:
                meter = session.record_of(session.entry(key_of(self.meter_space, number)))
                if type(meter) is not self.meter.cls or self.meter.get(meter, OWNER) != sender:
                    break
                participant, zone, source = (self.meter.get(meter, PARTICIPANT), self.meter.get(meter, ZONE),
                                             self.meter.get(meter, SOURCE))
                injection, withdrawal = self.meter.get(meter, INJECTION), self.meter.get(meter, WITHDRAWAL)
                found = session.record_of(session.entry(key_of(self.participant_space, participant)))
                if type(found) is not self.participant.cls or not read_between(
                        self.participant.get(found, LICENCE_ENDS), 0, MOST, &ends):
                    break
                participant_, zone_, meter_number = self.meter.get(meter, PARTICIPANT), self.meter.get(meter, ZONE), number
            if ends <= now_ms:
                break
            # The window's first order in a block finds the rules, ends a halt and opens the window.
            rule = rules.get(fields[2])
            if rule is None or fields[2] not in touched or session.entry(key_of(self.window_space, window)).now is None:
                break
            found = self.rules.get(rule, 2)
            if type(found) is not self.band.cls or not (
                    read(self.rules.get(rule, 0), MOST, &opens) and read(self.rules.get(rule, 1), MOST, &gate)
                    and read(self.band.get(found, 0), MOST, &low) and read(self.band.get(found, 1), MOST, &high)
                    and read_between(self.rules.get(rule, 3), 0, PPM, &vat) and read(self.rules.get(rule, 4), ORDINARY, &cap)):
                break
            if not (opens <= now_ms < gate and low <= price <= high):
                break

            position = session.entry(window_key(self.position_space, window, number))
            if not read_any(self.position, position.now, ORDINARY, 0, POSITION_SIZE, p):
                break
            settle_position(p, height)
            order_source = 0
            if side == BUY:
                free = withdrawal // QUARTERS + p[SOLD] - p[NEW_SOLD] - p[BOUGHT] - p[OPEN_BUY] - p[FREED_BUY]
                term, order_vat = fee_ppm, vat
                held = escrow_of(price, quantity, fee_ppm, vat)
                if free < quantity or max(0, a[BALANCE] - a[DUES]) < held or a[BIDS] >= MOST:
                    break
                p[OPEN_BUY] += quantity
                a[BALANCE] -= held
                a[BIDS] += held
            else:
                if source:
                    if p[SOLD] + p[OPEN_SELL] + p[FREED_SELL] + quantity > injection // QUARTERS:
                        break
                    order_source = source
                free = injection // QUARTERS + p[BOUGHT] - p[NEW_BOUGHT] - p[SOLD] - p[OPEN_SELL] - p[FREED_SELL]
                term, order_vat = max(0, cap - price), 0
                if term * <wide_t>quantity >= ORDINARY:
                    break
                held = term * quantity
                locked = max(0, a[COLLATERAL] + held - a[CREDIT])
                if free < quantity or max(0, a[BALANCE] - a[DUES]) < locked - a[LOCKED] or a[COLLATERAL] >= MOST:
                    break
                p[OPEN_SELL] += quantity
                a[COLLATERAL] += held
                a[BALANCE] -= locked - a[LOCKED]
                a[LOCKED] = locked
            session.set(position, write_all(self.position, p))
            c[ORDERS] += 1
            c[OPEN_ORDERS] += 1
            order_id = <uint64_t>window << COUNTER_BITS | <uint64_t>c[ORDERS]
            fills = min(self.fills_most, quantity // FILL_LEAST_WH + 2)
            worst += fills

            order = self.order.new()
            for i, value in enumerate((fields[1], participant_, zone_, fields[3], fields[4], fields[5], fields[5], 0, 0, term,
                                       order_vat, height_, order_source, 0, 0, 0, 0)):
                self.order.set(order, i, value)
            deferred = self.deferred.new()
            value = order_id
            for i, found in enumerate((fields[2], self.kind, value, sender, order, None, None, 0, False, False, fills, None)):
                self.deferred.set(deferred, i, found)
            placed[value] = deferred
            pending.append(deferred)
            row.order_id, row.quantity_wh, row.participant, row.meter = order_id, quantity, participant, number
            row.window, row.price, row.zone, row.kind = window, price, zone, self.kind
            row.side, row.source = side, order_source
            rows.append(PyBytes_FromStringAndSize(<char*>&row, sizeof(row)))
            index += 1
        if index > first:
            session.set(account, write_all(self.account, a))
            session.set(counters, write_all(self.counters, c))
        return worst
