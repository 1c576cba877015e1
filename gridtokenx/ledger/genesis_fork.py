"""The genesis of a network that begins with the state of a fork (DESIGN 11), and that state as of its block 0.

Its canonical bytes are the array `["fork network", version, record, header of block 0]`; the record is the canonical
array `[name, salt, genesis time ms, market start ms, market rate, [[authority, key], ...], parent's chain id, height,
block hash, state root, [zone], [corridor], [tariff class], [filter profile], roles, [[parameter, value], ...]]`, and
its hash is the chain's id. The state itself is not part of it: a node is given it in its data directory.

Heights begin anew, so whatever the parent's last block left for its next one (money that came back, places in the
books, positions) counts at once.
"""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import define, evolve

from gridtokenx import codec
from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import ZERO_HASH, Domain, digest
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.ledger import funds, spaces, trie
from gridtokenx.ledger.authority_records import AuthorityChanges
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.genesis_state import MAX_GENESIS_BYTES, RULES_VERSION, Authority, Genesis, GenesisError
from gridtokenx.ledger.parameters import BY_NAME, Parameters, read_parameters
from gridtokenx.ledger.records import (
    Account,
    Authorities,
    Clock,
    Corridor,
    CorridorWindow,
    Epoch,
    Identity,
    Peaks,
    Position,
    Profile,
    Roles,
    Zone,
)
from gridtokenx.ledger.run import authorities_hash
from gridtokenx.ledger.schema import decode_value
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import EmptyState, StateReader, StateView
from gridtokenx.ledger.tariff_records import Tariff
from gridtokenx.market import places, positions

FORK_NETWORK = "fork network"
FORK_NETWORK_VERSION = 1
_Record = TypeVar("_Record")


@define(frozen=True, slots=False)
class ForkGenesis(Genesis):
    """Zones, corridors, tariffs, roles and parameters are those of the state that it begins with.

    `parent` is (chain id, height, block hash, state root) of what was forked. Only a genesis that `begin` made has its
    state; one that was read has `block` alone.
    """

    parent: tuple[bytes, int, bytes, bytes] = (ZERO_HASH, 0, ZERO_HASH, ZERO_HASH)
    block: bytes = b""
    first: StateView | None = None

    def record(self) -> bytes:
        """What the chain's id is the hash of."""
        return codec.encode([
            self.name, self.salt, self.genesis_ms, self.market_start_ms, self.market_rate,
            [[authority.name, authority.public] for authority in self.authorities], *self.parent,
            [record.encode() for record in self.zones], [record.encode() for record in self.corridors],
            [record.encode() for record in self.tariffs], [record.encode() for record in self.profiles],
            self.roles.encode(),
            [[parameter.number, getattr(self.parameters, name)] for name, parameter in BY_NAME.items()]])

    def canonical(self) -> bytes:
        return codec.encode([FORK_NETWORK, FORK_NETWORK_VERSION, self.record(), self.block])

    @property
    def chain_id(self) -> bytes:
        return digest(Domain.FORK, self.record())

    def header(self) -> Header:
        return decode_header(self.block)

    def view(self) -> StateView:
        if self.first is None:
            raise GenesisError("the genesis of a fork's network does not hold its state: it is in the data directories "
                               "that were made with it")
        return self.first

    def initial_state(self) -> dict[bytes, bytes]:
        return {key: value for key, value in self.view().changes.items() if value is not None}


def begin(state: StateReader, parent: Header, *, name: str, salt: str, authorities: tuple[Authority, ...],
          genesis_ms: int, market_start_ms: int, market_rate: int, roles: Roles) -> ForkGenesis:
    """The genesis of a network that goes on from `state`, that of the block `parent`, with block 0 at `genesis_ms`."""
    content = ForkGenesis(
        name, salt, genesis_ms, market_start_ms, market_rate, authorities, _all(state, Space.ZONE, Zone),
        _all(state, Space.CORRIDOR, Corridor), _all(state, Space.TARIFF, Tariff), (), roles, (),
        read_parameters(state), _all(state, Space.PROFILE, Profile),
        parent=(parent.chain_id, parent.height, parent.hash, parent.state_root))
    members = Authorities(tuple((authority.name, authority.public) for authority in authorities))
    chain_id = content.chain_id
    values = _rebased(state, parent.height + 1) | {
        spaces.IDENTITY: Identity(chain_id, RULES_VERSION, genesis_ms, market_start_ms, market_rate).encode(),
        spaces.CLOCK: Clock(0, genesis_ms).encode(),
        spaces.PEAKS: Peaks(mountain_range.EMPTY).encode(),
        spaces.EPOCH: Epoch(0, chain_id, 0, content.parameters.epoch_length).encode(),
        spaces.AUTHORITIES: members.encode(),
        spaces.AUTHORITY_CHANGES: AuthorityChanges().encode(),
        spaces.ROLES: roles.encode(),
    }
    root, pages = trie.update(EmptyState().page, trie.EMPTY_ROOT, values.items())
    listed = authorities_hash(members)
    header = Header(
        chain_id=chain_id, rules_version=RULES_VERSION, epoch=0, view=0, height=0, parent=ZERO_HASH,
        timestamp_ms=genesis_ms, proposer=b"", transactions_root=merkle_root([]), receipts_root=merkle_root([]),
        state_root=root, headers_root=mountain_range.root(mountain_range.EMPTY), authorities_hash=listed,
        next_authorities_hash=listed, market=tuple((0, 0) for _ in content.zones))
    return evolve(content, block=header.encode(), first=StateView(EmptyState(), header, dict(values), pages))


def decode_fork_genesis(raw: bytes) -> ForkGenesis:
    """Reads canonical bytes. Raises GenesisError or CodecError."""
    fields = codec.decode(raw, max_bytes=MAX_GENESIS_BYTES)
    try:
        kind, version, record, block = fields
        if (kind, version) != (FORK_NETWORK, FORK_NETWORK_VERSION):
            raise GenesisError(f"{kind!r} of version {version}; this program reads {FORK_NETWORK!r} of version "
                               f"{FORK_NETWORK_VERSION}")
        name, salt, genesis_ms, start_ms, rate, members, chain_id, height, block_hash, root, *lists = codec.decode(
            record, max_bytes=MAX_GENESIS_BYTES)
        zones, corridors, tariffs, profiles, roles, values = lists
        genesis = ForkGenesis(
            name, salt, genesis_ms, start_ms, rate, tuple(Authority(*entry) for entry in members),
            tuple(map(Zone.decode, zones)), tuple(map(Corridor.decode, corridors)), tuple(map(Tariff.decode, tariffs)),
            (), Roles.decode(roles), (), Parameters(*(value for _, value in values)),
            tuple(map(Profile.decode, profiles)), parent=(chain_id, height, block_hash, root), block=block)
        same = genesis.canonical() == raw and genesis.header().chain_id == genesis.chain_id
    except (TypeError, ValueError, AttributeError) as error:
        raise GenesisError(f"not the canonical form of a fork network's genesis: {error}") from error
    if not same:
        raise GenesisError("not the canonical form of a fork network's genesis")
    return genesis


def _rebased(state: StateReader, height: int) -> dict[bytes, bytes]:
    """All of the state as a block of `height` would find it, with heights that begin at 0."""
    session = Session(state, height)
    found: dict[bytes, bytes] = {}
    for key, raw in state.scan(b""):
        value: Any = None
        if key[0] == Space.ACCOUNT:
            value = evolve(funds.settled(Account.decode(raw), height), height=0)
        elif key[0] == Space.POSITION:
            value = evolve(positions.settled(Position.decode(raw), height), height=0)
        elif key[0] == Space.CORRIDOR_WINDOW:
            value = evolve(CorridorWindow.decode(raw), height=0)
        elif key == spaces.COUNTERS:
            value = evolve(places.counters(session), height=0)
        found[key] = raw if value is None else value.encode()
    return found


def _all(state: StateReader, space: Space, kind: type[_Record]) -> tuple[_Record, ...]:
    found = []
    for key, raw in state.scan(bytes((space,))):
        record = decode_value(key, raw)
        assert isinstance(record, kind)
        found.append(record)
    return tuple(found)
