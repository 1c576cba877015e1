"""What a core is given when it starts: parameters, keys, and what the log remembered."""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen

from gridtokenx.consensus.messages import Certificate, Propose, Vote
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import PrivateKey, verify
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import Header


class ConsensusConfigError(GridTokenXError):
    """A parameter outside its range."""


def _at_least(low: int, high: int = 1 << 40):  # type: ignore[no-untyped-def]
    def check(_: object, attribute: object, value: int) -> None:
        if type(value) is not int or not low <= value <= high:
            name = getattr(attribute, "name", "value")
            raise ConsensusConfigError(f"{name} is {value!r}; allowed are {low} to {high}")
    return check


@frozen
class ConsensusConfig:
    """Parameters of one chain and epoch, the same at every authority. Times in ms."""

    chain_id: bytes
    epoch: int
    authorities: tuple[bytes, ...]
    epoch_root: bytes                     # hash of the block the epoch starts after; genesis for epoch 0
    delta_ms: int = field(default=100, validator=_at_least(1, 2000))
    block_time_ms: int = field(default=10_000, validator=_at_least(1))
    min_block_interval_ms: int = field(default=100, validator=_at_least(1))
    linger_ms: int = field(default=10, validator=_at_least(0))
    max_block_weight: int = field(default=1_000_000, validator=_at_least(1))
    max_block_bytes: int = field(default=256 * 1024, validator=_at_least(1, 1 << 20))
    boundary: int = field(default=1 << 40, validator=_at_least(1))     # height of the epoch's last block


@frozen
class Root:
    """The finalized block a core starts from. `view` is 0 for the block an epoch starts after.

    `certificate` finalizes exactly this block, in this epoch: None for the block an epoch starts after.
    `unfinished`: timed work is left.
    """

    digest: bytes
    height: int
    view: int
    timestamp_ms: int
    certificate: Certificate | None = None
    unfinished: bool = False


@frozen
class HeldBlock:
    """A block whose header and body are in the log."""

    digest: bytes
    header: Header
    transaction_ids: tuple[bytes, ...]
    body_bytes: int


@frozen
class Recovered:
    """What the log holds beyond the root: own votes and proposals, blocks, certificates, in log order.

    The core asks for the execution of these blocks (Execute with `source` = itself) in its first step.
    """

    votes: tuple[Vote | Propose, ...] = ()
    blocks: tuple[HeldBlock, ...] = ()
    certificates: tuple[Certificate, ...] = ()


class Signer(Protocol):
    """Signs `vote_content` for this authority, and knows its own signatures."""

    def sign(self, content: bytes) -> bytes: ...

    def made(self, content: bytes, signature: bytes) -> bool: ...


class Verifier(Protocol):
    """Says whether `signature` is the authority's with index `signer` over `content`."""

    def verify(self, signer: int, content: bytes, signature: bytes) -> bool: ...


@frozen
class KeySigner:
    """A Signer with an Ed25519 key in memory."""

    key: PrivateKey
    chain_id: bytes

    def sign(self, content: bytes) -> bytes:
        return self.key.sign(Domain.CONSENSUS_VOTE, self.chain_id, content)

    def made(self, content: bytes, signature: bytes) -> bool:
        return verify(self.key.public, signature, Domain.CONSENSUS_VOTE, self.chain_id, content)


@frozen
class KeyVerifier:
    """A Verifier over the authorities' public keys."""

    keys: tuple[bytes, ...]
    chain_id: bytes

    def verify(self, signer: int, content: bytes, signature: bytes) -> bool:
        return (0 <= signer < len(self.keys)
                and verify(self.keys[signer], signature, Domain.CONSENSUS_VOTE, self.chain_id, content))
