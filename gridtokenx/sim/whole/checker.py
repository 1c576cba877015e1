"""The invariants of CONSENSUS 8 for whole nodes: those of `sim.checker`, restarts from checkpoint and log, money.

An observer keeps no log: what it told since its last checkpoint it has to fetch again, so it is not held to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.operations import Deposit, Withdraw
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.transaction import signatures_verify
from gridtokenx.node.chain import ChainBlock
from gridtokenx.node.sync import decode_stored_certificate
from gridtokenx.sim.checker import Checker
from gridtokenx.sim.disk import Key
from gridtokenx.sim.world import Violation
from gridtokenx.store.database import Database


def held_of(block: ChainBlock) -> HeldBlock:
    return HeldBlock(block.digest, block.header, block.ids, block.body_bytes)


@define
class WholeChecker(Checker):
    """`expected_uthb` is all the money there must be after the last block that was added up."""

    expected_uthb: int = 0
    money_at: int = 0
    state_roots: dict[int, bytes] = field(factory=dict)
    _vouched: dict[int, int] = field(factory=dict)       # node -> height that it called final as an authority

    # ------------------------------------------------------------ restarts

    def reopens(self, node: int, database: Database) -> None:
        """A process opens its database: every block in it is a block of the one chain."""
        self._heights[node] = 0
        for height in range(1, database.executed_height + 1):
            stored = database.block(height)
            if stored is None:
                raise Violation(f"node {node} has lost block {height} below its checkpoint")
            name = digest(Domain.HEADER, stored.header)
            if height <= len(self.chain) and self.chain[height - 1].digest == name:
                self._heights[node] = height
                continue
            ids = tuple(digest(Domain.TRANSACTION, raw) for raw in stored.transactions)
            certificate = None if stored.certificate is None else decode_stored_certificate(stored.certificate)
            self.finalizes(node, HeldBlock(name, decode_header(stored.header), ids, 0), certificate)

    def reads_back(self, node: int, strange: Iterable[int]) -> None:
        """A log gives back only what was written; `strange` are the kinds of records that were not."""
        for kind in strange:
            raise Violation(f"node {node} reads a record of kind {kind} from its log that it never wrote")

    def reopened(self, node: int) -> None:
        """The log was replayed: all that was ever told is there again."""
        told, height = self._vouched.get(node, 0), self._heights[node]
        self._vouched[node] = height
        if node not in self.forgetful and node not in self._lost_in and height < told:
            raise Violation(f"node {node} called height {told} final and restarts at {height}")

    def forgets(self, node: int, gone: set[Key], database: Database) -> None:
        """What a log held durably and holds no more is of views up to that of the checkpoint's block."""
        raw = database.header(database.executed_height)
        base = self.genesis if raw is None else decode_header(raw)
        for key in sorted(gone):
            what, _, epoch, view, name = key
            block = self.blocks.get(name)
            if what == "block" and block is not None:
                epoch, view = block.header.epoch, block.header.view
            if (epoch, view) > (base.epoch, base.view):
                raise Violation(f"node {node} has lost a {what} of view {view} in epoch {epoch} from its log; its "
                                f"checkpoint is of view {base.view} in epoch {base.epoch}")

    def vouches(self, node: int, height: int) -> None:
        """An authority called it final."""
        self._vouched[node] = height

    # ------------------------------------------------------------ money

    def state_after(self, block: ChainBlock) -> None:
        """Once per height: money is what genesis and the issuers made of it, all accounts added up one by one."""
        height = block.header.height
        if self.state_roots.setdefault(height, block.header.state_root) != block.header.state_root:
            raise Violation(f"two state roots at height {height}")
        if height != self.money_at + 1 or block.state is None or block.result is None:
            return
        self.money_at = height
        if block.result.header != block.header:
            raise Violation(f"height {height} is final, but executing it gave another header")
        if not all(signatures_verify(self.genesis.chain_id, block.transactions)):
            raise Violation(f"a transaction of height {height} is not signed as it should be")
        for transaction, receipt in zip(block.transactions, block.result.receipts, strict=False):
            for operation, outcome in zip(transaction.operations, receipt.outcomes, strict=True):
                if outcome.ok and operation[0] == Deposit.KIND:
                    self.expected_uthb += operation[2]
                elif outcome.ok and operation[0] == Withdraw.KIND:
                    self.expected_uthb -= operation[1]
        held = sum(Account.decode(raw).total for _, raw in block.state.scan(bytes((Space.ACCOUNT,))))
        if held != self.expected_uthb:
            raise Violation(f"after height {height} all accounts hold {held} uTHB; {self.expected_uthb} were made")
