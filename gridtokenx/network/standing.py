"""Who has misbehaved, by key and by address, and what of that and of known peers outlives a restart.

A key costs nothing, so a ban of one also counts against the address it came from: an address from which several keys
were banned is refused before any handshake. The file is a convenience: without it, or when it is damaged, a node
starts with a clean memory and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import structlog
from attrs import frozen

from gridtokenx import codec
from gridtokenx.network.limits import LONGEST_BAN_S, Offence, ScoreBook, Standing

log = structlog.get_logger()

_VERSION = 1
_MAX_SAVED = 1024
_MAX_FILE = 1 << 20
_THOUSANDTHS = 1000


@frozen
class Anchor:
    """A peer reached in the last run, and where."""

    public: bytes
    address: str


def _bannable_host(host: str) -> bool:
    """This machine's own address is not banned: other programs of its owner use it."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False


class Standings:
    """Scores of peers by key, and of addresses by the keys banned there. Times in seconds, passed in."""

    def __init__(self) -> None:
        self.peers = ScoreBook()
        self.hosts = ScoreBook(capacity=1024)
        self.changed = False
        """A ban that a saved file does not know yet."""

    def report(self, public: bytes, host: str, offence: Offence, now: float, *, bannable: bool) -> bool:
        """Counts an offence; True iff the peer is banned by it."""
        if not self.peers.report(public, offence, now, bannable=bannable):
            return False
        self.changed = True
        if _bannable_host(host) and self.hosts.report(host.encode(), Offence.BANNED_KEY, now):
            log.warning("network.address_banned", host=host, seconds=self.hosts.banned_s(host.encode(), now))
        return True

    def banned_s(self, public: bytes, now: float) -> float:
        return self.peers.banned_s(public, now)

    def host_banned_s(self, host: str, now: float) -> float:
        return self.hosts.banned_s(host.encode(), now)

    # ------------------------------------------------------------ over restarts

    def encode(self, anchors: Iterable[Anchor], now: float, clock_s: float) -> bytes:
        """The worst standings and the anchors, for `restore`; `clock_s` is the wall clock."""
        return codec.encode([_VERSION, int(clock_s), _rows(self.peers, now), _rows(self.hosts, now),
                             [[anchor.public, anchor.address] for anchor in anchors]])

    def restore(self, raw: bytes, now: float, clock_s: float) -> list[Anchor]:
        """Takes up what a former run saved. Raises CodecError for what is no such file."""
        value = codec.decode(raw, max_bytes=_MAX_FILE)
        match value:
            case [int() as version, int() as saved_s, [*peers], [*hosts], [*anchors]] if version == _VERSION:
                away_s = max(0.0, clock_s - saved_s)
                _take(self.peers, peers, now, away_s)
                _take(self.hosts, hosts, now, away_s)
                found = []
                for entry in anchors:
                    match entry:
                        case [bytes() as public, str() as address]:
                            found.append(Anchor(public, address))
                        case _:
                            raise codec.CodecError("an anchor is [public key, address]")
                return found
            case _:
                raise codec.CodecError(f"a memory of peers is [{_VERSION}, time, peers, addresses, anchors]")


def _rows(book: ScoreBook, now: float) -> list[list[bytes | int]]:
    """[who, -score in thousandths, bans, seconds banned yet], worst first."""
    rows: list[list[bytes | int]] = []
    for who, standing in book.standings.items():
        score = round(-book.score(who, now) * _THOUSANDTHS)
        if score > 0 or standing.bans:
            rows.append([who, max(0, score), standing.bans, round(book.banned_s(who, now))])
    rows.sort(key=lambda row: (row[3], row[1]), reverse=True)
    return rows[:_MAX_SAVED]


def _take(book: ScoreBook, rows: list[object], now: float, away_s: float) -> None:
    for row in rows:
        match row:
            case [bytes() as who, int() as score, int() as bans, int() as banned_s]:
                book.standings[who] = Standing(
                    value=-max(0, score) / _THOUSANDTHS, at=now - away_s, bans=min(max(bans, 0), 16),
                    banned_until=now + min(banned_s, LONGEST_BAN_S) - away_s)
            case _:
                raise codec.CodecError("a standing is [who, score, bans, seconds]")


def read_memory(path: Path) -> bytes | None:
    """What a former run left; None where there is nothing."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("network.memory_unreadable", path=str(path), error=str(error))
        return None


def write_memory(path: Path, raw: bytes) -> None:
    """Whole or not at all. A full disk costs the memory, not the node."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        log.warning("network.memory_not_saved", path=str(path), error=str(error))
