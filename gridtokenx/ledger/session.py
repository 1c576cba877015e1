"""One block's working state: records decoded once, changed as objects, encoded once at the end.

Every change is journalled, so that an operation or a transaction that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gridtokenx.ledger.schema import decode_value, encode_value
from gridtokenx.ledger.state import StateReader

_ABSENT: Any = object()


def nothing_due(address: bytes) -> None:
    """Default of `Session.release_due`."""


class Session:
    """Reads through to `parent`; `put` changes. Records are immutable: a change is a new record.

    `release_due(address)` is called when an account lacks money: whoever runs the block may then release what
    closed orders still hold (CONSENSUS 2: lazily, whether or not a sweep has run).
    """

    __slots__ = ("_cache", "_dirty", "_journal", "_origin", "height", "parent", "release_due")

    def __init__(self, parent: StateReader, height: int) -> None:
        self.parent = parent
        self.height = height
        self.release_due: Callable[[bytes], None] = nothing_due
        self._cache: dict[bytes, Any] = {}
        self._origin: dict[bytes, Any] = {}
        self._journal: list[tuple[bytes, Any]] = []
        self._dirty: set[bytes] = set()

    def get(self, key: bytes) -> Any:
        """The record at `key` as it stands now, or None."""
        value = self._cache.get(key, _ABSENT)
        if value is _ABSENT:
            raw = self.parent.get(key)
            value = None if raw is None else decode_value(key, raw)
            self._cache[key] = self._origin[key] = value
        return value

    def put(self, key: bytes, value: Any) -> None:
        """Sets the record at `key`; None removes it."""
        old = self._cache.get(key, _ABSENT)
        if old is _ABSENT:
            old = self.get(key)
        self._journal.append((key, old))
        self._dirty.add(key)
        self._cache[key] = value

    def mark(self) -> int:
        """A point that `rollback` returns to."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undoes every `put` since `mark`."""
        journal = self._journal
        while len(journal) > mark:
            key, old = journal.pop()
            self._cache[key] = old

    @property
    def keys_touched(self) -> int:
        """At least as many as `changed` gives."""
        return len(self._dirty)

    def changed(self) -> Iterator[tuple[bytes, Any, Any]]:
        """(key, record before the block or None, record now or None) of what differs, by ascending key."""
        origin, cache = self._origin, self._cache
        for key in sorted(self._dirty):
            before, now = origin[key], cache[key]
            # Most are new or gone: comparing a record with None would ask both.
            if before is not now and (before is None or now is None or not before == now):  # noqa: SIM201 - `!=` asks `==`
                yield key, before, now

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Any]]:
        """Keys of the *parent's* state under `prefix` that still stand, with their records as they are now.

        Keys added in this block are not met: callers look for what was due or listed before it.
        """
        for key, raw in self.parent.scan(prefix):
            value = self._cache.get(key, _ABSENT)
            if value is _ABSENT:
                value = decode_value(key, raw)
                self._cache[key] = self._origin[key] = value
            if value is not None:
                yield key, value


def encode_changes(changes: list[tuple[bytes, Any, Any]]) -> dict[bytes, bytes | None]:
    """The changeset's new values as bytes; None where the key is gone."""
    return {key: None if now is None else encode_value(key, now) for key, _, now in changes}
