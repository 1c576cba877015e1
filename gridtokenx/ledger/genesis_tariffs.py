"""Tariffs in a genesis file: classes, time of use, Ft, buy-back and VAT, as they are from the beginning on.

    [rates]         ft_uthb_kwh, buy_back_uthb_kwh, vat_ppm
    [time_of_use]   peak_hours (a list of hours, 9 is 09:00 to 10:00), peak_weekdays (1 Monday to 7)
    [[tariffs]]     name, voltage, service_uthb_month, demand_uthb_kw, and one of
                    on_peak_uthb_kwh with off_peak_uthb_kwh; base_uthb_kwh with peak_multiplier; blocks
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridtokenx.grid.kinds import Voltage
from gridtokenx.ledger.genesis_state import GenesisError, SupplyRates
from gridtokenx.ledger.genesis_table import Table, no_repeats, quoted
from gridtokenx.ledger.tariff_records import (
    BLOCK_EDGE_MOST,
    BLOCKS_MOST,
    DEMAND_MOST,
    MAX_TARIFFS,
    RATE_MOST,
    SERIES_BOUNDS,
    SERVICE_MOST,
    THAI_SCHEDULE,
    Schedule,
    Series,
    Tariff,
)
from gridtokenx.market.money import PPM, round_half_up
from gridtokenx.units import UnitError, parse_decimal

if TYPE_CHECKING:
    from gridtokenx.ledger.genesis_state import Genesis

VOLTAGES: dict[str, Voltage] = {"below 12 kV": Voltage.BELOW_12_KV, "12-24 kV": Voltage.FROM_12_TO_24_KV,
            "69 kV and above": Voltage.FROM_69_KV}
_MULTIPLIER_MOST = 100
_SUPPLY = (("ft_uthb_kwh", Series.FT, 162_300), ("buy_back_uthb_kwh", Series.BUY_BACK, 2_200_000),
           ("vat_ppm", Series.VAT, 70_000))


class Decimal(str):
    """A number with a point, kept as it is written: nothing here is ever a binary fraction."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__str__(self)


def read_supply(root: Table) -> SupplyRates:
    """Raises GenesisError."""
    table = Table("rates", root.optional("rates", {}))
    rates = [table.number(name, default, *SERIES_BOUNDS[series]) for name, series, default in _SUPPLY]
    table.close()
    return SupplyRates(*rates)


def read_schedule(root: Table) -> Schedule:
    """Raises GenesisError."""
    table = Table("time_of_use", root.optional("time_of_use", {}))
    _, hours, weekdays = THAI_SCHEDULE.versions[0]
    hours = _mask(table, "peak_hours", 0, 23, hours)
    weekdays = _mask(table, "peak_weekdays", 1, 7, weekdays)
    table.close()
    return Schedule(((0, hours, weekdays),))


def _mask(table: Table, key: str, low: int, high: int, default: int) -> int:
    values = table.optional(key, None)
    if values is None:
        return default
    if type(values) is not list or any(type(value) is not int or not low <= value <= high for value in values):
        raise GenesisError(f"{table.name(key)} is {values!r}; a list of integers from {low} to {high} is allowed")
    no_repeats(table.name(key), values)
    return sum(1 << value - low for value in values)


def read_tariffs(root: Table) -> tuple[Tariff, ...]:
    """Raises GenesisError."""
    tariffs = tuple(_tariff(table) for table in root.tables("tariffs", 1, MAX_TARIFFS))
    no_repeats("tariffs.name", [tariff.name for tariff in tariffs])
    return tariffs


def _tariff(table: Table) -> Tariff:
    name, voltage = table.text("name"), table.optional("voltage", "below 12 kV")
    if voltage not in VOLTAGES:
        raise GenesisError(f"{table.name('voltage')} is {voltage!r}; one of {', '.join(VOLTAGES)} is allowed")
    service = table.number("service_uthb_month", 0, 0, SERVICE_MOST)
    demand = table.number("demand_uthb_kw", 0, 0, DEMAND_MOST)
    blocks: tuple[tuple[int, int], ...] = ()
    if "blocks" in table.values:
        blocks = _blocks(table)
        on_peak = off_peak = blocks[0][1]
    elif "base_uthb_kwh" in table.values:
        off_peak = table.integer("base_uthb_kwh", 0, RATE_MOST)
        on_peak = round_half_up(off_peak * _multiplier(table), PPM)
    else:
        on_peak = table.integer("on_peak_uthb_kwh", 0, RATE_MOST)
        off_peak = table.integer("off_peak_uthb_kwh", 0, RATE_MOST)
    table.close()
    return Tariff(name, int(VOLTAGES[voltage]), ((0, on_peak, off_peak, service, demand, blocks),))


def _multiplier(table: Table) -> int:
    """On-peak rate over base rate, ppm."""
    value = table.get("peak_multiplier", "a number like 1.5")
    try:
        if type(value) not in (int, Decimal):
            raise UnitError("no number")
        ppm = parse_decimal(str(value), 6)
        if not 0 <= ppm <= _MULTIPLIER_MOST * PPM:
            raise UnitError("out of bounds")
    except UnitError as error:
        raise GenesisError(f"{table.name('peak_multiplier')} is {value!r}; a number from 0 to {_MULTIPLIER_MOST} with "
                           "at most 6 decimals is allowed") from error
    return ppm


def _blocks(table: Table) -> tuple[tuple[int, int], ...]:
    entries = table.tables("blocks", 1, BLOCKS_MOST)
    blocks: list[tuple[int, int]] = []
    for index, entry in enumerate(entries):
        last = index == len(entries) - 1
        low = blocks[-1][0] + 1 if blocks else 1
        edge = 0 if last else entry.integer("upto_wh", low, BLOCK_EDGE_MOST)
        blocks.append((edge, entry.integer("uthb_kwh", blocks[-1][1] if blocks else 0, RATE_MOST)))
        entry.close()
    return tuple(blocks)


def dump_tariffs(genesis: Genesis) -> list[str]:
    """Lines of a genesis file that read back the same."""
    _, hours, weekdays = genesis.schedule.versions[0]
    lines = ["", "[rates]"]
    lines += [f"{name} = {value}" for (name, _, _), value in
              zip(_SUPPLY, (genesis.supply.ft, genesis.supply.buy_back, genesis.supply.vat_ppm), strict=True)]
    lines += ["", "[time_of_use]", f"peak_hours = {[hour for hour in range(24) if hours >> hour & 1]}",
              f"peak_weekdays = {[day + 1 for day in range(7) if weekdays >> day & 1]}"]
    names: dict[int, str] = {voltage: name for name, voltage in VOLTAGES.items()}
    for tariff in genesis.tariffs:
        terms = tariff.at(0)
        lines += ["", "[[tariffs]]", f"name = {quoted(tariff.name)}", f"voltage = {quoted(names[tariff.voltage])}",
                  f"service_uthb_month = {terms.service}", f"demand_uthb_kw = {terms.demand}"]
        if terms.blocks:
            lines.append("blocks = [" + ", ".join(_block(edge, rate) for edge, rate in terms.blocks) + "]")
        else:
            lines += [f"on_peak_uthb_kwh = {terms.on_peak}", f"off_peak_uthb_kwh = {terms.off_peak}"]
    return lines


def _block(edge: int, rate: int) -> str:
    values: dict[str, Any] = {"upto_wh": edge, "uthb_kwh": rate} if edge else {"uthb_kwh": rate}
    return "{ " + ", ".join(f"{key} = {value}" for key, value in values.items()) + " }"
