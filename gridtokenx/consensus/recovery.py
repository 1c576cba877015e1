"""From the records of the log to where a core starts again (CONSENSUS 6, start-up)."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from gridtokenx.consensus.config import HeldBlock, Recovered, Root
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote

LogRecord = HeldBlock | Vote | Propose | Certificate


@frozen
class Restart:
    """`finalized` are the blocks after the base up to `root`, oldest first: execute them, comparing every root,
    before a Core is made of `root` and `recovered`."""

    root: Root
    finalized: tuple[HeldBlock, ...]
    recovered: Recovered
    finalizations: dict[bytes, Certificate]      # of blocks, by digest


def restart_from(base: Root, records: Iterable[LogRecord]) -> Restart:
    """Finds the last final block whose ancestors down to `base` are all in the log, and what lies beyond it.

    `base` is the checkpoint, or genesis. A finalized block whose body or ancestors are not in the log is left
    to the core, which fetches them: its certificate is among those recovered.
    """
    blocks: dict[bytes, HeldBlock] = {}
    certificates: list[Certificate] = []
    votes: list[Vote | Propose] = []
    for record in records:
        if isinstance(record, HeldBlock):
            blocks[record.digest] = record
        elif isinstance(record, Certificate):
            certificates.append(record)
        else:
            votes.append(record)

    root, settled = base, (0, base.view)
    finalized: tuple[HeldBlock, ...] = ()
    finals = [known for known in certificates if known.kind is Kind.FINALIZE]
    for certificate in sorted(finals, key=_place, reverse=True):
        path = _path(certificate.digest, base, blocks)
        if path:
            last = path[-1].header
            root = Root(path[-1].digest, last.height, certificate.view, last.timestamp_ms, certificate)
            finalized, settled = path, _place(certificate)
            break
    return Restart(root, finalized, Recovered(
        tuple(vote for vote in votes if _place(vote) > settled),
        tuple(block for block in blocks.values() if block.header.height > root.height
              and (block.header.epoch, block.header.view) > settled),
        tuple(certificate for certificate in certificates if _place(certificate) > settled)),
        {certificate.digest: certificate for certificate in finals})


def _place(record: Vote | Propose | Certificate) -> tuple[int, int]:
    """Views are counted anew in each epoch."""
    return record.epoch, record.view


def _path(digest: bytes, base: Root, blocks: dict[bytes, HeldBlock]) -> tuple[HeldBlock, ...]:
    """The blocks from after `base` to `digest`, oldest first; empty if one is missing."""
    path: list[HeldBlock] = []
    step = digest
    while step != base.digest:
        block = blocks.get(step)
        if block is None:
            return ()
        path.append(block)
        step = block.header.parent
    return tuple(reversed(path))
