"""The chain of a run: who is who, genesis, and what of it every machine starts with."""

from __future__ import annotations

from functools import cache

from attrs import evolve, field, frozen

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.genesis import Authority, Genesis
from gridtokenx.ledger.parameters import REGISTRY, Parameters
from gridtokenx.ledger.records import Roles, Zone
from gridtokenx.ledger.tariff_records import tariff
from gridtokenx.sim.toy import GENESIS_MS
from gridtokenx.sim.whole.lmdb_model import Version, new_chain
from gridtokenx.sim.world import Violation
from gridtokenx.store.checkpoint import FinalizedBlock

THB = 1_000_000
FUNDS_UTHB = 1_000_000 * THB
HEARTBEAT_MS = 10_000


@cache
def key_of(name: str) -> PrivateKey:
    return PrivateKey(name.encode().ljust(32, b"."))


def authority_key(number: int) -> PrivateKey:
    return key_of(f"authority {number}")


ISSUER, REGISTRAR, OPERATOR, TAX, UTILITY = (
    key_of(name) for name in ("issuer", "registrar", "operator", "tax", "utility"))
TRADERS = tuple(key_of(f"trader {number}") for number in range(3))


@cache
def genesis_of(authorities: int, epoch_length: int) -> Genesis:
    """Two zones; issuer, registrar, traders and some authorities have money."""
    defaults = Parameters(**{entry.name: entry.default for entry in REGISTRY})
    funded = (ISSUER, REGISTRAR, *TRADERS, authority_key(0), authority_key(1))
    return Genesis(
        name="simulation", salt="", genesis_ms=GENESIS_MS, market_start_ms=GENESIS_MS, market_rate=1,
        authorities=tuple(Authority(f"A{number}", authority_key(number).public) for number in range(authorities)),
        zones=tuple(Zone(f"Z{number}", 10_000, 100_000, OPERATOR.public, UTILITY.public) for number in range(2)),
        corridors=(), tariffs=(tariff("residential", 5_798_200, 2_636_900),), holidays=(),
        roles=Roles((ISSUER.public,), (REGISTRAR.public,), OPERATOR.public, TAX.public),
        accounts=tuple(sorted((key.public, FUNDS_UTHB) for key in funded)),
        parameters=evolve(defaults, epoch_length=epoch_length, block_time_ms=HEARTBEAT_MS))


@cache
def first_version(authorities: int, epoch_length: int) -> Version:
    """The database of a new node."""
    genesis = genesis_of(authorities, epoch_length)
    header = genesis.header()
    block = FinalizedBlock(0, header.hash, header.encode(), changes=genesis.initial_state(),
                           pages=genesis.view().pages)
    return new_chain(block, genesis.chain_id, genesis.canonical())


@frozen
class Lists:
    """Who is an authority in which epoch, by number, as the nodes say: they must say the same."""

    length: int
    publics: dict[bytes, int]
    known: dict[int, tuple[int, ...]] = field(factory=dict)

    def heard(self, node: int, epoch: int, keys: tuple[bytes, ...]) -> None:
        listed = tuple(self.publics[key] for key in keys)
        if self.known.setdefault(epoch, listed) != listed:
            raise Violation(f"node {node} has {listed} as authorities of epoch {epoch}, others {self.known[epoch]}")

    def epoch_at(self, height: int) -> int:
        return (height - 1) // self.length

    def members(self, epoch: int) -> tuple[int, ...]:
        return self.known.get(epoch, ())

    def root_height(self, epoch: int) -> int:
        return epoch * self.length

    def boundary(self, epoch: int) -> int:
        return (epoch + 1) * self.length
