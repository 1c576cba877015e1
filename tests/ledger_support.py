"""A small chain for tests: blocks are built by one peer and executed by another, which must agree on every root."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from attrs import define, evolve, field

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.grid import thailand
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.build import build_block
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.execute import BlockInputs, BlockResult, execute_block
from gridtokenx.ledger.funds import settled
from gridtokenx.ledger.genesis import Authority, Genesis
from gridtokenx.ledger.genesis_state import ANY_PROFILE, SupplyRates
from gridtokenx.ledger.metering_records import Settling
from gridtokenx.ledger.operations import (
    Deposit,
    Operation,
    RegisterCollector,
    RegisterMeter,
    RegisterParticipant,
    ReportReadings,
    SignedReport,
    sign_report,
)
from gridtokenx.ledger.parameters import REGISTRY, Parameters
from gridtokenx.ledger.receipts import Code, Outcome, Receipt
from gridtokenx.ledger.records import Account, Corridor, Counters, Epoch, Profile, Roles, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import StateView
from gridtokenx.ledger.tariff_records import tariff
from gridtokenx.ledger.transaction import Transaction, decode_transaction, encode_payload, sign_transaction
from gridtokenx.market.book import Books
from gridtokenx.market.clock import WINDOW_MS, MarketClock, window_at
from gridtokenx.market.deadlines import deadline_ms
from gridtokenx.market.loading import window_content

THB = 1_000_000
START_MS = 1_778_464_800_000            # Monday 11 May 2026, 09:00 in Bangkok: on-peak
FEE = 64_000
FAR = 1 << 40
SUPPLY = SupplyRates()
_KEYS: dict[str, PrivateKey] = {}


def key(name: str) -> PrivateKey:
    if name not in _KEYS:
        _KEYS[name] = PrivateKey(name.encode().ljust(32, b"."))
    return _KEYS[name]


ISSUER, REGISTRAR, REGULATOR, OPERATOR, TAX, EGAT = (
    key(name) for name in ("issuer", "registrar", "regulator", "operator", "tax", "egat"))


def parameters(**changes: int) -> Parameters:
    return evolve(Parameters(**{entry.name: entry.default for entry in REGISTRY}), **changes)


Line = tuple[int, int, int, int, int, int]      # from, to, forward_w, backward_w, loss_ppm, uTHB/kWh
ZONES = ("North", "South", "East", "West")


def genesis(*, rate: int = 100, loss_ppm: int = 30_000, wheel: int = 100_000, accounts: int = 10**9 * THB,
            grid: int = 2, lines: tuple[Line, ...] = (), profiles: tuple[Profile, ...] = (),
            supply: SupplyRates = SUPPLY, utility_credit: int = 10**15, **changes: int) -> Genesis:
    """Two zones, or `grid`, and corridors between them; issuer, registrar and regulator have money."""
    zones = tuple(Zone(name, loss_ppm, wheel, key(f"network {name}").public, key(f"utility {name}").public,
                       utility_credit) for name in ZONES[:grid])
    return Genesis(
        name="test", salt="1", genesis_ms=START_MS, market_start_ms=START_MS, market_rate=rate,
        authorities=(Authority("EGAT", EGAT.public),), zones=zones,
        corridors=tuple(Corridor(*line, key(f"network {number}").public) for number, line in enumerate(lines)),
        tariffs=tuple(tariff(entry.name, entry.on_peak_uthb_kwh, entry.off_peak_uthb_kwh)
                      for entry in thailand.TARIFFS),
        holidays=(), roles=Roles((ISSUER.public,), (REGISTRAR.public,), OPERATOR.public, TAX.public,
                                 (REGULATOR.public,)),
        accounts=tuple(sorted((who.public, accounts) for who in (ISSUER, REGISTRAR, REGULATOR))),
        parameters=parameters(**changes), profiles=(ANY_PROFILE, *profiles), supply=supply)


class Flat:
    """A whole state and its trie in two dictionaries, as a checkpoint has it: long chains read it in one step."""

    def __init__(self, view: StateView) -> None:
        layers: list[StateView] = []
        reader: Any = view
        while isinstance(reader, StateView):
            layers.append(reader)
            reader = reader.parent
        known = reader if isinstance(reader, Flat) else None
        self.values: dict[bytes, bytes] = dict(known.values) if known else {}
        self.pages: dict[bytes, bytes] = dict(known.pages) if known else {}
        for layer in reversed(layers):
            for changes, held in ((layer.changes, self.values), (layer.pages, self.pages)):
                for key_, value in changes.items():
                    if value is None:
                        held.pop(key_, None)
                    else:
                        held[key_] = value
        self.keys = sorted(self.values)

    def get(self, key_: bytes) -> bytes | None:
        return self.values.get(key_)

    def page(self, path: bytes) -> bytes | None:
        return self.pages.get(path)

    def last_key(self, prefix: bytes) -> bytes | None:
        return max((key_ for key_ in self.keys if key_.startswith(prefix)), default=None)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for index in range(bisect_left(self.keys, prefix), len(self.keys)):
            if not self.keys[index].startswith(prefix):
                return
            yield self.keys[index], self.values[self.keys[index]]


@define(eq=False)
class Chain:
    """The head of a chain, with a pool of what was sent since the last block.

    Without `twice` blocks are built only: for long chains whose rules other tests hold to. Transactions refused for
    good with a code of `tolerated` are forgotten; any other is an error.
    """

    genesis: Genesis
    twice: bool = True
    tolerated: frozenset[Code] = frozenset()
    head: StateView = field(init=False)
    results: list[BlockResult] = field(factory=list)
    transactions: list[list[Transaction]] = field(factory=list)
    ids: dict[int, int] = field(factory=dict)
    _pool: list[Transaction] = field(factory=list)
    _nonces: dict[bytes, int] = field(factory=dict)
    _builder: Books = field(init=False)
    _voter: Books = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = self.genesis.view()
        self._builder = self.genesis.books()
        self._voter = self.genesis.books()

    # ------------------------------------------------------------ blocks

    def transaction(self, sender: PrivateKey, *operations: Operation | list[Any], fee: int = FEE, flags: int = 0,
                    nonce: int | None = None, until: int = FAR, keys: list[PrivateKey] | None = None) -> Transaction:
        number = self._nonces.get(sender.public, 0) if nonce is None else nonce
        fields = [entry if isinstance(entry, list) else entry.fields() for entry in operations]
        payload = encode_payload(sender.public, number, until, fee, fields, flags)
        return decode_transaction(sign_transaction(self.genesis.chain_id, keys or [sender], payload))

    def send(self, sender: PrivateKey, *operations: Operation | list[Any], **options: Any) -> Transaction:
        made = self.transaction(sender, *operations, **options)
        self._pool.append(made)
        self._nonces[sender.public] = made.nonce + 1
        return made

    def inputs(self, after_ms: int = 200, epoch: int | None = None) -> BlockInputs:
        header = self.head.header
        if epoch is None:
            epoch = Epoch.decode(self.head.get(spaces.EPOCH)).number
        return BlockInputs(header.height + 1, epoch, header.height + 1, header.timestamp_ms + after_ms, EGAT.public,
                           header.hash)

    def block(self, after_ms: int = 200, *, all_of_them: bool = True, epoch: int | None = None) -> BlockResult:
        """Builds a block of what was sent, executes it on the other peer, audits the whole state.

        What could not be included is forgotten; without `all_of_them` that is allowed.
        """
        inputs = self.inputs(after_ms, epoch)
        pool, self._pool = self._pool, []
        result, included, refused = build_block(self.head, inputs, pool, self._builder)
        bad = [(code, why) for _, code, why in refused if code not in self.tolerated]
        assert not bad, bad
        assert len(included) == len(pool) or not all_of_them, "something was left out"
        if self.twice:
            again = execute_block(self.head, inputs, included, self._voter)
            assert again.header == result.header
            assert again.state.changes == result.state.changes
        self.head = result.state
        for transaction in pool:
            if transaction not in included:
                self._nonces[transaction.sender] = min(self._nonces[transaction.sender], transaction.nonce)
        if self.twice:
            self._check_engine(self._builder)
            self._check_engine(self._voter)
        self.results.append(result)
        self.transactions.append(included)
        if result.header.height % 16 == 0:
            self.head.rebase(Flat(self.head))
        if self.twice:
            audit_totals(self.head)
        return result

    def _check_engine(self, books: Books) -> None:
        """Every loaded window equals one loaded from the state: orders, capacities, residuals, flags (CONSENSUS 6)."""
        session = Session(self.head, self.head.header.height + 1)
        for window in books.engine.windows():
            fresh = self.genesis.books(max_orders=4096, max_windows=1).engine
            content = window_content(session, window, len(self.genesis.corridors))
            fresh.load(window, content.records, capacities=content.capacities, residuals=content.residuals,
                       flags=content.flags, work_left=content.work_left)
            assert fresh.digest() == books.engine.digest([window])

    def outcomes(self, *transactions: Transaction) -> list[Outcome]:
        """Of the operations of these transactions in the last block, in their order."""
        found: dict[bytes, Receipt] = {receipt.transaction: receipt for receipt in self.results[-1].receipts}
        return [outcome for transaction in transactions for outcome in found[transaction.id].outcomes]

    def do(self, sender: PrivateKey, *operations: Operation | list[Any], **options: Any) -> list[Outcome]:
        """One transaction in a block of its own; the outcomes."""
        made = self.send(sender, *operations, **options)
        self.block()
        return self.outcomes(made)

    def until(self, market_ms: int) -> None:
        """Empty blocks up to the first one at or after a market time."""
        while self.now_ms < market_ms:
            missing = -(-(market_ms - self.now_ms) // self.genesis.market_rate)
            self.block(max(200, min(missing, 30_000)))

    # ------------------------------------------------------------ meters

    def signed(self, meter: int, window: int, injected: int, withdrawn: int, revision: int = 0,
               quality: int | None = None, signer: PrivateKey | None = None) -> SignedReport:
        """A reading of the household meter with this id, by its own key."""
        return self.signed_report(meter, window, (injected, withdrawn), revision, quality, signer)

    def signed_report(self, meter: int, window: int, energies: tuple[int, ...], revision: int = 0,
                      quality: int | None = None, signer: PrivateKey | None = None) -> SignedReport:
        """Readings of windows that follow each other."""
        return sign_report(signer or key(f"meter {meter - 1}"), self.genesis.chain_id, meter, window, energies,
                           (2 if revision else 0) if quality is None else quality, revision)

    def report(self, window: int, readings: dict[int, tuple[int, int]], revision: int = 0) -> list[Outcome]:
        """All of them in one transaction of a collector, in a block of its own."""
        if self.head.get(spaces.collector(REGISTRAR.public)) is None:
            self.do(REGISTRAR, RegisterCollector(REGISTRAR.public, (1 << len(self.genesis.zones)) - 1))
        return self.do(REGISTRAR, ReportReadings(tuple(
            self.signed(meter, window, injected, withdrawn, revision)
            for meter, (injected, withdrawn) in readings.items())))

    def settle(self, window: int, readings: dict[int, tuple[int, int]]) -> None:
        """Goes on until `window` is settled by `readings`; in it and before it all other meters measured nothing."""
        meters = Counters.decode(self.head.get(spaces.COUNTERS) or b"").meters
        while (at := self.settling.window) <= window:
            self.until((at + 1) * WINDOW_MS)
            measured = readings if at == window else {}
            self.report(at, {meter: measured.get(meter, (0, 0)) for meter in range(1, meters + 1)})
            self.until(deadline_ms(self.settling, at))
            while self.settling.window == at:
                self.block()

    # ------------------------------------------------------------ reading

    @property
    def settling(self) -> Settling:
        return Settling.decode(self.head.get(spaces.SETTLING) or b"")

    @property
    def now_ms(self) -> int:
        clock = MarketClock(self.genesis.genesis_ms, self.genesis.market_start_ms, self.genesis.market_rate)
        return clock.at(self.head.header.timestamp_ms)

    @property
    def window(self) -> int:
        """One that is open for a while."""
        return window_at(self.now_ms) + 4

    def account(self, owner: PrivateKey) -> Account:
        """As the next block sees it."""
        raw = self.head.get(spaces.account(owner.public))
        return Account() if raw is None else settled(Account.decode(raw), self.head.header.height + 1)


def trading_chain(households: int = 4, *, money: int = 1_000 * THB, injection_w: int = 40_000,
                  withdrawal_w: int = 40_000, credit: int = 0, zones: int = 1, **options: Any) -> Chain:
    """A chain with registered households `key("house 0")` ... whose meters have the ids 1, 2, ..."""
    chain = Chain(genesis(**options))
    houses = [key(f"house {number}") for number in range(households)]
    chain.do(ISSUER, *[Deposit(house.public, money) for house in houses])
    chain.do(REGISTRAR, *[
        RegisterParticipant(house.public, f"L-{number}", Role.PROSUMER, number % zones, 2 * START_MS, credit)
        for number, house in enumerate(houses)])
    outcomes = chain.do(REGISTRAR, *[
        RegisterMeter(number + 1, key(f"meter {number}").public, number % zones, Network.PEA, Source.SOLAR, 0,
                      injection_w, withdrawal_w) for number in range(households)])
    assert [outcome.data for outcome in outcomes] == [(number + 1,) for number in range(households)]
    return chain
