"""One run of the testnet from start to verdict: processes, faults on schedule, what is watched, what is judged."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, evolve, field, frozen
from rich.console import Console
from rich.live import Live

from gridtokenx.client import Client, ClientError, connect
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.genesis import load_genesis
from testnet.dashboard import Picture
from testnet.facts import Facts, Fault, Money, Settled, Theft
from testnet.layout import AUTHORITIES, Peer, Run, port_is_free
from testnet.processes import Child, ProcessError, stop_all
from testnet.settled import settled_facts
from testnet.watch import ChainView, NodeView, follow_chain, follow_settlement

CONNECT_TIMEOUT_S = 120.0
TRADING_STOP_S = 60.0
"""Without a change in what its reports say is in flight."""
CATCH_UP_S = 60.0
NEAR_BLOCKS = 20
SCREEN_S = 0.5
LINES_S = 5.0
MAX_REPORT_BYTES = 1 << 20


class LaunchError(GridTokenXError):
    """A run that could not be brought up."""


@frozen
class Planned:
    """Something done to a peer at a moment of the run, seconds after trading began."""

    at_s: float
    act: str        # kill, restart, observer
    peer: str


@define
class _Watched:
    """What finality did while a peer was away, or how long it took to catch up."""

    name: str
    text: str
    holds: bool = False


@define(eq=False)
class Launcher:
    """Owns every process of the run; `run` leaves none behind, whatever happens."""

    layout: Run
    households: int
    seed: int
    for_s: float | None
    planned: list[Planned]
    quiet: bool = False
    thief: int | None = None
    """Index of the household whose meter shows too little."""
    nodes: dict[str, NodeView] = field(init=False)
    children: dict[str, Child] = field(init=False)
    chain: ChainView = field(factory=ChainView)
    troubles: list[str] = field(factory=list)
    report: dict[str, Any] = field(factory=dict)
    _picture: Picture = field(init=False)
    _no_explorer: str = ""
    _faults: list[_Watched] = field(factory=list)
    _stop: trio.Event = field(factory=trio.Event)
    _trading_s: float = 0.0
    _carried: tuple[int, int] = (0, 0)

    def __attrs_post_init__(self) -> None:
        taken = self.layout.http_address
        if taken and not port_is_free(taken):
            self.layout.http = False
            self._no_explorer = f"no explorer: {taken} is in use"
        self.nodes = {peer.name: NodeView(peer) for peer in self.layout.peers}
        self.children = {peer.name: self.layout.node(peer) for peer in self.layout.peers}
        self.children["trading"] = Child(
            "trading program", [
                sys.executable, "-m", "testnet.trading", "--households", str(self.households), "--seed", str(self.seed),
                *([] if self.thief is None else ["--theft", str(self.thief)]),
                *[part for peer in self.layout.authorities for part in ("--node", peer.address)]],
            self.layout.folder / "logs" / "trading.log", pipe_output=True)
        self._picture = Picture(list(self.nodes.values()), self.chain, {}, [], [], 0.0)
        address = self.layout.http_address
        self._picture.explorer = f"explorer: http://{address}/" if address else self._no_explorer

    # ------------------------------------------------------------ the run

    async def run(self) -> Facts:
        """Brings all up, trades until the time is over or a signal comes, then takes stock and stops everything.

        Raises LaunchError or ProcessError if the network does not come up.
        """
        self._picture.started_s = trio.current_time()
        self._picture.zones = [zone.name for zone in load_genesis(self.layout.genesis).zones]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._signals, nursery.cancel_scope)
                nursery.start_soon(self._show)
                for peer in self.layout.authorities:
                    self.children[peer.name].start()
                    nursery.start_soon(self.nodes[peer.name].follow)
                await self._until_connected()
                nursery.start_soon(follow_chain, self.chain, self._answering)
                nursery.start_soon(follow_settlement, self._picture.settlement, self._answering)
                nursery.start_soon(self._look_after)
                await self._start_trading(nursery)
                self._trading_s = trio.current_time()
                self.chain.longest_gap_s = 0.0          # before there was nothing to finalize but heartbeats
                for planned in self.planned:
                    nursery.start_soon(self._carry_out, planned, nursery)
                with trio.move_on_after(self.for_s if self.for_s is not None else float("inf")):
                    await self._stop.wait()
                await self._stop_trading()
                facts = await self._take_stock()
                nursery.cancel_scope.cancel()
        finally:
            stuck = await stop_all(list(self.children.values()))
        return facts if not stuck else _with_troubles(facts, stuck)

    async def _signals(self, scope: trio.CancelScope) -> None:
        """The first signal ends the run in order; the second at once."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                if self._stop.is_set() or not self._trading_s:
                    scope.cancel()
                    raise LaunchError(f"stopped by {signal.Signals(number).name} before the run was over")
                self._say(f"{signal.Signals(number).name}: stopping; once more to stop at once")
                self._stop.set()

    def _say(self, text: str) -> None:
        self._picture.message(text)
        if not self._screen and not self.quiet:
            print(text, flush=True)

    @property
    def _screen(self) -> bool:
        return sys.stdout.isatty() and not self.quiet

    async def _show(self) -> None:
        if self.quiet:
            return
        if not self._screen:
            while True:
                await trio.sleep(LINES_S)
                print(self._picture.line(trio.current_time()), flush=True)
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._picture.screen(trio.current_time()), refresh=True)
                await trio.sleep(SCREEN_S)

    def _answering(self) -> list[str]:
        """Addresses of the authorities, those that answer first."""
        order = sorted(self.layout.authorities, key=lambda peer: self.nodes[peer.name].status is None)
        return [peer.address for peer in order]

    # ------------------------------------------------------------ coming up

    async def _until_connected(self) -> None:
        self._say(f"starting five validators; logs are in {os.path.relpath(self.layout.folder / 'logs')}")
        if self._picture.explorer:
            self._say(self._picture.explorer)
        others = len(AUTHORITIES) - 1
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            while True:
                for peer in self.layout.authorities:
                    self.children[peer.name].check()
                views = [self.nodes[peer.name] for peer in self.layout.authorities]
                if all(view.status is not None and view.status["peers"] >= others for view in views):
                    self._say(f"all connected after {trio.current_time() - self._picture.started_s:.1f} s")
                    return
                await trio.sleep(0.1)
        lacking = [f"{name}: " + (view.problem if view.status is None else f"{view.status['peers']} of {others} peers")
                   for name, view in self.nodes.items() if name in AUTHORITIES]
        raise LaunchError(f"not connected after {CONNECT_TIMEOUT_S:.0f} s: {'; '.join(lacking)}")

    async def _start_trading(self, nursery: trio.Nursery) -> None:
        """Returns once the households are on the chain and trade."""
        async with connect(self._answering()) as client:
            totals = await client.call("totals")
            self._carried = (totals["minted_uthb"], totals["burned_uthb"])
        self.children["trading"].start()
        nursery.start_soon(self._read_reports)
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            while self.report.get("phase") != "trading":
                self.children["trading"].check()
                await trio.sleep(0.1)
            self._say(f"households trade after {trio.current_time() - self._picture.started_s:.1f} s")
            return
        raise LaunchError(f"no trade after {CONNECT_TIMEOUT_S:.0f} s: the trading program is at "
                          f"{self.report.get('phase', 'its start')!r}; see {self.children['trading'].log}")

    async def _read_reports(self) -> None:
        """One JSON object per line, about one a second."""
        stream = trio.lowlevel.FdStream(os.dup(self.children["trading"].output.fileno()))
        async with stream:
            buffer = b""
            async for part in stream:
                *lines, buffer = (buffer + part).split(b"\n")
                if lines:
                    self.report = self._picture.trading = json.loads(lines[-1])
                if len(buffer) > MAX_REPORT_BYTES:
                    raise LaunchError("the trading program's report has no end")

    async def _look_after(self) -> None:
        """Notes every process that ends by itself; without its trading program a run is over."""
        noted: set[str] = set()
        while True:
            for name, child in self.children.items():
                try:
                    child.check()
                    noted.discard(name)
                except ProcessError as error:
                    if name not in noted:
                        noted.add(name)
                        self.troubles.append(str(error))
                        self._say(str(error))
                        if name == "trading":
                            self._stop.set()
            await trio.sleep(0.2)

    # ------------------------------------------------------------ faults

    async def _carry_out(self, planned: Planned, nursery: trio.Nursery) -> None:
        await trio.sleep_until(self._trading_s + planned.at_s)
        child, view = self.children[planned.peer], self.nodes[planned.peer]
        name = {"kill": f"finality goes on without {planned.peer}", "restart": f"{planned.peer} comes back",
                "observer": "a late observer catches up"}[planned.act]
        fault = _Watched(name, "the run ended first")
        self._faults.append(fault)
        if planned.act == "kill":
            child.kill()
            self._say(f"{planned.peer} killed with SIGKILL")
            await self._finality_without(planned, child, fault)
            return
        head = self.chain.height
        child.start()
        nursery.start_soon(view.follow) if planned.act == "observer" else None
        self._say(f"{planned.peer} started at height {head}")
        await self._catches_up(planned, view, head, fault)

    async def _finality_without(self, planned: Planned, child: Child, fault: _Watched) -> None:
        """As long as the peer is away, blocks and transactions must go on becoming final."""
        blocks, transactions, since = self.chain.block_count, self.chain.transactions, trio.current_time()
        gap_s, last, seen = 0.0, since, self.chain.height
        while not child.running:
            await trio.sleep(0.02)
            now = trio.current_time()
            if self.chain.height > seen:
                last, seen = now, self.chain.height
            gap_s = max(gap_s, now - last)
            made, done = self.chain.block_count - blocks, self.chain.transactions - transactions
            fault.text = (f"{planned.peer} killed with SIGKILL at {planned.at_s:.0f} s; without it {made} blocks with "
                          f"{done:,} transactions became final in {now - since:.1f} s, longest gap {gap_s:.2f} s")
            fault.holds = made > 0 and done > 0

    async def _catches_up(self, planned: Planned, view: NodeView, head: int, fault: _Watched) -> None:
        """From its start until it follows within a few blocks of the others."""
        since = trio.current_time()
        what = "from genesis" if planned.act == "observer" else "after its restart"
        while trio.current_time() - since < CATCH_UP_S:
            away = self.chain.height - view.height
            if view.status is not None and view.height >= head and away <= NEAR_BLOCKS:
                verified = view.status["certificates_verified"]
                fault.text = (f"{planned.peer} started at {planned.at_s:.0f} s with the network at height {head} and "
                              f"caught up {what} in {trio.current_time() - since:.1f} s, at height {view.height}, "
                              f"{verified} certificates verified")
                fault.holds = verified > 0 or planned.act == "restart"
                return
            fault.text = (f"{planned.peer} did not catch up {what}: it is at height {view.height}, the network at "
                          f"{self.chain.height}")
            await trio.sleep(0.05)

    # ------------------------------------------------------------ the end

    async def _stop_trading(self) -> None:
        child = self.children["trading"]
        child.expected_down = True
        child.signal(signal.SIGTERM)
        pending = None
        while self.report.get("pending") != pending:
            pending = self.report.get("pending")
            if await child.wait(TRADING_STOP_S):
                break
        if child.running:
            self.troubles.append(f"the trading program did not end within {TRADING_STOP_S:.0f} s")
            child.kill()
        elif child.exit_code != 0:
            self.troubles.append(f"the trading program ended with {child.exit_code}:\n{child.tail()}")
        await trio.sleep(0.1)               # its last report may still be in the pipe
        if self.report.get("phase") != "done":
            self.troubles.append("the trading program made no final report")
        elif self.report["pending"]:
            self.troubles.append(f"{self.report['pending']} transactions have no known end")

    async def _take_stock(self) -> Facts:
        """Asks every peer that should be up for the state root at one height, and for its money."""
        alive = [view.peer for name, view in self.nodes.items() if self.children[name].running]
        heights: dict[str, int] = {}
        roots: dict[str, bytes] = {}
        money: list[Money] = []

        async def each(peer: Peer, work: Callable[[Client, Peer], Any]) -> None:
            try:
                async with connect([peer.address]) as client:
                    await work(client, peer)
            except ClientError as error:
                self.troubles.append(f"{peer.name} gave no account of itself: {error}")

        async def look(client: Client, peer: Peer) -> None:
            heights[peer.name] = (await client.status())["height"]

        async def compare(client: Client, peer: Peer) -> None:
            block = await client.call("block", common)
            if block is not None:
                roots[peer.name] = block["state_root"]
            totals = await client.call("totals")
            money.append(Money(peer=peer.name, height=totals["height"], genesis_uthb=totals["genesis_uthb"],
                               minted_uthb=totals["minted_uthb"], burned_uthb=totals["burned_uthb"],
                               held_uthb=totals["held_uthb"]))

        for peer in alive:
            await each(peer, look)
        common = min(heights.values(), default=0)
        for peer in alive:
            await each(peer, compare)
        settled: list[tuple[Settled, Theft | None]] = []
        certified: list[dict[str, int]] = []

        async def settlement(client: Client, peer: Peer) -> None:
            settled.append(await settled_facts(client, peer.name, self.report.get("metering", {}), self.households))

        async def add_up(client: Client, _: Peer) -> None:
            certified.append(await client.call("certificate_totals"))

        for peer in alive[:1]:
            await each(peer, settlement)
            await each(peer, add_up)
        report = self.report
        return Facts(
            settled=settled[0][0] if settled else None, theft=settled[0][1] if settled else None,
            authorities=list(AUTHORITIES.values()), produced=dict(self.chain.produced),
            transactions_finalized=self.chain.transactions, longest_gap_s=self.chain.longest_gap_s,
            trades=self.chain.trades, traded_wh=self.chain.traded_wh,
            latencies=report.get("latencies", 0), p50_ms=report.get("p50_ms", 0.0), p99_ms=report.get("p99_ms", 0.0),
            peers=[peer.name for peer in alive], root_height=common, roots=roots, money=money,
            certified=certified[0] if certified else None,
            deposited_uthb=report.get("deposited_uthb", 0), withdrawn_uthb=report.get("withdrawn_uthb", 0),
            carried_minted_uthb=self._carried[0], carried_burned_uthb=self._carried[1],
            refused=dict(Counter(report.get("refused", {})) + Counter(report.get("failed", {}))),
            faults=[Fault(name=fault.name, text=fault.text, holds=fault.holds) for fault in self._faults],
            troubles=list(self.troubles))


def _with_troubles(facts: Facts, more: list[str]) -> Facts:
    return evolve(facts, troubles=[*facts.troubles, *more])
