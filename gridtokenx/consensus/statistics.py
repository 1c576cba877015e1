"""What an operator sees of the core."""

from __future__ import annotations

from attrs import frozen


@frozen
class AuthorityStatistics:
    """One authority as this one sees it. Times in ms; None where nothing was heard yet."""

    index: int
    silent: bool
    heard_ms_ago: int
    late_views: int                   # views it led on which this authority gave up
    clock_offset_ms: int | None       # its clock minus the own one
    view: int | None
    finalized_height: int | None


@frozen
class Statistics:
    """A snapshot; costs nothing to the protocol."""

    epoch: int
    view: int
    leader: int
    given_up: bool
    armed: bool
    delta_ms: int
    clock_correction_ms: int | None   # None: too few clocks heard to propose or judge time
    finalized_height: int
    finalized_view: int
    finalized_digest: bytes
    tip_height: int
    unfinalized: int
    catching_up: bool
    authorities: tuple[AuthorityStatistics, ...]
