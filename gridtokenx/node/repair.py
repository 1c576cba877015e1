"""Finding damage in a data directory, and rebuilding what can be rebuilt (docs/operator.md).

LMDB has no checksums: a flipped bit shows only where something commits to it. Here everything is read against what
does: blocks against their hashes and links, bodies and receipts against their headers' roots, every record against the
trie, the trie against the state root of the last block.

What the blocks commit to can be made anew by executing them from genesis on: state, trie, history, indexes. So a
directory whose blocks are good up to some height becomes one that is in order at that height, and the rest comes
from the peers. One whose blocks are gone, or that began with a snapshot, is set aside, and the node begins anew. The
log stays where it is; but whenever the database ends lower than it did, nothing is signed until the next epoch, since
own votes of epochs that it no longer knows could be forgotten.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from gridtokenx.consensus.messages import Kind
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import trie
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.genesis import Genesis, decode_genesis
from gridtokenx.ledger.transaction import decode_transaction
from gridtokenx.node.chain import BlockRules, Chain
from gridtokenx.node.lost_log import LOG_DIRECTORY, leave_mark
from gridtokenx.node.records import MAX_BLOCK_BYTES
from gridtokenx.node.sync import decode_stored_certificate
from gridtokenx.store.database import Database
from gridtokenx.store.disk import sync_directory
from gridtokenx.store.environment import DEFAULT_MAP_BYTES, ENVIRONMENT_DIRECTORY, DirectoryLock, walk_pages
from gridtokenx.store.errors import DatabaseDamaged, LogError, LogLost, NotInitialised, StoreError, WrongVersion
from gridtokenx.store.log import read_log, set_aside
from gridtokenx.store.restoring import NEW_DIRECTORY, RESTORING_DIRECTORY, install

CHECKPOINT_BLOCKS = 64
ROWS = 10_000
REBUILT_DIRECTORY = "rebuilding"

Progress = Callable[[str, int], None]
IN_ORDER = "all is in order: start the node"
RESYNC = "start the node: it begins anew and takes the chain, or a snapshot of it, from its peers"


def _silent(_: str, __: int) -> None:
    pass


@define
class Report:
    """What was found and done. `height`: of the database now, -1 if there is none."""

    height: int = -1
    in_order: bool = True
    found: list[str] = field(factory=list)
    done: list[str] = field(factory=list)
    next: str = IN_ORDER

    def damage(self, what: str) -> None:
        self.in_order = False
        self.found.append(what)


def repair(path: Path, *, check_only: bool = False, progress: Progress = _silent) -> Report:
    """Checks the data directory `path`, and unless `check_only` mends it.

    Raises DirectoryInUse while a node runs there, WrongVersion for a newer program's data, NotInitialised where there
    is nothing.
    """
    if not any((path / name).exists() for name in (ENVIRONMENT_DIRECTORY, NEW_DIRECTORY, LOG_DIRECTORY)):
        raise NotInitialised(f"{path} is no data directory: it has neither {ENVIRONMENT_DIRECTORY} nor {LOG_DIRECTORY}")
    report = Report()
    lock = DirectoryLock(path)
    try:
        if not check_only:
            _tidy(path, report)
    finally:
        lock.release()
    chain_id = _repair_database(path, report, check_only, progress)
    if chain_id is not None:
        _repair_log(path, chain_id, report, check_only)
    if report.in_order and report.height < 0:
        report.next = RESYNC
    if not report.in_order and check_only:
        report.next = "stop the node and run `gridtokenx repair` without --check"
    return report


def _tidy(path: Path, report: Report) -> None:
    """Finishes or clears away what a crash left half done."""
    if install(path):
        report.done.append("a database that had been built was put in its place")
    for name in (RESTORING_DIRECTORY, REBUILT_DIRECTORY):
        if (path / name).exists():
            shutil.rmtree(path / name)
            report.done.append(f"{name}/, left by a run that was cut off, was removed")


# ---------------------------------------------------------------------- the database


def _repair_database(path: Path, report: Report, check_only: bool, progress: Progress) -> bytes | None:
    place = path / ENVIRONMENT_DIRECTORY
    if not place.exists():
        report.found.append(f"there is no {ENVIRONMENT_DIRECTORY}")
        return None
    problem = None
    progress("pages", 0)
    try:
        problem = walk_pages(place)
    except OSError as error:
        problem = str(error)
    if problem is not None:
        report.damage(f"{place}: {problem}")
        _give_up(path, report, check_only)
        return None
    try:
        database = Database.open_read_only(path) if check_only else Database.open(path)
    except (NotInitialised, WrongVersion):
        raise
    except DatabaseDamaged as error:
        report.damage(str(error))
        _give_up(path, report, check_only)
        return None
    try:
        chain_id = database.chain_id
        was = database.executed_height
        good = _check_blocks(database, report, progress)
        whole = _check_state(database, report, progress)
        if good == was and whole:
            report.height = was
            return chain_id
        if check_only:
            return chain_id
        rebuilt = _rebuild(database, path, good, report, progress) if database.first_height == 1 else None
    except DatabaseDamaged as error:
        report.damage(str(error))
        rebuilt = None
        if check_only:
            return database.chain_id
    finally:
        database.close()
    if rebuilt is None:
        _give_up(path, report, check_only)
        return chain_id
    lock = DirectoryLock(path)
    try:
        (path / REBUILT_DIRECTORY / ENVIRONMENT_DIRECTORY).rename(path / NEW_DIRECTORY)
        sync_directory(path)
        kept = _aside(path)
        install(path)
        shutil.rmtree(path / REBUILT_DIRECTORY)
    finally:
        lock.release()
    report.height, report.in_order = rebuilt, True
    report.done.append(f"state, trie, history and indexes were made anew from the blocks up to {rebuilt}; the damaged "
                       f"database is kept as {kept.name}, remove it when you like")
    if rebuilt < was:
        _bar(path, report)
        report.next = f"start the node: blocks from {rebuilt + 1} on come from its peers"
    return chain_id


def _give_up(path: Path, report: Report, check_only: bool) -> None:
    """Nothing can be made of the database: it is set aside and the node begins anew."""
    if check_only:
        return
    lock = DirectoryLock(path)
    try:
        kept = _aside(path)
    finally:
        lock.release()
    report.done.append(f"nothing can be rebuilt from it; it was set aside as {kept.name}")
    _bar(path, report)
    report.next = RESYNC


def _aside(path: Path) -> Path:
    number = next(n for n in range(1, 10_000) if not (path / f"{ENVIRONMENT_DIRECTORY}.damaged-{n}").exists())
    kept = path / f"{ENVIRONMENT_DIRECTORY}.damaged-{number}"
    (path / ENVIRONMENT_DIRECTORY).rename(kept)
    sync_directory(path)
    return kept


def _bar(path: Path, report: Report) -> None:
    leave_mark(path)
    report.done.append("the mark was left by which an authority signs nothing until the next epoch begins")


def _check_blocks(database: Database, report: Report, progress: Progress) -> int:
    """The last height up to which all blocks are whole and linked."""
    executed, first = database.executed_height, database.first_height
    good = first - 1
    raw = database.header(good)
    if raw is None:
        report.damage(f"the header of block {good} is missing")
        return -1
    try:
        parent = decode_header(raw)
    except GridTokenXError as error:
        report.damage(f"the header of block {good} cannot be read: {error}")
        return -1
    for height in range(first, executed + 1):
        try:
            parent = _checked_block(database, height, parent.hash)
        except GridTokenXError as error:
            report.damage(f"block {height}: {error}")
            return good
        good = height
        if height % 256 == 0:
            progress("blocks", height)
    return good


def _checked_block(database: Database, height: int, parent: bytes) -> Header:
    stored = database.block(height)
    if stored is None:
        raise DatabaseDamaged("it is missing")
    header = decode_header(stored.header)
    if header.height != height or header.parent != parent:
        raise DatabaseDamaged("its header does not follow on the one before")
    if merkle_root([digest(Domain.TRANSACTION, raw) for raw in stored.transactions]) != header.transactions_root:
        raise DatabaseDamaged("its transactions are not those that its header names")
    if merkle_root(stored.receipts) != header.receipts_root:
        raise DatabaseDamaged("its receipts are not those that its header names")
    if database.height_of(header.hash) != height:
        raise DatabaseDamaged("the index of hashes does not lead to it")
    if stored.certificate is not None:
        certificate = decode_stored_certificate(stored.certificate)
        if certificate.kind is not Kind.FINALIZE or certificate.digest != header.hash:
            raise DatabaseDamaged("its certificate is not one of its finality")
    return header


def _check_state(database: Database, report: Report, progress: Progress) -> bool:
    """Whether every record has its leaf, every leaf its record, and the trie the root of the last block's header."""
    raw = database.header(database.executed_height)
    if raw is None:
        report.damage("the last block's header is missing")
        return False
    try:
        root = decode_header(raw).state_root
        with database.snapshot() as snapshot:
            left = {}
            for number, (key, value) in enumerate(snapshot.scan(b"")):
                left[digest(Domain.TRIE_KEY, key)] = (digest(Domain.TRIE_VALUE, value), key)
                if number % ROWS == 0:
                    progress("records", number)
            for name, value_hash in trie.leaves(snapshot.page, root):
                known = left.pop(name, None)
                if known is None or known[0] != value_hash:
                    what = name.hex() if known is None else known[1].hex()
                    report.damage(f"the record {what} is not the one that the state root of block "
                                  f"{database.executed_height} commits to")
                    return False
    except (GridTokenXError, ValueError) as error:
        report.damage(f"the state: {error}")
        return False
    if left:
        report.damage(f"{len(left)} records are not under the state root of block {database.executed_height}")
    return not left


def _rebuild(database: Database, path: Path, until: int, report: Report, progress: Progress) -> int | None:
    """Executes the blocks from genesis on into a new database; returns how far that went, None if not at all."""
    try:
        genesis = decode_genesis(database.genesis)
        if genesis.chain_id != database.chain_id:
            raise DatabaseDamaged("the stored genesis is not that of the chain")
    except GridTokenXError as error:
        report.damage(f"the stored genesis: {error}")
        return None
    built = _new_database(path / REBUILT_DIRECTORY, genesis)
    try:
        # Nothing is built here, and the size of blocks is checked by the state's own parameters as they execute.
        chain = Chain(genesis, built, genesis.books(), BlockRules(b"", MAX_BLOCK_BYTES, 1, 1, 1))
        try:
            for height in range(1, until + 1):
                stored = database.block(height)
                assert stored is not None, "it was read before"
                header = decode_header(stored.header)
                block = chain.add(header.hash, header, tuple(map(decode_transaction, stored.transactions)))
                chain.execute(block)
                if block.failure:
                    report.damage(f"block {height} does not execute: {block.failure}")
                    break
                chain.finalize(block.digest, None if stored.certificate is None
                               else decode_stored_certificate(stored.certificate))
                if len(chain.finals()) >= CHECKPOINT_BLOCKS or height == until:
                    done = chain.checkpoint_blocks()
                    built.checkpoint(done)
                    chain.checkpoint_done(len(done))
                    progress("blocks made anew", height)
            done = chain.checkpoint_blocks()
            built.checkpoint(done)
            chain.checkpoint_done(len(done))
        finally:
            chain.close()
        return built.executed_height
    except StoreError as error:
        report.damage(f"making it anew failed: {error}")
        return None
    finally:
        built.close()


def _new_database(path: Path, genesis: Genesis) -> Database:
    if path.exists():
        shutil.rmtree(path)
    header = genesis.header()
    return Database.create(path, genesis.chain_id, genesis.canonical(), state=genesis.initial_state(),
                           pages=genesis.view().pages, header=header.encode(), header_hash=header.hash,
                           map_bytes=DEFAULT_MAP_BYTES)


# ---------------------------------------------------------------------- the log


def _repair_log(path: Path, chain_id: bytes, report: Report, check_only: bool) -> None:
    place = path / LOG_DIRECTORY
    try:
        read_log(place, chain_id)
    except LogLost as error:
        report.damage(f"the log: {error}")
        if not check_only:
            leave_mark(path)
            kept = set_aside(place)
            report.done.append(f"the log was set aside as {kept.name}; an authority signs nothing until the next epoch "
                               "begins, any other node needs none")
            report.in_order = report.height >= 0
    except LogError:
        pass                # there is none: the node makes one
