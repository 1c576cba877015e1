"""Zones, corridors, flags, the energy balance of a window."""

from __future__ import annotations

from pydantic import Field

from gridtokenx.api.models.parts import Answer, with_decimal_fields


@with_decimal_fields
class GridZone(Answer):
    zone: int
    name: str
    loss_ppm: int
    wheel_uthb_kwh: int
    settled_window: int | None = Field(description="whose energies these are")
    minted_wh: int | None
    consumed_wh: int | None
    imports_wh: int | None
    exports_wh: int | None
    losses_wh: int | None
    residual_wh: int | None
    flagged: bool


@with_decimal_fields
class GridCorridor(Answer):
    corridor: int
    window: int
    first: int
    second: int
    forward_wh: int
    backward_wh: int
    forward_left_wh: int
    backward_left_wh: int
    flow_wh: int = Field(description="from first to second")
    loss_ppm: int
    wheel_uthb_kwh: int
    forward_binding: bool
    backward_binding: bool


@with_decimal_fields
class Flag(Answer):
    window: int
    zone: int
    residual_wh: int
    tolerance_wh: int
    height: int
    cleared: int = Field(description="height, or 0")


class GridStatus(Answer):
    window: int
    height: int
    halted: bool
    halted_until_ms: int | None = Field(description="market time; null: until resumed")
    zones: list[GridZone]
    corridors: list[GridCorridor]
    flags: list[Flag]


@with_decimal_fields
class Energies(Answer):
    """GT: minted + supplied = consumed + losses + taken; sold = bought + losses."""

    minted_wh: int = Field(description="injected at meters")
    consumed_wh: int = Field(description="withdrawn at meters")
    supplied_wh: int = Field(description="by utilities to meters")
    taken_wh: int = Field(description="by utilities from meters")
    bought_wh: int
    sold_wh: int
    losses_wh: int
    imports_wh: int = Field(description="at boundary meters, physical")
    exports_wh: int


@with_decimal_fields
class ZoneBalance(Energies):
    zone: int
    name: str
    residual_wh: int = Field(description="what the meters do not explain")
    tolerance_wh: int
    flagged: bool
    meters: int
    estimated: int = Field(description="meters without a reading of their own")
    boundary_meters: int
    short_uthb_kwh: int
    long_uthb_kwh: int


class WindowBalance(Answer):
    """A window's energy. Zones are listed once they are settled."""

    window: int
    phase: str = Field(pattern="^(opens_later|trading|closed|settling|settled|final)$")
    deadline_ms: int = Field(description="of readings, market time")
    final_ms: int
    zones: list[ZoneBalance]
    totals: Energies
    exact: bool = Field(description="the sums above hold to the Wh")
    flags: list[int] = Field(description="zones")
