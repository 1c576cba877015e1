"""Registration of a licence holder by a registrar: `[10, account, licence, role, zone, expires_ms, credit_uthb]`."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.grid.kinds import Role
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.operations.base import Block, address, check_count, integer, text
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Counters, Participant

MAX_LICENCE_BYTES = 64


@frozen
class RegisterParticipant:
    """One participant per licence and per account. `expires_ms` is market time; the receipt's data is its id.

    `credit_uthb` is the licence's credit limit: so much collateral of sales needs no money.
    """

    account: bytes
    licence: str
    role: Role
    zone: int
    expires_ms: int
    credit_uthb: int = 0

    KIND: ClassVar[int] = 10
    NAME: ClassVar[str] = "register participant"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RegisterParticipant:
        check_count(fields, "account", "licence", "role", "zone", "expires_ms", "credit_uthb")
        role = integer("role", fields[2])
        if role not in set(Role):
            raise Failed(Code.BAD_ROLE, f"role {role}; 1 to {max(Role)} exist")
        return cls(address("account", fields[0]), text("licence", fields[1], MAX_LICENCE_BYTES), Role(role),
                   integer("zone", fields[3], 0, 255), integer("expires_ms", fields[4]),
                   integer("credit_uthb", fields[5]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.account, self.licence, int(self.role), self.zone, self.expires_ms, self.credit_uthb]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context = block.context
        session = context.session
        if sender not in context.roles.registrars:
            raise Failed(Code.NOT_ALLOWED, "only a registrar registers participants")
        if session.get(spaces.zone(self.zone)) is None:
            raise Failed(Code.UNKNOWN_ZONE, f"no zone {self.zone}")
        if self.expires_ms <= context.now_ms:
            raise Failed(Code.LICENCE_EXPIRED, f"the licence expires at {self.expires_ms}; it is {context.now_ms}")
        if self.credit_uthb > context.parameters.max_credit_uthb:
            raise Failed(Code.OUT_OF_RANGE, f"credit; at most {context.parameters.max_credit_uthb} uTHB")
        licence_key = spaces.licence(sha256(self.licence.encode()).digest())
        if session.get(licence_key) is not None:
            raise Failed(Code.LICENCE_TAKEN, f"licence {self.licence} has its participant already")
        account = funds.get_account(session, self.account)
        if account.participant:
            raise Failed(Code.ACCOUNT_TAKEN, f"the account is participant {account.participant}'s")
        counters: Counters = session.get(spaces.COUNTERS)
        number = counters.participants + 1
        session.put(spaces.COUNTERS, evolve(counters, participants=number))
        session.put(licence_key, spaces.number(number))
        session.put(spaces.participant(number), Participant(
            self.account, self.licence, self.role, self.zone, self.expires_ms, self.credit_uthb))
        funds.put_account(session, self.account, evolve(account, participant=number, credit=self.credit_uthb))
        return (number,)
