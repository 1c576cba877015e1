"""Why transactions that were accepted here are pending no longer, for senders who ask; bounded."""

from __future__ import annotations

from attrs import define, field, frozen

from gridtokenx.ledger.receipts import Code
from gridtokenx.node.pool_entries import Left

MOST = 65_536

EVICTING = frozenset({Code.POOL_FULL, Code.REPLACED, Code.NONCE_GAP})
"""Given up by this node's pool alone: another node may still hold the transaction, and a block take it."""


@frozen
class Fate:
    """`state` is refused, or evicted where another node may think otherwise; then `code` and `reason`."""

    state: str
    code: Code
    reason: str


@define
class Fates:
    """The newest `most` fates."""

    most: int = MOST
    _fates: dict[bytes, Fate] = field(factory=dict)

    def __len__(self) -> int:
        return len(self._fates)

    def get(self, transaction_id: bytes) -> Fate | None:
        return self._fates.get(transaction_id)

    def add(self, left: Left) -> None:
        self._fates.pop(left.id, None)
        self._fates[left.id] = Fate("evicted" if left.code in EVICTING else "refused", left.code, left.reason)
        if len(self._fates) > self.most:
            del self._fates[next(iter(self._fates))]

    def forget(self, transaction_id: bytes) -> None:
        """It is pending again."""
        self._fates.pop(transaction_id, None)
