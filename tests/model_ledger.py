"""The rules of docs/market.md in plain Python, for reading: one list of orders, matched at once, no engine.

Written apart from the ledger: it shares only names of codes. Money in uTHB, energy in Wh, prices in mTHB/kWh.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from attrs import define, field

from gridtokenx.ledger.receipts import Code

M = 1_000_000
LOT, TICK = 100, 10
BUY, SELL = 0, 1
GATE_MS = 900_000
WINDOW_MS = 900_000


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


@define
class Money:
    free: int = 0
    later: int = 0              # free from the next block on
    bids: int = 0
    proceeds: int = 0
    collateral: int = 0         # what its open sells and unsettled sales require
    collateral_later: int = 0   # of that, gone from the next block on
    credit: int = 0
    nonce: int = 0

    @property
    def locked(self) -> int:
        return max(0, self.collateral - self.credit)

    def new_block(self) -> None:
        before = self.locked
        self.collateral -= self.collateral_later
        self.free += self.later + before - self.locked
        self.later = self.collateral_later = 0


@define
class Place:
    """A meter's position in a window; `*_now` are this block's part, `closed_*` what was closed in it."""

    sold: int = 0
    bought: int = 0
    open_sell: int = 0
    open_buy: int = 0
    sold_now: int = 0
    bought_now: int = 0
    closed_sell: int = 0
    closed_buy: int = 0


@define
class Resting:
    number: int
    owner: int
    window: int
    side: int
    price: int
    left: int
    due: int
    sequence: int = 0


@define
class Model:
    """Households 0..n-1 own meters 1..n in one zone."""

    fee_ppm: int
    vat_ppm: int
    short_cap: int
    loss: int
    wheel: int
    low: int
    high: int
    injection_w: int
    withdrawal_w: int
    now: int
    money: dict[int, Money]
    network: int = 0            # receivables of network, operator and tax account
    operator: int = 0
    tax: int = 0
    fees: int = 0
    parent: int = 0
    numbers: int = 0
    sequence: int = 0
    orders: list[Resting] = field(factory=list)
    places: dict[tuple[int, int], Place] = field(factory=dict)
    trades: list[tuple[int, int, int, int, int, int, int]] = field(factory=list)

    # ------------------------------------------------------------ blocks

    def begin(self, now: int) -> None:
        self.parent, self.now = self.now, now
        for money in self.money.values():
            money.new_block()
        for place in self.places.values():
            place.sold_now = place.bought_now = place.closed_sell = place.closed_buy = 0
        for order in list(self.orders):
            if order.due <= now:
                self._close(order, at_once=order.due <= self.parent)

    def pay_fee(self, who: int, fee: int) -> None:
        self.money[who].free -= fee
        self.money[who].nonce += 1
        self.fees += fee

    # ------------------------------------------------------------ operations

    def place(self, who: int, window: int, side: int, price: int, quantity: int, ioc: bool,
              expires: int) -> tuple[Code, tuple[int, ...]]:
        gate = window * WINDOW_MS - GATE_MS
        if self.now >= gate:
            return Code.WINDOW_CLOSED, ()
        if price % TICK:
            return Code.OUT_OF_TICK, ()
        if quantity % LOT:
            return Code.OUT_OF_LOT, ()
        if not self.low <= price <= self.high:
            return Code.OUT_OF_BAND, ()
        if expires and not self.now < expires <= gate:
            return Code.BAD_TIME_IN_FORCE, ()
        at = self.places.setdefault((who, window), Place())
        if side == SELL:
            room = self.injection_w // 4 + at.bought - at.bought_now - at.sold - at.open_sell - at.closed_sell
        else:
            room = self.withdrawal_w // 4 + at.sold - at.sold_now - at.bought - at.open_buy - at.closed_buy
        if quantity > room:
            return Code.NO_CAPACITY, ()
        money = self.money[who]
        if side == BUY:
            escrow = self.escrow(price, quantity)
            if escrow > money.free:
                return Code.UNFUNDED, ()
            money.free -= escrow
            money.bids += escrow
            at.open_buy += quantity
        else:
            before = money.locked
            more = max(0, self.short_cap - price) * quantity
            need = max(0, money.collateral + more - money.credit) - before
            if need > money.free:
                return Code.UNFUNDED, ()
            money.collateral += more
            money.free -= need
            at.open_sell += quantity
        self.numbers += 1
        order = Resting(self.numbers, who, window, side, price, quantity, expires or gate)
        code = self._match(order)
        left = order.left
        if left < LOT or ioc or code is not Code.OK:
            self._close(order, at_once=False)
            return code, (order.number, quantity - left, 0, left)
        self.sequence += 1
        order.sequence = self.sequence
        self.orders.append(order)
        return code, (order.number, quantity - left, left, 0)

    def cancel(self, who: int, number: int) -> tuple[Code, tuple[int, ...]]:
        for order in self.orders:
            if order.number == number and order.owner == who:
                left = order.left
                self._close(order, at_once=False)
                return Code.OK, (number, left)
        return Code.UNKNOWN_ORDER, ()

    # ------------------------------------------------------------ matching

    def escrow(self, limit: int, quantity: int) -> int:
        return ceil(Fraction(limit * quantity * (M + self.fee_ppm) * (M + self.vat_ppm), M * M))

    def _best(self, order: Resting) -> Resting | None:
        others = [o for o in self.orders if o.window == order.window and o.side != order.side]
        if order.side == BUY:
            return min((o for o in others if o.price <= order.price), key=lambda o: (o.price, o.sequence), default=None)
        return min((o for o in others if o.price >= order.price), key=lambda o: (-o.price, o.sequence), default=None)

    def _match(self, order: Resting) -> Code:
        while order.left >= LOT:
            other = self._best(order)
            if other is None:
                return Code.OK
            buy, sell = (order, other) if order.side == BUY else (other, order)
            keep = M - self.loss
            q = min(buy.left, sell.left * keep // M)
            q_in = ceil(Fraction(q * M, keep))
            wheel = half_up(Fraction(self.wheel * q, 1000))
            if order.side == BUY:
                price = other.price
                if price * q_in + wheel > order.price * q:
                    return Code.OK
            else:
                price = floor(Fraction(other.price * q - wheel, q_in * TICK)) * TICK
                if price < order.price:
                    return Code.OK
            if other.owner == order.owner:
                return Code.SELF_TRADE
            self._fill(buy, sell, price, q, q_in, wheel)
            if other.left < LOT:
                self._close(other, at_once=False)
        return Code.OK

    def _fill(self, buy: Resting, sell: Resting, price: int, q: int, q_in: int, wheel: int) -> None:
        value = price * q_in + wheel
        before, after = self.escrow(buy.price, buy.left), self.escrow(buy.price, buy.left - q)
        room = before - after - value
        fee = min(room, half_up(Fraction(value * self.fee_ppm, M)))
        vat = min(room - fee, half_up(Fraction((value + fee) * self.vat_ppm, M)))
        buyer, seller = self.money[buy.owner], self.money[sell.owner]
        buyer.bids -= before - after
        buyer.later += room - fee - vat
        seller.proceeds += price * q_in
        self.network += wheel
        self.operator += fee
        self.tax += vat
        buy.left -= q
        sell.left -= q_in
        bought, sold = self.places[buy.owner, buy.window], self.places[sell.owner, sell.window]
        bought.open_buy -= q
        bought.bought += q
        bought.bought_now += q
        sold.open_sell -= q_in
        sold.sold += q_in
        sold.sold_now += q_in
        self.trades.append((buy.window, buy.number, sell.number, price, q, q_in, wheel + fee + vat))

    def _close(self, order: Resting, *, at_once: bool) -> None:
        """The order leaves; what it held is free at once, or from the next block on."""
        if order in self.orders:
            self.orders.remove(order)
        money, at = self.money[order.owner], self.places[order.owner, order.window]
        if order.side == BUY:
            held = self.escrow(order.price, order.left)
            money.bids -= held
            at.open_buy -= order.left
            if at_once:
                money.free += held
            else:
                money.later += held
                at.closed_buy += order.left
        else:
            part = max(0, self.short_cap - order.price) * order.left
            at.open_sell -= order.left
            if at_once:
                before = money.locked
                money.collateral -= part
                money.free += before - money.locked
            else:
                money.collateral_later += part
                at.closed_sell += order.left
        order.left = 0
