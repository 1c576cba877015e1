"""What must balance of meters, lots and settlement in every block; part of `ledger.conservation` (MARKET 7.1).

Each meter ends at zero: injected + bought + supplied = withdrawn + sold + taken. What bills say is what accounts,
zones and lots gained by it, and a settled window has minted + supplied = burned by consumption + lost + taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gridtokenx._native.contributions import Entries
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

_KINDS = ("minted", "burned", "supplied", "taken", "bought", "sold")
_ACCOUNTS = tuple(f"{kind} Wh of accounts less that of their bills" for kind in _KINDS)
_ZONES = tuple(f"{kind} Wh of zone {{1}} in window {{0}} less that of its bills" for kind in _KINDS)
_LOTS = ("minted Wh of lots less that of bills",)
_WINDOW = ("minted + supplied - burned - lost - taken Wh of window {0}",)
_METER = bytes((Space.METER,))
_NO_BALANCE, _NO_ENERGY = Balance(), Energy()


class Groups:
    """Numbers of what must balance: those that every block has, then others as they are first asked for."""

    def __init__(self, fixed: tuple[str, ...]) -> None:
        self._fixed = fixed
        self._first: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
        self._size = len(fixed)

    def __call__(self, names: tuple[str, ...], *place: int) -> int:
        """The number of the first of the groups with these names at `place`; the others follow it."""
        number = self._first.get((names, place))
        if number is None:
            number = self._first[names, place] = self._size
            self._size += len(names)
        return number

    def __len__(self) -> int:
        return self._size

    def name(self, group: int) -> str:
        if group < len(self._fixed):
            return self._fixed[group]
        names, place, first = next((names, place, first) for (names, place), first in self._first.items()
                                   if first <= group < first + len(names))
        return names[group - first].format(*place)


class MeteredSums:
    """Contributions of one block's records; `entries` and `impossible` are those of `ledger.conservation`."""

    def __init__(self, session: Session, groups: Groups, entries: Entries, impossible: list[int], *, proceeds: int,
                 collateral: int) -> None:
        self.session = session
        self.groups = groups
        self.entries = entries
        self.impossible = impossible
        self.proceeds = proceeds
        self.collateral = collateral
        self.accounts = groups(_ACCOUNTS)
        self.lots = groups(_LOTS)
        self._zones: dict[tuple[bytes, int], int] = {}

    def rules(self) -> dict[int, Callable[[int, bytes, Any, Any], None]]:
        """By space: what is done with a change."""
        return {Space.SETTLEMENT: self._settlement, Space.BALANCE: self._balance, Space.ENERGY: self._energy,
                Space.LOT: self._lot, Space.TRADED: self._traded, Space.READING: self._reading}

    def zone_group(self, window: bytes, zone: int) -> int:
        """The first of the groups of a zone in a window."""
        number = self._zones.get((window, zone))
        if number is None:
            number = self._zones[window, zone] = self.groups(_ZONES, int.from_bytes(window, "big"), zone)
        return number

    def _settlement(self, index: int, key: bytes, before: Settlement | None, now: Settlement | None) -> None:
        """The meter ends at zero; its bill stands against account, zone and lot."""
        if now is None:         # bills leave state together with what belongs to them
            return
        minted, burned, supplied, taken, bought, sold = (
            now.injected, now.withdrawn, now.supplied, now.taken, now.bought, now.sold)
        if (minted + supplied + bought != burned + taken + sold or minted < 0 or burned < 0 or supplied < 0
                or taken < 0 or bought < 0 or sold < 0):
            self.impossible.append(index)
        if before is not None:
            minted, burned, supplied, taken, bought, sold = (
                minted - before.injected, burned - before.withdrawn, supplied - before.supplied, taken - before.taken,
                bought - before.bought, sold - before.sold)
        at, entries = index << 32, self.entries
        account, zone = at | self.accounts, at | self.zone_group(key[1:5], now.zone)
        if minted:
            entries += (account, -minted, zone, -minted, at | self.lots, -minted)
        if burned:
            entries += (account + 1, -burned, zone + 1, -burned)
        if supplied:
            entries += (account + 2, -supplied, zone + 2, -supplied)
        if taken:
            entries += (account + 3, -taken, zone + 3, -taken)
        if bought:
            entries += (account + 4, -bought, zone + 4, -bought)
        if sold:
            entries += (account + 5, -sold, zone + 5, -sold)

    def _balance(self, index: int, key: bytes, before: Balance | None, now: Balance | None) -> None:
        if now is None:
            return
        if (now.minted + now.supplied + now.bought != now.consumed + now.taken + now.sold or now.minted < 0
                or now.consumed < 0 or now.supplied < 0 or now.taken < 0 or now.bought < 0 or now.sold < 0):
            self.impossible.append(index)
        old, zone = before or _NO_BALANCE, index << 32 | self.zone_group(key[1:5], key[5])
        self.entries += (
            zone, now.minted - old.minted, zone + 1, now.consumed - old.consumed, zone + 2, now.supplied - old.supplied,
            zone + 3, now.taken - old.taken, zone + 4, now.bought - old.bought, zone + 5, now.sold - old.sold)

    def _energy(self, index: int, key: bytes, before: Energy | None,  # noqa: ARG002 - a rule of conservation
                now: Energy | None) -> None:
        old, new, account, entries = before or _NO_ENERGY, now or _NO_ENERGY, index << 32 | self.accounts, self.entries
        if new.minted != old.minted:
            entries += (account, new.minted - old.minted)
        if new.burned != old.burned:
            entries += (account + 1, new.burned - old.burned)
        if new.supplied != old.supplied:
            entries += (account + 2, new.supplied - old.supplied)
        if new.taken != old.taken:
            entries += (account + 3, new.taken - old.taken)
        if new.received != old.received:
            entries += (account + 4, new.received - old.received)
        if new.delivered != old.delivered:
            entries += (account + 5, new.delivered - old.delivered)

    def _lot(self, index: int, key: bytes, before: Lot | None, now: Lot | None) -> None:
        minted = 0
        if now is not None:
            minted = now.minted_wh
            if minted < now.delivered_wh or minted < now.claimed_wh or now.delivered_wh < 0 or now.claimed_wh < 0:
                self.impossible.append(index)
        elif self.session.get(bytes((Space.SETTLEMENT,)) + key[1:]) is None:
            return      # the whole window leaves state
        change = minted - (before.minted_wh if before is not None else 0)
        if change:
            self.entries += (index << 32 | self.lots, change)

    def _traded(self, index: int, key: bytes, before: Traded | None, now: Traded | None) -> None:  # noqa: ARG002
        at = index << 32
        for traded, sign in ((before, 1), (now, -1)):
            if traded is not None and (traded.sale_uthb or traded.collateral_uthb):
                self.entries += (at | self.proceeds, sign * traded.sale_uthb,
                                 at | self.collateral, sign * traded.collateral_uthb)

    def _reading(self, index: int, key: bytes, before: Reading | None, now: Reading | None) -> None:  # noqa: ARG002
        """Nothing that the meter cannot do."""
        if now is None:
            return
        meter: Meter = self.session.get(_METER + key[5:])
        if meter.boundary:
            edge: BoundaryMeter = self.session.get(spaces.boundary(meter.zone, int.from_bytes(key[5:], "big")))
            most_in, most_out = edge.import_w // 4, edge.export_w // 4
        else:
            most_in, most_out = meter.injection_w // 4, meter.withdrawal_w // 4
        if not 0 <= now.injected_wh <= most_in or not 0 <= now.withdrawn_wh <= most_out:
            self.impossible.append(index)

    def settled(self, index: int, before: Settling, now: Settling) -> None:
        """The identity of every window that this block has settled to the end."""
        for window in range(before.window or now.window, now.window):
            group = index << 32 | self.groups(_WINDOW, window)
            for zone_key, _ in self.session.scan(bytes((Space.ZONE,))):
                b: Balance | None = self.session.get(spaces.balance(window, zone_key[1]))
                if b is not None:
                    self.entries += (group, b.minted + b.supplied - b.consumed - b.losses - b.taken)

    def trade(self, index: int, trade: Trade) -> None:
        """A trade delivers no more than was injected less the losses on its path (MARKET 5)."""
        if trade.delivered_wh > trade.injected_wh * (PPM - _path_loss(self.session, trade)) // PPM:
            self.impossible.append(index)


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
