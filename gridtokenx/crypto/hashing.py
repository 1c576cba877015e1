"""SHA-256 with a one-byte domain tag per kind, so that no hash of one kind can pass for another."""

from __future__ import annotations

from enum import IntEnum

from gridtokenx._native.hashing import tagged

HASH_BYTES = 32
ZERO_HASH = bytes(HASH_BYTES)


class Domain(IntEnum):
    """First byte of everything hashed or signed. Values are frozen: they are part of the wire format."""

    GENESIS = 1
    TRANSACTION = 2          # hash of the full bytes, signatures included
    TRANSACTION_SIGNATURE = 3
    HEADER = 4
    RECEIPT = 5
    MERKLE_LEAF = 6
    MERKLE_INNER = 7
    MOUNTAIN_ROOT = 8        # bag of the peaks of a Merkle mountain range
    TRIE_LEAF = 9
    TRIE_INNER = 10
    TRIE_KEY = 11
    TRIE_VALUE = 12
    AUTHORITIES = 13
    EXECUTION_ORDER = 14
    BOOK_DIGEST = 15
    CONSENSUS_VOTE = 16
    STATUS = 17
    LEADER_OFFSET = 18
    FORK = 19
    METER_READING = 20
    AGREEMENT = 30           # signature of a counterparty under a bilateral trade; hash of its terms
    AUTHORITY_CHANGE = 60    # signature of an authority under a change of the list
    EPOCH_SEED = 61


def digest(domain: Domain, *parts: bytes) -> bytes:
    """SHA-256 over the tag byte and the parts, in order; the caller makes parts unambiguous."""
    return tagged(domain, parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts))
