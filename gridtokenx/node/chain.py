"""The blocks between the last checkpoint and the newest proposal: bodies, executed states, what is final.

`Chain` executes and builds blocks on any executed parent, follows finality, hands finished stretches to the
store as checkpoints, and answers reads at its head. It does no I/O but reads of the store's snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from attrs import define, field

from gridtokenx.consensus.interface import Build
from gridtokenx.consensus.messages import Certificate
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.admission import Admission
from gridtokenx.ledger.block import BlockError, Header, decode_header
from gridtokenx.ledger.build import build_block
from gridtokenx.ledger.execute import BlockInputs, BlockResult, execute_block
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.receipts import Code, Failed, InvalidBlock
from gridtokenx.ledger.records import Account, Epoch
from gridtokenx.ledger.schema import decode_value
from gridtokenx.ledger.state import Recent, StateReader, StateView
from gridtokenx.ledger.transaction import Transaction, decode_transaction
from gridtokenx.market.book import Books
from gridtokenx.node.index import index_rows
from gridtokenx.node.pool_entries import Left, PoolRefused
from gridtokenx.store.checkpoint import EpochEnd, FinalizedBlock
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DatabaseDamaged
from gridtokenx.store.snapshot import Snapshot


@define(eq=False)
class ChainBlock:
    """One block above the last checkpoint (or that checkpoint's own). `failure` says why it does not execute."""

    digest: bytes
    header: Header
    transactions: tuple[Transaction, ...]
    result: BlockResult | None = None
    failure: str = ""
    certificate: Certificate | None = None
    logged: bool = False
    state: StateView | None = field(default=None, repr=False)

    @property
    def ids(self) -> tuple[bytes, ...]:
        return tuple(transaction.id for transaction in self.transactions)

    @property
    def body_bytes(self) -> int:
        return sum(len(transaction.raw) for transaction in self.transactions)

    @property
    def executed(self) -> bool:
        return self.state is not None

    @property
    def weight(self) -> int:
        return 0 if self.result is None else self.result.weight

    @property
    def unfinished(self) -> bool:
        return self.result is not None and self.result.unfinished


class Chain:
    """Not thread-safe, but for `execute` and `build`, of which one may run on another thread at a time."""

    def __init__(self, genesis: Genesis, database: Database, books: Books, rules: BlockRules) -> None:
        self.genesis = genesis
        self.chain_id = genesis.chain_id
        self.rules = rules
        self._database = database
        self._books = books
        self._log = structlog.get_logger("chain")
        self._snapshot = database.snapshot()
        raw = database.header(self._snapshot.height)
        if raw is None:
            raise DatabaseDamaged(f"no header at the checkpoint's height {self._snapshot.height}")
        header = decode_header(raw)
        page = self._snapshot.page(trie.ROOT_PATH)
        if page is None or trie.page_hash(trie.ROOT_PATH, page) != header.state_root:
            raise DatabaseDamaged(f"the trie's root page is not that of the state root of block {header.height}")
        root = ChainBlock(header.hash, header, (), logged=True, state=StateView(self._snapshot, header))
        self._blocks: dict[bytes, ChainBlock] = {root.digest: root}
        self.base = root
        self.head = root
        self._final: deque[ChainBlock] = deque()
        self._recent = Recent(self._snapshot)
        self._final_digests = {root.digest}
        self._transactions: dict[bytes, Transaction] = {}
        self._refused: list[Left] = []
        self._admission: Admission | None = None

    # ------------------------------------------------------------ reading

    @property
    def state(self) -> StateView:
        """The state after the newest final block."""
        assert self.head.state is not None
        return self.head.state

    @property
    def database(self) -> Database:
        return self._database

    def block(self, block_digest: bytes) -> ChainBlock | None:
        return self._blocks.get(block_digest)

    def transaction(self, transaction_id: bytes) -> Transaction | None:
        """A transaction in a block not yet checkpointed."""
        return self._transactions.get(transaction_id)

    def finals(self) -> list[ChainBlock]:
        """Final blocks that no checkpoint holds yet, oldest first."""
        return list(self._final)

    def body(self, block_digest: bytes) -> tuple[bytes, list[bytes]] | None:
        """Raw header and transactions of a block held here, checkpointed ones from the store."""
        block = self._blocks.get(block_digest)
        if block is not None and block is not self.base:
            return block.header.encode(), [transaction.raw for transaction in block.transactions]
        height = self._database.height_of(block_digest)
        if height is None:
            return None
        stored = self._database.block(height)
        return None if stored is None else (stored.header, stored.transactions)

    def nonce_at_head(self, sender: bytes) -> int:
        return nonce_of(self.state, sender)

    def nonces_at(self, block: ChainBlock) -> Callable[[bytes], int]:
        state = block.state
        assert state is not None
        return lambda sender: nonce_of(state, sender)

    def admission(self) -> Admission:
        """What judges submissions on the newest final state; the same one as long as that is the newest."""
        if self._admission is None:
            self._admission = Admission(self.state, self.head.header.height + 1)
        return self._admission

    def refusal(self, error: GridTokenXError) -> tuple[int, str]:
        """The code and message that a client gets for an error at submission."""
        if isinstance(error, Failed | PoolRefused):
            return int(error.code), str(error)
        return int(Code.MALFORMED), str(error)

    # ------------------------------------------------------------ blocks in

    def read_block(self, header_raw: bytes, raws: Sequence[bytes]) -> tuple[Header, tuple[Transaction, ...]]:
        """Decodes a whole block. Raises GridTokenXError naming what is malformed; verifies nothing."""
        return decode_header(header_raw), tuple(decode_transaction(raw) for raw in raws)

    def matches_root(self, header: Header, transactions: Sequence[Transaction]) -> bool:
        return merkle_root([transaction.id for transaction in transactions]) == header.transactions_root

    def add(self, block_digest: bytes, header: Header, transactions: tuple[Transaction, ...]) -> ChainBlock:
        """Takes a complete block in; it can be executed once its parent was."""
        known = self._blocks.get(block_digest)
        if known is not None:
            return known
        block = ChainBlock(block_digest, header, transactions)
        self._blocks[block_digest] = block
        for transaction in transactions:
            self._transactions[transaction.id] = transaction
        return block

    def can_execute(self, block: ChainBlock) -> bool:
        parent = self._blocks.get(block.header.parent)
        return parent is not None and parent.executed

    def execute(self, block: ChainBlock) -> None:
        """Executes on the parent's state; sets `state` and `result`, or `failure`. Never raises for a bad block.

        Sets nothing if the parent was dropped while the execution waited for its turn: nobody asks any more.
        """
        if block.executed or not self.can_execute(block):
            return
        parent = self._blocks[block.header.parent]
        assert parent.state is not None
        header = block.header
        inputs = BlockInputs(view=header.view, epoch=header.epoch, height=header.height,
                             timestamp_ms=header.timestamp_ms, proposer=header.proposer, parent_hash=header.parent)
        try:
            self._check_size(block)
            result = execute_block(parent.state, inputs, block.transactions, self._books)
        except InvalidBlock as error:
            block.failure = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the answer is not to vote
            # CONSENSUS 2: any other exception while executing another's block means no vote, and a log entry.
            block.failure = f"{type(error).__name__}: {error}"
            self._log.exception("execution_failed", height=header.height, block=block.digest.hex())
        else:
            difference = _difference(result.header, header)
            if difference:
                block.failure = f"executing gives another {difference}"
                self._log.error("roots_differ", height=header.height, block=block.digest.hex(), field=difference)
            else:
                block.result, block.state = result, result.state

    def _check_size(self, block: ChainBlock) -> None:
        if block.body_bytes > self.rules.max_block_bytes:
            raise InvalidBlock(f"{block.body_bytes} bytes of transactions; at most {self.rules.max_block_bytes}")

    def build(self, effect: Build, candidates: Sequence[Transaction]) -> ChainBlock | None:
        """Makes and executes the own block. A transaction that raises is dropped; see `take_refused`.

        None if the parent was dropped meanwhile, or no block can be made of it: then the view passes without one.
        """
        parent = self._blocks.get(effect.parent)
        if parent is None or parent.state is None:
            return None
        inputs = BlockInputs(view=effect.view, epoch=effect.epoch, height=effect.height,
                             timestamp_ms=effect.timestamp_ms, proposer=self.rules.me, parent_hash=effect.parent)
        try:
            result, included, refused = build_block(parent.state, inputs, candidates, self._books, empty=effect.empty)
        except Exception:  # noqa: BLE001 - whatever it was, the view passes without a block of this node's
            self._log.exception("build_failed", view=effect.view, height=effect.height)
            return None
        self._refused += [Left(transaction.id, code, reason) for transaction, code, reason in refused]
        block = self.add(result.header.hash, result.header, tuple(included))
        block.result, block.state = result, result.state
        return block

    def take_refused(self) -> list[Left]:
        """Those of the candidates that building found to be unusable for good."""
        refused, self._refused = self._refused, []
        return refused

    # ------------------------------------------------------------ finality

    def finalize(self, block_digest: bytes, certificate: Certificate | None) -> ChainBlock:
        """The next final block. Raises InvariantError if it does not execute here: the node must stop."""
        block = self._blocks.get(block_digest)
        if block is None:
            raise InvariantError(f"block {block_digest.hex()} is final but not held")
        if block.state is None:
            raise InvariantError(f"block {block.header.height} ({block_digest.hex()}) is final but does not execute "
                                 f"here: {block.failure or 'not executed yet'}")
        if block.header.parent != self.head.digest:
            raise InvariantError(f"block {block.header.height} ({block_digest.hex()}) is final but does not follow on "
                                 f"the final block {self.head.digest.hex()}")
        block.certificate = certificate
        self._recent.add(block.state)
        self.state.recent = None
        block.state.recent = self._recent
        self.head = block
        self._admission = None
        self._final.append(block)
        self._final_digests.add(block_digest)
        return block

    def certify(self, block_digest: bytes, certificate: Certificate) -> None:
        """Keeps the own certificate of a block that became final by a descendant's."""
        block = self._blocks.get(block_digest)
        if block is not None and block.certificate is None:
            block.certificate = certificate

    def is_final(self, block_digest: bytes) -> bool:
        """Whether a block above the last checkpoint, or that checkpoint's own, is final already."""
        return block_digest in self._final_digests

    def drop(self, digests: Sequence[bytes]) -> None:
        """Forgets blocks that can never be final, with their overlays."""
        self._forget([block_digest for block_digest in digests
                      if block_digest in self._blocks and block_digest not in self._final_digests])

    def drop_unfinal(self) -> None:
        """Forgets every block that is not final: an epoch ended, and they were of it."""
        self.drop([block_digest for block_digest in self._blocks if block_digest not in self._final_digests])

    def _forget(self, digests: Sequence[bytes]) -> None:
        gone = [self._blocks.pop(block_digest) for block_digest in digests]
        if not any(block.transactions for block in gone):
            return
        # A rival often holds the same transactions: they stay to be had as long as any block has them.
        kept = {transaction.id for block in self._blocks.values() for transaction in block.transactions}
        for block in gone:
            for transaction in block.transactions:
                if transaction.id not in kept:
                    self._transactions.pop(transaction.id, None)

    # ------------------------------------------------------------ checkpoints

    def checkpoint_blocks(self) -> list[FinalizedBlock]:
        """What the next checkpoint writes: the final blocks up to the last with a certificate of its own."""
        finals = list(self._final)
        while finals and finals[-1].certificate is None:
            finals.pop()
        return [_stored(block) for block in finals]

    def stored_finals(self) -> list[FinalizedBlock]:
        """All final blocks since the last checkpoint in their stored form, certified or not."""
        return [_stored(block) for block in self._final]

    def checkpoint_done(self, blocks: int) -> None:
        """The store holds the oldest `blocks` of the final blocks: read on from a new snapshot of it."""
        last: ChainBlock | None = None
        for _ in range(blocks):
            last = self._final.popleft()
        if last is None:
            return
        snapshot = self._database.snapshot()
        if snapshot.height != last.header.height:
            raise InvariantError(f"the store is at height {snapshot.height} after a checkpoint of "
                                 f"{last.header.height}")
        base = StateView(snapshot, last.header)
        for block in self._blocks.values():
            if block.state is not None and block.header.parent == last.digest:
                block.state.rebase(base)
        old, self._snapshot = self._snapshot, snapshot
        self._admission = None          # it has read from the old snapshot
        last.state = base
        last.result = None
        self._forget([d for d, b in self._blocks.items()
                      if b.header.height <= last.header.height and b is not last])
        for transaction in last.transactions:
            self._transactions.pop(transaction.id, None)
        self._final_digests = {last.digest, *(block.digest for block in self._final)}
        self._recent = Recent(snapshot, self._recent)
        for block in self._final:
            if block.state is not None:
                self._recent.add(block.state)
        if self.head is not last:
            self.state.recent = self._recent
        self.base = last
        old.close()

    @contextmanager
    def private_state(self) -> Iterator[StateView]:
        """The state at the head for one other thread: the same overlays on a snapshot of its own.

        To be entered on the event loop, while no block is being executed.
        """
        snapshot = self._database.snapshot()
        try:
            view = StateView(snapshot, self.base.header)
            for block in self._final:
                if block.header.height > snapshot.height and block.state is not None:
                    view = StateView(view, block.header, block.state.changes, block.state.pages)
                elif block.header.height == snapshot.height:
                    view = StateView(snapshot, block.header)
            yield view
        finally:
            snapshot.close()

    def close(self) -> None:
        self._snapshot.close()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot


@define
class BlockRules:
    """What the shell needs of the chain's parameters beside the ledger: sizes, and the own key for proposals."""

    me: bytes
    max_block_bytes: int
    max_block_weight: int
    max_block_transactions: int
    weight_guess: int


def nonce_of(state: StateReader, sender: bytes) -> int:
    """The next nonce of an account; 0 for one that does not exist."""
    key = spaces.account(sender)
    raw = state.get(key)
    if raw is None:
        return 0
    account = decode_value(key, raw)
    assert isinstance(account, Account)
    return account.nonce


def _difference(ours: Header, theirs: Header) -> str:
    for name in ("transactions_root", "receipts_root", "state_root", "headers_root", "authorities_hash",
                 "next_authorities_hash", "market", "chain_id", "rules_version"):
        if getattr(ours, name) != getattr(theirs, name):
            return name
    return "" if ours == theirs else "header"


def _stored(block: ChainBlock) -> FinalizedBlock:
    from gridtokenx.node.sync import encode_stored_certificate

    result = block.result
    if result is None or block.state is None:
        raise BlockError(f"block {block.header.height} has no result to store")
    return FinalizedBlock(
        height=block.header.height, hash=block.digest, header=block.header.encode(),
        transactions=[(transaction.id, transaction.raw) for transaction in block.transactions],
        certificate=None if block.certificate is None else encode_stored_certificate(block.certificate),
        changes=block.state.changes, pages=block.state.pages,
        receipts=result.receipts_raw, events=index_rows(block.header, result), epoch_end=epoch_end(block),
    )


def epoch_end(block: ChainBlock) -> EpochEnd | None:
    """What the block ends, if it is a boundary block with its certificate."""
    if block.state is None or block.certificate is None:
        return None
    epoch, listed = block.state.get(spaces.EPOCH), block.state.get(spaces.AUTHORITIES)
    if epoch is None or listed is None or Epoch.decode(epoch).number == block.header.epoch:
        return None
    return EpochEnd(block.header.epoch, listed)
