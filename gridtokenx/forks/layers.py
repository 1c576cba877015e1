"""A chain's newest state in few layers, so that reading it stays quick after thousands of blocks.

Every block lays its changes over its parent's. Here neighbours of like size are merged, as a log-structured merge tree
does: n changes lie in about log(n) layers to the base `STEP`, and each change is copied a few times in each. Layers are
never changed, so an older state that somebody holds (a snapshot to revert to) stays what it is.
"""

from __future__ import annotations

from gridtokenx.ledger.state import StateReader, StateView

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
