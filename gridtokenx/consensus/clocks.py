"""What time the network has: the median of the authorities' clocks (CONSENSUS 5, timestamps)."""

from __future__ import annotations

OFFSET_GOOD_FOR_MS = 5_000


class Clocks:
    """Offsets of the other authorities' clocks to the own one, each from its last STATUS."""

    def __init__(self, quorum: int) -> None:
        self._quorum = quorum
        self._offsets: dict[int, tuple[int, int]] = {}       # authority -> (offset ms, received, monotonic ms)

    def heard(self, authority: int, clock_ms: int, own_clock_ms: int, now_ms: int) -> None:
        self._offsets[authority] = (clock_ms - own_clock_ms, now_ms)

    def inherit(self, authority: int, former: Clocks, before: int) -> None:
        """Takes over what was heard of an authority that had the index `before` in another epoch."""
        if before in former._offsets:
            self._offsets[authority] = former._offsets[before]

    def offset_of(self, authority: int) -> int | None:
        known = self._offsets.get(authority)
        return None if known is None else known[0]

    def correction_ms(self, now_ms: int) -> int | None:
        """What to add to the own clock: the lower median of fresh offsets, the own 0 included.

        None with fewer than q samples: then nobody may propose or judge a timestamp.
        """
        fresh = [offset for offset, received_ms in self._offsets.values()
                 if now_ms - received_ms <= OFFSET_GOOD_FOR_MS]
        fresh.append(0)
        if len(fresh) < self._quorum:
            return None
        fresh.sort()
        return fresh[(len(fresh) - 1) // 2]
