"""The state trie: one root over all of the state, with proofs of inclusion and absence (CONSENSUS 6, state root).

A binary sparse Merkle trie over SHA-256. A key's place is the 256 bits of `digest(TRIE_KEY, key)`, most
significant first. A subtree without keys is 32 zero bytes; one with a single key is that key's leaf,
`digest(TRIE_LEAF, key hash, value hash)`, wherever it stands; any other is `digest(TRIE_INNER, left, right)`.

It is stored as pages of four levels. A page path is one byte, the number of nibbles (0 to 63), then the nibbles,
two to a byte, padded with zero. A page holds per nibble a leaf or the hash of the page below it
(`native/trie.pyx` gives the bytes). The root page exists iff there is a key; another page iff two or more keys
lie under it. So the same content has the same pages and root, whatever its history.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from attrs import frozen

from gridtokenx import codec
from gridtokenx._native import trie as native
from gridtokenx._native.trie import Memo, TrieError, page_entries, page_hash
from gridtokenx.crypto.hashing import HASH_BYTES, ZERO_HASH, Domain, digest

__all__ = ["EMPTY_ROOT", "ROOT_PATH", "Memo", "PageReader", "Proof", "TrieError", "decode_proof", "leaves",
           "page_entries", "page_hash", "prove", "update", "verify_proof"]

PageReader = Callable[[bytes], bytes | None]

EMPTY_ROOT = ZERO_HASH
ROOT_PATH = b"\x00"
MAX_DEPTH = 256
MAX_PROOF_BYTES = 16 * 1024


@frozen
class Proof:
    """Where the path of a key ends: the siblings from the root down, and the other key's leaf found there, if any.

    `other` is (key hash, value hash) when the key is absent because another key's leaf stands in its place.
    """

    siblings: tuple[bytes, ...]
    other: tuple[bytes, bytes] | None

    def encode(self) -> bytes:
        """Canonical CBOR `[depth, mask, hashes, other]`; bit n of the mask, from the top: sibling n is not empty."""
        depth = len(self.siblings)
        mask = sum(1 << (7 - index % 8) + 8 * ((depth + 7) // 8 - 1 - index // 8)
                   for index, sibling in enumerate(self.siblings) if sibling != ZERO_HASH)
        return codec.encode([
            depth, mask.to_bytes((depth + 7) // 8, "big"),
            b"".join(sibling for sibling in self.siblings if sibling != ZERO_HASH),
            b"" if self.other is None else b"".join(self.other),
        ])


def decode_proof(raw: bytes) -> Proof:
    """Reads a proof. Raises TrieError (or CodecError) naming what is wrong; proves nothing by itself."""
    fields = codec.decode(raw, max_bytes=MAX_PROOF_BYTES)
    if type(fields) is not list or len(fields) != 4:
        raise TrieError("a proof is [depth, mask, hashes, other leaf]")
    depth, mask, hashes, other = fields
    if type(depth) is not int or not 0 <= depth <= MAX_DEPTH:
        raise TrieError(f"the depth of a proof is 0 to {MAX_DEPTH}")
    if type(mask) is not bytes or len(mask) != (depth + 7) // 8:
        raise TrieError("the mask of a proof has one bit per level")
    bits = [bool(mask[index // 8] >> (7 - index % 8) & 1) for index in range(8 * len(mask))]
    if any(bits[depth:]):
        raise TrieError("the unused bits of a proof's mask must be zero")
    if type(hashes) is not bytes or len(hashes) != HASH_BYTES * sum(bits):
        raise TrieError(f"a proof has {HASH_BYTES} bytes per bit of its mask")
    if type(other) is not bytes or len(other) not in (0, 2 * HASH_BYTES):
        raise TrieError("the other leaf is empty or key hash and value hash")
    siblings: list[bytes] = []
    used = 0
    for present in bits[:depth]:
        siblings.append(hashes[used:used + HASH_BYTES] if present else ZERO_HASH)
        used += HASH_BYTES * present
        if present and siblings[-1] == ZERO_HASH:
            raise TrieError("an empty sibling is left out of a proof, not written")
    return Proof(tuple(siblings), (other[:HASH_BYTES], other[HASH_BYTES:]) if other else None)


def update(
    read_page: PageReader, root: bytes, changes: Collection[tuple[bytes, bytes | None]], memo: Memo | None = None,
) -> tuple[bytes, dict[bytes, bytes | None]]:
    """Applies `changes` (key, new value or None to remove), each key at most once, in any order.

    Returns the new root and the pages that differ, by path; None marks a page that is gone. Removing an absent
    key changes nothing. Only the root page is compared with `root`; `read_page` answers for the others
    (`audit` and `prove` check them). Pages that `memo` knows by their hash are not asked for, and it gets
    to know those that are made. Raises TrieError for a page that is missing or malformed, or a repeated key.
    """
    return native.update(read_page, root, changes, memo)


def prove(read_page: PageReader, root: bytes, key: bytes) -> Proof:
    """The proof that `key` has its value, or has none. Raises TrieError for a page that does not fit its parent."""
    wanted = digest(Domain.TRIE_KEY, key)
    siblings: list[bytes] = []
    if root == EMPTY_ROOT:
        return Proof((), None)
    expected = root
    for depth in range(2 * HASH_BYTES):
        path = bytes((depth,)) + _prefix(wanted, depth)
        raw = read_page(path)
        if raw is None:
            raise TrieError(f"page {path.hex()} is missing")
        subtree, found, end = native.page_proof(depth, raw, wanted)
        if subtree != expected:
            raise TrieError(f"page {path.hex()} is not the one its parent names")
        siblings += found
        if isinstance(end, bytes):
            expected = end
            continue
        if end is None or end[0] == wanted:
            return Proof(tuple(siblings), None)
        return Proof(tuple(siblings), (end[0], end[1]))
    raise TrieError("a path longer than a key hash")


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """True iff `proof` shows that under `root` the key has `value`, or, with None, that it is absent."""
    wanted = digest(Domain.TRIE_KEY, key)
    depth = len(proof.siblings)
    if depth > MAX_DEPTH or any(len(sibling) != HASH_BYTES for sibling in proof.siblings):
        return False
    path = int.from_bytes(wanted, "big")
    if value is not None:
        if proof.other is not None:
            return False
        node = digest(Domain.TRIE_LEAF, wanted, digest(Domain.TRIE_VALUE, value))
    elif proof.other is None:
        node = ZERO_HASH
    else:
        other, other_value = proof.other
        if len(other) != HASH_BYTES or len(other_value) != HASH_BYTES or other == wanted:
            return False
        if (int.from_bytes(other, "big") ^ path) >> (MAX_DEPTH - depth):
            return False  # that leaf does not stand on the key's path
        node = digest(Domain.TRIE_LEAF, other, other_value)
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        right = path >> (MAX_DEPTH - 1 - level) & 1
        node = digest(Domain.TRIE_INNER, sibling, node) if right else digest(Domain.TRIE_INNER, node, sibling)
    return node == root


def leaves(read_page: PageReader, root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All (key hash, value hash) in ascending order of key hash, every page checked against its parent.

    For audits and snapshots. Raises TrieError for a page that is missing, malformed or not the one named.
    """
    waiting: list[tuple[bytes, bytes] | tuple[bytes, bytes, None]] = []
    if root != EMPTY_ROOT:
        waiting.append((ROOT_PATH, root, None))
    while waiting:
        item = waiting.pop()
        if len(item) == 2:
            yield item
            continue
        path, expected, _ = item
        raw = read_page(path)
        if raw is None:
            raise TrieError(f"page {path.hex()} is missing")
        if page_hash(path, raw) != expected:
            raise TrieError(f"page {path.hex()} is not the one its parent names")
        found, children = page_entries(path, raw)
        entries: list[tuple[bytes, tuple[bytes, bytes] | tuple[bytes, bytes, None]]] = [
            (_prefix(key_hash, path[0] + 1), (key_hash, value_hash)) for key_hash, value_hash in found]
        entries += [(child[1:], (child, child_hash, None)) for child, child_hash in children]
        waiting += [entry for _, entry in sorted(entries, key=lambda entry: entry[0], reverse=True)]


def _prefix(key_hash: bytes, nibbles: int) -> bytes:
    whole = key_hash[:nibbles // 2]
    return whole + bytes((key_hash[nibbles // 2] & 0xF0,)) if nibbles % 2 else whole
