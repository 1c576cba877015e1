"""How orders leave state without the engine: their time has come (MARKET 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.records import Order
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.tariff_records import Indicative
from gridtokenx.market import moves, places, positions
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.indicative import count_order
from gridtokenx.market.money import buy_escrow
from gridtokenx.market.moves import KERNEL, AccountMoves, PositionMoves
from gridtokenx.market.orders import BUY
from gridtokenx.market.work import Work, timed_key


def due_ms(order: Order, window: int) -> int:
    """When the order closes by itself, market ms: its expiry, else its window's gate."""
    gate = gate_ms(window)
    return min(order.expires_ms, gate) if order.expires_ms else gate


def escrow_of(order: Order, quantity_wh: int) -> int:
    """What `quantity_wh` of a buy order holds back, uTHB, with the rates of its entry."""
    return buy_escrow(order.price, quantity_wh, order.term, order.vat_ppm)


def remove_order(session: Session, order_id: int, order: Order, owner: bytes) -> None:
    """Takes the order and its index entries out of state; money, capacity and place are the caller's to return."""
    window = spaces.window_of(order_id)
    session.put(spaces.order(order_id), None)
    session.put(spaces.orders_of(owner, due_ms(order, window), order_id), None)
    if order.expires_ms:
        session.put(timed_key(order.expires_ms, Work.EXPIRY, order_id), None)


class Closing:
    """Orders that leave state together. What they held comes back in sums with `post`, each record written once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._session = context.session
        self._places = 0
        self._accounts: AccountMoves = {}
        self._positions: PositionMoves = {}
        self._resting: dict[bytes, Indicative] = {}

    def gate(self, window: int, orders: Iterable[tuple[bytes, Order | bytes]], spend: Callable[[int], bool]) -> bool:
        """Closes a window's orders (key, order or its bytes) at its gate while `spend` has room: was that all?"""
        gate = gate_ms(window)
        if gate <= self._context.parent_ms:     # what comes back can be spent at once
            for key, order in orders:
                if not spend(weights.RELEASE):
                    return False
                self.lapse(int.from_bytes(key[1:], "big"), self._session.record(key, order))
            return True
        resting: dict[int, list[int]] = {}
        closed, done = KERNEL.lapse(self._session, orders, window, gate, spend, weights.RELEASE, self._accounts,
                                    self._positions, resting, self.lapse)
        self._places += closed
        for zone, (demand, supply, renewable) in resting.items():
            e = self._stood(key := spaces.indicative(window, zone))
            self._resting[key] = Indicative(e.price_mthb_kwh, e.demand_wh + demand, e.supply_wh + supply,
                                            e.renewable_wh + renewable, e.utilisation_ppm)
        return done

    def _stood(self, key: bytes) -> Indicative:
        return self._resting.get(key) or self._session.get(key) or Indicative()

    def lapse(self, order_id: int, order: Order) -> None:
        """Closes an order whose time has come: by a sweep, lazily, or because a search met it.

        What was due by the parent's time can be spent at once, anything later from the next block on, so that it makes
        no difference which of the three it was.
        """
        window = spaces.window_of(order_id)
        if not order.expires_ms or order.expires_ms >= gate_ms(window):     # it stood until the gate
            key = spaces.indicative(window, order.zone)
            self._resting[key] = count_order(self._stood(key), order)
        self.close(order_id, order)

    def close(self, order_id: int, order: Order) -> None:
        """Takes an order out of state; what it held comes back."""
        session, window, quantity = self._session, spaces.window_of(order_id), order.remaining_wh
        owner = session.get(spaces.meter(order.meter)).owner
        remove_order(session, order_id, order, owner)
        if due_ms(order, window) <= self._context.parent_ms:
            places.give_back(session, 1, now=True)
            positions.return_now(session, window, order.meter, order.side, quantity)
            if order.side == BUY:
                funds.return_now(session, owner, bids=escrow_of(order, quantity))
            else:
                funds.return_now(session, owner, collateral=order.term * quantity)
            return
        self._places += 1
        money = self._accounts.get(owner)
        if money is None:
            money = self._accounts[owner] = [0, 0, 0, 0]
        energy = self._positions.get((window, order.meter))
        if energy is None:
            energy = self._positions[window, order.meter] = [0, 0, 0, 0]
        if order.side == BUY:
            held = escrow_of(order, quantity)
            money[0] -= held
            money[2] += held
            energy[3] += quantity
        else:
            money[3] += order.term * quantity
            energy[2] += quantity

    def post(self) -> None:
        """Writes what came back."""
        session = self._session
        for key, resting in self._resting.items():
            session.put(key, resting)
        moves.apply(session, self._accounts, self._positions)
        if self._places:
            places.give_back(session, self._places, now=False)


def lapse(context: Context, order_id: int, order: Order) -> None:
    """Closes one order whose time has come."""
    closing = Closing(context)
    closing.lapse(order_id, order)
    closing.post()


def close(context: Context, order_id: int, order: Order) -> None:
    """Takes one order out of state and gives back what it held."""
    closing = Closing(context)
    closing.close(order_id, order)
    closing.post()


def due_orders(context: Context, owner: bytes) -> list[int]:
    """The owner's orders that were due by the parent's time and that no sweep has met yet."""
    found = []
    for key, _ in context.session.scan(spaces.orders_of(owner)):
        if int.from_bytes(key[33:41], "big") > context.parent_ms:
            break
        found.append(int.from_bytes(key[41:], "big"))
    return found
