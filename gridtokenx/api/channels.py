"""What can be subscribed to: events of each block, which can be told again, and states, which begin with a snapshot.

Every message says which blocks it covers: those above `after`, up to `height`. Heights are the chain's, so that a
client goes on where it was also at another node, and sees a gap by `after` being above the height that it has.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from attrs import define, field

from gridtokenx.api.answers import shaped
from gridtokenx.api.backend import Backend
from gridtokenx.ledger import grid_queries, queries, spaces
from gridtokenx.ledger.market_records import UNTIL_RESUMED, Trading
from gridtokenx.ledger.metering_records import Flag
from gridtokenx.ledger.records import Corridor, CorridorWindow
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.ledger.transaction import decode_transaction
from gridtokenx.market.corridors import declared
from gridtokenx.market.orders import BUY, SELL
from gridtokenx.node.reads import Map, Reads

Levels = dict[int, list[int]]
EVERY = 1 << 30

ALERTING = frozenset({Space.FLAG, Space.TRADING, Space.CORRIDOR_WINDOW, Space.AUTHORITIES})


class BlockFacts:
    """One final block, looked up once for all channels."""

    def __init__(self, reads: Reads, height: int) -> None:
        self.reads = reads
        self.height = height

    @cached_property
    def block(self) -> Map:
        found = self.reads.block(self.height)
        assert found is not None
        return found

    @cached_property
    def senders(self) -> list[bytes]:
        return [decode_transaction(raw).sender for raw in self.reads.block_transactions(self.height)]

    @cached_property
    def trades(self) -> list[Map]:
        return self.reads.trades_of_block(self.height) if self.block["trades"] else []

    @cached_property
    def alerts(self) -> list[Map]:
        return [alert for key, before, after in self.reads.changes(self.height, ALERTING)
                for alert in _alerts(self.reads.view.state, key, before, after)]


@define(eq=False)
class Channel(ABC):
    """One subscription that any number of clients share. `named` is what a client asked for, and stands in messages."""

    named: Map
    after: int
    """Blocks up to here are told."""
    clients: set[Any] = field(factory=set)

    def message(self, kind: str, after: int, height: int, content: Map) -> str:
        return json.dumps(shaped({**self.named, "type": kind, "after": after, "height": height, **content}),
                          ensure_ascii=False, separators=(",", ":"))


class EventChannel(Channel):
    """Tells of single blocks, now or again later."""

    @abstractmethod
    def content(self, facts: BlockFacts) -> Map | None:
        """What the block has for this channel, if anything."""

    def event(self, facts: BlockFacts, after: int) -> str | None:
        found = self.content(facts)
        return None if found is None else self.message("event", after, facts.height, found)


class Blocks(EventChannel):
    def content(self, facts: BlockFacts) -> Map | None:
        return {"block": facts.block}


class Trades(EventChannel):
    """Of all, of a zone, of a window, of an account."""

    account: bytes | None = None

    def content(self, facts: BlockFacts) -> Map | None:
        if not facts.block["trades"]:
            return None
        rows = facts.trades if self.account is None else facts.reads.trades_of_block(facts.height, self.account)
        zone, window = self.named.get("zone"), self.named.get("window")
        rows = [row for row in rows if (zone is None or zone in (row["buy_zone"], row["sell_zone"]))
                and window in (None, row["window"])]
        return {"trades": rows} if rows else None


class Transactions(EventChannel):
    """Those that one account sent."""

    account: bytes = b""

    def content(self, facts: BlockFacts) -> Map | None:
        rows = [{"id": facts.block["transaction_ids"][index], "index": index, "code": facts.block["codes"][index]}
                for index, sender in enumerate(facts.senders) if sender == self.account]
        return {"transactions": rows} if rows else None


class Alerts(EventChannel):
    """Flags of zones that do not add up, halts, changed capacities, another list of authorities."""

    def content(self, facts: BlockFacts) -> Map | None:
        return {"alerts": facts.alerts} if facts.alerts else None


def _alerts(state: StateReader, key: bytes, before: bytes | None, after: bytes | None) -> list[Map]:
    if key[0] == Space.AUTHORITIES:
        return [{"alert": "authorities_changed"}]
    if after is None:
        return []
    window = int.from_bytes(key[1:5], "big")
    if key[0] == Space.FLAG:
        flag = Flag.decode(after)
        return [{"alert": "imbalance_cleared" if flag.cleared else "imbalance", "window": window, "zone": key[5],
                 "residual_wh": flag.residual, "tolerance_wh": flag.tolerance}]
    if key[0] == Space.TRADING:
        was = 0 if before is None else Trading.decode(before).halted_until_ms
        now = Trading.decode(after).halted_until_ms
        if was == now:
            return []
        return [{"alert": "halted" if now else "resumed", "window": window,
                 "until_ms": None if now == UNTIL_RESUMED else now}]
    line = Corridor.decode(state.get(spaces.corridor(key[5])) or b"")
    old, new = declared(line) if before is None else CorridorWindow.decode(before), CorridorWindow.decode(after)
    if (old.forward_wh, old.backward_wh) == (new.forward_wh, new.backward_wh):
        return []
    return [{"alert": "capacity_changed", "window": window, "corridor": key[5], "forward_wh": new.forward_wh,
             "backward_wh": new.backward_wh}]


class StateChannel(Channel):
    """Begins with a snapshot; then tells what became different."""

    @abstractmethod
    def snapshot(self, backend: Backend) -> Map:
        """The whole, as it is told from here on."""

    @abstractmethod
    def update(self, backend: Backend) -> Map | None:
        """What became different since the last snapshot or update; None if nothing."""


class Depth(StateChannel):
    """The book of a zone and window: changed levels as `[price, Wh, orders]`, orders 0 for one that is gone."""

    _told: tuple[Levels, Levels] = ({}, {})

    _begun = False

    def snapshot(self, backend: Backend) -> Map:
        if not self._begun:
            self._told, self._begun = self._now(backend), True
        bids, asks = self._told
        return {"bids": [[price, *bids[price]] for price in sorted(bids, reverse=True)],
                "asks": [[price, *asks[price]] for price in sorted(asks)]}

    def _now(self, backend: Backend) -> tuple[Levels, Levels]:
        depth, zone = backend.depths.now(self.named["window"]), self.named["zone"]
        return ({price: [wh, orders] for price, wh, orders in depth.side(zone, BUY, EVERY)},
                {price: [wh, orders] for price, wh, orders in depth.side(zone, SELL, EVERY)})

    def update(self, backend: Backend) -> Map | None:
        now = self._now(backend)
        changes = [[[price, *now[side].get(price, (0, 0))]
                    for price in sorted({*now[side], *self._told[side]})
                    if now[side].get(price) != self._told[side].get(price)] for side in (0, 1)]
        self._told = now
        return {"bids": changes[0], "asks": changes[1]} if any(changes) else None


class _Whole(StateChannel):
    """Told as a whole whenever it differs."""

    _told: Map | None = None

    @abstractmethod
    def look(self, backend: Backend) -> Map: ...

    def snapshot(self, backend: Backend) -> Map:
        if self._told is None:
            self._told = self.look(backend)
        return self._told

    def update(self, backend: Backend) -> Map | None:
        now = self.look(backend)
        if now == self._told:
            return None
        self._told = now
        return now


class Prices(_Whole):
    """Per zone of a window, with the best bid and ask of its book."""

    def look(self, backend: Backend) -> Map:
        return {"zones": queries.prices(
            backend.reads.view.state, self.named["window"], backend.depths.now(self.named["window"]).side)}


class Grid(_Whole):
    """Zones, corridors and halts of a window."""

    def look(self, backend: Backend) -> Map:
        return grid_queries.grid(backend.reads.view.state, self.named["window"])
