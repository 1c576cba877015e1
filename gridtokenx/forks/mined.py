"""What a block of a fork brought."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from gridtokenx.ledger.block import Header
from gridtokenx.ledger.receipts import Code, Receipt
from gridtokenx.ledger.run import BlockResult
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market.posting import Fill


@frozen
class Refusal:
    """A transaction that no block could take, and why."""

    code: Code
    reason: str


@frozen
class Mined:
    """A block: what came of the transactions in it (by ticket), and its trades."""

    header: Header
    receipts: dict[int, Receipt | Refusal]
    fills: tuple[Fill, ...]


def mined_from(result: BlockResult, included: Iterable[Transaction], refused: Iterable[tuple[Transaction, Code, str]],
               tickets: dict[bytes, int]) -> Mined:
    """`tickets` are by transaction id."""
    receipts: dict[int, Receipt | Refusal] = {}
    for transaction, receipt in zip(included, result.receipts, strict=True):
        receipts[tickets[transaction.id]] = receipt
    for transaction, code, reason in refused:
        receipts[tickets[transaction.id]] = Refusal(code, reason)
    return Mined(result.header, receipts, result.trades)
