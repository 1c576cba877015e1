"""Writing finalized blocks: state, trie, history, chain and indexes, in the caller's one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from gridtokenx._native import checkpoint as native
from gridtokenx.crypto.hashing import HASH_BYTES
from gridtokenx.store.environment import Tables, Transaction
from gridtokenx.store.errors import CheckpointRefused
from gridtokenx.store.schema import (
    ABSENT,
    BODIES,
    CERTIFICATES,
    CHANGED,
    EPOCHS,
    HEADERS,
    HEIGHTS,
    INDEX,
    MAX_KEY_BYTES,
    MAX_STATE_KEY_BYTES,
    PAGE_HISTORY,
    PAGES,
    PRESENT,
    RECEIPTS,
    STATE,
    STATE_HISTORY,
    TRANSACTIONS,
    check_keys,
    height_key,
    pack,
    pack_location,
)

Changes = Mapping[bytes, bytes | None]

PAGED_TOGETHER = 64
"""Blocks of one checkpoint, at most, that have one entry of history for all their trie pages. Most pages change with
every block: each entry less is as many rows less. Pages as of a block in between follow from the state's history."""


@frozen
class EpochEnd:
    """What a boundary block ends: the epoch of this number; `authorities` is the encoded list of the next one."""

    epoch: int
    authorities: bytes


@frozen
class FinalizedBlock:
    """All that is kept of a final block.

    `transactions` are (id, raw bytes) in execution order. `changes` and `pages` are the block's net changes of
    state and trie, None for removed. `receipts[i]` is transaction i's; further ones (timed work) may follow.
    `events` are additional index rows (key, value), with keys of the caller's own layout. `certificate` is the
    block's own finalization certificate; one without is proven by a descendant's. `epoch_end` is a boundary block's,
    which has a certificate of its own.
    """

    height: int
    hash: bytes
    header: bytes
    transactions: Sequence[tuple[bytes, bytes]] = ()
    certificate: bytes | None = None
    changes: Changes = field(factory=dict)
    pages: Changes = field(factory=dict)
    receipts: Sequence[bytes] = ()
    events: Sequence[tuple[bytes, bytes]] = ()
    epoch_end: EpochEnd | None = None


def check_blocks(blocks: Sequence[FinalizedBlock], executed_height: int) -> None:
    """Raises CheckpointRefused or KeyRefused for what could not be stored or read again."""
    for height, block in enumerate(blocks, executed_height + 1):
        if block.height != height:
            raise CheckpointRefused(f"block {block.height} where block {height} follows; the last checkpoint is at "
                                    f"{executed_height}")
        if len(block.hash) != HASH_BYTES or any(len(name) != HASH_BYTES for name, _ in block.transactions):
            raise CheckpointRefused(f"block {height}: hashes and ids have {HASH_BYTES} bytes")
        if len(block.receipts) < len(block.transactions):
            raise CheckpointRefused(f"block {height} has {len(block.transactions)} transactions but only "
                                    f"{len(block.receipts)} receipts")
        if block.epoch_end is not None and block.certificate is None:
            raise CheckpointRefused(f"block {block.height} ends epoch {block.epoch_end.epoch} without a certificate")
        check_keys(block.changes, MAX_STATE_KEY_BYTES, "a state key")
        check_keys(block.pages, MAX_STATE_KEY_BYTES, "a page path")
        check_keys([key for key, _ in block.events], MAX_KEY_BYTES, "an index key")


def write_blocks(transaction: Transaction, tables: Tables, blocks: Sequence[FinalizedBlock]) -> None:
    """Puts all of `blocks`, which were checked, into the tables; meta data is the caller's.

    Raises CheckpointRefused if one of the transactions is stored already.
    """
    state = _advance(transaction, tables, STATE, STATE_HISTORY, [(block.height, block.changes) for block in blocks])
    keyed = [(height_key(block.height), block) for block in blocks]
    changed = [[pack(keys)] for keys in state]
    groups = [blocks[start:start + PAGED_TOGETHER] for start in range(0, len(blocks), PAGED_TOGETHER)]
    pages = _advance(transaction, tables, PAGES, PAGE_HISTORY, [
        (group[-1].height, _last([block.pages for block in group])) for group in groups])
    for group, paths in zip(groups, pages, strict=True):
        changed[group[-1].height - blocks[0].height].append(pack(paths))
    _append(transaction, tables, CHANGED, [
        (key, pack(lists)) for (key, block), lists in zip(keyed, changed, strict=True) if block.height])
    _append(transaction, tables, HEADERS, [(key, block.header) for key, block in keyed])
    _append(transaction, tables, BODIES, [(key, pack([raw for _, raw in block.transactions])) for key, block in keyed])
    _append(transaction, tables, RECEIPTS, [(key, pack(block.receipts)) for key, block in keyed])
    _append(transaction, tables, CERTIFICATES, [
        (key, block.certificate) for key, block in keyed if block.certificate is not None])
    _put(transaction, tables, EPOCHS, [
        (height_key(block.epoch_end.epoch), pack([block.header, block.certificate, block.epoch_end.authorities]))
        for block in blocks if block.epoch_end is not None and block.certificate is not None])
    _put(transaction, tables, HEIGHTS, [(block.hash, key) for key, block in keyed])
    places = [(name, pack_location(block.height, index))
              for block in blocks for index, (name, _) in enumerate(block.transactions)]
    if _put(transaction, tables, TRANSACTIONS, places, overwrite=False) != len(places):
        raise CheckpointRefused(f"blocks {blocks[0].height} to {blocks[-1].height} hold a transaction that was in a "
                                "block before")
    _put(transaction, tables, INDEX, dict(event for block in blocks for event in block.events).items())


def _advance(transaction: Transaction, tables: Tables, table: bytes, history: bytes,
             changes: Sequence[tuple[int, Changes]]) -> list[list[bytes]]:
    """Writes the last value of each key, and for each block the values before it; returns per block the keys
    that it really changed, ascending."""
    gathered = native.gather([block for _, block in changes])
    touched = sorted(gathered)
    with transaction.cursor(db=tables[table]) as cursor:
        before: list[tuple[bytes, bytes]] = cursor.getmulti(touched)
    suffixes = [height_key(height) if height else None for height, _ in changes]    # nothing comes before genesis
    rows, puts, gone, changed = native.advance(touched, gathered, before, suffixes, ABSENT, PRESENT, table == PAGES)
    for where, ascending in ((history, rows), (table, puts)):
        with transaction.cursor(db=tables[where]) as cursor:
            cursor.putmulti(ascending)
    for key in gone:
        transaction.delete(key, db=tables[table])
    return changed


def _last(changes: Sequence[Changes]) -> Changes:
    """What several blocks made of the keys together."""
    made: dict[bytes, bytes | None] = {}
    for block in changes:
        made.update(block)
    return made


def _put(transaction: Transaction, tables: Tables, table: bytes, rows: Iterable[tuple[bytes, bytes]], *,
         overwrite: bool = True) -> int:
    """Puts rows in key order, which spares LMDB most of its page searches; returns how many were put."""
    with transaction.cursor(db=tables[table]) as cursor:
        _, added = cursor.putmulti(sorted(rows), overwrite=overwrite)
    return added


def _append(transaction: Transaction, tables: Tables, table: bytes, rows: Sequence[tuple[bytes, bytes]]) -> None:
    """Puts rows whose keys are above all that the table has."""
    with transaction.cursor(db=tables[table]) as cursor:
        cursor.putmulti(rows, append=True)
