"""The simulated durable log: records in batches, one batch in flight, a crash loses what was not synced."""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote
from gridtokenx.consensus.recovery import LogRecord
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.sim.world import World

Key = tuple[str, int, int, int, bytes]


def block_key(name: bytes) -> Key:
    return ("block", 0, 0, 0, name)


def vote_key(kind: Kind, epoch: int, view: int, name: bytes) -> Key:
    return ("vote", int(kind), epoch, view, name)


def certificate_key(kind: Kind, epoch: int, view: int, name: bytes) -> Key:
    return ("certificate", int(kind), epoch, view, name)


def final_key(name: bytes) -> Key:
    """Some finalization of the block, whichever view it is of."""
    return ("final", 0, 0, 0, name)


def record_keys(record: LogRecord) -> list[Key]:
    """What a record proves to be durable."""
    if isinstance(record, HeldBlock):
        return [block_key(record.digest)]
    if isinstance(record, Vote):
        return [vote_key(record.kind, record.epoch, record.view, record.digest)]
    if isinstance(record, Propose):
        return [vote_key(Kind.NOTARIZE, record.epoch, record.view, digest(Domain.HEADER, record.header))]
    assert isinstance(record, Certificate)
    keys = [certificate_key(record.kind, record.epoch, record.view, record.digest)]
    return [*keys, final_key(record.digest)] if record.kind is Kind.FINALIZE else keys


class Disk:
    """One node's log. It outlives the node's crashes."""

    def __init__(self, world: World, sync_us: int, random_name: str) -> None:
        self.sync_us = sync_us
        self.durable: list[LogRecord] = []
        self.keys: set[Key] = set()
        self.lost = False                                    # the mark that a lost log leaves
        self.barred = -1                                     # kept beside it once it is known
        self.appended = 0                                    # counts records, this incarnation's lost ones left out
        self._world = world
        self._random = world.stream(random_name)
        self._pending: list[LogRecord] = []
        self._in_flight: list[LogRecord] = []
        self._incarnation = 0
        self._on_synced: Callable[[], None] = lambda: None

    @property
    def synced(self) -> int:
        return len(self.durable)

    def append(self, record: LogRecord) -> None:
        self._pending.append(record)
        self.appended += 1

    def sync(self, on_synced: Callable[[], None]) -> None:
        """Starts a sync of all that was appended; the next batch waits for this one. Calls back after each."""
        self._on_synced = on_synced
        if self._in_flight or not self._pending:
            return
        self._in_flight, self._pending = self._pending, []
        self._world.after(self.sync_us, self._synced, self._incarnation)

    def _synced(self, incarnation: int) -> None:
        if incarnation != self._incarnation:
            return
        self._settle()
        self.sync(self._on_synced)
        self._on_synced()

    def _settle(self) -> None:
        self.durable.extend(self._in_flight)
        self.keys.update(key for record in self._in_flight for key in record_keys(record))
        self._in_flight = []

    def crash(self) -> None:
        """Power loss: what waits is lost; the batch in flight is whole on disk or not there, by chance."""
        self._incarnation += 1
        if self._in_flight and self._random.randrange(2):
            self._settle()
        self._in_flight, self._pending = [], []
        self.appended = len(self.durable)

    def lose(self) -> None:
        """The whole log is gone; the node will notice, and leave a mark."""
        self.durable, self.keys, self.appended, self.lost = [], set(), 0, True

    def restore(self, records: int) -> None:
        """An old copy of the log takes its place: nothing about it looks wrong."""
        self.durable = self.durable[:records]
        self.keys = {key for record in self.durable for key in record_keys(record)}
        self.appended = len(self.durable)
