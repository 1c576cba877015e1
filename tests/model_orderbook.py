"""The order book in plain Python, written for reading: MARKET 3 and 5 sentence by sentence, for trade inside one zone.

Nothing here is fast, shared with the engine, or clever. Records, trades, results and closed orders are plain tuples in
the field order of the engine's dtypes. Units: Wh, mTHB/kWh, uTHB.
"""

from __future__ import annotations

from attrs import define, frozen

LOT = 100
TICK = 10
HIGHEST_PRICE = 1_000_000
LARGEST_WH = 10_000_000
PPM = 1_000_000
BUY, SELL = 0, 1
PLACE, CANCEL = 0, 1
TILL_GATE, TILL_TIME, IOC = 0, 1, 2
NEWEST, OLDEST, BOTH = 0, 1, 2
MOST_FILLS, MOST_VISITS = 128, 1024


@frozen
class Operation:
    order_id: int
    quantity: int = LOT
    expires_ms: int = 0
    participant: int = 0
    meter: int = 0
    window: int = 0
    price: int = 0
    zone: int = 0
    kind: int = PLACE
    side: int = BUY
    force: int = TILL_GATE
    flags: int = NEWEST
    profile: int = 0
    reserved: int = 0
    minimum: int = 0
    display: int = 0


@define
class Order:
    order_id: int
    sequence: int
    left: int
    expires_ms: int
    participant: int
    meter: int
    window: int
    price: int
    zone: int
    side: int
    flags: int

    def record(self) -> tuple[int, ...]:
        return (self.order_id, self.sequence, self.left, self.expires_ms, self.participant, self.meter, self.window,
                self.price, self.zone, self.side, self.flags, 0, 0)

    def place_in_digest(self) -> tuple[int, ...]:
        return (self.window, self.zone, self.side, self.price, self.sequence)


@frozen
class Fill:
    delivered: int      # q, at the buyer's meter
    injected: int       # q_in, at the seller's meter
    wheel: int
    price: int
    admissible: bool


def floor_to_tick(numerator: int, denominator: int) -> int:
    return numerator // (denominator * TICK) * TICK


def ceiling(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


class Book:
    """All orders of all windows and zones; `zones` gives (L in ppm, W in uTHB/kWh)."""

    def __init__(self, zones: list[tuple[int, int]]) -> None:
        self.zones = zones
        self.orders: dict[int, Order] = {}

    def apply(self, index: int, op: Operation, now_ms: int, sequence: int):  # type: ignore[no-untyped-def]
        """Returns (trades, result, closed, next sequence)."""
        if op.kind == CANCEL:
            order = self.orders.get(op.order_id)
            if order is None or order.window != op.window:
                return [], (0, 0, 0, 0, 0, 16), [], sequence
            del self.orders[op.order_id]
            return [], (0, 0, order.left, 0, 0, 6), [], sequence
        if op.kind != PLACE or not self.well_formed(op):
            return [], (0, 0, 0, 0, 0, 19), [], sequence
        if op.force == TILL_TIME and op.expires_ms <= now_ms:
            return [], (0, 0, 0, 0, 0, 18), [], sequence
        if op.order_id in self.orders:
            return [], (0, 0, 0, 0, 0, 17), [], sequence
        return self.place(index, op, now_ms, sequence)

    def well_formed(self, op: Operation) -> bool:
        return (
            op.zone < len(self.zones) and op.side in (BUY, SELL) and op.force in (TILL_GATE, TILL_TIME, IOC)
            and op.flags in (NEWEST, OLDEST, BOTH) and op.profile == op.reserved == op.minimum == op.display == 0
            and 0 <= op.price <= HIGHEST_PRICE and op.price % TICK == 0
            and LOT <= op.quantity <= LARGEST_WH and op.quantity % LOT == 0
            and (op.expires_ms > 0 if op.force == TILL_TIME else op.expires_ms == 0)
        )

    def candidate(self, op: Operation) -> Order | None:
        """The best order of the other side in its zone by price, then sequence, if its limit crosses."""
        eligible = [order for order in self.orders.values()
                    if order.window == op.window and order.zone == op.zone and order.side != op.side]
        if not eligible:
            return None
        if op.side == BUY:
            best = min(eligible, key=lambda order: (order.price, order.sequence))
            return best if best.price <= op.price else None
        best = min(eligible, key=lambda order: (-order.price, order.sequence))
        return best if best.price >= op.price else None

    def fill(self, op: Operation, left: int, resting: Order) -> Fill:
        loss, wheeling = self.zones[op.zone]
        buyer, seller = (left, resting.left) if op.side == BUY else (resting.left, left)
        q = min(buyer, seller * (PPM - loss) // PPM)
        q_in = ceiling(q * PPM, PPM - loss)
        wheel = round_half_up(wheeling * q, 1000)
        assert 0 < q <= buyer and q <= q_in <= seller
        if op.side == BUY:
            p = resting.price
            return Fill(q, q_in, wheel, p, p * q_in + wheel <= op.price * q)
        p = floor_to_tick(resting.price * q - wheel, q_in)
        return Fill(q, q_in, wheel, p, p >= op.price)

    def place(self, index: int, op: Operation, now_ms: int, sequence: int):  # type: ignore[no-untyped-def]
        left, fills, visits = op.quantity, 0, 0
        trades, closed = [], []
        code = None

        def close(order: Order, reason: int) -> None:
            del self.orders[order.order_id]
            closed.append((order.order_id, order.left, index, order.window, order.participant, order.zone,
                           order.side, reason))

        while left >= LOT:
            # at most 128 fills and 1024 visits, then the rest is cancelled with its own code
            if fills == MOST_FILLS or visits == MOST_VISITS:
                code = 4
                break
            resting = self.candidate(op)
            if resting is None:
                break
            # an expired order met in a search is removed and counts neither as visit nor fill
            if resting.expires_ms != 0 and now_ms >= resting.expires_ms:
                close(resting, 0)
                continue
            visits += 1
            fill = self.fill(op, left, resting)
            # not admissible: the zone is closed for this incoming order
            if not fill.admissible:
                break
            if resting.participant == op.participant:
                # cancel newest ends the run there, cancel oldest removes it and goes on, cancel both does both
                if op.flags in (OLDEST, BOTH):
                    close(resting, 2)
                if op.flags in (NEWEST, BOTH):
                    code = 5
                    break
                continue
            fills += 1
            left -= fill.delivered if op.side == BUY else fill.injected
            resting.left -= fill.injected if op.side == BUY else fill.delivered
            trades.append((resting.order_id, op.order_id, fill.delivered, fill.injected, fill.wheel, resting.left,
                           left, index, op.window, fill.price, op.zone, op.zone, op.side, 0))
            # a side whose remainder at its own meter is below one lot is closed
            if resting.left == 0:
                del self.orders[resting.order_id]
            elif resting.left < LOT:
                close(resting, 1)

        given = 0
        if left == 0:
            code = 1
        elif left < LOT:
            code = 2
        elif code is None and op.force == IOC:
            code = 3
        elif code is None:
            code = 0
            given = sequence
            self.orders[op.order_id] = Order(op.order_id, sequence, left, op.expires_ms, op.participant, op.meter,
                                             op.window, op.price, op.zone, op.side, op.flags)
            sequence += 1
        return trades, (given, op.quantity - left, left, visits, fills, code), closed, sequence

    # ---- queries

    def records(self, window: int) -> list[tuple[int, ...]]:
        chosen = [order for order in self.orders.values() if order.window == window]
        return [order.record() for order in sorted(chosen, key=Order.place_in_digest)]

    def depth(self, window: int, zone: int, side: int, levels: int, now_ms: int) -> list[tuple[int, int, int]]:
        prices: dict[int, list[int]] = {}
        for order in self.orders.values():
            if ((order.window, order.zone, order.side) == (window, zone, side)
                    and (order.expires_ms == 0 or order.expires_ms > now_ms)):
                prices.setdefault(order.price, []).append(order.left)
        best_first = sorted(prices, reverse=side == BUY)[:levels]
        return [(price, len(prices[price]), sum(prices[price])) for price in best_first]
