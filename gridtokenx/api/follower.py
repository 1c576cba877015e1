"""Follows the newest final block and tells of every block in order, for metrics and feeds."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gridtokenx.node.reads import Reads


class Follower:
    """`listeners` are called with each height once, on the event loop with the view's lock held; they must not wait.

    `settled` ones are called once the last of several new blocks was told.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._log = structlog.get_logger("http")
        self.height = reads.view.head.height
        self.listeners: list[Callable[[int], None]] = []
        self.settled: list[Callable[[int], None]] = []

    async def run(self) -> None:
        view = self._reads.view
        while True:
            await view.newer(self.height)
            while self.height < view.head.height:
                async with view.lock:               # between two full blocks the event loop has a turn
                    self._tell(self.listeners, self.height + 1)
                    self.height += 1
                    if self.height == view.head.height:
                        self._tell(self.settled, self.height)

    def _tell(self, listeners: list[Callable[[int], None]], height: int) -> None:
        for tell in listeners:
            try:
                tell(height)
            except Exception:  # noqa: BLE001 - a defect in what is shown must not stop a validator
                self._log.exception("feed_failed", height=height)
