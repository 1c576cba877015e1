"""Replicas against faulty leaders and unlucky timing: forged bodies, lost ancestors, restarts, full queues."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve
from node_support import (
    BAHT,
    OTHER,
    PUBLICS,
    TRADER,
    Cluster,
    key,
    leader_of,
    let_lead,
    signed,
    small_genesis,
    transfer,
)

from gridtokenx.consensus.interface import Build, Execute, Finalize
from gridtokenx.consensus.messages import Kind, Propose, Vote, decode_message, encode_message
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.transaction import MAX_TRANSACTION_BYTES, Transaction, decode_transaction
from gridtokenx.node import chain as module
from gridtokenx.node import intake
from gridtokenx.node.chain import ChainBlock, nonce_of
from gridtokenx.node.lost_log import LOST_MARK, leave_mark, open_log
from gridtokenx.node.pool import Pool
from gridtokenx.node.records import FrameKind, GetBlock, GetTransactions, LogKind, Transactions, encode_frame
from gridtokenx.node.replica import Channel, Job
from gridtokenx.store.database import Database
from gridtokenx.store.errors import LogError, LogFailed
from gridtokenx.store.simulated_disk import SimulatedDisk


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(small_genesis(), tmp_path)
    cluster.run(1_500)
    yield cluster
    cluster.close()


def level(cluster: Cluster) -> int:
    heads = set(cluster.heads())
    assert len(heads) == 1, cluster.heads()
    return heads.pop()[0]


def mis_signed(genesis: Genesis) -> bytes:
    good = transfer(genesis, OTHER, 0, TRADER.public, 1)
    return good[:-1] + bytes([good[-1] ^ 1])


@pytest.mark.parametrize(("bad", "why"), [
    (mis_signed, "does not verify"),
    (lambda genesis: signed(genesis, OTHER, 0, [[1, TRADER.public, 1, b""]], until=0), "EXPIRED"),
    (lambda genesis: transfer(genesis, TRADER, 0, OTHER.public, 1), "WRONG_NONCE"),
    (lambda genesis: transfer(genesis, key(999), 0, OTHER.public, 1), "UNFUNDED_FEE"),
], ids=["mis-signed", "expired", "replayed", "unfunded"])
def test_faulty_leader_costs_one_view(cluster: Cluster, bad: object, why: str) -> None:
    genesis = cluster.genesis
    cluster.submit(0, [transfer(genesis, TRADER, 0, OTHER.public, 1)])
    cluster.run(1_000)
    height = level(cluster)
    raw = bad(genesis)  # type: ignore[operator]
    faulty = let_lead(cluster, raw)
    cluster.notes.clear()
    cluster.submit((faulty.index + 1) % 5, [transfer(genesis, TRADER, 1, OTHER.public, 1)])
    cluster.run(2_000)
    assert level(cluster) > height
    assert all(nonce_of(member.chain.state, TRADER.public) == 2 for member in cluster.members)
    honest = [member.index for member in cluster.members if member is not faulty]
    reasons = [note.detail for index, note in cluster.notes if index in honest]
    assert sum(why in reason for reason in reasons) >= 3, reasons
    nullified = {note.view for index, note in cluster.notes if note.event == "nullify certificate"}
    assert len(nullified) == 1
    assert not any(decode_transaction(raw).id in block.ids for member in cluster.members
                   for block in member.chain.finals()[1:])


@pytest.mark.parametrize("misled", [1, 2, 4])
def test_leader_hands_out_different_ids(cluster: Cluster, misled: int) -> None:
    """Ids beside a proposal are not signed: who gets wrong ones refuses, and the chain goes on."""
    leader = leader_of(cluster)
    victims = [index for index in range(5) if index != leader][:misled]
    done: set[int] = set()

    def tamper(sender: int, to: int, channel: Channel, frame: bytes) -> bytes:
        if channel is Channel.VOTES and sender == leader and to in victims and to not in done:
            message = decode_message(frame)
            if isinstance(message, Propose):
                done.add(to)
                return encode_message(evolve(message, transaction_ids=(
                    *message.transaction_ids[1:], digest(Domain.TRANSACTION, bytes([to])))))
        return frame

    cluster.tamper = tamper
    raws = [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1) for nonce in range(3)]
    cluster.submit(leader, raws)
    cluster.run(5_000)
    assert done == set(victims)
    level(cluster)
    assert all(nonce_of(member.chain.state, TRADER.public) == 3 for member in cluster.members)


def test_restarts_with_the_same_log_never_vote_twice(cluster: Cluster) -> None:
    for step in range(12):
        cluster.submit(step % 3, [transfer(cluster.genesis, TRADER, step, OTHER.public, 1)])
        cluster.run(7 + 3 * step)           # in the middle of a view, a little later each time
        cluster.crash(4)
        cluster.run(11)
        cluster.restart(4)
        cluster.run(400)
    cluster.run(4_000)
    level(cluster)
    for signed_by in cluster.votes.values():
        said: dict[tuple[Kind, int], set[bytes]] = {}
        for message in signed_by:
            kind, name = ((Kind.NOTARIZE, digest(Domain.HEADER, message.header)) if isinstance(message, Propose)
                          else (message.kind, message.digest))
            said.setdefault((kind, message.view), set()).add(name)
        assert all(len(names) == 1 for names in said.values())
        assert not {view for kind, view in said if kind is Kind.NULLIFY} & {
            view for kind, view in said if kind is Kind.FINALIZE}
    assert sum(isinstance(message, Vote) for message in cluster.votes[4]) > 10


@pytest.mark.parametrize("authorities", [1, 2])
def test_chain_of_one_and_of_two(tmp_path: Path, authorities: int) -> None:
    cluster = Cluster(small_genesis(authorities), tmp_path)
    cluster.run(1_500)
    cluster.submit(0, [transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)])
    cluster.run(25_000)
    assert 3 <= level(cluster) <= 4             # heartbeats
    cluster.crash(0)
    cluster.restart(0)
    cluster.run(1_500)
    cluster.submit(0, [transfer(cluster.genesis, TRADER, 1, OTHER.public, 1)])
    cluster.run(2_000)
    assert nonce_of(cluster.members[0].chain.state, TRADER.public) == 2
    cluster.close()


def grow(cluster: Cluster, blocks: int, first_nonce: int = 0) -> None:
    for nonce in range(first_nonce, first_nonce + blocks):
        cluster.submit(0, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, BAHT)])
        cluster.run(300)
    cluster.run(500)


def test_deleted_data_directory_catches_up(cluster: Cluster) -> None:
    grow(cluster, 4)
    for index in range(4):
        cluster.checkpoint(index)
    cluster.crash(4)
    shutil.rmtree(cluster.members[4].path)
    cluster.restart(4)
    cluster.run(5_000)
    assert level(cluster) >= 4


def test_blocks_that_sync_brought_are_in_the_log(cluster: Cluster) -> None:
    """CaughtUp promises it: a restart finds what the node has voted on top of."""
    cluster.crash(4)
    grow(cluster, 10)
    cluster.restart(4)
    cluster.run(3_000)
    member = cluster.members[4]
    height = member.chain.head.header.height
    assert height >= 10
    assert member.chain.base.header.height == 0
    member.log.sync()
    cluster.crash(4)
    for index in range(4):
        cluster.dropped |= {(index, 4), (4, index)}
    cluster.restart(4)
    assert cluster.members[4].chain.head.header.height == height


# ---------------------------------------------------------------- unlucky timing


def test_job_whose_parent_was_dropped_is_given_up(cluster: Cluster) -> None:
    """It waited behind a long one, which finalized a rival."""
    member = cluster.members[0]
    chain, replica = member.chain, member.replica
    effect = Build(0, 50, chain.head.digest, 1, chain.head.header.timestamp_ms + 5_000, empty=True)
    parent = chain.build(effect, ())
    assert parent is not None
    child = chain.build(evolve(effect, view=51, parent=parent.digest, height=2,
                               timestamp_ms=parent.header.timestamp_ms + 500), ())
    assert child is not None
    child.state = child.result = None
    replica._busy = True
    replica._execute_when_ready(child)
    replica._build(evolve(effect, view=52, parent=parent.digest, height=2,
                          timestamp_ms=parent.header.timestamp_ms + 900))
    chain.drop([parent.digest, child.digest])
    replica.job_done(Job(lambda: None, lambda: None, 0))
    assert not child.executed
    assert not child.failure
    assert [note.event for note in replica.take_turn().notes].count("build_skipped") == 1


def test_build_that_fails_passes_the_view(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = leader_of(cluster)
    honest = module.build_block
    failures = []

    def failing(*arguments: object, **options: object) -> object:
        if not failures:
            failures.append(leader)
            raise ZeroDivisionError("a defect")
        return honest(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "build_block", failing)
    cluster.submit(leader, [transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)])
    cluster.run(3_000)
    assert failures
    level(cluster)
    assert all(nonce_of(member.chain.state, TRADER.public) == 1 for member in cluster.members)


def proposal_of(cluster: Cluster, raw: bytes) -> tuple[ChainBlock, Execute]:
    """A block with one transaction as another authority would propose it, and the request to execute it."""
    author = cluster.members[1].chain
    effect = Build(0, 50, author.head.digest, 1, author.head.header.timestamp_ms + 5_000, empty=False)
    block = author.build(effect, (decode_transaction(raw),))
    assert block is not None
    assert block.ids
    return block, Execute(block.digest, block.header, block.ids, 1)


def test_body_completed_by_a_client(cluster: Cluster) -> None:
    """A transaction that was asked for comes from a client first; the leader's answer is then known already."""
    raw = transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)
    block, wanted = proposal_of(cluster, raw)
    replica = cluster.members[0].replica
    replica._bodies.gather(wanted.digest, wanted.header, wanted.transaction_ids, PUBLICS[1], cluster.now_ms)
    assert replica.submit([raw])[0][1] == 0
    replica.receive(PUBLICS[1], Channel.BODIES, encode_frame(Transactions((raw,))))
    assert cluster.members[0].chain.block(block.digest) is not None


def test_what_a_block_needs_is_kept_when_all_else_is_full(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_SET_ASIDE", 2)
    raw = transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)
    block, wanted = proposal_of(cluster, raw)
    replica = cluster.members[0].replica
    replica.gossiped([bytes([number]) for number in range(5)])
    assert replica._intake.backlog == 2
    replica._bodies.gather(wanted.digest, wanted.header, wanted.transaction_ids, PUBLICS[1], cluster.now_ms)
    replica.receive(PUBLICS[1], Channel.BODIES, encode_frame(Transactions((raw,))))
    assert cluster.members[0].chain.block(block.digest) is not None


def test_set_aside_is_bounded_in_bytes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_SET_ASIDE_BYTES", 1000)
    replica = cluster.members[0].replica
    replica.gossiped([bytes(MAX_TRANSACTION_BYTES + 1)])
    assert not replica.backlog
    replica.gossiped([bytes([number]) * 300 for number in range(5)])
    assert replica._intake.backlog == 3
    replica.verify_some(64)
    replica.gossiped([bytes([number]) * 300 for number in range(5)])
    assert replica._intake.backlog == 3


def test_dropped_rival_leaves_the_transactions_of_the_other(cluster: Cluster) -> None:
    raw = transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)
    transaction = decode_transaction(raw)
    chain = cluster.members[0].chain
    effect = Build(0, 50, chain.head.digest, 1, chain.head.header.timestamp_ms + 5_000, empty=False)
    first = chain.build(effect, (transaction,))
    second = chain.build(evolve(effect, view=51), (transaction,))
    assert first is not None
    assert second is not None
    chain.drop([first.digest])
    assert chain.transaction(transaction.id) is not None
    chain.drop([second.digest])
    assert chain.transaction(transaction.id) is None


def test_nothing_is_kept_for_blocks_that_never_come(cluster: Cluster) -> None:
    member = cluster.members[0]
    replica = member.replica
    core = replica.core
    assert core is not None
    replica._bodies.fetch(b"n" * 32, core.view, (PUBLICS[1], PUBLICS[2]))
    block, _ = proposal_of(cluster, transfer(cluster.genesis, OTHER, 0, TRADER.public, 1))
    replica._orphans[b"p" * 32] = [block.digest]
    grow(cluster, 2)
    assert not replica._bodies._fetching
    assert not replica._orphans


def test_certificate_of_a_block_that_sync_finalized_first(cluster: Cluster) -> None:
    grow(cluster, 1)
    member = cluster.members[0]
    block = member.chain.finals()[0]
    certificate, block.certificate = block.certificate, None
    assert certificate is not None
    member.replica._finalize(Finalize((block.digest,), certificate))
    assert block.certificate == certificate


def test_a_full_pool_is_looked_through_once_per_change(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts with a gap in their nonces have nothing ready: finding that out again for every vote would delay it."""
    replica = cluster.members[0].replica
    for number in range(20):
        replica.pool.add(decode_transaction(transfer(cluster.genesis, key(1000 + number), 1, OTHER.public, 1)), 0)
    assert len(replica.pool) == 20
    looks: list[int] = []
    honest = Pool.first_ready

    def counted(pool: Pool, nonce_of: Callable[[bytes], int]) -> Transaction | None:
        if pool is replica.pool:
            looks.append(1)
        return honest(pool, nonce_of)

    monkeypatch.setattr(Pool, "first_ready", counted)
    cluster.run(3_000)
    assert len(looks) <= 1


def test_transaction_that_lost_its_nonce_is_refused_for_who_waits(cluster: Cluster) -> None:
    first = transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)
    second = transfer(cluster.genesis, TRADER, 0, OTHER.public, 2)
    cluster.submit(0, [first])
    for other in (1, 2, 3, 4):
        cluster.dropped.add((3, other))
    cluster.submit(3, [second])
    cluster.dropped.clear()
    cluster.run(3_000)
    lost = [digest(Domain.TRANSACTION, raw) for raw in (first, second)]
    fates = [member.replica.fate_of(name) for member in cluster.members for name in lost]
    assert any(fate is not None and fate.state == "refused" and fate.code is Code.WRONG_NONCE for fate in fates)


# ---------------------------------------------------------------- bytes from others


@pytest.mark.parametrize("frame", [
    b"", b"\x80", b"\xff" * 40, b"\x81\x01", encode_frame(GetTransactions(())), encode_frame(GetBlock(bytes(32))),
    encode_frame(Transactions((b"\x00", b"", b"\x9f" * 70_000))), bytes([0x83, FrameKind.BLOCK, 0x40, 0x80]),
])
def test_odd_frames_are_typed_errors_or_nothing(cluster: Cluster, frame: bytes) -> None:
    replica = cluster.members[0].replica
    for channel in Channel:
        try:
            replica.receive(PUBLICS[1], channel, frame)
        except GridTokenXError as error:
            assert str(error)
    while replica.backlog:
        replica.verify_some(64)
    cluster.submit(1, [transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)])
    cluster.run(2_000)
    assert level(cluster) >= 1


# ---------------------------------------------------------------- the log and what it remembers


def test_authority_whose_log_is_gone_leaves_a_mark(cluster: Cluster) -> None:
    grow(cluster, 2)
    cluster.checkpoint(4)
    cluster.crash(4)
    member = cluster.members[4]
    shutil.rmtree(member.path / "log")
    for wanted in ((True, -1), (True, -1), (False, 7)):     # the mark outlives restarts
        if wanted == (False, 7):
            leave_mark(member.path, 7)
        with Database.open(member.path, cluster.genesis.chain_id, map_bytes=64 << 20) as database:
            opened = open_log(member.path, cluster.genesis, database)
            opened.log.append(LogKind.MESSAGE, b"something")
            opened.log.sync()
            opened.log.close()
            assert (opened.lost, opened.barred) == wanted
    (member.path / LOST_MARK).write_text("soon")
    with (Database.open(member.path, cluster.genesis.chain_id, map_bytes=64 << 20) as database,
          pytest.raises(LogError, match="the number of an epoch")):
        open_log(member.path, cluster.genesis, database)


def test_damaged_log_is_set_aside(cluster: Cluster) -> None:
    grow(cluster, 2)
    cluster.crash(4)
    member = cluster.members[4]
    segment = min((member.path / "log").iterdir())
    damaged = bytearray(segment.read_bytes())
    damaged[:64] = bytes(64)
    segment.write_bytes(damaged)
    leave_mark(member.path, 7)                  # of an earlier time: it says nothing of what is lost now
    with Database.open(member.path, cluster.genesis.chain_id, map_bytes=64 << 20) as database:
        opened = open_log(member.path, cluster.genesis, database)
        opened.log.close()
    assert (opened.lost, opened.barred) == (True, -1)
    assert (member.path / "log.lost-1").is_dir()


def test_a_full_disk_is_named_and_nothing_is_taken_for_lost(cluster: Cluster) -> None:
    cluster.crash(4)
    with Database.open(cluster.members[4].path, cluster.genesis.chain_id, map_bytes=64 << 20) as database:
        disk = SimulatedDisk(full=True)
        with pytest.raises(LogFailed, match="No space left"):
            open_log(Path("/data"), cluster.genesis, database, disk=disk)
        with pytest.raises(LogFailed, match="No space left"):
            leave_mark(Path("/data"), 3, disk=disk)
        disk.full = False
        opened = open_log(Path("/data"), cluster.genesis, database, disk=disk)
        assert (opened.lost, opened.barred) == (False, -1)


def test_authority_with_its_log_signs(cluster: Cluster) -> None:
    grow(cluster, 2)
    cluster.checkpoint(4)
    cluster.crash(4)
    with Database.open(cluster.members[4].path, cluster.genesis.chain_id, map_bytes=64 << 20) as database:
        opened = open_log(cluster.members[4].path, cluster.genesis, database)
        opened.log.close()
    assert (opened.lost, opened.barred) == (False, -1)


def test_who_is_no_authority_may_begin_a_log_but_not_lose_one(cluster: Cluster) -> None:
    grow(cluster, 2)
    cluster.checkpoint(4)
    cluster.crash(4)
    member = cluster.members[4]
    segment = min((member.path / "log").iterdir())
    for damage, lost in ((lambda: segment.write_bytes(segment.read_bytes()[:4096]), True),
                         (lambda: shutil.rmtree(member.path / "log"), False)):
        damage()
        (member.path / LOST_MARK).unlink(missing_ok=True)
        with Database.open(member.path, cluster.genesis.chain_id, map_bytes=64 << 20) as database:
            opened = open_log(member.path, cluster.genesis, database, listed=False)
            opened.log.close()
        assert opened.lost is lost
