"""Questions about stored blocks, answered within one read transaction."""

from __future__ import annotations

from typing import NamedTuple

from gridtokenx.store.environment import Tables, Transaction
from gridtokenx.store.errors import DatabaseDamaged, ProofUnavailable, StoreError
from gridtokenx.store.schema import (
    BODIES,
    CERTIFICATES,
    CHANGED,
    EPOCHS,
    HEADERS,
    HEIGHT_BYTES,
    HEIGHTS,
    INDEX,
    RECEIPTS,
    STATE,
    STATE_HISTORY,
    TRANSACTIONS,
    height_key,
    unpack,
    unpack_location,
    unpack_one,
)

MAX_PROOF_HEADERS = 1024
MAX_INDEX_ROWS = 10_000
_PAST_EVERY_HEIGHT = b"\xff" * HEIGHT_BYTES + b"\x00"


class StoredBlock(NamedTuple):
    """`certificate` is None for a block that a descendant's certificate finalizes."""

    header: bytes
    transactions: list[bytes]
    certificate: bytes | None
    receipts: list[bytes]


class StoredTransaction(NamedTuple):
    """A transaction, its number within its block, and its receipt."""

    height: int
    position: int
    raw: bytes
    receipt: bytes


class StoredBoundary(NamedTuple):
    """The block that ended `epoch`, its certificate, and the encoded list of the next epoch's authorities."""

    epoch: int
    header: bytes
    certificate: bytes
    authorities: bytes


class FinalityProof(NamedTuple):
    """The headers from the asked height to the first block with a certificate of its own, and that one."""

    headers: list[bytes]
    certificate: bytes


def read_changed(transaction: Transaction, tables: Tables, height: int) -> list[bytes] | None:
    packed = transaction.get(height_key(height), db=tables[CHANGED])
    return None if packed is None else unpack(unpack(packed)[0])


def read_header(transaction: Transaction, tables: Tables, height: int) -> bytes | None:
    return transaction.get(height_key(height), db=tables[HEADERS])


def read_block(transaction: Transaction, tables: Tables, height: int, first_height: int) -> StoredBlock | None:
    key = height_key(height)
    header = transaction.get(key, db=tables[HEADERS])
    if header is None:
        return None
    body = transaction.get(key, db=tables[BODIES])
    receipts = transaction.get(key, db=tables[RECEIPTS])
    if body is None and receipts is None and height < first_height:
        return None
    if body is None or receipts is None:
        raise DatabaseDamaged(f"block {height} has a header but no body or receipts")
    return StoredBlock(header, unpack(body), transaction.get(key, db=tables[CERTIFICATES]), unpack(receipts))


def read_certificate(transaction: Transaction, tables: Tables, height: int) -> bytes | None:
    return transaction.get(height_key(height), db=tables[CERTIFICATES])


def read_boundaries(transaction: Transaction, tables: Tables, first_epoch: int, limit: int) -> list[StoredBoundary]:
    rows: list[StoredBoundary] = []
    with transaction.cursor(db=tables[EPOCHS]) as cursor:
        found = cursor.set_range(height_key(first_epoch))
        while found and len(rows) < limit:
            parts = unpack(cursor.value())
            if len(parts) != 3:
                raise DatabaseDamaged(f"the record of epoch {int.from_bytes(cursor.key(), 'big')} has {len(parts)} "
                                      "parts instead of 3")
            rows.append(StoredBoundary(int.from_bytes(cursor.key(), "big"), *parts))
            found = cursor.next()
    return rows


def read_height_of(transaction: Transaction, tables: Tables, block_hash: bytes) -> int | None:
    found = transaction.get(block_hash, db=tables[HEIGHTS])
    return None if found is None else int.from_bytes(found, "big")


def read_transaction(transaction: Transaction, tables: Tables, transaction_id: bytes) -> StoredTransaction | None:
    place = transaction.get(transaction_id, db=tables[TRANSACTIONS])
    if place is None:
        return None
    height, index = unpack_location(place)
    raw = unpack_one(transaction.get(height_key(height), default=b"", db=tables[BODIES]), index)
    receipt = unpack_one(transaction.get(height_key(height), default=b"", db=tables[RECEIPTS]), index)
    if raw is None or receipt is None:
        raise DatabaseDamaged(f"transaction {transaction_id.hex()} is not number {index} of block {height}, where the "
                              "index has it")
    return StoredTransaction(height, index, raw, receipt)


def read_finality(transaction: Transaction, tables: Tables, height: int, max_headers: int) -> FinalityProof:
    with transaction.cursor(db=tables[CERTIFICATES]) as cursor:
        if not cursor.set_range(height_key(height)):
            raise ProofUnavailable(f"no finalization certificate is stored at height {height} or above")
        last = int.from_bytes(cursor.key(), "big")
        certificate = cursor.value()
    if last - height >= max_headers:
        raise ProofUnavailable(f"the next finalization certificate above height {height} is at {last}; a proof has at "
                               f"most {max_headers} headers")
    headers = []
    for at in range(height, last + 1):
        header = read_header(transaction, tables, at)
        if header is None:
            raise DatabaseDamaged(f"the header of block {at} is missing")
        headers.append(header)
    return FinalityProof(headers, certificate)


def read_last_change(transaction: Transaction, tables: Tables, key: bytes) -> int | None:
    with transaction.cursor(db=tables[STATE_HISTORY]) as cursor:
        # The last history row of the key: one before the first row above all of its own.
        found = cursor.prev() if cursor.set_range(key + _PAST_EVERY_HEIGHT) else cursor.last()
        if found and len(cursor.key()) == len(key) + HEIGHT_BYTES and cursor.key().startswith(key):
            return int.from_bytes(cursor.key()[len(key):], "big")
    return None if transaction.get(key, db=tables[STATE]) is None else 0


def read_index(transaction: Transaction, tables: Tables, prefix: bytes, limit: int, reverse: bool,
               after: bytes | None) -> list[tuple[bytes, bytes]]:
    if not 0 < limit <= MAX_INDEX_ROWS:
        raise StoreError(f"a limit of {limit} rows; allowed are 1 to {MAX_INDEX_ROWS}")
    if after is not None and not after.startswith(prefix):
        raise StoreError("`after` must be a key of the scanned prefix, as an earlier scan returned it")
    rows: list[tuple[bytes, bytes]] = []
    with transaction.cursor(db=tables[INDEX]) as cursor:
        if reverse:
            # Start below `after`, or below the first key beyond the prefix.
            beyond = after if after is not None else _successor(prefix)
            found = cursor.prev() if beyond is not None and cursor.set_range(beyond) else cursor.last()
        else:
            found = cursor.set_range(prefix if after is None else after + b"\x00")
        while found and len(rows) < limit and cursor.key().startswith(prefix):
            rows.append(cursor.item())
            found = cursor.prev() if reverse else cursor.next()
    return rows


def _successor(prefix: bytes) -> bytes | None:
    """The least byte string above all that start with `prefix`; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
