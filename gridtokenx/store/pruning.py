"""Deleting history that nobody needs (CONSENSUS 6).

A row at height h holds a value as of h - 1, so with floor F the rows at heights up to F can go.

A reader in another process takes a lease and then looks at `prune_target`; the pruner raises `prune_target` in a
committed transaction and then looks at the leases. Whichever comes second sees the other: no lease is granted
for a height whose deletion was decided.
"""

from __future__ import annotations

from typing import NamedTuple

from gridtokenx.store.environment import Tables, Transaction
from gridtokenx.store.errors import DatabaseDamaged
from gridtokenx.store.schema import CHANGED, PAGE_HISTORY, STATE_HISTORY, height_key, unpack


class Pruned(NamedTuple):
    """The new `history_floor`, how many rows were deleted, and whether the asked height was reached (it is not
    when `max_rows` or a lease was in the way)."""

    floor: int
    rows: int
    done: bool


def delete_history(transaction: Transaction, tables: Tables, floor: int, limit: int, max_rows: int) -> tuple[int, int]:
    """Deletes the rows of whole blocks above `floor`, up to `limit`, until about `max_rows` are gone.

    Returns (new floor, rows deleted); the caller stores the floor in the same transaction.
    """
    deleted = 0
    while floor < limit and deleted < max_rows:
        key = height_key(floor + 1)
        packed = transaction.pop(key, db=tables[CHANGED])
        if packed is None:
            raise DatabaseDamaged(f"the list of keys that block {floor + 1} changed is missing")
        for table, names in zip((STATE_HISTORY, PAGE_HISTORY), unpack(packed), strict=False):
            changed = unpack(names)
            for name in changed:
                transaction.delete(name + key, db=tables[table])
            deleted += len(changed)
        floor += 1
    return floor, deleted
