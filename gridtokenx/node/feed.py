"""What clients hear of the chain: a push per final block, and answers to "tell me when this is final"."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

import trio
from attrs import define, field, frozen

from gridtokenx.errors import GridTokenXError
from gridtokenx.node.chain import ChainBlock

RECENT_FINAL = 200_000
"""At most; those that a checkpoint holds are forgotten before."""
MAX_WAITED = 100_000


class FeedFull(GridTokenXError):
    """Too many transactions are waited for."""

    code = "too_many_waits"


@frozen
class Final:
    """Where a transaction became final, and its first failing code or 0."""

    height: int
    position: int
    code: int


@define
class Feed:
    """Subscribers and waiters of one node; all called from its event loop."""

    authority_names: dict[bytes, str]
    produced: dict[str, int] = field(factory=dict)
    _subscribers: dict[int, tuple[int, Callable[[dict[str, Any]], None]]] = field(factory=dict)
    changed: trio.Event = field(factory=trio.Event)
    """Set at the next final block, and then another one."""
    _next: int = 1
    _recent: dict[bytes, Final] = field(factory=dict)
    _waiting: dict[bytes, list[trio.Event]] = field(factory=dict)

    def subscribe(self, session: int, push: Callable[[dict[str, Any]], None]) -> int:
        """For one client session. `push` must not block; returns the number to unsubscribe with."""
        number = self._next
        self._next += 1
        self._subscribers[number] = (session, push)
        return number

    def unsubscribe(self, number: int, session: int) -> bool:
        """Ends a subscription of `session`; False if it has none of that number."""
        if number not in self._subscribers or self._subscribers[number][0] != session:
            return False
        del self._subscribers[number]
        return True

    def subscriptions_of(self, session: int) -> int:
        return sum(owner == session for owner, _ in self._subscribers.values())

    def final(self, block: ChainBlock) -> None:
        """Tells everybody concerned about the newest final block."""
        name = self.authority_names.get(block.header.proposer, "")
        self.produced[name] = self.produced.get(name, 0) + 1
        codes = first_codes(block)
        for index, (transaction_id, code) in enumerate(zip(block.ids, codes, strict=True)):
            self._recent[transaction_id] = Final(block.header.height, index, code)
            for event in self._waiting.pop(transaction_id, ()):
                event.set()
        self.changed.set()
        self.changed = trio.Event()
        while len(self._recent) > RECENT_FINAL:
            del self._recent[next(iter(self._recent))]
        if self._subscribers:
            push = block_push(block, name, codes)
            for _, subscriber in list(self._subscribers.values()):
                subscriber(push)

    def stored(self, height: int) -> None:
        """The database knows the fate of all that became final up to that height."""
        done = list(takewhile(lambda identity: self._recent[identity].height <= height, self._recent))
        for identity in done:
            del self._recent[identity]

    def refused(self, transaction_id: bytes) -> None:
        """The transaction will never be final: who waits need not any longer."""
        for event in self._waiting.pop(transaction_id, ()):
            event.set()

    def recent(self, transaction_id: bytes) -> Final | None:
        return self._recent.get(transaction_id)

    async def wait(self, transaction_id: bytes) -> None:
        """Returns when the transaction is final or refused; the caller sets the timeout. Cancelling forgets the waiter.

        Raises FeedFull when too much is waited for.
        """
        if transaction_id in self._recent:
            return
        if len(self._waiting) >= MAX_WAITED:
            raise FeedFull(f"{MAX_WAITED} transactions are waited for already; ask again later")
        event = trio.Event()
        self._waiting.setdefault(transaction_id, []).append(event)
        try:
            await event.wait()
        finally:
            events = self._waiting.get(transaction_id)
            if events is not None and event in events:
                events.remove(event)
                if not events:
                    del self._waiting[transaction_id]


def first_codes(block: ChainBlock) -> list[int]:
    """Per transaction the first failing code, or 0."""
    if block.result is None:
        return [0] * len(block.transactions)
    return [next((int(outcome.code) for outcome in receipt.outcomes if not outcome.ok), 0)
            for receipt in block.result.receipts]


def block_push(block: ChainBlock, proposer: str, codes: list[int]) -> dict[str, Any]:
    """The map that subscribers of `blocks` get; amounts in Wh and uTHB."""
    header = block.header
    return {
        "height": header.height, "hash": block.digest, "proposer": proposer, "view": header.view,
        "timestamp_ms": header.timestamp_ms, "state_root": header.state_root,
        "transaction_ids": list(block.ids), "codes": codes,
        "trades": len(block.result.trades) if block.result is not None else 0,
        "traded_wh": sum(wh for wh, _ in header.market), "value_uthb": sum(value for _, value in header.market),
        "zones": [list(zone) for zone in header.market],
        "flags": [list(flag) for flag in block.result.flags] if block.result is not None else [],
        "overdrawn": list(block.result.overdrawn) if block.result is not None else [],
    }
