"""The load of the metering benchmark: households that trade and report through one node, and its blocks.

A block a window. Every hour it has the meters' reports of the hour before and the households' orders for the four
windows of an hour, one transaction of each; and there are some corrections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from attrs import define, evolve, field

from benchmarks.clock import StageClock
from benchmarks.cluster import GENESIS
from benchmarks.stages import Peer
from gridtokenx.client import Account
from gridtokenx.consensus.interface import Build
from gridtokenx.consensus.messages import Certificate, Kind, vote_content
from gridtokenx.crypto.hashing import Domain
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import tariff_queries
from gridtokenx.ledger.genesis import Genesis, load_genesis
from gridtokenx.ledger.operations import (
    Operation,
    PlaceOrder,
    RegisterBoundaryMeter,
    RegisterCollector,
    RegisterMeter,
    RegisterParticipant,
    ReportReadings,
    SignedReport,
    sign_report,
)
from gridtokenx.ledger.operations.report_readings import MAX_READINGS
from gridtokenx.ledger.receipts import Outcome
from gridtokenx.ledger.transaction import decode_transaction, signatures_verify
from gridtokenx.market.clock import WINDOW_MS, MarketClock
from gridtokenx.market.orders import Force
from gridtokenx.market.orders import Side as OrderSide
from gridtokenx.node.chain import ChainBlock
from testnet.households import Household
from testnet.keys import testnet_key
from testnet.quotes import Prices, Quote, Side, quotes
from testnet.truth import Flow, drawn, supply_point

SEED = 1
MONEY_UTHB = 10**11
CORRECTIONS_MS = 6 * 3_600_000
CORRECTED_AFTER = 12            # windows after delivery: settled by then, not final yet
CORRECTED_ONE_IN = 100
ASKING = 4                      # every so many households buy renewable energy only, as on the testnet
RENEWABLE_PROFILE = 1
BOUNDARY_W = 10_000_000_000
AFTER_START_MS = 60_000         # a window's block: market time after its start
AHEAD, PLANNED = 2, 4           # windows: orders are for those from the next but one on, an hour's at once
CHECKPOINT_BLOCKS = 64          # as a node's default
BATCH = 50                      # operations of a transaction that registers
HOUR = 4                        # windows; a report may cover them all: its first reading still comes in time
FOREVER = 1 << 40
OUTSIDE = "households, meters, signing (outside the count)"


def month_genesis(households: Sequence[Household]) -> Genesis:
    """The testnet's genesis with one authority, six hours of corrections and money for the households."""
    base = load_genesis(GENESIS)
    keys = [testnet_key(f"household {one.index}") for one in households]
    keys += [testnet_key("collector"), testnet_key("grid operator"), testnet_key("registrar")]
    return evolve(base, authorities=base.authorities[:1],
                  parameters=evolve(base.parameters, corrections_ms=CORRECTIONS_MS),
                  accounts=tuple(sorted((key.public, MONEY_UTHB) for key in keys)))


@define(eq=False)
class Home:
    """A household with its account and meter."""

    household: Household
    zone: int
    meter: int
    account: Account


@define
class Counts:
    """What the run came to."""

    windows: int = 0
    readings: int = 0
    boundary_readings: int = 0
    corrections: int = 0
    orders: int = 0
    failed_orders: int = 0
    refused_readings: int = 0
    trades: int = 0
    transactions: int = 0
    blocks: int = 0


@define(eq=False)
class Month:
    """The run: one peer, its market clock and everybody who sends to it."""

    genesis: Genesis
    peer: Peer
    clock: StageClock
    report_windows: int = HOUR
    counts: Counts = field(factory=Counts)
    homes: list[Home] = field(factory=list)
    supply: list[int] = field(factory=list)     # meters of the zones' supply points
    _collector: Account = field(init=False)
    _market: MarketClock = field(init=False)
    _draw: np.random.Generator = field(factory=lambda: np.random.default_rng(SEED))

    def __attrs_post_init__(self) -> None:
        genesis = self.genesis
        self._collector = Account(testnet_key("collector"), genesis.chain_id, 0)
        self._market = MarketClock(genesis.genesis_ms, genesis.market_start_ms, genesis.market_rate)

    # ------------------------------------------------------------ blocks

    def block(self, market_ms: int, raws: Sequence[bytes]) -> ChainBlock:
        """The next block, at a market time, of all these transactions; final at once."""
        clock, chain, genesis = self.clock, self.peer.chain, self.genesis
        if len(chain.finals()) >= CHECKPOINT_BLOCKS:
            self.checkpoint()
        with clock.of("decode transactions"):
            transactions = [decode_transaction(raw) for raw in raws]
        with clock.of("verify transactions"):
            if not all(signatures_verify(chain.chain_id, transactions)):
                raise SystemExit("a signature does not verify")
        header = chain.head.header
        timestamp_ms = genesis.genesis_ms + -(-(market_ms - genesis.market_start_ms) // genesis.market_rate)
        build = Build(0, header.view + 1, chain.head.digest, header.height + 1,
                      max(timestamp_ms, header.timestamp_ms + genesis.parameters.min_block_interval_ms), False)
        with clock.of("execute, other"):
            block = chain.build(build, transactions)
        if block is None or len(block.transactions) != len(raws):
            raise SystemExit(f"block {header.height + 1} left transactions out: {chain.take_refused()}")
        with clock.of(OUTSIDE):
            certificate = self._certificate(block)
        with clock.of("make final"):
            chain.finalize(block.digest, certificate)
        self.counts.blocks += 1
        self.counts.transactions += len(raws)
        assert block.result is not None
        self.counts.trades += len(block.result.trades)
        return block

    def checkpoint(self) -> None:
        with self.clock.of("write checkpoints"):
            stored = self.peer.chain.checkpoint_blocks()
            self.peer.store.checkpoint(stored)
            self.peer.chain.checkpoint_done(len(stored))

    def _certificate(self, block: ChainBlock) -> Certificate:
        header = block.header
        content = vote_content(Kind.FINALIZE, header.epoch, header.view, block.digest)
        signature = testnet_key("egat").sign(Domain.CONSENSUS_VOTE, self.genesis.chain_id, content)
        return Certificate(Kind.FINALIZE, header.epoch, header.view, block.digest, (0,), (signature,))

    def _signed(self, account: Account, *operations: Operation) -> bytes:
        return account.sign(operations, valid_until_height=FOREVER,
                            fee_uthb=len(operations) * self.genesis.parameters.min_fee_uthb).raw

    # ------------------------------------------------------------ registration

    def register(self, households: Sequence[Household]) -> None:
        """Everybody's licences and meters, the collector and the supply points."""
        genesis = self.genesis
        names = [zone.name for zone in genesis.zones]
        expires_ms = genesis.market_start_ms + 400 * 86_400_000
        registrar = Account(testnet_key("registrar"), genesis.chain_id, 0)
        operator = testnet_key("grid operator")
        operations: list[Operation] = [
            RegisterParticipant(testnet_key(f"household {one.index}").public, f"BENCH-{one.index}",
                                Role.PROSUMER if one.pv_w else Role.CONSUMER, names.index(one.zone), expires_ms)
            for one in households]
        operations += [RegisterParticipant(operator.public, "BENCH-GRID", Role.GRID_OPERATOR, 0, expires_ms),
                       RegisterCollector(self._collector.address, (1 << len(names)) - 1)]
        operations += [
            RegisterMeter(number, testnet_key(f"meter {one.index}").public, names.index(one.zone),
                          Network.MEA if one.zone == "Bangkok" else Network.PEA,
                          Source.SOLAR if one.pv_w else Source.MIXED, 0, one.injection_w, one.withdrawal_w)
            for number, one in enumerate(households, 1)]
        operations += [RegisterBoundaryMeter(len(households) + 1, testnet_key(f"supply point {name}").public, zone, -1,
                                             BOUNDARY_W, BOUNDARY_W) for zone, name in enumerate(names)]
        for start in range(0, len(operations), BATCH):
            raw = self._signed(registrar, *operations[start:start + BATCH])
            _expect_good(self.block(genesis.market_start_ms, [raw]))
        self.homes = [Home(one, names.index(one.zone), number,
                           Account(testnet_key(f"household {one.index}"), genesis.chain_id, 0))
                      for number, one in enumerate(households, 1)]
        self.supply = [len(households) + 1 + zone for zone in range(len(names))]

    # ------------------------------------------------------------ a window

    def window(self, window: int, first: int, last: int) -> None:
        """The block of `window`. Windows from `first` to `last` are traded and read."""
        with self.clock.of(OUTSIDE):
            over = range(max(first, window - self.report_windows), min(last + 1, window))
            raws = self._reports(over) if over and (window - first) % self.report_windows == 0 else []
            corrected = window - 1 - CORRECTED_AFTER
            if first <= corrected <= last:
                raws += self._corrections(corrected)
            if (window - first) % PLANNED == -AHEAD % PLANNED:
                raws += self._orders([target for target in range(window + AHEAD, window + AHEAD + PLANNED)
                                      if first <= target <= last])
        block = self.block(window * WINDOW_MS + AFTER_START_MS, raws)
        with self.clock.of(OUTSIDE):
            self._count(block)
        if first <= window <= last:
            self.counts.windows += 1

    def _orders(self, windows: Sequence[int]) -> list[bytes]:
        """One transaction of each household that has anything to trade in `windows`."""
        state = self.peer.chain.state
        planned: dict[int, list[Operation]] = {home.meter: [] for home in self.homes}
        for window in windows:
            rates = tariff_queries.rates(state, window)
            for home in self.homes:
                zone = self.genesis.zones[home.zone]
                prices = Prices(buyback_mthb=-(-rates["buy_back_uthb_kwh"] // 1000),
                                retail_mthb=rates["reference_uthb_kwh"] // 1000,
                                wheeling_mthb=-(-zone.wheel_uthb_kwh // 1000), fee_ppm=self.genesis.parameters.fee_ppm)
                chance = np.random.default_rng([SEED, window, home.household.index])
                planned[home.meter] += [self._order(home, window, quote)
                                        for quote in quotes(home.household, window, prices, chance)[:1]]
        return [self._signed(home.account, *planned[home.meter]) for home in self.homes if planned[home.meter]]

    def _order(self, home: Home, window: int, quote: Quote) -> PlaceOrder:
        self.counts.orders += 1
        buys = quote.side is Side.BUY
        return PlaceOrder(home.meter, window, OrderSide.BUY if buys else OrderSide.SELL, quote.limit_mthb,
                          quote.quantity_wh, Force.GOOD_TILL_GATE,
                          profile=RENEWABLE_PROFILE if buys and home.household.index % ASKING == 0 else 0)

    def _count(self, block: ChainBlock) -> None:
        """What failed: an order for want of money or capacity, or a reading that was refused."""
        for transaction, outcomes in _outcomes(block):
            if transaction == self._collector.address:
                self.counts.refused_readings += sum(len(outcome.data) // 2 for outcome in outcomes)
            else:
                self.counts.failed_orders += sum(not outcome.ok for outcome in outcomes)

    # ------------------------------------------------------------ meters

    def _reports(self, windows: Sequence[int]) -> list[bytes]:
        """What every meter says of windows that follow each other, under one signature of it."""
        energies: defaultdict[str, list[int]] = defaultdict(list)
        for window in windows:
            flows: list[list[Flow]] = [[] for _ in self.genesis.zones]
            for home in self.homes:
                flow = drawn(home.household, window, None, SEED)
                flows[home.zone].append(flow)
                energies[f"meter {home.household.index}"] += (flow.injected_wh, flow.withdrawn_wh)
            for zone, inside in zip(self.genesis.zones, flows, strict=True):
                flow = supply_point(inside, [], zone)
                energies[f"supply point {zone.name}"] += (flow.injected_wh, flow.withdrawn_wh)
        meters = [home.meter for home in self.homes] + self.supply
        self.counts.readings += len(windows) * len(self.homes)
        self.counts.boundary_readings += len(windows) * len(self.supply)
        signed = tuple(sign_report(testnet_key(name), self.genesis.chain_id, meter, windows[0], shown)
                       for meter, (name, shown) in zip(meters, energies.items(), strict=True))
        each = MAX_READINGS // len(windows)
        return [self._signed(self._collector, ReportReadings(signed[start:start + each]))
                for start in range(0, len(signed), each)]

    def _corrections(self, window: int) -> list[bytes]:
        """Some meters had shown a tenth less than was drawn."""
        signed: list[SignedReport] = []
        for home in self.homes:
            if self._draw.random() * CORRECTED_ONE_IN < 1:
                flow = drawn(home.household, window, None, SEED)
                most = home.household.withdrawal_w // 4
                shown = (flow.injected_wh, min(flow.withdrawn_wh * 11 // 10, most))
                signed.append(sign_report(testnet_key(f"meter {home.household.index}"), self.genesis.chain_id,
                                          home.meter, window, shown, 2, 1))
        self.counts.corrections += len(signed)
        return [self._signed(self._collector, ReportReadings(tuple(signed)))] if signed else []


def _outcomes(block: ChainBlock) -> list[tuple[bytes, tuple[Outcome, ...]]]:
    assert block.result is not None
    return [(transaction.sender, receipt.outcomes)
            for transaction, receipt in zip(block.transactions, block.result.receipts, strict=True)]


def _expect_good(block: ChainBlock) -> None:
    for _, outcomes in _outcomes(block):
        for outcome in outcomes:
            if not outcome.ok:
                raise SystemExit(f"an operation failed with code {outcome.code}")
