"""What fills and closings of a block do to accounts and positions, in sums: a kernel does what is plain, the rules the
rest.
"""

from __future__ import annotations

from gridtokenx._native.moves import Moves
from gridtokenx._native.orderbook import Code as EngineCode
from gridtokenx._native.orderbook import Kind
from gridtokenx.grid.kinds import RENEWABLE
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.receipts import Code, Outcome
from gridtokenx.ledger.records import Account, Meter, Order, Position
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market import positions
from gridtokenx.market.deferred import Deferred

KERNEL = Moves(
    {record.__name__: record for record in (Account, Deferred, Meter, Order, Outcome, Position)}, Space.__members__,
    present=spaces.PRESENT, place=Kind.PLACE, resting=int(EngineCode.RESTING), ok=Code.OK,
    renewable=frozenset(int(source) for source in RENEWABLE))
"""Does what `Closing.lapse` and `Posting` do with a plain order, and `apply_moves` of `funds` and `positions`."""

AccountMoves = dict[bytes, list[int]]               # bids, proceeds, released, freed
PositionMoves = dict[tuple[int, int], list[int]]    # by window and meter: sold, bought, closed sells, closed buys


def apply(session: Session, accounts: AccountMoves, energy: PositionMoves) -> None:
    """Writes each record once."""
    for address, (bids, proceeds, released, freed) in KERNEL.accounts(session, accounts):
        funds.apply_moves(session, address, bids=bids, proceeds=proceeds, released=released, freed=freed)
    for (window, meter), moves in KERNEL.positions(session, energy):
        positions.apply_moves(session, window, meter, moves)
