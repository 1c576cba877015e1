"""Agreement on a new authority, or on the return of a suspended one: `[60, epoch, name, key, approvals]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.crypto.keys import is_point
from gridtokenx.ledger import spaces
from gridtokenx.ledger.approvals import APPROVALS_WEIGHT, Approvals, check_approvals, parse_approvals
from gridtokenx.ledger.authority_records import Standing
from gridtokenx.ledger.epochs import changes_of
from gridtokenx.ledger.operations.base import Block, address, check_count, integer, text
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Authorities

MAX_ENTRIES = 128
MAX_NAME_BYTES = 32


@frozen
class RegisterAuthority:
    """Once it is activated (kind 63) it joins at a boundary. Votes from before this epoch are evidence no more."""

    epoch: int
    name: str
    key: bytes
    approvals: Approvals

    KIND: ClassVar[int] = 60
    NAME: ClassVar[str] = "register authority"
    WEIGHT: ClassVar[int] = APPROVALS_WEIGHT
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RegisterAuthority:
        check_count(fields, "epoch", "name", "key", "approvals")
        return cls(integer("epoch", fields[0]), text("name", fields[1], MAX_NAME_BYTES), address("key", fields[2]),
                   parse_approvals(fields[3]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.epoch, self.name, self.key, [list(entry) for entry in self.approvals]]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        del sender                      # anyone may send it
        context = block.context
        session = context.session
        if not is_point(self.key):
            raise Failed(Code.BAD_KEY, "the authority's key is no Ed25519 public key")
        check_approvals(context, self.KIND, self.epoch, self.key, self.name, self.approvals)
        changes = changes_of(session)
        known = changes.of(self.key)
        if known is not None and known[2] != Standing.SUSPENDED:
            raise Failed(Code.AUTHORITY_EXISTS, f"the key is {known[0]}'s, {Standing(known[2]).name.lower()}")
        listed: Authorities = session.get(spaces.AUTHORITIES)
        names = {name: key for name, key, *_ in (*listed.members, *changes.entries)}
        if self.key in names.values() and known is None:
            raise Failed(Code.AUTHORITY_EXISTS, "the key is a present authority's")
        if names.get(self.name, self.key) != self.key:
            raise Failed(Code.AUTHORITY_EXISTS, f"another authority has the name {self.name}")
        if known is None and len(changes.entries) >= MAX_ENTRIES:
            raise Failed(Code.TOO_MANY_CHANGES, f"{len(changes.entries)} authorities are recorded; at most "
                                                f"{MAX_ENTRIES} are allowed until some are revoked")
        session.put(spaces.AUTHORITY_CHANGES, changes.with_(self.name, self.key, Standing.APPROVED, self.epoch))
        return ()
