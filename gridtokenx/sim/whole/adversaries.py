"""Authorities that do not follow the protocol: whole nodes whose wires, or keys, are in other hands.

They sign with their own key only, and can do anything with what they send.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import evolve

from gridtokenx.consensus.interface import Build
from gridtokenx.consensus.messages import (
    Certificate,
    Kind,
    Message,
    Propose,
    Status,
    Vote,
    decode_message,
    encode_message,
    vote_content,
)
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.block import Header, decode_header
from gridtokenx.ledger.transaction import decode_transaction
from gridtokenx.network.settings import Channel, Topic
from gridtokenx.node.records import BlockFrame, GetBlock, GetTransactions, decode_frame, encode_frame
from gridtokenx.node.sync import PROTOCOL, decode_request, encode_answer, encode_stored_certificate
from gridtokenx.sim.whole.host import Host
from gridtokenx.sim.whole.wires import Answer, Frame, Gossip, Payload, Question, Wires

TWINS = "twins"
TICK_US = 100_000
KEPT_FRAMES = 200


class _BadWires(Wires):
    """With what adversaries need: own votes on anything, to anybody."""

    @property
    def random(self) -> Random:
        return self.host.random

    @property
    def others(self) -> list[bytes]:
        return [public for public in self.consensus.keys if public != self.host.public]

    @property
    def place(self) -> int | None:
        """In the list of the epoch."""
        keys = self.consensus.keys
        return keys.index(self.host.public) if self.host.public in keys else None

    def vote(self, kind: Kind, view: int, name: bytes = b"") -> Vote:
        epoch = self.consensus.epoch
        signature = self.host.signer.sign(vote_content(kind, epoch, view, name))
        return Vote(kind, epoch, view, name, self.place or 0, signature)

    def tell(self, public: bytes, message: Message) -> None:
        self.host.setting.proposed(message)
        for to in self.host.setting.places(public):
            self.post(to, Frame(Channel.VOTES, encode_message(message)))

    def tell_all(self, message: Message) -> None:
        for public in self.others:
            self.tell(public, message)

    def broadcast(self, channel: Channel, frame: bytes) -> int:
        """Proposals of this epoch are what most of them spoil."""
        message = decode_message(frame) if channel is Channel.VOTES else None
        if isinstance(message, Propose) and message.epoch == self.consensus.epoch and self.place is not None:
            self.machine_alive()
            self.host.setting.proposed(message)
            self.proposes(message)
            return 0
        return super().broadcast(channel, frame)

    def proposes(self, propose: Propose) -> None:
        super().broadcast(Channel.VOTES, encode_message(propose))

    def machine_alive(self) -> None:
        self.host.machine.alive()

    def offer(self, header: Header, ids: tuple[bytes, ...], view: int) -> Propose:
        """An own proposal of any header."""
        signature = self.vote(Kind.NOTARIZE, view, header.hash).signature
        return Propose(self.consensus.epoch, view, header.encode(), ids, self.place or 0, signature)


class _EquivocatorWires(_BadWires):
    """Two valid blocks of one view, each for half of the others; FINALIZE for both."""

    def proposes(self, propose: Propose) -> None:
        header = decode_header(propose.header)
        twin = self.chain.build(Build(header.epoch, header.view, header.parent, header.height,
                                      header.timestamp_ms + 1, True), ())
        if twin is None or header.view != propose.view:
            super().proposes(propose)
            return
        second = self.offer(twin.header, twin.ids, propose.view)
        for position, public in enumerate(self.others):
            first = position < len(self.others) // 2
            self.tell(public, propose if first else second)
            for name in (header.hash, twin.digest) if first else (twin.digest, header.hash):
                self.tell(public, self.vote(Kind.FINALIZE, propose.view, name))


class _WithholderWires(_BadWires):
    """Proposes to q - 1 only, and hands out no body."""

    def proposes(self, propose: Propose) -> None:
        quorum = self.consensus.core.authorities.quorum if self.consensus.core is not None else 1
        for public in self.others[:max(0, quorum - 2)]:
            self.tell(public, propose)

    def post(self, to: int, payload: Payload) -> None:
        if isinstance(payload, Frame) and payload.channel is Channel.BODIES and isinstance(
                decode_frame(payload.data), BlockFrame):
            return
        if not isinstance(payload, Answer):
            super().post(to, payload)


class _LiarWires(_BadWires):
    """Headers with another root, time or height than executing gives; ids that are not the block's, which nobody signs;
    bodies that are not their header's; a STATUS that is made up."""

    def proposes(self, propose: Propose) -> None:
        header, random = decode_header(propose.header), self.random
        if propose.transaction_ids and random.random() < 0.5:
            for position, public in enumerate(self.others):
                self.tell(public, propose if position % 2 else evolve(
                    propose, transaction_ids=propose.transaction_ids[:-1]))
            return
        lie = random.choice((
            {"state_root": random.randbytes(32)}, {"receipts_root": random.randbytes(32)},
            {"height": header.height + 1}, {"timestamp_ms": header.timestamp_ms + 3_600_000},
            {"timestamp_ms": header.timestamp_ms - 60_000}, {"next_authorities_hash": random.randbytes(32)}))
        self.tell_all(self.offer(header.with_(**lie), propose.transaction_ids, propose.view))

    def post(self, to: int, payload: Payload) -> None:
        if isinstance(payload, Frame) and payload.channel is Channel.VOTES:
            message = decode_message(payload.data)
            if isinstance(message, Status):
                lie = Status(message.epoch, message.view + self.random.choice((0, 90)),
                             message.finalized_height + self.random.choice((0, 1_000)), message.executed_height,
                             message.clock_ms + self.random.choice((-3_600_000, 0, 3_600_000)))
                payload = Frame(Channel.VOTES, encode_message(lie))
        elif isinstance(payload, Frame):
            body = decode_frame(payload.data)
            if isinstance(body, BlockFrame) and body.raws:
                payload = Frame(payload.channel, encode_frame(BlockFrame(body.header, body.raws[:-1])))
        super().post(to, payload)


class _MalleatorWires(_BadWires):
    """Blocks of the same transactions under other signatures."""

    def proposes(self, propose: Propose) -> None:
        header, block = decode_header(propose.header), self.chain.block(decode_header(propose.header).hash)
        if block is None or not block.transactions or header.view != propose.view:
            super().proposes(propose)
            return
        spoilt = []
        for transaction in block.transactions:
            raw = bytearray(transaction.raw)
            raw[-1 - self.random.randrange(32)] ^= 1
            spoilt.append(decode_transaction(bytes(raw)))
        forged = self.chain.build(Build(header.epoch, header.view, header.parent, header.height, header.timestamp_ms,
                                        False), spoilt)
        if forged is not None:
            self.tell_all(self.offer(forged.header, forged.ids, propose.view))


class _ForgerWires(_BadWires):
    """Certificates of votes that were never given, or of its own repeated, also for blocks that it hands out to those
    who catch up."""

    def proposes(self, propose: Propose) -> None:
        super().proposes(propose)
        core = self.consensus.core
        if core is None:
            return
        name, signers = decode_header(propose.header).hash, tuple(range(core.authorities.quorum))
        own, null = self.vote(Kind.FINALIZE, propose.view, name), self.vote(Kind.NULLIFY, propose.view)
        epoch, many = self.consensus.epoch, len(signers)
        self.tell_all(Certificate(Kind.FINALIZE, epoch, propose.view, name, signers, (own.signature,) * many))
        self.tell_all(Certificate(Kind.NULLIFY, epoch, propose.view, b"", (self.place or 0,) * many,
                                  (null.signature,) * many))

    async def _answer(self, sender: int, public: bytes, question: Question) -> None:
        forged = self._forged(question) if question.protocol == PROTOCOL and self.random.random() < 0.5 else None
        if forged is None:
            await super()._answer(sender, public, question)
        else:
            self.post(sender, Answer(question.number, forged))

    def _forged(self, question: Question) -> bytes | None:
        """The next block for the one who asks, made up, and certified by q signatures that are all its own."""
        core, chain, height = self.consensus.core, self.chain, decode_request(question.payload)[0]
        parent = next((final for final in (chain.base, *chain.finals()) if final.header.height == height - 1), None)
        if core is None or parent is None:
            return None
        block = chain.build(Build(self.consensus.epoch, core.view, parent.digest, height,
                                  parent.header.timestamp_ms + 1_000, True), ())
        if block is None:
            return None
        own, signers = self.vote(Kind.FINALIZE, core.view, block.digest), tuple(range(core.authorities.quorum))
        certificate = Certificate(Kind.FINALIZE, self.consensus.epoch, core.view, block.digest, signers,
                                  (own.signature,) * len(signers))
        return encode_answer(height, [(block.header.encode(), [], encode_stored_certificate(certificate))], [], None)


class _YesWires(_BadWires):
    """Votes for every kind and every proposal at once, without looking."""

    def heard(self, sender: int, payload: Payload) -> None:
        super().heard(sender, payload)
        message = _message(payload)
        if isinstance(message, Propose) and message.epoch == self.consensus.epoch and self.place is not None:
            try:
                name = decode_header(message.header).hash
            except GridTokenXError:
                return
            for kind in (Kind.NOTARIZE, Kind.FINALIZE, Kind.NULLIFY):
                self.tell_all(self.vote(kind, message.view, b"" if kind is Kind.NULLIFY else name))


class _NullifierWires(_BadWires):
    """Gives up on every view as soon as it is entered, besides taking part."""

    given_up = (0, 0)

    def tick(self) -> None:
        core = self.consensus.core
        if core is not None and (self.consensus.epoch, core.view) > self.given_up:
            self.given_up = self.consensus.epoch, core.view
            self.tell_all(self.vote(Kind.NULLIFY, core.view))


class _SkipperWires(_BadWires):
    """As leader, proposes at once on the last final block, as if the views since had brought nothing."""

    skipped = (0, 0)

    def tick(self) -> None:
        core, head = self.consensus.core, self.chain.head
        if (core is None or self.place is None or (self.consensus.epoch, core.view) <= self.skipped
                or core.authorities.leader(core.view) != self.place or core.tip == head.digest):
            return
        self.skipped = self.consensus.epoch, core.view
        block = self.chain.build(Build(self.consensus.epoch, core.view, head.digest, head.header.height + 1,
                                       self.host.machine.clock_ms(), True), ())
        if block is not None:
            self.tell_all(self.offer(block.header, block.ids, core.view))


class _GarbageWires(_BadWires):
    """Bytes of no meaning, and good frames with some of their bits turned over, on every way there is."""

    def post(self, to: int, payload: Payload) -> None:
        if self.random.random() < 0.3:
            match payload:
                case Frame():
                    payload = Frame(payload.channel, self._spoilt(payload.data))
                case Gossip():
                    payload = Gossip(payload.topic, self._spoilt(payload.data))
                case Answer():
                    payload = Answer(payload.number, self._spoilt(payload.payload))
                case Question():
                    payload = Question(payload.number, payload.protocol, self._spoilt(payload.payload))
        super().post(to, payload)

    def tick(self) -> None:
        for host in self.host.setting.hosts:
            raw = self.random.randbytes(self.random.randrange(200))
            super().post(host.index, self.random.choice((
                Frame(Channel.VOTES, raw), Frame(Channel.BODIES, raw), Gossip(Topic.TX, raw),
                Gossip(Topic.BLOCK, raw), Answer(self.random.randrange(5), raw), Question(1, "sync", raw),
                Frame(Channel.BODIES, encode_frame(GetBlock(self.random.randbytes(32)))),
                Frame(Channel.BODIES, encode_frame(GetTransactions((self.random.randbytes(32),)))))))

    def _spoilt(self, data: bytes) -> bytes:
        spoilt = bytearray(data)
        for _ in range(self.random.randint(1, 3)):
            if spoilt:
                spoilt[self.random.randrange(len(spoilt))] ^= 1 << self.random.randrange(8)
        return bytes(spoilt[:self.random.randint(0, len(spoilt))] if self.random.random() < 0.3 else spoilt)


class _ReplayerWires(_BadWires):
    """Sends again, to anybody, what it once sent or heard: old votes, certificates, proposals, bodies, answers."""

    def heard(self, sender: int, payload: Payload) -> None:
        super().heard(sender, payload)
        self._keep(payload)

    def post(self, to: int, payload: Payload) -> None:
        super().post(to, payload)
        self._keep(payload)

    def tick(self) -> None:
        kept = self.host.kept
        for _ in range(5):
            if kept:
                super().post(self.random.randrange(len(self.host.setting.hosts)), self.random.choice(kept))

    def _keep(self, payload: Payload) -> None:
        kept = self.host.kept
        if len(kept) < KEPT_FRAMES:
            kept.append(payload)
        else:
            kept[self.random.randrange(KEPT_FRAMES)] = payload


def _message(payload: Payload) -> Message | None:
    if not isinstance(payload, Frame) or payload.channel is not Channel.VOTES:
        return None
    try:
        return decode_message(payload.data)
    except GridTokenXError:
        return None


class Adversary(Host):
    """A host that is not honest; its wires get a tick every 100 ms if they want one."""

    honest = False

    async def _run(self) -> None:
        self._tick(self.lives)
        await super()._run()

    def _tick(self, life: int) -> None:
        if not self.running or life != self.lives:
            return
        tick: Callable[[], None] | None = getattr(self.wires, "tick", None)
        if tick is not None and not self.machine.dead:
            tick()
        self.setting.world.after(TICK_US, self._tick, life)


class Silent(Adversary):
    """Never says anything."""

    def start(self) -> None:
        return


class Twin(Adversary):
    """One of two honest nodes with one key, each with memories of its own."""


def _with(wires: type[Wires]) -> type[Adversary]:
    return type(wires.__name__.strip("_").removesuffix("Wires"), (Adversary,), {"wires_class": wires})


ADVERSARIES: dict[str, type[Host]] = {
    "silent": Silent, TWINS: Twin, "equivocator": _with(_EquivocatorWires), "withholder": _with(_WithholderWires),
    "liar": _with(_LiarWires), "forger": _with(_ForgerWires), "yes-man": _with(_YesWires),
    "nullifier": _with(_NullifierWires), "skipper": _with(_SkipperWires), "garbage": _with(_GarbageWires),
    "replayer": _with(_ReplayerWires), "malleator": _with(_MalleatorWires),
}
