"""What is where in the state database, and in which bytes. Frozen by `FORMAT_VERSION`; `migrations` knows older ones.

| table         | key                  | value                                                             |
|---------------|----------------------|-------------------------------------------------------------------|
| meta          | name                 | canonical CBOR                                                    |
| state         | state key            | present value                                                     |
| pages         | trie page path       | present page                                                      |
| state_history | state key, height    | value before the block of that height: 1 + bytes, or 0 for absent |
| page_history  | page path, height    | the same of pages, before several blocks; or 2 + what differs then |
| changed       | height               | packed: the keys, perhaps also the page paths, with history rows there |
| headers, bodies, certificates, receipts | height | header; packed transactions; certificate; packed receipts |
| heights       | block hash           | height                                                            |
| transactions  | transaction id       | height, index in the block (4 bytes)                              |
| epochs        | epoch that ended     | packed: boundary header, its certificate, next list of authorities |
| index         | the node's own       | the node's own                                                    |

A database that began with a snapshot of height S holds S's header and certificate, whole blocks above it, and of the
epochs before it those boundaries that the snapshot proves itself by.

Heights are 8 bytes, big-endian, so that byte order is numeric order. No state key or page path may be a
beginning of another one (the ledger's keys have a fixed width per space): only then are a key's history rows
neighbours. Trie pages have one row for several blocks of a checkpoint together, at the height of the last of them; of
these blocks that one alone has paths in `changed`, also if they are none.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from gridtokenx._native import checkpoint as native
from gridtokenx.store.errors import DatabaseDamaged, KeyRefused

FORMAT_VERSION = 4
HEIGHT_BYTES = 8
MAX_KEY_BYTES = 511
MAX_STATE_KEY_BYTES = MAX_KEY_BYTES - HEIGHT_BYTES

META = b"meta"
STATE = b"state"
PAGES = b"pages"
STATE_HISTORY = b"state_history"
PAGE_HISTORY = b"page_history"
CHANGED = b"changed"
HEADERS = b"headers"
BODIES = b"bodies"
CERTIFICATES = b"certificates"
RECEIPTS = b"receipts"
HEIGHTS = b"heights"
TRANSACTIONS = b"transactions"
INDEX = b"index"
EPOCHS = b"epochs"
TABLES = (META, STATE, PAGES, STATE_HISTORY, PAGE_HISTORY, CHANGED, HEADERS, BODIES, CERTIFICATES, RECEIPTS, HEIGHTS,
          TRANSACTIONS, INDEX, EPOCHS)

META_FORMAT = b"format"
META_CHAIN = b"chain_id"
META_RULES = b"rules_version"
META_GENESIS = b"genesis"
META_EXECUTED = b"executed_height"
META_FLOOR = b"history_floor"
META_PRUNE_TARGET = b"prune_target"
META_FIRST = b"first_height"         # of the blocks that are held whole: 1, or the one after a snapshot

ABSENT = b"\x00"
PRESENT = b"\x01"
DIFFERENCE = b"\x02"      # then the masks of the earlier page, the mask of the slots that follow, those slots

_LOCATION = struct.Struct(">QI")


def height_key(height: int) -> bytes:
    return height.to_bytes(HEIGHT_BYTES, "big")


def check_keys(keys: Collection[bytes], limit: int, what: str) -> None:
    """Raises KeyRefused for a key that is empty or longer than `limit`."""
    if all(0 < length <= limit for length in set(map(len, keys))):
        return
    for key in keys:
        if not 0 < len(key) <= limit:
            raise KeyRefused(f"{what} of {len(key)} bytes ({key[:16].hex()}...); LMDB keys have at most "
                             f"{MAX_KEY_BYTES} bytes and here 1 to {limit} are allowed")


def read_before_value(raw: bytes) -> bytes | None:
    return raw[1:] if raw[:1] == PRESENT else None


def pack(items: Sequence[bytes]) -> bytes:
    """Count, the end of each item, the items: one can be read without the others."""
    return native.pack(items)


def unpack(raw: bytes) -> list[bytes]:
    """Raises DatabaseDamaged if `raw` was not made by `pack`."""
    ends = _ends(raw)
    base = 4 + 4 * len(ends)
    items = []
    start = 0
    for end in ends:
        items.append(raw[base + start:base + end])
        start = end
    return items


def unpack_one(raw: bytes, index: int) -> bytes | None:
    """The item with this index, or None if there are fewer."""
    ends = _ends(raw)
    if index >= len(ends):
        return None
    base = 4 + 4 * len(ends)
    return raw[base + (ends[index - 1] if index else 0):base + ends[index]]


def _ends(raw: bytes) -> tuple[int, ...]:
    try:
        (count,) = struct.unpack_from(">I", raw)
        ends = struct.unpack_from(f">{count}I", raw, 4)
    except struct.error as error:
        raise DatabaseDamaged(f"a packed value of {len(raw)} bytes cannot be read: {error}") from error
    if 4 + 4 * count + (ends[-1] if ends else 0) != len(raw):
        raise DatabaseDamaged(f"a packed value of {len(raw)} bytes does not have the length it says")
    return ends


def pack_location(height: int, index: int) -> bytes:
    return _LOCATION.pack(height, index)


def unpack_location(raw: bytes) -> tuple[int, int]:
    if len(raw) != _LOCATION.size:
        raise DatabaseDamaged(f"a transaction's place has {len(raw)} bytes instead of {_LOCATION.size}")
    height, index = _LOCATION.unpack(raw)
    return height, index
