"""One authority's consensus over all epochs (CONSENSUS 5, epochs).

A `Core` knows one epoch. `Consensus` keeps that of the present one, if this key is in its list, and what lies
around it:

- *To the next epoch.* When the boundary block is final the driver, which has the ledger, calls `begin` with the new
  list. Votes, proposals and certificates of the next epoch that came before (views 1 to 100) wait for it here.
- *To the last epoch.* A STATUS from it is answered with the finalization of its boundary block, whoever asks.
- *Behind.* When more than f of the list are in a later epoch for a second, and no certificate came, sync is asked for.
- *Standing.* Whether anything may be signed: `standing`. Others' questions after their votes are answered.

Senders are known by their public keys here, since a place in the list is good for one epoch only.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, field, frozen

from gridtokenx.consensus.config import ConsensusConfig, Recovered, Root, Signer, Verifier
from gridtokenx.consensus.core import Core
from gridtokenx.consensus.interface import Answer, Barred, CatchUp, Effect, Event, MessageReceived, Tick
from gridtokenx.consensus.messages import (
    MAX_KNOWN_VOTES,
    Certificate,
    GetVotes,
    Kind,
    KnownVotes,
    Message,
    Propose,
    Status,
    Vote,
    Wake,
)
from gridtokenx.consensus.requests import CATCH_UP_AFTER_MS, CATCH_UP_AGAIN_MS
from gridtokenx.consensus.standing import ASK_AGAIN_MS, Standing
from gridtokenx.consensus.state import VIEWS_AHEAD
from gridtokenx.ledger.quorum import faulty_at_most

MAX_BUFFERED = 3 * VIEWS_AHEAD            # messages of the next epoch per sender
MAX_BUFFERED_PROPOSALS = 4                # they can be large
MAX_SENDERS = 128
ANSWER_SPACING_MS = 100
AHEAD_GOOD_FOR_MS = 5_000
_FAR = 1 << 60


@frozen
class EpochStart:
    """Where this node is in an epoch: at `root`, which is the block the epoch starts after or a later one.

    `previous` finalizes the block the epoch starts after; it is of the epoch before, and None in epoch 0.
    """

    config: ConsensusConfig
    root: Root
    previous: Certificate | None = None


@define
class _Waiting:
    messages: list[Message] = field(factory=list)
    proposals: int = 0


class Consensus:
    """`core` is None while this key is not in the list: then the node only follows."""

    def __init__(self, me: bytes, signer: Signer, verifier: Callable[[ConsensusConfig], Verifier], start: EpochStart,
                 recovered: Recovered, now_ms: int, clock_ms: int, *, lost: bool = False, barred: int = -1,
                 factory: Callable[..., Core] = Core) -> None:
        """`lost`: the log is gone (CONSENSUS 6); `barred`: the last epoch in which nothing may be signed."""
        self.me = me
        self.start = start
        self.core: Core | None = None
        self.standing = Standing(signer, lost, barred)
        self._signer = signer
        self._verifier = verifier
        self._factory = factory
        self._waiting: dict[bytes, _Waiting] = {}
        self._ahead: dict[bytes, tuple[int, int]] = {}          # member -> (epoch, when it said so)
        self._ahead_since_ms: int | None = None
        self._catch_up_ms = -_FAR
        self._answered_ms: dict[tuple[bytes, str], int] = {}
        self._enter(start, recovered, now_ms, clock_ms, None)

    # ------------------------------------------------------------ reading

    @property
    def epoch(self) -> int:
        return self.start.config.epoch

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The list of the present epoch."""
        return self.start.config.authorities

    @property
    def deadline_ms(self) -> int | None:
        """The monotonic time at which a Tick is wanted."""
        if self.core is None or self.core.deadline_ms is None:
            return None
        times = [self.core.deadline_ms]
        if self.standing.asking and self.standing.asked_ms is not None:
            times.append(self.standing.asked_ms + ASK_AGAIN_MS)
        if self._ahead_since_ms is not None:
            times.append(max(self._ahead_since_ms + CATCH_UP_AFTER_MS, self._catch_up_ms + CATCH_UP_AGAIN_MS))
        return min(times)

    # ------------------------------------------------------------ events

    def step(self, event: Event, now_ms: int, clock_ms: int) -> list[Effect]:
        """An event for the present core, whose indexes are places in `keys`."""
        effects: list[Effect] = []
        if self.core is not None:
            self._ask(effects, now_ms)
            effects += self.core.step(event, now_ms, clock_ms)
            if self.core.forgot and self.standing.bar(self.epoch):
                self.core.allow(False)
                effects.append(Barred(self.epoch, "a certificate holds an own vote that the log does not"))
            self._behind(effects, now_ms)
        return effects

    def receive(self, sender: bytes, message: Message, now_ms: int, clock_ms: int) -> list[Effect]:
        """A message of the node with this key, proven by its connection."""
        if isinstance(message, GetVotes):
            return self._tell_votes(sender, now_ms)
        if isinstance(message, KnownVotes):
            return self._take_answer(sender, message, now_ms, clock_ms)
        if isinstance(message, Wake) or message.epoch == self.epoch:
            if self.core is None or sender not in self.keys:
                return []
            self._ahead.pop(sender, None)
            return self.step(MessageReceived(self.keys.index(sender), message), now_ms, clock_ms)
        if message.epoch < self.epoch:
            return self._tell_end(sender, message, now_ms)
        if isinstance(message, Status):
            if sender in self.keys:
                self._ahead[sender] = (message.epoch, now_ms)
        elif message.epoch == self.epoch + 1:
            self._wait(sender, message)
        return self.step(Tick(), now_ms, clock_ms)

    def begin(self, start: EpochStart, now_ms: int, clock_ms: int) -> list[Effect]:
        """The boundary block is final here: the next epoch begins, or a later one that sync brought."""
        following = start.config.epoch == self.epoch + 1
        waiting, self._waiting = self._waiting, {}
        former, self.core = self.core, None
        self._ahead.clear()
        self._ahead_since_ms = None
        self.start = start
        self._enter(start, Recovered(), now_ms, clock_ms, former)
        effects = self.step(Tick(), now_ms, clock_ms)
        if following:
            for sender, kept in waiting.items():
                for message in kept.messages:
                    effects += self.receive(sender, message, now_ms, clock_ms)
        return effects

    # ------------------------------------------------------------ epochs

    def _enter(self, start: EpochStart, recovered: Recovered, now_ms: int, clock_ms: int, former: Core | None) -> None:
        config = start.config
        if self.me not in config.authorities:
            self.standing.asking = True          # in case it joins again
            return
        if former is None or self.standing.doubtful:
            self.standing.asking = True
        own = [vote for vote in recovered.votes if vote.epoch == config.epoch]
        self.standing.enters(config.epoch, config.authorities, self.me, start.root.view, own)
        self.core = self._factory(
            config, config.authorities.index(self.me), self._signer, self._verifier(config), start.root, recovered,
            now_ms, clock_ms, may_sign=self.standing.may_sign, former=former)

    def _wait(self, sender: bytes, message: Message) -> None:
        if not isinstance(message, Vote | Propose | Certificate) or not 1 <= message.view <= VIEWS_AHEAD:
            return
        if sender not in self._waiting and len(self._waiting) >= MAX_SENDERS:
            return
        waiting = self._waiting.setdefault(sender, _Waiting())
        if len(waiting.messages) >= MAX_BUFFERED or message in waiting.messages:
            return
        if isinstance(message, Propose):
            if waiting.proposals >= MAX_BUFFERED_PROPOSALS:
                return
            waiting.proposals += 1
        waiting.messages.append(message)

    def _tell_end(self, sender: bytes, message: Message, now_ms: int) -> list[Effect]:
        """Whoever is still in an epoch before this one hears how the last one ended."""
        if not isinstance(message, Status) or self.start.previous is None or not self._spaced(sender, "end", now_ms):
            return []
        answers: list[Effect] = [Answer(self.start.previous, sender)]
        if self.core is not None:
            answers.append(Answer(self.core.status(), sender))      # it may be many epochs behind
        return answers

    def _behind(self, effects: list[Effect], now_ms: int) -> None:
        """More than f members are in a later epoch: at least one of them honestly so."""
        ahead = [key for key, (_, heard_ms) in self._ahead.items() if now_ms - heard_ms <= AHEAD_GOOD_FOR_MS]
        if len(ahead) <= faulty_at_most(len(self.keys)):
            self._ahead_since_ms = None
            return
        if self._ahead_since_ms is None:
            self._ahead_since_ms = now_ms
        if now_ms >= max(self._ahead_since_ms + CATCH_UP_AFTER_MS, self._catch_up_ms + CATCH_UP_AGAIN_MS):
            self._catch_up_ms = now_ms
            effects.append(CatchUp(None, tuple(self.keys.index(key) for key in ahead)))

    # ------------------------------------------------------------ standing

    def _ask(self, effects: list[Effect], now_ms: int) -> None:
        asked = self.standing.question(now_ms)
        if asked is not None:
            effects += [Answer(asked[0], other) for other in asked[1]]

    def _tell_votes(self, sender: bytes, now_ms: int) -> list[Effect]:
        if not self._spaced(sender, "votes", now_ms):
            return []
        effects: list[Effect] = []
        if self.core is not None and self.standing.awaits(sender):
            effects.append(Answer(GetVotes(self.epoch), sender))        # it has just come: no need to wait
        votes: list[Vote] = []
        settled = 0
        if self.core is not None:
            settled = self.core.finalized_view
            if sender in self.keys:
                votes += self.core.newest_votes(self.keys.index(sender))
        waiting = self._waiting.get(sender)
        if waiting is not None:
            cast = [message for message in waiting.messages if isinstance(message, Vote)]
            votes += sorted(cast, key=lambda vote: -vote.view)[:MAX_KNOWN_VOTES - len(votes)]
        effects.append(Answer(KnownVotes(self.epoch, settled, tuple(
            (Kind(vote.kind), vote.epoch, vote.view, vote.digest, vote.signature) for vote in votes)), sender))
        return effects

    def _take_answer(self, sender: bytes, answer: KnownVotes, now_ms: int, clock_ms: int) -> list[Effect]:
        found = self.standing.answered(sender, answer)
        effects: list[Effect] = [Barred(self.standing.barred, found)] if found else []
        if self.core is not None and not self.standing.asking:
            self.core.allow(self.standing.may_sign, self.standing.settled_view)
            effects += self.step(Tick(), now_ms, clock_ms)
        return effects

    def _spaced(self, sender: bytes, what: str, now_ms: int) -> bool:
        """Whether this asker's turn has come again; bounded by forgetting all now and then."""
        if now_ms - self._answered_ms.get((sender, what), -_FAR) < ANSWER_SPACING_MS:
            return False
        if len(self._answered_ms) >= MAX_SENDERS:
            self._answered_ms.clear()
        self._answered_ms[sender, what] = now_ms
        return True


def at_epoch_root(root: Root) -> Root:
    """The boundary block as the next epoch sees it: view 0, its certificate is of the epoch before."""
    return evolve(root, view=0, certificate=None)
