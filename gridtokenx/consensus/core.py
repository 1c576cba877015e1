"""Simplex as a pure state machine (CONSENSUS 5): `Core.step(event, now_ms, clock_ms) -> effects`.

No I/O, no clock, no randomness: the same events at the same times give the same effects. One handler per event
and one method per numbered rule; rules that depend on time are run after every event, and note in passing when
they want to be run again (`deadline_ms`).

Order of effects (CONSENSUS 6): a vote, proposal or certificate is `Persist`ed before the `Send` that carries it,
a notarization before the FINALIZE that relies on it. Bodies are in the log before the core is told of them.

If a node crashes, its log gives the next core its own votes, blocks and certificates (`Recovered`): it enters
the view that they admit and never votes twice in a view and kind.
"""

from __future__ import annotations

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.clocks import Clocks
from gridtokenx.consensus.config import ConsensusConfig, Recovered, Root, Signer, Verifier
from gridtokenx.consensus.interface import (
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
    MessageReceived,
    Note,
    Persist,
    Send,
    Tick,
    WorkPending,
)
from gridtokenx.consensus.messages import (
    MAX_WAKE_HASHES,
    Certificate,
    GetCertificates,
    Kind,
    Message,
    Propose,
    Status,
    Vote,
    Wake,
    vote_content,
)
from gridtokenx.consensus.pace import Delta, Speed, transfer_ms
from gridtokenx.consensus.peers import BEHIND_HEIGHTS, Peers
from gridtokenx.consensus.requests import (
    ASK_AGAIN_MS,
    CATCH_UP_AFTER_MS,
    CATCH_UP_AGAIN_MS,
    EXECUTION_STALLED_MS,
    Requests,
)
from gridtokenx.consensus.statistics import AuthorityStatistics, Statistics
from gridtokenx.consensus.tree import Block, BlockTree
from gridtokenx.consensus.votes import Proposal, ViewRecord, VoteError, Votes
from gridtokenx.consensus.work import Work
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.block import decode_header

VIEWS_AHEAD = 100                 # votes further ahead are dropped; also the most certificates per answer
STATUS_EVERY_MS = 1_000
RETRY_EVERY_MS = 500
STAMP_TOLERANCE_MS = 500
MAX_UNFINALIZED = 64
MAX_FINALIZE_OFFERS = 32
ANSWER_SPACING_MS = 50
FRESH_AFTER_SILENCE_MS = 5_000
_FAR = 1 << 60
_SETTLE_BOUND = 256


class ProposalRefused(GridTokenXError):
    """A proposal that can never be voted for."""


class Core:
    """One authority's consensus in one epoch."""

    def __init__(self, config: ConsensusConfig, me: int, signer: Signer, verifier: Verifier, root: Root,
                 recovered: Recovered, now_ms: int, clock_ms: int, *, may_sign: bool = True) -> None:
        """`may_sign` false: follow the chain, sign nothing (a lost or restored log, CONSENSUS 6)."""
        self._config = config
        self._me = me
        self._signer = signer
        self._may_sign = may_sign
        self._now = now_ms
        self._clock = clock_ms
        self.authorities = Authorities.of_epoch(config.authorities, config.epoch_root)
        self._votes = Votes(self.authorities, config.epoch, verifier)
        self._tree = BlockTree(root, self._when(root.timestamp_ms))
        self._clocks = Clocks(self.authorities.quorum)
        self._delta = Delta(config.delta_ms, self.authorities.n)
        self._speed = Speed(config.max_block_weight)
        self._peers = Peers(self.authorities.n, me, self.authorities.quorum, now_ms)
        self._work = Work(self.authorities.n)
        self._requests = Requests()
        self._root_certificate = root.certificate
        self._final = root.certificate                    # of the highest view; may be ahead of the root

        self._view = root.view + 1
        self._admitted_by = root.certificate
        self._entered_ms = now_ms
        self._armed_ms: int | None = None
        self._woke = False
        self._building: tuple[int, int] | None = None     # (view, since ms)
        self._own_proposal: Propose | None = None
        self._tip_known: tuple[Block | None, int | None] | None = None
        self._finalized_ms = now_ms
        self._status_ms = now_ms
        self._retry_ms = now_ms + RETRY_EVERY_MS
        self._effects: list[Effect] = []
        self._next = now_ms
        self._revive: list[Block] = []                    # recovered blocks to be executed again
        self._recovering = True
        self._recover(recovered)

    # ------------------------------------------------------------ the interface

    def step(self, event: Event, now_ms: int, clock_ms: int) -> list[Effect]:
        """Handles one event. `now_ms` is monotonic, `clock_ms` the wall clock in Unix ms.

        Raises InvariantError when the safety of the chain is gone: two certificates where one can be, or a
        final block that is invalid here.
        """
        self._now = max(self._now, now_ms)
        self._clock = clock_ms
        effects: list[Effect] = []
        self._effects = effects
        if self._recovering:
            self._recovering = False
            self._want_recovered()
        match event:
            case MessageReceived(sender, message):
                self._on_message(sender, message)
            case BlockHeld():
                self._on_block_held(event)
            case BlockExecuted():
                self._on_block_executed(event)
            case BlockBuilt():
                self._on_block_built(event)
            case WorkPending(weight, transaction_ids):
                self._work.pending(weight, transaction_ids, self._now)
            case CaughtUp():
                self._on_caught_up(event)
            case Tick():
                pass
        if self._revive:
            self._execute_recovered()
        self._settle()
        return effects

    @property
    def deadline_ms(self) -> int | None:
        """The monotonic time at which the core wants a Tick."""
        return self._next

    @property
    def view(self) -> int:
        return self._view

    @property
    def tip(self) -> bytes | None:
        """The block that the present view would extend; None while a certificate or body is missing."""
        block = self._tip()[0]
        return None if block is None else block.digest

    @property
    def finalized(self) -> tuple[int, bytes]:
        """Height and digest of the last block that was final, held and executed."""
        return self._tree.root.height, self._tree.root.digest

    def statistics(self) -> Statistics:
        root = self._tree.root
        tip = self._tip()[0] or root
        record = self._votes.seen(self._view)
        return Statistics(
            epoch=self._config.epoch, view=self._view, leader=self.authorities.leader(self._view),
            given_up=record is not None and record.voted(Kind.NULLIFY, self._me),
            armed=self._armed_ms is not None, delta_ms=self._delta.ms,
            clock_correction_ms=self._clocks.correction_ms(self._now), finalized_height=root.height,
            finalized_view=root.view, finalized_digest=root.digest, tip_height=tip.height,
            unfinalized=tip.height - root.height, catching_up=self._behind(),
            authorities=tuple(self._authority_statistics(index) for index in range(self.authorities.n)))

    def _authority_statistics(self, index: int) -> AuthorityStatistics:
        peer = self._peers[index]
        own = index == self._me
        status = peer.status
        return AuthorityStatistics(
            index=index, silent=not own and self._peers.silent(index, self._now),
            heard_ms_ago=0 if own else self._now - peer.heard_ms, late_views=peer.late_views,
            clock_offset_ms=0 if own else self._clocks.offset_of(index),
            view=self._view if own else None if status is None else status.view,
            finalized_height=self._tree.root.height if own else None if status is None else status.finalized_height)

    # ------------------------------------------------------------ events

    def _on_message(self, sender: int, message: Message) -> None:
        if not 0 <= sender < self.authorities.n or sender == self._me:
            return
        self._peers[sender].heard_ms = self._now
        if not isinstance(message, Wake) and message.epoch != self._config.epoch:
            # The place of epochs: votes for the next are buffered, a STATUS of the last is answered with the
            # certificate of its boundary block. With one epoch there is neither.
            self._note("other epoch", self._view, f"{type(message).__name__} of {sender}: epoch {message.epoch}")
            return
        try:
            match message:
                case Vote():
                    self._on_vote(sender, message)
                case Certificate():
                    self._on_certificate(message)
                case Propose():
                    self._on_propose(sender, message)
                case Status():
                    self._on_status(sender, message)
                case GetCertificates():
                    self._on_get_certificates(sender, message)
                case Wake():
                    self._work.woken(sender, self._now)
        except VoteError as error:
            self._note("dropped", self._view, f"from {sender}: {error}")

    def _countable(self, view: int) -> bool:
        """Views at or below the root are settled, those more than 100 ahead are not counted."""
        return self._tree.root.view < view <= self._view + VIEWS_AHEAD

    def _on_vote(self, sender: int, vote: Vote) -> None:
        if vote.signer != sender:
            raise VoteError(f"a vote of authority {vote.signer}; votes come from their signer")
        if self._countable(vote.view):
            self._take(vote)
            self._count(vote)

    def _on_propose(self, sender: int, propose: Propose) -> None:
        """The first proposal of the view's leader is the one judged; it is the leader's NOTARIZE too."""
        if not self._countable(propose.view):
            return
        if propose.signer != sender or self.authorities.leader(propose.view) != sender:
            raise VoteError(f"a proposal for view {propose.view}, which authority "
                            f"{self.authorities.leader(propose.view)} leads")
        name = digest(Domain.HEADER, propose.header)
        vote = Vote(Kind.NOTARIZE, propose.epoch, propose.view, name, sender, propose.signature)
        self._take(vote)
        record = self._votes.at(propose.view)
        if record.proposal is None:
            try:
                header = decode_header(propose.header)
            except GridTokenXError as error:
                self._note("dropped", propose.view, f"header from {sender}: {error}")
                header = None
            record.proposal = Proposal(name, header, propose.transaction_ids, self._clock)
            if header is not None:
                self._tree.add(name, header, propose.transaction_ids)
        self._count(vote)

    def _on_certificate(self, certificate: Certificate) -> None:
        if certificate.view <= self._tree.root.view:
            return
        record = self._votes.seen(certificate.view)
        known = None if record is None else record.certificates.get(certificate.kind)
        if known is not None and known.digest == certificate.digest:
            return
        self._effects.extend(self._votes.check(certificate))
        self._learn(certificate)

    def _on_status(self, sender: int, status: Status) -> None:
        peer = self._peers[sender]
        fresh = (self._clocks.offset_of(sender) is None or peer.status is None
                 or self._now - peer.status_ms > FRESH_AFTER_SILENCE_MS)
        peer.status_ms = self._now
        self._peers.status(sender, status, self._tree.root.height)
        self._clocks.heard(sender, status.clock_ms, self._clock, self._now)
        if fresh:
            self._send(self._status(), sender)            # so that it has our clock without waiting a second
        # What a peer lacks for longer than a message travels, it missed.
        if self._final is not None and status.finalized_height < self._tree.root.height and (
                self._now - self._finalized_ms >= RETRY_EVERY_MS
                or self._tree.root.height - status.finalized_height > BEHIND_HEIGHTS):
            self._send(self._final, sender)
        elif (status.view < self._view and self._admitted_by is not None
                and (self._now - self._entered_ms >= RETRY_EVERY_MS or self._view - status.view > BEHIND_HEIGHTS)):
            self._send(self._admitted_by, sender)

    def _on_get_certificates(self, sender: int, request: GetCertificates) -> None:
        """At most 100 certificates, and not more often than every 50 ms per asker."""
        peer = self._peers[sender]
        if self._now - peer.answered_ms < ANSWER_SPACING_MS:
            return
        peer.answered_ms = self._now
        answers: list[Certificate] = []
        if self._root_certificate is not None and request.first <= self._tree.root.view:
            answers.append(self._root_certificate)
        first = max(request.first, self._tree.root.view + 1)
        for view in range(first, min(request.last, first + VIEWS_AHEAD - 1) + 1):
            record = self._votes.seen(view)
            if record is not None:
                answers.extend(certificate for certificate in (record.notarization, record.nullification)
                               if certificate is not None)
        for certificate in answers[:VIEWS_AHEAD]:
            self._send(certificate, sender)

    def _on_block_held(self, held: BlockHeld) -> None:
        header = held.header
        self._requests.wanted.pop(held.digest, None)
        root = self._tree.root
        if held.digest != root.digest and (header.height <= root.height or header.view <= root.view):
            self._emit(Drop((held.digest,)))
            return
        block = self._tree.add(held.digest, header, held.transaction_ids)
        if block.held:
            return
        block.held, block.handed_out = True, True
        block.transaction_ids, block.body_bytes = held.transaction_ids, held.body_bytes
        block.started_ms = self._now
        self._tip_known = None
        if self._notarized(block):
            self._rules_1_and_4(block)
            self._want_parent(block)
        elif block is not root and (parent := self._tree.get(header.parent)) is not None and not parent.held:
            self._want_parent(block)
        self._rule_6_finalize()

    def _on_block_executed(self, executed: BlockExecuted) -> None:
        block = self._tree.get(executed.digest)
        if block is None or block is self._tree.root or block.executed is not None:
            return
        if not block.held and not executed.valid:
            record = self._votes.seen(block.view)
            if record is not None and record.proposal is not None and record.proposal.digest == block.digest:
                record.proposal.refused = executed.reason or "its body is not the header's"
            return
        block.executed, block.weight, block.unfinished = executed.valid, executed.weight, executed.unfinished
        if executed.valid:
            self._speed.measured(block.weight, len(block.transaction_ids), self._now - block.started_ms)
        else:
            self._note("invalid", block.view, f"{block.digest.hex()}: {executed.reason}")
        for child in self._tree.children(block):
            child.started_ms = self._now
        if (record := self._votes.seen(block.view)) is not None:
            self._rule_4_vote_finalize(record)
        self._rule_6_finalize()

    def _on_block_built(self, built: BlockBuilt) -> None:
        """Rule 2, second half: the block exists and is in the log; offer it unless the view has passed."""
        record = self._votes.at(built.view) if built.view > self._tree.root.view else None
        name = built.header.hash
        if (record is None or self._building is None or built.view != self._building[0] or built.view != self._view
                or record.voted(Kind.NULLIFY, self._me) or record.voted(Kind.NOTARIZE, self._me)):
            self._emit(Drop((name,)))
            return
        self._speed.measured(built.weight, len(built.transaction_ids), self._now - self._building[1])
        block = self._tree.add(name, built.header, built.transaction_ids)
        block.held, block.executed, block.handed_out = True, True, True
        block.weight, block.unfinished, block.body_bytes = built.weight, built.unfinished, built.body_bytes
        signature = self._signer.sign(vote_content(Kind.NOTARIZE, self._config.epoch, built.view, name))
        propose = Propose(self._config.epoch, built.view, built.header.encode(), built.transaction_ids, self._me,
                          signature)
        record.proposal = Proposal(name, built.header, built.transaction_ids, self._clock, requested=True)
        self._own_proposal = propose
        self._emit(Persist(propose))
        self._send(propose)
        vote = Vote(Kind.NOTARIZE, self._config.epoch, built.view, name, self._me, signature)
        self._votes.add_own(vote)
        self._count(vote)

    def _on_caught_up(self, event: CaughtUp) -> None:
        """Jump to a finalized block that sync brought; what cannot descend from it is dropped."""
        header, certificate = event.header, event.certificate
        name = header.hash
        if header.height <= self._tree.root.height or certificate.view <= self._tree.root.view:
            return
        if certificate.kind is not Kind.FINALIZE or certificate.digest != name:
            self._note("dropped", certificate.view, "sync came back with a certificate that is not the block's")
            return
        record = self._votes.seen(certificate.view)
        if record is None or record.finalization is None:
            try:
                self._effects.extend(self._votes.check(certificate))
            except VoteError as error:
                self._note("dropped", certificate.view, f"from sync: {error}")
                return
        self._emit(Persist(certificate))
        gained = header.height - self._tree.root.height
        root = Root(name, header.height, certificate.view, header.timestamp_ms, certificate, event.unfinished)
        self._tree.jump(root, self._when(header.timestamp_ms))
        self._note("caught up", certificate.view, f"height {header.height}")
        self._rooted(certificate, gained)
        if certificate.view >= self._view:
            self._enter(certificate.view + 1, certificate)
        self._rule_6_finalize()

    # ------------------------------------------------------------ votes and certificates

    def _take(self, vote: Vote) -> None:
        """Counts a vote of another authority; evidence of a double vote goes to the driver."""
        evidence = self._votes.add(vote)
        if evidence is not None:
            self._emit(evidence)

    def _cast(self, kind: Kind, view: int, name: bytes = b"") -> None:
        """Signs, logs, sends and counts an own vote, in this order."""
        if not self._may_sign:
            return
        epoch = self._config.epoch
        vote = Vote(kind, epoch, view, name, self._me, self._signer.sign(vote_content(kind, epoch, view, name)))
        self._emit(Persist(vote))
        self._send(vote)
        self._votes.add_own(vote)
        self._count(vote)

    def _count(self, vote: Vote) -> None:
        """Rules 4, 5, 6: q votes of a kind make a certificate."""
        certificate = self._votes.quorum(vote.kind, vote.view, vote.digest)
        if certificate is not None:
            self._learn(certificate)

    def _learn(self, certificate: Certificate) -> None:
        """A certificate formed or first learnt: log it, relay it once, draw the consequences."""
        view = certificate.view
        record = self._votes.at(view)
        record.certificates[certificate.kind] = certificate
        self._tip_known = None
        self._emit(Persist(certificate))
        self._send(certificate)
        self._note(certificate.kind.name.lower() + " certificate", view)
        if certificate.kind is Kind.NULLIFY:
            if view >= self._view:
                self._enter(view + 1, certificate)                       # rules 5 and 1
            return
        if certificate.kind is Kind.FINALIZE:
            if self._final is None or view > self._final.view:
                self._final = certificate
            if view >= self._view:
                self._enter(view + 1, certificate)                       # rule 1
        block = self._tree.get(certificate.digest)
        if block is None or not block.held:
            self._want(certificate.digest, view, certificate.signers)
        else:
            self._rules_1_and_4(block)
            self._want_parent(block)
        self._rule_6_finalize()

    def _notarized(self, block: Block) -> bool:
        """A finalization implies a notarization."""
        record = self._votes.seen(block.view)
        return block is self._tree.root or (record is not None and any(
            certificate is not None and certificate.digest == block.digest
            for certificate in (record.notarization, record.finalization)))

    # ------------------------------------------------------------ the rules

    def _settle(self) -> None:
        """Runs the rules that depend on the present view until nothing moves, and finds the next deadline."""
        for _ in range(_SETTLE_BOUND):
            before = (self._view, self._tree.root.digest)
            self._next = _FAR
            self._rule_9_silent_leader()
            self._rule_3_notarize()
            self._rule_2_propose()
            self._rule_7_timers()
            if before == (self._view, self._tree.root.digest):
                break
        self._rule_8_retry()
        self._rule_10_status()
        self._ask_for_blocks()
        self._catch_up()
        self._next = max(self._next, self._now + 1)

    def _enter(self, view: int, admitted_by: Certificate) -> None:
        """Rule 1. Timers start anew; nothing is armed until there is a reason (rules 7, 10)."""
        self._view = view
        self._admitted_by = admitted_by
        self._entered_ms = self._now
        self._armed_ms = None
        self._woke = False
        self._building = None
        self._own_proposal = None
        self._tip_known = None
        self._delta.view_passed()
        self._note("entered", view, f"leader {self.authorities.leader(view)}")

    def _rules_1_and_4(self, block: Block) -> None:
        """A notarized block is held: enter the next view, and say FINALIZE in its own."""
        if block.notarized_ms is None:
            block.notarized_ms = self._now
        record = self._votes.seen(block.view)
        if record is None or record.notarization is None:
            return
        if block.view >= self._view:
            self._work.extended(len(block.transaction_ids), self._now)
            self._enter(block.view + 1, record.notarization)
        self._rule_4_vote_finalize(record)

    def _rule_2_propose(self) -> None:
        """Once per view: extend the highest notarized view below, all between it and this one nullified."""
        view = self._view
        if self.authorities.leader(view) != self._me or self._building is not None or not self._may_sign:
            return
        record = self._votes.seen(view)
        if record is not None and (record.voted(Kind.NOTARIZE, self._me) or record.voted(Kind.NULLIFY, self._me)):
            return
        tip, missing = self._tip()
        if missing is not None:
            self._ask_certificates(missing, None)
        if tip is None or tip.executed is not True or not self._tree.linked(tip):
            return
        at = self._reason_ms()
        if at > self._now:
            self._due(at)
            return
        correction = self._clocks.correction_ms(self._now)
        if correction is None:
            return                                          # too few clocks to stamp a block: wait
        stamp = max(self._clock + correction, tip.timestamp_ms + self._config.min_block_interval_ms)
        empty = tip.height - self._tree.root.height >= MAX_UNFINALIZED
        self._building = (view, self._now)
        self._emit(Build(self._config.epoch, view, tip.digest, tip.height + 1, stamp, empty))

    def _rule_3_notarize(self) -> None:
        """Vote for the view's first proposal, or give up at once if it can never be voted for."""
        record = self._votes.seen(self._view)
        if (record is None or record.proposal is None or record.voted(Kind.NOTARIZE, self._me)
                or record.voted(Kind.NULLIFY, self._me)):
            return
        try:
            if self._acceptable(record.proposal):
                self._cast(Kind.NOTARIZE, self._view, record.proposal.digest)
        except ProposalRefused as refusal:
            self._give_up(f"refused: {refusal}")

    def _acceptable(self, proposal: Proposal) -> bool:
        """Rule 3 and the timestamp rule. False: not yet, something is missing. Raises ProposalRefused."""
        header, view, root = proposal.header, self._view, self._tree.root
        leader = self.authorities.leader(view)
        if header is None:
            raise ProposalRefused("not a header")
        # The place of epochs: a boundary block may be offered again in a later view than its own.
        if (header.chain_id, header.epoch, header.view, header.proposer) != (
                self._config.chain_id, self._config.epoch, view, self._config.authorities[leader]):
            raise ProposalRefused("chain, epoch, view or proposer is not that of the proposal")
        if proposal.refused:
            raise ProposalRefused(proposal.refused)
        if header.height <= root.height or (header.height == root.height + 1 and header.parent != root.digest):
            raise ProposalRefused(f"it conflicts with the final block at height {root.height}")

        # 3a. The parent is notarized, and held with all its ancestors.
        parent = self._tree.get(header.parent)
        if parent is None or not self._notarized(parent):
            self._ask_certificates(view - 1, leader)
            return False
        if header.height != parent.height + 1 or parent.view >= view:
            raise ProposalRefused("its height or view does not follow its parent's")
        if parent.executed is False:
            raise ProposalRefused("its parent is invalid")

        # 3b. A nullification is held for every view between the parent's and this one.
        missing = self._skipped_without_nullification(parent.view, view)
        if missing is not None:
            self._ask_certificates(missing, leader)
            return False

        # 3c. The timestamp, judged against the network's time at first receipt.
        if header.timestamp_ms < parent.timestamp_ms + self._config.min_block_interval_ms:
            raise ProposalRefused("its time is less than the minimum interval after its parent's")
        correction = self._clocks.correction_ms(self._now)
        if correction is None:
            return False
        oldest = proposal.received_clock_ms + correction - STAMP_TOLERANCE_MS - 3 * self._delta.ms
        if header.timestamp_ms < oldest:
            raise ProposalRefused(f"its time is {oldest - header.timestamp_ms} ms too old")

        # 3d. Executed, on the state of its parent, with the result that it claims (CONSENSUS 1, 2).
        if not self._tree.linked(parent):
            self._want_parent(self._tree.add(proposal.digest, header, proposal.transaction_ids))
            return False
        block = self._tree.add(proposal.digest, header, proposal.transaction_ids)
        if not proposal.requested:
            proposal.requested = block.handed_out = True
            self._emit(Execute(block.digest, header, proposal.transaction_ids, leader))
        if block.executed is False:
            raise ProposalRefused("execution found it invalid")
        early = header.timestamp_ms - (self._clock + correction + STAMP_TOLERANCE_MS)
        if early > 0:
            self._due(self._now + early)
            return False
        return block.held and block.executed is True

    def _skipped_without_nullification(self, parent_view: int, view: int) -> int | None:
        """The highest view strictly between without a nullification held, None if there is none."""
        for skipped in range(view - 1, parent_view, -1):
            record = self._votes.seen(skipped)
            if record is None or record.nullification is None:
                return skipped
        return None

    def _rule_4_vote_finalize(self, record: ViewRecord) -> None:
        """FINALIZE: notarization and body held, executed as valid, not given up, leader did not equivocate."""
        certificate = record.notarization
        if (certificate is None or record.finalization is not None or record.view <= self._tree.root.view
                or record.voted(Kind.NULLIFY, self._me) or record.voted(Kind.FINALIZE, self._me)
                or self.authorities.leader(record.view) in record.accused):
            return
        block = self._tree.get(certificate.digest)
        if block is not None and block.held and block.executed is True:
            self._cast(Kind.FINALIZE, record.view, block.digest)

    def _rule_6_finalize(self) -> None:
        """The highest finalized block whose ancestors are all held and executed is final, and they with it."""
        if not self._behind():
            return
        for record in reversed(list(self._votes.ascending())):
            certificate = record.finalization
            block = None if certificate is None else self._tree.get(certificate.digest)
            if certificate is None or block is None or not self._tree.linked(block):
                continue
            for step in self._tree.path(block):
                if step.executed is False:
                    raise InvariantError(f"the final block {step.digest.hex()} at height {step.height} is invalid "
                                         "here: this node's rules or state differ from the quorum's")
            if any(step.executed is None for step in self._tree.path(block)):
                continue
            path = self._tree.advance(block)
            self._emit(Finalize(tuple(step.digest for step in path), certificate))
            self._rooted(certificate, len(path))
            return

    def _rooted(self, certificate: Certificate, gained: int) -> None:
        """The root has moved: forget what it settles."""
        self._root_certificate = certificate
        if self._final is None or certificate.view > self._final.view:
            self._final = certificate
        self._finalized_ms = self._now
        self._delta.finalized(gained)
        self._votes.forget_up_to(certificate.view)
        self._requests.forget_up_to(certificate.view)
        self._tip_known = None
        dropped = tuple(block.digest for block in self._tree.prune() if block.handed_out)
        if dropped:
            self._emit(Drop(dropped))

    # ------------------------------------------------------------ rule 7: reasons and timers

    def _reason_ms(self) -> int:
        """Since or from when the view has a reason, but not before the parent's time + the minimum interval."""
        config, delta_ms = self._config, self._delta.ms
        leading = self.authorities.leader(self._view) == self._me
        record = self._votes.seen(self._view)
        known_tip = self._tip()[0]
        tip = known_tip or self._tree.root
        tip_ms = self._entered_ms if known_tip is None or tip.notarized_ms is None else tip.notarized_ms
        reasons = [tip_ms + config.block_time_ms + (0 if leading else delta_ms)]          # heartbeat
        if (since_ms := self._work.since_ms(self._now)) is not None:                      # pending work
            small = self._work.weight < config.max_block_weight // 8
            reasons.append(since_ms + (config.linger_ms if leading and small else 0))
        if leading and (woken_ms := self._work.woken_ms(self._now)) is not None:          # woken
            reasons.append(woken_ms + delta_ms // 2)
        if tip.unfinished:                                                                # timed work
            reasons.append(tip_ms)
        if any(block.transaction_ids for block in self._tree.path(tip)):                  # unfinalized
            # FINALIZE votes are on their way; a child is only needed if they do not suffice.
            reasons.append(tip_ms + 2 * delta_ms)
        if record is not None and (record.proposal is not None or record.votes[Kind.NOTARIZE]
                                   or len(record.votes[Kind.NULLIFY]) > self.authorities.f):
            reasons.append(self._entered_ms)
        network_ms = self._clock + (self._clocks.correction_ms(self._now) or 0)
        wait_ms = tip.timestamp_ms + config.min_block_interval_ms - network_ms
        floor_ms = self._now + min(max(wait_ms, 0), config.min_block_interval_ms + STAMP_TOLERANCE_MS)
        return max(min(reasons), floor_ms if wait_ms > 0 else 0)

    def _rule_7_timers(self) -> None:
        """Armed by a reason; NULLIFY without a header in 2 delta, without a way out in 3, plus execution."""
        record = self._votes.at(self._view)
        if record.voted(Kind.NULLIFY, self._me):
            return
        if self._armed_ms is None:
            reason_ms = self._reason_ms()
            if reason_ms > self._now:
                self._due(reason_ms)
                return
            self._armed_ms = self._now
        delta_ms = self._delta.ms
        if record.proposal is None:
            expected_ms = self._speed.execution_ms(self._work.weight, delta_ms)
            limit_ms = self._armed_ms + 2 * delta_ms + expected_ms
            self._wake_others(self._armed_ms + delta_ms // 2)
        else:
            limit_ms = self._armed_ms + 3 * delta_ms + self._block_allowance_ms(record.proposal)
        if self._now < limit_ms:
            self._due(limit_ms)
        elif self._reason_ms() > self._now:
            self._armed_ms = None                            # the reason has gone
            self._due(self._reason_ms())
        else:
            self._give_up("no header" if record.proposal is None else "no way out")

    def _block_allowance_ms(self, proposal: Proposal) -> int:
        """2 E(weight) + body bytes / 2 MB/s for the proposed block, guessed while it is not held or executed."""
        block = self._tree.get(proposal.digest)
        count = len(proposal.transaction_ids)
        weight = block.weight if block is not None and block.executed else self._speed.weight_guess(count)
        body_bytes = None if block is None else block.body_bytes
        return (2 * self._speed.execution_ms(weight, self._delta.ms)
                + transfer_ms(body_bytes, count, self._config.max_block_bytes))

    def _wake_others(self, at_ms: int) -> None:
        """WAKE once per view, if the leader had time to hear of the work and yet offers nothing."""
        if self._woke or not self._work.weight or not self._work.ids or (
                self.authorities.leader(self._view) == self._me):
            return
        if self._now < at_ms:
            self._due(at_ms)
            return
        self._woke = True
        self._send(Wake(self._work.ids[:MAX_WAKE_HASHES]))

    def _give_up(self, why: str) -> None:
        """NULLIFY the present view, once; never after FINALIZE in it."""
        record = self._votes.at(self._view)
        if not self._may_sign or record.voted(Kind.NULLIFY, self._me) or record.voted(Kind.FINALIZE, self._me):
            return
        self._peers[self.authorities.leader(self._view)].late_views += 1
        self._note("given up", self._view, why)
        self._cast(Kind.NULLIFY, self._view)

    # ------------------------------------------------------------ rules 8 to 10

    def _rule_8_retry(self) -> None:
        """While anything is unfinalized, every 500 ms: own votes, and the certificate that admits the view."""
        record = self._votes.seen(self._view)
        voted = record is not None and (record.voted(Kind.NOTARIZE, self._me) or record.voted(Kind.NULLIFY, self._me))
        if not voted and not self._behind() and self._tip()[0] is self._tree.root:
            self._retry_ms = self._now + RETRY_EVERY_MS
            return
        if self._now >= self._retry_ms:
            self._retry_ms = self._now + RETRY_EVERY_MS
            offers: list[Message] = []
            if self._now - self._entered_ms >= RETRY_EVERY_MS // 2:
                if self._admitted_by is not None:
                    offers.append(self._admitted_by)
                if self._own_proposal is not None:
                    offers.append(self._own_proposal)
                elif record is not None and record.voted(Kind.NOTARIZE, self._me):
                    offers.append(record.votes[Kind.NOTARIZE][self._me])
                if record is not None and record.voted(Kind.NULLIFY, self._me):
                    offers.append(record.votes[Kind.NULLIFY][self._me])
            unfinalized = [known.votes[Kind.FINALIZE][self._me] for known in self._votes.ascending()
                           if known.finalization is None and known.voted(Kind.FINALIZE, self._me)]
            for offer in (*offers, *unfinalized[-MAX_FINALIZE_OFFERS:]):
                self._send(offer)
        self._due(self._retry_ms)

    def _rule_9_silent_leader(self) -> None:
        """A leader that is silent or far behind is passed over, idle or not; it passes over itself."""
        record = self._votes.at(self._view)
        if record.proposal is not None or record.voted(Kind.NULLIFY, self._me):
            return
        leader = self.authorities.leader(self._view)
        if leader == self._me:
            far = self._peers.height_of_some_honest(self.authorities.f) - self._tree.root.height
            if self._behind_far() or far > BEHIND_HEIGHTS:
                self._give_up("behind")
        elif self._peers.silent(leader, self._now):
            self._give_up("silent leader")

    def _rule_10_status(self) -> None:
        """STATUS every second, all there is when idle."""
        if self._now >= self._status_ms:
            self._status_ms = self._now + STATUS_EVERY_MS
            self._send(self._status())
        self._due(self._status_ms)

    def _status(self) -> Status:
        root = self._tree.root
        tip = self._tip()[0]
        executed = tip.height if tip is not None and tip.executed else root.height
        return Status(self._config.epoch, self._view, root.height, executed, max(self._clock, 0))

    # ------------------------------------------------------------ what is missing

    def _tip(self) -> tuple[Block | None, int | None]:
        """Rule 2's parent of the present view, or the view of which a certificate is missing."""
        if self._tip_known is None:
            self._tip_known = self._find_tip()
        return self._tip_known

    def _find_tip(self) -> tuple[Block | None, int | None]:
        for view in range(self._view - 1, self._tree.root.view, -1):
            record = self._votes.seen(view)
            certificate = None if record is None else record.notarization or record.finalization
            if certificate is not None:
                block = self._tree.get(certificate.digest)
                return (block if block is not None and block.held else None), None
            if record is None or record.nullification is None:
                return None, view
        return self._tree.root, None

    def _ask_certificates(self, last: int, first_asked: int | None) -> None:
        """GET_CERT for the views above the root up to `last`: one peer at a time, another every 500 ms."""
        requests = self._requests
        again_ms = requests.certificates_asked_ms + ASK_AGAIN_MS
        if self._now < again_ms or self.authorities.n == 1:
            self._due(again_ms)
            return
        asked = first_asked if first_asked not in (None, self._me) and requests.certificates_turn % 2 == 0 else \
            (self._me + 1 + requests.certificates_turn % (self.authorities.n - 1)) % self.authorities.n
        requests.certificates_asked_ms = self._now
        requests.certificates_turn += 1
        self._due(self._now + ASK_AGAIN_MS)
        first = max(self._tree.root.view + 1, last - VIEWS_AHEAD + 1)
        self._send(GetCertificates(self._config.epoch, first, last), asked)

    def _want(self, name: bytes, view: int, signers: tuple[int, ...]) -> None:
        """Fetch a block vouched for by a certificate; one that is on its way already gets 500 ms."""
        if name == self._tree.root.digest or name in self._requests.wanted:
            return
        block = self._tree.get(name)
        coming = block is not None and block.handed_out
        holders = tuple(signer for signer in signers if signer != self._me)
        self._requests.want(name, view, holders, self._now if coming else self._now - ASK_AGAIN_MS)

    def _want_parent(self, block: Block) -> None:
        """A certified block vouches for its ancestors."""
        missing = self._tree.unlinked_parent(block)
        record = self._votes.seen(block.view)
        certificate = None if record is None else record.finalization or record.notarization
        if missing is not None and missing != self._tree.root.digest and block.height > self._tree.root.height + 1:
            signers = certificate.signers if certificate is not None else tuple(range(self.authorities.n))
            self._want(missing, block.view, signers)

    def _ask_for_blocks(self) -> None:
        for want in self._requests.due(self._now):
            self._emit(Fetch(want.digest, want.view, want.rotated()))
        next_ms = self._requests.next_ms()
        if next_ms is not None:
            self._due(next_ms)

    def _behind(self) -> bool:
        """A finalization is known that is not carried out yet."""
        return self._final is not None and self._final.view > self._tree.root.view

    def _behind_far(self) -> bool:
        """Behind, and not just waiting for an execution or a body that is on its way."""
        since_ms = self._requests.behind_since_ms
        return self._behind() and since_ms is not None and self._now - since_ms >= CATCH_UP_AFTER_MS

    def _catch_up(self) -> None:
        """Leave it to sync when peers are far ahead, or what is missing does not come by Fetch."""
        requests = self._requests
        if not self._behind() or self._final is None:
            requests.behind_since_ms = None
            return
        block = self._tree.get(self._final.digest)
        if requests.behind_since_ms is None:
            requests.behind_since_ms = self._now
        if block is not None and self._tree.linked(block):
            patience_ms = EXECUTION_STALLED_MS               # all is held; execution is under way
        elif self._peers.height_of_some_honest(self.authorities.f) > self._tree.root.height + BEHIND_HEIGHTS:
            patience_ms = 0
        else:
            patience_ms = CATCH_UP_AFTER_MS
        at_ms = max(requests.behind_since_ms + patience_ms,
                    requests.catch_up_asked_ms + CATCH_UP_AGAIN_MS)
        if self._now >= at_ms:
            requests.catch_up_asked_ms = self._now
            self._emit(CatchUp(self._final, tuple(signer for signer in self._final.signers if signer != self._me)))
            at_ms = self._now + CATCH_UP_AGAIN_MS
        self._due(at_ms)

    # ------------------------------------------------------------ restart

    def _recover(self, recovered: Recovered) -> None:
        """Puts back what the log remembered: blocks, certificates, own votes, and the view they admit."""
        root = self._tree.root
        for held in recovered.blocks:
            if held.header.height > root.height and held.header.view > root.view:
                block = self._tree.add(held.digest, held.header, held.transaction_ids)
                block.held, block.handed_out, block.body_bytes = True, True, held.body_bytes
                self._revive.append(block)
        self._revive.sort(key=lambda block: block.height)
        for certificate in recovered.certificates:
            if certificate.view > root.view and certificate.epoch == self._config.epoch:
                self._votes.at(certificate.view).certificates[certificate.kind] = certificate
                if certificate.kind is Kind.FINALIZE and (self._final is None or certificate.view > self._final.view):
                    self._final = certificate
        for record in self._votes.ascending():
            block_of = None if record.notarization is None else self._tree.get(record.notarization.digest)
            if block_of is not None:
                block_of.notarized_ms = self._when(block_of.timestamp_ms)
            admits = record.finalization or record.nullification or (
                record.notarization if block_of is not None and block_of.held else None)
            if admits is not None and record.view >= self._view:
                self._view, self._admitted_by = record.view + 1, admits
        for vote in recovered.votes:
            if vote.epoch == self._config.epoch and vote.view > root.view:
                self._recover_vote(vote)

    def _recover_vote(self, vote: Vote | Propose) -> None:
        if isinstance(vote, Vote):
            self._votes.add_own(vote)
            return
        name = digest(Domain.HEADER, vote.header)
        self._votes.add_own(Vote(Kind.NOTARIZE, vote.epoch, vote.view, name, self._me, vote.signature))
        header = decode_header(vote.header)
        self._tree.add(name, header, vote.transaction_ids)
        self._votes.at(vote.view).proposal = Proposal(name, header, vote.transaction_ids, self._clock, requested=True)
        if vote.view == self._view:
            self._own_proposal = vote

    def _execute_recovered(self) -> None:
        """Blocks of the log were executed before the crash, but their results went with it. One whose ancestors
        are not all held waits for them."""
        waiting: list[Block] = []
        for block in self._revive:
            if self._tree.get(block.digest) is not block or block is self._tree.root:
                continue                                     # settled meanwhile
            if block.header is not None and self._tree.linked(block):
                self._emit(Execute(block.digest, block.header, block.transaction_ids, self._me))
            else:
                waiting.append(block)
        self._revive = waiting

    def _want_recovered(self) -> None:
        """Bodies that the log lacks for certificates that it holds."""
        for record in list(self._votes.ascending()):
            certificate = record.notarization or record.finalization
            if certificate is not None:
                certified = self._tree.get(certificate.digest)
                if certified is None or not certified.held:
                    self._want(certificate.digest, record.view, certificate.signers)

    # ------------------------------------------------------------ small things

    def _when(self, timestamp_ms: int) -> int:
        """Monotonic time of a block's stamp, for blocks from before the start; at most one block time ago."""
        return self._now - min(max(self._clock - timestamp_ms, 0), self._config.block_time_ms)

    def _due(self, at_ms: int) -> None:
        self._next = min(self._next, at_ms)

    def _emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _send(self, message: Message, to: int | None = None) -> None:
        self._effects.append(Send(message, to))

    def _note(self, event: str, view: int, detail: str = "") -> None:
        self._effects.append(Note(event, view, detail))
