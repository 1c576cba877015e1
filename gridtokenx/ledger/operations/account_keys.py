"""An account's own keys, k of n: `[4, threshold, [key, ...]]`; threshold 0 and no keys: the address key alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.crypto.keys import is_point
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import AccountKeys
from gridtokenx.ledger.transaction import MAX_SIGNATURES


@frozen
class SetAccountKeys:
    """From the next transaction on, at least `threshold` of `keys` (sorted) sign for the sender, and no others."""

    threshold: int
    keys: tuple[bytes, ...]

    KIND: ClassVar[int] = 4
    NAME: ClassVar[str] = "set account keys"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> SetAccountKeys:
        check_count(fields, "threshold", "keys")
        if type(fields[1]) is not tuple or len(fields[1]) > MAX_SIGNATURES:
            raise Failed(Code.BAD_FIELDS, f"keys must be an array of at most {MAX_SIGNATURES}")
        keys = tuple(address("key", key) for key in fields[1])
        if any(first >= second for first, second in pairwise(keys)):
            raise Failed(Code.BAD_FIELDS, "keys must be sorted, without repeats")
        threshold = integer("threshold", fields[0], min(1, len(keys)), len(keys))
        return cls(threshold, keys)

    def fields(self) -> list[Any]:
        return [self.KIND, self.threshold, list(self.keys)]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        for key in self.keys:
            if not is_point(key):
                raise Failed(Code.BAD_KEY, f"{key.hex()} is no Ed25519 public key")
        account = funds.get_account(session, sender)
        funds.put_account(session, sender, evolve(account, threshold=self.threshold))
        session.put(spaces.account_keys(sender), AccountKeys(self.keys) if self.keys else None)
        return ()
