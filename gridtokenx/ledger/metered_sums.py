"""What must balance of meters, lots and settlement in every block; part of `ledger.conservation` (MARKET 7.1).

Each meter ends at zero: injected + bought + supplied = withdrawn + sold + taken. What bills say is what accounts,
zones and lots gained by it, and a settled window has minted + supplied = burned by consumption + lost + taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import (
    Balance,
    BoundaryMeter,
    Energy,
    Lot,
    Reading,
    Settlement,
    Settling,
    Traded,
)
from gridtokenx.ledger.records import Corridor, Meter, Trade, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market.money import PPM

Entry = tuple[int, int, int]
Group = Callable[[object], int]
"""The number of the group with this name; names are asked for again when a group does not balance."""

_KINDS = ("minted", "burned", "supplied", "taken", "bought", "sold")
_ACCOUNTS = tuple(f"{kind} Wh of accounts less that of their bills" for kind in _KINDS)
_LOTS = "minted Wh of lots less that of bills"
_NOTHING = (0, 0, 0, 0, 0, 0)


class MeteredSums:
    """Contributions of one block's records; `add` is given every change."""

    def __init__(self, session: Session, group: Group, entries: list[Entry], parts: list[Entry], *, proceeds: int,
                 collateral: int) -> None:
        self.session = session
        self.group = group
        self.entries = entries
        self.parts = parts
        self.proceeds = proceeds
        self.collateral = collateral
        self._numbers: dict[object, tuple[int, ...]] = {}

    def add(self, index: int, key: bytes, before: Any, now: Any) -> None:
        space = key[0]
        if space == Space.SETTLEMENT:
            if now is not None:         # bills leave state together with what belongs to them
                self._settlement(index, key, before, now)
        elif space == Space.BALANCE:
            if now is not None:
                self._balance(index, key, before, now)
        elif space == Space.ENERGY:
            self._differences(index, self._accounts(), _of_account(before), _of_account(now))
        elif space == Space.LOT:
            self._lot(index, key, before, now)
        elif space == Space.TRADED:
            self._traded(index, before, 1)
            self._traded(index, now, -1)
        elif space == Space.READING:
            if now is not None:
                self._reading(index, key, now)
        elif key == spaces.SETTLING:
            self._settled(index, before, now)

    def _accounts(self) -> tuple[int, ...]:
        numbers = self._numbers.get(_ACCOUNTS)
        if numbers is None:
            numbers = self._numbers[_ACCOUNTS] = tuple(map(self.group, _ACCOUNTS))
        return numbers

    def _zone(self, window: bytes, zone: int) -> tuple[int, ...]:
        numbers = self._numbers.get((window, zone))
        if numbers is None:
            place = f"of zone {zone} in window {int.from_bytes(window, 'big')}"
            numbers = self._numbers[window, zone] = tuple(
                self.group(f"{kind} Wh {place} less that of its bills") for kind in _KINDS)
        return numbers

    def _differences(self, index: int, groups: tuple[int, ...], before: tuple[int, ...], now: tuple[int, ...],
                     sign: int = 1) -> None:
        for group, old, new in zip(groups, before, now, strict=True):
            if old != new:
                self.entries.append((group, index, sign * (new - old)))

    def _ends_at_zero(self, index: int, values: tuple[int, ...]) -> None:
        minted, burned, supplied, taken, bought, sold = values
        rest = minted + supplied + bought - burned - taken - sold
        self.parts += [(0, index, rest), (0, index, -rest), (0, index, min(values))]

    def _settlement(self, index: int, key: bytes, before: Settlement | None, now: Settlement) -> None:
        old, new = _of_bill(before), _of_bill(now)
        self._ends_at_zero(index, new)
        for account, zone, had, has in zip(self._accounts(), self._zone(key[1:5], now.zone), old, new, strict=True):
            if had != has:
                self.entries += ((account, index, had - has), (zone, index, had - has))
        if old[0] != new[0]:
            self.entries.append((self.group(_LOTS), index, old[0] - new[0]))

    def _balance(self, index: int, key: bytes, before: Balance | None, now: Balance) -> None:
        new = _of_zone(now)
        self._ends_at_zero(index, new)
        self._differences(index, self._zone(key[1:5], key[5]), _of_zone(before), new)

    def _lot(self, index: int, key: bytes, before: Lot | None, now: Lot | None) -> None:
        if now is not None:
            self.parts += [(0, index, now.minted_wh - now.delivered_wh), (0, index, now.minted_wh - now.claimed_wh),
                           (0, index, min(now.minted_wh, now.delivered_wh, now.claimed_wh))]
        elif self.session.get(bytes((Space.SETTLEMENT,)) + key[1:]) is None:
            return      # the whole window leaves state
        change = (now.minted_wh if now is not None else 0) - (before.minted_wh if before is not None else 0)
        if change:
            self.entries.append((self.group(_LOTS), index, change))

    def _traded(self, index: int, traded: Traded | None, sign: int) -> None:
        if traded is not None and (traded.sale_uthb or traded.collateral_uthb):
            self.entries += [(self.proceeds, index, sign * traded.sale_uthb),
                             (self.collateral, index, sign * traded.collateral_uthb)]

    def _reading(self, index: int, key: bytes, now: Reading) -> None:
        """Nothing that the meter cannot do."""
        number = int.from_bytes(key[5:], "big")
        meter: Meter = self.session.get(spaces.meter(number))
        if meter.boundary:
            edge: BoundaryMeter = self.session.get(spaces.boundary(meter.zone, number))
            most = (edge.import_w, edge.export_w)
        else:
            most = (meter.injection_w, meter.withdrawal_w)
        self.parts += [(0, index, most[0] // 4 - now.injected_wh), (0, index, most[1] // 4 - now.withdrawn_wh),
                       (0, index, min(now.injected_wh, now.withdrawn_wh))]

    def _settled(self, index: int, before: Settling, now: Settling) -> None:
        """The identity of every window that this block has settled to the end."""
        for window in range(before.window or now.window, now.window):
            group = self.group(f"minted + supplied - burned - lost - taken Wh of window {window}")
            for zone_key, _ in self.session.scan(bytes((Space.ZONE,))):
                b: Balance | None = self.session.get(spaces.balance(window, zone_key[1]))
                if b is not None:
                    self.entries.append((group, index, b.minted + b.supplied - b.consumed - b.losses - b.taken))

    def trade(self, index: int, trade: Trade) -> None:
        """A trade delivers no more than was injected less the losses on its path (MARKET 5)."""
        most = trade.injected_wh * (PPM - _path_loss(self.session, trade)) // PPM
        self.parts.append((0, index, most - trade.delivered_wh))


def _of_bill(s: Settlement | None) -> tuple[int, ...]:
    return _NOTHING if s is None else (s.injected, s.withdrawn, s.supplied, s.taken, s.bought, s.sold)


def _of_zone(b: Balance | None) -> tuple[int, ...]:
    return _NOTHING if b is None else (b.minted, b.consumed, b.supplied, b.taken, b.bought, b.sold)


def _of_account(e: Energy | None) -> tuple[int, ...]:
    return _NOTHING if e is None else (e.minted, e.burned, e.supplied, e.taken, e.received, e.delivered)


def _path_loss(session: Session, trade: Trade) -> int:
    """ppm of the whole path: both zones, once if they are one, and each corridor."""
    seller: Zone = session.get(spaces.zone(trade.sell_zone))
    loss = seller.loss_ppm
    if trade.buy_zone != trade.sell_zone:
        buyer: Zone = session.get(spaces.zone(trade.buy_zone))
        loss += buyer.loss_ppm
    for number in trade.path:
        corridor: Corridor = session.get(spaces.corridor(number))
        loss += corridor.loss_ppm
    return loss
