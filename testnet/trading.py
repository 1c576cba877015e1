"""The trading program: 200 households that forecast, order, cancel and confirm, through the public interface alone.

    python -m testnet.trading --node ADDRESS [--node ADDRESS ...] [--households 200] [--seed 1]

Prints one JSON object a second (`Report`), the last with phase `done`; SIGTERM makes it stop ordering, wait for
what is in flight and end. It shares no process, file or key with the nodes.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from typing import Any

import click
import numpy as np
import trio
from attrs import define, field

from gridtokenx._native.orderbook import Force
from gridtokenx._native.orderbook import Side as OrderSide
from gridtokenx.errors import GridTokenXError, leaves
from gridtokenx.ledger.genesis import Genesis, decode_genesis
from gridtokenx.ledger.operations import CancelOrder, Deposit, PlaceOrder, Transfer, Withdraw
from gridtokenx.ledger.receipts import Code
from gridtokenx.network.framing import shielded
from gridtokenx.units import UTHB_PER_THB, WINDOW_SECONDS, window_at
from testnet.agents import Agent
from testnet.enrolment import DEPOSIT_UTHB, Enrolled, enrol, enrol_grid
from testnet.households import load_households
from testnet.keys import testnet_key
from testnet.link import Link, Sent
from testnet.metering import Metering, first_to_report, report_all
from testnet.park import Certificates, park_of
from testnet.quotes import Act, Prices, Quote, Side, quotes

REPORT_S = 1.0
DRAIN_S = 20.0
"""Without any progress: what was sent comes to its end as long as blocks come, at the latest by expiring."""
LONGEST_DRAIN_S = 600.0
PAYOUT_UTHB = 5 * UTHB_PER_THB
SHORT_OF_MONEY = (Code.UNFUNDED, Code.UNFUNDED_FEE)
RENEWABLE_PROFILE = 1       # of genesis
ASKING = 4                  # every so many households buy renewable energy only [P]
GATE_WINDOWS = 1            # trading of a window ends one window before its delivery (MARKET 2)


@define
class Flow:
    """Orders sent so far."""

    bids: int = 0
    offers: int = 0
    bid_wh: int = 0
    offer_wh: int = 0
    immediate: int = 0
    cancels: int = 0
    windows: int = 0


@define(eq=False)
class Clock:
    """Market time as this program reckons it from what a node said: `at_s` + rate x time since."""

    market_s: float
    rate: int
    read_s: float

    def now_s(self) -> float:
        return self.market_s + self.rate * (trio.current_time() - self.read_s)

    async def until(self, market_s: float) -> None:
        await trio.sleep(max(0.0, (market_s - self.now_s()) / self.rate))


@define(eq=False)
class Trader:
    """The whole program."""

    link: Link
    count: int
    seed: int
    thief: int | None = None
    """Index of a household whose meter shows too little."""
    flow: Flow = field(factory=Flow)
    metering: Metering | None = None
    phase: str = "connecting"
    deposited_uthb: int = 0
    withdrawn_uthb: int = 0
    _agents: list[Agent] = field(factory=list)
    _issuer: Agent = field(init=False)
    _clock: Clock = field(init=False)
    _genesis: Genesis = field(init=False)
    _stop: trio.Event = field(factory=trio.Event)

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises GridTokenXError if the households cannot be brought onto the chain."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self._signals)
            nursery.start_soon(self._reports)
            async with trio.open_nursery() as work:
                work.start_soon(self._trade, work)
                await self._stop.wait()
                self.phase = "stopping"
                work.cancel_scope.cancel()
            await self._drain()
            self.phase = "done"
            self._print()
            nursery.cancel_scope.cancel()

    async def _signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self._stop.set()

    async def _drain(self) -> None:
        """Lets everything in flight come to its end."""
        began_s = moved_s = trio.current_time()
        seen = (-1, -1)
        while self.link.pending and trio.current_time() < min(moved_s + DRAIN_S, began_s + LONGEST_DRAIN_S):
            now = (self.link.height, self.link.pending)
            if now != seen:
                seen, moved_s = now, trio.current_time()
            await trio.sleep(0.05)

    # ------------------------------------------------------------ reports

    async def _reports(self) -> None:
        while True:
            self._print()
            await trio.sleep(REPORT_S)

    def _print(self) -> None:
        link, flow = self.link, self.flow
        refused: Counter[str] = link.refused
        json.dump({
            "phase": self.phase, "node": link.connected_to, "reconnects": max(0, link.reconnects),
            "bids": flow.bids, "offers": flow.offers, "bid_wh": flow.bid_wh, "offer_wh": flow.offer_wh,
            "immediate": flow.immediate, "cancels": flow.cancels, "windows": flow.windows,
            "finals": link.finals, "failed": dict(link.failed), "refused": dict(refused), "pending": link.pending,
            "nonce_recoveries": sum(agent.recoveries for agent in self._agents),
            "latencies": len(link.latencies), "p50_ms": link.latencies.quantile_ms(0.5),
            "p99_ms": link.latencies.quantile_ms(0.99), "most_ms": link.latencies.most_ms(),
            "deposited_uthb": self.deposited_uthb, "withdrawn_uthb": self.withdrawn_uthb, "metering": self._metered(),
        }, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()

    def _metered(self) -> dict[str, Any]:
        if self.metering is None:
            return {}
        tally = self.metering.tally
        thief = next((one for one in self.metering.enrolled if one.household.index == self.thief), None)
        return {
            "reported": tally.reported, "refused": tally.refused, "windows": tally.windows,
            "hidden_wh": tally.hidden_wh,
            "by_window": {str(window): shown for window, shown in tally.by_window.items()},
            "incomplete": tally.incomplete,
            "thief": None if thief is None else {"household": thief.household.index, "meter": thief.meter,
                                                 "zone": thief.household.zone},
        }

    # ------------------------------------------------------------ trading

    def _agent(self, name: str, chain_id: bytes, fee_uthb: int) -> Agent:
        agent = Agent(testnet_key(name), chain_id, self.link, fee_uthb)
        self._agents.append(agent)
        return agent

    async def _trade(self, nursery: trio.Nursery) -> None:
        raw: Any = await self.link.call("genesis")
        self._genesis = decode_genesis(raw)
        status: Any = await self.link.call("status")
        parameters: Any = await self.link.call("parameters")
        chain_id, fee_uthb = status["chain_id"], parameters["min_fee_uthb"]
        # The block's market time is as old as the block; the wall clock of this machine says how old.
        age_s = max(0.0, time.time() - status["timestamp_ms"] / 1000)
        self._clock = Clock(status["market_time_s"] + status["market_rate"] * age_s, status["market_rate"],
                            trio.current_time())
        self._issuer = self._agent("issuer", chain_id, fee_uthb)
        registrar = self._agent("registrar", chain_id, fee_uthb)

        def tell(text: str) -> None:
            self.phase = text

        households = load_households(self.count)
        zones = [zone.name for zone in self._genesis.zones]
        boundaries, grid_uthb = await enrol_grid(
            self._genesis, self._issuer, registrar, int(self._clock.now_s()) * 1000, tell)
        enrolled, self.deposited_uthb = await enrol(
            [*households, park_of(households)], zones, self._issuer, registrar, int(self._clock.now_s()) * 1000, tell)
        self.deposited_uthb += grid_uthb
        collector = self._agent("collector", chain_id, fee_uthb)
        self.metering = Metering(collector, self._genesis, enrolled, boundaries, self.seed, self.thief)
        first = await first_to_report(collector, window_at(int(self._clock.now_s())))
        nursery.start_soon(report_all, self.metering, first, self._clock.until, nursery)
        self.phase = "trading"
        *enrolled, park = enrolled
        agents = [self._agent(f"household {one.household.index}", chain_id, fee_uthb) for one in enrolled]
        nursery.start_soon(self._pay_out, self._issuer, agents)
        certificates = Certificates(self._agent(f"household {park.household.index}", chain_id, fee_uthb), park.meter,
                                    agents)
        nursery.start_soon(certificates.run, WINDOW_SECONDS / self._clock.rate)
        while True:
            await self._window(nursery, enrolled, agents, parameters)

    def _prices(self, zone: str, rates: dict[str, Any], parameters: dict[str, int]) -> Prices:
        """What a household of `zone` pays and gets without a trade at `rates`, and what the zone's wires cost."""
        wheel = next(entry.wheel_uthb_kwh for entry in self._genesis.zones if entry.name == zone)
        return Prices(buyback_mthb=-(-rates["buy_back_uthb_kwh"] // 1000),
                      retail_mthb=rates["reference_uthb_kwh"] // 1000, wheeling_mthb=-(-wheel // 1000),
                      fee_ppm=parameters["fee_ppm"])

    async def _window(self, nursery: trio.Nursery, enrolled: list[Enrolled], agents: list[Agent],
                      parameters: dict[str, int]) -> None:
        """One trading interval: orders for the window whose gate closes at its end."""
        present = window_at(int(self._clock.now_s()))
        start_s, target = present * WINDOW_SECONDS, present + 1 + GATE_WINDOWS
        rates: Any = await self.link.call("rates", target)
        for one, agent in zip(enrolled, agents, strict=True):
            chance = np.random.default_rng([self.seed, target, one.household.index])
            planned = quotes(one.household, target, self._prices(one.household.zone, rates, parameters), chance)
            # Started in the midst of an interval: what should have happened by now is left out.
            planned = [quote for quote in planned if start_s + quote.at * WINDOW_SECONDS > self._clock.now_s()]
            if planned:
                nursery.start_soon(self._household, one, agent, target, start_s, planned)
        self.flow.windows += 1
        await self._clock.until(start_s + WINDOW_SECONDS)

    async def _household(self, one: Enrolled, agent: Agent, window: int, start_s: int, planned: list[Quote]) -> None:
        last: Sent | None = None
        for quote in planned:
            await self._clock.until(start_s + quote.at * WINDOW_SECONDS)
            if quote.act is Act.REQUOTE and last is not None:
                order = await self._order_of(last)
                if order is None:
                    continue
                self.flow.cancels += 1
                # The replacement rests on what the cancel frees, which can be used from the next block on.
                await agent.do([CancelOrder(order)])
            last = await agent.do([self._order(one, window, quote)])
            if last.code in SHORT_OF_MONEY:
                await self._top_up(agent)

    async def _top_up(self, agent: Agent) -> None:
        """Another deposit for a household whose money is bound in trades that are not settled yet."""
        with shielded(DRAIN_S):
            sent = await self._issuer.do([Deposit(agent.key.public, DEPOSIT_UTHB, b"top up")])
            self.deposited_uthb += DEPOSIT_UTHB if sent.ok else 0

    async def _order_of(self, sent: Sent) -> int | None:
        """The id of the order that a final transaction placed; None if it failed or nothing rests."""
        if not sent.ok:
            return None
        state: Any = await self.link.call("transaction", sent.signed.id)
        order, _, resting_wh, _ = state["receipts"][0][1]
        return order if resting_wh else None

    def _order(self, one: Enrolled, window: int, quote: Quote) -> PlaceOrder:
        immediate = quote.act is Act.TAKE
        self.flow.immediate += immediate
        if quote.side is Side.BUY:
            self.flow.bids += 1
            self.flow.bid_wh += quote.quantity_wh
        else:
            self.flow.offers += 1
            self.flow.offer_wh += quote.quantity_wh
        asks = quote.side is Side.BUY and one.household.index % ASKING == 0
        return PlaceOrder(one.meter, window, OrderSide.BUY if quote.side is Side.BUY else OrderSide.SELL,
                          quote.limit_mthb, quote.quantity_wh, Force.IOC if immediate else Force.GOOD_TILL_GATE,
                          profile=RENEWABLE_PROFILE if asks else 0)

    async def _pay_out(self, issuer: Agent, agents: list[Agent]) -> None:
        """Once a window a household has some THB paid out: it transfers to the issuer, who withdraws."""
        turn = 0
        while True:
            await trio.sleep(WINDOW_SECONDS / self._clock.rate)
            paid = await agents[turn % len(agents)].do([Transfer(issuer.key.public, PAYOUT_UTHB, b"pay out")])
            turn += 1
            if paid.ok:
                with shielded(DRAIN_S):  # counted even when the program stops meanwhile
                    sent = await issuer.do([Withdraw(PAYOUT_UTHB, b"paid out")])
                    self.withdrawn_uthb += PAYOUT_UTHB if sent.ok else 0


@click.command()
@click.option("--node", "nodes", multiple=True, required=True, help="Address of a node; more are tried in turn.")
@click.option("--households", type=click.IntRange(2, 200), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--theft", "thief", type=click.IntRange(0, 199), help="Household whose meter shows too little.")
def main(nodes: tuple[str, ...], households: int, seed: int, thief: int | None) -> None:
    """Trade for the testnet's households, and report their meters' readings, until SIGTERM."""
    try:
        trio.run(Trader(Link(list(nodes)), households, seed, thief).run)
    except* GridTokenXError as group:
        for error in leaves(group):
            click.echo(f"trading program: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
