"""State as a map of bytes: what reads it, and the overlay that one block lays over its parent's state."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from gridtokenx._native.state import Changes, Layer, Merged, over, span
from gridtokenx.ledger import trie
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.spaces import OF_WINDOWS

CARRIED_MOST = 32_768
"""Keys, and as many pages, that are known of a checkpoint's state from those before it: most blocks change the same."""


class StateReader(Protocol):
    """A state at one height: a store's snapshot, or a `StateView`."""

    def get(self, key: bytes) -> bytes | None:
        """The canonical CBOR value of `key`, or None."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) whose key begins with `prefix`, ascending."""
        ...

    def page(self, path: bytes) -> bytes | None:
        """The trie page at `path`, or None."""
        ...


class OrderedReader(StateReader, Protocol):
    """A state that tells where its keys end: most of what a block asks for are new keys beyond."""

    def last_key(self, prefix: bytes) -> bytes | None:
        """The last key that begins with `prefix`, one byte; None if there is none."""
        ...


class EmptyState:
    """The state before genesis."""

    def get(self, key: bytes) -> bytes | None:  # noqa: ARG002 - the protocol's signature
        return None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:  # noqa: ARG002
        return iter(())

    def page(self, path: bytes) -> bytes | None:  # noqa: ARG002
        return None


class Recent(Merged):
    """The changes of several blocks over `base`, merged: what reads at the last of them need not walk through.

    One thread may read while another adds a block: readers of that block's descendants see the same either way.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        base: OrderedReader

    def __init__(self, base: OrderedReader, before: Recent | None = None) -> None:
        """`before`: the same over an earlier state, of which `base` has all blocks but those that are added next."""
        super().__init__(base, before, CARRIED_MOST, OF_WINDOWS)


class StateView(Layer):
    """The state after the block `header`: that block's net changes over the state of its parent.

    `changes` and `pages` are what a checkpoint writes (None: the key or page is gone); they never change once
    the view is made. Laid over a store's snapshot with no changes, it is that snapshot's state.
    """

    __slots__ = ("_sorted",)

    if TYPE_CHECKING:
        parent: StateReader
        header: Header
        recent: Recent | None
        """A short cut: this block's changes and all below, given to the newest final block as long as it is that."""

    def __init__(self, parent: StateReader, header: Header,
                 changes: dict[bytes, bytes | None] | Changes | Merged | None = None,
                 pages: dict[bytes, bytes | None] | None = None) -> None:
        super().__init__(parent, header, changes, pages)
        self._sorted: list[bytes] | None = None

    def rebase(self, reader: StateReader) -> None:
        """Reads below this view go to `reader`, which holds the same state as the parent did."""
        self.parent = reader

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Lazy: costs what is consumed, not what has changed."""
        layers: list[Iterator[tuple[bytes, bytes | None]] | None] = []
        reader: StateReader | None = self
        while type(reader) is StateView:
            recent = reader.recent
            if recent is not None:
                layers.append(recent.range(prefix))
                reader = recent.base if not prefix or recent.reaches(prefix) else None
                break
            layers.append(reader._range(prefix))
            reader = reader.parent
        rows = iter(()) if reader is None else reader.scan(prefix)
        for layer in reversed(layers):
            if layer is not None:
                rows = over(layer, rows)
        return rows

    def _range(self, prefix: bytes) -> Iterator[tuple[bytes, bytes | None]] | None:
        keys = self._sorted
        if keys is None:
            keys = self._sorted = sorted(self.changes)
        return _layer(keys, prefix, self.changes)

    def prove(self, key: bytes) -> trie.Proof:
        """The proof under `header.state_root` that `key` has its value, or has none."""
        return trie.prove(self.page, self.header.state_root, key)


def _layer(keys: list[bytes], prefix: bytes,
           changes: dict[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes | None]] | None:
    start = bisect_left(keys, prefix)
    if start == len(keys) or not keys[start].startswith(prefix):
        return None
    return span(keys, start, prefix, changes)
