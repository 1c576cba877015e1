"""Merkle mountain range: a list that only grows, the headers of all ancestors (`headers_root`, CONSENSUS 2).

Items stand in perfect trees ("mountains") whose sizes are the binary digits of the count, largest first. What is
kept between blocks is the peaks alone, as bytes: count (8 bytes, big-endian), then one 32-byte peak per one-bit
of the count. Nodes are those of `crypto.merkle`; the root is `digest(MOUNTAIN_ROOT, peaks bytes)`, count
included. A verifier who trusts one header can so check any earlier one with about log2(count) hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto import merkle
from gridtokenx.crypto.hashing import HASH_BYTES, Domain, digest
from gridtokenx.errors import GridTokenXError

EMPTY = bytes(8)
_COUNT_BYTES = 8
MAX_COUNT = (1 << 63) - 1
MAX_PROOF_BYTES = 8 * 1024


class MountainError(GridTokenXError, ValueError):
    """Bytes that are not peaks or a proof, or an index outside the range."""


def _split(peaks: bytes) -> tuple[int, list[bytes]]:
    count = int.from_bytes(peaks[:_COUNT_BYTES], "big")
    if len(peaks) < _COUNT_BYTES or count > MAX_COUNT or len(peaks) != _COUNT_BYTES + HASH_BYTES * count.bit_count():
        raise MountainError(f"{len(peaks)} bytes are not peaks: 8 bytes of count, then 32 per one-bit of it")
    return count, [peaks[start:start + HASH_BYTES] for start in range(_COUNT_BYTES, len(peaks), HASH_BYTES)]


def _join(count: int, hashes: list[bytes]) -> bytes:
    return count.to_bytes(_COUNT_BYTES, "big") + b"".join(hashes)


def count(peaks: bytes) -> int:
    """How many items the range has. Raises MountainError for malformed peaks."""
    return _split(peaks)[0]


def append(peaks: bytes, item: bytes) -> bytes:
    """The peaks after one more item. Raises MountainError for malformed peaks."""
    number, hashes = _split(peaks)
    if number == MAX_COUNT:
        raise MountainError("the range is full")
    node = merkle.leaf(item)
    carry = number
    while carry & 1:
        node = merkle.inner(hashes.pop(), node)
        carry >>= 1
    return _join(number + 1, [*hashes, node])


def root(peaks: bytes) -> bytes:
    """The hash that names the whole range. Raises MountainError for malformed peaks."""
    _split(peaks)
    return digest(Domain.MOUNTAIN_ROOT, peaks)


@frozen
class MountainProof:
    """Shows one item at one index: the siblings inside its mountain, from the leaf up, and the whole peaks."""

    index: int
    siblings: tuple[bytes, ...]
    peaks: bytes

    def encode(self) -> bytes:
        return codec.encode([self.index, b"".join(self.siblings), self.peaks])


def decode_proof(raw: bytes) -> MountainProof:
    """Reads a proof. Raises MountainError (or CodecError) naming what is wrong; proves nothing by itself."""
    fields = codec.decode(raw, max_bytes=MAX_PROOF_BYTES)
    if type(fields) is not list or len(fields) != 3 or type(fields[0]) is not int:
        raise MountainError("a proof is [index, siblings, peaks]")
    index, siblings, peaks = fields
    if type(siblings) is not bytes or len(siblings) % HASH_BYTES:
        raise MountainError(f"the siblings are one byte string of {HASH_BYTES} bytes each")
    if type(peaks) is not bytes:
        raise MountainError("the peaks are a byte string")
    if not 0 <= index < _split(peaks)[0]:
        raise MountainError(f"index {index} lies outside the range")
    return MountainProof(index, tuple(siblings[start:start + HASH_BYTES]
                                      for start in range(0, len(siblings), HASH_BYTES)), peaks)


def _mountain(index: int, number: int) -> tuple[int, int, int]:
    """(which peak, its first item, its size) of the mountain that holds `index`."""
    first = 0
    which = 0
    for bit in range(number.bit_length() - 1, -1, -1):
        size = number & 1 << bit
        if size:
            if index < first + size:
                return which, first, size
            first += size
            which += 1
    raise MountainError(f"index {index} of {number} items")


def prove(peaks: bytes, index: int, item_at: Callable[[int], bytes]) -> MountainProof:
    """The proof of item `index`; `item_at` gives the items of its mountain (each is asked for once, in order).

    It costs as many reads as the mountain has items, at most the count. Raises MountainError for an index outside
    the range or items that do not make the peak.
    """
    number, hashes = _split(peaks)
    if not 0 <= index < number:
        raise MountainError(f"index {index} of {number} items")
    which, first, size = _mountain(index, number)
    level = [merkle.leaf(item_at(place)) for place in range(first, first + size)]
    siblings = []
    place = index - first
    while len(level) > 1:
        siblings.append(level[place ^ 1])
        level = [merkle.inner(level[left], level[left + 1]) for left in range(0, len(level), 2)]
        place //= 2
    if level[0] != hashes[which]:
        raise MountainError("the items given are not those of the range")
    return MountainProof(index, tuple(siblings), peaks)


def prove_after(peaks: bytes, items: Sequence[bytes]) -> MountainProof:
    """The proof of `items[0]` in the range that has `peaks` before it and ends with the last of `items`.

    Costs as much as appending the items. Raises MountainError for malformed peaks, or without items.
    """
    number, hashes = _split(peaks)
    if not items:
        raise MountainError("which item? None is given")
    sizes = [1 << bit for bit in range(number.bit_length() - 1, -1, -1) if number >> bit & 1]
    mountains = [(size, node, False) for size, node in zip(sizes, hashes, strict=True)]
    siblings = []
    for place, item in enumerate(items):
        size, node, marked = 1, merkle.leaf(item), place == 0
        while mountains and mountains[-1][0] == size:
            _, left, left_marked = mountains.pop()
            if marked or left_marked:
                siblings.append(left if marked else node)
            size, node, marked = 2 * size, merkle.inner(left, node), marked or left_marked
        mountains.append((size, node, marked))
    return MountainProof(number, tuple(siblings), _join(number + len(items), [node for _, node, _ in mountains]))


def verify(root_hash: bytes, item: bytes, proof: MountainProof) -> bool:
    """True iff `proof` shows that the range with this root has `item` at `proof.index`."""
    try:
        number, hashes = _split(proof.peaks)
    except MountainError:
        return False
    if not 0 <= proof.index < number or digest(Domain.MOUNTAIN_ROOT, proof.peaks) != root_hash:
        return False
    which, first, size = _mountain(proof.index, number)
    return merkle.climb(merkle.leaf(item), proof.index - first, size, proof.siblings) == hashes[which]
