"""What a researcher sets on a fork that on the live chain takes an operator, a regulator or a power cut.

Each is one block that sets records of state (`edits`), checked for conservation; or, for capacities, the very
operation that a grid operator would send.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from gridtokenx.forks.errors import ForkError
from gridtokenx.forks.parties import Party, address_of
from gridtokenx.grid.kinds import Role
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.context import Context, open_context
from gridtokenx.ledger.market_records import FormerWheeling
from gridtokenx.ledger.operations.grid import MOST_WINDOWS, SetCapacity
from gridtokenx.ledger.parameters import check, encode_parameter, read_parameters
from gridtokenx.ledger.records import Account, Clock, Corridor, Counters, Participant, Totals, Trade, WindowBook, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.tariff_records import (
    DEMAND_MOST,
    RATE_MOST,
    SERIES_BOUNDS,
    SERVICE_MOST,
    Rate,
    Series,
    Tariff,
    Terms,
)
from gridtokenx.market.closing import close
from gridtokenx.market.money import SUPPLY_MOST
from gridtokenx.market.tables import next_version

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

LOSS_MOST_PPM = 250_000
WHEEL_MOST = 10**9          # uTHB/kWh
FAR_MS = 1 << 45
LICENCE = "grid operator of a fork"


@frozen(eq=False)
class Override:
    """`chain.override`: every method takes effect at once, as a block of its own. Raises ForkError, ParameterError."""

    chain: Chain

    # ------------------------------------------------------------ money and rules

    def balance(self, party: Party, uthb: int) -> None:
        """The free balance of an account; what is added or taken counts as minted or burned."""
        address = address_of(party)
        if not 0 <= uthb <= SUPPLY_MOST:
            raise ForkError(f"a balance is not below zero nor above {SUPPLY_MOST}: {uthb}")

        def change(session: Session) -> None:
            account = funds.get_account(session, address)
            totals: Totals = session.get(spaces.TOTALS)
            more = uthb - account.balance
            funds.put_account(session, address, evolve(account, balance=uthb))
            session.put(spaces.TOTALS, evolve(totals, minted_uthb=totals.minted_uthb + max(0, more),
                                              burned_uthb=totals.burned_uthb + max(0, -more)))

        self.chain.edit(change)

    def parameters(self, **values: int) -> None:
        """Any of the chain's parameters, by name. Raises ParameterError with the bounds."""
        encoded = [encode_parameter(name, check(name, value)) for name, value in values.items()]

        def change(session: Session) -> None:
            for key, raw in encoded:
                session.put(key, raw)

        self.chain.edit(change)

    def series(self, series: Series, value: int) -> None:
        """Ft, buy-back rate (uTHB/kWh) or VAT (ppm), from the next window on."""
        low, high = SERIES_BOUNDS[series]
        if not low <= value <= high:
            raise ForkError(f"{series.name} is {value}; {low} to {high} is allowed")

        def change(session: Session) -> None:
            context = _context(session)
            rate: Rate = session.get(spaces.rate(series))
            session.put(spaces.rate(series),
                        Rate(next_version(context, rate.versions, (self.chain.window + 1, value))))

        self.chain.edit(change)

    def tariff(self, number: int, **terms: int) -> None:
        """Terms of a retail class from the next window on: on_peak, off_peak (uTHB/kWh), service, demand (`Terms`)."""
        known = self.chain.record(spaces.tariff(number))
        if known is None:
            raise ForkError(f"no tariff class {number}")
        changeable = ("on_peak", "off_peak", "service", "demand")
        most = dict(zip(changeable, (RATE_MOST, RATE_MOST, SERVICE_MOST, DEMAND_MOST), strict=True))
        for name, value in terms.items():
            if not 0 <= value <= most.get(name, -1):
                bounds = ", ".join(f"{each} (0 to {high})" for each, high in most.items())
                raise ForkError(f"{name} = {value}; a class has {bounds}")

        def change(session: Session) -> None:
            tariff: Tariff = session.get(spaces.tariff(number))
            since = self.chain.window + 1
            now: Terms = tariff.at(since)
            version = (since, *(terms.get(name, getattr(now, name)) for name in changeable), now.blocks)
            session.put(spaces.tariff(number),
                        evolve(tariff, versions=next_version(_context(session), tariff.versions, version)))

        self.chain.edit(change)

    # ------------------------------------------------------------ the grid

    def zone(self, number: int, *, loss_ppm: int | None = None, wheel_uthb_kwh: int | None = None) -> None:
        """A zone's losses and wheeling. Open orders are closed: they were priced for the grid as it was.

        Trades that were made before keep the rates that they were made at.
        """
        changed = _checked(loss_ppm=loss_ppm, wheel_uthb_kwh=wheel_uthb_kwh)
        self._grid(spaces.zone(number), Zone, f"zone {number}", changed)

    def corridor(self, number: int, *, loss_ppm: int | None = None, wheel_uthb_kwh: int | None = None,
                 forward_w: int | None = None, backward_w: int | None = None) -> None:
        """A corridor's losses, wheeling and declared capacity. Open orders are closed.

        Windows that were traded over it keep the capacity that they had: `capacity` changes those.
        """
        changed = _checked(loss_ppm=loss_ppm, wheel_uthb_kwh=wheel_uthb_kwh, forward_w=forward_w, backward_w=backward_w)
        self._grid(spaces.corridor(number), Corridor, f"corridor {number}", changed)

    def capacity(self, corridor: int, windows: range, forward_w: int, backward_w: int) -> None:
        """A corridor's capacity in `windows`, W, as a grid operator sets it: trades stand, resting orders stay."""
        operator = self._grid_operator()
        for first in range(windows.start, windows.stop, MOST_WINDOWS):
            last = min(first + MOST_WINDOWS, windows.stop) - 1
            self.chain.send(operator, SetCapacity(corridor, first, last, forward_w, backward_w))

    def trip(self, corridor: int, windows: range) -> None:
        """The corridor is out of service in `windows`."""
        self.capacity(corridor, windows, 0, 0)

    def close_orders(self) -> int:
        """Closes every open order and gives back what it held; returns how many."""
        closed = 0

        def change(session: Session) -> None:
            nonlocal closed
            context = _context(session)
            for key, order in session.scan(bytes((Space.ORDER,))):
                close(context, int.from_bytes(key[1:], "big"), order)
                closed += 1

        self.chain.edit(change)
        return closed

    def _grid(self, key: bytes, kind: type[Any], name: str, changed: dict[str, int]) -> None:
        if self.chain.record(key) is None:
            raise ForkError(f"no {name}")

        def change(session: Session) -> None:
            record = session.get(key)
            assert isinstance(record, kind)
            session.put(key, evolve(record, **changed))
            if "wheel_uthb_kwh" in changed:
                _keep_rate(session, key, record.wheel_uthb_kwh)

        self.close_orders()
        self.chain.edit(change)

    def _grid_operator(self) -> bytes:
        """An account that may set capacities, made up when the chain has none, with money for fees."""
        chain = self.chain
        for _, raw in chain.state.scan(bytes((Space.PARTICIPANT,))):
            found = Participant.decode(raw)
            if found.role == Role.GRID_OPERATOR and found.expires_ms > chain.now_ms:
                self._pay_fees(found.account)
                return found.account
        address = chain.key("grid operator").public

        def register(session: Session) -> None:
            counters: Counters = session.get(spaces.COUNTERS)
            number = counters.participants + 1
            session.put(spaces.COUNTERS, evolve(counters, participants=number))
            session.put(spaces.participant(number),
                        Participant(address, LICENCE, int(Role.GRID_OPERATOR), 0, FAR_MS, 0))
            session.put(spaces.licence(sha256(LICENCE.encode()).digest()), spaces.number(number))
            account: Account = funds.get_account(session, address)
            funds.put_account(session, address, evolve(account, participant=number))

        chain.edit(register)
        self._pay_fees(address)
        return address

    def _pay_fees(self, address: bytes) -> None:
        needed = 100 * self.chain.parameters.min_fee_uthb
        if self.chain.account(address).balance < needed:
            self.balance(address, needed)


def _keep_rate(session: Session, key: bytes, rate: int) -> None:
    """Trades that are not settled yet were made at `rate`."""
    oldest = min((trade.height for window, book in session.scan(bytes((Space.WINDOW,)))
                  for trade in _unsettled(session, int.from_bytes(window[1:], "big"), book)), default=None)
    former: FormerWheeling = session.get(spaces.FORMER_WHEELING) or FormerWheeling(())
    needed = () if oldest is None else tuple(
        change for change in (*former.changes, (session.height, key, rate)) if change[0] > oldest)
    session.put(spaces.FORMER_WHEELING, FormerWheeling(needed) if needed else None)


def _unsettled(session: Session, window: int, book: WindowBook) -> Iterator[Trade]:
    for number in range(book.settled, book.trades):
        trade: Trade = session.get(spaces.trade(window, number))
        yield trade


def _context(session: Session) -> Context:
    clock: Clock = session.get(spaces.CLOCK)
    return open_context(session, read_parameters(session.parent), clock.timestamp_ms)


def _checked(**values: int | None) -> dict[str, int]:
    limits = {"loss_ppm": LOSS_MOST_PPM, "wheel_uthb_kwh": WHEEL_MOST, "forward_w": 10**12, "backward_w": 10**12}
    changed = {name: value for name, value in values.items() if value is not None}
    if not changed:
        raise ForkError(f"nothing to set; there are {', '.join(values)}")
    for name, value in changed.items():
        if not 0 <= value <= limits[name]:
            raise ForkError(f"{name} is {value}; 0 to {limits[name]} is allowed")
    return changed

