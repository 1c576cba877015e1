"""A node around one core: the driver of its effects over the simulated network, disk and executor.

It keeps the driver's promise (consensus.interface): what was appended before a Send is durable before that Send
leaves. What the real node does with LMDB, LibP2P and the ledger is done here with dicts, tuples and `toy`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.certificates import certificate_verifies
from gridtokenx.consensus.config import HeldBlock, Root
from gridtokenx.consensus.core import Core
from gridtokenx.consensus.epochs import Consensus, EpochStart, at_epoch_root
from gridtokenx.consensus.interface import (
    Answer,
    Barred,
    BlockBuilt,
    BlockExecuted,
    BlockHeld,
    Build,
    CatchUp,
    CaughtUp,
    Drop,
    Effect,
    Event,
    Execute,
    Fetch,
    Finalize,
    Misbehaviour,
    Note,
    Persist,
    Send,
    Tick,
    WorkPending,
)
from gridtokenx.consensus.messages import Certificate, KnownVotes, Message, Propose, Wake
from gridtokenx.consensus.recovery import Restart, restart_from
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import Header
from gridtokenx.sim import toy
from gridtokenx.sim.disk import Disk
from gridtokenx.sim.registry import RegistrySigner
from gridtokenx.sim.setting import (
    ChainAnswer,
    Clock,
    GetBlock,
    GetChain,
    GetTransactions,
    Setting,
    Speed,
    Told,
    Transactions,
)

MAX_BLOCK_TRANSACTIONS = 500
CHAIN_ANSWER_BLOCKS = 64
BODY_TRIES = 20
BODY_AGAIN_US = 200_000
FOLLOW_EVERY_US = 500_000


class SimulatedNode:
    """One authority. `start`, `crash`, `submit` and `receive` are all that faults and clients use."""

    honest = True

    def __init__(self, setting: Setting, index: int, disk: Disk, clock: Clock, speed: Speed) -> None:
        self.setting = setting
        self.index = index
        self.disk = disk
        self.clock = clock
        self.speed = speed
        self.running = False
        self._incarnation = 0
        self._genesis = toy.genesis()
        self._genesis_digest = self._genesis.hash

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """From the log, as CONSENSUS 6 says: replay, execute what is final, then network and votes."""
        world = self.setting.world
        base = Root(self._genesis_digest, 0, 0, self._genesis.timestamp_ms)
        restart = restart_from(base, self.disk.durable)
        self.running = True
        self.finals: list[tuple[HeldBlock, Certificate | None]] = [
            (block, restart.finalizations.get(block.digest)) for block in restart.finalized]
        self.final_ids = {name for block in restart.finalized for name in block.transaction_ids}
        self.headers: dict[bytes, Header] = {self._genesis_digest: self._genesis}
        self.headers.update((block.digest, block.header) for block in (*restart.finalized, *restart.recovered.blocks))
        self.blocks: dict[bytes, HeldBlock] = {block.digest: block for block in restart.recovered.blocks}
        self.executed: set[bytes] = {self._genesis_digest, *(block.digest for block in restart.finalized)}
        self.pool: dict[bytes, None] = {}
        self._asked: dict[bytes, tuple[int, Header | None]] = {}
        self._waiting: dict[bytes, list[bytes]] = {}
        self._busy_until_us = 0
        self._executing: set[bytes] = set()
        self._outbox: deque[tuple[int, Message | Told, int | None]] = deque()
        self._reported: tuple[int, tuple[bytes, ...]] = (0, ())
        self._pool_changed = True
        self._tip_reported: bytes | None = None
        self._timer_us: int | None = None
        self._syncing_chain = False
        if self.honest:
            self.setting.checker.starts(self.index)
            self.setting.checker.restarted(self.index, restart.finalized)
        self.consensus = Consensus(
            toy.key_of(self.index), RegistrySigner(self.setting.registry, self.index), self.setting.verifier,
            self._epoch_start(restart), restart.recovered, world.now_ms, self.clock.read_ms(world.now_us),
            lost=self.disk.lost and self.disk.barred < 0, barred=self.disk.barred, factory=self.setting.factory)
        world.trace(f"{self.index} starts at height {restart.root.height}, epoch {self.consensus.epoch}, view "
                    f"{self.core.view if self.core is not None else '-'}")
        self._turn(Tick())
        self._follow()

    def _epoch_start(self, restart: Restart | None) -> EpochStart:
        """Where the chain stands: at the root of an epoch, or within one."""
        height = len(self.finals)
        schedule = self.setting.schedule
        epoch = schedule.epoch_at(height + 1)
        root_height = schedule.root_height(epoch)
        digest, previous = self._genesis_digest, None
        if root_height:
            block, previous = self.finals[root_height - 1]
            digest = block.digest
        config = self.setting.config(epoch, digest)
        if restart is not None and height > root_height:
            return EpochStart(config, restart.root, previous)
        header = self.finals[-1][0].header if self.finals else self._genesis
        if restart is None and height > root_height:
            certificate = self.finals[-1][1]
            assert certificate is not None
            return EpochStart(config, Root(header.hash, height, certificate.view, header.timestamp_ms, certificate),
                              previous)
        return EpochStart(config, at_epoch_root(Root(digest, height, 0, header.timestamp_ms)), previous)

    @property
    def core(self) -> Core | None:
        return self.consensus.core

    @property
    def height(self) -> int:
        """Of the last block that is final here."""
        return len(self.finals)

    @property
    def finalized(self) -> bytes:
        return self.finals[-1][0].digest if self.finals else self._genesis_digest

    def _follow(self) -> None:
        """Who is no authority now asks for final blocks, as an observer does."""
        if self.core is None:
            self._sync_from(self.setting.schedule.members(self.consensus.epoch))
        self._later(FOLLOW_EVERY_US, self._follow)

    def crash(self) -> None:
        """Everything but the durable part of the log is gone."""
        self.running = False
        self._incarnation += 1
        self.disk.crash()
        self.setting.world.trace(f"{self.index} crashes")

    def submit(self, transaction_id: bytes) -> None:
        """A client's transaction: into the pool, and to all others."""
        self._pool_add((transaction_id,))
        for other in range(self.setting.nodes):
            if other != self.index:
                self.setting.network.send(self.index, other, Transactions((transaction_id,)))
        self._turn(None)

    # ------------------------------------------------------------ the driver

    def _turn(self, event: Event | None, received: tuple[int, Message] | None = None) -> None:
        """One turn of the loop: events into the core until it is quiet, then one sync, then the sends."""
        now = self.setting.world.now_ms, self.clock.read_ms(self.setting.world.now_us)
        self._events: deque[Event] = deque([] if event is None else [event])
        if received is not None:
            sender, message = received
            self._carry_all_out(self.consensus.receive(toy.key_of(sender), message, *now))
        while True:
            while self._events:
                self._carry_all_out(self.consensus.step(self._events.popleft(), *now))
            if not self._work_changed():
                break
        self.disk.sync(self._flush)
        self._flush()
        self._set_timer()

    def _carry_all_out(self, effects: list[Effect]) -> None:
        """In order; when the epoch's last block became final, the next epoch begins."""
        members = self.setting.schedule.members(self.consensus.epoch)
        for effect in effects:
            self._carry_out(effect, members)
        if self.setting.schedule.epoch_at(self.height + 1) > self.consensus.epoch:
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        start = self._epoch_start(None)
        self._note(f"epoch {start.config.epoch} begins", "epochs begun")
        self._reported, self._tip_reported = (0, ()), None
        self._carry_all_out(self.consensus.begin(
            start, self.setting.world.now_ms, self.clock.read_ms(self.setting.world.now_us)))

    def _later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Schedules for this incarnation only."""
        incarnation = self._incarnation

        def run() -> None:
            if self.running and incarnation == self._incarnation:
                action(*arguments)
        self.setting.world.after(delay_us, run)

    def _set_timer(self) -> None:
        deadline_ms = self.consensus.deadline_ms
        now_us = self.setting.world.now_us
        if deadline_ms is None or (self._timer_us is not None and now_us < self._timer_us <= deadline_ms * 1000):
            return
        self._timer_us = max(deadline_ms * 1000, now_us + 1)
        self._later(self._timer_us - now_us, self._tick, self._timer_us)

    def _tick(self, set_for_us: int) -> None:
        if self._timer_us == set_for_us:
            self._timer_us = None
            self._turn(Tick())

    def _flush(self) -> None:
        if not self.running:
            return
        while self._outbox and self._outbox[0][0] <= self.disk.synced:
            _, message, to = self._outbox.popleft()
            if isinstance(message, Told):
                self._tell(message)
                continue
            if self.honest:
                self.setting.checker.leaves(self.index, message)
            self._post(message, to)

    def _post(self, message: Message, to: int | None) -> None:
        for other in self._audience() if to is None else (to,):
            if other != self.index:
                self.setting.network.send(self.index, other, message)

    def _audience(self) -> list[int]:
        """Who hears what goes to all: the authorities of this epoch and of the last one."""
        schedule, epoch = self.setting.schedule, self.consensus.epoch
        return sorted({*schedule.members(epoch), *schedule.members(max(0, epoch - 1))})

    def _carry_out(self, effect: Effect, members: tuple[int, ...]) -> None:
        """`members` is the list that the effect's indexes are places in."""
        match effect:
            case Send(message, to):
                self._outbox.append((self.disk.appended, message, None if to is None else members[to]))
            case Answer(message, key):
                self._outbox.append((self.disk.appended, message, key[0]))
            case Barred(epoch, reason):
                self.disk.lost, self.disk.barred = True, epoch
                if self.honest:
                    self.setting.checker.barred(self.index, epoch)
                self._note(f"signs nothing up to epoch {epoch}: {reason}", "barred")
            case Persist(record):
                self.disk.append(record)
            case Execute():
                self._obtain(effect, members[effect.source])
            case Fetch(name, _, holders):
                if self.honest:
                    self.setting.checker.asks(self.index, name, self.setting.world.now_ms)
                self._fetch(name, tuple(members[holder] for holder in holders))
            case Build():
                block = self._built(effect)
                delay_us = self.speed.execution_us(len(block.transaction_ids))
                self._later(self._executor_free_in_us(delay_us), self._build_done, effect.view, block)
            case Finalize(names, certificate):
                for name in names:
                    self._final(self.blocks[name], certificate if name == names[-1] else None)
            case Drop(names):
                for name in names:
                    self.blocks.pop(name, None)
                    self.executed.discard(name)
                    self._asked.pop(name, None)
            case CatchUp(_, holders):
                self._sync_from(tuple(members[holder] for holder in holders))
            case Misbehaviour(signer, first, second):
                self._note(f"misbehaviour of {signer}: {first.kind.name} and {second.kind.name} in view {first.view}",
                           "misbehaviour")
            case Note(event, view, detail):
                self._note(f"{event} {view} {detail}", event)

    def _note(self, line: str, event: str) -> None:
        self.setting.notes[event] = self.setting.notes.get(event, 0) + 1
        self.setting.world.trace(f"{self.index} {line}")

    # ------------------------------------------------------------ pool

    def _pool_add(self, ids: tuple[bytes, ...]) -> None:
        for transaction_id in ids:
            if transaction_id not in self.final_ids and transaction_id not in self.pool:
                self.pool[transaction_id] = None
                self._pool_changed = True

    def _included(self, name: bytes) -> set[bytes]:
        """The transactions of the unfinalized blocks up to this one."""
        included: set[bytes] = set()
        block = self.blocks.get(name)
        while block is not None:
            included.update(block.transaction_ids)
            block = self.blocks.get(block.header.parent)
        return included

    def _work_changed(self) -> bool:
        tip = None if self.core is None else self.core.tip
        if tip is None or (tip == self._tip_reported and not self._pool_changed):
            return False
        self._tip_reported, self._pool_changed = tip, False
        included = self._included(tip)
        ids = tuple(name for name in self.pool if name not in included)
        report = (min(len(ids), MAX_BLOCK_TRANSACTIONS) * toy.WEIGHT_PER_TRANSACTION, ids)
        if report != self._reported:
            self._reported = report
            self._events.append(WorkPending(*report))
        return bool(self._events)

    # ------------------------------------------------------------ blocks

    def _executor_free_in_us(self, work_us: int) -> int:
        """One executor: work waits for the work before it."""
        start_us = max(self.setting.world.now_us, self._busy_until_us)
        self._busy_until_us = start_us + work_us
        return self._busy_until_us - self.setting.world.now_us

    def _built(self, build: Build) -> HeldBlock:
        included = self._included(build.parent)
        ids = () if build.empty else tuple(
            name for name in self.pool if name not in included)[:MAX_BLOCK_TRANSACTIONS]
        header = toy.header_of(self.headers[build.parent], build.parent, build.view, build.timestamp_ms,
                               toy.key_of(self.index), ids, self.setting.schedule)
        return HeldBlock(header.hash, header, ids, len(ids) * toy.BYTES_PER_TRANSACTION)

    def _build_done(self, view: int, block: HeldBlock) -> None:
        self._hold(block)
        self.executed.add(block.digest)
        self._turn(BlockBuilt(view, block.header, block.transaction_ids, block.body_bytes,
                              len(block.transaction_ids) * toy.WEIGHT_PER_TRANSACTION))

    def _hold(self, block: HeldBlock) -> None:
        self.blocks[block.digest] = block
        self.headers[block.digest] = block.header
        self.disk.append(block)
        self.setting.checker.block_made(block)

    def _obtain(self, execute: Execute, source: int) -> None:
        """The body out of the own pool where it has all of it, else from the leader."""
        name, header, ids = execute.digest, execute.header, execute.transaction_ids
        if name in self.blocks:
            self.headers[name] = header
            self._events.append(self._held(self.blocks[name]))
            self._execute_soon(name)
        elif all(transaction_id in self.pool for transaction_id in ids):
            if not toy.body_matches(header, ids):
                self._events.append(BlockExecuted(name, False, "the ids are not those of the header"))
                return
            block = HeldBlock(name, header, ids, len(ids) * toy.BYTES_PER_TRANSACTION)
            self._hold(block)
            self._events.append(self._held(block))
            self._execute_soon(name)
        else:
            self._ask_block(name, (source,))

    @staticmethod
    def _held(block: HeldBlock) -> BlockHeld:
        return BlockHeld(block.digest, block.header, block.transaction_ids, block.body_bytes)

    def _fetch(self, name: bytes, holders: tuple[int, ...]) -> None:
        if name in self.blocks:
            self._events.append(self._held(self.blocks[name]))
            self._execute_soon(name)
        else:
            self._ask_block(name, holders)

    def _ask_block(self, name: bytes, holders: tuple[int, ...], turn: int = 0) -> None:
        """Asks one holder after another, then the rest; gives up after a while (the core will ask again)."""
        if name in self.blocks or (turn == 0 and name in self._asked) or turn >= BODY_TRIES:
            if turn >= BODY_TRIES:
                self._asked.pop(name, None)
            return
        self._asked[name] = (turn, None)
        n = self.setting.nodes
        asked = (*holders, *(other for other in range(n) if other not in holders))
        to = asked[turn % len(asked)]
        if to != self.index:
            self.setting.network.send(self.index, to, GetBlock(name))
        self._later(BODY_AGAIN_US if to != self.index else 1, self._ask_again, name, holders, turn + 1)

    def _ask_again(self, name: bytes, holders: tuple[int, ...], turn: int) -> None:
        if name in self._asked:
            self._ask_block(name, holders, turn)

    def _on_block(self, block: HeldBlock) -> None:
        """A body came. Its hash and body decide, not who sent it."""
        if block.digest not in self._asked or block.digest in self.blocks:
            return
        if block.header.hash != block.digest or not toy.body_matches(block.header, block.transaction_ids):
            return
        del self._asked[block.digest]
        self._hold(block)
        self._events.append(self._held(block))
        self._execute_soon(block.digest)

    def _execute_soon(self, name: bytes) -> None:
        """Once the parent is executed; blocks wait for their parents here."""
        block = self.blocks[name]
        if name in self._executing:
            return
        if block.header.parent not in self.executed:
            waiting = self._waiting.setdefault(block.header.parent, [])
            if name not in waiting:
                waiting.append(name)
            return
        self._executing.add(name)
        delay_us = self.speed.execution_us(len(block.transaction_ids))
        self._later(self._executor_free_in_us(delay_us), self._execution_done, block)

    def _execution_done(self, block: HeldBlock) -> None:
        name, header = block.digest, block.header
        self._executing.discard(name)
        if name not in self.blocks:
            return                                       # dropped, or final by sync, meanwhile
        valid = (header.parent in self.executed and toy.executes(
            header, self.headers[header.parent], block.transaction_ids,
            self._included(header.parent) | self.final_ids, self.setting.schedule))
        self._events = deque()
        if valid:
            self.executed.add(name)
            for child in self._waiting.pop(name, []):
                if child in self.blocks:
                    self._execute_soon(child)
        self._turn(BlockExecuted(name, valid, "" if valid else "roots differ",
                                 len(block.transaction_ids) * toy.WEIGHT_PER_TRANSACTION))

    def _final(self, block: HeldBlock, certificate: Certificate | None) -> None:
        self._outbox.append((self.disk.appended, Told(block, certificate), None))
        self.finals.append((block, certificate))
        self.blocks.pop(block.digest, None)
        for transaction_id in block.transaction_ids:
            self.final_ids.add(transaction_id)
            self.pool.pop(transaction_id, None)
        self._pool_changed = True

    def _tell(self, told: Told) -> None:
        """Finality becomes known outside when what it rests on is durable."""
        block = told.block
        if self.honest:
            self.setting.checker.finalizes(self.index, block, told.certificate)
        self.setting.world.trace(f"{self.index} final {block.header.height} {block.digest.hex()[:16]}")
        self.setting.on_final(self.index, block)

    # ------------------------------------------------------------ sync

    def _sync_from(self, holders: tuple[int, ...]) -> None:
        """Asks two of those who signed the finalization for the final blocks above the own ones."""
        first = self.height + 1
        start = (self.setting.world.now_ms // 1000) % max(1, len(holders))
        for to in (holders[start:] + holders[:start])[:2]:
            self.setting.network.send(self.index, to, GetChain(first))

    def _on_get_chain(self, sender: int, first: int) -> None:
        """Blocks of one epoch: what follows cannot be checked before they are executed."""
        last = self.setting.schedule.boundary(self.setting.schedule.epoch_at(first)) if first > 0 else 0
        wanted = self.finals[first - 1:min(last, first - 1 + CHAIN_ANSWER_BLOCKS)] if first > 0 else []
        while wanted and wanted[-1][1] is None:
            wanted.pop()
        if wanted and wanted[-1][1] is not None:
            answer = ChainAnswer(tuple(block for block, _ in wanted), wanted[-1][1], self.height)
            self.setting.network.send(self.index, sender, answer)

    def _on_chain(self, sender: int, answer: ChainAnswer) -> None:
        """Links and certificate checked, then executed in order as delayed work."""
        if self._syncing_chain or not answer.blocks or answer.blocks[-1].digest != answer.certificate.digest:
            return
        config = self.consensus.start.config
        if not certificate_verifies(answer.certificate, Authorities.of_epoch(config.authorities, config.epoch_root),
                                    config.epoch, self.setting.verifier(config)):
            return
        for parent, block in zip(answer.blocks, answer.blocks[1:], strict=False):
            if block.header.parent != parent.digest:
                return
        self._syncing_chain = True
        work_us = sum(self.speed.execution_us(len(block.transaction_ids)) for block in answer.blocks)
        self._later(self._executor_free_in_us(work_us), self._chain_done, sender, answer)

    def _chain_done(self, sender: int, answer: ChainAnswer) -> None:
        self._syncing_chain = False
        height, name = self.height, self.finalized
        fresh = [block for block in answer.blocks if block.header.height > height]
        if not fresh or fresh[0].header.parent != name:
            return
        for block in fresh:
            if block.header.hash != block.digest or not toy.executes(
                    block.header, self.headers[block.header.parent], block.transaction_ids, self.final_ids,
                    self.setting.schedule):
                return
            self._hold(block)
            self.executed.add(block.digest)
            self._final(block, answer.certificate if block is fresh[-1] else None)
        for block in fresh:
            for child in self._waiting.pop(block.digest, []):
                if child in self.blocks:
                    self._execute_soon(child)
        self.setting.notes["synced blocks"] = self.setting.notes.get("synced blocks", 0) + len(fresh)
        if self.core is None:
            self.disk.append(answer.certificate)
            self._carry_all_out([])
            self._turn(None)
        else:
            self._turn(CaughtUp(fresh[-1].header, answer.certificate))
        if self.height < answer.head:
            self.setting.network.send(self.index, sender, GetChain(self.height + 1))

    # ------------------------------------------------------------ the network

    def receive(self, sender: int, payload: Any) -> None:
        """Any message; nothing while down."""
        if not self.running:
            return
        self._events = deque()
        match payload:
            case Transactions(ids):
                self._pool_add(ids)
                self._turn(None)
            case GetTransactions(ids):
                known = tuple(name for name in ids if name in self.pool)
                if known:
                    self.setting.network.send(self.index, sender, Transactions(known))
            case GetBlock(name):
                self._on_get_block(sender, name)
            case HeldBlock():
                self._on_block(payload)
                self._turn_pending()
            case GetChain(first):
                self._on_get_chain(sender, first)
            case ChainAnswer():
                self._on_chain(sender, payload)
            case _:
                if isinstance(payload, Propose):
                    self.setting.checker.arrives(self.index, digest(Domain.HEADER, payload.header))
                if isinstance(payload, Wake):
                    missing = tuple(name for name in payload.transaction_ids
                                    if name not in self.pool and name not in self.final_ids)
                    if missing:
                        self.setting.network.send(self.index, sender, GetTransactions(missing))
                if isinstance(payload, KnownVotes):
                    self.setting.checker.answered(self.index, sender)
                self._turn(None, (sender, payload))

    def _on_get_block(self, sender: int, name: bytes) -> None:
        block = self.blocks.get(name)
        if block is None:
            block = next((final for final, _ in reversed(self.finals) if final.digest == name), None)
        if block is not None:
            self.setting.network.send(self.index, sender, block)

    def _turn_pending(self) -> None:
        """A turn for the events that a handler queued by itself."""
        events, self._events = self._events, deque()
        for event in events:
            self._turn(event)
