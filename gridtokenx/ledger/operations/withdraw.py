"""Withdraw: a registered issuer burns THB of its own account that it pays out: `[3, amount_uthb, reference]`.

A holder first transfers to the issuer, naming in the memo where the money shall go.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer, memo
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Totals


@frozen
class Withdraw:
    """Counted as burn."""

    amount_uthb: int
    reference: bytes = b""

    KIND: ClassVar[int] = 3
    NAME: ClassVar[str] = "withdraw"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> Withdraw:
        check_count(fields, "amount_uthb", "reference")
        return cls(integer("amount_uthb", fields[0], 1), memo("reference", fields[1]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.amount_uthb, self.reference]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        if sender not in block.context.roles.issuers:
            raise Failed(Code.NOT_ALLOWED, "only a registered issuer withdraws")
        funds.debit(session, sender, self.amount_uthb, "the withdrawal")
        totals: Totals = session.get(spaces.TOTALS)
        session.put(spaces.TOTALS, evolve(totals, burned_uthb=totals.burned_uthb + self.amount_uthb))
        return ()
