"""Where answers to clients are read from: a running node's chain, or a data directory that another process writes.

Both show the newest final block that they know. A node knows blocks that no checkpoint holds yet; a process that only
reads sees checkpoint after checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import trio

from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.state import StateReader, StateView
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.fates import Fate
from gridtokenx.node.feed import Feed, Final
from gridtokenx.node.replica import Replica
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DatabaseDamaged


class View(Protocol):
    """The newest final block, on the event loop; `lock` is held while `state` is read."""

    @property
    def database(self) -> Database: ...
    @property
    def lock(self) -> trio.Lock: ...
    @property
    def head(self) -> Header: ...
    @property
    def state(self) -> StateReader: ...

    @property
    def stored_height(self) -> int:
        """Blocks up to here are in the database, and the view reads them there."""
        ...

    def unstored(self) -> Sequence[ChainBlock]:
        """Final blocks above `stored_height`, oldest first."""
        ...

    async def newer(self, height: int) -> None:
        """Returns when the newest final block is above `height`."""
        ...

    def private_state(self) -> AbstractContextManager[StateReader]:
        """`state` for one other thread; to be entered on the event loop with the lock held."""
        ...

    def final(self, transaction_id: bytes) -> Final | None:
        """Where a transaction became final, if that was lately."""
        ...

    def is_pending(self, transaction_id: bytes) -> bool: ...

    def fate(self, transaction_id: bytes) -> Fate | None:
        """Why a transaction that was accepted here is not pending any more, if it is not in a block."""
        ...


class NodeView:
    """A running node's own chain."""

    def __init__(self, replica: Replica, feed: Feed, database: Database, lock: trio.Lock) -> None:
        self.database = database
        self.lock = lock
        self._replica = replica
        self._chain: Chain = replica.chain
        self._feed = feed

    @property
    def head(self) -> Header:
        return self._chain.head.header

    @property
    def state(self) -> StateReader:
        return self._chain.state

    @property
    def stored_height(self) -> int:
        return self._chain.base.header.height

    def unstored(self) -> Sequence[ChainBlock]:
        return self._chain.finals()

    async def newer(self, height: int) -> None:
        while self.head.height <= height:
            await self._feed.changed.wait()

    def private_state(self) -> AbstractContextManager[StateReader]:
        return self._chain.private_state()

    def final(self, transaction_id: bytes) -> Final | None:
        return self._feed.recent(transaction_id)

    def is_pending(self, transaction_id: bytes) -> bool:
        return transaction_id in self._replica.pool or self._chain.transaction(transaction_id) is not None

    def fate(self, transaction_id: bytes) -> Fate | None:
        return self._replica.fate_of(transaction_id)


class StoredView:
    """The last checkpoint in a data directory; `refresh` looks for a newer one."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lock = trio.Lock()
        self._changed = trio.Event()
        self._snapshot = database.snapshot()
        self._view = self._read()

    def _read(self) -> StateView:
        raw = self.database.header(self._snapshot.height)
        if raw is None:
            raise DatabaseDamaged(f"no header at the checkpoint's height {self._snapshot.height}")
        return StateView(self._snapshot, decode_header(raw))

    def refresh(self) -> bool:
        """Reads on from the newest checkpoint; whether there was a newer one. On the event loop, lock not needed:
        nobody keeps `state` over a wait."""
        if self.database.executed_height == self._snapshot.height:
            return False
        old, self._snapshot = self._snapshot, self.database.snapshot()
        self._view = self._read()
        old.close()
        self._changed.set()
        self._changed = trio.Event()
        return True

    @property
    def head(self) -> Header:
        return self._view.header

    @property
    def state(self) -> StateReader:
        return self._view

    @property
    def stored_height(self) -> int:
        return self._snapshot.height

    def unstored(self) -> Sequence[ChainBlock]:
        return ()

    async def newer(self, height: int) -> None:
        while self.head.height <= height:
            await self._changed.wait()

    @contextmanager
    def private_state(self) -> Iterator[StateReader]:
        with self.database.snapshot() as snapshot:
            raw = self.database.header(snapshot.height)
            assert raw is not None
            yield StateView(snapshot, decode_header(raw))

    def final(self, transaction_id: bytes) -> Final | None:
        del transaction_id
        return None

    def is_pending(self, transaction_id: bytes) -> bool:
        del transaction_id
        return False

    def fate(self, transaction_id: bytes) -> Fate | None:
        del transaction_id
        return None

    def close(self) -> None:
        self._snapshot.close()


class StoredFinals:
    """The checkpoint of a view as the chain that proofs are made on."""

    def __init__(self, view: View) -> None:
        self._view = view

    def finals(self) -> Sequence[ChainBlock]:
        return ()

    @property
    def base(self) -> ChainBlock:
        state, header = self._view.state, self._view.head
        assert isinstance(state, StateView)
        return ChainBlock(header.hash, header, (), state=state)
