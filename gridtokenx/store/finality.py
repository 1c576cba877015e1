"""Proofs of finality out of what the database holds (docs/proofs.md)."""

from __future__ import annotations

from collections.abc import Sequence

from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.genesis_state import Genesis
from gridtokenx.ledger.records import Authorities
from gridtokenx.light.format import Boundary, Finality
from gridtokenx.store.chain import StoredBoundary
from gridtokenx.store.database import MAX_BOUNDARIES, Database
from gridtokenx.store.errors import HeightUnknown


def changes_of_list(rows: Sequence[StoredBoundary]) -> list[Boundary]:
    """Those of the boundaries that hand over to another list than their own."""
    found = []
    for row in rows:
        header = decode_header(row.header)
        if header.next_authorities_hash != header.authorities_hash:
            found.append(Boundary(row.header, row.certificate, row.authorities))
    return found


def first_list(genesis: Genesis) -> bytes:
    """The encoded list of the authorities of epoch 0."""
    return Authorities(tuple((entry.name, entry.public) for entry in genesis.authorities)).encode()


def stored_finality(database: Database, genesis: Genesis, height: int) -> Finality:
    """That the block at `height`, which has a certificate of its own, is final: with the changes of the list of
    authorities before it and the end of the epoch before its own. Raises HeightUnknown."""
    header, certificate = database.header(height), database.certificate(height)
    if header is None or certificate is None:
        raise HeightUnknown(f"the database holds no block at height {height} with a certificate of its own; the one at "
                            f"the last checkpoint, {database.executed_height}, has one unless the chain is new")
    epoch = decode_header(header).epoch
    boundaries: list[Boundary] = []
    last: Boundary | None = None
    after = 0
    while True:
        rows = [row for row in database.boundaries(after) if row.epoch < epoch]
        boundaries += changes_of_list(rows)
        if rows:
            last = Boundary(rows[-1].header, rows[-1].certificate, rows[-1].authorities)
        if len(rows) < MAX_BOUNDARIES:
            break
        after = rows[-1].epoch + 1
    if last is not None and last not in boundaries:
        boundaries.append(last)
    return Finality(genesis.header().encode(), first_list(genesis), tuple(boundaries), header, certificate)
