"""A chain's newest state in few layers, so that reading it stays quick after thousands of blocks.

Every block lays its changes over its parent's. Here neighbours of like size are merged, as a log-structured merge tree
does: n changes lie in about log(n) layers to the base `STEP`, and each change is copied a few times in each. Layers are
never changed, so an older state that somebody holds (a snapshot to revert to) stays what it is.

While nobody needs former states (`Growing`), blocks are laid into one layer instead, and only the last one has a state
root.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from gridtokenx._native.state import Rows
from gridtokenx.ledger import trie
from gridtokenx.ledger.state import EmptyState, Recent, StateReader, StateView

STEP = 6
"""How much larger the layer below is, at least. A block asks for many keys that are new, in every layer."""


def compact(view: StateView) -> StateView:
    """The same state and header as `view`; its top layers merged until each is small beside the one below."""
    changes, pages, parent = view.changes, view.pages, view.parent
    while isinstance(parent, StateView) and len(parent.changes) <= STEP * len(changes):
        changes = {**parent.changes, **changes}
        pages = {**parent.pages, **pages}
        parent = parent.parent
    return view if parent is view.parent else StateView(parent, view.header, changes, pages)


def rooted(view: StateView) -> StateView:
    """The state after a block that has the state root of the one it lies on, with its own."""
    below = view.parent
    assert isinstance(below, StateView)
    root, pages = trie.update(below.page, below.header.state_root, view.changes.items())
    return StateView(below, evolve(view.header, state_root=root), view.changes, pages)


def flatten(view: StateView) -> tuple[StateReader, dict[bytes, bytes | None], dict[bytes, bytes | None]]:
    """(what lies below all layers, all changes over it, all trie pages over it); None stands for removed."""
    layers: list[StateView] = []
    reader: StateReader = view
    while isinstance(reader, StateView):
        layers.append(reader)
        reader = reader.parent
    changes: dict[bytes, bytes | None] = {}
    pages: dict[bytes, bytes | None] = {}
    for layer in reversed(layers):
        changes.update(layer.changes)
        pages.update(layer.pages)
    return reader, changes, pages


class Growing:
    """States over `base`, whose root is known: one layer takes in block after block. Only the newest may be read."""

    def __init__(self, base: StateView) -> None:
        self._base = base
        self._recent = Recent(_Ordered(base))

    def add(self, block: StateView) -> StateView:
        """The state after `block`, which was executed on the newest one and has no root of its own."""
        self._recent.add(block)
        view = StateView(self._base, block.header)
        view.recent = self._recent
        return view

    def holds(self, state: StateView) -> bool:
        """Whether `state` is the newest here."""
        return state.recent is self._recent

    def rooted(self, newest: StateView) -> StateView:
        """The same state with its root in its header. Nothing may be added any more."""
        root, pages = trie.update(self._base.page, self._base.header.state_root, Rows(self._recent))
        view = StateView(self._base, evolve(newest.header, state_root=root), self._recent, pages)
        self._recent.pages.update(pages)
        view.recent = self._recent          # its tables are small, and their keys need no sorting
        return view


class _Ordered:
    """`view` as the state below `Growing`."""

    def __init__(self, view: StateView) -> None:
        self._below, changes, _ = flatten(view)
        self.get, self.page = view.get, view.page
        self._view = view
        self._last: dict[int, bytes] = {}
        for key in changes:
            if key > self._last.get(key[0], b""):
                self._last[key[0]] = key

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._view.scan(prefix)

    def last_key(self, prefix: bytes) -> bytes | None:
        """The last key under `prefix`, or one that is not below it."""
        return self._last.get(prefix[0]) if isinstance(self._below, EmptyState) else prefix + _BEYOND


_BEYOND = b"\xff" * 64
