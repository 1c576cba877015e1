"""Who subscribed to what: each message is made once, and handed to bounded queues of all clients that want it."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import trio
from attrs import define, field

from gridtokenx.api.answers import shaped, to_address
from gridtokenx.api.backend import Backend
from gridtokenx.api.channels import (
    Alerts,
    BlockFacts,
    Blocks,
    Channel,
    Depth,
    EventChannel,
    Grid,
    Prices,
    StateChannel,
    Trades,
    Transactions,
)
from gridtokenx.api.follower import Follower
from gridtokenx.api.metrics import Metrics
from gridtokenx.api.problems import Problem
from gridtokenx.ledger import queries
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.node.reads import Map

MAX_CHANNELS = 4096
MAX_WINDOWS = 24
"""Whose books are followed; `node.depths` keeps a few more for queries."""
MAX_REPLAY = 10_000
KEPT_FACTS = 64
"""Blocks whose contents are at hand for those who come back and ask for the last ones again."""
REPLAY_SLICE = 16
HEARTBEAT_S = 10.0

_NAMES = {"blocks": (), "trades": ("account", "window", "zone"), "transactions": ("account",), "alerts": (),
          "depth": ("window", "zone"), "prices": ("window",), "grid": ("window",)}
"""Channel -> what it can be narrowed to."""
_REQUIRED = {"transactions": {"account"}, "depth": {"window", "zone"}, "prices": {"window"}, "grid": {"window"}}
_EVENTS: dict[str, type[EventChannel]] = {
    "blocks": Blocks, "trades": Trades, "transactions": Transactions, "alerts": Alerts}


@define(eq=False)
class Outbox:
    """What waits for one client; one that lets more than `most` wait is dropped."""

    most: int
    reason: str = ""
    channels: dict[tuple[Any, ...], Channel] = field(factory=dict)
    _waiting: deque[str] = field(factory=deque)
    _some: trio.Event = field(factory=trio.Event)

    def put(self, message: str) -> None:
        if self.reason:
            return
        if len(self._waiting) >= self.most:
            self.drop(f"{self.most} messages wait for you; read faster, or subscribe to less")
            return
        self._waiting.append(message)
        self._some.set()

    def drop(self, reason: str) -> None:
        """Nothing more is sent but the reason."""
        self.reason = self.reason or reason
        self._waiting.clear()
        self._some.set()

    async def take(self, most: int) -> list[str]:
        """Waits for messages; up to `most` characters of them, at least one. None left and a reason: dropped."""
        while not self._waiting and not self.reason:
            await self._some.wait()
            self._some = trio.Event()
        found: list[str] = []
        size = 0
        while self._waiting and (not found or size < most):
            found.append(self._waiting.popleft())
            size += len(found[-1])
        return found

    async def room(self) -> None:
        """Waits until at most half of what may wait does: for what is sent as fast as it is read."""
        while len(self._waiting) > self.most // 2 and not self.reason:
            await trio.sleep(0.01)


class Feeds:
    """All channels of one interface."""

    def __init__(self, backend: Backend, follower: Follower, metrics: Metrics) -> None:
        self._backend = backend
        self._reads = backend.reads
        self._follower = follower
        self._metrics = metrics
        self._channels: dict[tuple[Any, ...], Channel] = {}
        self._facts = lru_cache(KEPT_FACTS)(partial(BlockFacts, backend.reads))
        self._windows: Counter[int] = Counter()         # whose books are followed, and by how many channels
        self.outboxes: set[Outbox] = set()
        follower.listeners.append(self._block)
        follower.settled.append(self._settled)

    @property
    def height(self) -> int:
        """Up to here everything has been told."""
        return self._follower.height

    async def run(self) -> None:
        """Tells everybody now and then how far the chain is, so that a silent feed is known to be alive."""
        while True:
            await trio.sleep(HEARTBEAT_S)
            message = json.dumps({"type": "heartbeat", "height": self.height})
            for outbox in list(self.outboxes):
                outbox.put(message)

    # ------------------------------------------------------------ telling

    def _block(self, height: int) -> None:
        facts = self._facts(height)
        for channel in self._channels.values():
            if isinstance(channel, EventChannel):
                message = channel.event(facts, channel.after)
                if message is not None:
                    self._tell(channel, message, height)

    def _settled(self, height: int) -> None:
        for channel in self._channels.values():
            if isinstance(channel, StateChannel):
                content = channel.update(self._backend)
                if content is not None:
                    self._tell(channel, channel.message("update", channel.after, height, content), height)

    def _tell(self, channel: Channel, message: str, height: int) -> None:
        channel.after = height
        self._metrics.messages.labels(channel.named["channel"]).inc(len(channel.clients))
        for outbox in channel.clients:
            outbox.put(message)

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, outbox: Outbox, request: Map, most: int) -> None:
        """Raises Problem for what cannot be subscribed to. Returns when the client is up to date."""
        key, named = _checked(request)
        after = _after(request)
        if key in outbox.channels:
            raise Problem(400, "bad_request", "this is subscribed to already")
        if len(outbox.channels) >= most:
            raise Problem(429, "rate_limited", f"a connection has at most {most} subscriptions")
        if named["channel"] in _EVENTS:
            await self._replay(outbox, key, named, self.height if after is None else after)
            return
        if named["channel"] != "grid":
            await self._backend.depths.read(named["window"], lambda depth: depth)   # the first time on a thread
        async with self._reads.view.lock:
            channel = self._channel(key, named)
            assert isinstance(channel, StateChannel)
            self._join(outbox, key, channel)
            outbox.put(channel.message("snapshot", channel.after, self.height, channel.snapshot(self._backend)))

    async def _replay(self, outbox: Outbox, key: tuple[Any, ...], named: Map, after: int) -> None:
        """Tells of the blocks above `after` from the store, then joins those who hear of them as they come."""
        if after > self.height:
            raise Problem(503, "ahead", f"after = {after}; the newest final block is {self.height}")
        if self.height - after > MAX_REPLAY:
            raise Problem(400, "bad_request", f"after = {after} is {self.height - after} blocks back; at most "
                                              f"{MAX_REPLAY} are told again. Read older ones with GET")
        channel = _made(named, after)
        assert isinstance(channel, EventChannel)
        outbox.put(_reply("subscribed", named, after))
        told = after
        while told < self.height:
            await outbox.room()
            if outbox.reason:
                return
            async with self._reads.view.lock:
                for height in range(told + 1, min(self.height, told + REPLAY_SLICE) + 1):
                    message = channel.event(self._facts(height), channel.after)
                    if message is not None:
                        channel.after = height
                        outbox.put(message)
                    told = height
        self._join(outbox, key, self._channel(key, named))      # nothing was waited for since `told` was compared
        outbox.put(_reply("live", named, told))

    def unsubscribe(self, outbox: Outbox, request: Map) -> Map:
        """Raises Problem if there is no such subscription."""
        key, named = _checked(request)
        if key not in outbox.channels:
            raise Problem(400, "bad_request", "this is not subscribed to")
        self._leave(outbox, key)
        return named

    def forget(self, outbox: Outbox) -> None:
        """The client has gone."""
        for key in list(outbox.channels):
            self._leave(outbox, key)
        self.outboxes.discard(outbox)

    def _join(self, outbox: Outbox, key: tuple[Any, ...], channel: Channel) -> None:
        channel.clients.add(outbox)
        outbox.channels[key] = channel

    def _leave(self, outbox: Outbox, key: tuple[Any, ...]) -> None:
        channel = outbox.channels.pop(key)
        channel.clients.discard(outbox)
        if not channel.clients:
            self._channels.pop(key, None)
            if isinstance(channel, Depth | Prices):
                self._windows[channel.named["window"]] -= 1
                self._windows += Counter()              # without those that nobody follows

    def _channel(self, key: tuple[Any, ...], named: Map) -> Channel:
        found = self._channels.get(key)
        if found is not None:
            return found
        if len(self._channels) >= MAX_CHANNELS:
            raise Problem(503, "busy", f"{MAX_CHANNELS} different subscriptions are open; try again later")
        channel = _made(named, self.height)
        if isinstance(channel, Depth | Prices):
            if "zone" in named and named["zone"] >= len(queries.zones(self._reads.view.state)):
                raise Problem(404, "unknown", f"no zone {named['zone']}")
            if channel.named["window"] not in self._windows and len(self._windows) >= MAX_WINDOWS:
                raise Problem(503, "busy", f"the books of {MAX_WINDOWS} windows are followed; try again later")
            self._windows[channel.named["window"]] += 1
        self._channels[key] = channel
        return channel


_STATES: dict[str, Callable[..., StateChannel]] = {"depth": Depth, "prices": Prices, "grid": Grid}


def _made(named: Map, after: int) -> Channel:
    kind = _EVENTS.get(named["channel"]) or _STATES[named["channel"]]
    channel = kind(named, after)
    if isinstance(channel, Trades | Transactions) and "account" in named:
        channel.account = named["account"]
    return channel


def _reply(kind: str, named: Map, height: int) -> str:
    return json.dumps({**shaped(named), "type": kind, "height": height})


def _checked(request: Map) -> tuple[tuple[Any, ...], Map]:
    """The key of a channel, and its name with what it is narrowed to. Raises Problem."""
    name = request.get("channel")
    if not isinstance(name, str) or name not in _NAMES:
        raise Problem(400, "bad_request", f"channel is one of {', '.join(_NAMES)}")
    named: Map = {"channel": name}
    for field_name in sorted(set(request) - {"op", "channel", "after"}):
        if field_name not in _NAMES[name]:
            raise Problem(400, "bad_request", f"{name} has no {field_name[:40]!r}; it can be narrowed to "
                                              f"{', '.join(_NAMES[name]) or 'nothing'}")
        named[field_name] = _value(field_name, request[field_name])
    missing = _REQUIRED.get(name, set()) - set(named)
    if missing:
        raise Problem(400, "bad_request", f"{name} needs {', '.join(sorted(missing))}")
    return tuple(named.items()), named


def _value(name: str, value: Any) -> Any:
    if name == "account":
        if not isinstance(value, str) or len(value) not in (62, 64):
            raise Problem(400, "bad_request", "account is an address gtx1…")
        try:
            return to_address(value)
        except ValueError as error:
            raise Problem(400, "bad_request", "account is an address gtx1…, or 64 hexadecimal digits") from error
    most = MAX_WINDOW if name == "window" else 63
    if type(value) is not int or not 0 <= value <= most:
        raise Problem(400, "bad_request", f"{name} is an integer from 0 to {most}")
    return value


def _after(request: Map) -> int | None:
    after = request.get("after")
    if after is not None and (type(after) is not int or not 0 <= after < 1 << 53):
        raise Problem(400, "bad_request", "after is the height up to which you have everything")
    return after
