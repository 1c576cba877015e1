"""A registrar sets anew until when a licence holds: `[14, participant, expires_ms]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Participant


@frozen
class RenewLicence:
    """Before it expires or after: the participant keeps its number, account and meters. `expires_ms` is market time.

    An earlier time than it was shortens the licence.
    """

    participant: int
    expires_ms: int

    KIND: ClassVar[int] = 14
    NAME: ClassVar[str] = "renew licence"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RenewLicence:
        check_count(fields, "participant", "expires_ms")
        return cls(integer("participant", fields[0], 1, (1 << 32) - 1), integer("expires_ms", fields[1]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.participant, self.expires_ms]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context = block.context
        session = context.session
        if sender not in context.roles.registrars:
            raise Failed(Code.NOT_ALLOWED, "only a registrar renews licences")
        participant: Participant | None = session.get(spaces.participant(self.participant))
        if participant is None:
            raise Failed(Code.UNKNOWN_PARTICIPANT, f"no participant {self.participant}")
        if self.expires_ms <= context.now_ms:
            raise Failed(Code.LICENCE_EXPIRED, f"the licence would expire at {self.expires_ms}; it is {context.now_ms}")
        session.put(spaces.participant(self.participant), evolve(participant, expires_ms=self.expires_ms))
        return ()
