"""Settlement as MARKET 7 says it, in plain Python for reading: per meter and window, then money, then the balances.

Written apart from the ledger: it shares nothing with it, not even a name of a code. Fractions instead of integer
tricks, dictionaries instead of records, one window at a time. Energy in Wh, money in uTHB, rates in uTHB/kWh,
prices of trades in mTHB/kWh. Bill lines: positive is paid by the meter's owner, negative is received by it.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import floor

from attrs import define, field, frozen

M = 1_000_000
QUARTERS_OF_A_DAY = 96
DAYS_LOOKED_BACK = 28

PURCHASE, WHEELING, TRADE_FEE, TRADE_VAT, SALE = 1, 2, 3, 4, 5
ENERGY, FT, SUPPLY_VAT, BUY_BACK, SHORTFALL, SURPLUS, SHORTFALL_VAT = 6, 7, 8, 9, 10, 11, 12
MEASURED, ESTIMATED, CORRECTED = 0, 1, 2


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def amount(wh: int, rate: int) -> int:
    """MARKET 7.5: one rounding per line."""
    return half_up(Fraction(wh * rate, 1000))


def wheeling(q: int, path: list[tuple[bytes, int]]) -> tuple[tuple[bytes, int], ...]:
    """MARKET 5: what each network of the path, given with its rate, gets of a trade that delivers q."""
    parts, before = [], 0
    for k in range(1, len(path) + 1):
        due = amount(q, sum(rate for _, rate in path[:k]))
        parts.append((path[k - 1][0], due - before))
        before = due
    return tuple(parts)


@frozen
class Rates:
    """A window's tariffs: energy rates by class, Ft, buy-back, VAT, and the penalty on what is short."""

    energy: tuple[int, ...]
    ft: int
    buy_back: int
    vat_ppm: int
    penalty_ppm: int

    @property
    def short(self) -> int:
        """(c): the dearest retail of any class, with the penalty on top, never below what a surplus is paid."""
        dearest = max(rate + self.ft for rate in self.energy)
        return max(half_up(Fraction(dearest * (M + self.penalty_ppm), M)), self.buy_back)

    def long(self, prices: list[int]) -> int:
        """(d): at most the buy-back rate, and at most the lowest price (mTHB/kWh) of the zone's trades."""
        return min([self.buy_back, *(price * 1000 for price in prices)])


@frozen
class Meter:
    owner: bytes
    zone: int
    tariff: int
    withdrawal_wh: int              # in a window, at most


@frozen
class Trade:
    """q arrives at the buyer, q_in leaves the seller; `wheeling` says who gets how much of it."""

    buyer: int
    seller: int
    price: int
    q: int
    q_in: int
    wheeling: tuple[tuple[bytes, int], ...]
    fee: int
    vat: int

    @property
    def value(self) -> int:
        return self.price * self.q_in


@frozen
class Zone:
    utility: bytes
    loss_ppm: int


@frozen
class Line:
    rule: int
    wh: int
    rate: int
    amount: int


@frozen
class Bill:
    """What one meter did in one window, and every line of it; lines that sum up trades have no rate."""

    injected: int
    withdrawn: int
    quality: int
    bought: int
    sold: int
    lacking: int                    # (a): withdrawn, not covered by purchases
    over: int                       # (b): injected, not sold
    short: int                      # (c): sold, neither injected nor bought
    surplus: int                    # (d): bought, neither withdrawn nor resold
    lines: tuple[Line, ...]

    def line(self, rule: int) -> int:
        return sum(line.amount for line in self.lines if line.rule == rule)


@frozen
class Balance:
    """A zone's physical balance (MARKET 7.7)."""

    injected: int
    withdrawn: int
    imports: int
    exports: int
    residual: int
    tolerance: int

    @property
    def flagged(self) -> bool:
        return abs(self.residual) > self.tolerance


@define
class Window:
    """One window's settlement: bills by meter, GT, and what every account gained or lost by it."""

    bills: dict[int, Bill] = field(factory=dict)
    moved: Counter[bytes] = field(factory=Counter)

    def total(self, name: str) -> int:
        return sum(getattr(bill, name) for bill in self.bills.values())

    @property
    def minted(self) -> int:
        return self.total("injected")

    @property
    def consumed(self) -> int:
        return self.total("withdrawn")

    @property
    def supplied(self) -> int:
        return self.total("lacking") + self.total("short")

    @property
    def taken(self) -> int:
        return self.total("over") + self.total("surplus")


@define
class Model:
    """All meters of a chain, and every window settled so far."""

    meters: dict[int, Meter]
    zones: list[Zone]
    operator: bytes
    tax: bytes
    windows: dict[int, Window] = field(factory=dict)
    trades: dict[int, list[Trade]] = field(factory=dict)
    rates: dict[int, Rates] = field(factory=dict)
    measured: dict[tuple[int, int], int] = field(factory=dict)     # (window, meter) -> measured withdrawal

    # ------------------------------------------------------------ a window

    def settle(self, number: int, rates: Rates, trades: list[Trade], readings: dict[int, tuple[int, int]]) -> Window:
        """Settles a window. `readings`: (injected, withdrawn) of the meters that reported in time."""
        self.rates[number], self.trades[number] = rates, trades
        window = self.windows[number] = Window()
        for trade in trades:
            self._pay_out(window, trade)
        for meter in self.meters:
            if meter in readings:
                injected, withdrawn = readings[meter]
                self.measured[number, meter] = withdrawn
                bill = self.bill(number, meter, injected, withdrawn, MEASURED)
            else:
                bill = self.bill(number, meter, 0, self.estimate(number, meter), ESTIMATED)
            window.bills[meter] = bill
            self._post(window, self.meters[meter], bill, +1)
        losses = sum(trade.q_in - trade.q for trade in trades)
        assert window.minted + window.supplied == window.consumed + losses + window.taken
        assert not sum(window.moved.values()), "THB comes from somewhere and goes somewhere"
        return window

    def correct(self, number: int, meter: int, injected: int, withdrawn: int) -> Counter[bytes]:
        """A correction: the meter's lines anew, at the original prices; returns the differences that are posted."""
        window = self.windows[number]
        before = Counter(window.moved)
        self._post(window, self.meters[meter], window.bills[meter], -1)
        self.measured[number, meter] = withdrawn
        bill = window.bills[meter] = self.bill(number, meter, injected, withdrawn, CORRECTED)
        self._post(window, self.meters[meter], bill, +1)
        return Counter({account: moved - before[account] for account, moved in window.moved.items()
                        if moved != before[account]})

    # ------------------------------------------------------------ one meter

    def estimate(self, number: int, meter: int) -> int:
        """MARKET 7.6: the withdrawal of a meter that did not report; its injection is 0."""
        bought = sum(trade.q for trade in self.trades[number] if trade.buyer == meter)
        sold = sum(trade.q_in for trade in self.trades[number] if trade.seller == meter)
        seen = [self.measured[earlier, meter] for day in range(1, DAYS_LOOKED_BACK + 1)
                if (earlier := number - day * QUARTERS_OF_A_DAY, meter) in self.measured]
        usual = max(seen) if seen else self.meters[meter].withdrawal_wh
        return max(bought - min(bought, sold), usual)

    def bill(self, number: int, meter: int, injected: int, withdrawn: int, quality: int) -> Bill:
        """MARKET 7.2 and 7.5, with its letters."""
        rates, about = self.rates[number], self.meters[meter]
        buys = [trade for trade in self.trades[number] if trade.buyer == meter]
        sales = [trade for trade in self.trades[number] if trade.seller == meter]
        bought, sold = sum(trade.q for trade in buys), sum(trade.q_in for trade in sales)

        uncovered = max(0, sold - injected)                 # r: sales use injection first, then purchases
        c = max(0, uncovered - bought)
        left = max(0, bought - uncovered)                   # b'
        a = max(0, withdrawn - left)
        d = max(0, left - withdrawn)
        b = max(0, injected - sold)
        assert injected + bought + a + c == withdrawn + sold + b + d, "the meter ends at zero"

        energy, ft = rates.energy[about.tariff], rates.ft
        short, long = rates.short, rates.long(self.prices(number, about.zone))
        supply, ft_part, lacking = amount(a, energy), amount(a, ft), amount(c, short)
        purchase, sale = sum(trade.value for trade in buys), sum(trade.value for trade in sales)
        wheel = sum(part for trade in buys for _, part in trade.wheeling)
        fee, vat = sum(trade.fee for trade in buys), sum(trade.vat for trade in buys)
        lines = [
            Line(PURCHASE, bought, 0, purchase),
            Line(WHEELING, bought, 0, wheel),
            Line(TRADE_FEE, bought, 0, fee),
            Line(TRADE_VAT, bought, 0, vat),
            Line(SALE, sold, 0, -sale),
            Line(ENERGY, a, energy, supply),
            Line(FT, a, ft, ft_part),
            Line(SUPPLY_VAT, a, rates.vat_ppm, half_up(Fraction((supply + ft_part) * rates.vat_ppm, M))),
            Line(BUY_BACK, b, rates.buy_back, -amount(b, rates.buy_back)),
            Line(SHORTFALL, c, short, lacking),
            Line(SHORTFALL_VAT, c, rates.vat_ppm, half_up(Fraction(lacking * rates.vat_ppm, M))),
            Line(SURPLUS, d, long, -amount(d, long)),
        ]
        return Bill(injected, withdrawn, quality, bought, sold, a, b, c, d,
                    tuple(line for line in lines if line.wh))

    def prices(self, number: int, zone: int) -> list[int]:
        """Of the window's trades whose buyers are in the zone."""
        return [trade.price for trade in self.trades[number] if self.meters[trade.buyer].zone == zone]

    # ------------------------------------------------------------ money

    def _pay_out(self, window: Window, trade: Trade) -> None:
        """What the buyer's escrow holds goes to whom it belongs: counterparties and networks are always paid."""
        buyer, seller = self.meters[trade.buyer].owner, self.meters[trade.seller].owner
        for account, part in [(seller, trade.value), *trade.wheeling, (self.operator, trade.fee),
                              (self.tax, trade.vat)]:
            window.moved[account] += part
            window.moved[buyer] -= part

    def _post(self, window: Window, meter: Meter, bill: Bill, sign: int) -> None:
        """The utility's lines of a bill: the same integer debited and credited. What the owner cannot pay, it owes."""
        utility = self.zones[meter.zone].utility
        for rule, other in ((ENERGY, utility), (FT, utility), (SUPPLY_VAT, self.tax), (BUY_BACK, utility),
                            (SHORTFALL, utility), (SHORTFALL_VAT, self.tax), (SURPLUS, utility)):
            window.moved[meter.owner] -= sign * bill.line(rule)
            window.moved[other] += sign * bill.line(rule)

    # ------------------------------------------------------------ the wires

    def balance(self, number: int, zone: int, imports: int, exports: int) -> Balance:
        """MARKET 7.7: of metered energy alone; tokens and trades do not matter."""
        bills = [bill for meter, bill in self.windows[number].bills.items() if self.meters[meter].zone == zone]
        injected, withdrawn = sum(bill.injected for bill in bills), sum(bill.withdrawn for bill in bills)
        fed = injected + imports
        residual = fed - withdrawn - exports - half_up(Fraction(self.zones[zone].loss_ppm * fed, M))
        tolerance = max(1000, half_up(Fraction(2 * withdrawn, 100)))
        return Balance(injected, withdrawn, imports, exports, residual, tolerance)


def purse(worth: int) -> tuple[int, int]:
    """MARKET 7.4: (money, dues) of an account that is worth so much and has nothing held back. Never both: what a
    balance cannot cover is a due, and incoming money pays dues first."""
    return max(0, worth), max(0, -worth)
