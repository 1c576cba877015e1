"""Epochs: how one ends, what is said across its end, and who may sign after a lost or restored log."""

from __future__ import annotations

import pytest
from consensus_support import GENESIS, Bench, notes, of, sent

from gridtokenx.consensus.config import ConsensusConfig, Recovered, Root
from gridtokenx.consensus.epochs import MAX_BUFFERED, MAX_BUFFERED_PROPOSALS, Consensus, EpochStart
from gridtokenx.consensus.interface import Answer, Barred, Build, CatchUp, Effect, Finalize, Persist, Send
from gridtokenx.consensus.messages import (
    Certificate,
    GetVotes,
    Kind,
    KnownVotes,
    Message,
    Propose,
    Status,
    Vote,
    vote_content,
)
from gridtokenx.consensus.standing import Standing
from gridtokenx.sim import toy
from gridtokenx.sim.registry import Registry, RegistrySigner

KEYS = tuple(map(toy.key_of, range(4)))
IDS = (b"i" * 32,)


def boundary_bench(**options) -> Bench:
    """The first block ends the epoch."""
    return Bench(4, boundary=1, **options)


def test_what_follows_a_boundary_block_is_that_block_again():
    bench = boundary_bench(leads=3)
    header = bench.block(1, ids=IDS)
    bench.votes(Kind.NULLIFY, 2)
    assert bench.core.view == 3
    effects = bench.advance(400)
    assert not of(effects, Build)
    offer = sent(effects, Propose)[0].message
    assert offer.view == 3 and offer.header == header.encode() and offer.transaction_ids == IDS
    assert Persist(offer) in effects and "boundary offered again" in notes(effects)
    effects = bench.votes(Kind.NOTARIZE, 3, header.hash)
    assert [send.message.view for send in sent(effects, Kind.FINALIZE)] == [3]
    effects = bench.votes(Kind.FINALIZE, 3, header.hash)
    assert of(effects, Finalize)[0].digests == (header.hash,)
    assert bench.core.ended and bench.step_all(Status(0, 3, 0, 0, bench.clock_ms)) == []


def test_a_voter_takes_the_boundary_block_again():
    bench = boundary_bench()
    header = bench.block(1, ids=IDS)
    bench.votes(Kind.NULLIFY, 2)
    effects = bench.propose(header, view=3, ids=IDS)
    assert [send.message.digest for send in sent(effects, Kind.NOTARIZE)] == [header.hash]


def test_the_boundary_block_may_be_final_in_an_earlier_view():
    bench = boundary_bench()
    header = bench.block(1)
    bench.votes(Kind.NULLIFY, 2)
    bench.propose(header, view=3)
    effects = bench.votes(Kind.FINALIZE, 1, header.hash)
    assert of(effects, Finalize) and bench.core.ended


def test_offered_again_it_must_be_notarized_and_the_rest_nullified():
    bench = boundary_bench()
    header = bench.header(1)
    bench.propose(header)
    bench.executed(header)
    bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 2))
    assert not sent(bench.propose(header, view=3), Kind.NOTARIZE), "not notarized"
    bench = boundary_bench()
    header = bench.block(1)
    bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 3))
    assert bench.core.view == 4
    assert not sent(bench.propose(header, view=4), Kind.NOTARIZE), "view 2 is not nullified here"
    effects = bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 2))
    assert sent(effects, Kind.NOTARIZE)


def test_nothing_else_may_follow_a_boundary_block():
    bench = boundary_bench(leads=3)
    header = bench.block(1)
    child = bench.header(2, header)
    effects = bench.propose(child)
    assert sent(effects, Kind.NULLIFY) and not sent(effects, Kind.NOTARIZE)


def test_a_block_of_another_view_is_refused_before_the_boundary():
    bench = Bench(4, leads=3)
    header = bench.block(1)
    assert sent(bench.propose(header, view=2), Kind.NULLIFY)


# ---------------------------------------------------------------- across the end


class Member:
    """`Consensus` of node `me` among four, by hand."""

    def __init__(self, me: int = 0, *, epoch: int = 0, lost: bool = False, barred: int = -1,
                 recovered: Recovered | None = None, root_view: int = 0) -> None:
        self.registry, self.now_ms, self.me = Registry(), 0, me
        self.signer = RegistrySigner(self.registry, me)
        self.consensus = Consensus(
            toy.key_of(me), self.signer, lambda _: self.registry, self.start(epoch, root_view),
            recovered or Recovered(), 0, self.clock_ms, lost=lost, barred=barred)

    @property
    def clock_ms(self) -> int:
        return GENESIS.timestamp_ms + self.now_ms + 1_000

    def start(self, epoch: int, root_view: int = 0, keys: tuple[bytes, ...] = KEYS) -> EpochStart:
        config = ConsensusConfig(toy.CHAIN_ID, epoch, keys, GENESIS.hash, boundary=100 * (epoch + 1))
        previous = None if not epoch else self.certificate(epoch - 1)
        return EpochStart(config, Root(GENESIS.hash, epoch * 100, root_view, GENESIS.timestamp_ms), previous)

    def certificate(self, epoch: int, kind: Kind = Kind.FINALIZE, view: int = 7,
                    signers: tuple[int, ...] = (1, 2, 3)) -> Certificate:
        name = b"" if kind is Kind.NULLIFY else GENESIS.hash
        return Certificate(kind, epoch, view, name, signers,
                           tuple(self.vote(kind, epoch, view, signer).signature for signer in signers))

    def vote(self, kind: Kind, epoch: int, view: int, signer: int) -> Vote:
        name = b"" if kind is Kind.NULLIFY else GENESIS.hash
        return Vote(kind, epoch, view, name, signer,
                    self.registry.sign(signer, vote_content(kind, epoch, view, name)))

    def receive(self, sender: int, message: Message, after_ms: int = 0) -> list[Effect]:
        self.now_ms += after_ms
        return self.consensus.receive(toy.key_of(sender), message, self.now_ms, self.clock_ms)

    def begin(self, epoch: int, keys: tuple[bytes, ...] = KEYS) -> list[Effect]:
        return self.consensus.begin(self.start(epoch, keys=keys), self.now_ms, self.clock_ms)

    def answers(self, *, epoch: int = 0, settled: int = 0, votes: tuple[Vote, ...] = (), count: int = 2
                ) -> list[Effect]:
        effects: list[Effect] = []
        for other in [node for node in range(4) if node != self.me][:count]:
            effects += self.receive(other, KnownVotes(epoch, settled, known(*votes)))
        return effects


def known(*votes: Vote) -> tuple:
    return tuple((vote.kind, vote.epoch, vote.view, vote.digest, vote.signature) for vote in votes)


def test_votes_of_the_next_epoch_wait_for_it():
    member = Member()
    member.answers()
    for signer in (1, 2, 3):
        assert not of(member.receive(signer, member.vote(Kind.NULLIFY, 1, 1, signer)), Persist)
    effects = member.begin(1)
    assert Kind.NULLIFY in [effect.record.kind for effect in of(effects, Persist)
                            if isinstance(effect.record, Certificate)]
    assert member.consensus.core.view == 2


def test_what_waits_is_bounded():
    member = Member()
    for view in range(1, 400):
        member.receive(1, member.vote(Kind.NULLIFY, 1, view, 1))
        member.receive(2, Propose(1, view, b"", (), 2, bytes(64)))
        member.receive(3, member.vote(Kind.NULLIFY, 2, view, 3))
    waiting = member.consensus._waiting
    assert len(waiting[toy.key_of(1)].messages) == 100 <= MAX_BUFFERED
    assert len(waiting[toy.key_of(2)].messages) == MAX_BUFFERED_PROPOSALS
    assert toy.key_of(3) not in waiting


def test_a_status_of_an_epoch_before_is_answered_with_its_end():
    member = Member(epoch=1)
    for sender in (1, 9):                       # also one that is no authority any more
        effects = of(member.receive(sender, Status(0, 3, 90, 90, 0)), Answer)
        assert effects[0].message == member.consensus.start.previous
        assert isinstance(effects[1].message, Status) and {effect.to for effect in effects} == {toy.key_of(sender)}
    assert not member.receive(1, Status(0, 3, 90, 90, 0)), "not more often than every 100 ms"
    assert not member.receive(1, member.vote(Kind.NULLIFY, 0, 1, 1), 200)


def test_sync_is_asked_for_when_more_than_f_are_in_a_later_epoch():
    member = Member()
    assert not of(member.receive(1, Status(5, 1, 600, 600, 0)), CatchUp)
    assert not of(member.receive(1, Status(5, 1, 600, 600, 0), 1_500), CatchUp), "one alone may lie"
    assert not of(member.receive(2, Status(5, 1, 600, 600, 0)), CatchUp)
    (effect,) = of(member.receive(2, Status(5, 1, 600, 600, 0), 1_000), CatchUp)
    assert effect.certificate is None and set(effect.holders) == {1, 2}
    assert not of(member.receive(1, Status(5, 1, 600, 600, 0), 100), CatchUp)


def test_who_left_follows_and_who_joins_begins_to_vote():
    member = Member(me=3)
    member.answers()
    assert member.consensus.core is not None
    member.begin(1, KEYS[:3])
    assert member.consensus.core is None and member.consensus.deadline_ms is None
    assert member.receive(1, Status(1, 1, 100, 100, 0)) == []
    member.begin(2)
    assert not member.consensus.core.may_sign, "it asks first"
    member.answers(epoch=2)
    assert member.consensus.core.may_sign


# ---------------------------------------------------------------- may it sign?


def test_nothing_is_signed_before_q_minus_1_have_answered():
    member = Member()
    asked = of(member.receive(1, Status(0, 1, 0, 0, 0)), Answer)
    assert {effect.to for effect in asked if isinstance(effect.message, GetVotes)} == set(KEYS[1:])
    member.answers(count=1)
    member.answers(count=1)
    assert not member.consensus.core.may_sign
    again = of(member.receive(1, Status(0, 1, 0, 0, 0), 600), Answer)
    assert {effect.to for effect in again if isinstance(effect.message, GetVotes)} == set(KEYS[2:])
    member.answers(count=2)
    assert member.consensus.core.may_sign


def test_others_votes_are_told():
    member = Member()
    member.answers()
    for kind, view in ((Kind.NULLIFY, 1), (Kind.NULLIFY, 4), (Kind.NOTARIZE, 2)):
        member.receive(2, member.vote(kind, 0, view, 2))
    member.receive(2, member.vote(Kind.NULLIFY, 1, 3, 2))
    (answer,) = of(member.receive(2, GetVotes(0)), Answer)
    assert {(kind, epoch, view) for kind, epoch, view, _, _ in answer.message.votes} == {
        (Kind.NULLIFY, 0, 4), (Kind.NOTARIZE, 0, 2), (Kind.NULLIFY, 1, 3)}
    assert of(member.receive(9, GetVotes(0)), Answer)[0].message.votes == ()
    assert not member.receive(9, GetVotes(0)), "not more often than every 100 ms"


def test_a_restored_log_is_found_out_and_signs_from_the_next_epoch_on():
    member = Member()
    effects = member.answers(votes=(member.vote(Kind.FINALIZE, 0, 5, 0),))
    assert [effect.epoch for effect in of(effects, Barred)] == [0]
    assert not member.consensus.core.may_sign
    member.begin(1)
    assert not member.consensus.core.may_sign, "it asks again"
    member.answers(epoch=1)
    assert member.consensus.core.may_sign
    member.begin(2)
    assert member.consensus.core.may_sign, "an epoch that begins while it signs needs no question"


def test_own_votes_in_the_log_or_of_settled_views_are_no_news():
    cast = Member().vote(Kind.FINALIZE, 0, 5, 0)
    for options in ({"recovered": Recovered(votes=(cast,))}, {"root_view": 5}):
        member = Member(**options)
        assert not of(member.answers(votes=(member.vote(Kind.FINALIZE, 0, 5, 0),)), Barred)
        assert member.consensus.core.may_sign


def test_nobody_can_bar_another_with_votes_that_it_did_not_cast():
    member = Member()
    forged = member.vote(Kind.FINALIZE, 0, 5, 1)
    assert not of(member.answers(votes=(forged,)), Barred) and member.consensus.core.may_sign


def test_a_certificate_with_an_own_vote_that_the_log_does_not_hold():
    member = Member()
    member.answers()
    effects = member.receive(1, member.certificate(0, Kind.NULLIFY, 3, (0, 1, 2)))
    assert [effect.epoch for effect in of(effects, Barred)] == [0]
    assert not [effect for effect in of(effects, Send) if isinstance(effect.message, Vote)]
    assert not member.consensus.core.may_sign


@pytest.mark.parametrize(("claims", "barred"), [((2, 2), 2), ((2, 3), 3), ((2, 1 << 60), 3), ((0, 0), 2)])
def test_a_lost_log_waits_for_the_epoch_after_that_of_the_others(claims, barred):
    """One of four may lie: what it claims beyond the rest counts for one epoch."""
    member = Member(epoch=2, lost=True)
    effects = [effect for other, epoch in enumerate(claims, 1)
               for effect in member.receive(other, KnownVotes(epoch, 0, ()))]
    assert [effect.epoch for effect in of(effects, Barred)] == [barred]


def test_an_epoch_in_which_it_voted_before_is_not_taken_for_a_new_one():
    member = Member(lost=True)
    member.answers()
    member.begin(1)
    effects = member.answers(epoch=1, votes=(member.vote(Kind.NULLIFY, 1, 1, 0),))
    assert [effect.epoch for effect in of(effects, Barred)] == [1]
    assert not member.consensus.core.may_sign


def test_views_that_more_than_f_call_settled_are_not_voted_in():
    member = Member()
    member.receive(1, KnownVotes(0, 1 << 60, ()))
    member.receive(2, KnownVotes(0, 9, ()))
    state = member.consensus.core._state
    assert not state.signs_in(9) and state.signs_in(10)


def test_alone_there_is_nobody_to_ask():
    standing = Standing(RegistrySigner(Registry(), 0))
    standing.enters(0, KEYS[:1], KEYS[0], 0)
    assert standing.may_sign
