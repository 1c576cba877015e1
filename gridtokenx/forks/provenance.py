"""Where a fork comes from, and the block that it begins with (CONSENSUS 6, fork at H).

A fork's genesis record is `["fork", version, parent chain id, height, block hash, state root, salt, [[name, key], ...],
impersonation]`. Its hash is the fork's chain id, so that nothing signed for the parent is good here or the other way
round. No other kind of genesis has a place for impersonation.
"""

from __future__ import annotations

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.forks.edits import edit_block
from gridtokenx.forks.errors import ForkError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.authority_records import AuthorityChanges
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.epochs import next_multiple
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.records import Authorities, Epoch, Identity
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import StateReader, StateView

FORK_VERSION = 1
MAX_PROVENANCE_BYTES = 64 << 10
Member = tuple[str, bytes]


@frozen
class Provenance:
    """The genesis record of a fork of the chain `parent` after its block `height`.

    `authorities` are (name, public key) of who may make the fork's blocks; with `impersonation` transactions need no
    signature of their sender.
    """

    parent: bytes
    height: int
    block_hash: bytes
    state_root: bytes
    salt: str
    authorities: tuple[Member, ...]
    impersonation: bool = True

    def canonical(self) -> bytes:
        return codec.encode([
            "fork", FORK_VERSION, self.parent, self.height, self.block_hash, self.state_root, self.salt,
            [list(member) for member in self.authorities], self.impersonation])

    @property
    def chain_id(self) -> bytes:
        return digest(Domain.FORK, self.canonical())


def decode_provenance(raw: bytes) -> Provenance:
    """Reads a fork's genesis record. Raises ForkError (or CodecError)."""
    fields = codec.decode(raw, max_bytes=MAX_PROVENANCE_BYTES)
    if type(fields) is not list or len(fields) != 9 or fields[:2] != ["fork", FORK_VERSION]:
        raise ForkError(f"not the genesis record of a fork of version {FORK_VERSION}")
    parent, height, block_hash, state_root, salt, members, impersonation = fields[2:]
    return Provenance(parent, height, block_hash, state_root, salt, tuple((name, key) for name, key in members),
                      impersonation)


def provenance_of(header: Header, salt: str, authorities: tuple[Member, ...]) -> Provenance:
    """Of a fork after the block `header`."""
    return Provenance(header.chain_id, header.height, header.hash, header.state_root, salt, authorities)


def first_block(base: StateReader, header: Header, provenance: Provenance) -> StateView:
    """The fork's first block, a child of `header` without transactions: another chain id, authorities and epoch.

    It has no state root of its own yet (`layers.rooted`).
    """
    chain_id = provenance.chain_id
    epoch_length = read_parameters(base).epoch_length

    def become(session: Session) -> None:
        identity: Identity = session.get(spaces.IDENTITY)
        epoch: Epoch = session.get(spaces.EPOCH)
        session.put(spaces.IDENTITY, Identity(chain_id, identity.rules_version, identity.genesis_ms,
                                              identity.market_start_ms, identity.market_rate))
        session.put(spaces.EPOCH, Epoch(epoch.number + 1, chain_id, session.height,
                                        next_multiple(session.height, epoch_length)))
        session.put(spaces.AUTHORITIES, Authorities(provenance.authorities))
        session.put(spaces.AUTHORITY_CHANGES, AuthorityChanges())

    return edit_block(StateView(base, header), become, chain_id=chain_id, rooted=False)
