"""Carbon factors in a genesis file, in micrograms of CO2 per Wh, by version:

    [[carbon]]      from (a time on a quarter hour), grid_ug_wh, emission_ug_wh and credit_ug_wh: tables by source

A source that a table leaves out has 0.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger.certificate_records import MOST_UG_WH, Carbon
from gridtokenx.ledger.genesis_state import GenesisError
from gridtokenx.ledger.genesis_table import Table
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.tables import VERSIONS_MOST

if TYPE_CHECKING:
    from gridtokenx.ledger.genesis_state import Genesis

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_carbon(root: Table) -> Carbon:
    """Raises GenesisError."""
    versions = [_version(table) for table in root.tables("carbon", 0, VERSIONS_MOST)]
    windows = [version[0] for version in versions]
    if windows != sorted(set(windows)):
        raise GenesisError("carbon: the versions must follow each other in time")
    return Carbon(tuple(versions))


def _version(table: Table) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    window, rest = divmod(table.time_ms("from"), WINDOW_MS)
    if rest or window > MAX_WINDOW:
        raise GenesisError(f"{table.name('from')} is no quarter hour of a delivery window")
    grid = table.integer("grid_ug_wh", 0, MOST_UG_WH)
    version = window, grid, _by_source(table, "emission_ug_wh"), _by_source(table, "credit_ug_wh")
    table.close()
    return version


def _by_source(table: Table, key: str) -> tuple[int, ...]:
    inner = Table(table.name(key), table.optional(key, {}))
    factors = tuple(inner.number(source.name.lower(), 0, 0, MOST_UG_WH) for source in Source)
    inner.close()
    return factors


def dump_carbon(genesis: Genesis) -> list[str]:
    """Lines of a genesis file that read back the same."""
    lines: list[str] = []
    for window, grid, emissions, credits in genesis.carbon.versions:
        lines += ["", "[[carbon]]", f"from = {(_EPOCH + timedelta(milliseconds=window * WINDOW_MS)).isoformat()}",
                  f"grid_ug_wh = {grid}"]
        for key, factors in (("emission_ug_wh", emissions), ("credit_ug_wh", credits)):
            listed = ", ".join(f"{source.name.lower()} = {factors[source]}" for source in Source if factors[source])
            lines.append(f"{key} = {{ {listed} }}" if listed else f"{key} = {{}}")
    return lines
