"""Records of claims, certificates and carbon (MARKET 8); rules as in `ledger.records`.

Energies Wh, money uTHB, times market ms. Carbon is micrograms per Wh in factors, micrograms in sums, and grams in
certificates. `docs/ledger.md` lists key and fields of each.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from attrs import define

from gridtokenx.ledger.records import Record
from gridtokenx.ledger.tariff_records import Versions

if TYPE_CHECKING:
    from attrs import frozen
else:
    frozen = define

CERTIFICATE_WH = 1_000_000
"""What a certificate stands for."""
MOST_UG_WH = 10_000_000
"""The greatest carbon factor: 10 kg/kWh."""


# ------------------------------------------------------------------ carbon


@frozen
class Carbon(Record):
    """Factors by version, in micrograms of CO2 per Wh: (first window, grid, emissions by source, credits by source).

    Grid is what a Wh from the grid emits; by number of the source, what a Wh of it emits itself and the credit that a
    programme grants for it. Versions are in the order of their windows; each holds until the next.
    """

    versions: Versions = ()

    def at(self, window: int, source: int) -> tuple[int, int]:
        """(avoided emissions, credit) of a Wh of `source` delivered in `window`; none before the first version."""
        avoided = credit = 0
        for first, grid, emissions, credits in self.versions:
            if first > window:
                break
            avoided, credit = max(0, grid - emissions[source]), credits[source]
        return avoided, credit


# ------------------------------------------------------------------ claims


class ClaimStage(IntEnum):
    """What is done with a meter's trades that asked (`market.claims`). Numbers are in state: frozen."""

    NOT_BEGUN = 0
    COLLECT = 1         # they are added up and ranked by q / q_in
    FILL = 2            # claims are issued; trades that can take all they delivered have it
    CUT = 3             # the others are ranked by the remainder of their share
    GIVE = 4            # and have it


@frozen
class Claiming(Record):
    """How far a window's claims have come: all meters before `meter` have theirs.

    Of that meter's trades that asked: `weight_wh` and `left_wh` are what those without a share yet took from the meter,
    and what is there for them (in COLLECT: what they delivered); `over_wh` is what whole shares leave of it. `held_wh`
    was issued and is in no holding yet. `missed_wh` was paid for with `paid_uthb` so far.
    """

    meter: int
    stage: int = 0
    weight_wh: int = 0
    left_wh: int = 0
    over_wh: int = 0
    held_wh: int = 0
    missed_wh: int = 0
    paid_uthb: int = 0


@frozen
class Claim(Record):
    """The claims of one meter and window, issued once: at most max(0, injected - withdrawn), never from estimates.

    `bought_wh` went to buyers who asked for the source, `kept_wh` stayed with the producer; `missed_wh` is what buyers
    asked for and did not get.
    """

    source: int
    quality: int
    injected_wh: int
    withdrawn_wh: int
    bought_wh: int
    kept_wh: int
    missed_wh: int

    @property
    def net_wh(self) -> int:
        return max(0, self.injected_wh - self.withdrawn_wh)

    @property
    def issued_wh(self) -> int:
        return self.bought_wh + self.kept_wh


@frozen
class Holding(Record):
    """An account's claims on the energy of one meter, in the order of the windows they come from.

    `open_*` is what does not make 1 MWh yet, from `first_window` to `last_window`. Whole MWh wait as runs of equal
    bundles, numbered from `head` to before `tail`; `ready` counts the bundles in them.
    """

    open_wh: int = 0
    first_window: int = 0
    last_window: int = 0
    open_avoided_ug: int = 0
    open_credit_ug: int = 0
    head: int = 0
    tail: int = 0
    ready: int = 0

    @property
    def total_wh(self) -> int:
        return self.open_wh + self.ready * CERTIFICATE_WH


@frozen
class Bundles(Record):
    """`count` bundles of 1 MWh of claims that are alike: windows from first to last, carbon of each in micrograms."""

    count: int
    first_window: int
    last_window: int
    avoided_ug: int
    credit_ug: int


@frozen
class MeterClaims(Record):
    """A renewable meter's final windows added up, Wh: net injection >= claimed >= certified >= retired."""

    metered_wh: int = 0
    claimed_wh: int = 0
    certified_wh: int = 0
    retired_wh: int = 0


# ------------------------------------------------------------------ certificates


@frozen
class Registry(Record):
    """Certificates issued (the last serial number) and retired."""

    issued: int = 0
    retired: int = 0


@frozen
class Certificate(Record):
    """1 MWh of one meter's claims. The serial number is in the key; a retired certificate stays for ever.

    Offered while `price_uthb` is above zero, to `buyer`, or to anyone when that is empty. Retired once `retired_ms` is
    above zero, for `beneficiary` and `purpose`.
    """

    meter: int
    owner: bytes
    source: int
    zone: int
    first_window: int
    last_window: int
    avoided_g: int
    credit_g: int
    height: int
    issued_ms: int
    price_uthb: int = 0
    buyer: bytes = b""
    beneficiary: str = ""
    purpose: str = ""
    retired_ms: int = 0
