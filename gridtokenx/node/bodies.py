"""Getting the bodies of proposed and certified blocks: from the pool, from what is set aside, from peers.

Asks again, of another source, every `ASK_AGAIN_MS`. A body counts only if it matches its header's transactions
root: ids in a proposal are not signed, and a faulty leader may give every node others.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.transaction import Transaction, TransactionError
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.intake import Intake
from gridtokenx.node.pool import Pool
from gridtokenx.node.records import BlockFrame, BodyFrame, GetBlock, GetTransactions, Transactions

ASK_AGAIN_MS = 300
ANSWER_BYTES = 512 << 10


@define
class Wanted:
    """A block whose body is being gathered."""

    digest: bytes
    header: Header
    ids: tuple[bytes, ...]
    sources: tuple[bytes, ...]
    have: dict[bytes, Transaction]
    missing: dict[bytes, None]
    asked_ms: int = 0
    asked: int = 0


@define
class Bodies:
    """`send(frame, to)` is the replica's; `held(block)` and `refused(digest, reason)` are its answers."""

    chain: Chain
    pool: Pool
    intake: Intake
    send: Callable[[BodyFrame, bytes], None]
    held: Callable[[ChainBlock], None]
    refused: Callable[[bytes, str], None]
    _wanted: dict[bytes, Wanted] = field(factory=dict)
    _fetching: dict[bytes, int] = field(factory=dict)        # digest -> view that vouches for it

    @property
    def deadline_ms(self) -> int | None:
        """When `ask_again` has something to do."""
        if not self._wanted:
            return None
        return min(wanted.asked_ms for wanted in self._wanted.values()) + ASK_AGAIN_MS

    def ask_again(self, now_ms: int) -> None:
        for wanted in list(self._wanted.values()):
            if wanted.asked_ms + ASK_AGAIN_MS <= now_ms:
                self._ask(wanted, now_ms)

    def forget(self, block_digest: bytes) -> None:
        self._wanted.pop(block_digest, None)
        self._fetching.pop(block_digest, None)

    def settled(self, block_digest: bytes, view: int) -> None:
        """A block of `view` is final: what was asked for on the word of that view or older ones never comes."""
        self.forget(block_digest)
        for old in [name for name, vouched in self._fetching.items() if vouched <= view]:
            del self._fetching[old]

    def forget_all(self) -> None:
        """An epoch ended: what was asked for in it is settled."""
        self._wanted.clear()
        self._fetching.clear()

    def wants(self, transaction_id: bytes) -> bool:
        return any(transaction_id in wanted.missing for wanted in self._wanted.values())

    # ------------------------------------------------------------ proposals

    def gather(self, block_digest: bytes, header: Header, ids: tuple[bytes, ...], source: bytes,
               now_ms: int) -> None:
        """Completes the body of a proposal, asking `source` for what is missing."""
        if block_digest in self._wanted:
            return
        known = self.chain.block(block_digest)
        if known is not None:
            self.held(known)
            return
        have: dict[bytes, Transaction] = {}
        missing: dict[bytes, None] = {}
        for transaction_id in ids:
            transaction = self.pool.get(transaction_id) or self.chain.transaction(transaction_id)
            if transaction is None:
                missing[transaction_id] = None
            else:
                have[transaction_id] = transaction
        wanted = Wanted(block_digest, header, ids, (source,), have, missing)
        self._wanted[block_digest] = wanted
        self._supply(wanted)
        if block_digest in self._wanted:
            self._ask(wanted, now_ms)

    def arrived(self) -> None:
        """More transactions were set aside: some may be what blocks wait for."""
        for wanted in list(self._wanted.values()):
            self._supply(wanted)

    def _supply(self, wanted: Wanted) -> None:
        for transaction_id, checked in self.intake.take(wanted.missing).items():
            if isinstance(checked, GridTokenXError):
                self._refuse(wanted, f"transaction {transaction_id.hex()}: {checked}")
                return
            wanted.have[transaction_id] = checked
            del wanted.missing[transaction_id]
        for transaction_id in list(wanted.missing):
            # A client may have brought it meanwhile, or verify_some taken it in.
            transaction = self.pool.get(transaction_id)
            if transaction is not None:
                wanted.have[transaction_id] = transaction
                del wanted.missing[transaction_id]
        if wanted.missing:
            return
        transactions = tuple(wanted.have[transaction_id] for transaction_id in wanted.ids)
        if not self.chain.matches_root(wanted.header, transactions):
            self._refuse(wanted, "the ids handed out do not match the header's transactions root")
            return
        self.forget(wanted.digest)
        self.held(self.chain.add(wanted.digest, wanted.header, transactions))

    def _refuse(self, wanted: Wanted, reason: str) -> None:
        self._wanted.pop(wanted.digest, None)
        self.refused(wanted.digest, reason)

    def _ask(self, wanted: Wanted, now_ms: int) -> None:
        wanted.asked_ms = now_ms
        source = wanted.sources[wanted.asked % len(wanted.sources)]
        wanted.asked += 1
        self.send(GetTransactions(tuple(wanted.missing)), source)

    # ------------------------------------------------------------ certified blocks

    def fetch(self, block_digest: bytes, view: int, holders: tuple[bytes, ...]) -> None:
        """Asks holders for a whole block by its digest."""
        known = self.chain.block(block_digest)
        if known is not None:
            self.held(known)
            return
        self._fetching[block_digest] = view
        wanted = self._wanted.get(block_digest)
        if wanted is not None:
            wanted.sources = tuple(dict.fromkeys((*wanted.sources, *holders)))
        for holder in holders[:2]:
            self.send(GetBlock(block_digest), holder)

    def block_arrived(self, frame: BlockFrame) -> None:
        """Takes a whole block that was asked for. Raises GridTokenXError when it is not what it should be."""
        block_digest = digest(Domain.HEADER, frame.header)
        if block_digest not in self._fetching:
            return
        header, _ = self.chain.read_block(frame.header, ())
        transactions: list[Transaction] = []
        for checked in self.intake.check(frame.raws):
            if isinstance(checked, GridTokenXError):
                raise checked
            transactions.append(checked)
        if not self.chain.matches_root(header, transactions):
            raise TransactionError("the body does not match the header's transactions root")
        self.forget(block_digest)
        self.held(self.chain.add(block_digest, header, tuple(transactions)))

    # ------------------------------------------------------------ answers

    def answer_transactions(self, ids: tuple[bytes, ...], to: bytes) -> None:
        found: list[bytes] = []
        size = 0
        for transaction_id in ids:
            transaction = self.pool.get(transaction_id) or self.chain.transaction(transaction_id)
            raw = self.intake.raw(transaction_id) if transaction is None else transaction.raw
            if raw is not None:
                size += len(raw)
                if found and size > ANSWER_BYTES:
                    break
                found.append(raw)
        if found:
            self.send(Transactions(tuple(found)), to)

    def answer_block(self, block_digest: bytes, to: bytes) -> None:
        block = self.chain.body(block_digest)
        if block is not None:
            self.send(BlockFrame(block[0], tuple(block[1])), to)
