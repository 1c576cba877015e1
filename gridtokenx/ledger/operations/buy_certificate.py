"""A certificate bought at its offer: `[53, serial, price_uthb]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import certificates, funds
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed


@frozen
class BuyCertificate:
    """Money and certificate change hands together or not at all. `price_uthb` is the price that the buyer saw."""

    serial: int
    price_uthb: int

    KIND: ClassVar[int] = 53
    NAME: ClassVar[str] = "buy certificate"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> BuyCertificate:
        check_count(fields, "serial", "price_uthb")
        return cls(integer("serial", fields[0], 1), integer("price_uthb", fields[1], 1))

    def fields(self) -> list[Any]:
        return [self.KIND, self.serial, self.price_uthb]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        offered = certificates.get_certificate(session, self.serial)
        if offered.owner == sender:
            raise Failed(Code.OWN_CERTIFICATE, f"certificate {self.serial} is the sender's own")
        if not offered.price_uthb or offered.buyer not in (b"", sender):
            raise Failed(Code.NOT_OFFERED, f"certificate {self.serial} is not for sale to this account")
        if offered.price_uthb != self.price_uthb:
            raise Failed(Code.PRICE_CHANGED, f"certificate {self.serial} costs {offered.price_uthb} uTHB, not "
                                             f"{self.price_uthb}")
        funds.debit(session, sender, self.price_uthb, "the certificate")
        funds.credit(session, offered.owner, self.price_uthb)
        certificates.hand_over(session, self.serial, offered, sender)
        return ()
