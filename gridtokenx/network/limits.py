"""Rates and scores of peers: pure arithmetic on a time that is passed in, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from attrs import define

from gridtokenx.network.settings import Rate


class TokenBucket:
    """At most `burst` at once and `per_s` on average."""

    __slots__ = ("_burst", "_last", "_per_s", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_s = rate.per_s
        self._burst = rate.burst
        self._tokens = rate.burst
        self._last = now

    def _refill(self, now: float) -> None:
        if now > self._last:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_s)
            self._last = now

    def take(self, amount: float, now: float) -> bool:
        """Takes `amount` and returns True, or takes nothing and returns False."""
        self._refill(now)
        if amount > self._tokens:
            return False
        self._tokens -= amount
        return True

    def wait_s(self, amount: float, now: float) -> float:
        """Takes `amount` even beyond what is there and returns how long to wait for it, 0 if not at all."""
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._per_s)


class RateTable:
    """Messages and bytes of many senders; the least recently heard is forgotten beyond `capacity`."""

    def __init__(self, messages: Rate, volume: Rate, capacity: int = 1024) -> None:
        self._messages = messages
        self._volume = volume
        self._capacity = capacity
        self._buckets: OrderedDict[bytes, tuple[TokenBucket, TokenBucket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, sender: bytes, size: int, now: float, cost: float = 1.0) -> bool:
        """True iff one more message of `size` bytes is within the rates; `cost` > 1 throttles the sender."""
        buckets = self._buckets.get(sender)
        if buckets is None:
            buckets = (TokenBucket(self._messages, now), TokenBucket(self._volume, now))
            self._buckets[sender] = buckets
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(sender)
        messages, volume = buckets
        return messages.take(cost, now) and volume.take(size * cost, now)

    def forget(self, sender: bytes) -> None:
        self._buckets.pop(sender, None)


class Offence(Enum):
    """What lowers a peer's score, and by how much."""

    INVALID = 20.0
    """It sent what no honest peer sends: undecodable, mis-signed, oversized."""
    FLOOD = 2.0
    """Beyond its rate."""
    UNRESPONSIVE = 5.0
    """No answer in time."""
    BANNED_KEY = 40.0
    """Of an address: a peer that came from it was banned."""


THROTTLE_BELOW = -50.0
BAN_BELOW = -100.0
HALF_LIFE_S = 600.0
FIRST_BAN_S = 60.0
LONGEST_BAN_S = 3600.0


@define
class Standing:
    """The score of one peer: 0 is good, it falls by offences and half of it is forgiven every ten minutes."""

    value: float = 0.0
    at: float = 0.0
    bans: int = 0
    banned_until: float = 0.0


def _forgiven(elapsed_s: float) -> float:
    return float(0.5 ** (max(0.0, elapsed_s) / HALF_LIFE_S))


class ScoreBook:
    """Standings by public key, or by whatever else names who is meant; `standing.py` keeps them over restarts."""

    def __init__(self, capacity: int = 4096) -> None:
        self.standings: OrderedDict[bytes, Standing] = OrderedDict()
        self._capacity = capacity

    def _current(self, public: bytes, now: float) -> Standing:
        standing = self.standings.get(public)
        if standing is None:
            standing = self.standings[public] = Standing(at=now)
            while len(self.standings) > self._capacity:
                self.standings.popitem(last=False)
        else:
            self.standings.move_to_end(public)
            if now > standing.at:
                standing.value *= _forgiven(now - standing.at)
                standing.at = now
        return standing

    def report(self, public: bytes, offence: Offence, now: float, *, bannable: bool = True) -> bool:
        """Counts an offence. True iff the peer is banned by it, for a minute first and twice as long each time."""
        standing = self._current(public, now)
        standing.value -= offence.value
        if standing.value > BAN_BELOW:
            return False
        if not bannable:
            standing.value = BAN_BELOW
            return False
        standing.banned_until = now + min(LONGEST_BAN_S, FIRST_BAN_S * 2**standing.bans)
        standing.bans = min(standing.bans + 1, 16)
        standing.value = THROTTLE_BELOW
        return True

    def score(self, public: bytes, now: float) -> float:
        """The present score without changing anything; 0 for a peer that is not known."""
        standing = self.standings.get(public)
        if standing is None:
            return 0.0
        return standing.value * _forgiven(now - standing.at)

    def throttled(self, public: bytes, now: float) -> bool:
        return self.score(public, now) <= THROTTLE_BELOW

    def banned_s(self, public: bytes, now: float) -> float:
        """How long the peer stays banned, in seconds; 0 if it is not."""
        standing = self.standings.get(public)
        return 0.0 if standing is None else max(0.0, standing.banned_until - now)
