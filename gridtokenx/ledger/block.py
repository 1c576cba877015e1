"""Block headers (CONSENSUS 2). Certificates are beside the header, never in it."""

from __future__ import annotations

from typing import Any

from attrs import evolve, frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import HASH_BYTES, Domain, digest
from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES
from gridtokenx.errors import GridTokenXError

HEADER_VERSION = 1
MAX_HEADER_BYTES = 4096
MAX_BODY_TRANSACTIONS = 16_384


class BlockError(GridTokenXError):
    """Bytes that are not a well-formed header."""


@frozen
class Header:
    """What authorities sign: everything a block commits to. `market` is per zone (traded Wh, value uTHB)."""

    chain_id: bytes
    rules_version: int
    epoch: int
    view: int
    height: int
    parent: bytes
    timestamp_ms: int
    proposer: bytes
    transactions_root: bytes
    receipts_root: bytes
    state_root: bytes
    headers_root: bytes
    authorities_hash: bytes
    next_authorities_hash: bytes
    market: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        return codec.encode([
            HEADER_VERSION, self.chain_id, self.rules_version, self.epoch, self.view, self.height, self.parent,
            self.timestamp_ms, self.proposer, self.transactions_root, self.receipts_root, self.state_root,
            self.headers_root, self.authorities_hash, self.next_authorities_hash,
            [list(zone) for zone in self.market],
        ])

    @property
    def hash(self) -> bytes:
        """SHA-256 of the canonical header: the block's name."""
        return digest(Domain.HEADER, self.encode())

    def with_(self, **changes: Any) -> Header:
        return evolve(self, **changes)


def decode_header(raw: bytes) -> Header:
    """Reads a header. Raises BlockError (or CodecError) naming the field that is wrong."""
    fields = codec.decode(raw, max_bytes=MAX_HEADER_BYTES)
    if type(fields) is not list or len(fields) != 16 or fields[0] != HEADER_VERSION:
        raise BlockError(f"a header is an array of 16 fields that starts with version {HEADER_VERSION}")
    for index in (2, 3, 4, 5, 7):
        if type(fields[index]) is not int or not 0 <= fields[index] < 1 << 63:
            raise BlockError(f"header field {index} must be an integer from 0 to 2^63-1")
    for index in (1, 6, 9, 10, 11, 12, 13, 14):
        if type(fields[index]) is not bytes or len(fields[index]) != HASH_BYTES:
            raise BlockError(f"header field {index} must be {HASH_BYTES} bytes")
    if type(fields[8]) is not bytes or len(fields[8]) not in (0, PUBLIC_KEY_BYTES):
        raise BlockError("the proposer is a 32-byte key, or empty in genesis")
    market = fields[15]
    if type(market) is not list or len(market) > 64 or any(
        type(zone) is not list or len(zone) != 2 or any(type(part) is not int for part in zone) for zone in market
    ):
        raise BlockError("the market summary is [[Wh, uTHB], ...], one pair per zone")
    summary = tuple((zone[0], zone[1]) for zone in market)
    return Header(*[*fields[1:15], summary])
