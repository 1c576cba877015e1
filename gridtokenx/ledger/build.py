"""Building one's own block: the same execution, leaving out what does not fit or may not be in."""

from __future__ import annotations

from collections.abc import Iterable

from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.run import BlockInputs, BlockResult, BlockRun
from gridtokenx.ledger.state import StateView
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.market.book import Books

MAX_REBUILDS = 16
MAX_MISSES = 16
"""A block into which so many in a row did not fit is full: trying all that is pending takes longer than the block."""
_PASSING = frozenset({Code.WRONG_NONCE, Code.UNFUNDED_FEE})


class _Quarantined(Exception):
    """A transaction that raised something undeclared."""

    def __init__(self, transaction: Transaction, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.transaction = transaction


class _TooHeavy(Exception):
    """A transaction that was tried although it might not fit, and did not."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__("it does not fit into a block")
        self.transaction = transaction


class _Broken(Exception):
    """These transactions together break the end of the block."""

    def __init__(self, included: list[Transaction], cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.included = included


def build_block(
    parent: StateView, inputs: BlockInputs, candidates: Iterable[Transaction], books: Books, *, empty: bool = False,
) -> tuple[BlockResult, list[Transaction], list[tuple[Transaction, Code, str]]]:
    """A block on `parent` from `candidates`, taken in the order given while they fit by size, then in execution order.

    Returns the executed block, its transactions in execution order, and those that can never be in a block on this
    state (expired, fee too low, wrong signers, nonce used up, too heavy for any block, or an internal error while
    executing: quarantined, CONSENSUS 2). Others that did not fit or must wait are simply left out.
    Raises InvalidBlock when the inputs themselves allow no block.
    """
    chosen = [] if empty else list(candidates)
    refused: list[tuple[Transaction, Code, str]] = []
    for _ in range(MAX_REBUILDS):
        try:
            result, included, more = _attempt(parent, inputs, chosen, books)
        except _Quarantined as bad:
            books.abandon()
            refused.append((bad.transaction, Code.INTERNAL, str(bad)))
            chosen = [transaction for transaction in chosen if transaction is not bad.transaction]
        except _TooHeavy as heavy:
            books.abandon()
            refused.append((heavy.transaction, Code.TOO_HEAVY, str(heavy)))
            chosen = [transaction for transaction in chosen if transaction is not heavy.transaction]
        except _Broken as broken:
            books.abandon()
            if len(broken.included) == 1:
                refused.append((broken.included[0], Code.INTERNAL, str(broken)))
            chosen = broken.included[:len(broken.included) // 2]
        except BaseException:
            books.abandon()
            raise
        else:
            return result, included, refused + more
    result, included, _ = _attempt(parent, inputs, [], books)
    return result, included, refused


def _attempt(parent: StateView, inputs: BlockInputs, candidates: list[Transaction],
             books: Books) -> tuple[BlockResult, list[Transaction], list[tuple[Transaction, Code, str]]]:
    run = BlockRun(parent, inputs, books)
    run.begin()
    parameters = run.parameters
    fitting: dict[bytes, Transaction] = {}
    size = 0
    for transaction in candidates:
        if transaction.id not in fitting and size + len(transaction.raw) <= parameters.max_block_bytes:
            fitting[transaction.id] = transaction
            size += len(transaction.raw)
    included: list[Transaction] = []
    refused: list[tuple[Transaction, Code, str]] = []
    misses = 0
    for transaction in run.order.sort(fitting.values()):
        try:
            if _include(run, transaction):
                included.append(transaction)
                misses = 0
            else:
                misses += 1
                if misses >= MAX_MISSES:
                    break
        except Failed as failure:
            if failure.code not in _PASSING or _used_up(run, transaction):
                refused.append((transaction, failure.code, str(failure)))
        except _TooHeavy:
            raise
        except Exception as error:
            raise _Quarantined(transaction, error) from error
    try:
        return run.finish(), included, refused
    except Exception as error:
        if included:
            raise _Broken(included, error) from error
        raise


def _include(run: BlockRun, transaction: Transaction) -> bool:
    """Applies the transaction if the block stays within its weight whatever the engine makes of queued orders.

    One that might be too heavy for any block is tried on a block still half empty, and the engine asked at once.
    """
    limit = run.parameters.max_block_weight
    run_before = run.desk.mark() > 0
    for engine_ran in (False, True):
        mark, before = run.mark(), run.weight
        try:
            run.apply(transaction)
        except Failed:
            run.rollback(mark)
            raise
        if run.weight_worst <= limit:
            return True
        if (engine_ran or not run_before) and before < limit // 2 and run.weight_worst - before > limit // 2:
            run.desk.flush()
            if run.weight > limit:
                raise _TooHeavy(transaction)
            return True
        run.rollback(mark)
        if engine_ran or not run_before:
            return False
        run.desk.flush()        # what the queued orders really weigh is less than the worst
    return False


def _used_up(run: BlockRun, transaction: Transaction) -> bool:
    return run.nonce(transaction.sender) > transaction.nonce
