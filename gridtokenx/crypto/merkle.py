"""Merkle trees over ordered lists of byte strings: the roots of transactions and receipts (CONSENSUS 2).

The tree is that of RFC 6962: the left part of n > 1 items holds the largest power of two below n, so no leaf is
doubled. Leaf `digest(MERKLE_LEAF, item)`, inner `digest(MERKLE_INNER, left, right)`. The root is
`digest(MERKLE_INNER, count as 8 bytes, top)`: it names the number of items, so a proof cannot show an item at
another index of a list of another length. The root of the empty list is 32 zero bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridtokenx.crypto.hashing import HASH_BYTES, ZERO_HASH, Domain, digest
from gridtokenx.errors import GridTokenXError

EMPTY_ROOT = ZERO_HASH
MAX_ITEMS = 1 << 32


class MerkleError(GridTokenXError, ValueError):
    """An index outside the list, or bytes that are not what a tree is made of."""


def leaf(item: bytes) -> bytes:
    return digest(Domain.MERKLE_LEAF, item)


def inner(left: bytes, right: bytes) -> bytes:
    return digest(Domain.MERKLE_INNER, left, right)


def _root(count: int, top: bytes) -> bytes:
    return digest(Domain.MERKLE_INNER, count.to_bytes(8, "big"), top)


def _levels(items: Sequence[bytes]) -> list[list[bytes]]:
    """Bottom up; an odd node at the end of a level moves up as it is, which gives RFC 6962's shape."""
    levels = [[leaf(item) for item in items]]
    while len(levels[-1]) > 1:
        level = levels[-1]
        above = [inner(level[index], level[index + 1]) for index in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        levels.append(above)
    return levels


def merkle_root(items: Sequence[bytes]) -> bytes:
    """The root of the list. Raises MerkleError for more than 2^32 items."""
    if len(items) > MAX_ITEMS:
        raise MerkleError(f"{len(items)} items; at most {MAX_ITEMS} are allowed")
    if not items:
        return EMPTY_ROOT
    return _root(len(items), _levels(items)[-1][0])


def prove(items: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings, from the leaf up, that show item `index` under `merkle_root(items)`. Raises MerkleError."""
    if not 0 <= index < len(items):
        raise MerkleError(f"index {index} of {len(items)} items")
    siblings = []
    for level in _levels(items)[:-1]:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        index //= 2
    return tuple(siblings)


def verify(root: bytes, item: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """True iff `proof` shows that the list of `count` items under `root` has `item` at `index`."""
    if not 0 <= index < count <= MAX_ITEMS:
        return False
    top = climb(leaf(item), index, count, proof)
    return top is not None and _root(count, top) == root


def climb(node: bytes, index: int, count: int, proof: Sequence[bytes]) -> bytes | None:
    """The top of a tree of `count` leaves with leaf hash `node` at `index`; None if the proof has another shape."""
    remaining = iter(proof)
    width = count
    while width > 1:
        if index ^ 1 < width:
            sibling = next(remaining, None)
            if sibling is None or len(sibling) != HASH_BYTES:
                return None
            node = inner(sibling, node) if index % 2 else inner(node, sibling)
        index //= 2
        width = (width + 1) // 2
    return None if next(remaining, None) is not None else node
