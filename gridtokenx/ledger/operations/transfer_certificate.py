"""A certificate given to another account: `[51, serial, to]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import certificates
from gridtokenx.ledger.operations.base import Block, address, check_count, integer


@frozen
class TransferCertificate:
    """Without payment; an offer of the certificate ends with it."""

    serial: int
    to: bytes

    KIND: ClassVar[int] = 51
    NAME: ClassVar[str] = "transfer certificate"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> TransferCertificate:
        check_count(fields, "serial", "to")
        return cls(integer("serial", fields[0], 1), address("to", fields[1]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.serial, self.to]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        certificates.hand_over(session, self.serial, certificates.get_own(session, self.serial, sender), self.to)
        return ()
