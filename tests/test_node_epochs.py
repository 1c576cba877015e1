"""Whole replicas over changes of the list of authorities: joining, leaving, restarts, lost logs, catching up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_support import AUTHORITY_KEYS, OTHER, PUBLICS, TRADER, Cluster, signed, small_genesis, transfer

from gridtokenx.consensus.messages import Kind, Propose, Vote, encode_message, vote_content
from gridtokenx.crypto.hashing import Domain
from gridtokenx.ledger.approvals import approve
from gridtokenx.ledger.operations import ActivateAuthority, Evidence, RegisterAuthority, RevokeAuthority
from gridtokenx.node.epochs import epoch_of, members_of
from gridtokenx.node.replica import Channel
from gridtokenx.node.serve import answer_for
from gridtokenx.node.sync import SyncError, check_answer, decode_answer, encode_answer, within_epoch

LENGTH = 10


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(small_genesis(5, epoch_length=LENGTH), tmp_path, extra=1)
    cluster.run(1_500)
    yield cluster
    cluster.close()


class Chain:
    """Transactions of TRADER, one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.nonce = cluster, 0

    @property
    def head(self) -> int:
        return max(height for height, _ in self.cluster.heads())

    @property
    def up(self) -> int:
        return next(index for index in range(5) if index not in self.cluster.down)

    def send(self, *operations: list[object]) -> None:
        raw = signed(self.cluster.genesis, TRADER, self.nonce, list(operations), fee=64_000)
        (answer,) = self.cluster.submit(self.up, [raw])
        assert answer[1] == 0, answer
        self.nonce += 1
        self.cluster.run(400)

    def grow_to(self, height: int, *, follow: tuple[int, ...] = ()) -> None:
        while self.head < height:
            self.send([1, OTHER.public, 1, b""])
            for index in follow:
                self.cluster.follow(index)

    def level(self) -> None:
        self.cluster.run(1_500)
        for member in self.cluster.members:
            while member.replica.core is None and member.chain.head.header.height < self.head:
                self.cluster.follow(member.index)
        assert len(set(self.cluster.heads())) == 1, self.cluster.heads()


def approvals(cluster: Cluster, kind: int, epoch: int, key: bytes, name: str = "") -> tuple[tuple[bytes, bytes], ...]:
    return tuple(sorted((signer.public, approve(signer, cluster.genesis.chain_id, kind, epoch, key, name))
                        for signer in AUTHORITY_KEYS[:4]))


def listed(cluster: Cluster, index: int = 0) -> list[bytes]:
    return [key for _, key in members_of(cluster.members[index].chain.state)]


def let_join(cluster: Cluster, chain: Chain) -> None:
    """Member 5 is agreed upon, shows that it follows, and joins at the next boundary."""
    joiner = AUTHORITY_KEYS[5]
    epoch = epoch_of(cluster.members[chain.up].chain.state).number
    chain.send(RegisterAuthority(epoch, "JOIN", joiner.public,
                                 approvals(cluster, 60, epoch, joiner.public, "JOIN")).fields())
    cluster.follow(5)
    height = cluster.members[5].chain.head.header.height
    chain.send(ActivateAuthority.signed(joiner, cluster.genesis.chain_id, epoch, 1, height, height, 0).fields())
    chain.grow_to(LENGTH * (epoch + 1), follow=(5,))
    cluster.run(1_000)
    cluster.follow(5)


def test_a_node_joins_and_votes_and_leads(cluster: Cluster) -> None:
    chain = Chain(cluster)
    let_join(cluster, chain)
    assert listed(cluster) == PUBLICS[:6]
    assert cluster.members[5].replica.core is not None
    chain.grow_to(3 * LENGTH)
    chain.level()
    assert any(vote.epoch >= 1 for vote in cluster.votes[5])
    assert any(isinstance(vote, Propose) for vote in cluster.votes[5])
    proposers = {block.header.proposer for block in cluster.members[0].chain.finals()}
    assert PUBLICS[5] in proposers


def test_one_leaves_and_follows(cluster: Cluster) -> None:
    chain, leaver = Chain(cluster), PUBLICS[2]
    chain.send(RevokeAuthority(0, leaver, approvals(cluster, 61, 0, leaver)).fields())
    chain.grow_to(LENGTH)
    cluster.run(1_000)
    assert leaver not in listed(cluster) and cluster.members[2].replica.core is None
    before = len(cluster.votes[2])
    chain.grow_to(2 * LENGTH + 1, follow=(2,))
    cluster.follow(2)
    chain.level()
    assert len(cluster.votes[2]) == before


def test_evidence_suspends(cluster: Cluster) -> None:
    chain, thief = Chain(cluster), AUTHORITY_KEYS[3]
    votes = [(int(Kind.FINALIZE), name, thief.sign(Domain.CONSENSUS_VOTE, cluster.genesis.chain_id,
                                                   vote_content(Kind.FINALIZE, 0, 2, name)))
             for name in (b"1" * 32, b"2" * 32)]
    chain.send(Evidence(thief.public, 0, 2, votes[0], votes[1]).fields())
    chain.grow_to(LENGTH + 1, follow=(3,))
    assert thief.public not in listed(cluster)


def test_who_notices_equivocation_submits_it_and_it_suspends(cluster: Cluster) -> None:
    """Also after a restart: the log remembers. Only member 0 has money for the fee; the others keep it."""
    chain, thief = Chain(cluster), AUTHORITY_KEYS[3]
    chain.grow_to(1)
    view = cluster.members[0].replica.consensus.core.view + 50
    for name in (b"1" * 32, b"2" * 32):
        signature = thief.sign(Domain.CONSENSUS_VOTE, cluster.genesis.chain_id,
                               vote_content(Kind.NOTARIZE, 0, view, name))
        frame = encode_message(Vote(Kind.NOTARIZE, 0, view, name, 3, signature))
        for index in (0, 1, 2):
            cluster.members[index].replica.receive(thief.public, Channel.VOTES, frame)
            cluster._carry_out(index)
    assert [len(member.replica.evidence.kept()) for member in cluster.members[:3]] == [1, 1, 1]
    cluster.members[0].log.sync()
    cluster.crash(0)
    cluster.restart(0)
    assert len(cluster.members[0].replica.evidence.kept()) == 1
    cluster.run(25_000)
    assert not any(member.replica.evidence.kept() for member in cluster.members[:3])
    chain.grow_to(LENGTH + 1, follow=(3,))
    assert thief.public not in listed(cluster)


def test_every_node_restarts_at_every_height_around_a_boundary(cluster: Cluster) -> None:
    chain = Chain(cluster)
    for height in range(LENGTH - 2, LENGTH + 4):
        chain.grow_to(height)
        index = height % 5
        if height % 2:
            cluster.checkpoint(index)
        cluster.crash(index)
        chain.send([1, OTHER.public, 1, b""])
        cluster.restart(index)
        cluster.run(500)
    chain.level()
    assert {member.replica.consensus.epoch for member in cluster.members[:5]} == {1}
    assert all(len({(type(vote), vote.epoch, vote.view, getattr(vote, "kind", 0)) for vote in votes})
               == len({(type(vote), vote.epoch, vote.view, getattr(vote, "kind", 0),
                        getattr(vote, "digest", getattr(vote, "header", b""))) for vote in votes})
               for votes in cluster.votes.values()), "a node voted twice"


def test_power_loss_of_all_in_the_second_epoch(cluster: Cluster) -> None:
    chain = Chain(cluster)
    chain.grow_to(LENGTH + 3)
    for index in range(5):
        cluster.crash(index)
    for index in range(5):
        cluster.restart(index)
    cluster.run(1_500)
    chain.grow_to(2 * LENGTH + 1)
    chain.level()


def test_one_that_slept_through_epochs_catches_up(cluster: Cluster) -> None:
    chain = Chain(cluster)
    chain.grow_to(3)
    cluster.crash(4)
    chain.grow_to(3 * LENGTH + 2)
    cluster.restart(4)
    cluster.run(8_000)
    chain.grow_to(chain.head + 1)
    chain.level()
    assert cluster.members[4].replica.consensus.epoch == 3


def test_a_new_node_verifies_every_epoch_from_genesis_on(cluster: Cluster) -> None:
    """Certificates chain across changes: those of an epoch are checked by the list that the last one's end gave."""
    chain = Chain(cluster)
    let_join(cluster, chain)
    leaver = PUBLICS[1]
    joined = tuple(sorted((signer.public, approve(signer, cluster.genesis.chain_id, 61, 1, leaver))
                          for signer in AUTHORITY_KEYS[:5]))
    chain.send(RevokeAuthority(1, leaver, joined).fields())
    chain.grow_to(3 * LENGTH + 1, follow=(1, 5))
    chain.level()
    cluster.crash(5)
    shutil.rmtree(cluster.members[5].path)
    cluster.restart(5)
    rounds = 0
    while cluster.members[5].chain.head.header.height < chain.head:
        cluster.follow(5)
        rounds += 1
    assert rounds >= 4, "one answer per epoch"
    assert cluster.heads()[5] == cluster.heads()[0]


def test_an_answer_is_taken_up_to_the_end_of_the_epoch(cluster: Cluster) -> None:
    chain = Chain(cluster)
    chain.grow_to(LENGTH + 3)
    member = cluster.members[0]
    whole = decode_answer(answer_for(member.database, member.chain, 1, 100))
    first = within_epoch(whole, 0)
    assert [block.header.height for block in first.blocks] == list(range(1, LENGTH + 1))
    assert first.blocks[-1].certificate is not None and within_epoch(first, 0) is first
    bare = decode_answer(encode_answer(20, [
        (block.header_raw, list(block.raws), None) for block in whole.blocks], [], None))
    with pytest.raises(SyncError, match="no valid certificate"):
        check_answer(within_epoch(bare, 0), 1, cluster.genesis.header().hash, cluster.verify)


def test_a_lost_log_signs_again_in_the_next_epoch(cluster: Cluster) -> None:
    chain = Chain(cluster)
    chain.grow_to(4)
    cluster.checkpoint(4)
    cluster.crash(4)
    shutil.rmtree(cluster.members[4].path / "log")
    cluster.members[4].lost = True
    before = len(cluster.votes[4])
    cluster.restart(4)
    chain.grow_to(LENGTH - 1)
    assert cluster.members[4].barred == 0 and not cluster.members[4].replica.consensus.standing.may_sign
    cluster.crash(4)                            # the mark outlives a restart
    cluster.restart(4)
    cluster.run(500)
    assert len(cluster.votes[4]) == before
    chain.grow_to(2 * LENGTH)
    chain.level()
    assert {vote.epoch for vote in cluster.votes[4][before:]} == {1}


def test_a_restored_log_is_found_out(cluster: Cluster) -> None:
    chain = Chain(cluster)
    chain.grow_to(3)
    cluster.crash(4)
    old = cluster.path / "copy"
    shutil.copytree(cluster.members[4].path / "log", old)
    cluster.restart(4)
    chain.grow_to(6)
    cluster.crash(4)
    shutil.rmtree(cluster.members[4].path / "log")
    shutil.copytree(old, cluster.members[4].path / "log")
    before = len(cluster.votes[4])
    cluster.restart(4)
    cluster.run(3_000)
    assert cluster.members[4].barred == 0
    chain.grow_to(LENGTH - 1)
    assert len(cluster.votes[4]) == before
    chain.grow_to(2 * LENGTH)
    chain.level()
    assert {vote.epoch for vote in cluster.votes[4][before:]} == {1}


def test_transfers_count_once_whatever_happened(cluster: Cluster) -> None:
    """The same balance everywhere after joining, and a lag of one node over the boundary."""
    chain = Chain(cluster)
    cluster.dropped |= {(other, 3) for other in range(5)}
    let_join(cluster, chain)
    cluster.dropped.clear()
    chain.grow_to(2 * LENGTH + 1)
    cluster.run(6_000)
    chain.level()
    (answer,) = cluster.submit(3, [transfer(cluster.genesis, TRADER, chain.nonce, OTHER.public, 1)])
    assert answer[1] == 0
