"""Transfer of THB between accounts: `[1, to, amount_uthb, memo]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import funds
from gridtokenx.ledger.operations.base import Block, address, check_count, integer, memo


@frozen
class Transfer:
    """The receiver can spend it at once; a new address becomes an account."""

    to: bytes
    amount_uthb: int
    memo: bytes = b""

    KIND: ClassVar[int] = 1
    NAME: ClassVar[str] = "transfer"
    WEIGHT: ClassVar[int] = 30
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> Transfer:
        check_count(fields, "to", "amount_uthb", "memo")
        return cls(address("to", fields[0]), integer("amount_uthb", fields[1], 1), memo("memo", fields[2]))

    def fields(self) -> list[Any]:
        return [self.KIND, self.to, self.amount_uthb, self.memo]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        funds.debit(session, sender, self.amount_uthb, "the transfer")
        funds.credit(session, self.to, self.amount_uthb)
        return ()
