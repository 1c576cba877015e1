"""Records of a window's market beside its orders and trades: halts, the breaker, uncrossing that is not done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from gridtokenx.ledger.records import Record

if TYPE_CHECKING:
    from attrs import frozen
else:
    frozen = define

UNTIL_RESUMED = 1 << 62


@frozen
class FormerWheeling(Record):
    """Rates of wheeling that a fork replaced: (height of the change, key of the zone or corridor, uTHB/kWh before it).

    By height; kept as long as there are trades to settle that were made before. Only forks have this record.
    """

    changes: tuple[tuple[int, bytes, int], ...]

    def rate(self, key: bytes, height: int, present: int) -> int:
        """The rate of a zone or corridor in the block `height`; `present` is today's."""
        for changed, element, before in self.changes:
            if element == key and height < changed:
                return before
        return present


@frozen
class Trading(Record):
    """Whether a window is halted, and what the breaker counts (MARKET 3, price band).

    `halted_until_ms` is market time, UNTIL_RESUMED without an end, 0 when trading. The others count continuous trades
    since the last halt by the breaker: injected Wh, value to sellers, the first participants on each side.
    """

    halted_until_ms: int = 0
    injected_wh: int = 0
    value_uthb: int = 0
    buyers: tuple[int, ...] = ()
    sellers: tuple[int, ...] = ()


@frozen
class WorkLeft(Record):
    """Where uncrossing of a window goes on (`_native.orderbook.WORK_LEFT`)."""

    sequence: int
    closed_low: int
    closed_high: int
    price: int
    again: int
