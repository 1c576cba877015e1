"""The state machine: `execute_block` is what every peer computes before it votes, alike to the byte (DESIGN 6).

No I/O, no clock, no randomness: the result depends on the parent's state, the inputs and the transactions alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridtokenx.ledger.receipts import Failed, InvalidBlock
from gridtokenx.ledger.run import BlockInputs, BlockResult, BlockRun
from gridtokenx.ledger.state import StateView
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market.book import Books

__all__ = ["BlockInputs", "BlockResult", "execute_block"]


def execute_block(parent: StateView, inputs: BlockInputs, transactions: Sequence[Transaction],
                  books: Books) -> BlockResult:
    """Executes a block on its parent's state; the header of the result carries all roots.

    Signatures are verified by the caller beforehand. Raises InvalidBlock when a rule of validity is broken (order,
    nonce, fee, expiry, signers, size, weight), InvariantError when conservation is; `books` then forgets what it did.
    """
    try:
        run = BlockRun(parent, inputs, books)
        run.begin()
        size = sum(len(transaction.raw) for transaction in transactions)
        if size > run.parameters.max_block_bytes:
            raise InvalidBlock(f"{size} bytes of transactions; at most {run.parameters.max_block_bytes} are allowed")
        last = None
        for transaction in transactions:
            rank = run.order.rank(transaction)
            if last is not None and rank <= last:
                raise InvalidBlock(f"transaction {transaction.id.hex()} is not in execution order")
            last = rank
        for transaction in transactions:
            try:
                run.apply(transaction)
            except Failed as failure:
                raise InvalidBlock(f"transaction {transaction.id.hex()} ({failure.code.name}): {failure}") from failure
        return run.finish()
    except BaseException:
        books.abandon()
        raise
