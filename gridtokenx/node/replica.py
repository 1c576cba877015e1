"""The node's logic without I/O: frames, submissions and time in; log records, frames and final blocks out.

`Replica` joins the consensus core, the chain of executed blocks and the pool. Every entry point appends to the
present `Turn`; the shell takes it (`take_turn`), writes and syncs the log records, and only then sends. The same
code runs over real sockets and over a simulated network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

from attrs import define, field, frozen

from gridtokenx.consensus.core import Core
from gridtokenx.consensus.interface import (
    BlockBuilt,
    BlockExecuted,
    BlockHeld,
    Build,
    CatchUp,
    CaughtUp,
    Drop,
    Event,
    Execute,
    Fetch,
    Finalize,
    MessageReceived,
    Misbehaviour,
    Note,
    Persist,
    Send,
    Tick,
    WorkPending,
)
from gridtokenx.consensus.messages import Certificate, Wake, decode_message, encode_message
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.transaction import Transaction, TransactionError, decode_transaction
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.pool import Pool, PoolRefused
from gridtokenx.node.records import (
    BlockFrame,
    BodyFrame,
    GetBlock,
    GetTransactions,
    LogKind,
    Transactions,
    decode_frame,
    encode_block,
    encode_frame,
)
from gridtokenx.node.sync import SyncedBlock

ASK_AGAIN_MS = 300
ANSWER_BYTES = 512 << 10
INLINE_TRANSACTIONS = 128
MAX_WAKE_IDS = 256
KNOWN_SIGNATURES = 100_000


class Channel(IntEnum):
    """The two streams between authorities."""

    VOTES = 0
    BODIES = 1


@frozen
class Outgoing:
    """One frame for the authority with index `to`, or for all others when None."""

    channel: Channel
    frame: bytes
    to: int | None = None


@frozen
class Job:
    """Work that takes long enough to leave the event loop: `run` there, then `Replica.job_done(job)`."""

    run: Callable[[], None]
    finish: Callable[[], None]
    transactions: int


@define
class Turn:
    """What one turn of the loop decided. `log` is durable before `sends` leave."""

    log: list[tuple[LogKind, bytes]] = field(factory=list)
    must_sync: bool = False
    sends: list[Outgoing] = field(factory=list)
    finals: list[ChainBlock] = field(factory=list)
    jobs: list[Job] = field(factory=list)
    notes: list[Note] = field(factory=list)
    misbehaviour: list[Misbehaviour] = field(factory=list)
    catch_up: CatchUp | None = None


@define
class _Wanted:
    """A block whose body is being gathered."""

    digest: bytes
    header: Header
    ids: tuple[bytes, ...]
    sources: tuple[int, ...]
    have: dict[bytes, Transaction]
    asked_ms: int = 0
    asked: int = 0

    @property
    def missing(self) -> tuple[bytes, ...]:
        return tuple(i for i in self.ids if i not in self.have)


class Replica:
    """An authority's replica (with `core`) or an observer's (without)."""

    def __init__(self, chain: Chain, pool: Pool, core: Core | None) -> None:
        self.chain = chain
        self.pool = pool
        self.core = core
        self._turn = Turn()
        self._now_ms = 0
        self._clock_ms = 0
        self._events: deque[Event] = deque()
        self._stepping = False
        self._wanted: dict[bytes, _Wanted] = {}
        self._fetching: dict[bytes, Fetch] = {}
        self._orphans: dict[bytes, list[bytes]] = {}
        self._jobs: deque[Job] = deque()
        self._busy = False
        self._work: tuple[bytes, bool] | None = None
        self._verified: dict[bytes, None] = {}
        self._quarantine: dict[bytes, str] = {}

    # ------------------------------------------------------------ the shell's side

    def take_turn(self) -> Turn:
        turn, self._turn = self._turn, Turn()
        return turn

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which `tick` is wanted next."""
        times = [wanted.asked_ms + ASK_AGAIN_MS for wanted in self._wanted.values()]
        if self.core is not None and self.core.deadline_ms is not None:
            times.append(self.core.deadline_ms)
        return min(times, default=None)

    def at(self, now_ms: int, clock_ms: int) -> None:
        """Sets the time for the calls that follow: monotonic, and Unix wall clock."""
        self._now_ms, self._clock_ms = now_ms, clock_ms

    def tick(self) -> None:
        for wanted in list(self._wanted.values()):
            if wanted.asked_ms + ASK_AGAIN_MS <= self._now_ms:
                self._ask(wanted)
        if self.core is not None and self.core.deadline_ms is not None and self.core.deadline_ms <= self._now_ms:
            self._step(Tick())

    def receive(self, sender: int, channel: Channel, frame: bytes) -> None:
        """A frame of an authority. Raises GridTokenXError if it is malformed: the shell scores the sender."""
        if channel is Channel.VOTES:
            if self.core is not None:
                message = decode_message(frame)
                if isinstance(message, Wake):
                    self._fetch_woken(sender, message)
                self._step(MessageReceived(sender, message))
            return
        self._receive_body(sender, decode_frame(frame))

    def submit(self, raws: Iterable[bytes]) -> list[tuple[bytes, int, str]]:
        """A client's transactions: (id, code, message) for each, code 0 when it is in the pool now.

        Accepted ones go to all authorities at once.
        """
        answers: list[tuple[bytes, int, str]] = []
        accepted: list[bytes] = []
        for raw in raws:
            transaction_id = digest(Domain.TRANSACTION, raw)
            try:
                transaction = decode_transaction(raw)
                self._verify(transaction)
                self.chain.admit(transaction)
                self.pool.add(transaction, self.chain.nonce_at_head(transaction.sender))
            except GridTokenXError as error:
                code, message = self.chain.refusal(error)
                answers.append((transaction_id, code, message))
            else:
                accepted.append(raw)
                answers.append((transaction_id, 0, "accepted"))
        self._spread(accepted)
        self._report_work()
        return answers

    def gossiped(self, raws: Iterable[bytes]) -> int:
        """Transactions that other nodes accepted; returns how many were useless or bad."""
        bad = sum(not self._take(raw) for raw in raws)
        self._report_work()
        return bad

    def job_done(self, job: Job) -> None:
        self._busy = False
        job.finish()
        self._pump()
        self._report_work()

    @property
    def busy(self) -> bool:
        """A job is on another thread: the chain must not be checkpointed onto a new base now."""
        return self._busy

    def execute_final(self, synced: Sequence[SyncedBlock]) -> list[ChainBlock]:
        """Executes and finalizes blocks that sync has proven final (on a worker thread, nothing else running).

        Raises TransactionError for a body that does not fit its header: the peer's fault. Raises InvariantError
        for one that fits but does not execute here: the node must stop.
        """
        done: list[ChainBlock] = []
        for entry in synced:
            known = self.chain.block(digest(Domain.HEADER, entry.header_raw))
            if known is None:
                header, transactions = self.chain.read_block(entry.header_raw, entry.raws)
                if not self.chain.matches_root(header, transactions):
                    raise TransactionError(f"height {header.height}: the body does not match the transactions root")
                for transaction in transactions:
                    self._verify(transaction)
                known = self.chain.add(digest(Domain.HEADER, entry.header_raw), header, transactions)
            self.chain.execute(known)
            if known.failure:
                raise InvariantError(f"block {known.header.height} ({known.digest.hex()}) is final but does not "
                                     f"execute here: {known.failure}")
            done.append(self.chain.finalize(known.digest, entry.certificate))
        return done

    def synced(self, blocks: list[ChainBlock], certificate: Certificate) -> None:
        """Blocks that sync verified and the chain executed; the core jumps to the last."""
        for block in blocks:
            self._became_final(block)
        if self.core is not None and blocks and certificate.digest == blocks[-1].digest:
            self._step(CaughtUp(blocks[-1].header, certificate, blocks[-1].unfinished))

    # ------------------------------------------------------------ events and effects

    def _step(self, event: Event) -> None:
        if self.core is None:
            return
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                for effect in self.core.step(self._events.popleft(), self._now_ms, self._clock_ms):
                    match effect:
                        case Send():
                            self._turn.sends.append(
                                Outgoing(Channel.VOTES, encode_message(effect.message), effect.to))
                        case Persist():
                            self._turn.log.append((LogKind.MESSAGE, encode_message(effect.record)))
                            self._turn.must_sync |= not isinstance(effect.record, Certificate)
                        case Execute():
                            self._gather(effect.digest, effect.header, effect.transaction_ids, (effect.source,))
                        case Fetch():
                            self._fetch(effect)
                        case Build():
                            self._build(effect)
                        case Finalize():
                            self._finalize(effect)
                        case Drop():
                            self._drop(effect)
                        case CatchUp():
                            self._turn.catch_up = effect
                        case Misbehaviour():
                            self._turn.misbehaviour.append(effect)
                        case Note():
                            self._turn.notes.append(effect)
        finally:
            self._stepping = False
        self._pump()
        self._report_work()

    def _finalize(self, effect: Finalize) -> None:
        for position, block_digest in enumerate(effect.digests):
            last = position == len(effect.digests) - 1
            if self.chain.is_final(block_digest):
                continue                # sync brought it in, proven by a descendant's certificate
            block = self.chain.finalize(block_digest, effect.certificate if last else None)
            self._became_final(block)

    def _became_final(self, block: ChainBlock) -> None:
        self._wanted.pop(block.digest, None)
        self._fetching.pop(block.digest, None)
        self.pool.remove(transaction.id for transaction in block.transactions)
        senders = {transaction.sender for transaction in block.transactions}
        self.pool.forget_stale(senders, self.chain.nonce_at_head, block.header.height)
        if block.header.height % 64 == 0:
            self.pool.expired(block.header.height)
        self._turn.finals.append(block)

    def _drop(self, effect: Drop) -> None:
        self.chain.drop(effect.digests)
        for block_digest in effect.digests:
            self._wanted.pop(block_digest, None)
            self._fetching.pop(block_digest, None)
            self._orphans.pop(block_digest, None)

    # ------------------------------------------------------------ transactions

    def _verify(self, transaction: Transaction) -> None:
        """Once per transaction and peer: good ones are remembered by the hash of their full bytes."""
        if transaction.id in self._verified:
            return
        if not transaction.signatures_verify(self.chain.chain_id):
            raise Refused(Code.BAD_SIGNATURE, "a signature does not verify for this chain")
        self._verified[transaction.id] = None
        if len(self._verified) > KNOWN_SIGNATURES:
            del self._verified[next(iter(self._verified))]

    def _spread(self, raws: list[bytes]) -> None:
        batch: list[bytes] = []
        size = 0
        for raw in raws:
            if batch and size + len(raw) > ANSWER_BYTES:
                self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(Transactions(tuple(batch)))))
                batch, size = [], 0
            batch.append(raw)
            size += len(raw)
        if batch:
            self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(Transactions(tuple(batch)))))

    def _take(self, raw: bytes) -> bool:
        """A transaction from another peer, for the pool or for a block that waits for it."""
        transaction_id = digest(Domain.TRANSACTION, raw)
        waiting = [wanted for wanted in self._wanted.values() if transaction_id in wanted.missing]
        if not waiting and transaction_id in self.pool:
            return True
        try:
            transaction = decode_transaction(raw)
            self._verify(transaction)
        except GridTokenXError as error:
            for wanted in waiting:
                self._invalid(wanted, f"transaction {transaction_id.hex()[:16]}: {error}")
            return False
        for wanted in waiting:
            wanted.have[transaction_id] = transaction
            if not wanted.missing:
                self._complete(wanted)
        try:
            self.pool.add(transaction, self.chain.nonce_at_head(transaction.sender))
        except PoolRefused:
            return bool(waiting)
        return True

    def _receive_body(self, sender: int, frame: BodyFrame) -> None:
        match frame:
            case Transactions():
                for raw in frame.raws:
                    self._take(raw)
                self._report_work()
            case GetTransactions():
                self._answer_transactions(sender, frame.ids)
            case GetBlock():
                block = self.chain.body(frame.digest)
                if block is not None:
                    header, raws = block
                    self._turn.sends.append(Outgoing(
                        Channel.BODIES, encode_frame(BlockFrame(header, tuple(raws))), sender))
            case BlockFrame():
                self._receive_block(frame)

    def _answer_transactions(self, sender: int, ids: tuple[bytes, ...]) -> None:
        found: list[bytes] = []
        size = 0
        for transaction_id in ids:
            transaction = self.pool.get(transaction_id) or self.chain.transaction(transaction_id)
            if transaction is not None:
                size += len(transaction.raw)
                if size > ANSWER_BYTES:
                    break
                found.append(transaction.raw)
        if found:
            self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(Transactions(tuple(found))), sender))

    def _fetch_woken(self, sender: int, wake: Wake) -> None:
        unknown = tuple(i for i in wake.transaction_ids[:MAX_WAKE_IDS]
                        if i not in self.pool and self.chain.transaction(i) is None)
        if unknown:
            self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(GetTransactions(unknown)), sender))

    # ------------------------------------------------------------ bodies

    def _gather(self, block_digest: bytes, header: Header, ids: tuple[bytes, ...], sources: tuple[int, ...]) -> None:
        if block_digest in self._wanted:
            return
        known = self.chain.block(block_digest)
        if known is not None:
            self._held(known)
            return
        have = {}
        for transaction_id in ids:
            transaction = self.pool.get(transaction_id) or self.chain.transaction(transaction_id)
            if transaction is not None:
                have[transaction_id] = transaction
        wanted = _Wanted(block_digest, header, ids, sources, have)
        self._wanted[block_digest] = wanted
        if wanted.missing:
            self._ask(wanted)
        else:
            self._complete(wanted)

    def _ask(self, wanted: _Wanted) -> None:
        wanted.asked_ms = self._now_ms
        source = wanted.sources[wanted.asked % len(wanted.sources)]
        wanted.asked += 1
        self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(GetTransactions(wanted.missing)), source))

    def _invalid(self, wanted: _Wanted, reason: str) -> None:
        if self._wanted.pop(wanted.digest, None) is not None:
            self._step(BlockExecuted(wanted.digest, valid=False, reason=reason))

    def _complete(self, wanted: _Wanted) -> None:
        self._wanted.pop(wanted.digest, None)
        transactions = tuple(wanted.have[transaction_id] for transaction_id in wanted.ids)
        self._held(self.chain.add(wanted.digest, wanted.header, transactions))

    def _fetch(self, effect: Fetch) -> None:
        known = self.chain.block(effect.digest)
        if known is not None:
            self._held(known)
            return
        self._fetching[effect.digest] = effect
        wanted = self._wanted.get(effect.digest)
        if wanted is not None:
            wanted.sources = tuple(dict.fromkeys((*wanted.sources, *effect.holders)))
        for holder in effect.holders[:2]:
            self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(GetBlock(effect.digest)), holder))

    def _receive_block(self, frame: BlockFrame) -> None:
        block_digest = digest(Domain.HEADER, frame.header)
        if block_digest not in self._fetching:
            return
        header, transactions = self.chain.read_block(frame.header, list(frame.raws))
        if not self.chain.matches_root(header, transactions):
            raise TransactionError("the body does not match the header's transactions root")
        for transaction in transactions:
            self._verify(transaction)
        self._fetching.pop(block_digest)
        self._wanted.pop(block_digest, None)
        self._held(self.chain.add(block_digest, header, transactions))

    def _held(self, block: ChainBlock) -> None:
        if not block.logged:
            block.logged = True
            self._turn.log.append(
                (LogKind.BLOCK, encode_block(block.header.encode(), [t.raw for t in block.transactions])))
        self._step(BlockHeld(block.digest, block.header, block.ids, block.body_bytes))
        self._execute_when_ready(block)

    # ------------------------------------------------------------ execution

    def _execute_when_ready(self, block: ChainBlock) -> None:
        if block.executed:
            self._executed(block)
        elif block.failure:
            self._step(BlockExecuted(block.digest, valid=False, reason=block.failure))
        elif self.chain.can_execute(block):
            self._schedule(Job(lambda: self.chain.execute(block), lambda: self._executed(block),
                               len(block.transactions)))
        else:
            self._orphans.setdefault(block.header.parent, []).append(block.digest)

    def _executed(self, block: ChainBlock) -> None:
        if block.failure:
            self._step(BlockExecuted(block.digest, valid=False, reason=block.failure))
            return
        self._step(BlockExecuted(block.digest, valid=True, weight=block.weight, unfinished=block.unfinished))
        for child in self._orphans.pop(block.digest, []):
            waiting = self.chain.block(child)
            if waiting is not None and not waiting.executed:
                self._execute_when_ready(waiting)

    def _build(self, effect: Build) -> None:
        parent = self.chain.block(effect.parent)
        if parent is None or not parent.executed:
            self._turn.notes.append(Note("build_skipped", effect.view, "the parent is not executed here"))
            return
        candidates: list[Transaction] = []
        if not effect.empty:
            candidates = self.pool.ready(self.chain.nonces_at(parent), self.chain.rules.max_block_transactions,
                                         self.chain.rules.max_block_bytes)
        built: list[ChainBlock] = []

        def run() -> None:
            built.append(self.chain.build(effect, candidates))

        def finish() -> None:
            block = built[0]
            for transaction_id, reason in self.chain.take_refused():
                self._refuse(transaction_id, reason)
            if not block.logged:
                block.logged = True
                self._turn.log.append(
                    (LogKind.BLOCK, encode_block(block.header.encode(), [t.raw for t in block.transactions])))
            self._step(BlockBuilt(effect.view, block.header, block.ids, block.body_bytes, block.weight,
                                  block.unfinished))
            for child in self._orphans.pop(block.digest, []):
                waiting = self.chain.block(child)
                if waiting is not None:
                    self._execute_when_ready(waiting)

        self._schedule(Job(run, finish, len(candidates)))

    def _refuse(self, transaction_id: bytes, reason: str) -> None:
        """Left out while building for a reason that will not pass: out of the pool, the reason kept a while."""
        self.pool.remove([transaction_id])
        self._quarantine[transaction_id] = reason
        if len(self._quarantine) > 10_000:
            del self._quarantine[next(iter(self._quarantine))]

    def refusal_of(self, transaction_id: bytes) -> str | None:
        """Why a transaction that was accepted was later left out for good, if it was."""
        return self._quarantine.get(transaction_id)

    def _schedule(self, job: Job) -> None:
        self._jobs.append(job)
        self._pump()

    def _pump(self) -> None:
        while self._jobs and not self._busy and not self._stepping:
            job = self._jobs.popleft()
            if job.transactions > INLINE_TRANSACTIONS:
                self._busy = True
                self._turn.jobs.append(job)
            else:
                job.run()
                job.finish()

    def _report_work(self) -> None:
        """Tells the core when the pool begins or ceases to hold something for a child of the present tip."""
        if self.core is None or self._stepping or self._busy:
            return
        tip_digest = self.core.tip
        tip = None if tip_digest is None else self.chain.block(tip_digest)
        if tip is None or not tip.executed:
            return
        first = self.pool.first_ready(self.chain.nonces_at(tip)) if len(self.pool) else None
        work = (tip.digest, first is not None)
        if work == self._work:
            return
        self._work = work
        if first is None:
            self._step(WorkPending(0))
        else:
            weight = min(len(self.pool), self.chain.rules.max_block_transactions) * self.chain.rules.weight_guess
            self._step(WorkPending(weight, (first.id,)))
