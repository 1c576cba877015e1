"""Thai defaults for genesis: zones, corridors, tariffs, holidays. Facts and planning assumptions of our own.

[A] is read at a primary source, [B] at one secondary source, [P] is a planning assumption: nobody publishes a
split into seven zones or transfer limits. A chain's own figures are in its genesis.
"""

from __future__ import annotations

from datetime import date

from attrs import frozen

MEGAWATT = 1_000_000


@frozen
class ZoneDefault:
    """Distribution losses [P: about 3.3 % MEA, 5.3 % PEA] and wheeling of the zone's network [B, proposed]."""

    name: str
    loss_ppm: int
    wheeling_uthb_kwh: int
    operator: str


@frozen
class CorridorDefault:
    """A line between two zones; its limit in both directions [P unless said]."""

    first: str
    second: str
    limit_w: int
    loss_ppm: int = 17_000              # EGAT transmission 1.57-1.94 % [A]
    wheeling_uthb_kwh: int = 0


@frozen
class TariffDefault:
    """Energy rates of a time-of-use class, without Ft and VAT."""

    name: str
    on_peak_uthb_kwh: int
    off_peak_uthb_kwh: int


WHEELING_UTHB_KWH = 1_070_000           # 1.07-1.151 THB/kWh proposed, not final [B]

ZONES = (
    ZoneDefault("Bangkok", 33_000, WHEELING_UTHB_KWH, "MEA"),
    ZoneDefault("Central", 53_000, WHEELING_UTHB_KWH, "PEA"),
    ZoneDefault("East", 53_000, WHEELING_UTHB_KWH, "PEA"),
    ZoneDefault("West", 53_000, WHEELING_UTHB_KWH, "PEA"),
    ZoneDefault("North", 53_000, WHEELING_UTHB_KWH, "PEA"),
    ZoneDefault("Northeast", 53_000, WHEELING_UTHB_KWH, "PEA"),
    ZoneDefault("South", 53_000, WHEELING_UTHB_KWH, "PEA"),
)

CORRIDORS = (
    CorridorDefault("Bangkok", "Central", 9_000 * MEGAWATT),
    CorridorDefault("Central", "East", 6_000 * MEGAWATT),
    CorridorDefault("Central", "West", 4_000 * MEGAWATT),
    CorridorDefault("Central", "North", 2_500 * MEGAWATT),
    CorridorDefault("Central", "Northeast", 3_000 * MEGAWATT),
    CorridorDefault("North", "Northeast", 1_000 * MEGAWATT),
    CorridorDefault("West", "South", 1_500 * MEGAWATT),
)

TARIFFS = (
    TariffDefault("residential and small general TOU, low voltage", 5_798_200, 2_636_900),     # [A]
    TariffDefault("residential and small general TOU, 12-24 kV", 5_113_500, 2_603_700),        # [P]
    TariffDefault("medium general, below 12 kV", 4_329_700, 2_636_900),                        # [A]
    TariffDefault("medium general, 12-24 kV", 4_183_900, 2_603_700),                           # [A]
    TariffDefault("medium general, 69 kV and above", 4_102_500, 2_584_900),                    # [A]
)

# Normal public holidays of 2026 without substitution and bridge days, Children's Day and the Ploughing Ceremony [P:
# religious days follow the moon and are announced each year].
HOLIDAYS = (
    date(2026, 1, 1), date(2026, 3, 3), date(2026, 4, 6), date(2026, 4, 13), date(2026, 4, 14), date(2026, 4, 15),
    date(2026, 5, 1), date(2026, 5, 4), date(2026, 5, 31), date(2026, 6, 3), date(2026, 7, 28), date(2026, 7, 29),
    date(2026, 7, 30), date(2026, 8, 12), date(2026, 10, 13), date(2026, 10, 23), date(2026, 12, 5), date(2026, 12, 10),
    date(2026, 12, 31),
)


@frozen
class CarbonDefault:
    """CO2 of a Wh from the grid, ug, from the beginning of a year in Bangkok on."""

    year: int
    grid_ug_wh: int


CARBON = (CarbonDefault(2022, 499_900), CarbonDefault(2026, 475_000))      # 0.4750 kg/kWh from 1 January 2026 [A]
CARBON_CREDIT_UG_WH = {"solar": 500_000, "wind": 600_000, "hydro": 400_000, "biomass": 300_000, "geothermal": 700_000}
