"""A certificate offered for THB: `[52, serial, price_uthb, buyer]`; a price of 0 takes the offer back."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES
from gridtokenx.ledger import certificates, spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed


@frozen
class OfferCertificate:
    """Whoever pays the price becomes the owner; with `buyer` only that account may. A new offer replaces the old."""

    serial: int
    price_uthb: int
    buyer: bytes = b""

    KIND: ClassVar[int] = 52
    NAME: ClassVar[str] = "offer certificate"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> OfferCertificate:
        check_count(fields, "serial", "price_uthb", "buyer")
        buyer = fields[2]
        if type(buyer) is not bytes or len(buyer) not in (0, PUBLIC_KEY_BYTES):
            raise Failed(Code.BAD_FIELDS, f"buyer must be {PUBLIC_KEY_BYTES} bytes, or none for anyone")
        return cls(integer("serial", fields[0], 1), integer("price_uthb", fields[1]), buyer)

    def fields(self) -> list[Any]:
        return [self.KIND, self.serial, self.price_uthb, self.buyer]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        if self.buyer == sender:
            raise Failed(Code.OWN_CERTIFICATE, "a certificate cannot be offered to its owner")
        held = certificates.end_offer(session, self.serial, certificates.get_own(session, self.serial, sender))
        if self.price_uthb:
            session.put(spaces.certificate_offer(held.source, self.price_uthb, self.serial), spaces.PRESENT)
            held = evolve(held, price_uthb=self.price_uthb, buyer=self.buyer)
        session.put(spaces.certificate(self.serial), held)
        return ()
