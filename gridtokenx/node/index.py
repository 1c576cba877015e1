"""Index rows that a checkpoint stores beside the state: trades by account, newest last.

Keys: one byte for what, 32 for the account, then height (8) and number in the block (4), big-endian; the value
is `[window, number in the window, trade record]`: it stays readable when settlement has removed the trade from state.
"""

from __future__ import annotations

from gridtokenx import codec
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.execute import BlockResult

TRADES_OF = b"T"
TRADES = b"A"


def trade_row(height: int, number: int, account: bytes | None) -> bytes:
    """The key of a trade under an account, or under all trades."""
    prefix = TRADES if account is None else TRADES_OF + account
    return prefix + height.to_bytes(8, "big") + number.to_bytes(4, "big")


def index_rows(header: Header, result: BlockResult) -> list[tuple[bytes, bytes]]:
    """All rows of one block."""
    rows = []
    for number, made in enumerate(result.trades):
        row = codec.encode([made.window, made.number, made.trade.encode()])
        rows.append((trade_row(header.height, number, None), row))
        rows += [(trade_row(header.height, number, account), row) for account in {made.buyer, made.seller}]
    return rows
