"""The audit: a chain derived anew from its blocks alone, and compared with what the node has stored (issue 4).

Nothing that the node computed is believed. From genesis on every block's place in the chain, body, signatures and
certificate are checked; it is executed on a state of the audit's own, and every root of its header and every receipt
must come out alike. Then the node's state must equal the derived one key by key, and sums over it that use none of
the ledger's own checks must balance (`node/audit_sums.py`).

The node may run meanwhile: its database is only read, one short transaction at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from attrs import define, field, frozen

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.certificates import certificate_verifies
from gridtokenx.consensus.config import KeyVerifier
from gridtokenx.consensus.messages import Kind
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.execute import BlockInputs, BlockResult, execute_block
from gridtokenx.ledger.genesis import Genesis, decode_genesis
from gridtokenx.ledger.state import Recent, StateView
from gridtokenx.ledger.transaction import Transaction, decode_transaction, signatures_verify
from gridtokenx.node.audit_state import compare_states, describe_change
from gridtokenx.node.audit_sums import Sums, Tally
from gridtokenx.node.epochs import members_of
from gridtokenx.node.sync import decode_stored_certificate
from gridtokenx.store.chain import StoredBlock
from gridtokenx.store.database import Database
from gridtokenx.store.errors import HistoryPruned
from gridtokenx.store.scratch import Scratch

UNWRITTEN_KEYS = 100_000        # changed and read since the derived state was last written: bounds memory
MAX_FINDINGS = 100
_ROOTS = ("transactions_root", "receipts_root", "state_root", "headers_root", "authorities_hash",
          "next_authorities_hash", "market", "chain_id", "rules_version")

Progress = Callable[[int, int], None]
"""Told (blocks done, blocks there are) now and then."""


class AuditError(GridTokenXError):
    """What keeps the audit from being made at all."""


@frozen
class Finding:
    """Something that differs. `height` is the block, or None for what is not of one block; `where` names a record."""

    height: int | None
    where: str
    what: str


@define
class Report:
    """What an audit saw. `height` is the last block whose state was derived and agrees with its header."""

    chain_id: bytes
    name: str
    stored_height: int
    height: int = 0
    state_root: bytes = b""
    transactions: int = 0
    signatures: int = 0
    certificates: int = 0
    keys: int = 0
    sums: Sums | None = None
    findings: list[Finding] = field(factory=list)
    left_out: int = 0
    """Findings beyond the most that are listed."""

    @property
    def agrees(self) -> bool:
        return not self.findings

    def find(self, height: int | None, where: str, what: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(height, where, what))
        else:
            self.left_out += 1


def _silent(_: int, __: int) -> None:
    pass


def audit(path: Path, chain_id: bytes | None = None, progress: Progress = _silent) -> Report:
    """Audits the data directory `path`; with `chain_id`, only that chain's. Raises StoreError or AuditError when
    there is nothing to audit; what is wrong with the chain is in the report."""
    with Database.open_read_only(path, chain_id) as database, TemporaryDirectory(prefix="gridtokenx-audit-") as folder:
        genesis = _genesis(database)
        if database.first_height > 1:
            raise AuditError(f"{path} began with a snapshot and holds blocks from height {database.first_height} on; "
                             "an audit derives the chain from genesis: audit a node that has all of it")
        report = Report(genesis.chain_id, genesis.name, database.executed_height)
        scratch = Scratch(Path(folder))
        try:
            state = genesis.initial_state()
            scratch.write(state, dict.fromkeys(state, 0), genesis.view().pages)
            _Audit(database, scratch, genesis, report, progress).run()
        finally:
            scratch.close()
        return report


def _genesis(database: Database) -> Genesis:
    try:
        genesis = decode_genesis(database.genesis)
    except GridTokenXError as error:
        raise AuditError(f"the stored genesis cannot be read: {error}") from error
    if genesis.chain_id != database.chain_id:
        raise AuditError(f"the stored genesis is that of chain {genesis.chain_id.hex()}; the database says "
                         f"{database.chain_id.hex()}")
    return genesis


class _Broken(Exception):
    """The chain cannot be followed beyond this block; the finding is in the report."""


class _Audit:
    """One pass over the chain. `derived` is the audit's own state, made from genesis and blocks alone."""

    def __init__(self, stored: Database, derived: Scratch, genesis: Genesis, report: Report,
                 progress: Progress) -> None:
        self._stored = stored
        self._derived = derived
        self._genesis = genesis
        self._report = report
        self._progress = progress
        self._books = genesis.books()
        self._state = StateView(derived, genesis.header())
        self._recent = Recent(derived)
        self._changed: dict[bytes, int] = {}        # heights at which keys of `_recent` last changed
        self._tally = Tally(genesis)

    def run(self) -> None:
        report = self._report
        header = self._stored.header(0)
        if header != self._genesis.header().encode():
            report.find(0, "header", "block 0 is not the one that genesis makes")
        try:
            self._blocks(report.stored_height)
            with self._stored.snapshot() as snapshot:       # the node may have gone on meanwhile
                report.stored_height = snapshot.height
                self._blocks(snapshot.height)
                self._write()
                report.keys = compare_states(self._derived, snapshot, report.find)
        except _Broken:
            self._write()
        report.height = self._state.header.height
        report.state_root = self._state.header.state_root
        report.sums = self._tally.finish(self._derived, report.find)

    # ------------------------------------------------------------ blocks

    def _blocks(self, until: int) -> None:
        """Derives all blocks up to height `until`. Raises _Broken."""
        height = self._state.header.height
        stored = None
        while height < until:
            height += 1
            stored = self._stored.block(height)
            if stored is None:
                self._stop(height, "block", "it is missing")
            self._block(height, stored)
            if height % 64 == 0 or height == until:
                self._progress(height, until)
        if stored is not None and stored.certificate is None:
            self._report.find(until, "certificate", "the last block has none: nothing shows that it is final")

    def _stop(self, height: int, where: str, what: str) -> NoReturn:
        self._report.find(height, where, f"{what}; nothing above it can be derived")
        raise _Broken

    def _block(self, height: int, stored: StoredBlock) -> None:
        report, parent = self._report, self._state.header
        try:
            header = decode_header(stored.header)
            transactions = [decode_transaction(raw) for raw in stored.transactions]
        except GridTokenXError as error:
            self._stop(height, "block", f"it cannot be read: {error}")
        if header.height != height or header.parent != parent.hash:
            self._stop(height, "header", f"it does not follow on block {height - 1}, whose hash is {parent.hash.hex()}")
        if self._stored.height_of(header.hash) != height:
            report.find(height, "header", f"the database does not know it by its hash, {header.hash.hex()}")
        if merkle_root([transaction.id for transaction in transactions]) != header.transactions_root:
            self._stop(height, "body", "its transactions are not those of the header's transactions root"
                       + self._who(height, transactions))
        for transaction, good in zip(transactions, signatures_verify(report.chain_id, transactions), strict=True):
            if not good:
                report.find(height, f"transaction {transaction.id.hex()}", "a signature does not verify")
        self._certificate(height, header, stored.certificate)
        try:
            result = execute_block(self._state, BlockInputs(
                view=header.view, epoch=header.epoch, height=height, timestamp_ms=header.timestamp_ms,
                proposer=header.proposer, parent_hash=header.parent), transactions, self._books)
        except Exception as error:  # noqa: BLE001 - whatever it was, the chain ends here
            self._stop(height, "block", f"it does not execute: {type(error).__name__}: {error}")
        self._compare(height, header, stored, result)
        report.transactions += len(transactions)
        report.signatures += sum(len(transaction.signatures) for transaction in transactions)
        self._tally.block(self._state, transactions, result)
        self._extend(result)

    def _who(self, height: int, transactions: Sequence[Transaction]) -> str:
        """Which of a body's transactions are not known to the database's own index under this height."""
        for number, transaction in enumerate(transactions):
            known = self._stored.transaction(transaction.id)
            if known is None or known.height != height:
                return f" (number {number}, {transaction.id.hex()}, was never indexed there)"
        return ""

    def _certificate(self, height: int, header: Header, raw: bytes | None) -> None:
        if raw is None:
            return
        keys = tuple(key for _, key in members_of(self._state))         # as derived: of the block's epoch
        try:
            certificate = decode_stored_certificate(raw)
            good = (certificate.kind is Kind.FINALIZE and certificate.digest == header.hash
                    and certificate_verifies(certificate, Authorities(keys, 0), header.epoch,
                                             KeyVerifier(keys, header.chain_id)))
        except GridTokenXError:
            good = False
        if good:
            self._report.certificates += 1
        else:
            self._report.find(height, "certificate", "it does not show that the authorities made this block final")

    def _compare(self, height: int, header: Header, stored: StoredBlock, result: BlockResult) -> None:
        """The derived block must be the stored one. Raises _Broken if its header is another."""
        if tuple(stored.receipts) != tuple(result.receipts_raw):
            for number, raw in enumerate(result.receipts_raw):
                if number >= len(stored.receipts) or stored.receipts[number] != raw:
                    self._report.find(height, f"receipt {number}", "it is not what executing the block gives")
        if result.header == header:
            return
        for name in _ROOTS:
            ours, theirs = getattr(result.header, name), getattr(header, name)
            if ours != theirs:
                self._report.find(height, name, f"the header has {_shown(theirs)}, executing gives {_shown(ours)}")
        self._changes(height, result)
        self._stop(height, "header", "executing the block gives another one")

    def _changes(self, height: int, result: BlockResult) -> None:
        """Names the records that the node's history holds otherwise as of `height`."""
        try:
            past = self._stored.state_at(height)
        except HistoryPruned:
            return
        with past:
            for key, value in sorted(result.state.changes.items()):
                theirs = past.get(key)
                if theirs != value:
                    self._report.find(height, *describe_change(key, theirs, value))

    # ------------------------------------------------------------ the audit's own state

    def _extend(self, result: BlockResult) -> None:
        view = result.state
        self._recent.add(view)
        self._changed.update(dict.fromkeys(view.changes, view.header.height))
        self._state.recent = None
        view.recent = self._recent
        view.rebase(self._derived)      # `recent` has all that lies between: the views before it can go
        self._state = view
        if self._recent.size >= UNWRITTEN_KEYS:
            self._write()

    def _write(self) -> None:
        self._derived.write(self._recent.flat(), self._changed, self._recent.pages)
        self._state = StateView(self._derived, self._state.header)
        self._recent = Recent(self._derived)
        self._changed = {}


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
