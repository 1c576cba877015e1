"""The meters of the testnet and the collector that reports them: every reading of each window, signed by its meter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import trio
from attrs import define, field

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.operations import ReportReadings, SignedReport, sign_reading
from gridtokenx.ledger.receipts import Code
from gridtokenx.units import WINDOW_SECONDS
from testnet.agents import Agent
from testnet.enrolment import Boundary, Enrolled
from testnet.keys import testnet_key
from testnet.truth import Flow, corridor_ends, drawn, scheduled, shown, supply_point

BATCH = 64
"""Readings in a transaction: about 6 KiB."""
SAFETY_S = 300
"""Market seconds after a window's end before its readings are sent: blocks' time lags behind this program's."""
MAX_TRADES = 500
RETRY_S = 0.5
MOST_RETRY_S = 4.0
CATCH_UP_WINDOWS = 48


@define
class Tally:
    """What the meters showed, for comparison with what the chain says."""

    reported: int = 0
    refused: int = 0
    windows: int = 0
    hidden_wh: int = 0
    by_window: dict[int, tuple[int, int]] = field(factory=dict)
    """Window -> (injected, withdrawn) as the households' meters showed it, once all of it is on the chain."""
    incomplete: list[int] = field(factory=list)
    """Windows of which the chain did not take every reading in time: it goes by estimates there."""


@define(eq=False)
class Metering:
    """All meters of this run. `thief` is the index of a household whose meter shows a tenth, or None."""

    collector: Agent
    genesis: Genesis
    enrolled: Sequence[Enrolled]
    boundaries: Sequence[Boundary]
    seed: int
    thief: int | None
    tally: Tally = field(factory=Tally)
    _keys: dict[str, PrivateKey] = field(factory=dict)

    async def report(self, window: int) -> None:
        """Reads every meter for `window`, which is over, and hands the readings in."""
        trades: Any = await self.collector.link.call("trades", {"window": window}, MAX_TRADES)
        readings, shown_wh = self.read(window, trades)
        taken = [await self._hand_in(readings[start:start + BATCH]) for start in range(0, len(readings), BATCH)]
        self.tally.windows += 1
        if all(taken):
            self.tally.by_window[window] = shown_wh
        else:
            self.tally.incomplete.append(window)

    async def _hand_in(self, readings: list[SignedReport]) -> bool:
        """Until they are on the chain, or it says that they are too late: its time may lag behind this program's clock,
        a transaction may be lost, and without finality it takes nothing for a while. True iff it took them all."""
        for attempt in count():
            sent = await self.collector.do([ReportReadings(tuple(readings))])
            if sent.ok:
                state: Any = await self.collector.link.call("transaction", sent.signed.id)
                taken, *others = state["receipts"][0][1]
                self.tally.reported += taken
                self.tally.refused += len(others) // 2
                return not others
            if sent.code == Code.READING_KNOWN:         # it was there after all
                return True
            if sent.code == Code.READING_TOO_LATE:
                break
            await trio.sleep(min(MOST_RETRY_S, RETRY_S * (1 + attempt)))
        self.tally.refused += len(readings)
        return False

    def read(self, window: int, trades: Sequence[Any]) -> tuple[list[SignedReport], tuple[int, int]]:
        """What all meters show of `window`, signed; and what the households' show of it, (injected, withdrawn).

        Meters registered after it began measure from the next one on.
        """
        start_ms = window * WINDOW_SECONDS * 1000
        truth: dict[str, list[Flow]] = {zone.name: [] for zone in self.genesis.zones}
        readings: list[SignedReport] = []
        injected = withdrawn = 0
        for one in self.enrolled:
            if one.since_ms > start_ms:
                continue
            household = one.household
            real = drawn(household, window, self.thief, self.seed)
            seen = shown(household, real, self.thief)
            truth[household.zone].append(real)
            self.tally.hidden_wh += real.withdrawn_wh - seen.withdrawn_wh
            injected += seen.injected_wh
            withdrawn += seen.withdrawn_wh
            readings.append(self._signed(f"meter {household.index}", one.meter, window, seen))
        ends: dict[tuple[int, int], Flow] = {}
        flows = scheduled(trades, self.genesis.zones, self.genesis.corridors)
        for number, (corridor, flow) in enumerate(zip(self.genesis.corridors, flows, strict=True)):
            ends[corridor.first, number], ends[corridor.second, number] = corridor_ends(flow, corridor)
        for boundary in self.boundaries:
            if boundary.since_ms > start_ms:
                continue
            if boundary.corridor is None:
                zone = self.genesis.zones[boundary.zone]
                at_corridors = [flow for (zone_id, _), flow in ends.items() if zone_id == boundary.zone]
                flow = supply_point(truth[zone.name], at_corridors, zone)
            else:
                flow = ends[boundary.zone, boundary.corridor]
            readings.append(self._signed(boundary.name, boundary.meter, window, flow))
        return readings, (injected, withdrawn)

    def _signed(self, name: str, meter: int, window: int, flow: Flow) -> SignedReport:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = testnet_key(name)
        return sign_reading(key, self.genesis.chain_id, meter, window, flow.injected_wh, flow.withdrawn_wh)


async def first_to_report(collector: Agent, present: int) -> int:
    """The first window that still waits for readings: those of before this program's start included."""
    settled: Any = await collector.link.call("settled")
    return max(int(settled["next_window"]), present - CATCH_UP_WINDOWS)


async def report_all(metering: Metering, start: int, until: Any, nursery: trio.Nursery) -> None:
    """Every window from `start` on, as soon as it is over; `until(market_s)` waits for a moment of the market clock."""
    window = start
    while True:
        await until((window + 1) * WINDOW_SECONDS + SAFETY_S)
        nursery.start_soon(metering.report, window)
        window += 1
