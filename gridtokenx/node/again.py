"""What an observer's clients handed in is gossiped again while it is pending.

Gossip reaches who is there and subscribed when it is sent: an observer that has just started may have nobody. An
authority needs none of this: it wakes the others with the ids, and they ask.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from gridtokenx.node.pool import Pool

AGAIN_MS = 3_000
MOST_AGAIN_MS = 24_000
MOST_IDS = 4_096
MOST_BYTES = 128 << 10


@define
class Again:
    """At most `MOST_BYTES` each time, the longest untold first; rarer and rarer while nothing new comes in."""

    pool: Pool
    _ids: dict[bytes, None] = field(factory=dict)
    _pause_ms: int = AGAIN_MS
    _due_ms: int = 0

    @property
    def deadline_ms(self) -> int | None:
        """When `due` is to be asked."""
        return self._due_ms if self._ids else None

    def told(self, ids: Iterable[bytes], now_ms: int) -> None:
        """These were just gossiped. Beyond `MOST_IDS` at a time they are told but once."""
        fresh = [transaction_id for transaction_id in ids if transaction_id not in self._ids]
        if not fresh:
            return
        if not self._ids or self._pause_ms > AGAIN_MS:
            self._pause_ms, self._due_ms = AGAIN_MS, now_ms + AGAIN_MS
        self._ids.update(dict.fromkeys(fresh[:MOST_IDS - len(self._ids)]))

    def due(self, now_ms: int) -> list[bytes]:
        """The transactions to gossip now; what is pending no more is forgotten."""
        if not self._ids or now_ms < self._due_ms:
            return []
        self._pause_ms = min(MOST_AGAIN_MS, 2 * self._pause_ms)
        self._due_ms = now_ms + self._pause_ms
        raws: list[bytes] = []
        size = 0
        for transaction_id in list(self._ids):
            transaction = self.pool.get(transaction_id)
            if transaction is None:
                del self._ids[transaction_id]
                continue
            size += len(transaction.raw)
            if raws and size > MOST_BYTES:
                break
            raws.append(transaction.raw)
            del self._ids[transaction_id]
            self._ids[transaction_id] = None            # to the end
        return raws

    def clear(self) -> None:
        """This node became an authority."""
        self._ids.clear()
