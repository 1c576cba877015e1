"""Fetching a snapshot from peers: manifest, then chunks from several at a time, each checked as it comes.

What was checked is kept in `incoming/` of the data directory, so a node that was stopped goes on where it was. A peer
that gave a bad chunk is reported and asked for no more.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import trio
from attrs import define, field

from gridtokenx.errors import GridTokenXError, leaves
from gridtokenx.ledger.block import decode_header
from gridtokenx.light.verify import Trust
from gridtokenx.network.settings import NetworkError
from gridtokenx.node.snapshot_wire import CHUNK, MANIFEST, OFFERS, decode_offers, encode_request
from gridtokenx.snapshots.format import (
    BadChunk,
    BadManifest,
    Manifest,
    SnapshotError,
    check_chunk,
    check_manifest,
    decode_manifest,
)

INCOMING_DIRECTORY = "incoming"
MANIFEST_NAME = "manifest"
PARALLEL = 4
MAX_FAILURES = 4
FAILURE_WAIT_S = 0.5


class NoSnapshot(SnapshotError):
    """No peer offers a snapshot that is new enough, or none is left that gives it."""


@define
class _Holder:
    public: bytes
    failures: int = 0


@define
class Fetcher:
    """`request(peer, payload)` raises NetworkError or TooSlowError; `report(peer, reason)` is for what proves a
    fault of the peer's."""

    request: Callable[[bytes, bytes], Awaitable[bytes]]
    report: Callable[[bytes, str], None]
    trust: Trust
    data_dir: Path
    bytes_received: int = 0
    _holders: list[_Holder] = field(factory=list)
    _turn: int = 0

    @property
    def _folder(self) -> Path:
        return self.data_dir / INCOMING_DIRECTORY

    async def fetch(self, peers: list[bytes], above: int) -> Manifest:
        """The newest snapshot of a height above `above` that any of `peers` offers, whole in `incoming/`.

        Raises NoSnapshot.
        """
        offered = await self._offers(peers)
        manifest = await trio.to_thread.run_sync(self._begun)
        if manifest is not None:
            height = decode_header(manifest.finality.header).height
            if height <= above or height not in offered:
                manifest = None
        if manifest is None:
            manifest = await self._manifest(offered, above)
        self._holders = [_Holder(peer) for peer in offered[decode_header(manifest.finality.header).height]]
        await self._chunks(manifest)
        return manifest

    def chunk(self, index: int) -> bytes:
        """The bytes of a fetched chunk."""
        return self._path(index).read_bytes()

    def forget(self) -> None:
        """Removes what was fetched."""
        shutil.rmtree(self._folder, ignore_errors=True)

    # ------------------------------------------------------------ manifest

    async def _offers(self, peers: list[bytes]) -> dict[int, list[bytes]]:
        """Height -> the peers that offer it."""
        offered: dict[int, list[bytes]] = {}

        async def ask(peer: bytes) -> None:
            try:
                raw = await self.request(peer, encode_request(OFFERS))
                self.bytes_received += len(raw)
                for height, _, _ in decode_offers(raw):
                    offered.setdefault(height, []).append(peer)
            except (GridTokenXError, trio.TooSlowError) as error:
                _log().info("no_offers", peer=peer.hex()[:16], error=str(error) or type(error).__name__)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ask, peer)
        return offered

    def _begun(self) -> Manifest | None:
        """The manifest that an earlier attempt left, if it is good."""
        try:
            manifest = decode_manifest((self._folder / MANIFEST_NAME).read_bytes())
            check_manifest(manifest, self.trust)
        except (OSError, BadManifest):
            return None
        return manifest

    async def _manifest(self, offered: dict[int, list[bytes]], above: int) -> Manifest:
        for height in sorted((height for height in offered if height > above), reverse=True):
            for peer in list(offered[height]):
                try:
                    raw = await self.request(peer, encode_request(MANIFEST, height))
                    self.bytes_received += len(raw)
                    manifest = await trio.to_thread.run_sync(self._checked, raw, height)
                except BadManifest as error:
                    self.report(peer, str(error))
                    _log().warning("bad_manifest", peer=peer.hex()[:16], error=str(error))
                    offered[height].remove(peer)
                    continue
                except (NetworkError, trio.TooSlowError) as error:
                    _log().info("manifest_failed", peer=peer.hex()[:16], error=str(error) or type(error).__name__)
                    offered[height].remove(peer)
                    continue
                await trio.to_thread.run_sync(self._begin, raw)
                return manifest
        raise NoSnapshot(f"no peer offers a good snapshot of a height above {above}")

    def _checked(self, raw: bytes, height: int) -> Manifest:
        manifest = decode_manifest(raw)
        header = check_manifest(manifest, self.trust)
        if header.height != height:
            raise BadManifest(f"asked for height {height}, got a manifest of height {header.height}")
        return manifest

    def _begin(self, raw: bytes) -> None:
        self.forget()
        self._folder.mkdir(mode=0o750, parents=True)
        _write(self._folder / MANIFEST_NAME, raw)

    # ------------------------------------------------------------ chunks

    async def _chunks(self, manifest: Manifest) -> None:
        missing = [index for index in range(manifest.chunks)
                   if not await trio.to_thread.run_sync(self._has, manifest, index)]
        _log().info("snapshot", height=decode_header(manifest.finality.header).height, chunks=manifest.chunks,
                    missing=len(missing), peers=len(self._holders))
        missing.reverse()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(PARALLEL):
                    nursery.start_soon(self._worker, manifest, missing)
        except BaseExceptionGroup as group:
            refused = next((error for error in leaves(group) if isinstance(error, NoSnapshot)), None)
            if refused is None or any(not isinstance(error, NoSnapshot | trio.Cancelled) for error in leaves(group)):
                raise
            raise refused from group

    async def _worker(self, manifest: Manifest, missing: list[int]) -> None:
        while missing:
            index = missing.pop()
            while not await self._get(manifest, index):
                await trio.lowlevel.checkpoint()

    async def _get(self, manifest: Manifest, index: int) -> bool:
        """Whether the next peer in turn gave the chunk. Raises NoSnapshot when there is none left."""
        if not self._holders:
            raise NoSnapshot(f"chunk {index} of {manifest.chunks}: no peer is left that gives it; what came is kept "
                             "for the next start")
        holder = self._holders[self._turn % len(self._holders)]
        self._turn += 1
        height = decode_header(manifest.finality.header).height
        try:
            raw = await self.request(holder.public, encode_request(CHUNK, height, manifest.nibbles, index))
            self.bytes_received += len(raw)
            await trio.to_thread.run_sync(self._keep, manifest, index, raw)
        except BadChunk as error:
            self.report(holder.public, str(error))
            _log().warning("bad_chunk", peer=holder.public.hex()[:16], error=str(error))
            holder.failures = MAX_FAILURES
        except (NetworkError, trio.TooSlowError) as error:
            _log().info("chunk_failed", peer=holder.public.hex()[:16], chunk=index,
                        error=str(error) or type(error).__name__)
            holder.failures += 1
            await trio.sleep(FAILURE_WAIT_S)
        else:
            holder.failures = 0
            return True
        if holder.failures >= MAX_FAILURES and holder in self._holders:
            self._holders.remove(holder)
        return False

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:05d}"

    def _has(self, manifest: Manifest, index: int) -> bool:
        try:
            check_chunk(manifest, index, self.chunk(index))
        except (OSError, BadChunk):
            return False
        return True

    def _keep(self, manifest: Manifest, index: int, raw: bytes) -> None:
        check_chunk(manifest, index, raw)
        _write(self._path(index), raw)


def _write(path: Path, raw: bytes) -> None:
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_bytes(raw)
    unfinished.rename(path)


def _log() -> structlog.stdlib.BoundLogger:
    return structlog.get_logger("snapshots")  # type: ignore[no-any-return]
