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
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.consensus.interface import (
    Answer,
    Barred,
    BlockBuilt,
    BlockExecuted,
    BlockHeld,
    Build,
    CatchUp,
    CaughtUp,
    Drop,
    Effect,
    Event,
    Execute,
    Fetch,
    Finalize,
    Misbehaviour,
    Note,
    Persist,
    Send,
    Tick,
    WorkPending,
)
from gridtokenx.consensus.messages import Certificate, Message, Wake, decode_message, encode_message
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.operations import Evidence
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.transaction import Transaction, TransactionError, encode_payload, sign_transaction
from gridtokenx.node.again import Again
from gridtokenx.node.bodies import ANSWER_BYTES, Bodies
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.epochs import epoch_of, epoch_start
from gridtokenx.node.evidence import EvidenceBox, encode_evidence, evidence_of
from gridtokenx.node.fates import Fate
from gridtokenx.node.intake import Intake
from gridtokenx.node.pending import Pending
from gridtokenx.node.pool import Pool
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

INLINE_TRANSACTIONS = 128
MAX_WAKE_IDS = 256
EVIDENCE_BLOCKS = 1_000          # how long a submission of evidence is valid


class Channel(IntEnum):
    """The two streams between authorities."""

    VOTES = 0
    BODIES = 1


@frozen
class Outgoing:
    """One frame for the node with key `to`, or for all other authorities when None."""

    channel: Channel
    frame: bytes
    to: bytes | None = None


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
    catch_up: tuple[bytes, ...] | None = None     # sync is wanted; who should have it
    epoch_began: bool = False                     # another list of authorities may be in force
    barred: Barred | None = None                  # to be kept durably before anything leaves
    refused: list[bytes] = field(factory=list)    # transactions that the pool gave up


class Replica:
    """An authority's replica, or an observer's: whoever is in the list of the present epoch takes part."""

    def __init__(self, chain: Chain, pool: Pool, consensus: Consensus, account: PrivateKey | None = None,
                 evidence: Iterable[Evidence] = ()) -> None:
        """`account` pays for the evidence that is submitted; `evidence` is what the log remembers."""
        self.chain = chain
        self.pool = pool
        self.consensus = consensus
        self._turn = Turn()
        self._now_ms = 0
        self._clock_ms = 0
        self._events: deque[Event | tuple[bytes, Message]] = deque()
        self._stepping = False
        self._intake = Intake(chain.chain_id)
        self._again = Again(pool)
        self._pending = Pending(chain, pool, self._intake, self._gave_up)
        self._bodies = Bodies(chain, pool, self._intake, self._send_body, self._held, self._body_refused)
        self._orphans: dict[bytes, list[bytes]] = {}
        self._jobs: deque[Job] = deque()
        self._busy = False
        self._work: tuple[bytes, bool] | None = None
        self._looked: tuple[bytes, int] | None = None
        self._epoch_head = chain.head
        self._account = account
        self.evidence = EvidenceBox()
        for kept in evidence:
            self.evidence.keep(kept, 0, 0)

    @property
    def core(self) -> Core | None:
        """Consensus in the present epoch; None while this node only follows."""
        return self.consensus.core

    # ------------------------------------------------------------ the shell's side

    def take_turn(self) -> Turn:
        turn, self._turn = self._turn, Turn()
        return turn

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which `tick` is wanted next."""
        times = (self._bodies.deadline_ms, self.consensus.deadline_ms, self._again.deadline_ms,
                 None if self._account is None else self.evidence.deadline_ms)
        return min((time for time in times if time is not None), default=None)

    def at(self, now_ms: int, clock_ms: int) -> None:
        """Sets the time for the calls that follow: monotonic, and Unix wall clock."""
        self._now_ms, self._clock_ms = now_ms, clock_ms

    def tick(self) -> None:
        self._bodies.ask_again(self._now_ms)
        if self.consensus.deadline_ms is not None and self.consensus.deadline_ms <= self._now_ms:
            self._step(Tick())
        if self._account is not None:
            self._submit_evidence(self._account)
        self._spread(self._again.due(self._now_ms))

    def receive(self, sender: bytes, channel: Channel, frame: bytes) -> None:
        """A frame of the authority with this key, of this epoch or the last one.

        Raises GridTokenXError if it is malformed: the shell scores the sender.
        """
        if channel is Channel.VOTES:
            message = decode_message(frame)
            if isinstance(message, Wake) and self.core is not None:
                self._fetch_woken(sender, message)
            self._step((sender, message))
            return
        self._receive_body(sender, decode_frame(frame))

    def submit(self, raws: Iterable[bytes]) -> list[tuple[bytes, int, str]]:
        """A client's transactions: (id, code, message) for each, code 0 when it is in the pool now.

        Accepted ones go to all authorities at once; an observer tells them again while they are pending.
        """
        answers, accepted = self._pending.judge(list(raws))
        self._spread(accepted)
        if self.core is None:
            self._again.told((transaction_id for transaction_id, code, _ in answers if code == 0), self._now_ms)
        self._report_work()
        return answers

    def refuse_at_once(self, raws: Sequence[bytes]) -> list[tuple[bytes, int, str]] | None:
        """The answers to a client's transactions if all of them find the pool full as it is now; else None.

        Reads only, so that it need not wait for a turn.
        """
        return self._pending.all_full(raws)

    def limit_pending(self, most: int) -> None:
        """Clients find the pool full from so many transactions on."""
        self._pending.most_for_clients = most

    def _gave_up(self, transaction_id: bytes) -> None:
        self._turn.refused.append(transaction_id)

    def fate_of(self, transaction_id: bytes) -> Fate | None:
        """Why a transaction that was accepted here is not pending any more, if it is not in a block."""
        return self._pending.fates.get(transaction_id)

    def gossiped(self, raws: Iterable[bytes]) -> None:
        """Transactions that other nodes accepted: set aside until `verify_some`, or a block that needs them."""
        self._intake.set_aside(raws, self.pool.__contains__, self._bodies.wants)
        self._bodies.arrived()

    @property
    def backlog(self) -> bool:
        """Whether `verify_some` has anything to do."""
        return self._intake.backlog > 0

    def verify_some(self, most: int) -> None:
        """Verifies the oldest set-aside transactions and takes into the pool those that a block could hold."""
        if not self._intake.backlog:
            return
        for reason in self._pending.take_some(most):
            self._turn.notes.append(Note("transaction_dropped", 0, reason))
        self._report_work()

    def job_done(self, job: Job) -> None:
        self._busy = False
        job.finish()
        self._pump()
        self._report_work()

    def execute_final(self, synced: Sequence[SyncedBlock]) -> list[ChainBlock]:
        """Executes and finalizes blocks that sync has proven final (on a worker thread, nothing else running).

        Raises TransactionError for a body that does not fit its header: the peer's fault. Raises InvariantError
        for one that fits but does not execute here: the node must stop.
        """
        done: list[ChainBlock] = []
        for entry in synced:
            block_digest = digest(Domain.HEADER, entry.header_raw)
            known = self.chain.block(block_digest)
            if known is None:
                transactions: list[Transaction] = []
                for checked in self._intake.check(entry.raws):
                    if isinstance(checked, GridTokenXError):
                        raise checked
                    transactions.append(checked)
                if not self.chain.matches_root(entry.header, transactions):
                    raise TransactionError(f"height {entry.header.height}: the body does not match the transactions "
                                           "root")
                known = self.chain.add(block_digest, entry.header, tuple(transactions))
            self.chain.execute(known)
            if known.failure:
                raise InvariantError(f"block {known.header.height} ({known.digest.hex()}) is final but does not "
                                     f"execute here: {known.failure}")
            done.append(self.chain.finalize(known.digest, entry.certificate))
        return done

    def synced(self, blocks: list[ChainBlock], certificate: Certificate) -> None:
        """Blocks that sync verified and the chain executed; the core jumps to the last."""
        for block in blocks:
            if self.core is not None:
                self._log_block(block)      # what follows on it is voted for: a restart must find it
            self._became_final(block)
            self._revive_children(block)
        if blocks and certificate.digest == blocks[-1].digest:
            self._step(CaughtUp(blocks[-1].header, certificate, blocks[-1].unfinished))
        self._begin_epoch_if_due()

    # ------------------------------------------------------------ events and effects

    def _step(self, event: Event | tuple[bytes, Message]) -> None:
        """An event, or a message and the key of its sender."""
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                following, keys = self._events.popleft(), self.consensus.keys
                if isinstance(following, tuple):
                    effects = self.consensus.receive(*following, self._now_ms, self._clock_ms)
                else:
                    effects = self.consensus.step(following, self._now_ms, self._clock_ms)
                self._carry_out(effects, keys)
                self._begin_epoch_if_due()
        finally:
            self._stepping = False
        self._pump()
        self._report_work()

    def _carry_out(self, effects: list[Effect], keys: tuple[bytes, ...]) -> None:
        """`keys` is the list that the effects' indexes are places in."""
        for effect in effects:
            match effect:
                case Send():
                    self._turn.sends.append(Outgoing(Channel.VOTES, encode_message(effect.message),
                                                     None if effect.to is None else keys[effect.to]))
                case Answer():
                    self._turn.sends.append(Outgoing(Channel.VOTES, encode_message(effect.message), effect.to))
                case Persist():
                    self._turn.log.append((LogKind.MESSAGE, encode_message(effect.record)))
                    self._turn.must_sync |= not isinstance(effect.record, Certificate)
                case Execute():
                    self._bodies.gather(effect.digest, effect.header, effect.transaction_ids, keys[effect.source],
                                        self._now_ms)
                case Fetch():
                    self._bodies.fetch(effect.digest, effect.view, tuple(keys[holder] for holder in effect.holders))
                case Build():
                    self._build(effect)
                case Finalize():
                    self._finalize(effect)
                case Drop():
                    self._drop(effect)
                case CatchUp():
                    self._turn.catch_up = tuple(keys[holder] for holder in effect.holders)
                case Barred():
                    self._turn.barred = effect
                case Misbehaviour():
                    self._turn.misbehaviour.append(effect)
                    self._keep_evidence(evidence_of(effect, keys[effect.signer]))
                case Note():
                    self._turn.notes.append(effect)

    def _keep_evidence(self, evidence: Evidence) -> None:
        keys, me = self.consensus.keys, self.consensus.me
        if self.evidence.keep(evidence, self._now_ms, keys.index(me) if me in keys else len(keys)):
            self._turn.log.append((LogKind.EVIDENCE, encode_evidence(evidence)))

    def _submit_evidence(self, account: PrivateKey) -> None:
        state, height = self.chain.state, self.chain.head.header.height
        for evidence in self.evidence.due(self._now_ms, state):
            payload = encode_payload(
                account.public, self.chain.nonce_at_head(account.public), height + EVIDENCE_BLOCKS,
                read_parameters(state).min_fee_uthb, [evidence.fields()])
            ((_, code, message),) = self.submit([sign_transaction(self.chain.chain_id, [account], payload)])
            self.evidence.answered(evidence, code)
            self._turn.notes.append(Note("evidence_submitted", evidence.view, f"{evidence.key.hex()}: {message}"))

    def _begin_epoch_if_due(self) -> None:
        """The boundary block became final, here or by sync: the state after it has the next list."""
        head = self.chain.head
        if head is self._epoch_head:
            return
        self._epoch_head = head
        if epoch_of(self.chain.state).number == self.consensus.epoch:
            return
        start = epoch_start(self.chain, self.chain.database, self.chain.head.certificate)
        self._bodies.forget_all()
        self._orphans.clear()
        self.chain.drop_unfinal()
        self._work = self._looked = None
        self._turn.epoch_began = True
        self._turn.notes.append(Note("epoch_began", start.root.view, f"epoch {start.config.epoch}, "
                                     f"{len(start.config.authorities)} authorities"))
        joins = self.core is None and self.consensus.me in start.config.authorities
        if joins:
            self._log_finals()
        if self.consensus.me in start.config.authorities:
            self._again.clear()
        self._carry_out(self.consensus.begin(start, self._now_ms, self._clock_ms), start.config.authorities)

    def _log_finals(self) -> None:
        """From now on this node votes on top of them: a restart must find them in the log."""
        for block in self.chain.finals():
            self._log_block(block)
            if block.certificate is not None:
                self._turn.log.append((LogKind.MESSAGE, encode_message(block.certificate)))

    def _finalize(self, effect: Finalize) -> None:
        for position, block_digest in enumerate(effect.digests):
            last = position == len(effect.digests) - 1
            if self.chain.is_final(block_digest):
                if last:                # sync brought it in, proven by a descendant's certificate
                    self.chain.certify(block_digest, effect.certificate)
                continue
            block = self.chain.finalize(block_digest, effect.certificate if last else None)
            self._became_final(block)

    def _became_final(self, block: ChainBlock) -> None:
        self._bodies.settled(block.digest, block.header.view)
        for parent in [p for p, children in self._orphans.items()
                       if all(self.chain.block(child) is None for child in children)]:
            del self._orphans[parent]
        self._pending.final(block)
        self._turn.finals.append(block)

    def _drop(self, effect: Drop) -> None:
        self.chain.drop(effect.digests)
        for block_digest in effect.digests:
            self._bodies.forget(block_digest)
            self._orphans.pop(block_digest, None)

    # ------------------------------------------------------------ transactions

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

    def _receive_body(self, sender: bytes, frame: BodyFrame) -> None:
        match frame:
            case Transactions():
                self.gossiped(frame.raws)
            case GetTransactions():
                self._bodies.answer_transactions(frame.ids, sender)
            case GetBlock():
                self._bodies.answer_block(frame.digest, sender)
            case BlockFrame():
                self._bodies.block_arrived(frame)

    def _fetch_woken(self, sender: bytes, wake: Wake) -> None:
        unknown = tuple(i for i in wake.transaction_ids[:MAX_WAKE_IDS]
                        if i not in self.pool and i not in self._intake and self.chain.transaction(i) is None)
        if unknown:
            self._send_body(GetTransactions(unknown), sender)

    def _send_body(self, frame: BodyFrame, to: bytes) -> None:
        self._turn.sends.append(Outgoing(Channel.BODIES, encode_frame(frame), to))

    # ------------------------------------------------------------ blocks that are complete

    def _body_refused(self, block_digest: bytes, reason: str) -> None:
        """What the leader handed out cannot be the block's body: says nothing about the block itself."""
        self._step(BlockExecuted(block_digest, valid=False, reason=reason))

    def _held(self, block: ChainBlock) -> None:
        self._log_block(block)
        self._step(BlockHeld(block.digest, block.header, block.ids, block.body_bytes))
        self._execute_when_ready(block)

    def _log_block(self, block: ChainBlock) -> None:
        if not block.logged:
            block.logged = True
            self._turn.log.append(
                (LogKind.BLOCK, encode_block(block.header.encode(), [t.raw for t in block.transactions])))

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
        if not block.executed and not block.failure:
            return                          # dropped, with its parent, before its turn came
        if block.failure:
            self._step(BlockExecuted(block.digest, valid=False, reason=block.failure))
            return
        self._step(BlockExecuted(block.digest, valid=True, weight=block.weight, unfinished=block.unfinished))
        self._revive_children(block)

    def _revive_children(self, block: ChainBlock) -> None:
        """Executes what waited for `block`."""
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
        built: list[ChainBlock | None] = []

        def run() -> None:
            built.append(self.chain.build(effect, candidates))

        def finish() -> None:
            block = built[0]
            self._pending.built(candidates, block)
            if block is None:
                self._turn.notes.append(Note("build_skipped", effect.view, "nothing to extend, or it failed"))
                return
            self._log_block(block)
            self._step(BlockBuilt(effect.view, block.header, block.ids, block.body_bytes, block.weight,
                                  block.unfinished))
            self._revive_children(block)

        self._schedule(Job(run, finish, len(candidates)))

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
        looked = (tip.digest, self.pool.version)
        if looked == self._looked:
            return                          # looking again at every account of a full pool would delay votes
        self._looked = looked
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
