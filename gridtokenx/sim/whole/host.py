"""A machine with a node on it: what outlives the process (disk, database file, clock), and the process's lives.

The process is the node's own code: `open_log`, `assemble`, `Service`. It dies by `PowerLost` from whatever it asks of
the machine next, at any write, sync, rename, send or wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, cast

import structlog
import trio
from attrs import define, field

from gridtokenx.consensus.config import HeldBlock, KeySigner
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.consensus.messages import Message, Propose
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.network.network import Network as RealNetwork
from gridtokenx.network.settings import Topic
from gridtokenx.node.assembly import Parts, assemble
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.epochs import members_of
from gridtokenx.node.feed import Feed
from gridtokenx.node.inbox import Inbox
from gridtokenx.node.lost_log import LOG_DIRECTORY, leave_mark, open_log
from gridtokenx.node.pool import Pool
from gridtokenx.node.service import Checkpoints, Service
from gridtokenx.sim.disk import Key
from gridtokenx.sim.network import Network
from gridtokenx.sim.registry import Registry
from gridtokenx.sim.setting import Clock
from gridtokenx.sim.whole.chain import Lists
from gridtokenx.sim.whole.checker import WholeChecker, held_of
from gridtokenx.sim.whole.durable import headers_of_write, keys_of_segment, keys_of_write
from gridtokenx.sim.whole.lmdb_model import ModelledDatabase, ModelledFile, Version
from gridtokenx.sim.whole.machine import Pace, SimulatedMachine
from gridtokenx.sim.whole.wires import Wires
from gridtokenx.sim.whole.world import TrioWorld
from gridtokenx.store.database import Database
from gridtokenx.store.errors import StoreError
from gridtokenx.store.log import Log
from gridtokenx.store.simulated_disk import PowerLost, SimulatedDisk

DATA = Path("/data")
OPERATOR_US = 500_000           # until somebody starts a stopped process again


@define(eq=False)
class Setting:
    """What all machines of a run share."""

    world: TrioWorld
    network: Network
    registry: Registry
    checker: WholeChecker
    lists: Lists
    genesis: Genesis
    first_version: Version
    segment_bytes: int
    checkpoints: Checkpoints
    hosts: list[Host] = field(factory=list)
    notes: Counter[str] = field(factory=Counter)

    def places(self, public: bytes) -> list[int]:
        """The machines that run with this key: two for twins."""
        return [host.index for host in self.hosts if host.public == public]

    def proposed(self, message: Message) -> None:
        """The checker learns headers when they leave."""
        if isinstance(message, Propose):
            name = digest(Domain.HEADER, message.header)
            if name not in self.checker.blocks:
                try:
                    header = decode_header(message.header)
                except GridTokenXError:
                    return              # an adversary's
                self.checker.block_made(HeldBlock(name, header, message.transaction_ids, 0))


class RecordingSigner:
    """Signs for one authority; the registry hears of it."""

    def __init__(self, registry: Registry, number: int, key: PrivateKey, chain_id: bytes) -> None:
        self._registry = registry
        self._number = number
        self._signer = KeySigner(key, chain_id)

    def sign(self, content: bytes) -> bytes:
        signature = self._signer.sign(content)
        self._registry.record(self._number, content, signature)
        return signature

    def made(self, content: bytes, signature: bytes) -> bool:
        return self._signer.made(content, signature)


class ToldFeed(Feed):
    """What clients hear, the checker hears."""

    host: Host

    def final(self, block: ChainBlock) -> None:
        super().final(block)
        self.host.told(block)


class _PausableInbox(Inbox[Any]):
    host: Host

    async def wait(self, timeout_s: float) -> None:
        await super().wait(timeout_s)
        await self.host.machine.awake()


class RememberingLog:
    """A log whose every record is remembered by its hash, from life to life: it may give back nothing else."""

    def __init__(self, log: Log, written: set[bytes]) -> None:
        self._log = log
        self._written = written

    def append(self, kind: int, payload: bytes) -> int:
        self._written.add(_name_of(kind, payload))
        return self._log.append(kind, payload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def _name_of(kind: int, payload: bytes) -> bytes:
    return sha256(bytes((kind,)) + payload).digest()


class Host:
    """`start`, `crash`, `stop` and what faults do to disk and clock are called from the world's events."""

    honest = True
    wires_class: type[Wires] = Wires

    def __init__(self, setting: Setting, index: int, number: int, key: PrivateKey, clock: Clock, pace: Pace) -> None:
        """`number` is the key's; `index` the machine's. They differ for the second of twins."""
        self.setting = setting
        self.index = index
        self.number = number
        self.key = key
        self.public = key.public
        self.clock = clock
        self.pace = pace
        self.keys: set[Key] = set()                     # what the log proves; for the checker
        self.signer = RecordingSigner(setting.registry, number, key, setting.genesis.chain_id)
        self.random: Random = setting.world.stream(f"machine {index}")
        self.disk = SimulatedDisk(self.random.randrange(1 << 30), on_durable=self._durable, on_remove=self._removed)
        self.file = ModelledFile(setting.first_version, step=self.disk.step)
        self.machine = SimulatedMachine(setting.world, clock, pace, self.random)
        self.wires: Wires | None = None
        self.service: Service | None = None
        self.running = False
        self.lives = 0
        self.was_full = False
        self.power_at_crash = True
        self.after_crash: Callable[[], None] = lambda: None
        self.sends_left: int | None = None
        self.kept: list[Any] = []                       # what an adversary remembers from life to life
        self._written: set[bytes] = set()
        self._database: Database | None = None
        self._scope = trio.CancelScope()
        self._wanted = trio.Event()
        self._stop = trio.Event()

    # ------------------------------------------------------------ outside

    def start(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        """As by SIGTERM."""
        self._stop.set()

    def crash(self, *, power: bool) -> None:
        """Between two events."""
        if self.running:
            self.power_at_crash = power
            self.machine.die()
            self._scope.cancel()

    def crash_at(self, *, power: bool, writes: int | None = None, sends: int | None = None) -> None:
        """In the middle of what it does: at that write or sync from now, or after so many more messages."""
        self.power_at_crash = power
        if writes is not None:
            self.disk.power_after = writes
        self.sends_left = sends

    def sends(self) -> None:
        """Called before each message: may be the end."""
        self.machine.alive()
        if self.sends_left is not None:
            self.sends_left -= 1
            if self.sends_left <= 0:
                self.sends_left = None
                self.machine.die()
                raise PowerLost("the simulated process was killed between two messages")

    def receive(self, sender: int, payload: Any) -> None:
        if self.running and self.wires is not None and not self.machine.dead:
            self.wires.heard(sender, payload)

    def subscribes(self, topic: Topic) -> bool:
        return topic is not Topic.BLOCK or (self.wires is not None and self.wires.observes)

    @property
    def height(self) -> int:
        """Of the last block that is final here, or was when it was last seen alive."""
        return 0 if self.service is None else self.service.replica.chain.head.header.height

    @property
    def core_view(self) -> int:
        core = None if self.service is None else self.service.replica.core
        return 0 if core is None else core.view

    @property
    def epoch(self) -> int:
        return 0 if self.service is None else self.service.replica.consensus.epoch

    def note(self, event: str, detail: str = "") -> None:
        self.setting.notes[event] += 1
        self.setting.world.trace(f"{self.index} {event} {detail}")

    # ------------------------------------------------------------ one life after the other

    async def lives_on(self) -> None:
        """Until cancelled: a life whenever `start` was called."""
        structlog.contextvars.bind_contextvars(machine=self.index)
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            self._stop = trio.Event()
            self._scope = trio.CancelScope()
            self.machine = SimulatedMachine(self.setting.world, self.clock, self.pace, self.random)
            self.running = True
            self.lives += 1
            self.setting.world.trace(f"{self.index} starts")
            how = await self._life()
            self.running = False
            self.service = None
            self.wires = None
            self.disk.power_after = self.sends_left = None
            if how == "crashed" and self.power_at_crash:
                self.disk.lose_power(self.random)
                self.file.lose_power()
            else:
                self.disk.kill_process()
            self.note(how)
            after, self.after_crash = self.after_crash, lambda: None
            after()
            if how != "crashed":
                self.setting.world.after(OPERATOR_US, self.start)

    async def _life(self) -> str:
        how = "crashed"
        try:
            with self._scope:
                await self._run()
                how = "stopped"
        except* PowerLost:
            how = "crashed"
        except* StoreError as group:
            how = "disk refused"
            if not self.was_full:
                self.setting.world.fail(_first(group))
        except* Exception as group:  # noqa: BLE001 - whatever stops an honest node is a finding
            how = "failed"
            if self.honest:
                self.setting.world.fail(_first(group))
        return how

    async def _run(self) -> None:
        setting, genesis = self.setting, self.setting.genesis
        database = ModelledDatabase.over(self.file, DATA, genesis.chain_id)
        self._database = database
        with database.snapshot() as snapshot:
            listed = self.public in {public for _, public in members_of(snapshot)}
        if self.honest:
            setting.checker.starts(self.number)
            setting.checker.reopens(self.number, database)
        opened = open_log(DATA, genesis, database, listed=listed, disk=self.disk, segment_bytes=setting.segment_bytes)
        if self.honest and listed and not opened.lost:
            setting.checker.forgets(self.number, self.keys - self._keys_on_disk(), database)
        if self.honest:
            setting.checker.reads_back(self.number, (kind for kind, payload in opened.log.recovered
                                                     if _name_of(kind, payload) not in self._written))
        feed = cast(Callable[[dict[bytes, str]], Feed], self._feed)
        service = await assemble(Parts(
            genesis=genesis, key=self.key, database=database, opened=opened, pool=Pool(),
            checkpoints=setting.checkpoints, machine=self.machine, network=self._network, on_barred=self._barred,
            signer=self.signer, feed=feed))
        if self.honest:
            setting.checker.reopened(self.number)
        inbox = _PausableInbox()
        inbox.host = self
        service._inbox = inbox
        service._log_file = cast(Log, RememberingLog(opened.log, self._written))
        self.service = service
        self.setting.world.trace(f"{self.index} is at height {self.height}, epoch {self.epoch}, view {self.core_view}")
        async with service.running():
            await self._stop.wait()

    def _network(self, chain: Chain, consensus: Consensus) -> RealNetwork:
        return cast(RealNetwork, self.wires_class(self, chain, consensus))

    def _feed(self, names: dict[bytes, str]) -> Feed:
        feed = ToldFeed(names)
        feed.host = self
        return feed

    def _barred(self, epoch: int) -> None:
        self.note("barred", f"up to epoch {epoch}")
        leave_mark(DATA, epoch, disk=self.disk)
        if self.honest:
            self.setting.checker.barred(self.number, epoch)

    def told(self, block: ChainBlock) -> None:
        self.machine.alive()
        self.setting.world.trace(f"{self.index} final {block.header.height} {block.digest.hex()[:16]}")
        if self.honest:
            self.setting.checker.finalizes(self.number, held_of(block), block.certificate)
            self.setting.checker.state_after(block)
            if self.service is not None and self.service.is_authority:
                self.setting.checker.vouches(self.number, block.header.height)

    # ------------------------------------------------------------ the log

    def _durable(self, data: bytes) -> None:
        self.keys |= keys_of_write(data)
        for header in headers_of_write(data):           # it may never leave this machine, and still become final
            self.setting.checker.block_made(HeldBlock(header.hash, header, (), 0))

    def _removed(self, path: Path, content: bytes) -> None:
        if self.honest and self.running and self._database is not None and path.suffix == ".segment":
            self.setting.checker.forgets(self.number, keys_of_segment(content), self._database)

    def _keys_on_disk(self) -> set[Key]:
        found: set[Key] = set()
        for path in self.log_files():
            file = self.disk.open(path, write=False)
            found |= keys_of_segment(file.pread(0, file.size()))
        return found

    def log_files(self) -> list[Path]:
        return [DATA / LOG_DIRECTORY / name for name in self.disk.names(DATA / LOG_DIRECTORY)]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
