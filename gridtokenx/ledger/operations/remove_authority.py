"""Agreement that an authority leaves: `[61, epoch, key, approvals]` for good, `[62, ...]` for a time."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.approvals import APPROVALS_WEIGHT, Approvals, check_approvals, parse_approvals
from gridtokenx.ledger.authority_records import IN_LIST, AuthorityChanges, Standing
from gridtokenx.ledger.epochs import changes_of
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Authorities
from gridtokenx.ledger.session import Session


def member_name(session: Session, key: bytes) -> str | None:
    """The name of a present authority, None for any other key."""
    listed: Authorities = session.get(spaces.AUTHORITIES)
    return next((name for name, member in listed.members if member == key), None)


def suspend(session: Session, changes: AuthorityChanges, key: bytes) -> None:
    """A present authority leaves at the next boundary with room. Raises Failed."""
    name = member_name(session, key)
    if name is None:
        raise Failed(Code.UNKNOWN_AUTHORITY, f"{key.hex()} is no present authority")
    known = changes.of(key)
    if known is not None and known[2] in (Standing.LEAVING, Standing.SUSPENDING):
        raise Failed(Code.ALREADY_LEAVING, f"{name} leaves already")
    since = 0 if known is None else known[3]
    session.put(spaces.AUTHORITY_CHANGES, changes.with_(name, key, Standing.SUSPENDING, since))


@frozen
class _Removal:
    epoch: int
    key: bytes
    approvals: Approvals

    KIND: ClassVar[int]
    NAME: ClassVar[str]
    WEIGHT: ClassVar[int] = APPROVALS_WEIGHT
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> Self:
        check_count(fields, "epoch", "key", "approvals")
        return cls(integer("epoch", fields[0]), address("key", fields[1]), parse_approvals(fields[2]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.epoch, self.key, [list(entry) for entry in self.approvals]]


@frozen
class RevokeAuthority(_Removal):
    """Of a present authority, or of one that waits or is suspended: that one is forgotten at once."""

    KIND: ClassVar[int] = 61
    NAME: ClassVar[str] = "revoke authority"

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        del sender                      # anyone may send it
        session = block.context.session
        check_approvals(block.context, self.KIND, self.epoch, self.key, "", self.approvals)
        changes = changes_of(session)
        known = changes.of(self.key)
        name = member_name(session, self.key)
        if known is not None and known[2] not in IN_LIST:
            session.put(spaces.AUTHORITY_CHANGES, changes.without(self.key))
            return ()
        if name is None:
            raise Failed(Code.UNKNOWN_AUTHORITY, f"{self.key.hex()} is no authority, nor to become one")
        if known is not None and known[2] == Standing.LEAVING:
            raise Failed(Code.ALREADY_LEAVING, f"{name} leaves already")
        since = 0 if known is None else known[3]
        session.put(spaces.AUTHORITY_CHANGES, changes.with_(name, self.key, Standing.LEAVING, since))
        return ()


@frozen
class SuspendAuthority(_Removal):
    """It leaves, and can be agreed upon anew (kind 60)."""

    KIND: ClassVar[int] = 62
    NAME: ClassVar[str] = "suspend authority"

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        del sender                      # anyone may send it
        session = block.context.session
        check_approvals(block.context, self.KIND, self.epoch, self.key, "", self.approvals)
        suspend(session, changes_of(session), self.key)
        return ()
