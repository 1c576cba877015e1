"""Simplex as a pure state machine (CONSENSUS 5): `Core.step(event, now_ms, clock_ms) -> effects`.

No I/O, no clock, no randomness: the same events at the same times give the same effects. `events` has one handler
per event, `rules` and `timers` one function per numbered rule. Rules that depend on time are run after every event,
and note in passing when they want to be run again (`deadline_ms`).

Order of effects (CONSENSUS 6): a vote, proposal or certificate is `Persist`ed before the `Send` that carries it,
a notarization before the FINALIZE that relies on it. Bodies are in the log before the core is told of them.

If a node crashes, its log gives the next core its own votes, blocks and certificates (`Recovered`): it enters
the view that they admit and never votes twice in a view and kind.
"""

from __future__ import annotations

from gridtokenx.consensus import events, missing, revival, rules, timers
from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.config import ConsensusConfig, Recovered, Root, Signer, Verifier
from gridtokenx.consensus.interface import (
    BlockBuilt,
    BlockExecuted,
    BlockHeld,
    CaughtUp,
    Effect,
    Event,
    MessageReceived,
    Tick,
    WorkPending,
)
from gridtokenx.consensus.messages import Kind, Status, Vote
from gridtokenx.consensus.state import State
from gridtokenx.consensus.statistics import AuthorityStatistics, Statistics

_FAR = 1 << 60
_SETTLE_BOUND = 256


class Core:
    """One authority's consensus in one epoch."""

    def __init__(self, config: ConsensusConfig, me: int, signer: Signer, verifier: Verifier, root: Root,
                 recovered: Recovered, now_ms: int, clock_ms: int, *, may_sign: bool = True,
                 former: Core | None = None) -> None:
        """`may_sign` false: follow the chain, sign nothing (a lost or restored log, CONSENSUS 6). `former` is the
        core of the epoch before, if it ran here."""
        self._state = State(config, me, signer, verifier, root, now_ms, clock_ms, may_sign)
        if former is not None:
            self._state.inherit(former._state)
        revival.recover(self._state, recovered)

    def step(self, event: Event, now_ms: int, clock_ms: int) -> list[Effect]:
        """Handles one event. `now_ms` is monotonic, `clock_ms` the wall clock in Unix ms.

        Raises InvariantError when the safety of the chain is gone: two certificates where one can be, or a
        final block that is invalid here.
        """
        state = self._state
        state.now_ms = max(state.now_ms, now_ms)
        state.clock_ms = clock_ms
        effects: list[Effect] = []
        state.effects = effects
        if state.ended:
            return effects
        if state.recovering:
            state.recovering = False
            revival.want_recovered(state)
        match event:
            case MessageReceived(sender, message):
                events.on_message(state, sender, message)
            case BlockHeld():
                events.on_block_held(state, event)
            case BlockExecuted():
                events.on_block_executed(state, event)
            case BlockBuilt():
                events.on_block_built(state, event)
            case WorkPending(weight, transaction_ids):
                state.work.pending(weight, transaction_ids, state.now_ms)
            case CaughtUp():
                events.on_caught_up(state, event)
            case Tick():
                pass
        if state.revive:
            revival.execute_recovered(state)
        self._settle()
        return effects

    def _settle(self) -> None:
        """Runs the rules that depend on the present view until nothing moves, and finds the next deadline."""
        state = self._state
        for _ in range(_SETTLE_BOUND):
            if state.ended:
                break
            before = (state.view, state.tree.root.digest)
            state.next_ms = _FAR
            timers.rule_9_silent_leader(state)
            rules.rule_3_notarize(state)
            rules.rule_2_propose(state)
            timers.rule_7_timers(state)
            if before == (state.view, state.tree.root.digest):
                break
        if state.ended:
            state.next_ms = _FAR
            return
        timers.rule_8_retry(state)
        timers.rule_10_status(state)
        missing.ask_for_blocks(state)
        missing.catch_up(state)
        state.next_ms = max(state.next_ms, state.now_ms + 1)

    def allow(self, may_sign: bool, above_view: int = 0) -> None:
        """Whether anything may be signed, and from which view on."""
        self._state.may_sign = may_sign
        self._state.signs_above = max(self._state.signs_above, above_view)

    # ------------------------------------------------------------ to be read

    @property
    def ended(self) -> bool:
        """The boundary block of the epoch is final: another core goes on from there."""
        return self._state.ended

    @property
    def forgot(self) -> bool:
        """A certificate holds a vote of this authority that its log does not: the log was restored or lost."""
        return self._state.forgot

    def status(self) -> Status:
        """What it would say of itself now."""
        return self._state.status()

    @property
    def may_sign(self) -> bool:
        return self._state.may_sign

    @property
    def finalized_view(self) -> int:
        """The view up to which all is settled."""
        return self._state.tree.root.view

    def newest_votes(self, authority: int) -> list[Vote]:
        """What was counted last of an authority's votes, one of each kind."""
        return self._state.votes.newest_of(authority)

    @property
    def authorities(self) -> Authorities:
        return self._state.authorities

    @property
    def deadline_ms(self) -> int | None:
        """The monotonic time at which the core wants a Tick."""
        return self._state.next_ms

    @property
    def view(self) -> int:
        return self._state.view

    @property
    def tip(self) -> bytes | None:
        """The block that the present view would extend; None while a certificate or body is missing."""
        block = self._state.tip()[0]
        return None if block is None else block.digest

    @property
    def finalized(self) -> tuple[int, bytes]:
        """Height and digest of the last block that was final, held and executed."""
        return self._state.tree.root.height, self._state.tree.root.digest

    def statistics(self) -> Statistics:
        state = self._state
        root = state.tree.root
        tip = state.tip()[0] or root
        record = state.votes.seen(state.view)
        return Statistics(
            epoch=state.config.epoch, view=state.view, leader=state.authorities.leader(state.view),
            given_up=record is not None and record.voted(Kind.NULLIFY, state.me),
            armed=state.armed_ms is not None, delta_ms=state.delta.ms,
            clock_correction_ms=state.clocks.correction_ms(state.now_ms), finalized_height=root.height,
            finalized_view=root.view, finalized_digest=root.digest, tip_height=tip.height,
            unfinalized=tip.height - root.height, catching_up=state.behind(),
            authorities=tuple(self._authority(index) for index in range(state.authorities.n)))

    def _authority(self, index: int) -> AuthorityStatistics:
        state = self._state
        peer = state.peers[index]
        own = index == state.me
        status = peer.status
        return AuthorityStatistics(
            index=index, silent=not own and state.peers.silent(index, state.now_ms),
            heard_ms_ago=0 if own else state.now_ms - peer.heard_ms, late_views=peer.late_views,
            clock_offset_ms=0 if own else state.clocks.offset_of(index),
            view=state.view if own else None if status is None else status.view,
            finalized_height=state.tree.root.height if own else None if status is None else status.finalized_height)
