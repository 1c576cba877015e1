"""The order books as the ledger uses them: a cache of the state over the compiled engine (CONSENSUS 1 and 6).

The engine stands at one block at a time, the *tip*: every loaded window holds what the state after that block
holds. Blocks form a tree, and several children of one parent may be executed. Going from the tip to another block,
only windows touched on the way down to the common ancestor, or on the way up from it, can differ: these are forgotten
and loaded anew from the state on next use. There is no undo.

Use, per block::

    books.at(parent_hash)
    books.ensure(window, load_from_the_state_being_built)     # before the first use of a window: WindowContent
    outcome = books.process(operations, now_ms=..., next_sequence=...)
    books.remove(window, order_ids)                           # orders that timed work closed in state
    books.commit(block_hash, parent_hash, touched_windows)    # or books.abandon()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gridtokenx._native.orderbook import OPERATION, BookError, Engine, EngineFull, Kind, Outcome

BLOCKS_MOST = 256           # executed blocks remembered; a parent further away costs a reload, nothing else


class WindowContent(NamedTuple):
    """A window as the ledger's state has it: orders in `_native.orderbook.RESTING`; see `Engine.load`."""

    records: NDArray[Any]
    capacities: NDArray[Any] | None = None
    residuals: NDArray[Any] | None = None
    flags: int = 0
    work_left: NDArray[Any] | None = None


@frozen
class _Step:
    """An executed block: whose child it is and which windows it touched."""

    parent: bytes
    touched: frozenset[int]


class Books:
    """Keeps one Engine equal to the state of one block of the tree, reloading as little as possible.

    Zones are (loss_ppm, wheel_uthb_kwh) in zone order, corridors (zone, zone, loss_ppm, wheel_uthb_kwh), profiles (mask
    of sources, mask of seller zones); `max_orders` bounds the live orders of all loaded windows, `max_windows` the
    loaded windows. When either is reached, windows that the present block has not used are
    forgotten; EngineFull is raised only when that is not enough.
    """

    def __init__(self, zones: Sequence[tuple[int, int]], max_orders: int = 1 << 17, *, max_windows: int = 2048,
                 corridors: Sequence[tuple[int, int, int, int]] = (), profiles: Sequence[tuple[int, int]] = ()) -> None:
        self._engine = Engine(zones, corridors=corridors, profiles=profiles, max_orders=max_orders,
                              max_windows=max_windows)
        self.corridor_count = len(corridors)
        self._paths: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        self._tip: bytes | None = None
        self._steps: dict[bytes, _Step] = {}
        self._parent: bytes | None = None           # set between `at` and `commit` or `abandon`
        self._loaded: set[int] = set()              # since `at`: loaded from the state being built
        self._worked: set[int] = set()              # since `at`: given operations

    @property
    def engine(self) -> Engine:
        """The compiled engine, for queries: records, depth, best, digest."""
        return self._engine

    @property
    def tip(self) -> bytes | None:
        """The block whose state the loaded windows equal; None before the first."""
        return self._tip

    def at(self, parent_hash: bytes) -> None:
        """Prepares for executing a child of that block. Work begun and not committed is abandoned."""
        self.abandon()
        if parent_hash != self._tip:
            for window in self._differing(parent_hash):
                self._forget(window)
            self._tip = parent_hash
        self._parent = parent_hash

    def paths(self, seller_zone: int, buyer_zone: int) -> list[tuple[int, ...]]:
        """The corridors of every path, as trades number them, from the seller's zone on; none inside a zone."""
        paths = self._paths.get((seller_zone, buyer_zone))
        if paths is None:
            paths = self._paths[seller_zone, buyer_zone] = [
                path.corridors for path in self._engine.paths(seller_zone, buyer_zone)]
        return paths

    def path(self, seller_zone: int, buyer_zone: int, number: int) -> tuple[int, ...]:
        """The corridors of a path that a trade names."""
        return self.paths(seller_zone, buyer_zone)[number]

    def ensure(self, window: int, loader: Callable[[int], WindowContent]) -> None:
        """Loads the window from the ledger's state unless it is loaded.

        `loader` must read the state as it stands now, this block's changes included.
        """
        self._begun()
        if self._engine.loaded(window):
            return
        content = loader(window)
        try:
            self._load(window, content)
        except EngineFull:
            self._make_room()
            self._load(window, content)
        self._loaded.add(window)

    def _load(self, window: int, content: WindowContent) -> None:
        self._engine.load(window, content.records, capacities=content.capacities, residuals=content.residuals,
                          flags=content.flags, work_left=content.work_left)

    def process(self, operations: NDArray[Any], *, now_ms: int, next_sequence: int, uncross_fills: int = 1024,
                uncross_visits: int = 8192) -> Outcome:
        """One batch on loaded windows; see `Engine.process`, whose errors it raises with nothing changed."""
        bounds = {"uncross_fills": uncross_fills, "uncross_visits": uncross_visits}
        self._begun()
        # Before the call: a MemoryError may come after the match.
        self._worked.update(operations["window"].tolist())
        try:
            return self._engine.process(operations, now_ms=now_ms, next_sequence=next_sequence, **bounds)
        except EngineFull:
            self._make_room()
            return self._engine.process(operations, now_ms=now_ms, next_sequence=next_sequence, **bounds)

    def remove(self, window: int, order_ids: Iterable[int]) -> None:
        """The ledger closed these orders in state without the engine; unknown ids and unloaded windows are ignored."""
        self._begun()
        ids = list(order_ids)
        if not ids or not self._engine.loaded(window):
            return
        operations = np.zeros(len(ids), OPERATION)
        operations["order_id"] = ids
        operations["window"] = window
        operations["kind"] = Kind.CANCEL
        self._worked.add(window)
        # Cancels give no sequences; the greatest counter satisfies the engine's check of order.
        self._engine.process(operations, now_ms=0, next_sequence=(1 << 63) - 1 - len(ids))

    def forget(self, window: int) -> None:
        """Drops a window that has closed for good, if it is loaded."""
        self._forget(window)

    def commit(self, block_hash: bytes, parent_hash: bytes, touched: Iterable[int]) -> None:
        """The block is executed: the engine stands at it. `touched` are all windows whose orders it changed in state.

        Windows in `touched` that were neither loaded nor worked on since `at` are forgotten: their state has moved on.
        """
        if parent_hash != self._parent:
            raise BookError(f"commit of a child of {parent_hash.hex()}, but `at` was called for "
                            f"{self._parent.hex() if self._parent is not None else 'no block'}")
        changed = frozenset(touched)
        for window in changed - self._worked - self._loaded:
            self._forget(window)
        self._steps.pop(block_hash, None)
        self._steps[block_hash] = _Step(parent_hash, changed | self._worked)
        while len(self._steps) > BLOCKS_MOST:
            del self._steps[next(iter(self._steps))]
        self._loaded, self._worked = set(), set()
        self._parent = None
        self._tip = block_hash

    def abandon(self) -> None:
        """Gives up what was done since `at`: the windows it used are forgotten."""
        for window in self._loaded | self._worked:
            self._forget(window)
        self._loaded, self._worked = set(), set()
        self._parent = None

    def _begun(self) -> None:
        if self._parent is None:
            raise BookError("call `at(parent_hash)` before working on books")

    def _forget(self, window: int) -> None:
        if self._engine.loaded(window):
            self._engine.forget(window)

    def _make_room(self) -> None:
        """Forgets every window that the present block has not used."""
        for window in self._engine.windows():
            if window not in self._loaded and window not in self._worked:
                self._engine.forget(window)

    def _differing(self, target: bytes) -> set[int]:
        """Windows that may differ between the tip's state and the target's; all when no common ancestor is known."""
        below_tip: dict[bytes, frozenset[int]] = {}     # ancestor of the tip -> windows touched since
        touched: frozenset[int] = frozenset()
        block = self._tip
        while block is not None and block not in below_tip:
            below_tip[block] = touched
            step = self._steps.get(block)
            if step is None:
                break
            touched |= step.touched
            block = step.parent
        touched = frozenset()
        block = target
        for _ in range(BLOCKS_MOST + 1):
            if block in below_tip:
                return set(touched | below_tip[block])
            step = self._steps.get(block)
            if step is None:
                break
            touched |= step.touched
            block = step.parent
        return set(self._engine.windows())
