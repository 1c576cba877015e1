"""Databases of older formats are brought up to date when a node opens them: one step per version, all in one synced
transaction, so that a crash leaves the old format or the new one.

A step may read everything and may fill new tables, but never changes what a block committed to. Formats:

| to | what changed                                                                                    |
|----|-------------------------------------------------------------------------------------------------|
| 2  | table `epochs`: each boundary block with its certificate and the list it hands over to; entry `first_height` |
| 3  | rows of `page_history` may hold differences; whole ones stay as they are                                  |
| 4  | trie pages have one row for several blocks; what is there counts as one for a single block                |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import lmdb

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.store.environment import Tables, Transaction, translated
from gridtokenx.store.errors import DatabaseDamaged, NotInitialised, WrongVersion
from gridtokenx.store.meta import read_meta, write_meta
from gridtokenx.store.schema import (
    CERTIFICATES,
    EPOCHS,
    FORMAT_VERSION,
    HEADERS,
    META,
    META_FIRST,
    META_FORMAT,
    STATE,
    STATE_HISTORY,
    TABLES,
    height_key,
    pack,
    read_before_value,
)

Step = Callable[[Transaction, Tables], None]


def bring_up_to_date(environment: lmdb.Environment, path: Path, *, writable: bool,
                     steps: Mapping[int, Step] | None = None, wanted: int = FORMAT_VERSION) -> int:
    """Migrates an older database; returns the format that it had. Nothing happens to one of format `wanted`.

    Raises NotInitialised, WrongVersion (a newer format; an older one that cannot be migrated, or is only read).
    """
    steps = MIGRATIONS if steps is None else steps
    try:
        meta = environment.open_db(META, create=False)
    except (lmdb.NotFoundError, lmdb.ReadonlyError) as error:
        raise NotInitialised(f"{path} holds no chain yet") from error
    with environment.begin() as transaction:
        if not transaction.stat(db=meta)["entries"]:
            raise NotInitialised(f"{path} holds no chain yet")
        found = read_meta(transaction, {META: meta}, META_FORMAT, int)
    if found == wanted:
        return found
    if found > wanted or any(version not in steps for version in range(found, wanted)):
        raise WrongVersion(f"{path} has database format {found}; this program reads formats "
                           f"{', '.join(map(str, sorted({*steps, wanted})))}. Use a "
                           f"{'newer' if found > wanted else 'previous'} program")
    if not writable:
        raise WrongVersion(f"{path} has database format {found}; this program reads format {wanted}. Start the node "
                           "once, or run `gridtokenx repair`, to bring it up to date")
    with translated(path), environment.begin(write=True) as transaction:
        tables = {name: environment.open_db(name, txn=transaction) for name in TABLES}
        for version in range(found, wanted):
            steps[version](transaction, tables)
        write_meta(transaction, tables, META_FORMAT, wanted)
    return found


def _keep_epochs(transaction: Transaction, tables: Tables) -> None:
    """1 to 2: finds the boundary blocks by their headers, and the lists in the state and its history."""
    lists = _lists(transaction, tables)
    last: tuple[bytes, Header, bytes] | None = None
    with transaction.cursor(db=tables[HEADERS]) as cursor:
        for key, raw in cursor:
            try:
                header = decode_header(raw)
            except GridTokenXError as error:
                raise DatabaseDamaged(f"the header of block {int.from_bytes(key, 'big')} cannot be read: "
                                      f"{error}") from error
            if last is not None and header.epoch != last[1].epoch:
                _keep_epoch(transaction, tables, *last, lists)
            last = (key, header, raw)
    if last is not None and _ends_epoch(transaction, tables, last[1]):
        _keep_epoch(transaction, tables, *last, lists)
    write_meta(transaction, tables, META_FIRST, 1)


def _lists(transaction: Transaction, tables: Tables) -> dict[bytes, bytes]:
    """Every list of authorities that the state or its history has, by the hash that headers commit to."""
    found = [transaction.get(spaces.AUTHORITIES, db=tables[STATE])]
    with transaction.cursor(db=tables[STATE_HISTORY]) as cursor:
        if cursor.set_range(spaces.AUTHORITIES):
            for key, value in cursor:
                if not key.startswith(spaces.AUTHORITIES):
                    break
                found.append(read_before_value(value))
    return {digest(Domain.AUTHORITIES, raw): raw for raw in found if raw is not None}


def _ends_epoch(transaction: Transaction, tables: Tables, header: Header) -> bool:
    from gridtokenx.ledger.records import Epoch

    raw = transaction.get(spaces.EPOCH, db=tables[STATE])
    return raw is not None and bool(Epoch.decode(raw).number > header.epoch)


def _keep_epoch(transaction: Transaction, tables: Tables, key: bytes, header: Header, raw: bytes,
                lists: dict[bytes, bytes]) -> None:
    certificate = transaction.get(key, db=tables[CERTIFICATES])
    authorities = lists.get(header.next_authorities_hash)
    if certificate is None:
        raise DatabaseDamaged(f"block {header.height} ended epoch {header.epoch}, but is stored without its "
                              "certificate")
    if authorities is None:
        raise WrongVersion(f"the list of authorities after epoch {header.epoch} went with pruned history, so this "
                           "database of format 1 cannot be brought up to date; delete it and sync anew")
    transaction.put(height_key(header.epoch), pack([raw, certificate, authorities]), db=tables[EPOCHS])


def _as_it_is(_: Transaction, __: Tables) -> None:
    """2 to 3, 3 to 4: what is there is read as before."""


MIGRATIONS: Mapping[int, Step] = {1: _keep_epochs, 2: _as_it_is, 3: _as_it_is}
