"""The node's network over the simulated links: the same calls as LibP2P's, without sockets.

Frames, gossip, questions and answers are messages of `sim.network`: delayed, lost, doubled, reordered, cut off. That is
more than TCP does to one stream; it is what a node lives through whose connections break and come back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from gridtokenx.consensus.epochs import Consensus
from gridtokenx.consensus.messages import KnownVotes, decode_message
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.network.limits import Offence
from gridtokenx.network.settings import Channel, PeerGone, PeerInfo, Topic
from gridtokenx.node.chain import Chain

if TYPE_CHECKING:
    from gridtokenx.sim.whole.host import Host

Handler = Callable[[bytes, bytes], Awaitable[bytes]]


@frozen
class Frame:
    channel: Channel
    data: bytes


@frozen
class Gossip:
    topic: Topic
    data: bytes


@frozen
class Question:
    number: int
    protocol: str
    payload: bytes


@frozen
class Answer:
    number: int
    payload: bytes


Payload = Frame | Gossip | Question | Answer


class Wires:
    """Of one life of a process. What it sends goes by the checker first."""

    def __init__(self, host: Host, chain: Chain, consensus: Consensus) -> None:
        self.on_frame: Any = None
        self.on_gossip: Any = None
        self.host = host
        self.chain = chain
        self.consensus = consensus
        self.observes = consensus.core is None
        self.addresses: list[str] = []
        self.authorities: tuple[bytes, ...] = ()
        self._handlers: dict[str, Handler] = {}
        self._questions: dict[int, Callable[[bytes], None]] = {}
        self._next = 0
        self._in, self._out = trio.open_memory_channel[tuple[int, Payload]](100_000)

    # ------------------------------------------------------------ what the service calls

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, nursery)
            self.host.wires = self
            try:
                yield
            finally:
                self.host.wires = None
            nursery.cancel_scope.cancel()

    def set_authorities(self, publics: Iterable[bytes]) -> None:
        self.authorities = tuple(sorted(publics))
        self.host.setting.lists.heard(self.host.number, self.consensus.epoch, self.consensus.keys)

    def serve(self, name: str, handler: Handler) -> None:
        self._handlers[name] = handler

    def send(self, public: bytes, channel: Channel, frame: bytes) -> bool:
        self._leaves(channel, frame)
        for to in self.host.setting.places(public):
            self.post(to, Frame(channel, frame))
        return True

    def broadcast(self, channel: Channel, frame: bytes) -> int:
        self._leaves(channel, frame)
        for public in self.authorities:
            if public != self.host.public:
                for to in self.host.setting.places(public):
                    self.post(to, Frame(channel, frame))
        return len(self.authorities)

    async def publish(self, topic: Topic, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for other in self.host.setting.hosts:
            if other is not self.host and other.subscribes(topic):
                self.post(other.index, Gossip(topic, data))

    async def request(self, public: bytes, name: str, payload: bytes, timeout_s: float = 5.0) -> bytes:
        self._next += 1
        number, answered, found = self._next, trio.Event(), [b""]

        def take(raw: bytes) -> None:
            found[0] = raw
            answered.set()
        self._questions[number] = take
        try:
            self.post(self.host.setting.places(public)[0], Question(number, name, payload))
            with trio.move_on_after(timeout_s):
                await answered.wait()
                return found[0]
            raise PeerGone(f"no answer within {timeout_s} s")
        finally:
            del self._questions[number]

    def peers(self) -> list[PeerInfo]:
        return [PeerInfo(public=other.public, address="") for other in self.host.setting.hosts
                if other.public != self.host.public and other.running]

    def report(self, public: bytes, offence: Offence, detail: str = "") -> None:
        self.host.note("reports", f"{self.host.setting.lists.publics[public]}: {offence.name} {detail}")

    # ------------------------------------------------------------ underneath

    def post(self, to: int, payload: Payload) -> None:
        """One message to one machine; adversaries do other things here."""
        self.host.sends()
        if to != self.host.index:
            self.host.setting.network.send(self.host.index, to, payload)

    def _leaves(self, channel: Channel, frame: bytes) -> None:
        self.host.machine.alive()
        if channel is Channel.VOTES:
            message = decode_message(frame)
            self.host.setting.proposed(message)
            if self.host.honest:
                self.host.setting.checker.leaves(self.host.number, message)

    def heard(self, sender: int, payload: Payload) -> None:
        """A message came; adversaries look at it here."""
        try:
            self._in.send_nowait((sender, payload))
        except trio.WouldBlock:
            self.host.note("overflow", "the way in is full")

    def _answered(self, sender: int, frame: Frame) -> None:
        checker = self.host.setting.checker
        if frame.channel is not Channel.VOTES or not checker.awaits_answers(self.host.number):
            return
        try:
            message = decode_message(frame.data)
        except GridTokenXError:
            return                      # an adversary's
        if isinstance(message, KnownVotes):
            checker.answered(self.host.number, sender)

    async def _deliver(self, nursery: trio.Nursery) -> None:
        async for sender, payload in self._out:
            await self.host.machine.awake()
            public = self.host.setting.hosts[sender].public
            match payload:
                case Frame():
                    if public in self.authorities:
                        self._answered(self.host.setting.hosts[sender].number, payload)
                        await self.on_frame(public, payload.channel, payload.data)
                case Gossip():
                    try:
                        await self.on_gossip(payload.topic, payload.data, public, public)
                    except InvariantError:
                        raise
                    except GridTokenXError as error:
                        self.host.note("bad gossip", str(error))
                case Question():
                    nursery.start_soon(self._answer, sender, public, payload)
                case Answer():
                    take = self._questions.get(payload.number)
                    if take is not None:
                        take(payload.payload)

    async def _answer(self, sender: int, public: bytes, question: Question) -> None:
        try:
            raw = await self._handlers[question.protocol](public, question.payload)
        except InvariantError:
            raise
        except GridTokenXError as error:
            self.host.note("no answer", str(error))
            return
        self.post(sender, Answer(question.number, raw))
