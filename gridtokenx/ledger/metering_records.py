"""Records of meters' readings, settlement and what follows from it (MARKET 7); rules as in `ledger.records`.

Energies Wh, money uTHB, rates uTHB/kWh, times ms. `docs/ledger.md` lists key and fields of each.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from attrs import define

from gridtokenx.ledger.records import Record

if TYPE_CHECKING:
    from attrs import frozen
else:
    frozen = define


class Quality(IntEnum):
    """How a reading came about. Numbers are signed and in state: frozen."""

    MEASURED = 0
    ESTIMATED = 1       # by the meter's operator, or by settlement where no reading came
    CORRECTED = 2


class Boundary(IntEnum):
    """What a meter stands for: a participant, or the edge of a zone. In state: frozen."""

    NONE = 0
    SUPPLY_POINT = 1    # between a zone and the grid above it
    CORRIDOR_END = 2    # where a corridor enters a zone


# ------------------------------------------------------------------ who reports


@frozen
class Collector(Record):
    """An account that may report readings of other owners' meters, in the zones whose bit is set in `zones`."""

    zones: int


@frozen
class BoundaryMeter(Record):
    """What a boundary meter may measure; `corridor` is -1 at a supply point. Import is into the zone."""

    corridor: int
    import_w: int
    export_w: int


# ------------------------------------------------------------------ readings


@frozen
class Reading(Record):
    """What a meter says it measured in a window, as it signed it; `height` is the block that took it.

    At a boundary meter injected is what came into the zone, withdrawn what left it.
    """

    injected_wh: int
    withdrawn_wh: int
    quality: int
    revision: int
    height: int


@frozen
class Correction(Record):
    """The trail of a reading that was replaced: its values before and after, and what the owner paid more.

    `paid_uthb` is the sum of the differences of all lines (below zero: the owner got money back); 0 when the window
    was not settled yet.
    """

    height: int
    injected_before: int
    withdrawn_before: int
    quality_before: int
    injected_after: int
    withdrawn_after: int
    paid_uthb: int


# ------------------------------------------------------------------ settlement


@frozen
class Settling(Record):
    """How far settlement has come: all windows before `window` are settled, and in it all meters up to `meter`.

    `window` 0: there is no meter yet. A halt of the chain moves the reading deadlines in it: those of windows from
    `moved_window` on are not before `moved_ms` (CONSENSUS 2).
    """

    window: int = 0
    meter: int = 0
    moved_window: int = 0
    moved_ms: int = 0


@frozen
class Traded(Record):
    """A meter's trades of a window, summed up while it is being settled; sale and collateral are still held."""

    purchase_uthb: int = 0
    wheel_uthb: int = 0
    fee_uthb: int = 0
    vat_uthb: int = 0
    sale_uthb: int = 0
    collateral_uthb: int = 0
    lost_wh: int = 0


Line = tuple[int, int, int, int]
"""(rule, quantity Wh, rate uTHB/kWh, amount uTHB): the owner pays amounts above zero and receives those below.

Rate is 0 where a line sums up trades, and ppm in lines of VAT.
"""


@frozen
class Settlement(Record):
    """The bill of a meter and window, and its energy: injected + bought + supplied = withdrawn + sold + taken, in Wh.

    supplied is (a) + (c), taken (b) + (d) of MARKET 7.2. `revision` counts how often it was settled again.
    """

    owner: bytes
    zone: int
    injected: int
    withdrawn: int
    bought: int
    sold: int
    supplied: int
    taken: int
    quality: int
    revision: int
    lines: tuple[Line, ...]


@frozen
class Lot(Record):
    """The GT minted for a meter and window, spent once: `delivered_wh` by trades, `claimed_wh` by certificates."""

    zone: int
    source: int
    minted_wh: int
    delivered_wh: int
    claimed_wh: int = 0


@frozen
class Balance(Record):
    """A zone's energy in a window, Wh, and the prices that its shortfalls and surpluses were settled at.

    Of GT: minted + supplied + bought = consumed + sold + taken in each zone, and over all zones sold = bought + losses.
    Of electricity, metered: residual = minted + imports - consumed - exports - the zone's own losses. `boundary`
    counts the zone's boundary meters (without any, nothing is said about the residual), `estimated` the meters
    whose reading is missing.
    """

    minted: int = 0
    consumed: int = 0
    supplied: int = 0
    taken: int = 0
    bought: int = 0
    sold: int = 0
    losses: int = 0
    imports: int = 0
    exports: int = 0
    residual: int = 0
    tolerance: int = 0
    flagged: int = 0
    meters: int = 0
    estimated: int = 0
    boundary: int = 0
    short_uthb_kwh: int = 0
    long_uthb_kwh: int = 0


@frozen
class Flag(Record):
    """A zone whose electricity did not add up in a window; `cleared`: the block whose correction explained it, or 0."""

    residual: int
    tolerance: int
    height: int
    cleared: int = 0


@frozen
class Energy(Record):
    """An account's GT since the beginning, Wh: all of it ended at zero in every window."""

    minted: int = 0
    delivered: int = 0
    received: int = 0
    burned: int = 0
    supplied: int = 0
    taken: int = 0


@frozen
class Due(Record):
    """What an account owes a utility that bore a bill it could not pay, uTHB."""

    amount_uthb: int
