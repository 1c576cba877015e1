"""Deposit: a registered issuer mints THB it has received: `[2, to, amount_uthb, reference]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.operations.base import Block, address, check_count, integer, memo
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Totals
from gridtokenx.market.money import SUPPLY_MOST


@frozen
class Deposit:
    """`reference` is the issuer's own, of the payment it stands for. Counted as mint."""

    to: bytes
    amount_uthb: int
    reference: bytes = b""

    KIND: ClassVar[int] = 2
    NAME: ClassVar[str] = "deposit"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> Deposit:
        check_count(fields, "to", "amount_uthb", "reference")
        return cls(address("to", fields[0]), integer("amount_uthb", fields[1], 1), memo("reference", fields[2]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.to, self.amount_uthb, self.reference]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        if sender not in block.context.roles.issuers:
            raise Failed(Code.NOT_ALLOWED, "only a registered issuer deposits")
        totals: Totals = session.get(spaces.TOTALS)
        # The bound on all that was ever minted bounds balances, so no addition can leave 64 bits (`market.money`).
        if totals.genesis_uthb + totals.minted_uthb + self.amount_uthb > SUPPLY_MOST:
            raise Failed(Code.SUPPLY_LIMIT, f"more THB than {SUPPLY_MOST} uTHB cannot be minted")
        session.put(spaces.TOTALS, evolve(totals, minted_uthb=totals.minted_uthb + self.amount_uthb))
        funds.credit(session, self.to, self.amount_uthb)
        return ()
