"""The rules of CONSENSUS 5, one by one, on a single core."""

from __future__ import annotations

import pytest
from consensus_support import GENESIS, ROOT, Bench, notes, of, sent

from gridtokenx.consensus.config import HeldBlock, Recovered
from gridtokenx.consensus.interface import (
    BlockBuilt,
    BlockExecuted,
    BlockHeld,
    Build,
    CatchUp,
    CaughtUp,
    Drop,
    Execute,
    Fetch,
    Finalize,
    Misbehaviour,
    Persist,
    Send,
    Tick,
    WorkPending,
)
from gridtokenx.consensus.messages import Certificate, GetCertificates, Kind, Propose, Status, Vote, Wake
from gridtokenx.consensus.work import Work
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import InvariantError
from gridtokenx.sim import toy

IDS = (toy.transaction(1), toy.transaction(2))


def build_one(bench: Bench) -> tuple[Build, list[object]]:
    """The driver's answer to the Build that pending work brings about."""
    effects = bench.step(WorkPending(200, IDS)) + bench.advance(120)
    (build,) = of(effects, Build)
    assert isinstance(build, Build)
    header = toy.header_of(GENESIS, build.parent, build.view, build.timestamp_ms, bench.config.authorities[bench.me],
                           IDS)
    return build, list(bench.step(BlockBuilt(build.view, header, IDS, 500, 200)))


# ---------------------------------------------------------------- rule 1


def test_a_notarization_admits_only_with_the_body():
    bench = Bench()
    header = bench.header(1)
    effects = bench.receive(bench.others[0], bench.certificate(Kind.NOTARIZE, 1, header.hash))
    assert bench.core.view == 1
    (fetch,) = of(effects, Fetch)
    assert isinstance(fetch, Fetch) and fetch.digest == header.hash and bench.me not in fetch.holders
    bench.step(BlockHeld(header.hash, header, (), 0))
    assert bench.core.view == 2


@pytest.mark.parametrize("kind", [Kind.NULLIFY, Kind.FINALIZE])
def test_other_certificates_admit_at_once_and_from_afar(kind):
    bench = Bench()
    name = b"" if kind is Kind.NULLIFY else bench.header(250).hash
    bench.receive(bench.others[0], bench.certificate(kind, 250, name))
    assert bench.core.view == 251


def test_fetch_is_repeated_with_other_holders_first():
    bench = Bench(n=7)
    effects = bench.receive(bench.others[0], bench.certificate(Kind.NOTARIZE, 1, bench.header(1).hash))
    effects += bench.advance(1_100)
    fetches = of(effects, Fetch)
    assert len(fetches) == 3
    assert len({fetch.holders[0] for fetch in fetches if isinstance(fetch, Fetch)}) == 3


# ---------------------------------------------------------------- rule 2


def test_the_leader_with_work_proposes_at_once_and_logs_first():
    bench = Bench(leads=1)
    build, effects = build_one(bench)
    assert (build.view, build.height, build.parent, build.empty) == (1, 1, GENESIS.hash, False)
    assert build.timestamp_ms == bench.clock_ms - 120
    (proposed,) = sent(effects, Propose)
    assert effects.index(Persist(proposed.message)) < effects.index(proposed)


def test_no_block_sooner_than_the_minimum_interval():
    bench = Bench(leads=1, age_ms=40)
    assert not of(bench.step(WorkPending(200, IDS)), Build)
    assert not of(bench.advance(59), Build)
    (build,) = of(bench.advance(1), Build)
    assert isinstance(build, Build) and build.timestamp_ms == GENESIS.timestamp_ms + 100


def test_without_a_quorum_of_clocks_nobody_proposes_or_judges_time():
    bench = Bench(leads=1, heard=False)
    assert not of(bench.step(WorkPending(200, IDS)) + bench.advance(100), Build)
    bench.hear_all(without=bench.others[1:][:1])
    assert bench.core.statistics().clock_correction_ms is not None

    follower = Bench(heard=False)
    header = follower.header(1)
    follower.propose(header)
    assert not sent(follower.executed(header), Kind.NOTARIZE)
    assert sent(follower.hear_all(), Kind.NOTARIZE)


def test_the_stamp_is_the_median_of_the_clocks():
    bench = Bench(n=4, leads=1)
    for index, offset_ms in zip(bench.others, (700, 800, -900), strict=True):
        bench.receive(index, Status(0, 1, 0, 0, bench.clock_ms + offset_ms))
    bench.step(WorkPending(200, IDS))
    assert bench.core.statistics().clock_correction_ms == 0        # lower median of -900, 0, 700, 800


def test_a_built_block_comes_too_late_after_giving_up():
    bench = Bench(leads=1)
    effects = bench.step(WorkPending(200, IDS)) + bench.advance(1_000)
    (build,) = of(effects, Build)
    assert isinstance(build, Build) and sent(effects, Kind.NULLIFY)
    header = bench.header(1)
    effects = bench.step(BlockBuilt(1, header, (), 0, 0))
    assert of(effects, Drop) == [Drop((header.hash,))] and not sent(effects, Propose)


def test_the_parent_is_the_highest_notarized_block_and_missing_nullifications_are_asked_for():
    bench = Bench(leads=4)
    first = bench.block(1)
    effects = bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 3))
    assert bench.core.view == 4 and bench.core.tip is None
    effects += bench.advance(600)
    assert not of(effects, Build)
    asked = sent(effects, GetCertificates)
    assert [send.message.last for send in asked] == [2, 2] and asked[0].to != asked[1].to
    effects = bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 2))
    assert bench.core.tip == first.hash


# ---------------------------------------------------------------- rule 3


def test_a_good_proposal_is_executed_then_voted_for():
    bench = Bench()
    header = bench.header(1, ids=IDS)
    (execute,) = of(bench.propose(header, ids=IDS), Execute)
    assert execute == Execute(header.hash, header, IDS, bench.leader(1))
    assert not sent(bench.step(BlockHeld(header.hash, header, IDS, 500)), Kind.NOTARIZE)
    (vote,) = sent(bench.step(BlockExecuted(header.hash, True)), Kind.NOTARIZE)
    assert vote.to is None and vote.message.digest == header.hash


@pytest.mark.parametrize("what", ["invalid", "not the body"])
def test_an_invalid_block_is_nullified_at_once(what):
    bench = Bench()
    header = bench.header(1)
    bench.propose(header)
    if what == "invalid":
        bench.step(BlockHeld(header.hash, header, (), 0))
    effects = bench.step(BlockExecuted(header.hash, False, "roots differ"))
    assert sent(effects, Kind.NULLIFY) and not sent(effects, Kind.NOTARIZE)


def test_a_body_that_is_not_the_headers_says_nothing_about_the_block():
    """The leader gave this node other ids than the rest: q others notarize it, and it is final here too."""
    bench = Bench()
    header = bench.header(1)
    bench.propose(header)
    bench.step(BlockExecuted(header.hash, False, "ids are not those of the header"))
    bench.votes(Kind.NOTARIZE, 1, header.hash)
    bench.advance(600)
    bench.executed(header)
    effects = bench.votes(Kind.FINALIZE, 1, header.hash)
    assert of(effects, Finalize)


@pytest.mark.parametrize(("age_ms", "verdict"), [(0, "vote"), (700, "vote"), (900, "nullify"), (-400, "vote"),
                                                 (-600, "wait")])
def test_timestamps(age_ms, verdict):
    bench = Bench(age_ms=60_000)
    header = bench.header(1, age_ms=age_ms)
    effects = bench.propose(header) + bench.executed(header)
    assert bool(sent(effects, Kind.NOTARIZE)) == (verdict == "vote")
    assert bool(sent(effects, Kind.NULLIFY)) == (verdict == "nullify")
    if verdict == "wait":
        assert sent(bench.advance(100), Kind.NOTARIZE)


@pytest.mark.parametrize("wrong", ["height", "chain", "view", "proposer", "interval", "bytes"])
def test_a_header_that_cannot_be_right_is_refused(wrong):
    bench = Bench(age_ms=50 if wrong == "interval" else 1_000)
    header = bench.header(1)
    if wrong == "height":
        header = header.with_(height=2)
    elif wrong == "chain":
        header = header.with_(chain_id=bytes(32))
    elif wrong == "view":
        header = header.with_(view=2)
    elif wrong == "proposer":
        header = header.with_(proposer=bench.config.authorities[bench.me])
    if wrong == "bytes":
        vote = bench.vote(Kind.NOTARIZE, 1, digest(Domain.HEADER, b"junk"), bench.leader(1))
        effects = bench.receive(bench.leader(1), Propose(0, 1, b"junk", (), bench.leader(1), vote.signature))
    else:
        effects = bench.propose(header, view=1)
    assert sent(effects, Kind.NULLIFY)


def test_a_skipped_view_needs_its_nullification():
    bench = Bench(n=7)
    header = bench.header(3)
    bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 2))
    effects = bench.propose(header) + bench.executed(header)
    assert not sent(effects, Kind.NOTARIZE)
    assert sent(effects, GetCertificates)
    assert sent(bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, 1)) + bench.executed(header),
                Kind.NOTARIZE)


def test_only_the_first_proposal_counts_and_an_equivocating_leader_gets_no_finalize():
    bench = Bench()
    first, second = bench.header(1), bench.header(1, age_ms=1)
    bench.propose(first)
    effects = bench.propose(second)
    (evidence,) = of(effects, Misbehaviour)
    assert isinstance(evidence, Misbehaviour) and evidence.signer == bench.leader(1)
    assert {evidence.first.digest, evidence.second.digest} == {first.hash, second.hash}
    effects = bench.executed(first)
    assert [send.message.digest for send in sent(effects, Kind.NOTARIZE)] == [first.hash]
    effects = bench.votes(Kind.NOTARIZE, 1, first.hash)
    assert bench.core.view == 2 and not sent(effects, Kind.FINALIZE)


def test_a_proposal_of_another_than_the_leader_is_dropped():
    bench = Bench()
    other = next(index for index in bench.others if index != bench.leader(1))
    header = bench.header(1)
    vote = bench.vote(Kind.NOTARIZE, 1, header.hash, other)
    effects = bench.receive(other, Propose(0, 1, header.encode(), (), other, vote.signature))
    assert "dropped" in notes(effects) and not of(effects, Execute)


# ---------------------------------------------------------------- rules 4 to 6, votes and certificates


def test_a_quorum_notarizes_admits_and_finalizes():
    bench = Bench(n=5)
    header = bench.header(1)
    bench.propose(header)
    effects = bench.executed(header) + bench.votes(Kind.NOTARIZE, 1, header.hash)
    (certificate,) = sent(effects, Certificate)
    assert len(certificate.message.signers) == 4 and bench.core.view == 2
    (finalize,) = sent(effects, Kind.FINALIZE)
    assert effects.index(Persist(certificate.message)) < effects.index(finalize)
    effects = bench.votes(Kind.FINALIZE, 1, header.hash)
    (final,) = of(effects, Finalize)
    assert isinstance(final, Finalize) and final.digests == (header.hash,)
    assert bench.core.finalized == (1, header.hash)


def test_no_finalize_after_nullify():
    bench = Bench()
    header = bench.header(1)
    bench.propose(header)
    effects = bench.advance(400)
    assert sent(effects, Kind.NULLIFY)
    effects = bench.executed(header) + bench.votes(Kind.NOTARIZE, 1, header.hash)
    assert bench.core.view == 2 and not sent(effects, Kind.FINALIZE) and not sent(effects, Kind.NOTARIZE)


def test_a_descendants_finalization_finalizes_its_ancestors():
    bench = Bench()
    first = bench.block(1)
    bench.advance(100)
    second = bench.block(2, first)
    (final,) = of(bench.votes(Kind.FINALIZE, 2, second.hash), Finalize)
    assert isinstance(final, Finalize) and final.digests == (first.hash, second.hash)


def test_a_finalized_block_is_not_final_before_its_ancestors_are_held():
    """Also if the driver should execute it too early, which it never does."""
    bench = Bench()
    first = bench.header(1)
    bench.advance(100)
    second = bench.header(2, first)
    bench.receive(bench.others[0], bench.certificate(Kind.NOTARIZE, 1, first.hash))
    bench.receive(bench.others[0], bench.certificate(Kind.FINALIZE, 2, second.hash))
    assert not of(bench.executed(second), Finalize)
    assert of(bench.executed(first), Finalize)


def test_a_final_block_that_is_invalid_here_stops_the_core():
    bench = Bench()
    header = bench.header(1)
    bench.propose(header)
    bench.executed(header, valid=False)
    with pytest.raises(InvariantError, match="invalid here"):
        bench.receive(bench.others[0], bench.certificate(Kind.FINALIZE, 1, header.hash))


def test_two_finalizations_in_one_view_stop_the_core():
    bench = Bench()
    bench.receive(bench.others[0], bench.certificate(Kind.FINALIZE, 1, bench.header(1).hash))
    with pytest.raises(InvariantError, match="two FINALIZE certificates in view 1"):
        bench.receive(bench.others[0], bench.certificate(Kind.FINALIZE, 1, bench.header(1, age_ms=1).hash))


@pytest.mark.parametrize(("kinds", "guilty"), [
    (((Kind.NOTARIZE, b"a"), (Kind.NOTARIZE, b"b")), True), (((Kind.FINALIZE, b"a"), (Kind.FINALIZE, b"b")), True),
    (((Kind.FINALIZE, b"a"), (Kind.NULLIFY, b"")), True), (((Kind.NULLIFY, b""), (Kind.FINALIZE, b"a")), True),
    (((Kind.NOTARIZE, b"a"), (Kind.NULLIFY, b"")), False), (((Kind.NOTARIZE, b"a"), (Kind.NOTARIZE, b"a")), False),
])
def test_evidence(kinds, guilty):
    bench = Bench()
    signer = bench.others[0]
    effects = []
    for kind, letter in (*kinds, kinds[-1]):
        effects += bench.receive(signer, bench.vote(kind, 5, letter * 32, signer))
    assert len(of(effects, Misbehaviour)) == int(guilty)


def test_each_signature_is_verified_once():
    bench = Bench(n=7)
    name = bench.header(1).hash
    bench.votes(Kind.NOTARIZE, 1, name, count=3)
    before = bench.registry.verified
    bench.votes(Kind.NOTARIZE, 1, name, count=3)
    assert bench.registry.verified == before
    bench.receive(bench.others[0], bench.certificate(Kind.NOTARIZE, 1, name, tuple(bench.others[:5])))
    assert bench.registry.verified == before + 2
    bench.receive(bench.others[1], bench.certificate(Kind.NOTARIZE, 1, name, tuple(bench.others[1:6])))
    assert bench.registry.verified == before + 2


@pytest.mark.parametrize("wrong", ["too few", "twice", "stranger", "forged", "unsorted"])
def test_a_bad_certificate_is_dropped(wrong):
    bench = Bench()
    signers = {"too few": (0, 1), "twice": (0, 0, 1), "stranger": (0, 1, 9),
               "unsorted": (2, 1, 0)}.get(wrong, (0, 1, 2))
    certificate = bench.certificate(Kind.NULLIFY, 1, b"", signers)
    if wrong == "forged":
        certificate = Certificate(Kind.NULLIFY, 0, 1, b"", signers, (*certificate.signatures[:2], bytes(64)))
    effects = bench.receive(bench.others[0], certificate)
    assert "dropped" in notes(effects) and bench.core.view == 1 and not sent(effects, Certificate)


def test_forged_foreign_and_far_votes_are_not_counted():
    bench = Bench()
    signer, other = bench.others[:2]
    forged = Vote(Kind.NULLIFY, 0, 1, b"", signer, bytes(64))
    assert "dropped" in notes(bench.receive(signer, forged))
    assert "dropped" in notes(bench.receive(other, bench.vote(Kind.NULLIFY, 1, b"", signer)))
    bench.votes(Kind.NULLIFY, 102)
    bench.votes(Kind.NULLIFY, 1_000_000)
    assert bench.core.view == 1
    bench.votes(Kind.NULLIFY, 101)
    assert bench.core.view == 102


# ---------------------------------------------------------------- rule 7


def test_idle_means_status_only_until_the_heartbeat():
    bench = Bench(leads=1, age_ms=0)
    effects = []
    for _ in range(9):
        effects += bench.advance(1_000) + bench.hear_all()
    assert {type(effect.message) for effect in effects if isinstance(effect, Send)} == {Status}
    assert len([send for send in sent(effects, Status) if send.to is None]) == 9
    assert not of(effects, Build)
    bench.advance(900)
    bench.hear_all()
    assert of(bench.advance(200), Build)


def test_followers_arm_for_a_heartbeat_one_delta_after_it_is_due():
    bench = Bench(age_ms=0)
    for _ in range(10):
        bench.advance(1_000)
        bench.hear_all()
    effects = bench.advance(299)
    assert not sent(effects, Kind.NULLIFY)
    assert sent(bench.advance(1), Kind.NULLIFY)


def test_no_header_within_two_delta_of_a_reason():
    bench = Bench()
    bench.step(WorkPending(200, IDS))
    effects = bench.advance(199)
    assert not sent(effects, Kind.NULLIFY)
    assert [send.message.transaction_ids for send in sent(effects, Wake)] == [IDS]
    assert sent(bench.advance(1), Kind.NULLIFY)


def test_a_header_without_a_way_out_gets_three_delta():
    bench = Bench()
    bench.step(WorkPending(200, IDS))
    bench.advance(150)
    bench.propose(bench.header(1))
    assert not sent(bench.advance(149), Kind.NULLIFY)
    assert sent(bench.advance(1), Kind.NULLIFY)


def test_the_timer_is_disarmed_when_its_reason_has_gone():
    bench = Bench()
    bench.step(WorkPending(200, IDS))
    bench.advance(150)
    bench.step(WorkPending(0))
    assert not sent(bench.advance(1_000), Kind.NULLIFY)


def test_nullify_of_f_is_no_reason_and_of_f_plus_one_is():
    bench = Bench(n=7)
    bench.votes(Kind.NULLIFY, 1, count=2)
    assert not sent(bench.advance(1_000), Kind.NULLIFY)
    bench.hear_all()
    bench.votes(Kind.NULLIFY, 1, count=3)
    assert sent(bench.advance(200), Kind.NULLIFY)


def test_a_notarized_unfinalized_block_with_transactions_is_a_reason_and_an_empty_one_is_not():
    bench = Bench(leads=2)
    bench.block(1, ids=IDS)
    assert not of(bench.advance(190), Build)             # FINALIZE votes are still on their way
    assert of(bench.advance(10), Build)
    bench = Bench(leads=2)
    bench.block(1)
    assert not of(bench.advance(1_000), Build)


def test_unfinished_timed_work_is_a_reason():
    bench = Bench(leads=2)
    header = bench.header(1)
    bench.propose(header)
    bench.executed(header, unfinished=True)
    bench.votes(Kind.NOTARIZE, 1, header.hash)
    assert of(bench.advance(100), Build)


def test_a_woken_leader_with_nothing_proposes_an_empty_block_but_not_for_ever():
    bench = Bench(n=1, me=0, heard=False)
    assert not of(bench.advance(200), Build)
    bench = Bench(leads=1)
    bench.receive(bench.others[0], Wake(IDS))
    assert of(bench.advance(50), Build)
    work = Work(4)
    for _ in range(4):
        work.woken(1, 0)
        assert work.woken_ms(0) == 0
        work.extended(0, 0)
    work.woken(1, 9_999)
    assert work.woken_ms(9_999) is None
    work.woken(1, 10_000)
    assert work.woken_ms(10_000) == 10_000


def test_own_work_that_nobody_includes_stops_arming_for_ten_seconds():
    work = Work(4)
    work.pending(100, IDS, 0)
    for _ in range(4):
        work.extended(0, 50)
    assert work.since_ms(50) == 10_050
    work.pending(200, (*IDS, toy.transaction(3)), 60)      # a new transaction arms again
    assert work.since_ms(60) == 50


def test_delta_grows_without_finality_and_shrinks_with_it():
    bench = Bench()
    for view in range(1, 9):
        bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, view))
    grown = bench.core.statistics().delta_ms
    assert grown == 227                                  # 100 -> 151 -> 227
    parent = GENESIS
    for view in range(9, 9 + 10):
        bench.advance(100)
        bench.hear_all()
        if bench.leader(view) == bench.me:
            header = bench.header(view, parent)
            bench.step(BlockHeld(header.hash, header, (), 0))
            bench.receive(bench.others[0], bench.certificate(Kind.FINALIZE, view, header.hash))
            bench.step(BlockExecuted(header.hash, True))
        else:
            header = bench.block(view, parent)
            bench.votes(Kind.FINALIZE, view, header.hash)
        parent = header
    assert bench.core.finalized[0] == 10
    assert bench.core.statistics().delta_ms == 151


# ---------------------------------------------------------------- rules 8 to 10


def test_own_votes_are_offered_again_every_half_second():
    bench = Bench()
    header = bench.header(1)
    bench.propose(header)
    bench.executed(header)
    effects = bench.advance(1_100)
    assert len(sent(effects, Kind.NOTARIZE)) == 2
    assert len(sent(effects, Kind.NULLIFY)) == 3         # once when given up, then with the others


def test_finalize_votes_of_earlier_views_are_offered_too():
    bench = Bench()
    header = bench.block(1, ids=IDS)
    effects = bench.advance(600)
    assert sent(effects, Kind.FINALIZE)
    assert header.hash in [send.message.digest for send in sent(effects, Certificate)]   # what admits view 2


def test_a_silent_leader_is_passed_over_while_idle():
    bench = Bench(n=4)
    silent = bench.leader(1)
    effects = []
    for _ in range(3):
        effects += bench.advance(1_000) + bench.hear_all(without=(silent,))
    assert sent(effects, Kind.NULLIFY) or sent(bench.advance(100), Kind.NULLIFY)


def test_nobody_is_passed_over_when_less_than_a_quorum_is_heard():
    bench = Bench(n=4)
    assert not sent(bench.advance(9_000), Kind.NULLIFY)


def test_a_leader_far_behind_is_passed_over_by_the_others_and_by_itself():
    header = GENESIS.with_(height=20, view=20, parent=bytes(32), timestamp_ms=GENESIS.timestamp_ms + 1)
    bench = Bench(n=4)
    effects = bench.step(CaughtUp(header, bench.certificate(Kind.FINALIZE, 20, header.hash)))
    assert bench.core.finalized == (20, header.hash) and bench.core.view == 21
    lagging = bench.leader(21)
    if lagging != bench.me:
        effects = bench.receive(lagging, Status(0, 1, 11, 11, bench.clock_ms))
        assert sent(effects, Kind.NULLIFY)
    own = Bench(leads=1)
    assert sent(own.hear_all(height=9), Kind.NULLIFY)


# ---------------------------------------------------------------- catching up, restart, bounds


def test_far_behind_leads_to_sync_and_the_jump_drops_the_old():
    bench = Bench()
    old = bench.header(1)
    bench.propose(old)
    bench.executed(old)
    header = GENESIS.with_(height=20, view=20, parent=bytes(32), timestamp_ms=bench.clock_ms)
    certificate = bench.certificate(Kind.FINALIZE, 20, header.hash)
    bench.hear_all(height=20)
    effects = bench.receive(bench.others[0], certificate)
    (catch_up,) = of(effects, CatchUp)
    assert isinstance(catch_up, CatchUp) and catch_up.certificate == certificate
    assert bench.me not in catch_up.holders
    effects = bench.step(CaughtUp(header, certificate))
    assert of(effects, Drop) == [Drop((old.hash,))] and Persist(certificate) in effects
    assert not of(bench.advance(5_000), CatchUp)


def test_a_near_gap_is_fetched_and_left_to_sync_only_after_a_second():
    bench = Bench()
    header = bench.header(1)
    effects = bench.receive(bench.others[0], bench.certificate(Kind.FINALIZE, 1, header.hash))
    assert of(effects, Fetch) and not of(effects, CatchUp)
    assert not of(bench.advance(999), CatchUp)
    assert of(bench.advance(1), CatchUp)
    assert len(of(bench.advance(4_000), CatchUp)) == 2


def test_a_certificate_of_something_else_does_not_move_the_root():
    bench = Bench()
    header = GENESIS.with_(height=5, view=5)
    effects = bench.step(CaughtUp(header, bench.certificate(Kind.FINALIZE, 5, bytes(32))))
    assert bench.core.finalized[0] == 0 and "dropped" in notes(effects)


def test_after_a_restart_nothing_is_voted_twice():
    bench = Bench()
    header = bench.header(1)
    bench.propose(header)
    (own,) = sent(bench.executed(header), Kind.NOTARIZE)
    again = Bench(me=bench.me, recovered=Recovered(
        votes=(own.message,), blocks=(HeldBlock(header.hash, header, (), 0),)))
    again.registry = bench.registry
    assert of(again.start, Execute) == [Execute(header.hash, header, (), again.me)]
    rival = bench.header(1, age_ms=1)
    effects = again.propose(rival) + again.executed(rival) + again.advance(550)
    assert {send.message.digest for send in sent(effects, Kind.NOTARIZE)} <= {header.hash}
    assert sent(effects, Kind.NULLIFY)
    effects = again.executed(header) + again.votes(Kind.NOTARIZE, 1, header.hash)
    assert not sent(effects, Kind.FINALIZE)


def test_a_restart_enters_the_view_that_the_log_admits():
    bench = Bench()
    header = bench.header(1)
    recovered = Recovered(
        blocks=(HeldBlock(header.hash, header, (), 0),),
        certificates=(bench.certificate(Kind.NOTARIZE, 1, header.hash), bench.certificate(Kind.NULLIFY, 2)))
    again = Bench(recovered=recovered)
    assert again.core.view == 3 and again.core.tip == header.hash
    without_body = Bench(recovered=Recovered(certificates=recovered.certificates[:1]))
    assert without_body.core.view == 1 and of(without_body.start, Fetch)


def test_a_restarted_leader_offers_its_proposal_and_makes_no_other():
    bench = Bench(leads=1)
    _, effects = build_one(bench)
    (proposed,) = sent(effects, Propose)
    again = Bench(me=bench.me, recovered=Recovered(votes=(proposed.message,)))
    effects = again.step(WorkPending(200, IDS)) + again.advance(600)
    assert not of(effects, Build)
    assert [send.message for send in sent(effects, Propose)] == [proposed.message]


def test_one_that_may_not_sign_follows():
    bench = Bench(may_sign=False)
    header = bench.block(1)
    effects = bench.votes(Kind.FINALIZE, 1, header.hash)
    assert of(effects, Finalize) and bench.core.view == 2
    bench.step(WorkPending(200, IDS))
    effects = bench.advance(2_000)
    assert not [send for send in of(effects, Send) if isinstance(send.message, Vote | Propose)]


def test_one_authority_alone_decides_in_one_step():
    bench = Bench(n=1, me=0)
    build, effects = build_one(bench)
    assert build.view == 1
    (final,) = of(effects, Finalize)
    assert bench.core.finalized[0] == 1 and bench.core.view == 2
    own = [effect for effect in effects if isinstance(effect, Persist)]
    assert effects.index(own[-1]) < effects.index(final)


def test_get_cert_answers_are_bounded_and_spaced():
    bench = Bench()
    for view in range(1, 151):
        bench.receive(bench.others[0], bench.certificate(Kind.NULLIFY, view))
    ask = GetCertificates(0, 1, 1 << 40)
    answers = sent(bench.receive(bench.others[1], ask), Certificate)
    assert len(answers) == 100 and {send.to for send in answers} == {bench.others[1]}
    assert not sent(bench.receive(bench.others[1], ask), Certificate)
    bench.advance(50)
    assert sent(bench.receive(bench.others[1], ask), Certificate)


def test_a_peer_that_missed_something_gets_it_with_its_status():
    bench = Bench()
    header = bench.block(1)
    bench.votes(Kind.FINALIZE, 1, header.hash)
    late = bench.others[0]
    assert not sent(bench.receive(late, Status(0, 1, 0, 0, bench.clock_ms)), Certificate)     # just on its way
    bench.advance(600)
    (helped,) = sent(bench.receive(late, Status(0, 1, 0, 0, bench.clock_ms)), Certificate)
    assert helped.to == late and helped.message.kind is Kind.FINALIZE


def test_unknown_senders_and_other_epochs_change_nothing():
    bench = Bench()
    assert not of(bench.receive(9, Status(0, 50, 9, 9, 0)), Send)
    vote = Vote(Kind.NULLIFY, 1, 1, b"", bench.others[0], bytes(64))
    assert notes(bench.receive(bench.others[0], vote)) == ["other epoch"]


def test_statistics():
    bench = Bench(n=5)
    seen = bench.core.statistics()
    assert (seen.view, seen.leader, seen.finalized_height, seen.delta_ms) == (1, bench.leader(1), 0, 100)
    assert [authority.clock_offset_ms for authority in seen.authorities] == [0] * 5
    assert ROOT.digest == seen.finalized_digest and not seen.catching_up


def test_ticks_alone_never_run_away():
    bench = Bench(n=4)
    ticks = 0
    end_ms = bench.now_ms + 30_000
    while bench.core.deadline_ms is not None and bench.core.deadline_ms <= end_ms:
        assert bench.core.deadline_ms > bench.now_ms
        bench.now_ms = bench.core.deadline_ms
        bench.step(Tick())
        ticks += 1
    assert ticks < 30 * 12
