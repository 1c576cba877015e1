"""What simulated nodes share: the parts of a run, what a machine is like, and what nodes say besides consensus."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen

from gridtokenx.consensus.config import ConsensusConfig, HeldBlock, Verifier
from gridtokenx.consensus.core import Core
from gridtokenx.consensus.messages import Certificate
from gridtokenx.ledger.block import Header
from gridtokenx.sim import toy
from gridtokenx.sim.checker import Checker
from gridtokenx.sim.network import Network
from gridtokenx.sim.registry import ListVerifier, Registry
from gridtokenx.sim.world import World


@frozen
class Transactions:
    """Pushed when submitted, and in answer to GetTransactions."""

    ids: tuple[bytes, ...]


@frozen
class GetTransactions:
    ids: tuple[bytes, ...]


@frozen
class GetBlock:
    digest: bytes


@frozen
class GetChain:
    """Final blocks from this height on."""

    first: int


@frozen
class ChainAnswer:
    """Final blocks in order; the certificate finalizes the last. `head` is the height that there is."""

    blocks: tuple[HeldBlock, ...]
    certificate: Certificate
    head: int


@frozen
class Told:
    """A final block on its way to clients."""

    block: HeldBlock
    certificate: Certificate | None


@define
class Clock:
    """A node's wall clock."""

    offset_ms: int = 0
    drift_ppm: int = 0

    def read_ms(self, now_us: int) -> int:
        return toy.GENESIS_MS + self.offset_ms + (now_us + now_us * self.drift_ppm // 1_000_000) // 1000


@define
class Speed:
    """How fast this node executes, in microseconds."""

    per_block_us: int = 300
    per_transaction_us: int = 50

    def execution_us(self, transactions: int) -> int:
        return self.per_block_us + transactions * self.per_transaction_us


@define(eq=False)
class Setting:
    """What all nodes of one run share."""

    world: World
    network: Network
    registry: Registry
    checker: Checker
    nodes: int
    schedule: toy.Schedule
    genesis: Header
    block_time_ms: int
    factory: Callable[..., Core]
    on_final: Callable[[int, HeldBlock], None] = field(default=lambda *_: None)
    notes: dict[str, int] = field(factory=dict)

    def config(self, epoch: int, epoch_root: bytes) -> ConsensusConfig:
        return ConsensusConfig(
            chain_id=toy.CHAIN_ID, epoch=epoch, epoch_root=epoch_root, block_time_ms=self.block_time_ms,
            authorities=tuple(map(toy.key_of, self.schedule.members(epoch))), boundary=self.schedule.boundary(epoch))

    def verifier(self, config: ConsensusConfig) -> Verifier:
        return ListVerifier(self.registry, self.schedule.members(config.epoch))
