"""The shell around a replica, on a network that only remembers: what it survives, what is durable, how it stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from node_support import OTHER, TRADER, Cluster, small_genesis, transfer

from gridtokenx.errors import InvariantError
from gridtokenx.network.limits import Offence
from gridtokenx.network.settings import TooLarge, Topic
from gridtokenx.node.feed import Feed, FeedFull
from gridtokenx.node.records import LogKind
from gridtokenx.node.replica import Channel, Turn
from gridtokenx.node.service import Checkpoints, Service, _Frame, _Synced
from gridtokenx.node.sync import MAX_ANSWER_BLOCKS, SyncError, decode_answer
from gridtokenx.store.checkpoint import FinalizedBlock
from gridtokenx.store.database import Database
from gridtokenx.store.log import Log


class DeadNetwork:
    """Nobody there."""

    on_frame = on_gossip = None

    def __init__(self) -> None:
        self.reports: list[tuple[bytes, Offence]] = []
        self.published: list[Topic] = []

    def serve(self, name: str, handler: object) -> None:
        self.handler = handler

    def peers(self) -> list[object]:
        return []

    def running(self) -> trio.Nursery:
        return trio.open_nursery()  # type: ignore[return-value]

    def report(self, public: bytes, offence: Offence, detail: str = "") -> None:
        self.reports.append((public, offence))

    def broadcast(self, channel: object, frame: bytes) -> int:
        return 0

    def send(self, public: bytes, channel: object, frame: bytes) -> bool:
        return False

    async def publish(self, topic: Topic, data: bytes) -> None:
        self.published.append(topic)
        raise TooLarge("too much")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One authority with three blocks that no checkpoint holds."""
    cluster = Cluster(small_genesis(1), tmp_path)
    cluster.run(1_500)
    for nonce in range(3):
        cluster.submit(0, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1)])
        cluster.run(300)
    yield cluster
    cluster.close()


def service_of(cluster: Cluster, **checkpoints: int) -> tuple[Service, DeadNetwork]:
    member, network = cluster.members[0], DeadNetwork()
    rules = Checkpoints(**({"blocks": 64, "interval_ms": 600_000} | checkpoints))
    return Service(member.replica, network, member.log, member.database, Feed({}),  # type: ignore[arg-type]
                   rules, lambda epoch: None), network


async def test_frame_that_breaks_something_ends_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    service, network = service_of(cluster)
    frame = _Frame(b"p" * 32, Channel.BODIES, b"\xff\xff")
    await service._take(frame)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(service.replica, "receive", broken)
    await service._take(frame)
    assert network.reports == [(b"p" * 32, Offence.INVALID)] * 2

    def unsafe(*_: object) -> None:
        raise InvariantError("two certificates")

    monkeypatch.setattr(service.replica, "receive", unsafe)
    with pytest.raises(InvariantError):
        await service._take(frame)


async def test_what_gossip_refuses_ends_nothing(cluster: Cluster) -> None:
    service, network = service_of(cluster)
    await service._carry_out(Turn(finals=cluster.members[0].chain.finals()))
    assert network.published == [Topic.BLOCK]
    assert service.feed.produced == {"": 3}


async def test_what_clients_hear_is_durable(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the simulator: finality that came in a turn without an own vote was told before its sync."""
    service, _ = service_of(cluster)
    log, told = cluster.members[0].log, []
    monkeypatch.setattr(Feed, "final", lambda _, block: told.append(log.end_position - log.durable_position))
    block = cluster.members[0].chain.finals()[-1]
    await service._carry_out(Turn(log=[(LogKind.BLOCK, b"what it rests on")], finals=[block]))
    assert told == [0]


async def test_who_left_the_list_asks_for_blocks_at_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the simulator: it waited for up to 30 s, as an authority does."""
    service, network = service_of(cluster)
    monkeypatch.setattr(network, "set_authorities", lambda keys: None, raising=False)
    service._epoch_began()
    assert not service._want_sync.is_set()
    monkeypatch.setattr(service.replica.consensus, "core", None)
    service._epoch_began()
    assert service._want_sync.is_set()


async def test_log_does_not_fill_up_while_nothing_is_signed(cluster: Cluster) -> None:
    """An authority that only catches up has no vote that would make it sync; the log buffers 64 MiB at most."""
    service, _ = service_of(cluster)
    log = cluster.members[0].log
    for _ in range(70):
        await service._carry_out(Turn(log=[(LogKind.BLOCK, bytes(1 << 20))]))
    assert log.end_position - log.durable_position <= 5


async def test_refused_transactions_wake_who_waits(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = service_of(cluster)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.feed.wait, b"t" * 32)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            await service._carry_out(Turn(refused=[b"t" * 32]))
    assert not service.feed._waiting
    monkeypatch.setattr("gridtokenx.node.feed.MAX_WAITED", 0)
    with pytest.raises(FeedFull):
        await service.feed.wait(b"u" * 32)


async def test_stopping_during_a_checkpoint_finishes_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = service_of(cluster, interval_ms=100)
    member = cluster.members[0]
    began, go_on = threading.Event(), threading.Event()
    honest = Database.checkpoint
    calls: list[int] = []

    def slow(database: Database, blocks: list[FinalizedBlock]) -> None:
        calls.append(len(blocks))
        began.set()
        assert go_on.wait(10)
        honest(database, blocks)

    monkeypatch.setattr(Database, "checkpoint", slow)
    monkeypatch.setattr(type(member.replica), "deadline_ms", property(lambda _: None))   # the chain stands still
    monkeypatch.setattr(member.replica, "tick", lambda: None)
    with trio.fail_after(20):
        async with service.running():
            await trio.to_thread.run_sync(began.wait, 10)
            threading.Timer(0.1, go_on.set).start()
    assert calls == [3]
    assert member.database.executed_height == 3
    cluster.crash(0)
    cluster.restart(0)
    assert cluster.members[0].chain.head.header.height == 3


async def test_a_checkpoint_cut_off_before_it_wrote_is_made_at_the_end(cluster: Cluster,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = service_of(cluster, interval_ms=100)
    member = cluster.members[0]
    began, go_on, honest = threading.Event(), threading.Event(), Log.sync

    def slow(log: Log) -> int:
        began.set()
        assert go_on.wait(10)
        return honest(log)

    monkeypatch.setattr(Log, "sync", slow)
    monkeypatch.setattr(type(member.replica), "deadline_ms", property(lambda _: None))
    monkeypatch.setattr(member.replica, "tick", lambda: None)
    with trio.fail_after(20):
        async with service.running():
            await trio.to_thread.run_sync(began.wait, 10)
            threading.Timer(0.1, go_on.set).start()
    assert member.database.executed_height == 3


async def test_stopping_writes_a_last_checkpoint(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = service_of(cluster)
    member = cluster.members[0]
    monkeypatch.setattr(type(member.replica), "deadline_ms", property(lambda _: None))
    monkeypatch.setattr(member.replica, "tick", lambda: None)
    async with service.running():
        await trio.testing.wait_all_tasks_blocked()
    assert member.database.executed_height == 3


async def test_sync_answers_that_came_too_late_change_nothing(cluster: Cluster) -> None:
    service, _ = service_of(cluster)
    raw = await service._serve_sync(b"p" * 32, bytes([0x82, 1, 0x18, 99]))
    answer = decode_answer(raw)
    assert len(answer.blocks) == 3 <= MAX_ANSWER_BLOCKS
    synced = _Synced(answer)
    await service._apply(synced)
    assert synced.error is None
    assert cluster.members[0].chain.head.header.height == 3
    with pytest.raises(SyncError):
        await service._serve_sync(b"p" * 32, bytes([0x81, 1]))
