"""Looks on from outside: the status of every node each second, and every final block as it is pushed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field

from gridtokenx.client import BlockPush, Client, ClientError, connect
from testnet.layout import Peer

POLL_S = 1.0
RETRY_S = 0.5
RECENT_BLOCKS = 12
RECENT_FLAGS = 3
SETTLEMENT_S = 3.0
SEARCHED_WINDOWS = 96


@define(eq=False)
class NodeView:
    """One node as last seen; `status` is None while it does not answer, `problem` says why.

    `answered` tells a node that is down from one that is still starting.
    """

    peer: Peer
    status: dict[str, Any] | None = None
    problem: str = "not started"
    client: Client | None = None
    answered: bool = False

    @property
    def lack(self) -> str:
        """Why there is no status."""
        return "DOWN" if self.answered else "starting"

    @property
    def height(self) -> int:
        return int(self.status["height"]) if self.status is not None else -1

    async def follow(self) -> None:
        """Keeps `status` fresh, over connections that are made anew as often as they break."""
        while True:
            try:
                async with connect([self.peer.address], timeout_s=3) as client:
                    self.client = client
                    while True:
                        self.status, self.problem, self.answered = await client.status(), "", True
                        await trio.sleep(POLL_S)
            except ClientError as error:
                self.client, self.status, self.problem = None, None, str(error)
            await trio.sleep(RETRY_S)


@define
class ZoneView:
    """Trade of one zone since the start, and the average price of its latest block with trade, mTHB/kWh."""

    traded_wh: int = 0
    value_uthb: int = 0
    last_mthb: int = 0


@define
class ChainView:
    """The chain since the start of this run, block by block, whichever node tells it."""

    height: int = 0
    produced: Counter[str] = field(factory=Counter)
    blocks: list[BlockPush] = field(factory=list)
    """The latest, oldest first."""
    block_count: int = 0
    transactions: int = 0
    failed: int = 0
    trades: int = 0
    traded_wh: int = 0
    value_uthb: int = 0
    zones: list[ZoneView] = field(factory=list)
    views_skipped: int = 0
    longest_gap_s: float = 0.0
    """Between two final blocks, as they were told to this program."""
    _view: int = -1
    _told_s: float | None = None

    def add(self, block: BlockPush, now_s: float) -> None:
        """Takes a block once, told at `now_s`; those at or below the height seen are left out."""
        if block.height <= self.height:
            return
        if self._told_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._told_s)
        self._told_s = now_s
        if self._view >= 0 and block.view > self._view + 1:
            self.views_skipped += block.view - self._view - 1
        self.height, self._view = block.height, block.view
        self.produced[block.proposer] += 1
        self.block_count += 1
        self.transactions += len(block.ids)
        self.failed += sum(code != 0 for code in block.codes)
        self.trades += block.trades
        self.traded_wh += block.traded_wh
        self.value_uthb += block.value_uthb
        while len(self.zones) < len(block.zones):
            self.zones.append(ZoneView())
        for view, (wh, uthb) in zip(self.zones, block.zones, strict=False):
            if wh:
                view.traded_wh += wh
                view.value_uthb += uthb
                view.last_mthb = round(uthb / wh)       # uTHB per Wh is mTHB per kWh
        self.blocks = [*self.blocks, block][-RECENT_BLOCKS:]


@define
class SettlementView:
    """How far settlement has come, as the first node that answers says; empty before it does."""

    sums: dict[str, Any] = field(factory=dict)
    flags: list[dict[str, Any]] = field(factory=list)
    """The newest, newest first."""
    suspect: dict[str, Any] = field(factory=dict)
    """The likeliest meter of the zone that was flagged last, with its owner's licence; empty where none is found."""


async def follow_settlement(view: SettlementView, addresses: Callable[[], list[str]]) -> None:
    """Asks every few seconds, over connections that are made anew as often as they break."""
    while True:
        try:
            async with connect(addresses(), timeout_s=3) as client:
                while True:
                    view.sums = await client.call("settled")
                    view.flags = await client.call("flags", None, RECENT_FLAGS)
                    view.suspect = await _likely(client, view.flags[0]["zone"]) if view.flags else {}
                    await trio.sleep(SETTLEMENT_S)
        except ClientError:
            await trio.sleep(RETRY_S)


async def _likely(client: Client, zone: int) -> dict[str, Any]:
    meters: list[dict[str, Any]] = (await client.call("suspects", zone, SEARCHED_WINDOWS, 1))["meters"]
    if not meters:
        return {}
    meter: Any = await client.call("meter", meters[0]["meter"])
    holder: Any = await client.call("participant", meter["owner"])
    return {**meters[0], "licence": holder["licence"]}


async def follow_chain(chain: ChainView, addresses: Callable[[], list[str]]) -> None:
    """Feeds `chain` from the first node that answers, going on with the next when that one dies.

    Blocks that were final while no connection stood are asked for by height, so none is missed.
    """
    while True:
        try:
            async with connect(addresses(), timeout_s=3) as client:
                async for block in client.blocks():
                    if chain.height and block.height > chain.height + 1:
                        await _fill(chain, client, block.height)
                    chain.add(block, trio.current_time())
        except ClientError:
            await trio.sleep(RETRY_S)


async def _fill(chain: ChainView, client: Client, until: int) -> None:
    while chain.height + 1 < until:
        blocks = await client.past_blocks(chain.height + 1, min(100, until - chain.height - 1))
        if not blocks:
            return
        for block in blocks:
            chain.add(block, trio.current_time())
