"""What people read: amounts with units, moments on Bangkok's clock, tables; or the same facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from gridtokenx.json_form import plain
from gridtokenx.units import (
    UTHB_PER_THB,
    MicroBaht,
    MilliBahtPerKwh,
    UnitError,
    UnixMs,
    UnixSeconds,
    Wh,
    Window,
    bangkok_s,
    bangkok_time,
    delivery_end_s,
    delivery_start_s,
    format_kwh,
    format_price,
    format_thb,
    window_at,
)


def show_json(value: Any) -> None:
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def thb(amount: MicroBaht) -> str:
    whole, point, rest = format_thb(amount).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{point}{rest} THB"


def thb_short(amount: MicroBaht) -> str:
    """Rounded to satang, for tables."""
    return f"{amount / UTHB_PER_THB:,.2f} THB"


def kwh(energy: Wh) -> str:
    return f"{format_kwh(energy)} kWh"


def kwh_column(energy: Wh) -> str:
    """To the Wh, without the unit, for columns: 1,631.459."""
    return f"{'-' if energy < 0 else ''}{abs(energy) // 1000:,}.{abs(energy) % 1000:03}"


def thb_column(amount: MicroBaht) -> str:
    """To the uTHB, without the unit, for columns: 1,234.500000."""
    return f"{'-' if amount < 0 else ''}{abs(amount) // UTHB_PER_THB:,}.{abs(amount) % UTHB_PER_THB:06}"


def price(value: MilliBahtPerKwh) -> str:
    return f"{format_price(value)} THB/kWh"


def moment(time_s: UnixSeconds) -> str:
    """A second on Bangkok's clock: 2025-04-21 09:00:00."""
    at = bangkok_time(time_s)
    return f"{at.year}-{at.month:02}-{at.day:02} {at.hour:02}:{at.minute:02}:{at.second:02}"


def moment_ms(time_ms: UnixMs) -> str:
    return f"{moment(time_ms // 1000)}.{time_ms % 1000:03}"


def window(number: Window) -> str:
    """2025-04-21 09:30-09:45."""
    return f"{moment(delivery_start_s(number))[:16]}-{moment(delivery_end_s(number))[11:16]}"


def duration_ms(value: int) -> str:
    seconds = value // 1000
    if seconds < 60:
        return f"{value / 1000:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 86_400} d {seconds // 3600 % 24} h {seconds // 60 % 60} min"


def parse_window(text: str) -> Window:
    """A window by its number, or by Bangkok time `2025-04-21T09:30` (on a quarter hour). Raises UnitError."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    day, separator, clock = text.replace(" ", "T").partition("T")
    try:
        year, month, date = (int(part) for part in day.split("-"))
        hour, minute = (int(part) for part in clock.split(":"))
    except ValueError:
        separator = ""
    if not separator or minute % 15:
        raise UnitError(f"{text!r} is not a delivery window: give its start in Bangkok time on a quarter hour, "
                        "such as 2025-04-21T09:30, or its number")
    return window_at(bangkok_s(year, month, date, hour, minute))


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Aligned `name  value` lines."""
    wide = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name:<{wide}}  {value}")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = (),
          empty: str = "none") -> None:
    """Aligned columns, `right` ones to the right; `empty` where there are no rows."""
    if not rows:
        click.echo(empty)
        return
    cells = [[str(cell) for cell in row] for row in rows]
    wide = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(columns)]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.rjust(wide[at]) if at in right else cell.ljust(wide[at])
                         for at, cell in enumerate(row)).rstrip()

    click.echo(line(columns))
    for row in cells:
        click.echo(line(row))
