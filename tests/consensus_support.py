"""One core on the bench: its events by hand, its effects to look at. Signatures by the simulation's register."""

from __future__ import annotations

from gridtokenx.consensus.config import ConsensusConfig, Recovered, Root
from gridtokenx.consensus.core import Core
from gridtokenx.consensus.interface import (
    BlockExecuted,
    BlockHeld,
    Effect,
    Event,
    MessageReceived,
    Note,
    Persist,
    Send,
    Tick,
)
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Status, Vote, vote_content
from gridtokenx.ledger.block import Header
from gridtokenx.sim import toy
from gridtokenx.sim.registry import Registry, RegistrySigner

GENESIS = toy.genesis()
ROOT = Root(GENESIS.hash, 0, 0, GENESIS.timestamp_ms)


class CountingRegistry(Registry):
    """Counts what is verified."""

    verified = 0

    def verify(self, signer: int, content: bytes, signature: bytes) -> bool:
        self.verified += 1
        return super().verify(signer, content, signature)


class Bench:
    """Core `me` of `n`. Monotonic time starts at 0, the wall clock `age_ms` after genesis."""

    def __init__(self, n: int = 4, me: int | None = None, *, leads: int | None = None, age_ms: int = 1_000,
                 recovered: Recovered | None = None, root: Root = ROOT, may_sign: bool = True,
                 heard: bool = True, boundary: int = 1 << 40) -> None:
        self.registry = CountingRegistry()
        self.config = ConsensusConfig(chain_id=toy.CHAIN_ID, epoch=0,
                                      authorities=tuple(bytes((index,)) * 32 for index in range(n)),
                                      epoch_root=GENESIS.hash, boundary=boundary)
        self.n, self.now_ms, self.clock_ms = n, 0, GENESIS.timestamp_ms + age_ms
        offset = Core(self.config, 0, RegistrySigner(self.registry, 0), self.registry, ROOT, Recovered(), 0,
                      0).authorities.offset
        self.offset = offset
        self.me = me if me is not None else self.leader(1 if leads is None else leads) if leads else (
            (self.leader(1) + 1) % n if n > 1 else 0)
        self.core = Core(self.config, self.me, RegistrySigner(self.registry, self.me), self.registry, root,
                         recovered or Recovered(), 0, self.clock_ms, may_sign=may_sign)
        self.start = self.step(Tick())
        if heard:
            self.hear_all()

    def leader(self, view: int) -> int:
        return (view + self.offset) % self.n

    @property
    def others(self) -> list[int]:
        return [index for index in range(self.n) if index != self.me]

    # ---- events

    def step(self, event: Event) -> list[Effect]:
        effects = self.core.step(event, self.now_ms, self.clock_ms)
        self._logged_before_sent(effects)
        return effects

    def _logged_before_sent(self, effects: list[Effect]) -> None:
        for index, effect in enumerate(effects):
            if isinstance(effect, Send) and isinstance(effect.message, Vote | Propose) \
                    and effect.message in [item.record for item in effects if isinstance(item, Persist)]:
                assert Persist(effect.message) in effects[:index], "sent before it was logged"

    def advance(self, ms: int) -> list[Effect]:
        """Lets time pass, with a Tick at each deadline; nothing else happens, and the others stay audible."""
        effects: list[Effect] = []
        end_ms = self.now_ms + ms
        while True:
            deadline_ms = self.core.deadline_ms
            if deadline_ms is None or deadline_ms > end_ms:
                break
            self.clock_ms += max(deadline_ms, self.now_ms) - self.now_ms
            self.now_ms = max(deadline_ms, self.now_ms)
            effects += self.step(Tick())
        self.clock_ms += end_ms - self.now_ms
        self.now_ms = end_ms
        return effects

    def receive(self, sender: int, message: object) -> list[Effect]:
        return self.step(MessageReceived(sender, message))  # type: ignore[arg-type]

    def step_all(self, message: object) -> list[Effect]:
        return [effect for index in self.others for effect in self.receive(index, message)]

    def hear_all(self, *, without: tuple[int, ...] = (), height: int = 0, view: int = 1,
                 offset_ms: int = 0) -> list[Effect]:
        effects: list[Effect] = []
        for index in self.others:
            if index not in without:
                effects += self.receive(index, Status(0, view, height, height, self.clock_ms + offset_ms))
        return effects

    # ---- messages

    def vote(self, kind: Kind, view: int, name: bytes, signer: int) -> Vote:
        signature = self.registry.sign(signer, vote_content(kind, 0, view, name))
        return Vote(kind, 0, view, name, signer, signature)

    def votes(self, kind: Kind, view: int, name: bytes = b"", *, count: int | None = None) -> list[Effect]:
        """The votes of `count` others (all by default) come in."""
        effects: list[Effect] = []
        for index in self.others[:count]:
            effects += self.receive(index, self.vote(kind, view, name, index))
        return effects

    def certificate(self, kind: Kind, view: int, name: bytes = b"", signers: tuple[int, ...] | None = None
                    ) -> Certificate:
        if signers is None:     # the others first: an own vote that it does not know would tell it that its log is old
            signers = tuple(sorted([*self.others, self.me][:self.core.authorities.quorum]))
        return Certificate(kind, 0, view, name, signers,
                           tuple(self.vote(kind, view, name, signer).signature for signer in signers))

    def header(self, view: int, parent: Header = GENESIS, *, age_ms: int = 0, ids: tuple[bytes, ...] = ()) -> Header:
        """A good header for `view`, stamped `age_ms` ago."""
        return toy.header_of(parent, parent.hash, view, self.clock_ms - age_ms,
                             self.config.authorities[self.leader(view)], ids)

    def propose(self, header: Header, *, ids: tuple[bytes, ...] = (), view: int | None = None) -> list[Effect]:
        view = header.view if view is None else view
        leader = self.leader(view)
        vote = self.vote(Kind.NOTARIZE, view, header.hash, leader)
        return self.receive(leader, Propose(0, view, header.encode(), ids, leader, vote.signature))

    def executed(self, header: Header, *, valid: bool = True, ids: tuple[bytes, ...] = (),
                 unfinished: bool = False) -> list[Effect]:
        """The body is held and executed."""
        return (self.step(BlockHeld(header.hash, header, ids, 100))
                + self.step(BlockExecuted(header.hash, valid, "" if valid else "roots differ", 10, unfinished)))

    def block(self, view: int, parent: Header = GENESIS, *, ids: tuple[bytes, ...] = ()) -> Header:
        """A block of another leader goes all the way to its notarization."""
        header = self.header(view, parent, ids=ids)
        self.propose(header, ids=ids)
        self.executed(header, ids=ids)
        self.votes(Kind.NOTARIZE, view, header.hash)
        return header


def sent(effects: list[Effect], kind: type | Kind) -> list[Send]:
    """The sends of a message type, or of own votes of a kind."""
    if isinstance(kind, Kind):
        return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Vote)
                and effect.message.kind is kind]
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


def of(effects: list[Effect], kind: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def notes(effects: list[Effect]) -> list[str]:
    return [effect.event for effect in effects if isinstance(effect, Note)]
