"""Rules 1 to 6 of CONSENSUS 5: entering views, proposing, voting, certificates, finality. One function per rule."""

from __future__ import annotations

from gridtokenx.consensus.interface import Build, Drop, Execute, Finalize, Persist
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote, vote_content
from gridtokenx.consensus.missing import ask_certificates, want, want_parent
from gridtokenx.consensus.reasons import STAMP_TOLERANCE_MS, reason_ms
from gridtokenx.consensus.state import State
from gridtokenx.consensus.tree import Block
from gridtokenx.consensus.votes import Proposal, ViewRecord
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.block import Header

MAX_UNFINALIZED = 64


class ProposalRefused(GridTokenXError):
    """A proposal that can never be voted for."""


def take(state: State, vote: Vote) -> None:
    """Counts a vote of another authority; evidence of a double vote goes to the driver."""
    evidence = state.votes.add(vote)
    if evidence is not None:
        state.emit(evidence)


def cast(state: State, kind: Kind, view: int, name: bytes = b"") -> None:
    """Signs, logs, sends and counts an own vote, in this order."""
    if not state.signs_in(view):
        return
    epoch = state.config.epoch
    vote = Vote(kind, epoch, view, name, state.me, state.signer.sign(vote_content(kind, epoch, view, name)))
    state.emit(Persist(vote))
    state.send(vote)
    state.votes.add_own(vote)
    count(state, vote)


def count(state: State, vote: Vote) -> None:
    """Rules 4, 5, 6: q votes of a kind make a certificate."""
    certificate = state.votes.quorum(vote.kind, vote.view, vote.digest)
    if certificate is not None:
        learn(state, certificate)


def learn(state: State, certificate: Certificate) -> None:
    """A certificate formed or first learnt: log it, relay it once, draw the consequences."""
    view = certificate.view
    record = state.votes.at(view)
    record.certificates[certificate.kind] = certificate
    state.tip_known = None
    state.emit(Persist(certificate))
    state.send(certificate)
    state.note(certificate.kind.name.lower() + " certificate", view)
    if certificate.kind is Kind.NULLIFY:
        if view >= state.view:
            enter(state, view + 1, certificate)                       # rules 5 and 1
        return
    if certificate.kind is Kind.FINALIZE:
        if state.final is None or view > state.final.view:
            state.final = certificate
        if view >= state.view:
            enter(state, view + 1, certificate)                       # rule 1
    block = state.tree.get(certificate.digest)
    if block is None or not block.held:
        want(state, certificate.digest, view, certificate.signers)
    else:
        rules_1_and_4(state, block)
        want_parent(state, block)
    rule_6_finalize(state)


def enter(state: State, view: int, admitted_by: Certificate) -> None:
    """Rule 1. Timers start anew; nothing is armed until there is a reason (rules 7, 10)."""
    state.view = view
    state.admitted_by = admitted_by
    state.entered_ms = state.now_ms
    state.armed_ms = None
    state.woke = False
    state.building = None
    state.own_proposal = None
    state.tip_known = None
    state.delta.view_passed()
    state.note("entered", view, f"leader {state.authorities.leader(view)}")


def rules_1_and_4(state: State, block: Block) -> None:
    """A notarized block is held: enter the next view, and say FINALIZE in its own."""
    if block.notarized_ms is None:
        block.notarized_ms = state.now_ms
    for record in state.records_of(block):
        if record.notarization is None or record.notarization.digest != block.digest:
            continue
        if record.view >= state.view:
            state.work.extended(len(block.transaction_ids), state.now_ms)
            enter(state, record.view + 1, record.notarization)
        rule_4_vote_finalize(state, record)


def rule_2_propose(state: State) -> None:
    """Once per view: extend the highest notarized view below, all between it and this one nullified."""
    view = state.view
    if state.authorities.leader(view) != state.me or state.building is not None or not state.signs_in(view):
        return
    record = state.votes.seen(view)
    if record is not None and (record.voted(Kind.NOTARIZE, state.me) or record.voted(Kind.NULLIFY, state.me)):
        return
    tip, missing = state.tip()
    if missing is not None:
        ask_certificates(state, missing, None)
    if tip is None or tip.executed is not True or not state.tree.linked(tip):
        return
    at = reason_ms(state)
    if at > state.now_ms:
        state.due(at)
        return
    if state.boundary(tip):
        offer_again(state, tip)
        return
    correction = state.clocks.correction_ms(state.now_ms)
    if correction is None:
        return                                          # too few clocks to stamp a block: wait
    stamp = max(state.clock_ms + correction, tip.timestamp_ms + state.config.min_block_interval_ms)
    empty = tip.height - state.tree.root.height >= MAX_UNFINALIZED
    state.building = (view, state.now_ms)
    state.emit(Build(state.config.epoch, view, tip.digest, tip.height + 1, stamp, empty))


def offer_again(state: State, block: Block) -> None:
    """Epochs: on a boundary block that is not final follows nothing but itself, offered in this view."""
    if block.header is not None:
        state.note("boundary offered again", state.view, f"height {block.height}")
        propose(state, state.view, block.header, block.transaction_ids)


def propose(state: State, view: int, header: Header, transaction_ids: tuple[bytes, ...]) -> None:
    """Signs, logs, sends and counts an own proposal, in this order."""
    epoch, name = state.config.epoch, header.hash
    signature = state.signer.sign(vote_content(Kind.NOTARIZE, epoch, view, name))
    offer = Propose(epoch, view, header.encode(), transaction_ids, state.me, signature)
    state.votes.at(view).proposal = Proposal(name, header, transaction_ids, state.clock_ms, requested=True)
    state.own_proposal = offer
    state.emit(Persist(offer))
    state.send(offer)
    vote = Vote(Kind.NOTARIZE, epoch, view, name, state.me, signature)
    state.votes.add_own(vote)
    count(state, vote)


def rule_3_notarize(state: State) -> None:
    """Vote for the view's first proposal, or give up at once if it can never be voted for."""
    record = state.votes.seen(state.view)
    if (record is None or record.proposal is None or record.voted(Kind.NOTARIZE, state.me)
            or record.voted(Kind.NULLIFY, state.me)):
        return
    try:
        if acceptable(state, record.proposal):
            cast(state, Kind.NOTARIZE, state.view, record.proposal.digest)
    except ProposalRefused as refusal:
        give_up(state, f"refused: {refusal}")


def acceptable(state: State, proposal: Proposal) -> bool:
    """Rule 3 and the timestamp rule. False: not yet, something is missing. Raises ProposalRefused."""
    header, view, root = proposal.header, state.view, state.tree.root
    leader = state.authorities.leader(view)
    if header is None:
        raise ProposalRefused("not a header")
    if (header.chain_id, header.epoch) != (state.config.chain_id, state.config.epoch):
        raise ProposalRefused("chain or epoch is not that of the proposal")
    if proposal.refused:
        raise ProposalRefused(proposal.refused)
    if header.height <= root.height or (header.height == root.height + 1 and header.parent != root.digest):
        raise ProposalRefused(f"it conflicts with the final block at height {root.height}")
    if header.height > state.config.boundary:
        raise ProposalRefused(f"the epoch ends at height {state.config.boundary}")
    if header.height == state.config.boundary and header.view < view:
        return acceptable_again(state, proposal, header)
    if (header.view, header.proposer) != (view, state.config.authorities[leader]):
        raise ProposalRefused("view or proposer is not that of the proposal")

    # 3a. The parent is notarized, and held with all its ancestors.
    parent = state.tree.get(header.parent)
    if parent is None or not state.notarized(parent):
        ask_certificates(state, view - 1, leader)
        return False
    if header.height != parent.height + 1 or parent.view >= view:
        raise ProposalRefused("its height or view does not follow its parent's")
    if parent.executed is False:
        raise ProposalRefused("its parent is invalid")

    # 3b. A nullification is held for every view between the parent's and this one.
    missing = skipped_without_nullification(state, parent.view, view)
    if missing is not None:
        ask_certificates(state, missing, leader)
        return False

    # 3c. The timestamp, judged against the network's time at first receipt.
    if header.timestamp_ms < parent.timestamp_ms + state.config.min_block_interval_ms:
        raise ProposalRefused("its time is less than the minimum interval after its parent's")
    correction = state.clocks.correction_ms(state.now_ms)
    if correction is None:
        return False
    oldest = proposal.received_clock_ms + correction - STAMP_TOLERANCE_MS - 3 * state.delta.ms
    if header.timestamp_ms < oldest:
        raise ProposalRefused(f"its time is {oldest - header.timestamp_ms} ms too old")

    # 3d. Executed, on the state of its parent, with the result that it claims (CONSENSUS 1, 2).
    if not executed_here(state, proposal, header):
        return False
    early = header.timestamp_ms - (state.clock_ms + correction + STAMP_TOLERANCE_MS)
    if early > 0:
        state.due(state.now_ms + early)
        return False
    return True


def acceptable_again(state: State, proposal: Proposal, header: Header) -> bool:
    """Epochs: a boundary block offered in a later view. It is notarized in one before, and nullified is every view
    since; who made it and when is not looked at again."""
    view, leader = state.view, state.authorities.leader(state.view)
    block = state.tree.add(proposal.digest, header, proposal.transaction_ids)
    notarized = state.notarized_below(block, view)
    missing = view - 1 if notarized is None else skipped_without_nullification(state, notarized, view)
    if missing is not None:
        ask_certificates(state, missing, leader)
        return False
    return executed_here(state, proposal, header)


def executed_here(state: State, proposal: Proposal, header: Header) -> bool:
    """Whether the proposed block is held and was executed as valid; sees to it that it will be."""
    block = state.tree.add(proposal.digest, header, proposal.transaction_ids)
    parent = state.tree.get(header.parent)
    if parent is None or not state.tree.linked(parent):
        want_parent(state, block)
        return False
    if not proposal.requested:
        proposal.requested = True
        if not block.handed_out:
            block.handed_out = True
            leader = state.authorities.leader(state.view)
            state.emit(Execute(block.digest, header, proposal.transaction_ids, leader))
    if block.executed is False:
        raise ProposalRefused("execution found it invalid")
    return block.held and block.executed is True


def skipped_without_nullification(state: State, parent_view: int, view: int) -> int | None:
    """The highest view strictly between without a nullification held, None if there is none."""
    for skipped in range(view - 1, parent_view, -1):
        record = state.votes.seen(skipped)
        if record is None or record.nullification is None:
            return skipped
    return None


def rule_4_vote_finalize(state: State, record: ViewRecord) -> None:
    """FINALIZE: notarization and body held, executed as valid, not given up, leader did not equivocate."""
    certificate = record.notarization
    if (certificate is None or record.finalization is not None or record.view <= state.tree.root.view
            or record.voted(Kind.NULLIFY, state.me) or record.voted(Kind.FINALIZE, state.me)
            or state.authorities.leader(record.view) in record.accused):
        return
    block = state.tree.get(certificate.digest)
    if block is not None and block.held and block.executed is True:
        cast(state, Kind.FINALIZE, record.view, block.digest)


def rule_6_finalize(state: State) -> None:
    """The highest finalized block whose ancestors are all held and executed is final, and they with it."""
    if not state.behind():
        return
    for record in reversed(list(state.votes.ascending())):
        certificate = record.finalization
        block = None if certificate is None else state.tree.get(certificate.digest)
        if certificate is None or block is None or not state.tree.linked(block):
            continue
        for step in state.tree.path(block):
            if step.executed is False:
                raise InvariantError(f"the final block {step.digest.hex()} at height {step.height} is invalid "
                                     "here: this node's rules or state differ from the quorum's")
        if any(step.executed is None for step in state.tree.path(block)):
            continue
        path = state.tree.advance(block)
        state.emit(Finalize(tuple(step.digest for step in path), certificate))
        rooted(state, certificate, len(path))
        state.ended = state.boundary(block)
        return


def rooted(state: State, certificate: Certificate, gained: int) -> None:
    """The root has moved: forget what it settles."""
    state.root_certificate = certificate
    if state.final is None or certificate.view > state.final.view:
        state.final = certificate
    state.finalized_ms = state.now_ms
    state.delta.finalized(gained)
    state.votes.forget_up_to(certificate.view)
    state.requests.forget_up_to(certificate.view)
    state.tip_known = None
    dropped = tuple(block.digest for block in state.tree.prune() if block.handed_out)
    if dropped:
        state.emit(Drop(dropped))


def give_up(state: State, why: str) -> None:
    """NULLIFY the present view, once; never after FINALIZE in it."""
    record = state.votes.at(state.view)
    if not state.signs_in(state.view) or record.voted(Kind.NULLIFY, state.me) or record.voted(Kind.FINALIZE, state.me):
        return
    state.peers[state.authorities.leader(state.view)].late_views += 1
    state.note("given up", state.view, why)
    cast(state, Kind.NULLIFY, state.view)
