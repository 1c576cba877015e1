"""What the interface stands on: reads over a view, and the facts of a node, or of a gateway that only reads."""

from __future__ import annotations

import time
from typing import Any, Protocol

from gridtokenx.ledger import queries
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.node.confirmations import Confirmations
from gridtokenx.node.depths import Depths
from gridtokenx.node.epochs import members_of
from gridtokenx.node.prove import Prover
from gridtokenx.node.reads import Reads
from gridtokenx.node.view import StoredFinals

Map = dict[str, Any]


class Backend(Protocol):
    """`status` and `authorities` read the state: hold the view's lock."""

    @property
    def reads(self) -> Reads: ...

    @property
    def depths(self) -> Depths: ...

    @property
    def takes_transactions(self) -> bool: ...

    @property
    def confirmations(self) -> Confirmations | None:
        """Of transactions submitted here; None where none can be."""
        ...

    @property
    def prover(self) -> Prover:
        """Makes light proofs: hold the view's lock."""
        ...

    def status(self) -> Map: ...

    def peers(self) -> list[Map]: ...

    def authorities(self) -> list[Map]: ...

    async def submit(self, raws: list[bytes]) -> list[tuple[bytes, int, str]]:
        """(id, code, message) of each; code 0: in the pool. Raises Refused when the node is too busy."""
        ...

    async def wait(self, ids: list[bytes], timeout_s: float) -> list[Map]:
        """The fate of each, once all are final or refused, or after the timeout. Raises FeedFull."""
        ...


class StoredFacts:
    """A gateway over a data directory: it knows blocks and state, and nothing of peers and the pool."""

    takes_transactions = False
    confirmations = None

    def __init__(self, reads: Reads, genesis: Genesis, version: str) -> None:
        self.reads = reads
        self.depths = Depths(reads, genesis)
        self._genesis = genesis
        self._version = version
        self._started_s = time.monotonic()
        self.prover = Prover(genesis, reads.view.database, StoredFinals(reads.view))

    def status(self) -> Map:
        header, state = self.reads.view.head, self.reads.view.state
        clock = queries.market_clock(state)
        return {
            "name": "gateway", "version": self._version, "chain_id": self._genesis.chain_id,
            "chain_name": self._genesis.name, "authority": "", "public": None, "height": header.height,
            "hash": header.hash, "state_root": header.state_root, "timestamp_ms": header.timestamp_ms,
            "epoch": header.epoch, "view": header.view, "leader": "", "delta_ms": 0,
            "market_time_s": clock.now_ms // 1000, "market_rate": clock.rate, "window": clock.now_ms // 900_000,
            "peers": 0, "pending_transactions": 0, "produced": {}, "confirmations": 0,
            "confirmation_p50_ms": None, "confirmation_p99_ms": None, "checkpoint_height": header.height,
            "certificates_verified": 0, "uptime_ms": int((time.monotonic() - self._started_s) * 1000),
        }

    def peers(self) -> list[Map]:
        return []

    def authorities(self) -> list[Map]:
        return [{"name": name, "public": public, "produced": 0}
                for name, public in members_of(self.reads.view.state)]

    async def submit(self, raws: list[bytes]) -> list[tuple[bytes, int, str]]:
        raise NotImplementedError("a gateway takes no transactions")

    async def wait(self, ids: list[bytes], timeout_s: float) -> list[Map]:
        raise NotImplementedError("a gateway takes no transactions")
