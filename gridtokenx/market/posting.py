"""What the engine made of a batch, posted to state: trades, closings, results (MARKET 3 and 5).

Operation by operation, in order: an amend first changes the order, then come trades, then the result, which may put
the order to rest, then what happened to resting orders.
"""

from __future__ import annotations

from typing import Any

from attrs import define, evolve, frozen
from numpy.typing import NDArray

from gridtokenx._native.orderbook import Code as EngineCode
from gridtokenx._native.orderbook import Kind, Reason
from gridtokenx.errors import InvariantError
from gridtokenx.grid.kinds import RENEWABLE, TradeKind
from gridtokenx.ledger import spaces
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.market_records import Trading
from gridtokenx.ledger.receipts import Code, Outcome
from gridtokenx.ledger.records import Market, Meter, Order, Trade, WindowBook
from gridtokenx.market import moves, places
from gridtokenx.market.book import Books
from gridtokenx.market.claims import note_trade
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.closing import due_ms, escrow_of, lapse, remove_order
from gridtokenx.market.corridors import corridor_window, directions, moved
from gridtokenx.market.deferred import Amendment, Deferred
from gridtokenx.market.halts import trading
from gridtokenx.market.money import fee_and_vat
from gridtokenx.market.moves import KERNEL
from gridtokenx.market.orders import BUY
from gridtokenx.market.wheeling import network_parts
from gridtokenx.market.work import Work, timed_key

_TRADE_FIELDS = ["maker_id", "taker_id", "delivered_wh", "injected_wh", "wheel_uthb", "maker_remaining_wh",
                 "taker_remaining_wh", "window", "price_mthb_kwh", "seller_zone", "buyer_zone", "taker_side",
                 "path", "operation"]
_CLOSED_FIELDS = ["order_id", "remaining_wh", "reason", "sequence", "operation"]
_RESULT_FIELDS = ["sequence", "filled_wh", "remaining_wh", "code"]
_RESULT_CODES = {
    EngineCode.RESTING: Code.OK, EngineCode.FILLED: Code.OK, EngineCode.CLOSED_BELOW_LOT: Code.OK,
    EngineCode.CANCELLED_IOC: Code.OK, EngineCode.CANCELLED_LIMIT: Code.REMAINDER_CANCELLED,
    EngineCode.CANCELLED_SELF_TRADE: Code.SELF_TRADE, EngineCode.CANCELLED: Code.OK, EngineCode.REDUCED: Code.OK,
    EngineCode.KILLED: Code.KILLED, EngineCode.UNKNOWN_ORDER: Code.UNKNOWN_ORDER,
    EngineCode.EXPIRED: Code.UNKNOWN_ORDER, EngineCode.INVALID: Code.BAD_CONDITIONS,
    EngineCode.NO_PATH: Code.NO_PATH, EngineCode.NO_CAPACITY: Code.NO_RESIDUAL,
    EngineCode.GROUP_REFUSED: Code.NOT_APPLIED, EngineCode.WOULD_TRADE: Code.WOULD_TRADE,
    EngineCode.HALTED: Code.HALTED, EngineCode.WORK_LEFT: Code.WORK_LEFT,
}
_GRID_CODES = frozenset({int(EngineCode.DONE), int(EngineCode.UNFINISHED)})
_REFUSED = frozenset(int(code) for code in EngineCode if code >= EngineCode.UNKNOWN_ORDER)


@frozen
class Fill:
    """A trade of this block with its place in state and the two accounts."""

    window: int
    number: int
    trade: Trade
    buyer: bytes
    seller: bytes


@define
class _Live:
    """An order while a batch is posted. `held` is the escrow of a buy's remainder."""

    window: int
    order: Order
    owner: bytes
    remaining: int
    held: int
    fresh: bool
    sequence: int = 0
    hidden: int = 0
    gone: bool = False


class Posting:
    """Posts one batch: sums per account, position and market first, each record written once."""

    def __init__(self, context: Context, books: Books, next_sequence: int) -> None:
        self.context = context
        self.books = books
        self.session = context.session
        self.next_sequence = next_sequence
        self.fills: list[Fill] = []
        self.lapsed: set[int] = set()       # met by a search after their time
        self.known: dict[int, tuple[Order, bytes]] = {}     # orders touched, as they were in state
        self.live: dict[int, _Live] = {}
        self.accounts: moves.AccountMoves = {}
        self.positions: moves.PositionMoves = {}
        self.markets: dict[tuple[int, int], list[int]] = {}     # (window, buyers' zone) -> a Market's attributes
        self.windows: dict[int, int] = {}
        self.turnover: dict[int, list[Any]] = {}    # of continuous trades: injected Wh, value, buyers, sellers
        self.flows: dict[tuple[int, int], list[int]] = {}       # (window, corridor) -> change of both residuals
        self.left = 0                       # places that orders gave back

    def post(self, trades: NDArray[Any], results: NDArray[Any], closed: NDArray[Any],
             pending: list[Deferred]) -> None:
        """The engine's answer to the operations `pending`, whose outcomes are set. Raises InvariantError."""
        made, entries = trades[_TRADE_FIELDS].tolist(), closed[_CLOSED_FIELDS].tolist()
        answers = results[_RESULT_FIELDS].tolist()
        trade_count, closed_count = len(made), len(entries)
        busy = {*trades["operation"].tolist(), *closed["operation"].tolist()}
        named = {*trades["maker_id"].tolist(), *trades["taker_id"].tolist(), *closed["order_id"].tolist(),
                 *[deferred.order_id for deferred in pending if deferred.kind is not Kind.PLACE]}
        trade = entry = 0
        for index in KERNEL.rest(self.session, answers, pending, busy, named, gate_ms):
            deferred, result = pending[index], answers[index]
            if deferred.kind is Kind.PLACE:
                order = deferred.order
                assert order is not None
                held = escrow_of(order, order.remaining_wh) if order.side == BUY else 0
                self.live[deferred.order_id] = _Live(deferred.window, order, deferred.owner, order.quantity_wh, held,
                                                     True)
                self.left -= deferred.place_borrowed
                if deferred.borrowed:       # from the group's cancels, whose release is not all free then
                    moves = self._account(deferred.owner)
                    if order.side == BUY:
                        moves[0] += deferred.borrowed
                        moves[2] -= deferred.borrowed
                    else:
                        moves[3] -= deferred.borrowed
            elif deferred.kind is Kind.AMEND:
                self._amend(deferred, result[3])
            elif deferred.kind is Kind.BILATERAL:
                trade += self._agreed(deferred, result[3], made[trade] if trade < trade_count else ())
            while trade < trade_count and made[trade][-1] == index:
                self._trade(made[trade])
                trade += 1
            self._result(deferred, result)
            while entry < closed_count and entries[entry][-1] == index:
                self._closed(entries[entry])
                entry += 1
        self._write()

    def _order(self, order_id: int) -> _Live:
        live = self.live.get(order_id)
        if live is None:
            order: Order | None = self.session.get(spaces.order(order_id))
            if order is None:
                raise InvariantError(f"the engine names order {order_id}, which is not in state")
            meter: Meter = self.session.get(spaces.meter(order.meter))
            held = escrow_of(order, order.remaining_wh) if order.side == BUY else 0
            self.known[order_id] = (order, meter.owner)
            live = self.live[order_id] = _Live(spaces.window_of(order_id), order, meter.owner, order.remaining_wh,
                                               held, False, order.sequence, order.hidden_wh)
        return live

    def _account(self, address: bytes) -> list[int]:
        """[bids, proceeds, released, freed]"""
        moves = self.accounts.get(address)
        if moves is None:
            moves = self.accounts[address] = [0, 0, 0, 0]
        return moves

    def _position(self, window: int, meter: int) -> list[int]:
        """[sold, bought, closed sells, closed buys]"""
        moves = self.positions.get((window, meter))
        if moves is None:
            moves = self.positions[window, meter] = [0, 0, 0, 0]
        return moves

    def _trade(self, fields: Any) -> None:
        (maker_id, taker_id, delivered, injected, wheel, maker_left, taker_left, window, price, seller_zone,
         buyer_zone, taker_side, path, _) = fields
        maker, taker = self._order(maker_id), self._order(taker_id)
        if taker_side == BUY:
            buyer, seller, buy_id, sell_id = taker, maker, taker_id, maker_id
            buyer_left, seller_left = taker_left, maker_left
        else:
            buyer, seller, buy_id, sell_id = maker, taker, maker_id, taker_id
            buyer_left, seller_left = maker_left, taker_left
        order = buyer.order
        value = price * injected
        held_after = escrow_of(order, buyer_left)
        room = buyer.held - held_after - value - wheel
        if room < 0:
            raise InvariantError(f"a fill of order {buy_id} takes {-room} uTHB more than its escrow")
        fee, vat = fee_and_vat(value + wheel, room, order.term, order.vat_ppm)
        moves = self._account(buyer.owner)
        moves[0] += held_after - buyer.held
        moves[2] += room - fee - vat
        self._account(seller.owner)[1] += value
        record = Trade(self.context.height, buy_id, sell_id, order.meter, seller.order.meter, buyer_zone,
                       seller_zone, taker_side, price, delivered, injected, wheel, fee, vat,
                       seller.order.term * injected, seller.order.source, order.profile)
        if seller_zone != buyer_zone:
            record = evolve(record, path=self.books.path(seller_zone, buyer_zone, path))
        self._flow(window, record)
        roles = self.context.roles
        if fee:
            self._account(roles.market_operator)[1] += fee
        if vat:
            self._account(roles.tax)[1] += vat
        self._position(window, order.meter)[1] += delivered
        self._position(window, seller.order.meter)[0] += injected
        buyer.held, buyer.remaining, seller.remaining = held_after, buyer_left, seller_left
        # To exactly zero: nothing else reports it, save for the operation's own order.
        if not maker_left:
            maker.gone = True
        if not taker_left:
            taker.gone = True

        turnover = self.turnover.get(window)
        if turnover is None:
            before = trading(self.session, window)
            turnover = self.turnover[window] = [0, 0, list(before.buyers), list(before.sellers)]
        turnover[0] += injected
        turnover[1] += value
        for side, participant in ((turnover[2], order.participant), (turnover[3], seller.order.participant)):
            if len(side) < self.context.parameters.breaker_participants and participant not in side:
                side.append(participant)
        self._keep(window, record, buyer.owner, seller.owner)
        place = (window, buyer_zone)
        m = self.markets.get(place)
        if m is None:
            found: Market = self.session.get(spaces.market(window, buyer_zone)) or Market()
            m = self.markets[place] = [found.traded_wh, found.value_uthb, found.trades, found.last_price,
                                       found.low_price if found.trades else price, found.high_price,
                                       found.renewable_wh]
        m[0] += delivered
        m[1] += value
        m[2] += 1
        m[3], m[4], m[5] = price, min(m[4], price), max(m[5], price)
        if seller.order.source in RENEWABLE:
            m[6] += delivered

    def _keep(self, window: int, record: Trade, buyer: bytes, seller: bytes) -> None:
        """Puts the trade into state under the window's next number."""
        number = self.windows.get(window)
        if number is None:
            number = self.session.get(spaces.window(window)).trades
        self.windows[window] = number + 1
        self.session.put(spaces.trade(window, number), record)
        note_trade(self.session, window, number, record)
        self.fills.append(Fill(window, number, record, buyer, seller))

    def _agreed(self, deferred: Deferred, engine_code: int, fields: Any) -> int:
        """A bilateral trade, or what was held for it comes back; returns how many trades it took.

        It moves neither the market's prices nor the breaker's count: its price may be any.
        """
        a = deferred.agreed
        assert a is not None
        window, buyer, seller = deferred.window, self._account(a.buyer), self._account(a.seller)
        bought, sold = self._position(window, a.buy_meter), self._position(window, a.sell_meter)
        buyer[0] -= a.paid_uthb
        if engine_code in _REFUSED:
            buyer[2] += a.paid_uthb
            seller[3] += a.collateral_uthb
            bought[3] += a.delivered_wh
            sold[2] += a.injected_wh
            self.session.put(a.mark, None)
            return 0
        record = Trade(
            self.context.height, deferred.order_id, deferred.order_id, a.buy_meter, a.sell_meter, a.buy_zone,
            a.sell_zone, BUY, a.price, a.delivered_wh, a.injected_wh, a.wheel_uthb, a.fee_uthb, a.vat_uthb,
            a.collateral_uthb, a.source, 0, a.path, int(TradeKind.BILATERAL))
        if fields[2:5] != (a.delivered_wh, a.injected_wh, a.wheel_uthb):
            raise InvariantError(f"the engine trades {fields[2:5]} for bilateral trade {deferred.order_id}: {record}")
        seller[1] += record.value_uthb
        roles = self.context.roles
        self._account(roles.market_operator)[1] += a.fee_uthb
        self._account(roles.tax)[1] += a.vat_uthb
        bought[1] += a.delivered_wh
        sold[0] += a.injected_wh
        self._flow(window, record)
        self._keep(window, record, a.buyer, a.seller)
        return 1

    def _flow(self, window: int, trade: Trade) -> None:
        """The networks on the way are paid; the path's corridors carry q_in one way and can carry q more the other way.

        Raises InvariantError when the engine's wheeling is not what the rates make it.
        """
        for network, amount in network_parts(self.session, trade):
            if amount:
                self._account(network)[1] += amount
        for number, _, direction in directions(self.session, trade.sell_zone, trade.path) if trade.path else ():
            flow = self.flows.setdefault((window, number), [0, 0])
            flow[direction] -= trade.injected_wh
            flow[1 - direction] += trade.delivered_wh

    def _release(self, live: _Live) -> None:
        """The remainder of an order that left: its escrow, collateral and capacity come back."""
        quantity = live.remaining
        order = live.order
        live.gone = True
        if not quantity:
            return
        if order.side == BUY:
            moves = self._account(live.owner)
            moves[0] -= live.held
            moves[2] += live.held
            self._position(live.window, order.meter)[3] += quantity
        else:
            self._account(live.owner)[3] += order.term * quantity
            self._position(live.window, order.meter)[2] += quantity

    def _closed(self, fields: Any) -> None:
        order_id, remaining, reason, sequence, _ = fields
        if reason == Reason.EXPIRED:
            order = self.session.get(spaces.order(order_id))
            if order is not None:       # otherwise released lazily in this block already
                self.known[order_id] = (order, self.session.get(spaces.meter(order.meter)).owner)
                lapse(self.context, order_id, order)
            self.lapsed.add(order_id)
            return
        live = self._order(order_id)
        if reason == Reason.SLICE:      # one operation may use up several: its later fills were posted before
            if remaining < live.remaining:
                raise InvariantError(f"a slice of order {order_id} leaves {remaining} Wh; state says {live.remaining}")
            live.sequence = sequence
            live.hidden = remaining - min(remaining, live.order.display_wh)
            return
        if live.remaining != remaining:
            raise InvariantError(f"order {order_id} leaves the engine with {remaining} Wh; state says {live.remaining}")
        self._release(live)

    def _amend(self, deferred: Deferred, engine_code: int) -> None:
        """Before the amended order trades: its new terms, and what was held for them and is not needed comes back."""
        amendment = deferred.amendment
        assert amendment is not None
        if engine_code in _REFUSED or engine_code == EngineCode.CANCELLED:
            self._return(deferred, amendment, amendment.held_uthb, amendment.held_wh)
            return
        live = self._order(deferred.order_id)
        order = live.order
        filled = order.quantity_wh - live.remaining
        if engine_code == EngineCode.REDUCED:
            changed = evolve(order, quantity_wh=amendment.quantity_wh)
        else:
            changed = evolve(order, price=amendment.price, quantity_wh=amendment.quantity_wh, term=amendment.term,
                             vat_ppm=amendment.vat_ppm)
        left = changed.quantity_wh - filled
        if order.side == BUY:
            held = escrow_of(changed, left)
            surplus = live.held + amendment.held_uthb - held
            live.held = held
        else:
            surplus = order.term * live.remaining + amendment.held_uthb - changed.term * left
        if surplus < 0:
            raise InvariantError(f"the amend of order {deferred.order_id} takes {-surplus} uTHB more than was held")
        self._return(deferred, amendment, surplus, amendment.held_wh - (changed.quantity_wh - order.quantity_wh))
        if engine_code == EngineCode.REDUCED:       # what is shown is used up last
            live.hidden = max(0, left - (live.remaining - live.hidden))
        live.order, live.remaining = changed, left

    def _return(self, deferred: Deferred, amendment: Amendment, money: int, energy: int) -> None:
        """Money or collateral, and capacity, that were held for an amend and come back."""
        account = self._account(deferred.owner)
        if amendment.side == BUY:
            account[0] -= money
            account[2] += money
        else:
            account[3] += money
        if energy:
            self._position(deferred.window, amendment.meter)[3 if amendment.side == BUY else 2] += energy

    def _result(self, deferred: Deferred, fields: Any) -> None:
        """Sets the outcome, and what becomes of the operation's own order."""
        sequence, filled, remaining, engine_code = fields
        if not deferred.order_id:
            if engine_code not in _GRID_CODES:
                raise InvariantError(f"the engine refused {deferred.kind.name} of window {deferred.window}")
            return
        code = _RESULT_CODES.get(engine_code)
        if code is None:
            raise InvariantError(f"the engine refused order {deferred.order_id}: {EngineCode(engine_code).name}")
        order_id = deferred.order_id
        refused = engine_code in _REFUSED
        if deferred.kind is not Kind.PLACE and refused:
            changed = deferred.kind is Kind.CANCEL and engine_code == EngineCode.INVALID
            deferred.outcome = Outcome(Code.ORDER_CHANGED if changed else code)
            return
        if deferred.kind is Kind.BILATERAL:
            assert deferred.agreed is not None
            deferred.outcome = Outcome(code, (order_id, filled, deferred.agreed.injected_wh))
            return
        live = self._order(order_id)
        if deferred.kind is Kind.CANCEL:
            live.remaining = remaining
            self._release(live)
            deferred.outcome = Outcome(code, (order_id, remaining))
            return
        rests = engine_code == EngineCode.RESTING or engine_code == EngineCode.REDUCED
        if refused:
            remaining = live.remaining
        deferred.outcome = Outcome(code, (order_id, filled, remaining if rests else 0, 0 if rests else remaining))
        if rests:
            live.sequence = sequence
            if live.order.display_wh and engine_code == EngineCode.RESTING:
                live.hidden = max(0, remaining - live.order.display_wh)
            return
        live.remaining = remaining
        self._release(live)

    def _write(self) -> None:
        session = self.session
        for order_id, live in self.live.items():
            order = live.order
            if live.gone:
                self.left += 1
                if not live.fresh or live.sequence:
                    remove_order(session, order_id, order, live.owner)
                continue
            if live.fresh:
                session.put(spaces.orders_of(live.owner, due_ms(order, live.window), order_id), spaces.PRESENT)
                if order.expires_ms:
                    session.put(timed_key(order.expires_ms, Work.EXPIRY, order_id), spaces.PRESENT)
            o = order
            session.put(spaces.order(order_id), Order(
                o.meter, o.participant, o.zone, o.side, o.price, o.quantity_wh, live.remaining, o.expires_ms,
                live.sequence, o.term, o.vat_ppm, o.height, o.source, o.profile, o.self_trade, o.display_wh,
                live.hidden))
        moves.apply(session, self.accounts, self.positions)
        for (window, zone), market in self.markets.items():
            session.put(spaces.market(window, zone), Market(*market))
        for (window, number), (forward, backward) in self.flows.items():
            session.put(spaces.corridor_window(window, number),
                        moved(corridor_window(session, window, number), forward, backward))
        for window, (injected, value, buyers, sellers) in self.turnover.items():
            before = trading(session, window)
            session.put(spaces.trading(window), Trading(
                before.halted_until_ms, before.injected_wh + injected, before.value_uthb + value, tuple(buyers),
                tuple(sellers)))
        for window, trades in self.windows.items():
            book: WindowBook = session.get(spaces.window(window))
            session.put(spaces.window(window), WindowBook(trades, book.settled, book.gated))
        places.give_back(session, self.left, now=False, sequence=self.next_sequence)
