"""Following the chain by sync answers alone: what proves finality, what is refused, what a checkpoint does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve
from node_support import OTHER, PUBLICS, START_MS, TRADER, Cluster, key, small_genesis, transfer

from gridtokenx import codec
from gridtokenx.consensus.config import KeySigner, KeyVerifier, Recovered
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.consensus.messages import Kind, Status, encode_message
from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import decode_header
from gridtokenx.node import serve, service
from gridtokenx.node.ancestors import certified_from
from gridtokenx.node.chain import Chain, nonce_of
from gridtokenx.node.pool import Pool
from gridtokenx.node.recover import replay
from gridtokenx.node.replica import Channel, Replica
from gridtokenx.node.serve import answer_for, final_block
from gridtokenx.node.service import _announcement
from gridtokenx.node.sync import (
    MAX_ANSWER_BLOCKS,
    Patience,
    SyncAnswer,
    SyncError,
    check_answer,
    decode_answer,
    decode_request,
    encode_request,
)
from gridtokenx.store.database import Database
from gridtokenx.store.errors import HistoryPruned

BLOCKS = 5


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A chain of some blocks, the first ones checkpointed at member 0."""
    cluster = Cluster(small_genesis(4), tmp_path)
    cluster.run(1_500)
    for nonce in range(BLOCKS):
        cluster.submit(1, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1)])
        cluster.run(300)
        if nonce == 2:
            cluster.checkpoint(0)
    cluster.run(500)
    yield cluster
    cluster.close()


class Observer:
    """A replica without a core, as the service drives it."""

    def __init__(self, cluster: Cluster, path: Path) -> None:
        genesis = cluster.genesis
        header = genesis.header()
        self.cluster = cluster
        self.database = Database.create(path, genesis.chain_id, genesis.canonical(), state=genesis.initial_state(),
                                        pages=genesis.view().pages, header=header.encode(), header_hash=header.hash,
                                        map_bytes=64 << 20)
        rules = evolve(cluster.members[0].chain.rules, me=b"o" * 32)
        self.chain = Chain(genesis, self.database, genesis.books(), rules)
        stranger = key(999)
        start, _, _ = replay(self.chain, (), self.database)
        self.replica = Replica(self.chain, Pool(), Consensus(
            stranger.public, KeySigner(stranger, genesis.chain_id),
            lambda config: KeyVerifier(config.authorities, genesis.chain_id), start, Recovered(), 0, 0))

    def take(self, answer: SyncAnswer) -> None:
        head = self.chain.head
        check_answer(answer, head.header.height + 1, head.digest, self.cluster.verify)
        done = self.replica.execute_final(answer.blocks)
        certificate = answer.blocks[-1].certificate or answer.certificate
        assert certificate is not None
        self.replica.synced(done, certificate)


@pytest.fixture
def observer(cluster: Cluster, tmp_path: Path) -> Iterator[Observer]:
    observer = Observer(cluster, tmp_path / "observer")
    yield observer
    observer.chain.close()
    observer.database.close()


def answer(cluster: Cluster, from_height: int = 1, most: int = MAX_ANSWER_BLOCKS, member: int = 0) -> SyncAnswer:
    source = cluster.members[member]
    return decode_answer(answer_for(source.database, source.chain, from_height, most))


def test_observer_follows_across_the_checkpoint(cluster: Cluster, observer: Observer) -> None:
    source = cluster.members[0].chain
    assert 0 < source.base.header.height < source.head.header.height
    while observer.chain.head.digest != source.head.digest:
        observer.take(answer(cluster, observer.chain.head.header.height + 1, most=2))
        blocks = observer.chain.checkpoint_blocks()
        observer.database.checkpoint(blocks)
        observer.chain.checkpoint_done(len(blocks))
    assert nonce_of(observer.chain.state, TRADER.public) == BLOCKS
    assert len(observer.replica.take_turn().finals) == source.head.header.height
    assert observer.chain.snapshot.height == source.head.header.height
    assert not answer(cluster, source.head.header.height + 1).blocks
    assert not answer(cluster, 1 << 62).blocks


def test_every_final_block_is_served(cluster: Cluster) -> None:
    member = cluster.members[0]
    head = member.chain.head.header.height
    found = [final_block(member.database, member.chain, height) for height in range(1, head + 2)]
    assert found[-1] is None
    whole = answer(cluster)
    assert [block.header_raw for block in whole.blocks] == [entry[0] for entry in found if entry is not None]
    assert whole.head_height == head


def test_a_block_however_far_from_a_certificate_is_proven_by_its_place_among_the_ancestors(
        cluster: Cluster, observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers of a tail are bounded, the number of final blocks without a certificate is not."""
    monkeypatch.setattr(serve, "MAX_TAIL", 2)
    source = cluster.members[2]
    finals = source.chain.finals()
    for block in finals[:-1]:
        block.certificate = None
    near = answer(cluster, 1, most=len(finals) - 2, member=2)
    assert (len(near.tail), near.path) == (2, None)
    far = answer(cluster, most=1, member=2)
    assert len(far.blocks) == len(far.tail) == 1 and far.path is not None
    verify = cluster.verify
    parent = observer.chain.head.digest
    for wrong, said in ((evolve(far, path=near_path(far, finals[1].digest)), "not shown to be an ancestor"),
                        (evolve(far, tail=(finals[-2].header,)), "not shown to be an ancestor"),
                        (evolve(far, certificate=None), "no valid certificate"),
                        (evolve(far, path=None), "does not follow")):
        with pytest.raises(SyncError, match=said):
            check_answer(wrong, 1, parent, verify)
    for at in range(0, len(far.path), 5):
        spoiled = far.path[:at] + bytes([far.path[at] ^ 1]) + far.path[at + 1:]
        with pytest.raises(GridTokenXError):
            check_answer(evolve(far, path=spoiled), 1, parent, verify)
    raw = answer_for(source.database, source.chain, 1, 1)
    fields = codec.decode(raw)
    for bad in ([*fields[:4], 5], [*fields[:2], [], *fields[3:]], fields[:4]):
        with pytest.raises(SyncError):
            decode_answer(codec.encode(bad))
    while observer.chain.head.digest != source.chain.head.digest:
        observer.take(answer(cluster, observer.chain.head.header.height + 1, most=1, member=2))
    # Also when the state of back then is pruned: the range is made anew from the headers.
    stored = cluster.members[0]
    with monkeypatch.context() as patch:
        patch.setattr(type(stored.database), "state_at", lambda *_: (_ for _ in ()).throw(HistoryPruned(1, 2)))
        patch.setattr(type(stored.database), "certificate", lambda *_: None)
        raw_header, _, ancestor = certified_from(stored.database, stored.chain, 1)
    assert ancestor is not None and decode_header(raw_header).height > 1


def near_path(far: SyncAnswer, other: bytes) -> bytes:
    """The path of another block of the same range, at the place of the first."""
    assert far.path is not None
    proof = mountain_range.decode_proof(far.path)
    return evolve(proof, siblings=(other, *proof.siblings[1:])).encode()


def test_block_without_a_certificate_is_proven_by_its_descendants(cluster: Cluster, observer: Observer) -> None:
    source = cluster.members[2]
    finals = source.chain.finals()
    for block in finals[:-1]:
        block.certificate = None
    short = answer(cluster, most=2, member=2)
    assert len(short.blocks) == 2
    assert len(short.tail) == len(finals) - 2
    observer.take(short)
    assert observer.chain.head.header.height == 2
    assert not observer.chain.checkpoint_blocks()           # nothing yet that a checkpoint could prove
    observer.take(answer(cluster, 3, member=2))
    assert observer.chain.head.digest == source.chain.head.digest
    assert len(observer.chain.checkpoint_blocks()) == len(finals)
    finals[-1].certificate = None
    assert not answer(cluster, member=2).blocks             # nothing can be proven


def _other_certificate(whole: SyncAnswer) -> SyncAnswer:
    other = whole.blocks[-2].certificate
    return evolve(whole, blocks=(*whole.blocks[:-1], evolve(whole.blocks[-1], certificate=other)))


def _forged_signature(whole: SyncAnswer) -> SyncAnswer:
    certificate = whole.blocks[-1].certificate
    assert certificate is not None
    forged = evolve(certificate, signatures=(bytes(64), *certificate.signatures[1:]))
    return evolve(whole, blocks=(*whole.blocks[:-1], evolve(whole.blocks[-1], certificate=forged)))


def _too_few_signers(whole: SyncAnswer) -> SyncAnswer:
    certificate = whole.blocks[-1].certificate
    assert certificate is not None
    few = evolve(certificate, signers=certificate.signers[1:], signatures=certificate.signatures[1:])
    return evolve(whole, blocks=(*whole.blocks[:-1], evolve(whole.blocks[-1], certificate=few)))


def _notarized_only(whole: SyncAnswer) -> SyncAnswer:
    certificate = whole.blocks[-1].certificate
    assert certificate is not None
    return evolve(whole, blocks=(*whole.blocks[:-1],
                                 evolve(whole.blocks[-1], certificate=evolve(certificate, kind=Kind.NOTARIZE))))


def _no_certificate(whole: SyncAnswer) -> SyncAnswer:
    return evolve(whole, blocks=(*whole.blocks[:-1], evolve(whole.blocks[-1], certificate=None)))


def _body_of_another(whole: SyncAnswer) -> SyncAnswer:
    first = whole.blocks[0]
    return evolve(whole, blocks=(evolve(first, raws=whole.blocks[1].raws), *whole.blocks[1:]))


def _body_missing(whole: SyncAnswer) -> SyncAnswer:
    return evolve(whole, blocks=(*whole.blocks[:2], evolve(whole.blocks[2], raws=()), *whole.blocks[3:]))


def _body_garbled(whole: SyncAnswer) -> SyncAnswer:
    raw = whole.blocks[2].raws[0]
    return evolve(whole, blocks=(*whole.blocks[:2], evolve(whole.blocks[2], raws=(raw[:-1] + bytes([raw[-1] ^ 1]),)),
                                 *whole.blocks[3:]))


def _other_header(whole: SyncAnswer) -> SyncAnswer:
    block = whole.blocks[1]
    header = block.header.with_(state_root=bytes(32))
    return evolve(whole, blocks=(whole.blocks[0], evolve(block, header=header, header_raw=header.encode()),
                                 *whole.blocks[2:]))


def _gap(whole: SyncAnswer) -> SyncAnswer:
    return evolve(whole, blocks=(whole.blocks[0], *whole.blocks[2:]))


def _from_elsewhere(whole: SyncAnswer) -> SyncAnswer:
    return evolve(whole, blocks=whole.blocks[1:])


@pytest.mark.parametrize("tamper", [
    _other_certificate, _forged_signature, _too_few_signers, _notarized_only, _no_certificate, _body_of_another,
    _body_missing, _body_garbled, _other_header, _gap, _from_elsewhere,
])
def test_tampered_answers_are_refused_whole(cluster: Cluster, observer: Observer,
                                            tamper: Callable[[SyncAnswer], SyncAnswer]) -> None:
    """Nothing of them becomes final here, the good beginning neither."""
    with pytest.raises(SyncError):
        observer.take(tamper(answer(cluster)))
    assert observer.chain.head.header.height == 0
    assert not observer.replica.take_turn().finals
    observer.take(answer(cluster))


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x84\x00\x80\x80", b"\x84\x00\x80\x80\x40",
                                 b"\x84\x00\x81\x80\x80\xf6", b"\x84\x00\x81\x83\x40\x80\xf6\x80\xf6", b"\xff" * 99])
def test_malformed_answers_are_typed_errors(raw: bytes) -> None:
    with pytest.raises(GridTokenXError):
        decode_answer(raw)


@pytest.mark.parametrize("request_", [encode_request(0), encode_request(1, 1 << 40), encode_request((1 << 63) - 1)])
def test_odd_requests_are_answered(cluster: Cluster, request_: bytes) -> None:


    first, most = decode_request(request_)
    member = cluster.members[0]
    assert decode_answer(answer_for(member.database, member.chain, first, most)).head_height >= BLOCKS


def test_announcement_of_many_big_blocks_fits_a_message(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sync brought at once may be more than gossip carries: the newest blocks are announced."""


    finals = cluster.members[1].chain.finals()
    everything = decode_answer(_announcement(finals))
    assert len(everything.blocks) == len(finals)
    monkeypatch.setattr(service, "MAX_ANNOUNCED_BYTES", 2 * service.ENVELOPE_BYTES + 2 * finals[0].body_bytes + 100)
    newest = decode_answer(_announcement(finals))
    assert [block.header.height for block in newest.blocks] == [finals[-2].header.height, finals[-1].header.height]


def test_observer_passes_clients_transactions_on_and_ignores_votes(cluster: Cluster, observer: Observer) -> None:
    raw = transfer(cluster.genesis, OTHER, 0, TRADER.public, 1)
    assert observer.replica.submit([raw])[0][1] == 0
    [outgoing] = observer.replica.take_turn().sends
    assert outgoing.to is None
    observer.replica.receive(PUBLICS[0], Channel.VOTES, encode_message(Status(0, 1, 0, 0, 0)))
    assert not observer.replica.take_turn().sends
    cluster.members[3].replica.receive(PUBLICS[0], outgoing.channel, outgoing.frame)
    cluster.members[3].replica.verify_some(1)
    assert len(cluster.members[3].replica.pool) == 1
    cluster.run(3_000)
    assert nonce_of(cluster.members[0].chain.state, OTHER.public) == 1


def test_observer_tells_a_transaction_again_while_it_is_pending(cluster: Cluster, observer: Observer) -> None:
    """Gossip reaches those who are there: after its start an observer may have nobody."""
    raw = transfer(cluster.genesis, OTHER, 0, TRADER.public, 1)
    replica, told_ms = observer.replica, []
    replica.at(10_000, START_MS)
    assert replica.submit([raw])[0][1] == 0
    [outgoing] = replica.take_turn().sends
    for _ in range(4):
        deadline_ms = replica.deadline_ms
        assert deadline_ms is not None
        replica.at(deadline_ms - 1, START_MS)
        replica.tick()
        assert not replica.take_turn().sends
        replica.at(deadline_ms, START_MS)
        replica.tick()
        assert replica.take_turn().sends == [outgoing]
        told_ms.append(deadline_ms)
    assert told_ms == [13_000, 19_000, 31_000, 55_000]
    replica.pool.remove([digest(Domain.TRANSACTION, raw)])
    replica.at(100_000, START_MS)
    replica.tick()
    assert not replica.take_turn().sends and replica.deadline_ms is None


def test_patience_is_short_with_silent_peers_and_long_on_slow_links():
    patience = Patience()
    assert patience.wait_s == 2.5
    patience.answered(0.1)
    assert patience.wait_s == 2.5
    patience.answered(1.5)
    assert patience.wait_s == 4.5, "an answer may well take as long again"
    for _ in range(3):
        patience.all_failed()
    assert patience.wait_s == 10
    patience.answered(60)
    assert patience.wait_s == 10
    patience.answered(0.2)
    assert patience.wait_s == 2.5
