"""A disk in memory that forgets and tears what was not synced, for tests and the simulator.

What a power failure leaves, chosen by the caller's random generator: of each unsynced write every 512-byte
sector on its own, or none; of a file's size any value it had since its last sync; of a directory's entries, each
name on its own, any state since the directory's last sync. Synced data always survives. What a killed process leaves
is all that it wrote, still not synced.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

from attrs import define, field

from gridtokenx.store.disk import File

SECTOR_BYTES = 512


class PowerLost(BaseException):
    """The simulated machine lost power in the middle of an operation; no handler for errors may catch it."""


@define(eq=False)
class _Inode:
    content: bytearray = field(factory=bytearray)
    durable: bytes = b""
    writes: list[tuple[int, bytes]] = field(factory=list)


@define(eq=False)
class SimulatedDisk:
    """A `Disk`. `power_after` operations that change something from now, `PowerLost` is raised, with that
    operation in an undecided state; then call `lose_power`, or `kill_process`, and open everything again.

    While `full`, no file is made and none grows. `on_durable` hears of every write that is durable from now on,
    `on_remove` of every file that is about to be removed, with its content."""

    seed: int = 0
    power_after: int | None = None
    tear_next: bool = False
    """Power fails in the middle of the next write of more than a sector: only its first sectors are there."""
    _torn: _Inode | None = None
    syncs: int = 0
    full: bool = False
    on_durable: Callable[[bytes], None] | None = None
    on_remove: Callable[[Path, bytes], None] | None = None
    _names: dict[Path, _Inode] = field(factory=dict)
    _past: dict[Path, list[_Inode | None]] = field(factory=dict)
    _random: Random = field(init=False)
    _generation: int = 0

    def __attrs_post_init__(self) -> None:
        self._random = Random(self.seed)

    def lose_power(self, random: Random) -> None:
        """Forgets a random part of what was not synced; open files are invalid from now on."""
        self.kill_process()
        for path in sorted(self._past):
            inode = random.choice([*self._past[path], self._names.get(path)])
            if inode is None:
                self._names.pop(path, None)
            else:
                self._names[path] = inode
        self._past.clear()
        for path in sorted(self._names):
            self._durable(_settle(self._names[path], random, self._names[path] is self._torn))
        self._torn = None

    def kill_process(self) -> None:
        """Open files are invalid from now on; nothing is lost, nothing is durable that was not."""
        self._generation += 1
        self.power_after = None
        self.tear_next = False

    # ------------------------------------------------------------ Disk

    def make_directory(self, path: Path) -> None:
        del path  # a directory is there as soon as a file is in it

    def names(self, path: Path) -> list[str]:
        return sorted({found.relative_to(path).parts[0] for found in self._names if path in found.parents})

    def create(self, path: Path) -> File:
        if path in self._names:
            raise FileExistsError(path)
        self._check_room()
        self._remember(path)
        self._names[path] = _Inode()
        self.step()
        return _SimulatedFile(self, self._names[path], True)

    def open(self, path: Path, *, write: bool) -> File:
        if path not in self._names:
            raise FileNotFoundError(path)
        return _SimulatedFile(self, self._names[path], write)

    def rename(self, source: Path, target: Path) -> None:
        for path in [found for found in self._names if found == source or source in found.parents]:
            renamed = target / path.relative_to(source)
            self._remember(path)
            self._remember(renamed)
            self._names[renamed] = self._names.pop(path)
        self.step()

    def remove(self, path: Path) -> None:
        if self.on_remove is not None:
            self.on_remove(path, bytes(self._names[path].content))
        self._remember(path)
        del self._names[path]
        self.step()

    def sync_directory(self, path: Path) -> None:
        self.step()
        for found in [found for found in self._past if path in found.parents]:
            del self._past[found]

    def random(self, length: int) -> bytes:
        return self._random.randbytes(length)

    # ------------------------------------------------------------ inside

    def damage(self, path: Path, offset: int, mask: int = 0xFF) -> None:
        """Bit rot: flips bits of one byte, durably."""
        inode = self._names[path]
        inode.content[offset] ^= mask
        inode.durable = bytes(inode.content)

    def _remember(self, path: Path) -> None:
        self._past.setdefault(path, []).append(self._names.get(path))

    def _durable(self, writes: list[bytes]) -> None:
        if self.on_durable is not None:
            for data in writes:
                self.on_durable(data)

    def _check_room(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on the simulated disk")

    def step(self) -> None:
        """One operation that changes something; a database on this disk counts its own here too."""
        if self.power_after is not None:
            self.power_after -= 1
            if self.power_after <= 0:
                raise PowerLost("the simulated power failed")


def _settle(inode: _Inode, random: Random, torn: bool) -> list[bytes]:
    """Decides what survives; returns the unsynced writes that did as a whole. Of the last, if it is `torn`, the first
    sectors do."""
    sizes = [len(inode.durable)]
    content = bytearray(inode.durable)
    for number, (offset, data) in enumerate(inode.writes, 1):
        end = offset + len(data)
        sizes.append(max(sizes[-1], end))
        content.extend(bytes(max(0, end - len(content))))
        if torn and number == len(inode.writes):
            stop = SECTOR_BYTES * random.randint(1, (len(data.rstrip(b"\0")) - 1) // SECTOR_BYTES)
            content[offset:offset + stop] = data[:stop]
            continue
        fate = random.randrange(4)
        for start in range(offset, end, SECTOR_BYTES):
            if fate == 0 or (fate > 1 and random.randrange(2)):
                stop = min(start + SECTOR_BYTES, end)
                content[start:stop] = data[start - offset:stop - offset]
    inode.durable = bytes(content[:random.choice(sizes)])
    inode.content = bytearray(inode.durable)
    whole = [data for offset, data in inode.writes if inode.durable[offset:offset + len(data)] == data]
    inode.writes.clear()
    return whole


class _SimulatedFile:
    def __init__(self, disk: SimulatedDisk, inode: _Inode, writable: bool) -> None:
        self._disk = disk
        self._inode = inode
        self._writable = writable
        self._generation = disk._generation

    def _check(self) -> None:
        if self._generation != self._disk._generation:
            raise OSError("this file was open when the power failed")

    def pread(self, offset: int, length: int) -> bytes:
        self._check()
        return bytes(self._inode.content[offset:offset + length])

    def pwrite(self, offset: int, data: bytes) -> None:
        self._check()
        if not self._writable:
            raise OSError("this file is open for reading")
        content = self._inode.content
        if offset + len(data) > len(content):
            self._disk._check_room()
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset:offset + len(data)] = data
        self._inode.writes.append((offset, bytes(data)))
        if self._disk.tear_next and len(bytes(data).rstrip(b"\0")) > SECTOR_BYTES:
            self._disk._torn = self._inode
            raise PowerLost("the simulated power failed in the middle of a write")
        self._disk.step()

    def sync(self) -> None:
        self._check()
        self._disk.step()
        self._disk.syncs += 1
        self._inode.durable = bytes(self._inode.content)
        writes = [data for _, data in self._inode.writes]
        self._inode.writes.clear()
        self._disk._durable(writes)

    def size(self) -> int:
        self._check()
        return len(self._inode.content)

    def close(self) -> None:
        return
