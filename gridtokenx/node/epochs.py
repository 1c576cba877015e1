"""Where the chain stands in its epochs, read from its state (CONSENSUS 5, epochs)."""

from __future__ import annotations

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.certificates import certificate_verifies
from gridtokenx.consensus.config import ConsensusConfig, KeyVerifier, Root
from gridtokenx.consensus.epochs import EpochStart, at_epoch_root
from gridtokenx.consensus.messages import Certificate
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.records import Authorities as AuthoritiesRecord
from gridtokenx.ledger.records import Epoch
from gridtokenx.ledger.state import StateReader
from gridtokenx.node.chain import Chain
from gridtokenx.node.sync import decode_stored_certificate, encode_stored_certificate
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DatabaseDamaged


def epoch_of(state: StateReader) -> Epoch:
    raw = state.get(spaces.EPOCH)
    if raw is None:
        raise DatabaseDamaged("the state has no record of its epoch")
    return Epoch.decode(raw)


def members_of(state: StateReader) -> tuple[tuple[str, bytes], ...]:
    """(name, key) of the authorities of the epoch that a child of this state's block is in."""
    raw = state.get(spaces.AUTHORITIES)
    if raw is None:
        raise DatabaseDamaged("the state has no list of authorities")
    return AuthoritiesRecord.decode(raw).members


def epoch_start(chain: Chain, database: Database, certificate: Certificate | None) -> EpochStart:
    """The epoch at the chain's head; `certificate` finalizes the head, in its own epoch (None for genesis).

    The parameters that consensus goes by are those of the state at this moment.
    """
    state, head = chain.state, chain.head
    epoch, parameters = epoch_of(state), read_parameters(state)
    root_hash, previous = chain.genesis.header().hash, None
    if epoch.root_height:
        header_raw, certificate_raw = _boundary(chain, database, epoch)
        root_hash, previous = digest(Domain.HEADER, header_raw), decode_stored_certificate(certificate_raw)
    config = ConsensusConfig(
        chain_id=chain.chain_id, epoch=epoch.number, authorities=tuple(key for _, key in members_of(state)),
        epoch_root=root_hash, delta_ms=parameters.delta_ms, block_time_ms=parameters.block_time_ms,
        min_block_interval_ms=parameters.min_block_interval_ms, max_block_weight=parameters.max_block_weight,
        max_block_bytes=parameters.max_block_bytes, boundary=epoch.boundary)
    header = head.header
    root = Root(head.digest, header.height, header.view if certificate is None else certificate.view,
                header.timestamp_ms, certificate, head.unfinished)
    return EpochStart(config, at_epoch_root(root) if header.height == epoch.root_height else root, previous)


def _boundary(chain: Chain, database: Database, epoch: Epoch) -> tuple[bytes, bytes]:
    """Header and certificate of the block that this epoch starts after."""
    if epoch.root_height > chain.base.header.height:
        block = next((b for b in chain.finals() if b.header.height == epoch.root_height), None)
        if block is not None and block.certificate is not None:
            return block.header.encode(), encode_stored_certificate(block.certificate)
    for stored in database.boundaries(epoch.number - 1, 1):
        if stored.epoch == epoch.number - 1:
            return stored.header, stored.certificate
    raise DatabaseDamaged(f"the last block of epoch {epoch.number - 1}, height {epoch.root_height}, is not held with "
                          "its certificate")


def certificate_holds(certificate: Certificate, config: ConsensusConfig) -> bool:
    """Whether it is a good certificate of the epoch with this configuration."""
    return certificate_verifies(certificate, Authorities.of_epoch(config.authorities, config.epoch_root), config.epoch,
                                KeyVerifier(config.authorities, config.chain_id))
