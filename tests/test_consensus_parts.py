"""The parts of the core: quorums, leaders, parameters, signatures, clocks, recovery."""

from __future__ import annotations

import pytest
from consensus_support import GENESIS, ROOT, Bench
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx.consensus.authorities import Authorities, AuthoritiesError, faulty_at_most, quorum_of
from gridtokenx.consensus.clocks import Clocks
from gridtokenx.consensus.config import ConsensusConfig, ConsensusConfigError, HeldBlock, KeySigner, KeyVerifier
from gridtokenx.consensus.messages import Kind, Vote, vote_content
from gridtokenx.consensus.pace import Speed, transfer_ms
from gridtokenx.consensus.recovery import restart_from
from gridtokenx.consensus.work import Work
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.sim import toy
from gridtokenx.sim.checker import smallest_safe_quorum


@pytest.mark.parametrize("n", range(1, 65))
def test_quorums_share_an_honest_authority_and_no_smaller_one_does(n):
    q, f = quorum_of(n), faulty_at_most(n)
    assert 2 * q - n > f and 2 * (q - 1) - n <= f
    assert q == smallest_safe_quorum(n) and q <= n - f


def test_five_need_four_and_six_need_four():
    assert [quorum_of(n) for n in (1, 2, 3, 4, 5, 6, 7)] == [1, 2, 2, 3, 4, 4, 5]


def test_everyone_leads_in_turn_and_the_root_turns_the_order():
    keys = tuple(bytes((index,)) * 32 for index in range(5))
    some = Authorities.of_epoch(keys, b"a" * 32)
    assert sorted(some.leader(view) for view in range(10, 15)) == [0, 1, 2, 3, 4]
    assert len({Authorities.of_epoch(keys, bytes((root,)) * 32).offset for root in range(32)}) == 5


@pytest.mark.parametrize("keys", [(), (b"a" * 32, b"a" * 32), tuple(bytes((n,)) * 32 for n in range(65))])
def test_impossible_lists_of_authorities(keys):
    with pytest.raises(AuthoritiesError, match="1 to 64 distinct"):
        Authorities.of_epoch(keys, bytes(32))


@pytest.mark.parametrize("wrong", [{"delta_ms": 0}, {"delta_ms": 2001}, {"block_time_ms": 0}, {"linger_ms": -1},
                                   {"max_block_bytes": 1 << 21}, {"min_block_interval_ms": 1.5}])
def test_parameters_name_themselves(wrong):
    with pytest.raises(ConsensusConfigError, match=next(iter(wrong))):
        ConsensusConfig(chain_id=bytes(32), epoch=0, authorities=(bytes(32),), epoch_root=bytes(32), **wrong)


def test_real_keys_sign_votes_for_one_chain_only():
    keys = [PrivateKey(bytes((index,)) * 32) for index in range(2)]
    content = vote_content(Kind.NOTARIZE, 0, 7, bytes(32))
    signature = KeySigner(keys[1], toy.CHAIN_ID).sign(content)
    verifier = KeyVerifier(tuple(key.public for key in keys), toy.CHAIN_ID)
    assert verifier.verify(1, content, signature)
    assert not verifier.verify(0, content, signature)
    assert not verifier.verify(2, content, signature)
    assert not verifier.verify(1, vote_content(Kind.FINALIZE, 0, 7, bytes(32)), signature)
    assert not KeyVerifier(verifier.keys, bytes(32)).verify(1, content, signature)


@given(st.lists(st.integers(-10_000, 10_000), min_size=3, max_size=6))
def test_network_time_lies_between_honest_clocks(offsets):
    clocks = Clocks(quorum=4)
    for index, offset in enumerate(offsets):
        clocks.heard(index, 1_000_000 + offset, 1_000_000, 0)
    correction = clocks.correction_ms(5_000)
    assert correction is not None and correction == sorted([*offsets, 0])[len(offsets) // 2]
    assert clocks.correction_ms(5_001) is None


def test_big_blocks_get_time_by_own_speed_and_small_ones_next_to_none():
    speed = Speed(1_000_000)
    assert speed.execution_ms(1_000_000, 100) == 0
    for _ in range(10):
        speed.measured(500_000, 1_000, 50)
    assert speed.execution_ms(1_000_000, 100) == 100
    assert speed.execution_ms(1_000, 100) == 0
    speed.measured(500_000, 1_000, 50_000)
    assert speed.execution_ms(1_000_000, 100) == 250 and speed.execution_ms(1_000_000, 200) == 500
    assert speed.weight_guess(10) == pytest.approx(5_000, rel=0.2)
    assert transfer_ms(262_144, 0, 262_144) == 131 and transfer_ms(None, 100, 262_144) == 51


def test_lingering_is_for_company():
    work = Work(5)
    work.pending(100, (bytes(32),), 0)
    assert work.linger_ms(10, 1_000_000) == 0
    work.extended(40, 0)
    assert work.linger_ms(10, 1_000_000) == 10
    work.pending(500_000, (bytes(32),), 0)
    assert work.linger_ms(10, 1_000_000) == 0


def test_recovery_finds_the_last_final_block_that_is_whole():
    bench = Bench()
    blocks, parent = [], GENESIS
    for view in (1, 2, 4, 5):
        header = bench.header(view, parent)
        blocks.append(HeldBlock(header.hash, header, (), 0))
        parent = header
    early = bench.certificate(Kind.FINALIZE, 2, blocks[1].digest)
    late = bench.certificate(Kind.FINALIZE, 5, blocks[3].digest)
    vote = bench.vote(Kind.NOTARIZE, 6, bytes(32), 0)
    old = bench.vote(Kind.NOTARIZE, 1, bytes(32), 0)
    whole = restart_from(ROOT, [*blocks, early, late, old, vote])
    assert (whole.root.digest, whole.root.view, whole.root.height) == (blocks[3].digest, 5, 4)
    assert whole.finalized == tuple(blocks) and whole.recovered.votes == (vote,)
    assert whole.recovered.certificates == () and whole.recovered.blocks == ()

    holed = restart_from(ROOT, [blocks[0], blocks[1], blocks[3], early, late])
    assert holed.root.digest == blocks[1].digest and holed.root.certificate == early
    assert holed.recovered.blocks == (blocks[3],) and holed.recovered.certificates == (late,)

    nothing = restart_from(ROOT, [])
    assert nothing.root == ROOT and not nothing.finalized
    assert isinstance(vote, Vote)
