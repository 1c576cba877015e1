"""Rule 7, first half: what gives a view a reason, and from when (CONSENSUS 5)."""

from __future__ import annotations

from gridtokenx.consensus.messages import Kind
from gridtokenx.consensus.pace import transfer_ms
from gridtokenx.consensus.state import State
from gridtokenx.consensus.tree import Block
from gridtokenx.consensus.votes import Proposal

STAMP_TOLERANCE_MS = 500


def reason_ms(state: State) -> int:
    """Since or from when the view has a reason, but not before the parent's time + the minimum interval."""
    config, delta_ms = state.config, state.delta.ms
    leading = state.authorities.leader(state.view) == state.me
    record = state.votes.seen(state.view)
    known_tip = state.tip()[0]
    tip = known_tip or state.tree.root
    tip_ms = state.entered_ms if known_tip is None or tip.notarized_ms is None else tip.notarized_ms
    reasons = [tip_ms + config.block_time_ms + (0 if leading else delta_ms)]          # heartbeat
    if (since_ms := state.work.since_ms(state.now_ms)) is not None:                   # pending work
        linger_ms = state.work.linger_ms(config.linger_ms, config.max_block_weight) if leading else 0
        reasons.append(since_ms + linger_ms)
    if leading and (woken_ms := state.work.woken_ms(state.now_ms)) is not None:          # woken
        reasons.append(woken_ms + delta_ms // 2)
    if tip.unfinished:                                                                # timed work
        reasons.append(tip_ms)
    if unfinalized_transactions(state, tip):
        # FINALIZE votes are on their way; a child is only needed if they do not suffice.
        reasons.append(tip_ms + 2 * delta_ms)
    if record is not None and (record.proposal is not None or record.votes[Kind.NOTARIZE]
                               or len(record.votes[Kind.NULLIFY]) > state.authorities.f):
        reasons.append(state.entered_ms)
    network_ms = state.clock_ms + (state.clocks.correction_ms(state.now_ms) or 0)
    wait_ms = tip.timestamp_ms + config.min_block_interval_ms - network_ms
    floor_ms = state.now_ms + min(max(wait_ms, 0), config.min_block_interval_ms + STAMP_TOLERANCE_MS)
    return max(min(reasons), floor_ms if wait_ms > 0 else 0)


def unfinalized_transactions(state: State, tip: Block) -> bool:
    """True iff a notarized block with transactions, or the epoch's boundary block, waits for finality."""
    return any(block.transaction_ids or state.boundary(block) for block in state.tree.path(tip))


def block_allowance_ms(state: State, proposal: Proposal) -> int:
    """2 E(weight) + body bytes / 2 MB/s for the proposed block, guessed while it is not held or executed."""
    block = state.tree.get(proposal.digest)
    count = len(proposal.transaction_ids)
    weight = block.weight if block is not None and block.executed else state.speed.weight_guess(count)
    body_bytes = None if block is None else block.body_bytes
    return (2 * state.speed.execution_ms(weight, state.delta.ms)
            + transfer_ms(body_bytes, count, state.config.max_block_bytes))
