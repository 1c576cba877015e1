"""Whether an authority may sign: never what contradicts votes that it forgot (CONSENSUS 6).

At every start it asks the others which of its votes they know. Nothing is signed before q - 1 of them have answered.
Then:

- its log is whole (it holds every vote that they report): it signs, but in no view that more than f call settled;
- the log was lost, or one of them reports a vote that it does not hold (a restored copy): it signs nothing up to
  the end of the latest epoch that they are in, or report a vote of. What up to f of them claim beyond the
  others counts for one epoch at most.

Once barred it asks again at the beginning of each epoch, so that an epoch in which it voted before is never taken
for a new one. An epoch that begins while it runs and signs needs no question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, field

from gridtokenx.consensus.config import Signer
from gridtokenx.consensus.messages import GetVotes, Kind, KnownVotes, Propose, Vote
from gridtokenx.ledger.quorum import faulty_at_most, quorum_of
from gridtokenx.ledger.votes import vote_content

ASK_AGAIN_MS = 500


@define
class Standing:
    """`lost`: the log is gone, and no epoch is known yet up to which nothing may be signed; `barred` is that epoch."""

    signer: Signer
    lost: bool = False
    barred: int = -1
    asking: bool = True
    asked_ms: int | None = None
    settled_view: int = 0
    _needed: int = 0
    _epoch: int = 0
    _root_view: int = 0
    _own: set[tuple[Kind, int]] = field(factory=set)
    _others: tuple[bytes, ...] = ()
    _faulty: int = 0
    _answers: dict[bytes, KnownVotes] = field(factory=dict)

    def enters(self, epoch: int, listed: Sequence[bytes], me: bytes, root_view: int,
               own: Iterable[Vote | Propose] = ()) -> None:
        """An epoch begins here, or goes on after a start with these votes in the log above `root_view`."""
        self._epoch, self._root_view = epoch, root_view
        self._others = tuple(key for key in listed if key != me)
        self._needed, self._faulty = quorum_of(len(listed)) - 1, faulty_at_most(len(listed))
        self._own = {(Kind.NOTARIZE if isinstance(vote, Propose) else vote.kind, vote.view) for vote in own}
        self._answers.clear()
        self.asked_ms, self.settled_view = None, 0
        self._conclude()

    @property
    def may_sign(self) -> bool:
        return not self.asking and not self.lost and self._epoch > self.barred

    @property
    def doubtful(self) -> bool:
        """Whether the next epoch needs the question anew."""
        return self.asking or not self.may_sign

    def question(self, now_ms: int) -> tuple[GetVotes, list[bytes]] | None:
        """What to ask now, and whom: those who have not answered, every 500 ms."""
        if not self.asking or (self.asked_ms is not None and now_ms < self.asked_ms + ASK_AGAIN_MS):
            return None
        self.asked_ms = now_ms
        return GetVotes(self._epoch), [other for other in self._others if other not in self._answers]

    def awaits(self, other: bytes) -> bool:
        """Whether an answer of this one is still wanted."""
        return self.asking and other in self._others and other not in self._answers

    def answered(self, other: bytes, answer: KnownVotes) -> str:
        """Takes an answer; what it brought to light, if anything: then `barred` has changed."""
        if other not in self._others or not self.asking:
            return ""
        found = ""
        for kind, epoch, view, name, signature in answer.votes:
            settled = epoch < self._epoch or (epoch == self._epoch and (
                view <= self._root_view or (kind, view) in self._own))
            if settled or epoch <= self.barred or not self.signer.made(
                    vote_content(kind, epoch, view, name), signature):
                continue
            self.barred = epoch
            found = f"the log does not hold the own {kind.name} of epoch {epoch}, view {view}: it was restored"
        self._answers[other] = answer
        return self._conclude() or found

    def bar(self, epoch: int) -> bool:
        """Nothing more in this epoch; True iff that is news."""
        news = epoch > self.barred
        self.barred = max(self.barred, epoch)
        return news

    def _conclude(self) -> str:
        if not self.asking or len(self._answers) < self._needed:
            return ""
        self.asking = False
        answers = self._answers.values()
        self.settled_view = self._credible([a.settled for a in answers if a.epoch == self._epoch])
        if not self.lost:
            return ""
        self.lost = False
        epochs = [answer.epoch for answer in answers]
        self.barred = max(self.barred, self._epoch, min(max(epochs, default=0), self._credible(epochs) + 1))
        return "the log was lost"

    def _credible(self, claims: list[int]) -> int:
        """The highest of the claims that an honest one makes or exceeds; 0 if there may be none."""
        return sorted(claims, reverse=True)[self._faulty] if len(claims) > self._faulty else 0
