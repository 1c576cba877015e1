"""Records of changes in the list of authorities."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from attrs import define

from gridtokenx.ledger.records import Record

if TYPE_CHECKING:
    from attrs import frozen
else:
    frozen = define                  # as in `records`: held to by the type checker


class Standing(IntEnum):
    """Where an authority is between being agreed upon and having left. Numbers are state: frozen."""

    APPROVED = 1                     # agreed upon, has not shown yet that it follows the chain
    JOINING = 2                      # joins at the next boundary with room
    MEMBER = 3                       # joined by a change; members from genesis have no entry
    LEAVING = 4                      # leaves at the next boundary with room
    SUSPENDING = 5                   # the same, but may be agreed upon anew
    SUSPENDED = 6


IN_LIST = frozenset({Standing.MEMBER, Standing.LEAVING, Standing.SUSPENDING})


@frozen
class AuthorityChanges(Record):
    """(name, key, standing, epoch since which its votes can be evidence), in the order of being recorded."""

    entries: tuple[tuple[str, bytes, int, int], ...] = ()

    def of(self, key: bytes) -> tuple[str, bytes, int, int] | None:
        return next((entry for entry in self.entries if entry[1] == key), None)

    def with_(self, name: str, key: bytes, standing: Standing, since: int) -> AuthorityChanges:
        """The entry of `key` anew, as the last one."""
        return AuthorityChanges((*self.without(key).entries, (name, key, int(standing), since)))

    def without(self, key: bytes) -> AuthorityChanges:
        return AuthorityChanges(tuple(entry for entry in self.entries if entry[1] != key))
