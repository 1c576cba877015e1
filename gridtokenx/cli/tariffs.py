"""`gridtokenx tariffs`: what utilities charge and pay, publishing for regulators; `gridtokenx prices`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import (
    CommandError,
    ask,
    json_option,
    next_window,
    node_option,
    send,
    signing_options,
    unlock,
)
from gridtokenx.units import bangkok_date, bangkok_day_of, format_rate, parse_decimal, parse_kwh, parse_rate, parse_thb

if TYPE_CHECKING:
    from gridtokenx.client import Client
    from gridtokenx.ledger.operations import Operation

VOLTAGES = ("below 12 kV", "12-24 kV", "69 kV and above")
SERIES = {"ft": "FT", "buy-back": "BUY_BACK", "vat": "VAT"}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@click.group(invoke_without_command=True)
@click.pass_context
@node_option
@json_option
def tariffs(context: click.Context, node: str | None, as_json: bool) -> None:
    """What utilities charge and pay per kWh, and since when. Regulators publish with the commands below."""
    if context.invoked_subcommand is not None:
        return

    async def look(client: Client) -> tuple[Any, Any, Any]:
        status = await client.status()
        return status, await client.call("tariffs"), await client.call("rates", status["window"])

    status, tables, now = ask(node, look)
    if as_json:
        output.show_json(tables)
        return
    peak = "on-peak" if now["on_peak"] else "off-peak"
    output.facts([
        ("delivering", f"{output.window(status['window'])} Bangkok time, {peak}"),
        ("Ft", _rate(now["ft_uthb_kwh"])), ("buy-back", _rate(now["buy_back_uthb_kwh"])),
        ("VAT", f"{now['vat_ppm'] / 10_000:g} %")])
    click.echo()
    output.table(
        ["class", "name", "voltage", "since", "on-peak", "off-peak", "a month", "per kW on-peak"],
        [[entry["class"], entry["name"], VOLTAGES[entry["voltage"]], _since(version["since"]),
          _blocks(version) or format_rate(version["on_peak_uthb_kwh"]),
          "" if version["blocks"] else format_rate(version["off_peak_uthb_kwh"]),
          output.thb(version["service_uthb_month"]), output.thb(version["demand_uthb_kw"])]
         for entry in tables["classes"] for version in entry["versions"]], right=(0,))
    click.echo()
    output.table(["table", "since", "value"], [
        *[[name.replace("_", "-"), _since(version["since"]),
           f"{version['value'] / 10_000:g} %" if name == "vat" else _rate(version["value"])]
          for name, versions in tables["series"].items() for version in versions],
        *[["on-peak", _since(version["since"]), _schedule(version)] for version in tables["schedule"]],
        *[[f"holidays {year}", "", ", ".join(_day(day) for day in days)]
          for year, days in tables["calendars"].items()]])
    year = bangkok_date((status["market_time_s"] + 7 * 3600) // 86_400)[0]
    if year not in tables["calendars"]:
        click.echo(f"\nThere is no calendar of {year} on the chain: its holidays count as other days.", err=True)


def _rate(value: int) -> str:
    return f"{format_rate(value)} THB/kWh"


def _since(window: int) -> str:
    return output.window(window)[:16] if window else "beginning"


def _day(day: int) -> str:
    year, month, date_ = bangkok_date(day)
    return f"{year}-{month:02}-{date_:02}"


def _blocks(version: dict[str, Any]) -> str:
    return ", ".join(f"{format_rate(block['uthb_kwh'])}" + (f" to {output.kwh(block['upto_wh'])}"
                     if block["upto_wh"] else "") for block in version["blocks"])


def _schedule(version: dict[str, Any]) -> str:
    hours = version["hours"]
    spans: list[list[int]] = []
    for hour in hours:
        if spans and spans[-1][1] == hour:
            spans[-1][1] = hour + 1
        else:
            spans.append([hour, hour + 1])
    shown = ", ".join(f"{first:02}:00-{last:02}:00" for first, last in spans)
    return f"{' '.join(WEEKDAYS[day - 1] for day in version['weekdays'])} {shown}".strip()


# ------------------------------------------------------------------ publishing


since_option = click.option("--since", required=True, metavar="TIME",
                            help="Start of the first window it applies to, in Bangkok time: 2026-05-01T00:00.")


def _publish(node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int, as_json: bool,
             operation: Operation) -> None:
    state = send(node, unlock(key_file, passphrase_file), [operation], timeout_s)
    if as_json:
        output.show_json(state)
    else:
        output.facts([("published", f"in block {state['height']}")])


@tariffs.command()
@click.argument("table", type=click.Choice(list(SERIES)))
@click.argument("value")
@since_option
@signing_options
def rate(table: str, value: str, since: str, node: str | None, key_file: Path, passphrase_file: Path | None,
         timeout_s: int, as_json: bool) -> None:
    """Publish a new Ft or buy-back rate (THB/kWh) or VAT (percent), for example: ft 0.1623."""
    from gridtokenx.ledger.operations import PublishRate
    from gridtokenx.ledger.tariff_records import Series

    amount = parse_decimal(value, 4, "percentage") if table == "vat" else parse_rate(value)
    _publish(node, key_file, passphrase_file, timeout_s, as_json,
             PublishRate(Series[SERIES[table]], output.parse_window(since), amount))


@tariffs.command()
@click.argument("year", type=click.IntRange(1970, 2447))
@click.argument("days", nargs=-1, metavar="[YYYY-MM-DD]...")
@signing_options
def holidays(year: int, days: tuple[str, ...], node: str | None, key_file: Path, passphrase_file: Path | None,
             timeout_s: int, as_json: bool) -> None:
    """Publish the off-peak holidays of a YEAR: all of them, also those that are known already.

    Normal public holidays and Labour Day; no substitution or bridge days, not Children's Day or the Royal Ploughing
    Ceremony.
    """
    from gridtokenx.ledger.operations import PublishCalendar

    found = []
    for text in days:
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise CommandError(f"{text!r} is no date such as {year}-05-01") from error
        found.append(bangkok_day_of(day.year, day.month, day.day))
    _publish(node, key_file, passphrase_file, timeout_s, as_json, PublishCalendar(year, tuple(sorted(found))))


@tariffs.command("class")
@click.argument("number", type=click.IntRange(0, 255))
@click.argument("name")
@click.option("--voltage", type=click.Choice(VOLTAGES), default=VOLTAGES[0], show_default=True)
@click.option("--on-peak", metavar="THB_PER_KWH", help="With --off-peak: a time-of-use class.")
@click.option("--off-peak", metavar="THB_PER_KWH")
@click.option("--block", "blocks", multiple=True, metavar="[KWH:]THB_PER_KWH",
              help="Instead: a block of the month's energy up to KWH; repeat, the last without KWH.")
@click.option("--service", default="0", show_default=True, metavar="THB", help="A month.")
@click.option("--demand", default="0", show_default=True, metavar="THB", help="Per kW of the month's on-peak maximum.")
@since_option
@signing_options
def class_(number: int, name: str, voltage: str, on_peak: str | None, off_peak: str | None, blocks: tuple[str, ...],
           service: str, demand: str, since: str, node: str | None, key_file: Path, passphrase_file: Path | None,
           timeout_s: int, as_json: bool) -> None:
    """Publish the rates of tariff class NUMBER, called NAME, or open it as the next one."""
    from gridtokenx.grid.kinds import Voltage
    from gridtokenx.ledger.operations import PublishTariff

    if bool(blocks) == (on_peak is not None and off_peak is not None) or (on_peak is None) != (off_peak is None):
        raise click.UsageError("give either --on-peak and --off-peak, or --block")
    edges = tuple(_block(text) for text in blocks)
    first = edges[0][1] if edges else 0
    _publish(node, key_file, passphrase_file, timeout_s, as_json, PublishTariff(
        number, name, Voltage(VOLTAGES.index(voltage)), output.parse_window(since),
        first if on_peak is None else parse_rate(on_peak), first if off_peak is None else parse_rate(off_peak),
        parse_thb(service), parse_thb(demand), edges))


def _block(text: str) -> tuple[int, int]:
    edge, colon, value = text.rpartition(":")
    return (parse_kwh(edge) if colon else 0), parse_rate(value)


@tariffs.command()
@click.argument("peak", nargs=-1, metavar="HOUR-HOUR...")
@click.option("--weekdays", default="1-5", show_default=True, metavar="DAY-DAY", help="1 is Monday.")
@since_option
@signing_options
def hours(peak: tuple[str, ...], weekdays: str, since: str, node: str | None, key_file: Path,
          passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Publish which hours are on-peak, for example: 9-22."""
    from gridtokenx.ledger.operations import PublishSchedule

    mask = 0
    for text in peak:
        first, last = _span(text, 0, 24)
        mask |= sum(1 << hour for hour in range(first, last))
    first, last = _span(weekdays, 1, 7)
    _publish(node, key_file, passphrase_file, timeout_s, as_json, PublishSchedule(
        output.parse_window(since), mask, sum(1 << day - 1 for day in range(first, last + 1))))


def _span(text: str, low: int, high: int) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal()) or not low <= int(first) <= int(last) <= high:
        raise CommandError(f"{text!r} is no span within {low}-{high}, such as {low + 1}-{high - 2}")
    return int(first), int(last)


# ------------------------------------------------------------------ indicative prices


@click.command()
@click.option("--window", metavar="TIME", help="Start of delivery in Bangkok time.  [default: the next one open]")
@node_option
@json_option
def prices(window: str | None, node: str | None, as_json: bool) -> None:
    """The indicative price of each zone in a delivery window, and what it follows from (docs/prices.md)."""
    async def look(client: Client) -> Any:
        chosen = await next_window(client) if window is None else output.parse_window(window)
        return await client.call("indicative", chosen)

    rows = ask(node, look)
    if as_json:
        output.show_json(rows)
        return
    fixed = "fixed at the gate" if rows[0]["published"] else "as orders stand now"
    click.echo(f"delivery {output.window(rows[0]['window'])} Bangkok time, {fixed}")
    output.table(["zone", "price", "asked for", "offered", "renewable", "corridors"],
                 [[row["name"], output.price(row["price_mthb_kwh"]), output.kwh(row["demand_wh"]),
                   output.kwh(row["supply_wh"]), output.kwh(row["renewable_wh"]),
                   f"{row['utilisation_ppm'] / 10_000:+.1f} %"] for row in rows], right=(1, 2, 3, 4, 5))
