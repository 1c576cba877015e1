# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Settlement of a window's meters, one after the other: what `gridtokenx.market.settlement` does with a meter whose bill is
plain, that is nearly all of them (MARKET 7).

Not plain, and left to it, is a meter without a reading or with a late one, one whose owner has dues or cannot pay, one
whose utility cannot bear more, and whatever has numbers beyond the bounds of settlement. Nothing of such a meter is written.
"""

from libc.string cimport memcpy

from gridtokenx._native.state cimport Entry, Working

include "packed.pxi"

cdef extern from *:
    """
    typedef __int128 wide_t;
    /* `(2 n + d) // (2 d)`, the quotient rounded down, also below zero. */
    static inline wide_t half_up(wide_t n, int64_t d) {
        wide_t twice = 2 * n + d, whole;
        if (twice >= 0 && twice <= INT64_MAX)       /* nearly always, and several times quicker */
            return (uint64_t)twice / (uint64_t)(2 * d);
        whole = twice / (2 * d);
        return twice % (2 * d) < 0 ? whole - 1 : whole;
    }
    """
    ctypedef int64_t wide_t
    wide_t half_up(wide_t, int64_t) nogil

cdef enum:
    KWH = 1000
    PPM = 1_000_000
    SUMS = 9
    ADDRESS = 32
    BILL_SIZE = 11          # attributes of a bill: owner, nine numbers, lines
    LINE_SIZE = 4
    BILL_MOST = 640         # bytes: 34 of the owner, 9 of each number in up to 12 lines and beside them
    # Attributes of an account by their places: `ATTRIBUTES` has the names.
    NONCE = 0
    BALANCE = 1
    BIDS = 2
    PROCEEDS = 3
    COLLATERAL = 4
    CREDIT = 5
    LOCKED = 6
    RELEASED = 7
    FREED = 8
    HEIGHT = 9
    PARTICIPANT = 10
    THRESHOLD = 11
    DUES = 12
    # Rules of the bill (`gridtokenx.market.rules`).
    PURCHASE = 1
    WHEELING = 2
    TRADE_FEE = 3
    TRADE_VAT = 4
    SALE = 5
    ENERGY_LINE = 6
    FT = 7
    SUPPLY_VAT = 8
    BUY_BACK = 9
    SHORTFALL = 10
    SURPLUS = 11
    SHORTFALL_VAT = 12

cdef int64_t WH_MOST = <int64_t>1 << 40         # what is more is left to numbers without bounds
cdef int64_t RATE_MOST = <int64_t>1 << 40
cdef int64_t MONEY_MOST = <int64_t>1 << 60

RULES = {"PURCHASE": PURCHASE, "WHEELING": WHEELING, "TRADE_FEE": TRADE_FEE, "TRADE_VAT": TRADE_VAT, "SALE": SALE,
         "ENERGY": ENERGY_LINE, "FT": FT, "SUPPLY_VAT": SUPPLY_VAT, "BUY_BACK": BUY_BACK, "SHORTFALL": SHORTFALL,
         "SURPLUS": SURPLUS, "SHORTFALL_VAT": SHORTFALL_VAT}


cdef inline bint fits(wide_t amount) noexcept:
    return -MONEY_MOST <= amount <= MONEY_MOST


cdef inline uint8_t* line(uint8_t* at, int rule, int64_t quantity, int64_t rate, int64_t amount) noexcept:
    """Writes a line of a bill; returns where it ends."""
    at = write_number(write_head(at, ARRAY, LINE_SIZE), rule)
    return write_number(write_number(write_number(at, quantity), rate), amount)


cdef inline bytes address_key(uint8_t space, bytes address):
    """The key of an address of ADDRESS bytes."""
    cdef bytes key = PyBytes_FromStringAndSize(NULL, 1 + ADDRESS)
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(key)
    at[0] = space
    memcpy(at + 1, PyBytes_AS_STRING(address), ADDRESS)
    return key


cdef class _Earner:
    """Who earns by the bills of this piece: a utility, or the tax account."""

    cdef bytes address
    cdef int64_t amount


cdef class _Zone:
    cdef list sums              # None: nothing was added yet
    cdef int64_t[SUMS] added
    cdef _Earner utility
    cdef Entry account          # the utility's
    cdef object read            # what stood there when `balance` was read of it
    cdef int64_t balance


cdef class _Terms:
    """Prices of a zone and tariff class."""

    cdef int64_t energy, ft, buy_back, short_, long_, vat
    cdef _Zone zone


cdef class Meters:
    """The kernel; made once, with the records' classes by name and the spaces and bounds that the ledger has.

    ValueError when a class has other attributes, or a rule of the bill another number, than it knows.
    """

    cdef Shape account, meter, position, reading, traded, settlement, lot, energy, prices
    cdef uint8_t account_space, energy_space, meter_space, position_space, reading_space, traded_space, settlement_space, lot_space, late_space
    cdef int64_t debt_most
    cdef object meter_weight, clear_weight

    def __init__(self, dict classes not None, dict rules not None, spaces not None, *, debt_most, meter_weight,
                 clear_weight):
        if rules != RULES:
            raise ValueError(f"the rules of bills are {rules}; the kernel knows {RULES}")
        self.account, self.meter, self.position = (shape_of(classes, name) for name in ("Account", "Meter", "Position"))
        self.reading, self.traded, self.prices = (shape_of(classes, name) for name in ("Reading", "Traded", "Prices"))
        self.settlement, self.lot, self.energy = (shape_of(classes, name) for name in ("Settlement", "Lot", "Energy"))
        self.account_space, self.energy_space = spaces["ACCOUNT"], spaces["ENERGY"]
        self.meter_space, self.position_space = spaces["METER"], spaces["POSITION"]
        self.reading_space, self.traded_space = spaces["READING"], spaces["TRADED"]
        self.settlement_space, self.lot_space = spaces["SETTLEMENT"], spaces["LOT"]
        self.late_space = spaces["LATE_READING"]
        self.debt_most, self.meter_weight, self.clear_weight = debt_most, meter_weight, clear_weight

    def settle(self, Working session not None, int64_t window, int64_t begin_ms, int64_t number, int64_t last, spend, find, sums,
               dict earned, bytes tax not None, bint late):
        """Settles meters from the one after `number` to `last`; returns (the last one settled, whether it goes on).

        It goes on, with one that is not plain, where that is left to others; else `last` is settled or `spend` refused
        a weight. `find(zone, tariff)` gives (prices, the zone's utility), `sums(zone)` the zone's sums, which are added
        to, like `earned` by account. `late`: some may have late readings.
        """
        cdef _Run run = _Run.__new__(_Run)
        cdef bint goes_on = False
        cdef int plain
        run.kernel, run.session, run.height = self, session, session.height
        run.window, run.begin_ms, run.spend, run.find, run.sums, run.tax_address = window, begin_ms, spend, find, sums, tax
        run.earned, run.earners, run.terms, run.zones, run.late = earned, {}, {}, {}, late
        try:
            while number < last:
                plain = run.one(number + 1)
                if plain != 1:
                    goes_on = plain == 0
                    break
                number += 1
        finally:
            run.close()
        return number, goes_on


cdef class _Run:
    """A piece of a window."""

    cdef Meters kernel
    cdef Working session
    cdef object spend, find, sums
    cdef int64_t window, begin_ms, height
    cdef bytes tax_address
    cdef dict earned, earners, terms, zones
    cdef _Earner tax
    cdef object zone, tariff        # of the meter whose terms were looked for last
    cdef _Terms before
    cdef bint late

    cdef int close(self) except -1:
        cdef _Zone zone
        cdef _Earner earner
        cdef int i
        for zone in self.zones.values():
            if zone.sums is not None:
                for i in range(SUMS):
                    zone.sums[i] += zone.added[i]
        for earner in self.earners.values():
            self.earned[earner.address] = earner.amount
        return 0

    cdef _Earner _earner(self, bytes address):
        cdef _Earner earner = self.earners.get(address)
        if earner is None:
            earner = _Earner.__new__(_Earner)
            earner.address, earner.amount = address, self.earned.setdefault(address, 0)
            self.earners[address] = earner
        return earner

    cdef _Terms _terms(self, object zone, object tariff):
        """None when they are beyond bounds."""
        cdef _Terms terms
        cdef int64_t[6] numbers
        if zone is self.zone and tariff is self.tariff:     # as the meter before
            return self.before
        terms = self.terms.get((zone, tariff))
        if terms is not None:
            self.zone, self.tariff, self.before = zone, tariff, terms
            return terms
        prices, utility = self.find(zone, tariff)
        if type(utility) is not bytes or PyBytes_GET_SIZE(utility) != ADDRESS or not read_all(
                self.kernel.prices, prices, RATE_MOST, 0, 6, numbers):
            return None
        terms = _Terms.__new__(_Terms)
        terms.energy, terms.ft, terms.buy_back = numbers[0], numbers[1], numbers[2]
        terms.short_, terms.long_, terms.vat = numbers[3], numbers[4], numbers[5]
        terms.zone = self.zones.get(zone)
        if terms.zone is None:
            terms.zone = self.zones[zone] = _Zone.__new__(_Zone)
            terms.zone.utility = self._earner(utility)
            terms.zone.account = self.session.entry(address_key(self.kernel.account_space, utility))
            terms.zone.read = ...       # nothing yet
        if self.tax is None:
            self.tax = self._earner(self.tax_address)
        self.terms[zone, tariff] = terms
        return terms

    cdef bint _money(self, object account, int64_t* m) except -1:
        """An account's money as it can be spent now (`gridtokenx.ledger.funds.settled`). False: beyond bounds."""
        cdef int64_t locked
        if not read_any(self.kernel.account, account, MONEY_MOST, 0, DUES + 1, m):
            return False
        if m[HEIGHT] < self.height and (m[RELEASED] or m[FREED]):
            m[COLLATERAL] -= m[FREED]
            locked = max(0, m[COLLATERAL] - m[CREDIT])
            m[BALANCE] += m[RELEASED] + m[LOCKED] - locked
            m[LOCKED], m[RELEASED], m[FREED] = locked, 0, 0
        return True

    cdef int one(self, int64_t number) except -1:
        """1: settled; 0: not plain; 2: no room."""
        cdef Meters k = self.kernel
        cdef _Terms terms
        cdef Working session = self.session
        cdef object meter = session.record_of(session.entry(key_of(k.meter_space, number)))
        cdef object reading, traded = None, owner
        cdef Entry traded_at, account, energy
        cdef int64_t since, boundary, sold = 0, bought = 0, supplied, taken
        cdef int64_t zone, source
        cdef int64_t[5] lot
        cdef uint8_t[BILL_MOST] bill
        cdef uint8_t* at
        cdef int64_t[2] p
        cdef int64_t[3] r
        cdef int64_t[7] t
        cdef int64_t[DUES + 1] a
        cdef int64_t[DUES + 1] u
        cdef int64_t[6] e
        cdef int64_t short_wh, left, uncovered, unsold, unused, resold, locked, balance
        cdef wide_t energy_amount, ft_amount, vat, back, shortfall, shortfall_vat, surplus, to_utility, to_tax, amount
        if type(meter) is not k.meter.cls:
            return 0
        if not read(k.meter.get(meter, 9), (<int64_t>1 << 62), &since) or not read(k.meter.get(meter, 10), 2, &boundary):
            return 0
        if boundary or since > self.begin_ms:
            return 1 if self.spend(k.clear_weight) else 2

        if self.late and session.now(window_key(k.late_space, self.window, number)) is not None:
            return 0
        # What is read decides whether the bill is plain: until then nothing is written.
        if not read_any(k.position, session.now(window_key(k.position_space, self.window, number)), WH_MOST, 0, 2, p):
            return 0
        sold, bought = p[0], p[1]
        if bought or sold:
            traded_at = session.entry(window_key(k.traded_space, self.window, number))
            traded = traded_at.now
        reading = session.now(window_key(k.reading_space, self.window, number))
        if reading is None or not read_any(k.reading, reading, WH_MOST, 0, 3, r) or not read_any(
                k.traded, traded, MONEY_MOST, 0, 7, t) or bought < 0 or sold < 0 or r[0] < 0 or r[1] < 0:
            return 0
        zone, source = k.meter.get(meter, 3), k.meter.get(meter, 5)
        terms = self._terms(k.meter.get(meter, 3), k.meter.get(meter, 6))
        if terms is None:
            return 0

        # Sales use injection first, then purchases; what purchases are left covers withdrawal (MARKET 7.2).
        resold = sold - r[0] if sold > r[0] else 0
        left = bought - resold if bought > resold else 0
        uncovered = r[1] - left if r[1] > left else 0
        unsold = r[0] - sold if r[0] > sold else 0
        short_wh = resold - bought if resold > bought else 0
        unused = left - r[1] if left > r[1] else 0
        supplied, taken = uncovered + short_wh, unsold + unused

        energy_amount = half_up(<wide_t>uncovered * terms.energy, KWH)
        ft_amount = half_up(<wide_t>uncovered * terms.ft, KWH)
        vat = half_up((energy_amount + ft_amount) * terms.vat, PPM)
        back = -half_up(<wide_t>unsold * terms.buy_back, KWH)
        shortfall = half_up(<wide_t>short_wh * terms.short_, KWH)
        shortfall_vat = half_up(shortfall * terms.vat, PPM)
        surplus = -half_up(<wide_t>unused * terms.long_, KWH)
        to_utility = energy_amount + ft_amount + back + shortfall + surplus
        to_tax = vat + shortfall_vat
        if not (fits(energy_amount) and fits(ft_amount) and fits(vat) and fits(back) and fits(shortfall)
                and fits(shortfall_vat) and fits(surplus) and fits(to_utility) and fits(to_tax)
                and fits(terms.zone.utility.amount) and fits(self.tax.amount)):
            return 0

        owner = k.meter.get(meter, 0)
        if type(owner) is not bytes or PyBytes_GET_SIZE(owner) != ADDRESS:
            return 0
        if terms.zone.read is not terms.zone.account.now:
            if not self._money(terms.zone.account.now, u):
                return 0
            terms.zone.read, terms.zone.balance = terms.zone.account.now, u[BALANCE]
        if <wide_t>terms.zone.balance + terms.zone.utility.amount - (to_utility if to_utility > 0 else -to_utility) - (
                to_tax if to_tax > 0 else -to_tax) < -k.debt_most:
            return 0
        account = session.entry(address_key(k.account_space, <bytes>owner))
        energy = session.entry(address_key(k.energy_space, <bytes>owner))
        if not self._money(account.now, a) or a[DUES] or not read_any(k.energy, energy.now, MONEY_MOST, 0, 6, e):
            return 0
        a[COLLATERAL] -= t[5]
        locked = max(0, a[COLLATERAL] - a[CREDIT])
        balance = a[BALANCE] + a[LOCKED] - locked + t[4]
        amount = to_utility + to_tax
        if amount > balance:
            return 0
        if not self.spend(k.meter_weight):
            return 2

        # ------------------------------------------------------------ it is plain: all is written
        if bought or sold:
            session.set(traded_at, None)
        terms.zone.utility.amount += <int64_t>to_utility
        self.tax.amount += <int64_t>to_tax
        a[BALANCE] = <int64_t>(balance - amount)
        a[PROCEEDS] -= t[4]
        a[LOCKED] = locked
        session.set(account, write_all(k.account, a))
        at = write_head(write_head(bill, ARRAY, BILL_SIZE), BYTES, ADDRESS)
        memcpy(at, PyBytes_AS_STRING(owner), ADDRESS)
        at = write_number(write_number(write_number(at + ADDRESS, zone), r[0]), r[1])
        at = write_number(write_number(write_number(write_number(at, bought), sold), supplied), taken)
        at = write_number(write_number(at, r[2]), 0)
        at = write_head(at, ARRAY, (4 if bought else 0) + (1 if sold else 0) + (3 if uncovered else 0) + (
            1 if unsold else 0) + (2 if short_wh else 0) + (1 if unused else 0))
        if bought:
            at = line(line(at, PURCHASE, bought, 0, t[0]), WHEELING, bought, 0, t[1])
            at = line(line(at, TRADE_FEE, bought, 0, t[2]), TRADE_VAT, bought, 0, t[3])
        if sold:
            at = line(at, SALE, sold, 0, -t[4])
        if uncovered:
            at = line(at, ENERGY_LINE, uncovered, terms.energy, <int64_t>energy_amount)
            at = line(at, FT, uncovered, terms.ft, <int64_t>ft_amount)
            at = line(at, SUPPLY_VAT, uncovered, terms.vat, <int64_t>vat)
        if unsold:
            at = line(at, BUY_BACK, unsold, terms.buy_back, <int64_t>back)
        if short_wh:
            at = line(at, SHORTFALL, short_wh, terms.short_, <int64_t>shortfall)
        if unused:
            at = line(at, SURPLUS, unused, terms.long_, <int64_t>surplus)
        if short_wh:
            at = line(at, SHORTFALL_VAT, short_wh, terms.vat, <int64_t>shortfall_vat)
        session.set(session.entry(window_key(k.settlement_space, self.window, number)),
                 PyBytes_FromStringAndSize(<const char*>bill, at - bill))

        if r[0]:
            lot[0], lot[1], lot[2], lot[3], lot[4] = zone, source, r[0], min(r[0], sold), 0
            session.set(session.entry(window_key(k.lot_space, self.window, number)), write_all(k.lot, lot))
        e[0] += r[0]
        e[1] += sold
        e[2] += bought
        e[3] += r[1]
        e[4] += supplied
        e[5] += taken
        session.set(energy, write_all(k.energy, e))

        if terms.zone.sums is None:
            terms.zone.sums = self.sums(k.meter.get(meter, 3))
        terms.zone.added[0] += r[0]
        terms.zone.added[1] += r[1]
        terms.zone.added[2] += supplied
        terms.zone.added[3] += taken
        terms.zone.added[4] += bought
        terms.zone.added[5] += sold
        terms.zone.added[6] += t[6]
        terms.zone.added[7] += 1
        return 1
