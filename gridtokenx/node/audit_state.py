"""Two states side by side: which records differ, named as people and the docs name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import cbor2
from attrs import fields, has

from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.schema import decode_value
from gridtokenx.ledger.spaces import ChainRecord, Space
from gridtokenx.store.scratch import Scratch
from gridtokenx.store.snapshot import Snapshot

COMPARED_AT_ONCE = 1024
"""Records, as long as both sides have the same."""

Find = Callable[[int | None, str, str], None]

# Widths of the parts of a key after its space byte, where they are not one number of all its bytes.
_ADDRESS_BYTES = 32


def compare_states(ours: Scratch, theirs: Snapshot, find: Find) -> int:
    """Tells `find` of every key and trie page that the two hold otherwise; returns how many keys were compared.

    The height in a finding is the block that last changed the record, as derived.
    """
    def record(key: bytes, mine: bytes | None, other: bytes | None) -> None:
        find(ours.last_change(key), *describe_change(key, other, mine))

    def page(path: bytes, _: bytes | None, __: bytes | None) -> None:
        find(None, f"trie page {path.hex() or 'root'}", "it is not the one of this state")

    keys = _compare(ours.scan(b""), theirs.scan(b""), record)
    _compare(ours.pages(), theirs.pages(), page)
    return keys


def _compare(ours: Iterator[tuple[bytes, bytes]], theirs: Iterator[tuple[bytes, bytes]],
             differs: Callable[[bytes, bytes | None, bytes | None], None]) -> int:
    """Calls `differs(key, ours, theirs)` where two ascending streams are not alike; returns how many keys there are."""
    keys = 0
    mine, others = list(islice(ours, COMPARED_AT_ONCE)), list(islice(theirs, COMPARED_AT_ONCE))
    while mine and mine == others:          # nearly all there is
        keys += len(mine)
        mine, others = list(islice(ours, COMPARED_AT_ONCE)), list(islice(theirs, COMPARED_AT_ONCE))
    ours, theirs = chain(mine, ours), chain(others, theirs)
    one, two = next(ours, None), next(theirs, None)
    while one is not None or two is not None:
        keys += 1
        if one == two:
            one, two = next(ours, None), next(theirs, None)
        elif two is None or (one is not None and one[0] < two[0]):
            assert one is not None
            differs(one[0], one[1], None)
            one = next(ours, None)
        elif one is None or two[0] < one[0]:
            differs(two[0], None, two[1])
            two = next(theirs, None)
        else:
            differs(one[0], one[1], two[1])
            one, two = next(ours, None), next(theirs, None)
    return keys


def describe_change(key: bytes, stored: bytes | None, derived: bytes | None) -> tuple[str, str]:
    """(which record, what of it differs): the stored value beside the one that the blocks give."""
    where = describe_key(key)
    if derived is None:
        return where, "stored, but the blocks leave no such record"
    if stored is None:
        return where, "missing: the blocks give it"
    mine, other = _decoded(key, derived), _decoded(key, stored)
    if type(mine) is type(other) and has(type(mine)):
        parts = [f"{name} is {_text(getattr(other, name))}, the blocks give {_text(getattr(mine, name))}"
                 for name in (attribute.name for attribute in fields(type(mine)))
                 if getattr(mine, name) != getattr(other, name)]
        return where, "; ".join(parts) or "its bytes are not canonical"
    return where, f"is {_text(other)}, the blocks give {_text(mine)}"


def describe_key(key: bytes) -> str:
    """`account gtx1...`, `trade 1942704 3`: the record's space and the parts of its key."""
    if key[0] not in set(Space):
        return f"key {key.hex()}"
    space = Space(key[0])
    rest = key[1:]
    name = space.name.lower().replace("_", " ")
    if space is Space.CHAIN and len(rest) == 1 and rest[0] in set(ChainRecord):
        return f"chain {ChainRecord(rest[0]).name.lower()}"
    parts: list[str] = []
    while len(rest) >= _ADDRESS_BYTES:
        parts.append(encode_address(rest[:_ADDRESS_BYTES]))
        rest = rest[_ADDRESS_BYTES:]
    if space is Space.TIMED and len(rest) == 17:
        parts += [str(int.from_bytes(rest[:8], "big")), str(rest[8]), str(int.from_bytes(rest[9:], "big"))]
    elif space in (Space.ORDER, Space.ORDERS_OF):
        parts += [str(int.from_bytes(rest[at:at + 8], "big")) for at in range(0, len(rest), 8)]
    else:
        parts += [str(int.from_bytes(rest[at:at + 4], "big")) for at in range(0, len(rest), 4)]
    return " ".join([name, *parts])


def _decoded(key: bytes, raw: bytes) -> Any:
    try:
        value = decode_value(key, raw)
        return cbor2.loads(value) if isinstance(value, bytes) else value
    except Exception:  # noqa: BLE001 - tampered bytes may be anything; then the bytes themselves are shown
        return raw


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "..."
