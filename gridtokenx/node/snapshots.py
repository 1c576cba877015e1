"""A running node's part in snapshots: making and serving them, and beginning with one of its peers' (docs/storage.md).

A snapshot is made by a child process at low priority: it only reads, and votes go before. A new node that is far
behind its peers holds its sync, fetches the newest snapshot that they offer, builds a database of it beside the one in
use, and starts again on that. Everything fetched is checked against genesis, so any peer will do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import structlog
import trio
from attrs import frozen

from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.light.verify import Trust
from gridtokenx.network.limits import Offence
from gridtokenx.network.network import Network
from gridtokenx.node.config import NodeConfig
from gridtokenx.node.service import Service
from gridtokenx.node.snapshot_fetch import Fetcher, NoSnapshot
from gridtokenx.node.snapshot_wire import PROTOCOL, Shelf, SnapshotServer
from gridtokenx.snapshots.format import Manifest
from gridtokenx.snapshots.restore import restore_snapshot
from gridtokenx.store.database import Database

SNAPSHOTS_DIRECTORY = "snapshots"
KEPT = 2
LOOK_S = 2.0
MAKING_TIMEOUT_S = 3600.0
REQUEST_TIMEOUT_S = 30.0
PEERS_WAIT_S = 10.0
"""A new node looks for peers that are far ahead for so long; then it replays the chain as it comes."""
PEERS_POLL_S = 0.2
SETTLE_S = 1.0
"""After the first peer, for others: chunks come from several."""
AGAIN_S = 2.0


@frozen
class Snapshots:
    """What a node does about snapshots. `now`: begin with one whatever the distance, and wait for it."""

    config: NodeConfig
    genesis: Genesis
    database: Database
    service: Service
    now: bool

    async def serve(self) -> None:
        """Answers peers, and makes a snapshot each time that enough blocks have become final. Runs until cancelled."""
        every = self.config.store.snapshot_blocks
        shelf = Shelf(self.config.node.data_dir / SNAPSHOTS_DIRECTORY)
        self.service.network.serve(PROTOCOL, SnapshotServer(shelf).handle)
        try:
            while True:
                files = await trio.to_thread.run_sync(shelf.look, KEPT)
                newest = max((file.height for file in files), default=0)
                height = self.service.replica.chain.base.header.height
                if every and height // every > newest // every:
                    await self._make(height, shelf.path(height))
                    continue
                await trio.sleep(LOOK_S)
        finally:
            shelf.close()

    async def _make(self, height: int, out: Path) -> None:
        command = [sys.executable, "-m", "gridtokenx.cli", "snapshot", "create", str(self.config.node.data_dir),
                   "--height", str(height), "--out", str(out), "--nice", "--replace"]
        log, began = structlog.get_logger("snapshots"), trio.current_time()
        result = None
        with trio.move_on_after(MAKING_TIMEOUT_S):
            result = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
        if result is not None and not result.returncode:
            log.info("snapshot_made", height=height, took_ms=round((trio.current_time() - began) * 1000))
            return
        said = f"not done after {MAKING_TIMEOUT_S:.0f} s" if result is None else (
            result.stdout.decode("utf-8", "replace").strip()[-500:])
        log.warning("snapshot_failed", height=height, error=said)
        await trio.sleep(60.0)

    async def begin(self) -> bool:
        """Fetches a snapshot and builds the database of it, if one is wanted; True if the node is to start again on it.

        Raises NoSnapshot only when one was asked for and peers were found but have none.
        """
        behind = self.config.store.snapshot_when_behind
        chain, log = self.service.replica.chain, structlog.get_logger("snapshots")
        new = chain.head.header.height == 0
        if not self.now and not (new and behind):
            return False
        if not await self._peers_ahead(None if self.now else behind):
            return False
        self.service.hold_sync = True
        try:
            await trio.sleep(SETTLE_S)
            above = chain.head.header.height if self.now else behind
            fetcher = self._fetcher()
            for attempt in range(3):
                peers = [peer.public for peer in self.service.network.peers() if peer.connected]
                try:
                    began = trio.current_time()
                    manifest = await fetcher.fetch(peers, above)
                    header = await trio.to_thread.run_sync(self._restore, manifest, fetcher)
                except (GridTokenXError, OSError) as error:
                    log.warning("snapshot_not_used", error=str(error), attempt=attempt + 1)
                    if attempt == 2 and self.now:
                        raise NoSnapshot(f"no snapshot could be used: {error}") from error
                    await trio.sleep(AGAIN_S)
                    continue
                log.info("snapshot_restored", height=header.height, keys=sum(manifest.keys),
                         bytes=fetcher.bytes_received, took_ms=round((trio.current_time() - began) * 1000))
                await trio.to_thread.run_sync(fetcher.forget)
                return True
            return False
        finally:
            self.service.hold_sync = False

    def _restore(self, manifest: Manifest, fetcher: Fetcher) -> Header:
        return restore_snapshot(manifest, map(fetcher.chunk, range(manifest.chunks)), self.genesis,
                                self.config.node.data_dir, map_bytes=self.config.store.map_size_mib << 20)

    async def _peers_ahead(self, behind: int | None) -> bool:
        """Whether peers come that are so far ahead; with None, whether any comes, however long it takes."""
        until = trio.current_time() + PEERS_WAIT_S
        while behind is None or trio.current_time() < until:
            ahead = [peer for peer in self.service.network.peers() if peer.connected
                     and (behind is None or peer.head_height > behind)]
            if ahead:
                return True
            await trio.sleep(PEERS_POLL_S)
        return False

    def _fetcher(self) -> Fetcher:
        network: Network = self.service.network

        async def request(peer: bytes, payload: bytes) -> bytes:
            return await network.request(peer, PROTOCOL, payload, REQUEST_TIMEOUT_S)

        return Fetcher(request, lambda peer, reason: network.report(peer, Offence.INVALID, reason),
                       Trust.of_hash(self.genesis.header().hash), self.config.node.data_dir)
