"""An adversary's stream: all kinds of operations, valid, nearly valid and broken, from accounts of every role, on
chains whose parameters stand at their bounds.

What no stream may do is make a block fail: an operation happens, or fails with a declared code. `Chain.block` holds
a builder against a voter and audits every state; here the state's root is also made anew from all of its keys.
"""

from __future__ import annotations

import random
from typing import Any

from attrs import evolve
from ledger_support import (
    ISSUER,
    OPERATOR,
    REGISTRAR,
    REGULATOR,
    START_MS,
    TAX,
    THB,
    Chain,
    Flat,
    genesis,
    key,
)

from gridtokenx.codec import CodecError
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.grid.kinds import Network, Role, Source, Voltage
from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.certificate_records import Carbon
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.operations import (
    AmendOrder,
    BilateralTrade,
    BuyCertificate,
    CancelOrder,
    Deposit,
    HaltWindows,
    IssueCertificates,
    OfferCertificate,
    PlaceOrder,
    PublishCalendar,
    PublishCarbon,
    PublishRate,
    PublishSchedule,
    PublishTariff,
    RegisterBoundaryMeter,
    RegisterCollector,
    RegisterMeter,
    RegisterParticipant,
    ReportReadings,
    RetireCertificate,
    SetAccountKeys,
    SetCapacity,
    Transfer,
    TransferCertificate,
    Withdraw,
    sign_report,
)
from gridtokenx.ledger.parameters import BY_NAME
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Profile
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import EmptyState
from gridtokenx.ledger.tariff_records import Series
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING, TransactionError
from gridtokenx.market.agreements import Agreement
from gridtokenx.market.clock import window_at
from gridtokenx.market.orders import BUY, SELL, Force, SelfTrade
from gridtokenx.market.reference import window_band

GRID, COLLECTOR = key("grid operator"), key("collector")
UTILITY, NETWORK = key("utility North"), key("network South")
HOUSES = tuple(key(f"house {number}") for number in range(4))
TRADERS = (*HOUSES, UTILITY, NETWORK, TAX)      # participants 1 to 7: duties and trade in one account
EVERYONE = (*TRADERS, GRID, COLLECTOR, ISSUER, REGISTRAR, REGULATOR, OPERATOR)
LINES = ((0, 1, 6_000, 4_000, 250_000, 100_000), (1, 2, 4_000, 4_000, 0, 0), (0, 2, 2_000, 8_000, 9_000, 500_000))
PROFILES = (Profile("solar", 1 << Source.SOLAR, 0b111), Profile("near", 0xFF, 0b001))
ODD: tuple[Any, ...] = (0, 1, -1, 2, 255, 256, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), b"",
                        b"x" * 32, "", "\x00", None, True, [], [[]], [[[]]], {}, {"a": 1})
CHOSEN = ("fee_ppm", "min_fee_uthb", "price_band_ppm", "order_most_wh", "short_cap_mthb_kwh", "max_open_orders",
          "max_credit_uthb", "uncross_fills", "uncross_visits", "breaker_pause_ms", "breaker_least_wh",
          "breaker_participants", "congestion_from_ppm", "congestion_ppm", "renewable_premium_uthb_kwh",
          "monthly_bill_keep_days", "short_penalty_ppm", "tolerance_wh", "tolerance_ppm", "source_default_rate",
          "max_timed_weight", "max_block_weight", "epoch_length")
FEE = 20_000


def adversary_chain(seed: int, *, extreme: bool = True) -> tuple[Chain, Adversary]:
    """A chain with parameters drawn from their bounds, and who will attack it."""
    rng = random.Random(seed)
    changes: dict[str, int] = {"corrections_ms": rng.choice((0, 3_600_000, 5_400_000, 20_000_000))}
    if extreme:
        for name in CHOSEN:
            entry = BY_NAME[name]
            changes[name] = rng.choice((entry.low, entry.high, entry.default, entry.default))
        changes["min_fee_uthb"] = min(changes["min_fee_uthb"], 1_000)
        changes["order_most_wh"] = max(changes["order_most_wh"], 2_000)
        changes["max_block_weight"] = max(changes["max_block_weight"], 20_000)
    supply = rng.choice((SupplyRates(),) * 4 + (SupplyRates(ft=-10_000_000, buy_back=0, vat_ppm=0),
                         SupplyRates(ft=10_000_000, buy_back=10**9, vat_ppm=500_000)))
    base = genesis(grid=3, lines=LINES, profiles=PROFILES, loss_ppm=rng.choice((0, 250_000, 30_000)),
                   wheel=rng.choice((0, 20_000)), rate=600, supply=supply, utility_credit=0, **changes)
    base = evolve(base, carbon=Carbon(((0, 499_900, (0,) * 8, (500_000,) * 8),)), roles=evolve(
        base.roles, regulators=(REGULATOR.public,)))
    chain = Chain(base, tolerated=frozenset({Code.TOO_HEAVY, Code.WRONG_SIGNERS}))
    adversary = Adversary(chain, rng)
    for operations in ([Deposit(who.public, rng.choice((5, 60, 3_000)) * THB) for who in EVERYONE],
                       [RegisterCollector(COLLECTOR.public, 0b111)]):
        chain.send(ISSUER if isinstance(operations[0], Deposit) else REGISTRAR, *operations)
        chain.block()
    credit = min(changes.get("max_credit_uthb", 0), 10 * THB)
    chain.send(REGISTRAR, *[RegisterParticipant(who.public, f"L-{number}", Role.PROSUMER, number % 3,
                                                START_MS + rng.choice((40_000_000, 1 << 50)), rng.choice((0, credit)))
                            for number, who in enumerate(TRADERS)],
               RegisterParticipant(GRID.public, "grid", Role.GRID_OPERATOR, 0, 2 * START_MS))
    chain.block()
    for number in range(9):
        adversary.new_meter(number % len(TRADERS) + 1, number % 3)
    chain.send(REGISTRAR, *[RegisterBoundaryMeter(len(TRADERS) + 1, key(f"edge {zone}").public, zone, -1, 10**6, 10**6)
                            for zone in range(2)])
    chain.block()
    for zone in range(2):
        adversary.meters.append((key(f"edge {zone}"), GRID, zone))
    return chain, adversary


class Adversary:
    """Draws what is sent from the seed and from what it sees of the chain."""

    def __init__(self, chain: Chain, rng: random.Random) -> None:
        self.chain = chain
        self.rng = rng
        self.meters: list[tuple[PrivateKey, PrivateKey, int]] = []      # key, owner, zone; ids from 1
        self.orders: list[int] = []
        self.owners: dict[int, bytes] = {}
        self.salt = 0
        self.codes: dict[Code, int] = {}
        self.kinds: dict[int, int] = {}

    def new_meter(self, participant: int, zone: int) -> None:
        number = len(self.meters)
        signer = key(f"adverse meter {number}")
        watts = self.rng.choice((0, 399, 4_000, 16_000, 8_000_000))
        self.chain.send(REGISTRAR, RegisterMeter(
            participant, signer.public, zone, Network.PEA, self.rng.choice((Source.SOLAR, Source.MIXED, Source.WIND)),
            self.rng.randrange(3), watts, self.rng.choice((0, 16_000, 40_000))))
        self.meters.append((signer, TRADERS[participant - 1], zone))

    # ------------------------------------------------------------ one block

    def block(self) -> None:
        rng, chain = self.rng, self.chain
        after_ms = rng.choice((50, 100, 100, 200, 300, 300, 900, 1_700, 3_000))
        if rng.random() < 0.01:
            after_ms = 61_000       # the chain stood still
        after_ms = max(after_ms, chain.genesis.parameters.min_block_interval_ms)
        self.now_ms = chain.now_ms + after_ms * chain.genesis.market_rate
        for _ in range(rng.randrange(14)):
            sender, operations, flags = self.transaction()
            try:
                chain.send(sender, *operations, flags=flags, fee=FEE * len(operations))
            except (CodecError, TransactionError):      # not even a transaction
                continue
        result = chain.block(after_ms, all_of_them=False)
        for transaction in chain.transactions[-1]:
            for fields, outcome in zip(transaction.operations, chain.outcomes(transaction), strict=True):
                self.codes[outcome.code] = self.codes.get(outcome.code, 0) + 1
                if outcome.ok:
                    self.kinds[fields[0]] = self.kinds.get(fields[0], 0) + 1
                    if fields[0] == PlaceOrder.KIND:
                        self.orders.append(outcome.data[0])
                        self.owners[outcome.data[0]] = transaction.sender
        self.orders = self.orders[-60:]
        parameters = chain.genesis.parameters
        assert result.weight <= parameters.max_block_weight + 2 * parameters.max_timed_weight

    def transaction(self) -> tuple[PrivateKey, list[Any], int]:
        rng = self.rng
        if rng.random() < 0.06:
            owner = rng.choice(TRADERS)
            mine = self.of(owner)[:2]
            return owner, [*[CancelOrder(order).fields() for order in mine], *[evolve(
                self.place(owner), time_in_force=Force.GOOD_TILL_GATE, expires_ms=0, minimum_wh=0,
                post_only=True).fields() for _ in range(rng.randrange(1, 3))]], FLAG_ALL_OR_NOTHING
        sender, operation = self.operation()
        entries = [operation.fields()]
        for _ in range(rng.choice((0, 0, 1, 3))):
            entries.append(self.operation(sender)[1].fields())
        if rng.random() < 0.12:
            entry = rng.choice(entries)
            entry[rng.randrange(len(entry))] = rng.choice(ODD)
        if rng.random() < 0.02:
            rng.choice(entries).append(rng.choice(ODD))
        if rng.random() < 0.04:
            sender = rng.choice(EVERYONE)
        return sender, entries, FLAG_ALL_OR_NOTHING if rng.random() < 0.1 else 0

    def operation(self, sender: PrivateKey | None = None) -> tuple[PrivateKey, Any]:
        rng = self.rng
        duties = [self.trade] * 12 + [self.money, self.metering, self.metering, self.certificate, self.certificate]
        who = sender or rng.choice((*TRADERS * 4, GRID, COLLECTOR, COLLECTOR, ISSUER, REGISTRAR, REGULATOR, OPERATOR))
        if who is GRID:
            duties = [self.grid]
        elif who is COLLECTOR:
            duties = [self.metering]
        elif who is REGULATOR:
            duties = [self.tables]
        elif who is REGISTRAR:
            duties = [self.register]
        elif who is OPERATOR:
            duties = [self.grid, *[self.money] * 5]
        elif who is ISSUER:
            duties = [self.money]
        return who, rng.choice(duties)(who)

    # ------------------------------------------------------------ by duty

    def window(self) -> int:
        """Mostly one that is open; at times at its edges, delivered, settled or far."""
        rng = self.rng
        return max(0, window_at(self.now_ms) + rng.choice((2,) * 14 + (3,) * 8 + (4, 1, 0, 96, 671, 672, -1, -3_000)))

    def price(self, window: int) -> int:
        rng = self.rng
        if rng.random() < 0.08:
            return rng.choice((0, 10, 2_200, 1_000_000, 4_005))
        session = Session(self.chain.head, self.chain.head.header.height + 1)
        allowed = window_band(session, self.chain.genesis.parameters, window)
        return (allowed.low + allowed.high) // 20 * 10 + 10 * rng.randrange(-3, 4)

    def meter(self, owner: PrivateKey) -> int:
        mine = [number for number, (_, who, _) in enumerate(self.meters, 1) if who is owner]
        if not mine or self.rng.random() < 0.05:
            return self.rng.randrange(0, len(self.meters) + 3)
        return self.rng.choice(mine)

    def of(self, owner: PrivateKey) -> list[int]:
        return [order for order in self.orders if self.owners[order] == owner.public]

    def place(self, owner: PrivateKey) -> PlaceOrder:
        rng = self.rng
        side = rng.choice((BUY, SELL))
        force = rng.choice((Force.GOOD_TILL_GATE,) * 5 + (Force.GOOD_TILL_TIME,) * 3 + (Force.IOC, Force.FOK))
        market = rng.random() < 0.1
        quantity = rng.choice((100, 200, 500, 1_500, 10_000_000, 150, 0, *[100 * rng.randrange(1, 20)] * 8))
        expires = 0
        window = self.window()
        if force is Force.GOOD_TILL_TIME:
            expires = rng.choice((self.now_ms + 1, self.now_ms, self.now_ms + rng.randrange(10_000_000),
                                  (window - 1) * 900_000))
        return PlaceOrder(self.meter(owner), window, side, 0 if market else self.price(window), quantity, force,
                          max(0, expires), rng.choice((0,) * 6 + (100, 150, quantity)),
                          rng.choice((0,) * 6 + (100, 200, 150, quantity)), rng.choice((0, 0, 0, 0, 1, 2, 3)),
                          rng.choice(tuple(SelfTrade)[:3]), rng.random() < 0.1, market)

    def trade(self, owner: PrivateKey) -> Any:
        rng = self.rng
        kind = rng.random()
        mine = self.of(owner)
        if kind < 0.15:
            return CancelOrder(rng.choice([*mine, *mine, *self.orders, 0, (1 << 63) - 1]))
        if kind < 0.35:
            order = rng.choice([*mine, *mine, *self.orders, 0])
            return AmendOrder(order, self.price(spaces.window_of(order)), 100 * rng.randrange(0, 20),
                              rng.random() < 0.2)
        if kind < 0.45:
            return self.bilateral(owner)
        return self.place(owner)

    def bilateral(self, owner: PrivateKey) -> BilateralTrade:
        rng = self.rng
        number = rng.randrange(1, len(self.meters) + 1)
        mine = self.meter(owner) or 1
        pair = (mine, number) if rng.random() < 0.5 else (number, mine)
        zones = [self.meters[min(end, len(self.meters)) - 1][2] for end in pair]
        path = {(0, 1): (0,), (1, 0): (0,), (1, 2): (1,), (2, 1): (1,), (0, 2): rng.choice(((2,), (0, 1))),
                (2, 0): rng.choice(((2,), (1, 0)))}.get((zones[0], zones[1]), ())
        if rng.random() < 0.08:
            path = rng.choice(((0, 0), (255,), (0, 1, 2), (2, 1, 0, 0, 1, 2)))
        self.salt += rng.random() < 0.9
        window = self.window()
        terms = Agreement(*pair, window, self.price(window), rng.choice((100, 300, 1_000, 150)), path,
                          rng.choice((0, 1 << 40, self.chain.head.header.height + 1)), self.salt.to_bytes(4, "big"))
        other = self.meters[number - 1][1]
        signers = [] if other is owner else [other]
        return BilateralTrade(terms, tuple(terms.sign(signer, self.chain.genesis.chain_id) for signer in signers))

    def money(self, owner: PrivateKey) -> Any:
        rng = self.rng
        amount = rng.choice((1, 1_000_000, 50 * THB, (1 << 63) - 1, max(1, self.chain.account(owner).balance - FEE)))
        kind = rng.random()
        if owner is ISSUER and kind < 0.7:
            return Deposit(rng.choice(EVERYONE).public, rng.choice((1, THB, 20 * THB, 20 * THB)), b"r")
        if kind < 0.2:
            return Withdraw(amount)
        if kind < 0.3 and owner in HOUSES:
            return rng.choice((SetAccountKeys(1, (owner.public,)), SetAccountKeys(0, ()),
                               SetAccountKeys(1, (b"y" * 32,))))
        return Transfer(rng.choice(EVERYONE).public, amount, rng.choice((b"", b"m" * 64)))

    def metering(self, _: PrivateKey) -> ReportReadings:
        rng = self.rng
        now = window_at(self.now_ms)
        readings = []
        for _ in range(rng.choice((1, 3, 12, 12))):
            number = rng.randrange(1, len(self.meters) + 1)
            revision = rng.choice((0, 0, 0, 1, 2, 3, 65_535))
            energies = [rng.choice(choice) for _ in range(rng.choice((1, 1, 1, 2, 4)))
                        for choice in ((0, 1, 99, 1_000, 4_000, 2_000_000), (0, 1, 300, 4_000, 10_000))]
            readings.append(sign_report(
                self.meters[number - 1][0], self.chain.genesis.chain_id, number,
                max(0, now - rng.choice((0, 1, 1, 1, 2, 2, 3, 5, 6, 7, 9, 30))), energies,
                rng.choice((2, 2, 2, 1)) if revision else rng.choice((0, 0, 0, 1)), revision))
        if rng.random() < 0.05:
            readings[0] = evolve(readings[0], signature=bytes(64))
        return ReportReadings(tuple(readings))

    def certificate(self, owner: PrivateKey) -> Any:
        rng = self.rng
        serial = rng.randrange(1, 8)
        return rng.choice((
            lambda: IssueCertificates(max(1, self.meter(owner)), rng.choice((1, 1, 2, 64))),
            lambda: IssueCertificates(max(1, self.meter(owner)), 1),
            lambda: OfferCertificate(serial, rng.choice((0, 1, THB, (1 << 63) - 1)),
                                     rng.choice((b"", HOUSES[0].public))),
            lambda: BuyCertificate(serial, rng.choice((1, THB, THB))),
            lambda: TransferCertificate(serial, rng.choice((owner.public, HOUSES[1].public, b"z" * 32))),
            lambda: RetireCertificate(serial, "x", "y" * 128)))()

    def grid(self, _: PrivateKey) -> Any:
        rng = self.rng
        window = self.window()
        if rng.random() < 0.8:
            return SetCapacity(rng.randrange(4), window, window + rng.choice((0, 0, 1, 95, 96)),
                               rng.choice((0, 3, 4_000, 100_000, 10**12)), rng.choice((0, 4_000, 100_000)))
        return HaltWindows(window, window + rng.choice((0, 0, 0, 1, 95)), rng.random() < 0.1)

    def tables(self, _: PrivateKey) -> Any:
        rng = self.rng
        since = window_at(self.now_ms) + rng.choice((0, 1, 1, 2, 3, 50, 2_000))
        series = rng.choice(tuple(Series))
        value = {Series.FT: (-10_000_000, 10_000_000, 0, 162_300), Series.BUY_BACK: (0, 10**9, 2_200_000),
                 Series.VAT: (0, 500_000, 70_000)}[series]
        blocks = rng.choice(((), ((1_000, 5), (2_000, 6), (0, 10**9))))
        rate = blocks[0][1] if blocks else rng.choice((0, 10**9, 5_000_000))
        number = rng.randrange(1, 8)
        day = (self.now_ms // 1000 + 7 * 3600) // 86_400
        return rng.choice((
            lambda: PublishRate(series, since, rng.choice((value[-1],) * 4 + value)),
            lambda: PublishTariff(number, f"class {number}", Voltage(0), since, rate, rate, rng.choice((0, 10**12)),
                                  rng.choice((0, 10**12)), blocks),
            lambda: PublishCalendar(2026, tuple(sorted({day + rng.randrange(-1, 60) for _ in range(2)}))),
            lambda: PublishSchedule(since, rng.choice((0, (1 << 24) - 1, 1 << 9)), rng.choice((0, 127, 31))),
            lambda: PublishCarbon(since, rng.choice((0, 10_000_000)), (rng.choice((0, 10_000_000)),) * 8, (5,) * 8)))()

    def register(self, _: PrivateKey) -> Any:
        rng = self.rng
        kind = rng.random()
        if kind < 0.3 and len(self.meters) < 24:
            return RegisterMeter(rng.randrange(1, 11), self.meters[0][0].public, rng.randrange(4), Network.MEA,
                                 Source.WIND, rng.randrange(8), 4_000, 4_000)
        if kind < 0.6:
            return RegisterCollector(rng.choice(EVERYONE).public, rng.choice((0, 1, 7, 8, 65_535)))
        return RegisterParticipant(rng.choice((b"q" * 32, GRID.public)), rng.choice(("L-1", "new")), Role.UTILITY, 0,
                                   self.now_ms + rng.choice((0, 1_000_000)), rng.choice((0, 1, 10**18)))


def check_drains(chain: Chain, blocks: int = 400) -> None:
    """Empty blocks come to the end of what is due: no parameter, and nothing that was sent, leaves it stuck."""
    for _ in range(blocks):
        if not chain.block(100).unfinished:
            return
    raise AssertionError("timed work never ends")


def check_reload(chain: Chain) -> None:
    """The root of a trie made anew of the state's keys alone is the header's."""
    flat = Flat(chain.head)
    root, _ = trie.update(EmptyState().page, trie.EMPTY_ROOT, list(flat.values.items()))
    assert root == chain.head.header.state_root
