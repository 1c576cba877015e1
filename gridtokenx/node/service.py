"""A running node: the trio shell around `Replica`, owning log, database, network and every task.

One task, the actor, touches the replica. Everything else (frames, gossip, clients, timers, finished checkpoints)
reaches it through one bounded queue. Each turn of the actor carries out what it decided in the order that
CONSENSUS 6 demands: log, one sync, then sends. CPU-heavy work runs on a worker thread while the actor waits, so
sockets and clients are served meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
import trio
from attrs import define, field, frozen

from gridtokenx.consensus.messages import Certificate
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.receipts import Code
from gridtokenx.network.limits import Offence
from gridtokenx.network.network import Network
from gridtokenx.network.settings import Channel as NetworkChannel
from gridtokenx.network.settings import NetworkError, Topic
from gridtokenx.node.chain import ChainBlock
from gridtokenx.node.confirmations import Confirmations
from gridtokenx.node.epochs import certificate_holds, members_of
from gridtokenx.node.feed import Feed
from gridtokenx.node.inbox import Inbox
from gridtokenx.node.machine import Machine, RealMachine
from gridtokenx.node.pace import SLICE_S, Pace
from gridtokenx.node.records import Transactions, decode_frame
from gridtokenx.node.replica import Channel, Outgoing, Replica, Turn
from gridtokenx.node.serve import answer_for
from gridtokenx.node.sync import (
    MAX_ANSWER_BLOCKS,
    Patience,
    SyncAnswer,
    SyncError,
    check_answer,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    encode_stored_certificate,
    within_epoch,
)
from gridtokenx.node.sync import PROTOCOL as SYNC_PROTOCOL
from gridtokenx.store.database import Database
from gridtokenx.store.log import Log

SLICE = 64                # transactions between two looks at the clock
LATE_S = 0.05
READ_FIRST_S = 0.005
SUBMIT_WAIT_S = 5.0
OVERLOADED_S = 0.5        # more is not taken while the submission before it has been waiting for so long
SYNC_POLL_S = 3.0
SYNC_LOOK_S = 30.0        # an authority, which hears of it otherwise unless its list is many epochs old
SYNC_RETRY_S = 0.5
OVERLOADED = "more transactions wait for this node than it can look at; try again later, or another node"
PRUNE_ROWS = 20_000
MAX_UNSYNCED_BYTES = 4 << 20
MAX_ANNOUNCED_BYTES = 1 << 20
ENVELOPE_BYTES = 8 << 10  # header and certificate of a block, at most


@frozen
class _Frame:
    public: bytes
    channel: Channel
    data: bytes


@define
class _Submission:
    raws: list[bytes]
    since_s: float
    done: trio.Event = field(factory=trio.Event)
    answers: list[tuple[bytes, int, str]] = field(factory=list)
    abandoned: bool = False


@define
class _Synced:
    """Checked blocks to execute, in order, from the head on."""

    answer: SyncAnswer
    done: trio.Event = field(factory=trio.Event)
    error: GridTokenXError | None = None


@frozen
class _Gossiped:
    raws: tuple[bytes, ...]


@frozen
class _Checkpointed:
    blocks: int


_Item = _Frame | _Submission | _Synced | _Gossiped | _Checkpointed


@frozen
class Checkpoints:
    """When a checkpoint is made: after so many final blocks, or so long after the last with any at all."""

    blocks: int
    interval_ms: int
    history_blocks: int = 0     # how many blocks back past states are kept; 0: all


class Service:
    """Runs until cancelled. A broken invariant ends it with InvariantError: the process must stop."""

    def __init__(self, replica: Replica, network: Network, log: Log, database: Database, feed: Feed,
                 checkpoints: Checkpoints, on_barred: Callable[[int], None], machine: Machine | None = None) -> None:
        """`on_barred` keeps durably that nothing may be signed up to the end of that epoch."""
        self.replica = replica
        self.network = network
        self.feed = feed
        self.started_s = trio.current_time()
        self.chain_lock = trio.Lock()
        """Held while a worker thread executes; whoever reads the chain's state on the event loop takes it."""
        self._machine = machine or RealMachine()
        self._log_file = log
        self._database = database
        self._former: tuple[bytes, ...] = ()
        self._listed = replica.consensus.keys
        self._on_barred = on_barred
        self.me = replica.consensus.me
        self.certificates_verified = 0
        """Of blocks that came by sync or gossip; for people to look at."""
        self.hold_sync = False
        """While a snapshot is fetched: it will hold what sync would ask for."""
        self.overloaded = 0
        """Transactions refused unread."""
        self.confirmations = Confirmations()
        self._checkpoints = checkpoints
        self._inbox: Inbox[_Item] = Inbox()
        self._log = structlog.get_logger("node")
        self._want_sync = trio.Event()
        self._sync_holders: list[bytes] = []
        self._patience = Patience()
        self._checkpointing = False
        self._checkpoint_s = trio.current_time()
        self._want_checkpoint = trio.Event()
        self._marks: list[tuple[tuple[int, int], int]] = []
        self._unsynced_bytes = 0
        self._pace = Pace()
        replica.limit_pending(self._pace.full)

    def _verify(self, certificate: Certificate) -> bool:
        good = certificate_holds(certificate, self.replica.consensus.start.config)
        self.certificates_verified += good
        return good

    @property
    def is_authority(self) -> bool:
        return self.replica.core is not None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the network and every task; leaving drains, makes a last checkpoint and closes nothing else."""
        self.network.on_frame = self._on_frame
        self.network.on_gossip = self._on_gossip
        self.network.serve(SYNC_PROTOCOL, self._serve_sync)
        async with self.network.running(), trio.open_nursery() as nursery:
            nursery.start_soon(self._actor)
            nursery.start_soon(self._sync_loop)
            nursery.start_soon(self._checkpoint_loop)
            yield
            nursery.cancel_scope.cancel()
        await self._last_checkpoint()

    # ------------------------------------------------------------ in

    async def submit(self, raws: list[bytes]) -> list[tuple[bytes, int, str]]:
        """A client's transactions; returns (id, code, message) for each once the replica has judged them.

        When more is waiting than can be looked at, all are refused at once; and so they are when none of them pays
        enough for a pool that is full.
        """
        refused = self.replica.refuse_at_once(raws)
        if refused is not None:
            return refused
        now_s = trio.current_time()
        first = self._inbox.first_bulk()
        late = isinstance(first, _Submission) and now_s - first.since_s > OVERLOADED_S
        submission = _Submission(raws, now_s)
        if not late and self._inbox.offer_bulk(submission, sum(map(len, raws))):
            with trio.move_on_after(SUBMIT_WAIT_S):
                await submission.done.wait()
            submission.abandoned = True
        self.confirmations.submitted((identity for identity, code, _ in submission.answers if code == 0), now_s)
        rest = raws[len(submission.answers):]
        self.overloaded += len(rest)
        return submission.answers + [(digest(Domain.TRANSACTION, raw), int(Code.OVERLOADED), OVERLOADED)
                                     for raw in rest]

    async def _on_frame(self, public: bytes, channel: NetworkChannel, data: bytes) -> None:
        await self._inbox.put(_Frame(public, Channel(int(channel)), data))

    async def _on_gossip(self, topic: Topic, data: bytes, forwarder: bytes, origin: bytes) -> bool | None:
        del forwarder, origin
        if topic is Topic.TX:
            frame = decode_frame(data)
            if not isinstance(frame, Transactions):
                return False
            await self._inbox.put(_Gossiped(frame.raws))
        elif topic is Topic.BLOCK:
            if self.is_authority:
                return True
            answer = decode_answer(data)
            await self._follow(answer)
        return True

    async def _follow(self, answer: SyncAnswer) -> None:
        """A gossiped stretch of final blocks: taken if it follows on the head, else a hint to sync."""
        head = self.replica.chain.head
        if not answer.blocks or answer.blocks[-1].header.height <= head.header.height:
            return
        if answer.blocks[0].header.height == head.header.height + 1:
            answer = within_epoch(answer, self.replica.consensus.epoch)
            check_answer(answer, head.header.height + 1, head.digest, self._verify)
            if answer.blocks:
                await self._inbox.put(_Synced(answer))
        else:
            self._want_sync.set()

    # ------------------------------------------------------------ the actor

    async def _actor(self) -> None:
        while True:
            await self._inbox.wait(self._idle_s())
            if self._late_s() > LATE_S:
                # This process was kept from running: what arrived meanwhile is still in the sockets, and a timer
                # must not give up on a view whose votes are there already.
                await trio.sleep(READ_FIRST_S)
            self._now()
            for item in self._inbox.take_urgent():
                await self._take(item)
            self._work_off()
            self._now()
            self.replica.tick()
            await self._carry_out(self.replica.take_turn())
            await trio.lowlevel.checkpoint()

    def _idle_s(self) -> float:
        deadline_ms = self.replica.deadline_ms
        idle_s = 3600.0 if deadline_ms is None else max(0.0, deadline_ms / 1000 - trio.current_time())
        if not self.replica.backlog and self._inbox.first_bulk() is None:
            return idle_s
        return min(idle_s, self._pace.wait_s(len(self.replica.pool), trio.current_time()))

    def _late_s(self) -> float:
        """How long ago the replica's timer should have been looked at; negative before that."""
        deadline_ms = self.replica.deadline_ms
        return -1.0 if deadline_ms is None else trio.current_time() - deadline_ms / 1000

    def _work_off(self) -> None:
        """Spends a slice of time on transactions: clients' submissions and other nodes' in turn.

        With plenty pending the slices become rare (`pace`).
        """
        now_s = trio.current_time()
        if self._pace.wait_s(len(self.replica.pool), now_s):
            return
        self._pace.begin(now_s)
        until_s = self._machine.effort_s() + SLICE_S
        while self._machine.effort_s() < until_s:
            self.replica.verify_some(SLICE)
            submission = self._inbox.first_bulk()
            if submission is None:
                if not self.replica.backlog:
                    return
                continue
            assert isinstance(submission, _Submission)
            if not submission.abandoned:
                start = len(submission.answers)
                submission.answers += self.replica.submit(submission.raws[start:start + SLICE])
            if submission.abandoned or len(submission.answers) == len(submission.raws):
                submission.done.set()
                self._inbox.drop_bulk()

    def _now(self) -> None:
        self.replica.at(round(trio.current_time() * 1000), self._machine.clock_ms())

    async def _take(self, item: _Item) -> None:
        match item:
            case _Frame():
                try:
                    self.replica.receive(item.public, item.channel, item.data)
                except InvariantError:
                    raise
                except GridTokenXError as error:
                    self._log.warning("bad_frame", sender=item.public.hex()[:16], channel=item.channel.name,
                                      error=str(error))
                    self.network.report(item.public, Offence.INVALID, str(error))
                except Exception:  # noqa: BLE001 - see below
                    # A defect that one peer's bytes can reach must not stop every node that they are sent to.
                    self._log.exception("frame_failed", sender=item.public.hex()[:16], channel=item.channel.name)
                    self.network.report(item.public, Offence.INVALID, "its frame could not be handled")
            case _Gossiped():
                self.replica.gossiped(item.raws)
            case _Synced():
                await self._apply(item)
                item.done.set()
            case _Checkpointed():
                self.replica.chain.checkpoint_done(item.blocks)
                self.feed.stored(self.replica.chain.base.header.height)
                self._prune_log()
                self._checkpointing = False
                self._checkpoint_s = trio.current_time()

    async def _carry_out(self, turn: Turn) -> None:
        while True:
            if turn.barred is not None:
                self._log.error("signs_nothing", up_to_epoch=turn.barred.epoch, reason=turn.barred.reason)
                await self._machine.in_thread(self._on_barred, turn.barred.epoch)
            if turn.epoch_began:
                self._epoch_began()
            for kind, payload in turn.log:
                self._log_file.append(int(kind), payload)
                self._unsynced_bytes += len(payload)
            if turn.must_sync or turn.finals or self._unsynced_bytes > MAX_UNSYNCED_BYTES:
                # What is told to be final is final here after a power failure too. And also without votes of its own,
                # as while catching up: the log buffers only so much.
                await self._machine.in_thread(self._log_file.sync)
                self._unsynced_bytes = 0
            for outgoing in turn.sends:
                await self._dispatch(outgoing)
            await self._finals(turn)
            self._notes(turn)
            if not turn.jobs:
                return
            for job in turn.jobs:
                async with self.chain_lock:
                    await self._machine.in_thread(job.run)
                self._now()
                self.replica.job_done(job)
            turn = self.replica.take_turn()

    async def _dispatch(self, outgoing: Outgoing) -> None:
        channel = NetworkChannel(int(outgoing.channel))
        if outgoing.to is not None:
            self.network.send(outgoing.to, channel, outgoing.frame)
        elif self.is_authority:
            self.network.broadcast(channel, outgoing.frame)
        else:
            await self._publish(Topic.TX, outgoing.frame)

    def _epoch_began(self) -> None:
        """Links to the new list, and for one epoch to the last one: who lags behind is told how that ended."""
        self._former, self._listed = self._listed, self.replica.consensus.keys
        self.network.set_authorities({*self._former, *self._listed})
        self.feed.authority_names.update(
            (public, name) for name, public in members_of(self.replica.chain.state))
        if not self.is_authority:
            self._want_sync.set()       # nobody sends blocks to one who left the list: from now on it asks for them
        self._log.info("epoch", number=self.replica.consensus.epoch, authorities=len(self._listed),
                       member=self.is_authority, signs=self.replica.consensus.standing.may_sign)

    async def _publish(self, topic: Topic, data: bytes) -> None:
        """Gossip is a hint: what cannot be published reaches the others in another way."""
        try:
            await self.network.publish(topic, data)
        except NetworkError as error:
            self._log.warning("not_published", topic=topic.value, bytes=len(data), error=str(error))

    async def _finals(self, turn: Turn) -> None:
        if turn.catch_up is not None:
            self._sync_holders = list(turn.catch_up)
            self._want_sync.set()
        for block in turn.finals:
            self.feed.final(block)
            self.confirmations.final(block.ids, trio.current_time())
            self._pace.final(len(block.transactions), trio.current_time())
            self.replica.limit_pending(self._pace.full)
            if block.result is not None:
                for window, zone, residual in block.result.flags:
                    self._log.warning("zone_imbalance", window=window, zone=zone, residual_wh=residual)
                for address in block.result.overdrawn:
                    self._log.warning("utility_beyond_credit", account=address.hex())
        for transaction_id in turn.refused:
            self.feed.refused(transaction_id)
            self.confirmations.refused(transaction_id)
        if not turn.finals:
            return
        last = turn.finals[-1]
        if self._announces(last) and last.certificate is not None:
            await self._publish(Topic.BLOCK, _announcement(turn.finals))
        chain = self.replica.chain
        if len(chain.finals()) >= self._checkpoints.blocks:
            self._want_checkpoint.set()

    def _announces(self, block: ChainBlock) -> bool:
        """The proposer and the authority after it publish a final block, each to the observers that it knows."""
        if not self.is_authority:
            return False
        keys = self.replica.consensus.keys
        place = keys.index(block.header.proposer) if block.header.proposer in keys else 0
        return self.me in (keys[place], keys[(place + 1) % len(keys)])

    def _notes(self, turn: Turn) -> None:
        for note in turn.notes:
            self._log.debug(note.event, view=note.view, detail=note.detail)
        for evidence in turn.misbehaviour:
            self._log.warning("misbehaviour", authority=evidence.signer, view=evidence.first.view,
                              first=evidence.first.kind.name, second=evidence.second.kind.name)

    # ------------------------------------------------------------ catching up

    async def _serve_sync(self, public: bytes, payload: bytes) -> bytes:
        del public
        from_height, most = decode_request(payload)
        return answer_for(self._database, self.replica.chain, from_height, most)

    async def _sync_loop(self) -> None:
        """Asks peers for what follows the head: when told of a gap, and, following only, every few seconds."""
        turn = 0
        while True:
            with trio.move_on_after(SYNC_POLL_S if not self.is_authority else SYNC_LOOK_S):
                await self._want_sync.wait()
            self._want_sync = trio.Event()
            failed = 0
            while not self.hold_sync:
                peers = list(dict.fromkeys([*self._sync_holders, *(
                    peer.public for peer in self.network.peers() if peer.connected)]))
                if not peers:
                    break
                peer = peers[turn % len(peers)]
                turn += 1
                try:
                    more, failed = await self._sync_from(peer), 0
                except (NetworkError, GridTokenXError, trio.TooSlowError) as error:
                    if isinstance(error, InvariantError):
                        raise
                    if isinstance(error, SyncError):
                        self.network.report(peer, Offence.INVALID, str(error))
                    self._log.info("sync_failed", peer=peer.hex()[:16], error=str(error) or type(error).__name__)
                    await trio.sleep(SYNC_RETRY_S)
                    failed += 1
                    more = failed < len(peers)
                if not more:
                    break
            if failed:
                self._patience.all_failed()

    async def _sync_from(self, peer: bytes) -> bool:
        """One question to one peer; True if there is more to ask for."""
        head, began_s = self.replica.chain.head, trio.current_time()
        raw = await self.network.request(peer, SYNC_PROTOCOL, encode_request(head.header.height + 1),
                                         self._patience.wait_s)
        self._patience.answered(trio.current_time() - began_s)
        answer = await self._machine.in_thread(_checked, raw, head.header.height + 1, head.digest,
                                               self.replica.consensus.epoch, self._verify)
        if not answer.blocks:
            return False
        synced = _Synced(answer)
        await self._inbox.put(synced)
        await synced.done.wait()
        if synced.error is not None:
            raise synced.error
        return answer.head_height > self.replica.chain.head.header.height

    async def _apply(self, synced: _Synced) -> None:
        """Executes checked blocks; each is final, so one that does not execute stops the node."""
        answer, chain = synced.answer, self.replica.chain
        blocks = [block for block in answer.blocks if block.header.height > chain.head.header.height]
        if not blocks or blocks[0].header.parent != chain.head.digest:
            return                      # consensus got there first
        try:
            async with self.chain_lock:
                done = await self._machine.in_thread(self.replica.execute_final, blocks)
        except InvariantError:
            raise
        except GridTokenXError as error:
            synced.error = SyncError(str(error))
            return
        certificate = blocks[-1].certificate or answer.certificate
        assert certificate is not None
        self._now()
        self.replica.synced(done, certificate)

    # ------------------------------------------------------------ checkpoints

    async def _checkpoint_loop(self) -> None:
        interval_s = self._checkpoints.interval_ms / 1000
        while True:
            with trio.move_on_after(interval_s):
                await self._want_checkpoint.wait()
            self._want_checkpoint = trio.Event()
            blocks = self.replica.chain.checkpoint_blocks()
            if not blocks or self._checkpointing:
                continue
            self._checkpointing = True
            began = trio.current_time()
            # First the log: one without any record beside a database with blocks counts as lost (CONSENSUS 6).
            await self._machine.in_thread(self._log_file.sync)
            await self._machine.in_thread(self._database.checkpoint, blocks)
            self._log.debug("checkpoint", height=blocks[-1].height, blocks=len(blocks),
                            took_ms=round((trio.current_time() - began) * 1000, 1))
            await self._inbox.put(_Checkpointed(len(blocks)))
            self._database.reader_check()       # slots of readers that died would keep old pages from being used
            usage = self._database.usage()
            if usage.alarm:
                self._log.warning("store_filling", used_percent=round(usage.fraction * 100),
                                  remedy="stop the node and raise store.map_size_mib")
            keep = self._checkpoints.history_blocks
            if keep and blocks[-1].height > keep:
                await self._machine.in_thread(self._database.prune_history, blocks[-1].height - keep, PRUNE_ROWS,
                                              self._machine.clock_ms())

    async def _last_checkpoint(self) -> None:
        with trio.CancelScope(shield=True):
            await self._machine.in_thread(self._log_file.sync)
            # One that was under way was cut off before it wrote, or is done: the database knows.
            stored = self._database.executed_height
            blocks = [block for block in self.replica.chain.checkpoint_blocks() if block.height > stored]
            if blocks:
                await self._machine.in_thread(self._database.checkpoint, blocks)

    def _prune_log(self) -> None:
        """Keeps everything about views above the checkpoint's; records are at most 100 views ahead of their time."""
        core, base = self.replica.core, self.replica.chain.base.header
        place = (base.epoch, base.view) if core is None else (self.replica.consensus.epoch, core.view)
        useless = [position for (epoch, view), position in self._marks
                   if epoch < base.epoch or (epoch == base.epoch and view + 200 < base.view)]
        if useless:
            self._log_file.prune(useless[-1])
            self._marks = [mark for mark in self._marks if mark[1] > useless[-1]]
        self._marks.append((place, self._log_file.end_position))


def _checked(raw: bytes, height: int, parent: bytes, epoch: int,
             verify: Callable[[Certificate], bool]) -> SyncAnswer:
    answer = within_epoch(decode_answer(raw), epoch)
    check_answer(answer, height, parent, verify)
    return answer


def _announcement(blocks: list[ChainBlock]) -> bytes:
    """The last of the final blocks for observers, as many as a message holds, in the form of a sync answer."""
    newest: list[ChainBlock] = []
    size = 0
    for block in blocks[:-MAX_ANSWER_BLOCKS - 1:-1]:
        size += block.body_bytes + ENVELOPE_BYTES
        if newest and size > MAX_ANNOUNCED_BYTES:
            break
        newest.append(block)
    return encode_answer(blocks[-1].header.height, [
        (block.header.encode(), [transaction.raw for transaction in block.transactions],
         None if block.certificate is None else encode_stored_certificate(block.certificate))
        for block in reversed(newest)], [], None)
