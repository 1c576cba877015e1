"""The order book in plain Python, written for reading: MARKET 3, 4 and 5 sentence by sentence.

Nothing here is fast, shared with the engine, or clever: all orders lie in one dict, a dry run is a run on a deep copy,
and prices are compared as fractions. Records, trades, results and closed orders are plain tuples in the field order of
the engine's dtypes. Units: Wh, mTHB/kWh, uTHB.
"""

from __future__ import annotations

import copy
from fractions import Fraction

from attrs import define, evolve, field, frozen

LOT = 100
TICK = 10
HIGHEST_PRICE = 1_000_000
LARGEST_WH = 10_000_000
WIDEST_WH = 10**12
PPM = 1_000_000
BUY, SELL = 0, 1
PLACE, CANCEL, AMEND, BILATERAL, CAPACITY, HALT, RESUME, UNCROSS = range(8)
TILL_GATE, TILL_TIME, IOC, FOK = range(4)
NEWEST, OLDEST, BOTH = 0, 1, 2
POST_ONLY = 4
MOST_FILLS, MOST_VISITS = 128, 1024
HALTED, UNFINISHED = 1, 2
# results
(RESTING, FILLED, CLOSED_BELOW_LOT, CANCELLED_IOC, CANCELLED_LIMIT, CANCELLED_SELF_TRADE, CANCELLED, REDUCED, DONE,
 WORK_UNFINISHED, KILLED) = range(11)
(UNKNOWN, DUPLICATE, EXPIRED, INVALID, WOULD_TRADE, IS_HALTED, WORK_LEFT, NO_PATH, NO_CAPACITY,
 GROUP_REFUSED) = range(16, 26)
# why a resting order was closed, or changed, in passing
WAS_EXPIRED, BELOW_LOT, SELF_TRADE, SLICE = range(4)


@frozen
class Operation:
    order_id: int = 0
    quantity: int = LOT
    expires_ms: int = 0
    participant: int = 0
    meter: int = 0
    window: int = 0
    price: int = 0
    minimum: int = 0
    display: int = 0
    zone: int = 0
    kind: int = PLACE
    side: int = BUY
    force: int = TILL_GATE
    flags: int = NEWEST
    profile: int = 0
    source: int = 0
    to_zone: int = 0
    path: int = 0
    corridor: int = 0
    group: int = 0
    reserved: int = 0


@define
class Order:
    order_id: int
    sequence: int
    left: int           # hidden part included
    shown: int
    total: int          # filled part included
    expires_ms: int
    participant: int
    meter: int
    window: int
    price: int
    zone: int
    side: int
    mode: int
    profile: int
    source: int
    display: int

    def record(self) -> tuple[int, ...]:
        return (self.order_id, self.sequence, self.left, self.expires_ms, self.participant, self.meter, self.window,
                self.price, self.total, self.display, self.shown if self.display else 0, self.zone, self.side,
                self.mode, self.profile, self.source, 0, 0, 0)

    def place_in_digest(self) -> tuple[int, ...]:
        return (self.window, self.zone, self.side, self.price, self.sequence)


@frozen
class Path:
    number: int
    loss: int
    wheeling: int
    corridors: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]      # (corridor, direction)


@frozen
class Point:
    """Where an interrupted uncrossing goes on: with the first buy at or after (limit descending, sequence)."""

    price: int
    sequence: int
    closed: frozenset[tuple[int, int]]      # (other zone, path): what the run of exactly this buy has found closed
    again: bool                             # another pass must follow


@define
class Window:
    capacity: dict[tuple[int, int], int]
    residual: dict[tuple[int, int], int]
    halted: bool = False
    point: Point | None = None              # work is left


@define
class Run:
    """An order on its way through the book; of uncrossing, a resting buy."""

    order: Order
    resting: bool = False
    left: int = 0
    fills: int = 0
    visits: int = 0
    code: int = RESTING
    closed: set[tuple[int, int]] = field(factory=set)       # (other zone, path)


def ceiling(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def find_paths(zones, corridors, start, end):  # type: ignore[no-untyped-def]
    """The at most 8 simple paths of at most 6 corridors, first by (number of corridors, corridor ids)."""
    chains = [((), start, (start,))]
    complete = []
    while chains:
        edges, at, seen = chains.pop()
        if at == end:
            complete.append(edges)
        elif len(edges) < 6:
            for number, (a, b, _, _) in enumerate(corridors):
                for here, there, direction in ((a, b, 0), (b, a, 1)):
                    if here == at and there not in seen:
                        chains.append(((*edges, (number, direction)), there, (*seen, there)))
    complete.sort(key=lambda edges: (len(edges), [number for number, _ in edges]))
    paths = []
    for edges in complete[:8]:
        # L and W are origin zone + destination zone (once if equal) + each corridor
        elements = [zones[start]] + ([zones[end]] if end != start else []) + [corridors[n][2:] for n, _ in edges]
        loss, wheeling = (sum(column) for column in zip(*elements, strict=True))
        if loss <= 500_000:
            paths.append(Path(len(paths), loss, wheeling, tuple(n for n, _ in edges), edges))
    return paths


class Book:
    """All orders of all windows and zones; zones (L ppm, W uTHB/kWh), corridors (zone, zone, L, W), profiles (mask of
    sources, mask of seller zones)."""

    def __init__(self, zones, corridors=(), profiles=()) -> None:  # type: ignore[no-untyped-def]
        self.zones, self.corridors = list(zones), list(corridors)
        self.profiles = list(profiles) or [(0xFF, 0xFFFF)]
        self.paths = {(a, b): find_paths(zones, corridors, a, b) for a in range(len(zones)) for b in range(len(zones))}
        self.orders: dict[int, Order] = {}
        self.windows: dict[int, Window] = {}
        self.trades: list[tuple[int, ...]] = []
        self.closed: list[tuple[int, ...]] = []
        self.sequence = 1
        self.now = 0
        self.raised = False
        self.index = 0
        self.uncross_fills = self.uncross_visits = 0
        self.made = 0           # trades of all batches

    def open(self, window: int) -> None:
        edges = [(n, d) for n in range(len(self.corridors)) for d in (0, 1)]
        self.windows[window] = Window(dict.fromkeys(edges, 0), dict.fromkeys(edges, 0))

    # ---- a batch

    def process(self, ops, now, fills=1024, visits=8192):  # type: ignore[no-untyped-def]
        """Returns (trades, results, closed)."""
        self.trades, self.closed, results = [], [], []
        self.now, self.uncross_fills, self.uncross_visits = now, fills, visits
        i = 0
        while i < len(ops):
            if ops[i].group:
                end = i
                while end < len(ops) and ops[end].group == ops[i].group:
                    end += 1
                results += self.group(i, ops[i:end])
                i = end
                continue
            self.index, self.raised = i, False
            result = self.apply(ops[i])
            window = self.windows[ops[i].window]
            if self.raised and window.point and ops[i].kind != UNCROSS:
                window.point = evolve(window.point, again=True)
            elif self.raised and not window.halted:
                result = self.uncross(ops[i].window, result)
            results.append(result)
            i += 1
        self.made += len(self.trades)
        return self.trades, results, self.closed

    def copy(self):  # type: ignore[no-untyped-def]
        fixed = {id(part): part for part in (self.zones, self.corridors, self.profiles, self.paths)}
        return copy.deepcopy(self, fixed)

    def become(self, other) -> None:  # type: ignore[no-untyped-def]
        self.__dict__.update(other.__dict__)

    def group(self, first, ops):  # type: ignore[no-untyped-def]
        """Cancels followed by post-only orders, tested on a copy first."""
        trial, results, placing = self.copy(), [], False
        for place, op in enumerate(ops):
            trial.index = first + place
            if op.kind == PLACE and op.flags & POST_ONLY:
                placing = True
            elif op.kind != CANCEL or placing:
                result = (0, 0, 0, 0, 0, INVALID)
                break
            result = trial.apply(op)
            if op.kind == CANCEL and result[5] == CANCELLED and op.minimum not in (0, result[2]):
                result = (*result[:5], INVALID)         # other than the ledger counted on
            if result[5] not in (CANCELLED, RESTING):
                break
            results.append(result)
        else:
            self.become(trial)
            return results
        # what was looked at counts
        refused = [(0, 0, 0, visits, 0, GROUP_REFUSED) for _, _, _, visits, _, _ in results]
        return [*refused, result, *[(0, 0, 0, 0, 0, GROUP_REFUSED)] * (len(ops) - place - 1)]

    def apply(self, op):  # type: ignore[no-untyped-def]
        window = self.windows[op.window]
        order = self.orders.get(op.order_id)
        if order is not None and order.window != op.window:
            elsewhere, order = order, None
        else:
            elsewhere = order
        busy = IS_HALTED if window.halted else WORK_LEFT if window.point else 0

        def refuse(code: int) -> tuple[int, ...]:
            return (0, 0, 0, 0, 0, code)

        if op.kind == CANCEL:
            if order is None:
                return refuse(UNKNOWN)
            del self.orders[op.order_id]
            return (0, 0, order.left, 0, 0, CANCELLED)
        if op.kind == PLACE:
            if not self.well_formed(op):
                return refuse(INVALID)
            if op.force == TILL_TIME and op.expires_ms <= self.now:
                return refuse(EXPIRED)
            if elsewhere is not None:
                return refuse(DUPLICATE)
            if busy:
                return refuse(busy)
            new = Order(op.order_id, 0, op.quantity, 0, op.quantity, op.expires_ms, op.participant, op.meter, op.window,
                        op.price, op.zone, op.side, op.flags & 3, op.profile, op.source, op.display)
            return self.place(new, op.force, op.minimum, bool(op.flags & POST_ONLY))
        if op.kind == AMEND:
            if not self.price_good(op.price) or not 0 <= op.quantity <= LARGEST_WH or op.quantity % LOT:
                return refuse(INVALID)
            return refuse(busy) if busy else self.amend(op, order)
        if op.kind == BILATERAL:
            return refuse(busy) if busy else self.bilateral(op, window)
        if op.kind == CAPACITY:
            if op.corridor >= len(self.corridors) or op.side > 1 or not 0 <= op.quantity <= WIDEST_WH:
                return refuse(INVALID)
            edge = (op.corridor, op.side)
            self.raised = op.quantity > window.capacity[edge]
            window.residual[edge] += op.quantity - window.capacity[edge]
            window.capacity[edge] = op.quantity
            return (0, 0, window.residual[edge], 0, 0, DONE)
        if op.kind == HALT:
            window.halted = True
        elif op.kind == RESUME:
            self.raised, window.halted = window.halted and not window.point, False
        elif op.kind == UNCROSS:
            if window.halted:
                return refuse(IS_HALTED)
            self.raised = True
        else:
            return refuse(INVALID)
        return refuse(DONE)

    def price_good(self, price: int) -> bool:
        return 0 <= price <= HIGHEST_PRICE and price % TICK == 0

    def well_formed(self, op: Operation) -> bool:
        return bool(
            op.zone < len(self.zones) and op.side in (BUY, SELL) and op.force <= FOK and op.flags in (0, 1, 2, 4, 5, 6)
            and self.price_good(op.price) and LOT <= op.quantity <= LARGEST_WH and op.quantity % LOT == 0
            and (op.profile < len(self.profiles) and op.source == 0 if op.side == BUY
                 else op.source < 8 and op.profile == 0)
            and op.to_zone == op.path == op.corridor == op.reserved == 0
            and not (op.flags & POST_ONLY and (op.force >= IOC or op.minimum))
            and not (op.minimum and (op.minimum > op.quantity or op.force == FOK))
            # an iceberg shows at least 1/20 of the quantity
            and not (op.display and (op.display % LOT or op.display > op.quantity or op.force >= IOC
                                     or op.display * 20 < op.quantity))
            and (op.expires_ms > 0 if op.force == TILL_TIME else op.expires_ms == 0))

    # ---- orders

    def place(self, order, force, minimum, post_only):  # type: ignore[no-untyped-def]
        quantity = order.left
        if force == FOK or minimum or post_only:
            # Conditions are defined by a greedy dry run on a copy.
            dry = self.copy()
            trial = Run(evolve(order), left=quantity)
            dry.match(trial)
            if post_only and trial.fills:
                return (0, 0, quantity, trial.visits, 0, WOULD_TRADE)
            if force == FOK and trial.left >= LOT:
                return (0, 0, quantity, trial.visits, 0, KILLED)
            if quantity - trial.left < minimum:
                # a failing IOC is cancelled, others rest untouched
                if force == IOC:
                    return (0, 0, quantity, trial.visits, 0, KILLED)
                return (self.rest(order), 0, quantity, trial.visits, 0, RESTING)
        run = Run(order, left=quantity)
        self.match(run)
        order.left = run.left
        if run.left == 0:
            run.code = FILLED
        elif run.left < LOT:
            run.code = CLOSED_BELOW_LOT
        elif run.code == RESTING and force == IOC:
            run.code = CANCELLED_IOC
        given = self.rest(order) if run.code == RESTING else 0
        return (given, quantity - run.left, run.left, run.visits, run.fills, run.code)

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence - 1

    def rest(self, order: Order) -> int:
        order.sequence = self.next_sequence()
        order.shown = min(order.left, order.display) if order.display else order.left
        self.orders[order.order_id] = order
        return order.sequence

    def amend(self, op, order):  # type: ignore[no-untyped-def]
        if order is None:
            return (0, 0, 0, 0, 0, UNKNOWN)
        if 0 < order.expires_ms <= self.now:
            return (0, 0, 0, 0, 0, EXPIRED)
        if order.display and op.quantity > 20 * order.display:
            return (0, 0, 0, 0, 0, INVALID)
        left = op.quantity - (order.total - order.left)
        # at or below the filled part it cancels
        if left < LOT:
            del self.orders[order.order_id]
            return (0, 0, order.left, 0, 0, CANCELLED)
        # less quantity at the same price keeps the sequence
        if op.price == order.price and op.quantity < order.total:
            order.total, order.left, order.shown = op.quantity, left, min(order.shown, left)
            return (order.sequence, 0, left, 0, 0, REDUCED)
        # anything else takes a new one and is matched like a new order; a refused amend changes nothing
        trial = self.copy()
        changed = evolve(trial.orders.pop(order.order_id), price=op.price, total=op.quantity, left=left)
        result = trial.place(changed, TILL_GATE, 0, bool(op.flags & POST_ONLY))
        if result[5] == WOULD_TRADE:
            return (0, 0, order.left, result[3], 0, WOULD_TRADE)
        self.become(trial)
        return result

    def bilateral(self, op, window):  # type: ignore[no-untyped-def]
        if (op.zone >= len(self.zones) or op.to_zone >= len(self.zones) or not self.price_good(op.price)
                or not LOT <= op.quantity <= LARGEST_WH or op.quantity % LOT):
            return (0, 0, 0, 0, 0, INVALID)
        paths = self.paths[op.zone, op.to_zone]
        if op.path >= len(paths):
            return (0, 0, 0, 0, 0, NO_PATH)
        path = paths[op.path]
        q = op.quantity
        q_in = ceiling(q * PPM, PPM - path.loss)
        if self.offer(window, path) < q_in:
            return (0, 0, 0, 0, 0, NO_CAPACITY)
        self.take(window, path, q_in, q)
        wheel = round_half_up(path.wheeling * q, 1000)
        self.trades.append((0, op.order_id, q, q_in, wheel, 0, 0, self.index, op.window, op.price,
                            op.zone, op.to_zone, BUY, path.number))
        return (0, q, 0, 0, 1, FILLED)

    # ---- capacity

    def offer(self, window: Window, path: Path) -> int:
        """A path offers the least residual on it, and nothing below one lot."""
        least = min((window.residual[edge] for edge in path.edges), default=WIDEST_WH)
        return least if least >= LOT else 0

    def take(self, window: Window, path: Path, q_in: int, q: int) -> None:
        """A fill takes q_in forward and gives back q in the other direction."""
        for corridor, direction in path.edges:
            window.residual[corridor, direction] -= q_in
            window.residual[corridor, 1 - direction] += q
            self.raised = True

    # ---- matching

    def candidates(self, run):  # type: ignore[no-untyped-def]
        """(rank, resting order, path) for every order and path that might be admissible."""
        order = run.order
        window = self.windows[order.window]
        for other in self.orders.values():
            if other.window != order.window or other.side == order.side:
                continue
            buy, sell = (order, other) if order.side == BUY else (other, order)
            sources, zones = self.profiles[buy.profile]
            if not sources >> sell.source & 1 or not zones >> sell.zone & 1:
                continue
            for path in self.paths[sell.zone, buy.zone]:
                if (other.zone, path.number) in run.closed or not self.offer(window, path):
                    continue
                keep = Fraction(PPM - path.loss, PPM)
                wheeling = Fraction(path.wheeling, 1000)
                if order.side == BUY:
                    landed = other.price / keep + wheeling
                    if landed >= order.price + 1:
                        continue
                    rank = landed
                else:
                    netback = (other.price - wheeling) * keep
                    if netback <= order.price - 1 or other.price - wheeling <= order.price - 1:
                        continue
                    rank = -netback
                yield (rank, other.sequence, len(path.corridors), path.corridors), other, path

    def match(self, run) -> None:  # type: ignore[no-untyped-def]
        order = run.order
        window = self.windows[order.window]
        most_fills = self.uncross_fills if run.resting else MOST_FILLS
        most_visits = self.uncross_visits if run.resting else MOST_VISITS
        while run.left >= LOT:
            spent = run.fills >= most_fills or run.visits >= most_visits
            # at most 128 fills and 1024 visits, then the rest is cancelled with its own code
            if spent and not run.resting:
                run.code = CANCELLED_LIMIT
                return
            # ranking, redone after every fill
            best = min(self.candidates(run), key=lambda found: found[0], default=None)
            if best is None:
                return
            _, other, path = best
            # an expired order met in a search is removed and counts neither as visit nor fill
            if 0 < other.expires_ms <= self.now:
                self.close(other, WAS_EXPIRED)
                continue
            if spent:
                run.code = CANCELLED_LIMIT
                return
            run.visits += 1
            buy, sell = (order, other) if order.side == BUY else (other, order)
            buyer, seller = (run.left, other.shown) if order.side == BUY else (other.shown, run.left)
            q = min(buyer, seller * (PPM - path.loss) // PPM, self.offer(window, path) * (PPM - path.loss) // PPM)
            q_in = ceiling(q * PPM, PPM - path.loss)
            wheel = round_half_up(path.wheeling * q, 1000)
            assert 0 < q <= buyer and q <= q_in <= min(seller, self.offer(window, path))
            # in uncrossing, of each pair the smaller sequence counts as resting for the price
            order_rests = run.resting and order.sequence < other.sequence
            if (sell if order_rests is (order is sell) else buy) is sell:
                p = sell.price
                admissible = p * q_in + wheel <= buy.price * q
            else:
                p = (buy.price * q - wheel) // (q_in * TICK) * TICK
                admissible = p >= sell.price
            # not admissible: that (zone, path) is closed for this incoming order
            if not admissible:
                run.closed.add((other.zone, path.number))
                continue
            newest, oldest = (other, order) if order_rests else (order, other)
            if newest.participant == oldest.participant:
                # cancel newest ends the run there, cancel oldest removes it and goes on, cancel both does both
                ends = newest.mode in (NEWEST, BOTH) if newest is order else newest.mode in (OLDEST, BOTH)
                removes = newest.mode in (NEWEST, BOTH) if newest is other else newest.mode in (OLDEST, BOTH)
                if removes:
                    self.close(other, SELF_TRADE)
                if ends:
                    run.code = CANCELLED_SELF_TRADE
                    return
                continue
            run.fills += 1
            run.left -= q if order.side == BUY else q_in
            moved = q_in if order.side == BUY else q
            other.shown -= moved
            other.left -= moved
            self.take(window, path, q_in, q)
            hidden = order.left - order.shown if run.resting else 0
            ids = [(other.order_id, other.left), (order.order_id, run.left + hidden)]
            if order_rests:
                ids.reverse()
            self.trades.append((ids[0][0], ids[1][0], q, q_in, wheel, ids[0][1], ids[1][1], self.index, order.window, p,
                                sell.zone, buy.zone, newest.side, path.number))
            self.after_fill(other)

    def after_fill(self, order: Order) -> None:
        """A side whose remainder at its own meter is below one lot is closed; an iceberg shows its next slice."""
        if order.shown >= LOT:
            return
        if order.left == 0:
            del self.orders[order.order_id]
        elif order.left < LOT:
            self.close(order, BELOW_LOT)
        else:
            order.shown = min(order.left, order.display)
            order.sequence = self.next_sequence()
            self.report(order, SLICE)

    def close(self, order: Order, reason: int) -> None:
        del self.orders[order.order_id]
        self.report(order, reason)

    def report(self, order: Order, reason: int) -> None:
        given = order.sequence if reason == SLICE else 0
        self.closed.append((order.order_id, order.left, given, self.index, order.window, order.participant,
                             order.zone, order.side, reason))

    # ---- uncrossing

    def uncross(self, window, result):  # type: ignore[no-untyped-def]
        """Resting buys by (limit descending, sequence) are run as incoming against resting sells, until nothing
        is admissible: in passes, from the window's point on if it has one, with another pass after one that traded."""
        point, self.windows[window].point = self.windows[window].point, None
        after = (-point.price, point.sequence) if point else None
        again = bool(point and point.again)
        fills = visits = 0
        while True:
            while True:
                buys = [order for order in self.orders.values() if order.window == window and order.side == BUY
                        and (after is None or (-order.price, order.sequence) >= after)]
                if not buys:
                    break
                order = min(buys, key=lambda order: (-order.price, order.sequence))
                sequence = order.sequence
                after = (-order.price, sequence + 1)
                if 0 < order.expires_ms <= self.now:
                    continue
                run = Run(order, resting=True, left=order.shown)
                if point and (point.price, point.sequence) == (order.price, sequence):
                    run.closed = set(point.closed)
                point = None
                self.match(run)
                self.uncross_fills -= run.fills
                self.uncross_visits -= run.visits
                fills, visits = fills + run.fills, visits + run.visits
                order.left -= order.shown - run.left
                order.shown = run.left
                again = again or run.fills > 0
                if run.left < LOT:
                    self.after_fill(order)
                elif run.code == CANCELLED_SELF_TRADE:
                    self.close(order, SELF_TRADE)
                elif run.code == CANCELLED_LIMIT:
                    self.windows[window].point = Point(order.price, sequence, frozenset(run.closed), again)
                    code = WORK_UNFINISHED if result[5] == DONE else result[5]
                    return (*result[:3], min(result[3] + visits, 65535), min(result[4] + fills, 65535), code)
            if not again:
                return (*result[:3], min(result[3] + visits, 65535), min(result[4] + fills, 65535), result[5])
            after, again, point = None, False, None

    def work_left(self, window: int) -> list[tuple[int, ...]]:
        """As the engine writes it: closed pairs as bits 8 zone + path."""
        point = self.windows[window].point
        if point is None:
            return []
        bits = sum(1 << (8 * zone + path) for zone, path in point.closed)
        return [(point.sequence, bits & (1 << 64) - 1, bits >> 64, window, point.price, int(point.again), 0)]

    # ---- queries

    def records(self, window: int) -> list[tuple[int, ...]]:
        chosen = [order for order in self.orders.values() if order.window == window]
        return [order.record() for order in sorted(chosen, key=Order.place_in_digest)]

    def depth(self, window: int, zone: int, side: int, levels: int, now_ms: int) -> list[tuple[int, int, int]]:
        prices: dict[int, list[int]] = {}
        for order in self.orders.values():
            if ((order.window, order.zone, order.side) == (window, zone, side)
                    and (order.expires_ms == 0 or order.expires_ms > now_ms)):
                prices.setdefault(order.price, []).append(order.shown)
        best_first = sorted(prices, reverse=side == BUY)[:levels]
        return [(price, len(prices[price]), sum(prices[price])) for price in best_first]
