"""The live picture of a running testnet: a full-screen view on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gridtokenx.cli import output
from testnet.layout import AUTHORITIES, OBSERVER
from testnet.watch import ChainView, NodeView, SettlementView


@define
class Picture:
    """All that is shown, read anew for each frame."""

    nodes: Sequence[NodeView]
    chain: ChainView
    trading: dict[str, Any]
    """The trading program's latest report, empty before the first."""
    zones: Sequence[str]
    messages: list[str]
    started_s: float
    settlement: SettlementView = field(factory=SettlementView)
    explorer: str = ""
    """Where to look with a browser."""

    def message(self, text: str) -> None:
        self.messages = [*self.messages, text][-5:]

    # ------------------------------------------------------------ parts

    def _head(self) -> NodeView | None:
        answering = [node for node in self.nodes if node.status is not None]
        return max(answering, key=lambda node: node.height, default=None)

    def _clock(self) -> str:
        head = self._head()
        if head is None or head.status is None:
            return "no node answers yet"
        status = head.status
        return (f"market clock {output.moment(status['market_time_s'])[:16]} (x {status['market_rate']})   "
                f"delivering {output.window(status['window'])[11:]}")

    def _nodes(self) -> Table:
        table = Table(expand=True, box=None, pad_edge=False)
        for name in ("peer", "role", "height", "view", "state root", "peers", "pending", "blocks made"):
            table.add_column(name, justify="left" if name in ("peer", "role", "state root") else "right")
        for node in self.nodes:
            shown = AUTHORITIES.get(node.peer.name, node.peer.name)
            made = self.chain.produced.get(shown, 0)
            if node.status is None:
                if node.peer.name != OBSERVER or node.problem != "not started":
                    style = "bold red" if node.answered else "dim"
                    table.add_row(shown, Text(node.lack, style=style), "", "", "", "", "", str(made))
                continue
            status = node.status
            table.add_row(shown, "validator" if status["authority"] else "observer", str(status["height"]),
                          str(status["view"]), status["state_root"].hex()[:12], str(status["peers"]),
                          str(status["pending_transactions"]), str(made))
        return table

    def _blocks(self) -> Table:
        table = Table(expand=True, box=None, pad_edge=False)
        for name in ("block", "producer", "tx", "trades", "kWh", "hash"):
            table.add_column(name, justify="left" if name in ("producer", "hash") else "right")
        for block in reversed(self.chain.blocks[-8:]):
            table.add_row(str(block.height), block.proposer, str(len(block.ids)), str(block.trades),
                          f"{block.traded_wh / 1000:.1f}", block.hash.hex()[:12])
        return table

    def _zones(self) -> Table:
        table = Table(expand=True, box=None, pad_edge=False)
        for name in ("zone", "last THB/kWh", "average", "kWh traded"):
            table.add_column(name, justify="left" if name == "zone" else "right")
        for name, zone in zip(self.zones, self.chain.zones, strict=False):
            average = f"{zone.value_uthb / zone.traded_wh / 1000:.2f}" if zone.traded_wh else "-"
            last = f"{zone.last_mthb / 1000:.2f}" if zone.last_mthb else "-"
            table.add_row(name, last, average, f"{zone.traded_wh / 1000:,.1f}")
        return table

    def _flow(self) -> str:
        report = self.trading
        if not report:
            return "trading program: not started"
        if report["phase"] != "trading":
            return f"trading program: {report['phase']}"
        return (f"orders: {report['bids']:,} bids ({output.kwh(report['bid_wh'])}), {report['offers']:,} offers "
                f"({output.kwh(report['offer_wh'])}), {report['immediate']:,} of them IOC, {report['cancels']:,} "
                f"cancels; {report['pending']} in flight, {sum(report['refused'].values())} refused")

    def _confirmation(self) -> str:
        report = self.trading
        if not report or not report["latencies"]:
            return "confirmation: nothing measured yet"
        return (f"confirmation p50 {report['p50_ms']:.0f} ms, p99 {report['p99_ms']:.0f} ms, most "
                f"{report['most_ms']:.0f} ms (submission to finality, {report['latencies']:,} transactions)")

    def _totals(self) -> str:
        chain = self.chain
        return (f"{chain.transactions:,} transactions final in {chain.block_count:,} blocks; {chain.trades:,} trades, "
                f"{chain.traded_wh / 1000:,.1f} kWh, {output.thb_short(chain.value_uthb)}; "
                f"{chain.views_skipped} views without a block")

    def _settlement(self) -> str:
        sums = self.settlement.sums
        if not sums or not sums["windows"]:
            return "settlement: no window yet; the first comes an hour of the market clock after its delivery"
        net = sums["taken_wh"] - sums["supplied_wh"]
        exact = "exact" if not sums["inexact"] else f"{len(sums['inexact'])} WINDOWS DO NOT BALANCE"
        until = output.window(sums["next_window"] - 1)[17:]
        return (f"settled {sums['windows']} windows until {until}: minted {sums['minted_wh']:,} = consumed "
                f"{sums['consumed_wh']:,} + losses {sums['losses_wh']:,} + net to grid {net:,} Wh, {exact}")

    def _flags(self) -> str:
        flags = self.settlement.flags
        if not flags:
            return "no flags: metered electricity adds up in every zone" if self.settlement.sums else ""
        first, suspect = flags[0], self.settlement.suspect
        name = self.zones[first["zone"]] if first["zone"] < len(self.zones) else first["zone"]
        whose = "" if not suspect else (f"; likely meter {suspect['meter']} ({suspect['licence']}), explains "
                                        f"{suspect['share_ppm'] / 10_000:.1f} %")
        return (f"FLAGGED {self.settlement.sums['flags']} times, the last in {name}: {first['residual_wh']:,} Wh "
                f"missing {output.window(first['window'])[11:]}{whose}")

    # ------------------------------------------------------------ whole

    def screen(self, now_s: float) -> RenderableType:
        """For a terminal."""
        wide = Table.grid(expand=True, padding=(0, 2))
        wide.add_column(ratio=1)
        wide.add_column(ratio=1)
        wide.add_row(Panel(self._blocks(), title="latest blocks"), Panel(self._zones(), title="prices per zone"))
        return Group(
            Text(f"GridTokenX testnet   {now_s - self.started_s:5.0f} s   {self._clock()}", style="bold"),
            Panel(self._nodes(), title="peers"), wide, Text(self._confirmation()), Text(self._flow()),
            Text(self._totals()), Text(self._settlement()),
            Text(self._flags(), style="bold red" if self.settlement.flags else "green"),
            *[Text(message, style="yellow") for message in self.messages],
            Text(f"Ctrl-C stops everything   {self.explorer}", style="dim"))

    def line(self, now_s: float) -> str:
        """For a log or a pipe: the same facts in plain lines."""
        nodes = "  ".join(
            f"{node.peer.name} {node.lack if node.status is None else node.height}"
            for node in self.nodes if node.status is not None or node.problem != "not started")
        made = "  ".join(f"{name} {self.chain.produced.get(name, 0)}" for name in AUTHORITIES.values())
        prices = "  ".join(f"{name} {zone.last_mthb / 1000:.2f}"
                           for name, zone in zip(self.zones, self.chain.zones, strict=False) if zone.last_mthb)
        head = self._head()
        status = head.status if head is not None else None
        clock = output.moment(status["market_time_s"])[11:] if status is not None else "-"
        return (f"[{now_s - self.started_s:4.0f} s, market {clock}] heights: {nodes} | blocks by: {made}\n"
                f"        {self._confirmation()}; {self._totals()}\n"
                f"        {self._flow()} | THB/kWh: {prices or 'no trade yet'}\n"
                f"        {self._settlement()}" + (f"; {self._flags()}" if self._flags() else ""))
