"""Pending work as a reason for a view: the own pool's, and what others woke this authority for (CONSENSUS 5, 7).

Work that nobody includes must not keep the network awake: own work left out of n blocks in a row stops arming
for 10 s, and so does the WAKE of an authority whose last n brought empty blocks only.
"""

from __future__ import annotations

from attrs import define

MUTED_FOR_MS = 10_000
COMPANY = 4                       # transactions in the last block that had any, from which lingering pays
WAKE_GOOD_FOR_MS = 1_000


@define
class _Waker:
    woken_ms: int | None = None
    fruitless: int = 0
    muted_until_ms: int = 0


class Work:
    """Times are monotonic ms."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.weight = 0
        self.ids: tuple[bytes, ...] = ()
        self._since_ms = 0
        self._company = False
        self._left_out = 0
        self._muted: frozenset[bytes] = frozenset()
        self._muted_until_ms = 0
        self._wakers = [_Waker() for _ in range(n)]

    def pending(self, weight: int, ids: tuple[bytes, ...], now_ms: int) -> None:
        """The node's report of its own pool."""
        if weight > 0 and self.weight == 0:
            self._since_ms = now_ms
            self._left_out = 0
        self.weight, self.ids = weight, ids

    def since_ms(self, now_ms: int) -> int | None:
        """Since when own work has waited, or when it will arm again; None if there is none."""
        if self.weight == 0:
            return None
        if now_ms < self._muted_until_ms and self._muted.issuperset(self.ids):
            return self._muted_until_ms
        return self._since_ms

    def linger_ms(self, linger_ms: int, max_block_weight: int) -> int:
        """How long a leader waits for more: not with much at hand, nor when transactions come one by one, where
        it would only delay them."""
        return linger_ms if self._company and self.weight < max_block_weight // 8 else 0

    def woken(self, authority: int, now_ms: int) -> None:
        waker = self._wakers[authority]
        if now_ms >= waker.muted_until_ms and waker.woken_ms is None:
            waker.woken_ms = now_ms

    def woken_ms(self, now_ms: int) -> int | None:
        """When the first WAKE that still counts came, None without one."""
        times = [waker.woken_ms for waker in self._wakers
                 if waker.woken_ms is not None and now_ms - waker.woken_ms <= WAKE_GOOD_FOR_MS]
        return min(times, default=None)

    def extended(self, transactions: int, now_ms: int) -> None:
        """The chain grew by a block with that many transactions."""
        for waker in self._wakers:
            if waker.woken_ms is None:
                continue
            waker.woken_ms = None
            waker.fruitless = 0 if transactions else waker.fruitless + 1
            if waker.fruitless >= self._n:
                waker.fruitless, waker.muted_until_ms = 0, now_ms + MUTED_FOR_MS
        self._left_out = 0 if transactions or self.weight == 0 else self._left_out + 1
        self._since_ms = now_ms
        if transactions:
            self._company = transactions >= COMPANY
        if self._left_out >= self._n:
            self._left_out, self._muted, self._muted_until_ms = 0, frozenset(self.ids), now_ms + MUTED_FOR_MS
