"""Settlement of a window: timed work from the reading deadline on, in bounded pieces (MARKET 7; CONSENSUS 2).

First the window's trades are summed up by meter, and wheeling, fee and VAT go to their receivers; then the meters,
by id, get their bill; at last the zones' balances are closed and the next window is put into the queue. Where the
work stands is in state: `WindowBook.settled` of the trades, `Settling.meter` of the meters.

It never fails: what an account cannot pay its zone's utility bears, and it becomes a due (`ledger.funds`). What is
earned can be spent from the block of settlement on.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, field

from gridtokenx._native.settlement import Meters
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import (
    Balance,
    Correction,
    Energy,
    Flag,
    Lot,
    Quality,
    Reading,
    Settlement,
    Settling,
    Traded,
)
from gridtokenx.ledger.records import Account, Counters, Market, Meter, Position, Trade, WindowBook, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market import bills
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.deadlines import closes_ms, deadline_ms, schedule
from gridtokenx.market.money import DEBT_MOST, locked_money
from gridtokenx.market.rates import Rates, class_rates, window_rates
from gridtokenx.market.rules import BillRule
from gridtokenx.market.wheeling import network_parts
from gridtokenx.market.work import Work, timed_key

Spend = Callable[[int], bool]
"""Asked with a weight before each piece of work: has this block room for it?"""

QUARTERS_OF_A_DAY = 96
ESTIMATE_DAYS = 28
DAY_MS = 86_400_000
_KERNEL = Meters(
    {record.__name__: record for record in (Account, Meter, Position, Reading, Traded, Settlement, Lot, Energy,
                                            bills.Prices)},
    {rule.name: int(rule) for rule in BillRule if rule < BillRule.SERVICE}, Space.__members__,
    debt_most=DEBT_MOST, meter_weight=weights.SETTLE_METER, clear_weight=weights.CLEAR_RECORD)
_NOT_TRADED = Position()
_NO_TRADES = Traded()
_NO_ENERGY = Energy()


def settle_window(context: Context, window: int, spend: Spend) -> bytes | None:
    """Settles the window, or as much as the block has room for: then None, and the next block goes on.

    Returns the key of the next window's settlement in the queue of timed work.
    """
    piece = _Piece(context, window, spend)
    done = piece.trades() and piece.meters()
    piece.post()
    return _close(context, window) if done and spend(weights.CLOSE_WINDOW) else None


@define
class Prices:
    """The prices of one window, by zone and tariff class."""

    session: Session
    rates: Rates
    window: int
    penalty_ppm: int
    _edges: dict[int, tuple[int, int]] = field(factory=dict)
    _found: dict[tuple[int, int], bills.Prices] = field(factory=dict)

    def edges(self, zone: int) -> tuple[int, int]:
        """(short, long) of a zone."""
        found = self._edges.get(zone)
        if found is None:
            market: Market | None = self.session.get(spaces.market(self.window, zone))
            rates = self.rates
            short = bills.short_price(rates.highest_retail, self.penalty_ppm, rates.buy_back)
            lowest = None if market is None or not market.trades else market.low_price
            found = self._edges[zone] = (short, bills.long_price(rates.buy_back, lowest))
        return found

    def of(self, zone: int, tariff: int) -> bills.Prices:
        found = self._found.get((zone, tariff))
        if found is None:
            found = self._found[zone, tariff] = meter_prices(self.rates, tariff, *self.edges(zone))
        return found


def meter_prices(rates: Rates, tariff: int, short: int, long: int) -> bills.Prices:
    energy = rates.energy[tariff]
    return bills.Prices(energy, rates.retail(tariff) - energy, rates.buy_back, short, long, rates.vat_ppm)


@define
class _Piece:
    """What one block does of a window; sums per account and zone are written once, at the end."""

    context: Context
    window: int
    spend: Spend
    _traded: dict[int, list[int]] = field(factory=dict)
    _received: dict[bytes, int] = field(factory=dict)       # proceeds of wheeling, fee and VAT that are free now
    _earned: dict[bytes, int] = field(factory=dict)         # by utilities (may be below zero) and the tax account
    _zones: dict[int, list[int]] = field(factory=dict)

    # ------------------------------------------------------------ trades

    def trades(self) -> bool:
        session, window = self.context.session, self.window
        book: WindowBook | None = session.get(spaces.window(window))
        if book is None:
            return True
        settled = book.settled
        while settled < book.trades and self.spend(weights.SETTLE_TRADE):
            self._trade(session.get(spaces.trade(window, settled)))
            settled += 1
        if settled != book.settled:
            session.put(spaces.window(window), evolve(book, settled=settled))
        return settled == book.trades

    def _trade(self, trade: Trade) -> None:
        buyer, seller = self._sums(trade.buy_meter), self._sums(trade.sell_meter)
        value, roles = trade.value_uthb, self.context.roles
        buyer[0] += value
        buyer[1] += trade.wheel_uthb
        buyer[2] += trade.fee_uthb
        buyer[3] += trade.vat_uthb
        seller[4] += value
        seller[5] += trade.collateral_uthb
        buyer[6] += trade.injected_wh - trade.delivered_wh
        for receiver, amount in (*network_parts(self.context.session, trade), (roles.market_operator, trade.fee_uthb),
                                 (roles.tax, trade.vat_uthb)):
            if amount:
                self._received[receiver] = self._received.get(receiver, 0) + amount

    def _sums(self, meter: int) -> list[int]:
        sums = self._traded.get(meter)
        if sums is None:
            t: Traded = self.context.session.get(spaces.traded(self.window, meter)) or _NO_TRADES
            sums = self._traded[meter] = [t.purchase_uthb, t.wheel_uthb, t.fee_uthb, t.vat_uthb, t.sale_uthb,
                                          t.collateral_uthb, t.lost_wh]
        return sums

    # ------------------------------------------------------------ meters

    def meters(self) -> bool:
        context, window = self.context, self.window
        session = context.session
        self._write_traded()
        settling: Settling = session.get(spaces.SETTLING)
        counters: Counters = session.get(spaces.COUNTERS)
        parameters = context.parameters
        prices = Prices(session, window_rates(session, parameters, window), window, parameters.short_penalty_ppm)
        was_due = deadline_ms(settling, window) <= context.parent_ms    # only then late readings can lie here
        number, full = settling.meter, False
        while number < counters.meters and not full:
            number, goes_on = self._plain(number, counters.meters, prices, was_due)
            if not goes_on:
                break
            meter: Meter = session.get(spaces.meter(number + 1))
            if meter.boundary or meter.since_ms > window * WINDOW_MS:
                full = not self.spend(weights.CLEAR_RECORD)
            elif self.spend(weights.SETTLE_METER + self._weight_of_late(number + 1, was_due)):
                self._meter(number + 1, meter, prices)
                if was_due:
                    self._late(number + 1, meter)
            else:
                full = True
            if not full:
                number += 1
        if number != settling.meter:
            session.put(spaces.SETTLING, evolve(settling, meter=number))
        return number == counters.meters

    def _plain(self, number: int, last: int, prices: Prices, was_due: bool) -> tuple[int, bool]:
        """Settles the meters after `number` up to one whose bill is not plain: (the last one, whether it goes on).

        What the kernel does to a meter is what `_meter` does.
        """
        session = self.context.session

        def find(zone: int, tariff: int) -> tuple[bills.Prices, bytes]:
            return prices.of(zone, tariff), session.get(spaces.zone(zone)).utility

        return _KERNEL.settle(session, self.window, self.window * WINDOW_MS, number, last, self.spend, find,
                              lambda zone: self._zone(zone, prices), self._earned, self.context.roles.tax, was_due)

    def _meter(self, number: int, meter: Meter, prices: Prices) -> None:
        context, window = self.context, self.window
        session = context.session
        position: Position = session.get(spaces.position(window, number)) or _NOT_TRADED
        bought, sold = position.bought, position.sold
        traded = _NO_TRADES
        if bought or sold:
            traded = session.get(spaces.traded(window, number)) or _NO_TRADES
            session.put(spaces.traded(window, number), None)
        reading: Reading | None = session.get(spaces.reading(window, number))
        if reading is None:
            injected, quality = 0, int(Quality.ESTIMATED)
            withdrawn = bills.estimated_withdrawal(bought, sold, self._highest(number), meter.withdrawal_w)
        else:
            injected, withdrawn, quality = reading.injected_wh, reading.withdrawn_wh, reading.quality
        energy = bills.cover(injected, withdrawn, bought, sold)
        supplied, taken = energy.supplied, energy.taken
        lines = bills.supply_lines(energy, prices.of(meter.zone, meter.tariff))
        to_utility, to_tax = bills.dues_of(lines)
        zone: Zone = session.get(spaces.zone(meter.zone))
        if not funds.can_bear(session, zone.utility, abs(to_utility) + abs(to_tax), self._earned.get(zone.utility, 0)):
            lines, to_utility, to_tax = bills.supply_lines(energy, bills.FREE), 0, 0
        self._pay(meter.owner, zone.utility, to_utility, to_tax, traded)
        session.put(spaces.settlement(window, number), Settlement(
            meter.owner, meter.zone, injected, withdrawn, bought, sold, supplied, taken, quality, 0,
            (*bills.trade_lines(traded, bought, sold), *lines)))
        if injected:
            session.put(spaces.lot(window, number),
                        Lot(meter.zone, meter.source, injected, min(injected, sold)))
        add_energy(session, meter.owner, injected, sold, bought, withdrawn, supplied, taken)
        sums = self._zone(meter.zone, prices)
        sums[0] += injected
        sums[1] += withdrawn
        sums[2] += supplied
        sums[3] += taken
        sums[4] += bought
        sums[5] += sold
        sums[6] += traded.lost_wh
        sums[7] += 1
        sums[8] += reading is None

    def _highest(self, number: int) -> int | None:
        """The greatest measured withdrawal of this quarter-hour in the last 28 days."""
        found = None
        for day in range(1, ESTIMATE_DAYS + 1):
            before = self.window - day * QUARTERS_OF_A_DAY
            reading: Reading | None = self.context.session.get(spaces.reading(before, number)) if before >= 0 else None
            if reading is not None and reading.quality != Quality.ESTIMATED:
                found = max(found or 0, reading.withdrawn_wh)
        return found

    def _pay(self, owner: bytes, utility: bytes, to_utility: int, to_tax: int, traded: Traded) -> None:
        """Sales and collateral come free, then the bill is paid: by the account, or for it by the utility."""
        session = self.context.session
        self._earned[utility] = self._earned.get(utility, 0) + to_utility
        tax = self.context.roles.tax
        self._earned[tax] = self._earned.get(tax, 0) + to_tax
        a = funds.get_account(session, owner)
        collateral = a.collateral - traded.collateral_uthb
        locked = locked_money(collateral, a.credit)
        balance = a.balance + a.locked - locked + traded.sale_uthb
        account = Account(a.nonce, balance, a.bids, a.proceeds - traded.sale_uthb, collateral, a.credit, locked,
                          a.released, a.freed, a.height, a.participant, a.threshold, a.dues)
        bill_owner(session, owner, account, to_utility + to_tax, utility)

    def _weight_of_late(self, number: int, was_due: bool) -> int:
        late = was_due and self.context.session.get(spaces.late_reading(self.window, number)) is not None
        return weights.CORRECTION if late else 0

    def _late(self, number: int, meter: Meter) -> None:
        """A reading that came after the deadline, but before the sweep, is the correction that it would have been."""
        session = self.context.session
        key = spaces.late_reading(self.window, number)
        late: Reading | None = session.get(key)
        if late is not None:
            session.put(key, None)
            self.post()
            correct(self.context, self.window, number, meter, late)

    def _zone(self, zone: int, prices: Prices) -> list[int]:
        """[minted, consumed, supplied, taken, bought, sold, losses, meters, estimated] since the last `post`."""
        sums = self._zones.get(zone)
        if sums is None:
            sums = self._zones[zone] = [0] * 9
            key = spaces.balance(self.window, zone)
            if self.context.session.get(key) is None:
                short, long = prices.edges(zone)
                self.context.session.put(key, Balance(short_uthb_kwh=short, long_uthb_kwh=long))
        return sums

    # ------------------------------------------------------------ writing

    def _write_traded(self) -> None:
        for meter, sums in self._traded.items():
            self.context.session.put(spaces.traded(self.window, meter), Traded(*sums))
        self._traded = {}

    def post(self) -> None:
        """Writes what was summed up so far."""
        session = self.context.session
        self._write_traded()
        for receiver, amount in self._received.items():
            a = funds.get_account(session, receiver)
            a = Account(a.nonce, a.balance + amount, a.bids, a.proceeds - amount, a.collateral, a.credit, a.locked,
                        a.released, a.freed, a.height, a.participant, a.threshold, a.dues)
            funds.put_account(session, receiver, funds.pay_dues(session, receiver, a))
        for receiver, amount in self._earned.items():
            if amount:
                funds.credit(session, receiver, amount)
        for zone, (minted, consumed, supplied, taken, bought, sold, losses, meters, estimated) in self._zones.items():
            key = spaces.balance(self.window, zone)
            b: Balance = session.get(key)
            session.put(key, evolve(
                b, minted=b.minted + minted, consumed=b.consumed + consumed, supplied=b.supplied + supplied,
                taken=b.taken + taken, bought=b.bought + bought, sold=b.sold + sold, losses=b.losses + losses,
                meters=b.meters + meters, estimated=b.estimated + estimated))
        self._received, self._earned, self._zones = {}, {}, {}


def bill_owner(session: Session, owner: bytes, account: Account, amount: int, utility: bytes) -> None:
    """Puts the owner's `account` after a bill of `amount`; below zero the owner receives."""
    if amount > account.balance:
        account = funds.charge_bill(session, owner, account, amount, utility)
    elif amount:
        a = account
        account = Account(a.nonce, a.balance - amount, a.bids, a.proceeds, a.collateral, a.credit, a.locked, a.released,
                          a.freed, a.height, a.participant, a.threshold, a.dues)
    funds.put_account(session, owner, funds.pay_dues(session, owner, account))


def add_energy(session: Session, owner: bytes, minted: int, delivered: int, received: int, burned: int, supplied: int,
               taken: int) -> None:
    key = spaces.energy(owner)
    e: Energy = session.get(key) or _NO_ENERGY
    session.put(key, Energy(
        e.minted + minted, e.delivered + delivered, e.received + received, e.burned + burned, e.supplied + supplied,
        e.taken + taken))


# ------------------------------------------------------------------ closing


def _close(context: Context, window: int) -> bytes:
    """Balances of all zones, then the next window."""
    session = context.session
    for key, _ in session.scan(bytes((Space.ZONE,))):
        _measure_zone(context, window, key[1])
    settling: Settling = session.get(spaces.SETTLING)
    ends = (window + 1) * WINDOW_MS + context.parameters.bill_keep_days * DAY_MS
    closes = max(closes_ms(context.parameters, settling, window), context.now_ms)
    session.put(timed_key(closes, Work.CLEAR, window), spaces.PRESENT)
    session.put(timed_key(closes, Work.MONTH, window), spaces.PRESENT)
    session.put(timed_key(max(ends, closes), Work.FORGET, window), spaces.PRESENT)
    settling = evolve(settling, window=window + 1, meter=0)
    session.put(spaces.SETTLING, settling)
    return schedule(context, settling)


def _measure_zone(context: Context, window: int, zone: int) -> None:
    """The physical balance of a zone, of all its boundary meters."""
    session = context.session
    imports = exports = boundary = 0
    for key, _ in session.scan(spaces.boundary(zone)):
        number = int.from_bytes(key[2:], "big")
        meter: Meter = session.get(spaces.meter(number))
        if meter.since_ms <= window * WINDOW_MS:
            boundary += 1
            reading: Reading | None = session.get(spaces.reading(window, number))
            if reading is not None:
                imports += reading.injected_wh
                exports += reading.withdrawn_wh
    key = spaces.balance(window, zone)
    b: Balance | None = session.get(key)
    if b is None:
        if not boundary:
            return
        b = Balance()
    session.put(key, evolve(b, imports=imports, exports=exports, boundary=boundary))
    measure_again(context, window, zone)


def measure_again(context: Context, window: int, zone: int, imports: int = 0, exports: int = 0) -> None:
    """The physical balance once a meter was corrected, or boundary meters by so much; raises or clears the flag."""
    session, parameters = context.session, context.parameters
    key = spaces.balance(window, zone)
    b: Balance = session.get(key)
    imports, exports = b.imports + imports, b.exports + exports
    record: Zone = session.get(spaces.zone(zone))
    residual = bills.residual(b.minted, imports, b.consumed, exports, record.loss_ppm) if b.boundary else 0
    tolerance = bills.tolerance(b.consumed, parameters.tolerance_wh, parameters.tolerance_ppm)
    flagged = abs(residual) > tolerance
    session.put(key, evolve(b, imports=imports, exports=exports, residual=residual, tolerance=tolerance,
                            flagged=int(flagged)))
    flag: Flag | None = session.get(spaces.flag(window, zone))
    if flagged:
        if flag is None or flag.cleared or (flag.residual, flag.tolerance) != (residual, tolerance):
            session.put(spaces.flag(window, zone), Flag(residual, tolerance, context.height))
    elif flag is not None and not flag.cleared:
        session.put(spaces.flag(window, zone), evolve(flag, cleared=context.height))


# ------------------------------------------------------------------ corrections


def correct(context: Context, window: int, number: int, meter: Meter, reading: Reading) -> None:
    """Settles one meter again by `reading`, at the original prices; only the differences are posted (MARKET 7.6)."""
    session = context.session
    before: Settlement = session.get(spaces.settlement(window, number))
    balance: Balance = session.get(spaces.balance(window, meter.zone))
    prices = meter_prices(class_rates(session, window, meter.tariff), 0, balance.short_uthb_kwh, balance.long_uthb_kwh)
    energy = bills.cover(reading.injected_wh, reading.withdrawn_wh, before.bought, before.sold)
    lines = bills.supply_lines(energy, prices)
    kept = tuple(entry for entry in before.lines if entry[0] in bills.TRADE_RULES)
    utility_before, tax_before = bills.dues_of(before.lines)
    utility_now, tax_now = bills.dues_of(lines)
    to_utility, to_tax = utility_now - utility_before, tax_now - tax_before
    zone: Zone = session.get(spaces.zone(meter.zone))
    if not funds.can_bear(session, zone.utility, abs(to_utility) + abs(to_tax)):
        lines, to_utility, to_tax = [entry for entry in before.lines if entry[0] not in bills.TRADE_RULES], 0, 0
    tax = context.roles.tax
    funds.credit(session, zone.utility, to_utility)
    if to_tax >= 0:
        funds.credit(session, tax, to_tax)
    else:       # the state may have spent it: it owes the utility then, like anybody
        bill_owner(session, tax, funds.get_account(session, tax), -to_tax, zone.utility)
    bill_owner(session, before.owner, funds.get_account(session, before.owner), to_utility + to_tax, zone.utility)

    injected, withdrawn = reading.injected_wh, reading.withdrawn_wh
    session.put(spaces.settlement(window, number), evolve(
        before, injected=injected, withdrawn=withdrawn, supplied=energy.supplied, taken=energy.taken,
        quality=reading.quality, revision=before.revision + 1, lines=(*kept, *lines)))
    session.put(spaces.correction(window, number, reading.revision), Correction(
        context.height, before.injected, before.withdrawn, before.quality, injected, withdrawn, to_utility + to_tax))
    estimated = session.get(spaces.reading(window, number)) is None
    session.put(spaces.reading(window, number), reading)
    lot: Lot | None = session.get(spaces.lot(window, number))
    session.put(spaces.lot(window, number), Lot(
        meter.zone, meter.source, injected, min(injected, before.sold),
        0 if lot is None else lot.claimed_wh) if injected else None)
    changes = (injected - before.injected, withdrawn - before.withdrawn, energy.supplied - before.supplied,
               energy.taken - before.taken)
    minted, burned, supplied, taken = changes
    add_energy(session, before.owner, minted, 0, 0, burned, supplied, taken)
    session.put(spaces.balance(window, meter.zone), evolve(
        balance, minted=balance.minted + minted, consumed=balance.consumed + burned,
        supplied=balance.supplied + supplied, taken=balance.taken + taken, estimated=balance.estimated - estimated))
    settling: Settling = session.get(spaces.SETTLING)
    if settling.window > window:
        measure_again(context, window, meter.zone)
