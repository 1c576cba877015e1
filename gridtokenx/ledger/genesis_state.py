"""Genesis: what a chain begins with. Its canonical bytes hash to the chain's id (DESIGN 4)."""

from __future__ import annotations

from functools import cached_property

from attrs import astuple, define, frozen

from gridtokenx import codec
from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import ZERO_HASH, Domain, digest
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.certificate_records import Carbon, Registry
from gridtokenx.ledger.metering_records import Settling
from gridtokenx.ledger.parameters import BY_NAME, Parameters, encode_parameter
from gridtokenx.ledger.records import (
    Account,
    Authorities,
    Clock,
    Corridor,
    Counters,
    Epoch,
    Identity,
    Peaks,
    Profile,
    Roles,
    Totals,
    Zone,
)
from gridtokenx.ledger.run import authorities_hash
from gridtokenx.ledger.state import EmptyState, StateView
from gridtokenx.ledger.tariff_records import THAI_SCHEDULE, Billing, Calendar, Rate, Schedule, Series, Tariff
from gridtokenx.market.book import Books
from gridtokenx.market.tariffs import year_of

GENESIS_VERSION = 1
MAX_GENESIS_BYTES = 16 << 20
RULES_VERSION = 1


class GenesisError(GridTokenXError):
    """A genesis that names a wrong key or value; the message says which and what is allowed."""


@frozen
class Authority:
    """A validator: short name and Ed25519 public key, in the order of turns."""

    name: str
    public: bytes


@frozen
class SupplyRates:
    """Ft and buy-back rate (uTHB/kWh) and VAT (ppm) from the beginning on; the regulator publishes later ones."""

    ft: int = 162_300
    buy_back: int = 2_200_000
    vat_ppm: int = 70_000


ANY_PROFILE = Profile("any", 0xFF, 0xFFFF)
NO_CARBON = Carbon()


@define(frozen=True, slots=False)
class Genesis:
    """Everything a chain begins with; zones, corridors and tariff classes are numbered by their place, from 0.

    `genesis_ms` is the timestamp of block 0. Market time is `market_start_ms + market_rate x (timestamp - genesis)`.
    `accounts` are (address, balance uTHB), sorted; `parameters` differ from the defaults or repeat them, all listed.
    `profiles` are the filters that buyers may name; the first accepts everything. `carbon` may be without any version.
    """

    name: str
    salt: str
    genesis_ms: int
    market_start_ms: int
    market_rate: int
    authorities: tuple[Authority, ...]
    zones: tuple[Zone, ...]
    corridors: tuple[Corridor, ...]
    tariffs: tuple[Tariff, ...]
    holidays: tuple[int, ...]
    roles: Roles
    accounts: tuple[tuple[bytes, int], ...]
    parameters: Parameters
    profiles: tuple[Profile, ...] = (ANY_PROFILE,)
    supply: SupplyRates = SupplyRates()
    schedule: Schedule = THAI_SCHEDULE
    carbon: Carbon = NO_CARBON

    def canonical(self) -> bytes:
        """The canonical bytes that `chain_id` is the hash of."""
        return codec.encode([
            GENESIS_VERSION, RULES_VERSION, self.name, self.salt, self.genesis_ms, self.market_start_ms,
            self.market_rate, [[authority.name, authority.public] for authority in self.authorities],
            [record.encode() for record in self.zones], [record.encode() for record in self.corridors],
            [record.encode() for record in self.tariffs], list(self.holidays), self.roles.encode(),
            [[address, balance] for address, balance in self.accounts],
            [[parameter.number, getattr(self.parameters, name)] for name, parameter in BY_NAME.items()],
            [record.encode() for record in self.profiles],
            list(astuple(self.supply)), self.schedule.encode(), self.carbon.encode(),
        ])

    @cached_property
    def chain_id(self) -> bytes:
        return digest(Domain.GENESIS, self.canonical())

    @cached_property
    def _view(self) -> StateView:
        state = self.initial_state()
        root, pages = trie.update(EmptyState().page, trie.EMPTY_ROOT, state.items())
        members = self._members()
        header = Header(
            chain_id=self.chain_id, rules_version=RULES_VERSION, epoch=0, view=0, height=0, parent=ZERO_HASH,
            timestamp_ms=self.genesis_ms, proposer=b"", transactions_root=merkle_root([]),
            receipts_root=merkle_root([]), state_root=root, headers_root=mountain_range.root(mountain_range.EMPTY),
            authorities_hash=authorities_hash(members), next_authorities_hash=authorities_hash(members),
            market=tuple((0, 0) for _ in self.zones),
        )
        return StateView(EmptyState(), header, dict(state), pages)

    def header(self) -> Header:
        """Block 0; its hash names the genesis block."""
        return self._view.header

    def view(self) -> StateView:
        """The state after block 0, over nothing: `changes` and `pages` hold all of it."""
        return self._view

    def initial_state(self) -> dict[bytes, bytes]:
        """Every key and value of the state after block 0."""
        state: dict[bytes, bytes] = {
            spaces.IDENTITY: Identity(self.chain_id, RULES_VERSION, self.genesis_ms, self.market_start_ms,
                                      self.market_rate).encode(),
            spaces.CLOCK: Clock(0, self.genesis_ms).encode(),
            spaces.COUNTERS: Counters().encode(),
            spaces.TOTALS: Totals(sum(balance for _, balance in self.accounts), 0, 0).encode(),
            spaces.ROLES: self.roles.encode(),
            spaces.PEAKS: Peaks(mountain_range.EMPTY).encode(),
            spaces.SCHEDULE: self.schedule.encode(),
            spaces.BILLING: Billing().encode(),
            spaces.EPOCH: Epoch(0, self.chain_id, 0, self.parameters.epoch_length).encode(),
            spaces.SETTLING: Settling().encode(),
            spaces.REGISTRY: Registry().encode(),
            spaces.CARBON: self.carbon.encode(),
            spaces.AUTHORITIES: self._members().encode(),
        }
        for number, zone in enumerate(self.zones):
            state[spaces.zone(number)] = zone.encode()
        for number, corridor in enumerate(self.corridors):
            state[spaces.corridor(number)] = corridor.encode()
        for number, tariff in enumerate(self.tariffs):
            state[spaces.tariff(number)] = tariff.encode()
        for number, profile in enumerate(self.profiles):
            state[spaces.profile(number)] = profile.encode()
        for series, rate in ((Series.FT, self.supply.ft), (Series.BUY_BACK, self.supply.buy_back),
                              (Series.VAT, self.supply.vat_ppm)):
            state[spaces.rate(series)] = Rate(((0, rate),)).encode()
        for year in sorted({year_of(day) for day in self.holidays}):
            state[spaces.calendar(year)] = Calendar(
                tuple(day for day in self.holidays if year_of(day) == year)).encode()
        for name in BY_NAME:
            key, value = encode_parameter(name, getattr(self.parameters, name))
            state[key] = value
        for address, balance in self.accounts:
            state[spaces.account(address)] = Account(balance=balance).encode()
        return state

    def _members(self) -> Authorities:
        return Authorities(tuple((authority.name, authority.public) for authority in self.authorities))

    def books(self, *, max_orders: int = 1 << 17, max_windows: int = 2048) -> Books:
        """Empty books over this grid. Raises BookError when the engine refuses it."""
        return Books(
            [(zone.loss_ppm, zone.wheel_uthb_kwh) for zone in self.zones], max_orders, max_windows=max_windows,
            corridors=[(corridor.first, corridor.second, corridor.loss_ppm, corridor.wheel_uthb_kwh)
                       for corridor in self.corridors],
            profiles=[(profile.sources, profile.zones) for profile in self.profiles])


def decode_genesis_record(raw: bytes) -> Genesis:
    """Reads canonical bytes of a chain of its own. Raises GenesisError or CodecError."""
    fields = codec.decode(raw, max_bytes=MAX_GENESIS_BYTES)
    try:
        version, rules, name, salt, genesis_ms, start_ms, rate, *lists = fields
        authorities, zones, corridors, tariffs, holidays, roles, accounts, values, *later = lists
        profiles, supply, schedule, carbon = later
        if (version, rules) != (GENESIS_VERSION, RULES_VERSION):
            raise GenesisError(f"genesis version {version} with rules {rules}; this program reads version "
                               f"{GENESIS_VERSION} with rules {RULES_VERSION}")
        genesis = Genesis(
            name, salt, genesis_ms, start_ms, rate, tuple(Authority(*entry) for entry in authorities),
            tuple(map(Zone.decode, zones)), tuple(map(Corridor.decode, corridors)), tuple(map(Tariff.decode, tariffs)),
            tuple(holidays), Roles.decode(roles), tuple((address, balance) for address, balance in accounts),
            Parameters(*(value for _, value in values)), tuple(map(Profile.decode, profiles)), SupplyRates(*supply),
            Schedule.decode(schedule), Carbon.decode(carbon))
        same = genesis.canonical() == raw
    except (TypeError, ValueError, AttributeError) as error:
        raise GenesisError(f"not the canonical form of a genesis: {error}") from error
    if not same:
        raise GenesisError("not the canonical form of a genesis")
    return genesis
