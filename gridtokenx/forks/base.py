"""The state that a fork stands on: a node's data directory as of one height, read and never written.

It opens in constant time, whatever the size of the chain: nothing is copied. The node may go on meanwhile; a lease
file keeps it from pruning the history that is read here (CONSENSUS 6), and read transactions are short, because an
open one keeps LMDB from using its pages again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from gridtokenx.errors import GridTokenXError
from gridtokenx.forks.errors import ForkError
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.store.database import LEASES_DIRECTORY, Database
from gridtokenx.store.errors import HeightUnknown
from gridtokenx.store.leases import files_of
from gridtokenx.store.snapshot import HistoricSnapshot

RENEW_AFTER_S = 0.5
LEASE_MS = 3_600_000


class Base:
    """A `StateReader` over the data directory `path` as of `height`. Not thread-safe.

    Raises ForkError when the directory holds no chain, or no state as of that height (the message gives the heights
    that it has). Its lease lasts an hour at a time and is renewed by use.
    """

    def __init__(self, path: Path, height: int | None = None) -> None:
        self.path = path
        try:
            self._database = Database.open_read_only(path)
        except GridTokenXError as error:
            raise ForkError(f"{path} cannot be forked: {error}") from error
        self._lease: Path | None = None
        self._snapshot: HistoricSnapshot | None = None
        self._scans = 0
        self._renew_at_s = self._lease_until_s = 0.0
        try:
            self.height = self._database.executed_height if height is None else height
            self._take_lease()
            raw = self._database.header(self.height)
            if raw is None:
                raise HeightUnknown(f"there is no block {self.height}")
            self.header: Header = decode_header(raw)
        except GridTokenXError as error:
            executed, floor = self._database.executed_height, self._database.history_floor
            self.close()
            raise ForkError(f"{path} cannot be forked at height {height}: {error}. It can be at heights {floor} to "
                            f"{executed}") from error

    @property
    def genesis(self) -> bytes:
        """The genesis record of the parent chain."""
        return self._database.genesis

    # ------------------------------------------------------------ the state

    def get(self, key: bytes) -> bytes | None:
        return self._reading().get(key)

    def page(self, path: bytes) -> bytes | None:
        return self._reading().page(path)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        snapshot = self._reading()
        self._scans += 1                # its transaction is not renewed while a scan goes on
        try:
            yield from snapshot.scan(prefix)
        finally:
            self._scans -= 1

    def _reading(self) -> HistoricSnapshot:
        now_s = time.monotonic()
        if self._snapshot is not None and (self._scans or now_s < self._renew_at_s):
            return self._snapshot
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None
        if now_s >= self._lease_until_s:
            self._take_lease()
        self._snapshot = self._database.state_at(self.height)
        self._renew_at_s = now_s + RENEW_AFTER_S
        return self._snapshot

    def _take_lease(self) -> None:
        before = self._lease
        self._lease = self._database.take_lease(self.height, time.time_ns() // 1_000_000 + LEASE_MS, "fork")
        self._lease_until_s = time.monotonic() + LEASE_MS / 2000
        if before is not None:
            before.unlink(missing_ok=True)

    def keep(self, until_ms: int, owner: str) -> None:
        """Has the history kept until then (Unix ms), also after `close`; in place of what `owner` had kept before."""
        before = files_of(self.path / LEASES_DIRECTORY, owner)
        self._database.take_lease(self.height, until_ms, owner)
        for path in before:
            path.unlink(missing_ok=True)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Gives lease and directory back; harmless when called again."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None
        if self._lease is not None:
            self._lease.unlink(missing_ok=True)
            self._lease = None
        self._database.close()

    def __enter__(self) -> Base:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
