"""Showing a final block without a certificate of its own to be an ancestor of one that has (CONSENSUS 2, headers_root).

Every header commits to the mountain range of all headers before it, so the distance does not matter to whoever checks;
here the headers between the two are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Peaks
from gridtokenx.light.format import Ancestor
from gridtokenx.node.chain import ChainBlock
from gridtokenx.node.sync import encode_stored_certificate
from gridtokenx.store.database import Database
from gridtokenx.store.errors import StoreError

MAX_DISTANCE = 65_536
"""Headers between a block and the next certificate that are read."""


class Finals(Protocol):
    """A chain as proofs need it: final blocks above a base that is in the database, and that base with its state."""

    def finals(self) -> Sequence[ChainBlock]: ...

    @property
    def base(self) -> ChainBlock: ...


class CannotProve(GridTokenXError):
    """What is asked for is not on this node, or not final yet; the message says which."""

    code = "cannot_prove"


def certified_from(database: Database, chain: Finals, height: int) -> tuple[bytes, bytes, Ancestor | None]:
    """Header and certificate of the first block from `height` on that has one, and, if it is another, how the block
    at `height` leads to it. Raises CannotProve."""
    first = raw = _header(database, chain, height)
    hashes: list[bytes] = []
    at = height
    while raw is not None and len(hashes) <= MAX_DISTANCE:
        certificate = _certificate(database, chain, at)
        if certificate is not None:
            if at == height or first is None:
                return raw, certificate, None
            path = mountain_range.prove_after(_peaks(database, chain, height), hashes)
            return raw, certificate, Ancestor(first, path.encode())
        hashes.append(digest(Domain.HEADER, raw))
        at += 1
        raw = _header(database, chain, at)
    if raw is None:
        raise CannotProve(f"block {height} is final by a certificate that this node does not have yet; ask again in a "
                          "moment")
    raise CannotProve(f"no block among the {MAX_DISTANCE} after height {height} has a certificate of its own")


def _held(chain: Finals, height: int) -> ChainBlock | None:
    finals = chain.finals()
    place = height - chain.base.header.height - 1
    return finals[place] if 0 <= place < len(finals) else None


def _certificate(database: Database, chain: Finals, height: int) -> bytes | None:
    held = _held(chain, height)
    if held is not None and held.certificate is not None:
        return encode_stored_certificate(held.certificate)
    return database.certificate(height)


def _header(database: Database, chain: Finals, height: int) -> bytes | None:
    held = _held(chain, height)
    return database.header(height) if held is None else held.header.encode()


def _peaks(database: Database, chain: Finals, height: int) -> bytes:
    """The range of the headers below `height`: from the state there, or made anew from the headers."""
    held = _held(chain, height)
    raw: bytes | None
    if held is not None and held.state is not None:
        raw = held.state.get(spaces.PEAKS)
    else:
        try:
            with database.state_at(height) as past:
                raw = past.get(spaces.PEAKS)
        except StoreError:
            raw = None
    if raw is not None:
        return Peaks.decode(raw).peaks
    peaks = mountain_range.EMPTY
    for at in range(height):
        header = database.header(at)
        if header is None:
            raise CannotProve(f"this node does not hold the headers below height {height}; ask one that has the whole "
                              "chain")
        peaks = mountain_range.append(peaks, digest(Domain.HEADER, header))
    return peaks
