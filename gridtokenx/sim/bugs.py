"""Deliberate protocol bugs, for the simulator alone: each leaves out or turns round one rule, and must be caught.

A simulation that finds nothing proves little unless it finds these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from attrs import frozen

from gridtokenx.consensus import authorities, core, events, missing, reasons, revival, rules, timers, votes
from gridtokenx.consensus.authorities import faulty_at_most
from gridtokenx.consensus.config import HeldBlock
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.consensus.interface import Persist
from gridtokenx.consensus.messages import Certificate, Kind, Vote, vote_content
from gridtokenx.consensus.pace import Delta
from gridtokenx.consensus.requests import ASK_AGAIN_MS, Requests, Want
from gridtokenx.consensus.standing import Standing
from gridtokenx.consensus.state import State
from gridtokenx.consensus.votes import Proposal, ViewRecord, Votes
from gridtokenx.ledger.block import Header
from gridtokenx.sim.node import SimulatedNode
from gridtokenx.sim.setting import Told
from gridtokenx.sim.simulation import run_seed

_MODULES = (authorities, core, events, missing, reasons, revival, rules, timers, votes)


@frozen
class Bug:
    """`target` is a function of the consensus package (replaced in every module that uses it) or (class or module,
    name)."""

    name: str
    target: Callable[..., Any] | tuple[Any, str]
    replacement: Callable[..., Any] | property
    run: Callable[[int], Any] = run_seed
    whole: bool = False                   # `run` runs whole nodes
    more: tuple[tuple[Any, str, Any], ...] = ()     # what else is replaced: (class or module, name, replacement)

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        patches = []
        if isinstance(self.target, tuple):
            patches.append(mock.patch.object(self.target[0], self.target[1], self.replacement))
        else:
            name = self.target.__name__
            patches.extend(mock.patch.object(module, name, self.replacement)
                           for module in _MODULES if getattr(module, name, None) is self.target)
        patches.extend(mock.patch.object(*patch) for patch in self.more)
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()

    def caught_after(self, seeds: int, start: int = 0) -> tuple[int, str] | None:
        """How many seeds it took until a run failed, and how; None if none of `seeds` did."""
        with self.switched_on():
            for count, seed in enumerate(range(start, start + seeds), 1):
                try:
                    self.run(seed)
                except Exception as error:  # noqa: BLE001 - a bug may show as anything
                    return count, f"{type(error).__name__}: {error}"
        return None


def _send_then_persist(state: State, kind: Kind, view: int, name: bytes = b"") -> None:
    epoch = state.config.epoch
    vote = Vote(kind, epoch, view, name, state.me, state.signer.sign(vote_content(kind, epoch, view, name)))
    state.send(vote)
    state.emit(Persist(vote))
    state.votes.add_own(vote)
    rules.count(state, vote)


def _finalize_though_given_up(state: State, record: ViewRecord) -> None:
    certificate = record.notarization
    if certificate is None or record.voted(Kind.FINALIZE, state.me) or record.view <= state.tree.root.view:
        return
    block = state.tree.get(certificate.digest)
    if block is not None and block.held and block.executed is True:
        rules.cast(state, Kind.FINALIZE, record.view, block.digest)


_acceptable, _learn = rules.acceptable, rules.learn


def _vote_without_executing(state: State, proposal: Proposal) -> bool:
    _acceptable(state, proposal)
    return True


def _learn_without_logging(state: State, certificate: Any) -> None:
    before = len(state.effects)
    _learn(state, certificate)
    state.effects[before:] = [effect for effect in state.effects[before:]
                              if not (isinstance(effect, Persist) and effect.record == certificate)]


def _nothing(*_: Any) -> None:
    return None


def _again_without_nullifications(state: State, proposal: Proposal, header: Header) -> bool:
    return rules.executed_here(state, proposal, header)


def _ask_nobody(standing: Standing) -> str:
    standing.asking = False
    return ""


def _sends_at_once(node: SimulatedNode) -> None:
    """As if every write were durable when it was made: the sync is left out."""
    honest, node.disk.durable = node.disk.durable, [None] * node.disk.appended  # type: ignore[list-item]
    try:
        _flush(node)
    finally:
        node.disk.durable = honest


def _told_at_once(node: SimulatedNode, block: HeldBlock, certificate: Certificate | None) -> None:
    _final(node, block, certificate)
    told = node._outbox.pop()[1]
    assert isinstance(told, Told)
    node._tell(told)


def _quorum_less_one(votes: Votes, kind: Kind, view: int, name: bytes) -> Certificate | None:
    record, enough = votes.at(view), votes._authorities.quorum - 1
    agreed = sorted(signer for signer, vote in record.votes[kind].items() if vote.digest == name)
    if kind in record.certificates or len(agreed) < enough:
        return None
    return Certificate(kind, votes._epoch, view, name, tuple(agreed),
                       tuple(record.votes[kind][signer].signature for signer in agreed))


def _heartbeat_since_entering(state: State) -> int:
    """A view that was given up puts the heartbeat off."""
    tip = state.tip()[0]
    if tip is None:
        return _reason_ms(state)
    since, tip.notarized_ms = tip.notarized_ms, state.entered_ms
    try:
        return _reason_ms(state)
    finally:
        tip.notarized_ms = since


def _any_old_time(state: State, proposal: Proposal) -> bool:
    if proposal.header is not None:
        proposal.received_clock_ms = min(proposal.received_clock_ms, proposal.header.timestamp_ms)
    return _acceptable(state, proposal)


def _all_at_once(requests: Requests, now_ms: int) -> list[Want]:
    for want in requests.wanted.values():
        want.asked_ms = now_ms - ASK_AGAIN_MS
    return list(requests.wanted.values())


_reason_ms = reasons.reason_ms
_flush, _final = SimulatedNode._flush, SimulatedNode._final


BUGS = (
    Bug("vote sent before it is logged", rules.cast, _send_then_persist),
    Bug("quorum of 2f + 1", authorities.quorum_of, lambda n: 2 * faulty_at_most(n) + 1),
    Bug("skipped views need no nullification", rules.skipped_without_nullification, _nothing),
    Bug("FINALIZE in a view given up", rules.rule_4_vote_finalize, _finalize_though_given_up),
    Bug("own votes forgotten at restart", revival.recover_vote, _nothing),
    Bug("parent need not be notarized", (State, "notarized"), lambda *_: True),
    Bug("vote without body and execution", rules.acceptable, _vote_without_executing),
    Bug("notarization not logged before FINALIZE", rules.learn, _learn_without_logging),
    Bug("certificates not verified", (Votes, "check"), lambda *_: []),
    Bug("missing blocks not asked for", missing.ask_for_blocks, _nothing),
    Bug("missing certificates not asked for", missing.ask_certificates, _nothing),
    Bug("nobody gives up", rules.give_up, _nothing),
    Bug("nothing is offered again", timers.rule_8_retry, _nothing),
    Bug("unfinalized transactions are no reason", reasons.unfinalized_transactions, lambda *_: False),
    Bug("heartbeat since the view was entered", reasons.reason_ms, _heartbeat_since_entering),
    Bug("delta does not grow", (Delta, "view_passed"), _nothing),
    Bug("stamps of any age accepted", rules.acceptable, _any_old_time),
    Bug("missing blocks asked for without a pause", (Requests, "due"), _all_at_once),
    Bug("always a reason", reasons.reason_ms, lambda *_: 0),
    Bug("recovered blocks not executed again", revival.execute_recovered, _nothing),
    Bug("sends do not wait for the sync", (SimulatedNode, "_flush"), _sends_at_once),
    Bug("finality told before it is durable", (SimulatedNode, "_final"), _told_at_once),
    Bug("a quorum less one makes a certificate", (Votes, "quorum"), _quorum_less_one),
    Bug("signers of certificates not looked at", votes.check_signers, _nothing),
    Bug("no STATUS", timers.rule_10_status, _nothing),
    Bug("boundary block not offered again", rules.offer_again, _nothing),
    Bug("boundary offered again without nullifications", rules.acceptable_again, _again_without_nullifications),
    Bug("children of a boundary block", (State, "boundary"), lambda *_: False),
    Bug("the end of an epoch is not told", (Consensus, "_tell_end"), lambda *_: []),
    Bug("who is epochs behind does not ask", (Consensus, "_behind"), _nothing),
    Bug("a lost log signs at once", (Standing, "may_sign"), property(lambda _: True)),
    Bug("after a start nobody is asked", (Standing, "_conclude"), _ask_nobody),
)
