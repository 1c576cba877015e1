"""A certificate used up: `[54, serial, beneficiary, purpose]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import certificates
from gridtokenx.ledger.operations.base import Block, check_count, integer, text

MOST_TEXT_BYTES = 128


@frozen
class RetireCertificate:
    """Once and for good: for whom and what for stays on record with the certificate."""

    serial: int
    beneficiary: str
    purpose: str

    KIND: ClassVar[int] = 54
    NAME: ClassVar[str] = "retire certificate"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RetireCertificate:
        check_count(fields, "serial", "beneficiary", "purpose")
        return cls(integer("serial", fields[0], 1), text("beneficiary", fields[1], MOST_TEXT_BYTES),
                   text("purpose", fields[2], MOST_TEXT_BYTES))

    def fields(self) -> list[Any]:
        return [self.KIND, self.serial, self.beneficiary, self.purpose]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context = block.context
        certificates.retire(context, self.serial, certificates.get_own(context.session, self.serial, sender),
                            self.beneficiary, self.purpose)
        return ()
