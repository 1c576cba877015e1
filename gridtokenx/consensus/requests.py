"""What is missing and was asked for: one outstanding request per thing and timeout, bounded (CONSENSUS 4)."""

from __future__ import annotations

from attrs import define

ASK_AGAIN_MS = 500
CATCH_UP_AFTER_MS = 1_000
CATCH_UP_AGAIN_MS = 2_000
EXECUTION_STALLED_MS = 10_000         # all is held, but a final block is still not executed
MAX_WANTED = 64


@define
class Want:
    """A notarized block that is not held. `view` is that of the certificate that vouches for it."""

    digest: bytes
    view: int
    holders: tuple[int, ...]
    asked_ms: int
    turns: int = 0

    def rotated(self) -> tuple[int, ...]:
        """The holders, starting with another one at each turn."""
        start = self.turns % max(1, len(self.holders))
        return self.holders[start:] + self.holders[:start]


class Requests:
    """Times are monotonic ms; the far past means never."""

    def __init__(self) -> None:
        self.wanted: dict[bytes, Want] = {}
        self.certificates_asked_ms = -1 << 60
        self.certificates_turn = 0
        self.behind_since_ms: int | None = None
        self.catch_up_asked_ms = -1 << 60

    def want(self, digest: bytes, view: int, holders: tuple[int, ...], asked_ms: int) -> None:
        if digest not in self.wanted and len(self.wanted) < MAX_WANTED:
            self.wanted[digest] = Want(digest, view, holders, asked_ms)

    def due(self, now_ms: int) -> list[Want]:
        """Those to be asked for now; each is marked as asked."""
        due = [want for want in self.wanted.values() if now_ms >= want.asked_ms + ASK_AGAIN_MS]
        for want in due:
            want.asked_ms = now_ms
            want.turns += 1
        return due

    def next_ms(self) -> int | None:
        return min((want.asked_ms + ASK_AGAIN_MS for want in self.wanted.values()), default=None)

    def forget_up_to(self, view: int) -> None:
        for digest in [want.digest for want in self.wanted.values() if want.view <= view]:
            del self.wanted[digest]
