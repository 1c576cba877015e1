"""What is known of the other authorities: when they were heard, where they are (CONSENSUS 5, rule 9)."""

from __future__ import annotations

from attrs import define

from gridtokenx.consensus.messages import Status

SILENT_AFTER_MS = 3_000
BEHIND_HEIGHTS = 8


@define
class Peer:
    """One authority as last heard. `behind` is measured when its STATUS comes in, not against later heights."""

    heard_ms: int
    status: Status | None = None
    status_ms: int = 0
    behind: int = 0
    late_views: int = 0               # views it led on which this authority gave up
    answered_ms: int = -1 << 60       # when GET_CERT was answered last


class Peers:
    """All authorities by index, the own one included."""

    def __init__(self, n: int, me: int, quorum: int, now_ms: int) -> None:
        self._me = me
        self._quorum = quorum
        self._peers = [Peer(now_ms) for _ in range(n)]

    def __getitem__(self, authority: int) -> Peer:
        return self._peers[authority]

    def heard_within(self, now_ms: int, limit_ms: int) -> int:
        """How many authorities were heard in the last `limit_ms`, the own one included."""
        return sum(index == self._me or now_ms - peer.heard_ms < limit_ms
                   for index, peer in enumerate(self._peers))

    def status(self, authority: int, status: Status, own_height: int) -> None:
        peer = self._peers[authority]
        peer.status = status
        peer.behind = own_height - min(status.finalized_height, status.executed_height)

    def silent(self, authority: int, now_ms: int) -> bool:
        """Rule 9: not heard for 3 s while q were, or more than 8 heights behind."""
        peer = self._peers[authority]
        if peer.behind > BEHIND_HEIGHTS:
            return True
        return (now_ms - peer.heard_ms >= SILENT_AFTER_MS
                and self.heard_within(now_ms, SILENT_AFTER_MS) >= self._quorum)

    def height_of_some_honest(self, f: int) -> int:
        """The highest finalized height that f + 1 others claim: at least one of them is honest."""
        heights = sorted((peer.status.finalized_height for index, peer in enumerate(self._peers)
                          if index != self._me and peer.status is not None), reverse=True)
        return heights[f] if len(heights) > f else 0
