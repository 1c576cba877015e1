"""What can go wrong in the store, each with a name of its own."""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError


class StoreError(GridTokenXError):
    """The root of the store's errors."""


class WrongChain(StoreError):
    """A directory of another chain than the one asked for; the message names both."""

    def __init__(self, where: object, found: bytes, expected: bytes) -> None:
        super().__init__(f"{where} belongs to chain {found.hex()}; this node is configured for chain {expected.hex()}. "
                         "Choose another data directory, or the genesis file that this one was made with")
        self.found = found
        self.expected = expected


class WrongVersion(StoreError):
    """A directory in a format, or on rules, that this program does not know."""


class NotInitialised(StoreError):
    """There is no chain in this directory yet."""


class AlreadyInitialised(StoreError):
    """There is a chain in this directory already."""


class DatabaseDamaged(StoreError):
    """The state database contradicts itself or cannot be read. `gridtokenx repair` finds out what can be saved."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} (stop the node and run `gridtokenx repair`)")


class DatabaseFull(StoreError):
    """The map of the database is used up; nothing of the failed transaction was written."""


class DiskFailed(StoreError):
    """The disk refused to read or write; LMDB takes nothing more until it is opened again."""


class DirectoryInUse(StoreError):
    """Another process, or this one, has the directory open for writing."""


class StoreClosed(StoreError):
    """The database, snapshot or log was closed before this call."""


class StoreBusy(StoreError):
    """Another thread of this process held the writer for longer than a caller waits."""


class KeyRefused(StoreError):
    """A key of a length that LMDB cannot hold."""


class CheckpointRefused(StoreError):
    """Blocks that do not follow the last checkpoint, or that are not complete."""


class HistoryPruned(StoreError):
    """The state as of this height is no longer kept; `floor` is the lowest height that is."""

    def __init__(self, height: int, floor: int) -> None:
        super().__init__(f"the state as of height {height} was pruned; heights from {floor} on are kept")
        self.height = height
        self.floor = floor


class HeightUnknown(StoreError):
    """A height above the last checkpoint, or below zero."""


class ProofUnavailable(StoreError):
    """No finalization certificate lies near enough above this height."""


class LeaseError(StoreError):
    """A lease file that cannot be read; pruning waits until it is mended or removed."""


class LogError(StoreError):
    """The log refused a call."""


class LogLost(LogError):
    """Records that were durable are missing or damaged: sign nothing on the strength of this log (CONSENSUS 6)."""


class LogFailed(LogError):
    """A write or sync failed; what reached the disk is unknown, so this log takes nothing more."""
