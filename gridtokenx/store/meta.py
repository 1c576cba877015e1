"""The entries of the table `meta`: numbers and byte strings by name, as canonical CBOR."""

from __future__ import annotations

from typing import TypeVar

from gridtokenx import codec
from gridtokenx.store.environment import Tables, Transaction
from gridtokenx.store.errors import DatabaseDamaged
from gridtokenx.store.schema import META

MAX_META_BYTES = 16 << 20

_Meta = TypeVar("_Meta", int, bytes)


def read_meta(transaction: Transaction, tables: Tables, name: bytes, kind: type[_Meta]) -> _Meta:
    raw = transaction.get(name, db=tables[META])
    if raw is None:
        raise DatabaseDamaged(f"the database lacks its entry {name.decode()}")
    try:
        value = codec.decode(raw, max_bytes=MAX_META_BYTES)
    except codec.CodecError as error:
        raise DatabaseDamaged(f"the entry {name.decode()} cannot be read: {error}") from error
    if type(value) is not kind:
        raise DatabaseDamaged(f"the entry {name.decode()} should be of kind {kind.__name__}")
    return value


def write_meta(transaction: Transaction, tables: Tables, name: bytes, value: int | bytes) -> None:
    transaction.put(name, codec.encode(value), db=tables[META])
