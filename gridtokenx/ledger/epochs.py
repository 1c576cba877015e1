"""Epochs: how long the list of authorities stays, and what the next one is (CONSENSUS 5, epochs).

The boundary block of an epoch is its last block; its height is fixed when the epoch begins: the next multiple of
`epoch_length`. Executing it makes the state hold the list of the next epoch, to which its header commits
(`next_authorities_hash`). At most max(1, f) authorities change at a boundary: first the suspended leave, then the
revoked, then the activated join, each in the order in which it was recorded; the others wait for the next boundary.
"""

from __future__ import annotations

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import spaces
from gridtokenx.ledger.authority_records import AuthorityChanges, Standing
from gridtokenx.ledger.quorum import faulty_at_most
from gridtokenx.ledger.records import Authorities, Epoch
from gridtokenx.ledger.session import Session

MAX_AUTHORITIES = 64
BOUNDARY_KEYS = 3
"""Keys that a boundary block changes beside those of its transactions: epoch, list, changes."""

Member = tuple[str, bytes]


def next_multiple(height: int, length: int) -> int:
    """The least multiple of `length` above `height`."""
    return (height // length + 1) * length


def changes_of(session: Session) -> AuthorityChanges:
    changes: AuthorityChanges | None = session.get(spaces.AUTHORITY_CHANGES)
    return AuthorityChanges() if changes is None else changes


def next_list(members: tuple[Member, ...], changes: AuthorityChanges) -> tuple[tuple[Member, ...], AuthorityChanges]:
    """The list after a boundary, and what of the changes is still to come."""
    room = max(1, faulty_at_most(len(members)))
    for wanted in (Standing.SUSPENDING, Standing.LEAVING, Standing.JOINING):
        for name, key, standing, since in changes.entries:
            if standing != wanted or not room:
                continue
            if wanted is Standing.JOINING:
                if len(members) == MAX_AUTHORITIES:
                    continue
                members = (*members, (name, key))
                changes = changes.with_(name, key, Standing.MEMBER, since)
            else:
                if len(members) == 1:
                    continue                    # the last authority stays until another one has joined
                members = tuple(member for member in members if member[1] != key)
                changes = (changes.without(key) if wanted is Standing.LEAVING
                           else changes.with_(name, key, Standing.SUSPENDED, since))
            room -= 1
    return members, changes


def cross_boundary(session: Session, parent_hash: bytes, epoch_length: int) -> None:
    """Run at the end of a boundary block: the state becomes that of the next epoch."""
    epoch: Epoch = session.get(spaces.EPOCH)
    listed: Authorities = session.get(spaces.AUTHORITIES)
    members, changes = next_list(listed.members, changes_of(session))
    if members != listed.members:
        session.put(spaces.AUTHORITIES, Authorities(members))
        session.put(spaces.AUTHORITY_CHANGES, changes)
    session.put(spaces.EPOCH, Epoch(
        epoch.number + 1, digest(Domain.EPOCH_SEED, epoch.seed, parent_hash), session.height,
        next_multiple(session.height, epoch_length)))
