"""Who takes part in an epoch, how many make a quorum, and who leads which view (CONSENSUS 3, 5)."""

from __future__ import annotations

from attrs import field, frozen

from gridtokenx.consensus.messages import MAX_AUTHORITIES
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.quorum import faulty_at_most, quorum_of

__all__ = ["Authorities", "AuthoritiesError", "faulty_at_most", "quorum_of"]


class AuthoritiesError(GridTokenXError):
    """A list of authorities that no epoch can have."""


@frozen
class Authorities:
    """The ordered public keys of one epoch. `offset` turns the order of leaders by the epoch's root block."""

    keys: tuple[bytes, ...]
    offset: int
    n: int = field(init=False)
    f: int = field(init=False)
    quorum: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        n = len(self.keys)
        if not 1 <= n <= MAX_AUTHORITIES or len(set(self.keys)) != n:
            raise AuthoritiesError(f"{n} keys, {len(set(self.keys))} of them distinct; an epoch has 1 to "
                                   f"{MAX_AUTHORITIES} distinct authorities")
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "f", faulty_at_most(n))
        object.__setattr__(self, "quorum", quorum_of(n))

    @classmethod
    def of_epoch(cls, keys: tuple[bytes, ...], epoch_root: bytes) -> Authorities:
        """The authorities of the epoch that starts after the block with hash `epoch_root`."""
        turn = int.from_bytes(digest(Domain.LEADER_OFFSET, epoch_root)[:8], "big")
        return cls(keys, turn % max(1, len(keys)))

    def leader(self, view: int) -> int:
        """The index of the only authority whose proposal counts in `view`."""
        return (view + self.offset) % self.n
