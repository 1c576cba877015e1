"""One handler per event: messages of the others, and what the driver reports of blocks."""

from __future__ import annotations

from gridtokenx.consensus.config import Root
from gridtokenx.consensus.interface import BlockBuilt, BlockExecuted, BlockHeld, CaughtUp, Drop, Persist
from gridtokenx.consensus.messages import (
    Certificate,
    GetCertificates,
    Kind,
    Message,
    Propose,
    Status,
    Vote,
    Wake,
)
from gridtokenx.consensus.missing import want_parent
from gridtokenx.consensus.peers import BEHIND_HEIGHTS
from gridtokenx.consensus.rules import (
    count,
    enter,
    learn,
    propose,
    rooted,
    rule_4_vote_finalize,
    rule_6_finalize,
    rules_1_and_4,
    take,
)
from gridtokenx.consensus.state import RETRY_EVERY_MS, VIEWS_AHEAD, State
from gridtokenx.consensus.votes import Proposal, VoteError
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import decode_header

ANSWER_SPACING_MS = 50
FRESH_AFTER_SILENCE_MS = 5_000


def on_message(state: State, sender: int, message: Message) -> None:
    if not 0 <= sender < state.authorities.n or sender == state.me:
        return
    state.peers[sender].heard_ms = state.now_ms
    if not isinstance(message, Wake) and message.epoch != state.config.epoch:
        # `epochs` keeps what is for another epoch away from here.
        state.note("other epoch", state.view, f"{type(message).__name__} of {sender}: epoch {message.epoch}")
        return
    try:
        match message:
            case Vote():
                on_vote(state, sender, message)
            case Certificate():
                on_certificate(state, message)
            case Propose():
                on_propose(state, sender, message)
            case Status():
                on_status(state, sender, message)
            case GetCertificates():
                on_get_certificates(state, sender, message)
            case Wake():
                state.work.woken(sender, state.now_ms)
    except VoteError as error:
        state.note("dropped", state.view, f"from {sender}: {error}")


def on_vote(state: State, sender: int, vote: Vote) -> None:
    if vote.signer != sender:
        raise VoteError(f"a vote of authority {vote.signer}; votes come from their signer")
    if state.countable(vote.view):
        take(state, vote)
        count(state, vote)


def on_propose(state: State, sender: int, propose: Propose) -> None:
    """The first proposal of the view's leader is the one judged; it is the leader's NOTARIZE too."""
    if not state.countable(propose.view):
        return
    if propose.signer != sender or state.authorities.leader(propose.view) != sender:
        raise VoteError(f"a proposal for view {propose.view}, which authority "
                        f"{state.authorities.leader(propose.view)} leads")
    name = digest(Domain.HEADER, propose.header)
    vote = Vote(Kind.NOTARIZE, propose.epoch, propose.view, name, sender, propose.signature)
    take(state, vote)
    record = state.votes.at(propose.view)
    if record.proposal is None:
        try:
            header = decode_header(propose.header)
        except GridTokenXError as error:
            state.note("dropped", propose.view, f"header from {sender}: {error}")
            header = None
        record.proposal = Proposal(name, header, propose.transaction_ids, state.clock_ms)
        if header is not None:
            state.tree.add(name, header, propose.transaction_ids)
    count(state, vote)


def on_certificate(state: State, certificate: Certificate) -> None:
    if certificate.view <= state.tree.root.view:
        return
    record = state.votes.seen(certificate.view)
    known = None if record is None else record.certificates.get(certificate.kind)
    if known is not None and known.digest == certificate.digest:
        return
    state.effects.extend(state.votes.check(certificate))
    state.remember(certificate)
    learn(state, certificate)


def on_status(state: State, sender: int, status: Status) -> None:
    peer = state.peers[sender]
    fresh = (state.clocks.offset_of(sender) is None or peer.status is None
             or state.now_ms - peer.status_ms > FRESH_AFTER_SILENCE_MS)
    peer.status_ms = state.now_ms
    state.peers.status(sender, status, state.tree.root.height)
    state.clocks.heard(sender, status.clock_ms, state.clock_ms, state.now_ms)
    if fresh:
        state.send(state.status(), sender)            # so that it has our clock without waiting a second
    # What a peer lacks for longer than a message travels, it missed.
    if state.final is not None and status.finalized_height < state.tree.root.height and (
            state.now_ms - state.finalized_ms >= RETRY_EVERY_MS
            or state.tree.root.height - status.finalized_height > BEHIND_HEIGHTS):
        state.send(state.final, sender)
    elif (status.view < state.view and state.admitted_by is not None
            and (state.now_ms - state.entered_ms >= RETRY_EVERY_MS or state.view - status.view > BEHIND_HEIGHTS)):
        state.send(state.admitted_by, sender)


def on_get_certificates(state: State, sender: int, request: GetCertificates) -> None:
    """At most 100 certificates, and not more often than every 50 ms per asker."""
    peer = state.peers[sender]
    if state.now_ms - peer.answered_ms < ANSWER_SPACING_MS:
        return
    peer.answered_ms = state.now_ms
    answers: list[Certificate] = []
    if state.root_certificate is not None and request.first <= state.tree.root.view:
        answers.append(state.root_certificate)
    first = max(request.first, state.tree.root.view + 1)
    for view in range(first, min(request.last, first + VIEWS_AHEAD - 1) + 1):
        record = state.votes.seen(view)
        if record is not None:
            answers.extend(certificate for certificate in (record.notarization, record.nullification)
                           if certificate is not None)
    for certificate in answers[:VIEWS_AHEAD]:
        state.send(certificate, sender)


def on_block_held(state: State, held: BlockHeld) -> None:
    header = held.header
    state.requests.wanted.pop(held.digest, None)
    root = state.tree.root
    if held.digest != root.digest and (header.height <= root.height or header.view <= root.view):
        state.emit(Drop((held.digest,)))
        return
    block = state.tree.add(held.digest, header, held.transaction_ids)
    if block.held:
        return
    block.held, block.handed_out = True, True
    block.transaction_ids, block.body_bytes = held.transaction_ids, held.body_bytes
    block.started_ms = state.now_ms
    state.tip_known = None
    if state.notarized(block):
        rules_1_and_4(state, block)
        want_parent(state, block)
    elif block is not root and (parent := state.tree.get(header.parent)) is not None and not parent.held:
        want_parent(state, block)
    rule_6_finalize(state)


def on_block_executed(state: State, executed: BlockExecuted) -> None:
    block = state.tree.get(executed.digest)
    if block is None or block is state.tree.root or block.executed is not None:
        return
    if not block.held and not executed.valid:
        for record in state.records_of(block):
            if record.proposal is not None and record.proposal.digest == block.digest:
                record.proposal.refused = executed.reason or "its body is not the header's"
        return
    block.executed, block.weight, block.unfinished = executed.valid, executed.weight, executed.unfinished
    if executed.valid:
        state.speed.measured(block.weight, len(block.transaction_ids), state.now_ms - block.started_ms)
    else:
        state.note("invalid", block.view, f"{block.digest.hex()}: {executed.reason}")
    for child in state.tree.children(block):
        child.started_ms = state.now_ms
    for record in state.records_of(block):
        rule_4_vote_finalize(state, record)
    rule_6_finalize(state)


def on_block_built(state: State, built: BlockBuilt) -> None:
    """Rule 2, second half: the block exists and is in the log; offer it unless the view has passed."""
    record = state.votes.at(built.view) if built.view > state.tree.root.view else None
    name = built.header.hash
    if (record is None or state.building is None or built.view != state.building[0] or built.view != state.view
            or record.voted(Kind.NULLIFY, state.me) or record.voted(Kind.NOTARIZE, state.me)):
        state.emit(Drop((name,)))
        return
    state.speed.measured(built.weight, len(built.transaction_ids), state.now_ms - state.building[1])
    block = state.tree.add(name, built.header, built.transaction_ids)
    block.held, block.executed, block.handed_out = True, True, True
    block.weight, block.unfinished, block.body_bytes = built.weight, built.unfinished, built.body_bytes
    propose(state, built.view, built.header, built.transaction_ids)


def on_caught_up(state: State, event: CaughtUp) -> None:
    """Jump to a finalized block that sync brought; what cannot descend from it is dropped."""
    header, certificate = event.header, event.certificate
    name = header.hash
    if header.height <= state.tree.root.height or certificate.view <= state.tree.root.view:
        return
    if certificate.kind is not Kind.FINALIZE or certificate.digest != name:
        state.note("dropped", certificate.view, "sync came back with a certificate that is not the block's")
        return
    record = state.votes.seen(certificate.view)
    if record is None or record.finalization is None:
        try:
            state.effects.extend(state.votes.check(certificate))
        except VoteError as error:
            state.note("dropped", certificate.view, f"from sync: {error}")
            return
        state.remember(certificate)
    state.emit(Persist(certificate))
    gained = header.height - state.tree.root.height
    root = Root(name, header.height, certificate.view, header.timestamp_ms, certificate, event.unfinished)
    state.tree.jump(root, state.when(header.timestamp_ms))
    state.note("caught up", certificate.view, f"height {header.height}")
    rooted(state, certificate, gained)
    state.ended = state.boundary(state.tree.root)
    if certificate.view >= state.view:
        enter(state, certificate.view + 1, certificate)
    rule_6_finalize(state)
