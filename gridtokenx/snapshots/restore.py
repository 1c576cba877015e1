"""From a manifest and its chunks to a data directory that a node goes on from, without the blocks before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from gridtokenx.ledger import spaces
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.genesis_state import Genesis
from gridtokenx.ledger.records import Epoch
from gridtokenx.light.format import Boundary
from gridtokenx.light.verify import Trust
from gridtokenx.snapshots.format import (
    Manifest,
    Node,
    SnapshotError,
    check_chunk,
    check_manifest,
    top_pages,
)
from gridtokenx.store.chain import StoredBoundary
from gridtokenx.store.restoring import Restoring

Progress = Callable[[int, int], None]


def _silent(_: int, __: int) -> None:
    pass


def restore_snapshot(manifest: Manifest, chunks: Iterable[bytes], genesis: Genesis, data: Path, *, map_bytes: int,
                     progress: Progress = _silent) -> Header:
    """Builds the database of `data` from a snapshot of the chain of `genesis`; returns the block that it is of.

    Everything is checked on the way, so the chunks may come from anyone. The database takes its place at the end, in
    one step. Raises BadManifest, BadChunk, SnapshotError, StoreError; the data directory is then as it was.
    """
    header = check_manifest(manifest, Trust.of_hash(genesis.header().hash))
    ends: list[tuple[Node, tuple[bytes, bytes] | None]] = []
    epoch_raw = authorities = None
    with Restoring(data, map_bytes) as restoring:
        for index, raw in enumerate(chunks):
            if index >= manifest.chunks:
                raise SnapshotError(f"more chunks than the {manifest.chunks} of the manifest")
            chunk = check_chunk(manifest, index, raw)
            restoring.put(chunk.pairs, chunk.pages.items())
            for key, value in chunk.pairs:
                if key == spaces.EPOCH:
                    epoch_raw = value
                elif key == spaces.AUTHORITIES:
                    authorities = value
            ends.append((chunk.node, chunk.leaf))
            progress(len(ends), manifest.chunks)
        if len(ends) != manifest.chunks:
            raise SnapshotError(f"{len(ends)} chunks of {manifest.chunks}")
        restoring.put((), top_pages(manifest.nibbles, ends).items())
        if epoch_raw is None or authorities is None:
            raise SnapshotError("the state has no epoch or no list of authorities")
        restoring.finish(
            chain_id=genesis.chain_id, genesis=genesis.canonical(), height=header.height, header_hash=header.hash,
            header=manifest.finality.header, certificate=manifest.finality.certificate,
            boundaries=_boundaries(manifest, header, Epoch.decode(epoch_raw), authorities),
            rules_version=header.rules_version)
    return header


def _boundaries(manifest: Manifest, header: Header, epoch: Epoch, authorities: bytes) -> list[StoredBoundary]:
    """The ends of epochs that the node will need: those of the proof, and the block itself if it is one."""
    finality = manifest.finality
    rows = list(finality.boundaries)
    if epoch.number == header.epoch + 1:
        rows.append(Boundary(finality.header, finality.certificate, authorities))
    elif epoch.number != header.epoch:
        raise SnapshotError(f"block {header.height} is of epoch {header.epoch}, but its state of epoch {epoch.number}")
    found = [StoredBoundary(decode_header(row.header).epoch, row.header, row.certificate, row.authorities)
             for row in rows]
    if epoch.number and (not found or found[-1].epoch != epoch.number - 1
                         or decode_header(found[-1].header).height != epoch.root_height):
        raise SnapshotError(f"the snapshot lacks the block that ended epoch {epoch.number - 1}, at height "
                            f"{epoch.root_height}")
    return found
