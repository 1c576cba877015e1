"""Manifest and chunks of a snapshot, and what makes them trustworthy (docs/storage.md).

The keys of the state are split by the first nibbles of their hashes: 16^nibbles chunks, each a subtree of the state
trie. The manifest has a light proof that the block is final and every chunk's subtree hash with its number of keys; the
hashes fold to the block's state root. So the manifest is checked against the chain's genesis, and a chunk against the
manifest, by itself and in any order.

    manifest = [1, finality, nibbles, [keys, ...], hashes, [bytes, ...]]     one entry per chunk; finality: light.format
    chunk    = SHA-256 of the rest, zlib(CBOR [key, value, key, value, ...])  by key hash, ascending
    file     = "GTXSNAP1", length of the manifest (4 bytes, big-endian), manifest, chunks

The boundaries of the finality proof are those that changed the list of authorities, and the last one, from which a node
goes on.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import HASH_BYTES, ZERO_HASH, Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import trie
from gridtokenx.ledger.block import Header
from gridtokenx.light.format import MAX_KEY_BYTES, Finality, ProofError, decode_finality, finality_fields
from gridtokenx.light.verify import Trust, check_finality

VERSION = 1
MAGIC = b"GTXSNAP1"
MAX_MANIFEST_BYTES = 4 << 20
MAX_CHUNK_BYTES = 4 << 20
"""Of a chunk, compressed or not."""
MAX_NIBBLES = 4
MAX_CHUNK_KEYS = 1 << 20

Pair = tuple[bytes, bytes]
Node = tuple[int, bytes]
"""(0, 1 or 2 for more keys, hash) of a subtree."""


class SnapshotError(GridTokenXError):
    """A snapshot that cannot be made or used; the message says which part."""


class BadManifest(SnapshotError):
    """A manifest that is malformed, or does not belong to the chain."""


class BadChunk(SnapshotError):
    """A chunk that is not the one which the manifest names."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"chunk {index}: {reason}")
        self.index = index


@frozen
class Manifest:
    """What a snapshot consists of. `sizes` are hints, the rest is bound to the header's state root."""

    finality: Finality
    nibbles: int
    keys: tuple[int, ...]
    hashes: tuple[bytes, ...]
    sizes: tuple[int, ...]

    @property
    def chunks(self) -> int:
        return len(self.keys)

    def encode(self) -> bytes:
        return codec.encode([VERSION, finality_fields(self.finality), self.nibbles, list(self.keys),
                             b"".join(self.hashes), list(self.sizes)])


def decode_manifest(raw: bytes) -> Manifest:
    """Reads a manifest. Raises BadManifest; proves nothing yet."""
    try:
        fields = codec.decode(raw, max_bytes=MAX_MANIFEST_BYTES)
    except codec.CodecError as error:
        raise BadManifest(f"the manifest cannot be read: {error}") from error
    if type(fields) is not list or len(fields) != 6 or type(fields[0]) is not int or fields[0] != VERSION:
        raise BadManifest(f"a manifest is an array of 6 fields that begins with its version, {VERSION}")
    _, finality, nibbles, keys, hashes, sizes = fields
    if type(nibbles) is not int or not 0 <= nibbles <= MAX_NIBBLES:
        raise BadManifest(f"chunks go by 0 to {MAX_NIBBLES} nibbles")
    count = 16 ** nibbles
    for name, values, most in (("numbers of keys", keys, MAX_CHUNK_KEYS), ("sizes", sizes, MAX_CHUNK_BYTES)):
        if type(values) is not list or len(values) != count or any(
                type(value) is not int or not 0 <= value <= most for value in values):
            raise BadManifest(f"the {name} are {count} integers from 0 to {most}")
    if type(hashes) is not bytes or len(hashes) != HASH_BYTES * count:
        raise BadManifest(f"the hashes are {HASH_BYTES} bytes for each of {count} chunks")
    split = tuple(hashes[at:at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))
    if any((number == 0) != (found == ZERO_HASH) for number, found in zip(keys, split, strict=True)):
        raise BadManifest("a chunk without keys has the hash of zeros, and no other has it")
    try:
        return Manifest(decode_finality(finality), nibbles, tuple(keys), split, tuple(sizes))
    except ProofError as error:
        raise BadManifest(f"the manifest's proof: {error}") from error


def check_manifest(manifest: Manifest, trust: Trust) -> Header:
    """The final block whose state the chunks are. Raises BadManifest if it is not shown to be one of the chain's."""
    try:
        header, _ = check_finality(manifest.finality, trust)
    except ProofError as error:
        raise BadManifest(f"the block is not shown to be final: {error}") from error
    root = fold([(min(number, 2), found) for number, found in zip(manifest.keys, manifest.hashes, strict=True)])
    if root != header.state_root:
        raise BadManifest(f"the chunks' hashes do not fold to the state root of block {header.height}")
    return header


def fold(nodes: Sequence[Node]) -> bytes:
    """The root of the trie with these subtrees, a power of two of them, in order."""
    level = list(nodes)
    while len(level) > 1:
        level = [_joined(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0][1]


def _joined(left: Node, right: Node) -> Node:
    if not left[0] and right[0] < 2:
        return right
    if not right[0] and left[0] < 2:
        return left
    return 2, digest(Domain.TRIE_INNER, left[1], right[1])


def encode_chunk(pairs: Sequence[Pair]) -> bytes:
    packed = zlib.compress(codec.encode([part for pair in pairs for part in pair]), 6)
    return sha256(packed).digest() + packed


@frozen
class Chunk:
    """A chunk that was checked: its records, and the trie's pages below its place."""

    index: int
    pairs: list[Pair]
    pages: dict[bytes, bytes]
    node: Node
    leaf: tuple[bytes, bytes] | None
    """(key hash, value hash) of a chunk with a single key."""


def check_chunk(manifest: Manifest, index: int, raw: bytes) -> Chunk:
    """The records of a chunk. Raises BadChunk for anything but the chunk that the manifest names."""
    pairs = _pairs(index, raw)
    if len(pairs) != manifest.keys[index]:
        raise BadChunk(index, f"{len(pairs)} keys; the manifest names {manifest.keys[index]}")
    wanted = manifest.hashes[index]
    try:
        root, pages = trie.update(lambda _: None, trie.EMPTY_ROOT, pairs)
    except trie.TrieError as error:
        raise BadChunk(index, str(error)) from error
    leaf = None
    if len(pairs) == 1:
        leaf = digest(Domain.TRIE_KEY, pairs[0][0]), digest(Domain.TRIE_VALUE, pairs[0][1])
        if place_of(leaf[0], manifest.nibbles) != index:
            raise BadChunk(index, "its key belongs to another chunk")
    node = wanted
    if len(pairs) > 1:          # the trie of these keys alone has nothing beside the way to the chunk's place
        for bit in range(4 * manifest.nibbles):
            node = (digest(Domain.TRIE_INNER, ZERO_HASH, node) if index >> bit & 1
                    else digest(Domain.TRIE_INNER, node, ZERO_HASH))
    if root != node:
        raise BadChunk(index, "its records do not have the hash that the manifest names")
    below = {path: page for path, page in pages.items() if page is not None and path[0] >= manifest.nibbles}
    return Chunk(index, pairs, below if len(pairs) > 1 else {}, (min(len(pairs), 2), wanted), leaf)


def place_of(key_hash: bytes, nibbles: int) -> int:
    """The index of the chunk that a key belongs to."""
    return int.from_bytes(key_hash[:2], "big") >> 16 - 4 * nibbles


def _pairs(index: int, raw: bytes) -> list[Pair]:
    if len(raw) > MAX_CHUNK_BYTES:
        raise BadChunk(index, f"{len(raw)} bytes; at most {MAX_CHUNK_BYTES} are allowed")
    if sha256(raw[HASH_BYTES:]).digest() != raw[:HASH_BYTES]:
        raise BadChunk(index, "its bytes were changed on the way: they do not have their hash")
    try:
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(raw[HASH_BYTES:], MAX_CHUNK_BYTES + 1)
        if len(plain) > MAX_CHUNK_BYTES or not unpacking.eof or unpacking.unused_data:
            raise BadChunk(index, f"not one zlib stream of at most {MAX_CHUNK_BYTES} bytes")
        flat: Any = codec.decode(plain, max_bytes=MAX_CHUNK_BYTES)
    except (zlib.error, codec.CodecError) as error:
        raise BadChunk(index, f"it cannot be read: {error}") from error
    if type(flat) is not list or len(flat) % 2 or any(type(part) is not bytes for part in flat):
        raise BadChunk(index, "a chunk is [key, value, key, value, ...]")
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if any(not 0 < len(key) <= MAX_KEY_BYTES for key, _ in pairs):
        raise BadChunk(index, f"a key has 1 to {MAX_KEY_BYTES} bytes")
    return pairs


def top_pages(nibbles: int, ends: Sequence[tuple[Node, tuple[bytes, bytes] | None]]) -> dict[bytes, bytes]:
    """The pages above the chunks, of which `ends` has (node, leaf of one with a single key), in order."""
    pages: dict[bytes, bytes] = {}
    level = list(ends)
    for depth in range(nibbles - 1, -1, -1):
        above = []
        for place in range(len(level) // 16):
            path = _path(place, depth)
            slots = level[16 * place:16 * place + 16]
            keys = sum(node[0] for node, _ in slots)
            if keys > 1 or (keys and not depth):
                pages[path] = _page(slots)
            single = next((slot for slot in slots if slot[0][0]), ((0, ZERO_HASH), None))
            above.append(single if keys < 2 else ((2, trie.page_hash(path, pages[path])), None))
        level = above
    return pages


def _path(place: int, depth: int) -> bytes:
    """The path of the page at the place-th prefix of `depth` nibbles."""
    size = (depth + 1) // 2
    return bytes((depth,)) + (place << 4 * (2 * size - depth)).to_bytes(size, "big")


def _page(slots: Sequence[tuple[Node, tuple[bytes, bytes] | None]]) -> bytes:
    leaves = sum(1 << at for at, (_, leaf) in enumerate(slots) if leaf is not None)
    children = sum(1 << at for at, (node, _) in enumerate(slots) if node[0] == 2)
    return leaves.to_bytes(2, "big") + children.to_bytes(2, "big") + b"".join(
        b"".join(leaf) if leaf is not None else node[1] for node, leaf in slots if node[0])
