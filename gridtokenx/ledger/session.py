"""One block's working state: records decoded once, changed as objects, encoded once at the end.

Every change is journalled, so that an operation or a transaction that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gridtokenx._native.state import Changes, Working
from gridtokenx.ledger.schema import VALUES
from gridtokenx.ledger.state import StateReader


def nothing_due(address: bytes) -> None:
    """Default of `Session.release_due`."""


class Session(Working):
    """Reads through to `parent`; `put` changes. Records are immutable: a change is a new record.

    `release_due(address)` is called when an account lacks money: whoever runs the block may then release what
    closed orders still hold (CONSENSUS 2: lazily, whether or not a sweep has run).
    """

    __slots__ = ()

    if TYPE_CHECKING:
        parent: StateReader
        release_due: Callable[[bytes], None]

    def __init__(self, parent: StateReader, height: int) -> None:
        super().__init__(parent, height, nothing_due, VALUES)


def encode_changes(changes: Changes) -> None:
    """Makes bytes of all that is new in them: what `changes.encoded` gives, and a `StateView` takes."""
    changes.encode()
