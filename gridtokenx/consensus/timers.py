"""Rules 7 to 10 of CONSENSUS 5: when to give up, what to offer again, whom to pass over, what to say when idle."""

from __future__ import annotations

from gridtokenx.consensus.messages import MAX_WAKE_HASHES, Kind, Message, Wake
from gridtokenx.consensus.missing import behind_far
from gridtokenx.consensus.peers import BEHIND_HEIGHTS
from gridtokenx.consensus.reasons import block_allowance_ms, reason_ms
from gridtokenx.consensus.rules import give_up
from gridtokenx.consensus.state import RETRY_EVERY_MS, State

STATUS_EVERY_MS = 1_000
MAX_FINALIZE_OFFERS = 32


def rule_7_timers(state: State) -> None:
    """Armed by a reason; NULLIFY without a header in 2 delta, without a way out in 3, plus execution."""
    record = state.votes.at(state.view)
    if record.voted(Kind.NULLIFY, state.me):
        return
    if state.armed_ms is None:
        since_ms = reason_ms(state)
        if since_ms > state.now_ms:
            state.due(since_ms)
            return
        state.armed_ms = state.now_ms
    delta_ms = state.delta.ms
    if record.proposal is None:
        expected_ms = state.speed.execution_ms(state.work.weight, delta_ms)
        limit_ms = state.armed_ms + 2 * delta_ms + expected_ms
        wake_others(state, state.armed_ms + delta_ms // 2)
    else:
        limit_ms = state.armed_ms + 3 * delta_ms + block_allowance_ms(state, record.proposal)
    if state.now_ms < limit_ms:
        state.due(limit_ms)
    elif reason_ms(state) > state.now_ms:
        state.armed_ms = None                            # the reason has gone
        state.due(reason_ms(state))
    else:
        give_up(state, "no header" if record.proposal is None else "no way out")


def wake_others(state: State, at_ms: int) -> None:
    """WAKE once per view, if the leader had time to hear of the work and yet offers nothing."""
    if state.woke or not state.work.weight or not state.work.ids or (
            state.authorities.leader(state.view) == state.me):
        return
    if state.now_ms < at_ms:
        state.due(at_ms)
        return
    state.woke = True
    state.send(Wake(state.work.ids[:MAX_WAKE_HASHES]))


def rule_8_retry(state: State) -> None:
    """While anything is unfinalized, every 500 ms: own votes, and the certificate that admits the view."""
    record = state.votes.seen(state.view)
    voted = record is not None and (record.voted(Kind.NOTARIZE, state.me) or record.voted(Kind.NULLIFY, state.me))
    if not voted and not state.behind() and state.tip()[0] is state.tree.root:
        state.retry_ms = state.now_ms + RETRY_EVERY_MS
        return
    if state.now_ms >= state.retry_ms:
        state.retry_ms = state.now_ms + RETRY_EVERY_MS
        offers: list[Message] = []
        signs = state.signs_in(state.view)      # else what is known as own came from others: it is not durable here
        if state.now_ms - state.entered_ms >= RETRY_EVERY_MS // 2:
            if state.admitted_by is not None:
                offers.append(state.admitted_by)
            if not signs:
                pass
            elif state.own_proposal is not None:
                offers.append(state.own_proposal)
            elif record is not None and record.voted(Kind.NOTARIZE, state.me):
                offers.append(record.votes[Kind.NOTARIZE][state.me])
            if signs and record is not None and record.voted(Kind.NULLIFY, state.me):
                offers.append(record.votes[Kind.NULLIFY][state.me])
        unfinalized = [known.votes[Kind.FINALIZE][state.me] for known in state.votes.ascending()
                       if signs and known.finalization is None and known.voted(Kind.FINALIZE, state.me)]
        for offer in (*offers, *unfinalized[-MAX_FINALIZE_OFFERS:]):
            state.send(offer)
    state.due(state.retry_ms)


def rule_9_silent_leader(state: State) -> None:
    """A leader that is silent or far behind is passed over, idle or not; it passes over itself."""
    record = state.votes.at(state.view)
    if record.proposal is not None or record.voted(Kind.NULLIFY, state.me):
        return
    leader = state.authorities.leader(state.view)
    if leader == state.me:
        far = state.peers.height_of_some_honest(state.authorities.f) - state.tree.root.height
        if behind_far(state) or far > BEHIND_HEIGHTS:
            give_up(state, "behind")
    elif state.peers.silent(leader, state.now_ms):
        give_up(state, "silent leader")


def rule_10_status(state: State) -> None:
    """STATUS every second, all there is when idle."""
    if state.now_ms >= state.status_ms:
        state.status_ms = state.now_ms + STATUS_EVERY_MS
        state.send(state.status())
    state.due(state.status_ms)
