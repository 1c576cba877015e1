"""`gridtokenx bill` and `gridtokenx window`: what settlement made of meters' readings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.account import address_of
from gridtokenx.cli.output import kwh_column, thb_column
from gridtokenx.cli.session import CommandError, ask, json_option, node_option, query, zone_names
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.units import format_kwh, format_rate

if TYPE_CHECKING:
    from gridtokenx.client import Client

DAY_ZERO = date(1970, 1, 1)
QUALITIES = ("", "estimated", "corrected")
PICTURE_ROWS = 14

LABELS = {
    1: "purchases", 2: "wheeling of purchases", 3: "market fee", 4: "VAT of purchases", 5: "sales",
    6: "energy from the utility", 7: "Ft", 8: "VAT of energy and Ft", 9: "surplus bought back",
    10: "sold but not delivered", 11: "bought but not used", 12: "VAT of what was not delivered", 20: "service",
    21: "demand", 22: "block tariff true-up", 23: "VAT of the month", 30: "source not delivered",
}
PHASES = {
    "opens_later": "not open for trading yet", "trading": "open for trading", "closed": "waiting for readings until",
    "settling": "being settled", "settled": "settled; corrections until", "final": "final",
}


def parse_day(text: str) -> int:
    """A day in Bangkok, 2025-04-21, as days since 1970-01-01. Raises CommandError."""
    try:
        return (date.fromisoformat(text) - DAY_ZERO).days
    except ValueError:
        raise CommandError(f"{text!r} is no day; give one such as 2025-04-21") from None


def label(rule: int) -> str:
    return LABELS.get(rule, f"rule {rule}")


def rate(rule: int, value: int) -> str:
    """A line's rate as people read it: per cent in lines of VAT."""
    if not value:           # the trades' own amounts, at many rates
        return ""
    return f"{value / 10_000:g} %" if rule in (4, 8, 12, 23) else format_rate(value)


# ------------------------------------------------------------------ bill


@click.command()
@click.argument("account", metavar="ADDRESS|KEYFILE")
@click.option("--day", metavar="DATE", help="Day of delivery in Bangkok, such as 2025-04-21.  [default: today there]")
@click.option("--window", metavar="TIME", help="Only this delivery window, with every line.")
@click.option("--month", metavar="YYYY-MM", help="Instead what this month adds: service, demand, block tariff, VAT.")
@node_option
@json_option
def bill(account: str, day: str | None, window: str | None, month: str | None, node: str | None,
         as_json: bool) -> None:
    """An account's bill of one day: every line with quantity, rate, amount and rule, and what is estimated.

    Amounts above zero are paid, those below are received. Lines of trades were paid when the trades were made.
    """
    if sum(choice is not None for choice in (day, window, month)) > 1:
        raise click.UsageError("--day, --window and --month exclude each other")
    address = address_of(account)
    if month is not None:
        _month(node, address, month, as_json)
        return

    async def look(client: Client) -> tuple[Any, list[str]]:
        if await client.account(address) is None:
            raise CommandError(f"{encode_address(address)} is not on this chain yet: it becomes an account with the "
                               "first THB it receives")
        if window is not None:
            number = (output.parse_window(window) * 900 + 25_200) // 86_400
        elif day is not None:
            number = parse_day(day)
        else:
            number = ((await client.status())["market_time_s"] + 25_200) // 86_400
        return await client.call("bill", address, number), await zone_names(client)

    found, names = ask(node, look)
    if window is not None:
        chosen = output.parse_window(window)
        found = {**{name: found[name] for name in ("address", "day", "first_window")},
                 "windows": [entry for entry in found["windows"] if entry["window"] == chosen]}
    if as_json:
        output.show_json(found)
        return
    of = date.fromordinal(DAY_ZERO.toordinal() + found["day"]).isoformat()
    click.echo(f"{encode_address(address)}\nbill of {of}, Bangkok time")
    if not found["windows"]:
        click.echo("nothing was settled" + ("" if window is None else " in this window")
                   + "; `gridtokenx status` shows the market clock, and settlement comes 60 minutes after delivery")
        return
    if window is not None:
        for entry in found["windows"]:
            _lines(entry, names)
        return
    click.echo()
    _windows(found["windows"], names)
    click.echo()
    output.table(["rule", "line", "kWh", "THB"],
                 [[total["rule"], label(total["rule"]), kwh_column(total["quantity_wh"]),
                   thb_column(total["amount_uthb"])] for total in found["rules"]], right=(0, 2, 3))
    click.echo()
    marks = [f"{found[name]} of {len(found['windows'])} windows {name}" for name in ("estimated", "corrected")
             if found[name]]
    pays = found["pays_uthb"]
    output.facts([
        ("withdrawn", output.kwh(found["withdrawn_wh"])), ("injected", output.kwh(found["injected_wh"])),
        ("pays in all" if pays >= 0 else "receives in all", output.thb(abs(pays))),
        *([("still owed", output.thb(found["dues_uthb"]))] if found["dues_uthb"] else []),
        *([("readings", ", ".join(marks))] if marks else []),
    ])


def parse_month(text: str) -> int:
    """A month in Bangkok, 2025-04, as 12 x year + month - 1. Raises CommandError."""
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise CommandError(f"{text!r} is no month; give one such as 2025-04") from None
    return 12 * first.year + first.month - 1


def _month(node: str | None, address: bytes, text: str, as_json: bool) -> None:
    found = query(node, "month", address, parse_month(text))
    if as_json:
        output.show_json(found)
        return
    click.echo(f"{encode_address(address)}\nlines of {text}, Bangkok time")
    if not found:
        click.echo("nothing was counted: a window counts when its corrections have ended")
    for entry in found:
        state = "billed" if entry["billed"] else "counted so far; billed when the month's last window is final"
        click.echo(f"\nmeter {entry['meter']}, tariff class {entry['tariff']}: {state}")
        click.echo(f"  withdrawn {output.kwh(entry['withdrawn_wh'])}, supplied by the utility "
                   f"{output.kwh(entry['supplied_wh'])}, greatest on-peak demand {format_kwh(entry['demand_w'])} kW")
        if entry["billed"]:
            output.table(["rule", "line", "quantity", "rate", "THB"],
                         [[line["rule"], label(line["rule"]), _quantity(line), rate(line["rule"], line["rate"]),
                           thb_column(line["amount_uthb"])] for line in entry["lines"]]
                         + [["", "in all", "", "", thb_column(sum(line["amount_uthb"] for line in entry["lines"]))]],
                         right=(0, 2, 3, 4))


def _quantity(line: Any) -> str:
    unit = {21: "kW", 22: "kWh"}.get(line["rule"])
    return "" if unit is None else f"{format_kwh(line['quantity'])} {unit}"


def _windows(entries: Sequence[Any], names: list[str]) -> None:
    rows = [[output.window(entry["window"]), entry["meter"], names[entry["zone"]],
             *(kwh_column(entry[f"{name}_wh"]) for name in ("withdrawn", "injected", "bought", "sold", "supplied",
                                                            "taken")),
             thb_column(sum(line["amount_uthb"] for line in entry["lines"])), _mark(entry)] for entry in entries]
    output.table(["delivery", "meter", "zone", "withdrawn", "injected", "bought", "sold", "supplied", "taken", "THB",
                  ""], rows, right=(1, 3, 4, 5, 6, 7, 8, 9))


def _mark(entry: Any) -> str:
    if entry["quality"] == 1:
        return "estimated"
    return f"corrected ({entry['revision']})" if entry["revision"] else QUALITIES[entry["quality"]]


def _lines(entry: Any, names: list[str]) -> None:
    head = f"\nmeter {entry['meter']} in {names[entry['zone']]}, {output.window(entry['window'])} {_mark(entry)}"
    click.echo(head.rstrip())
    click.echo(f"  injected {output.kwh(entry['injected_wh'])} + bought {output.kwh(entry['bought_wh'])} + supplied "
               f"{output.kwh(entry['supplied_wh'])} = withdrawn {output.kwh(entry['withdrawn_wh'])} + sold "
               f"{output.kwh(entry['sold_wh'])} + taken {output.kwh(entry['taken_wh'])}")
    output.table(["rule", "line", "kWh", "THB/kWh", "THB"],
                 [[line["rule"], label(line["rule"]), kwh_column(line["quantity_wh"]), rate(line["rule"], line["rate"]),
                   thb_column(line["amount_uthb"])] for line in entry["lines"]]
                 + [["", "in all", "", "", thb_column(sum(line["amount_uthb"] for line in entry["lines"]))]],
                 right=(0, 2, 3, 4))
    for trail in entry.get("corrections", ()):
        click.echo(f"  corrected in block {trail['height']}: injected {output.kwh(trail['injected_before'])} -> "
                   f"{output.kwh(trail['injected_after'])}, withdrawn {output.kwh(trail['withdrawn_before'])} -> "
                   f"{output.kwh(trail['withdrawn_after'])}, {output.thb(trail['paid_uthb'])} more to pay")


# ------------------------------------------------------------------ window


@click.command()
@click.argument("window", metavar="[TIME|NUMBER]", required=False)
@node_option
@json_option
def window(window: str | None, node: str | None, as_json: bool) -> None:
    """A window's whole balance: where its energy came from and went, per zone, and whether it is exact.

    WINDOW is the start of delivery in Bangkok time, such as 2025-04-21T09:30, or its number; without it, the last one
    that is settled.
    """
    number = output.parse_window(window) if window is not None else query(node, "settled")["next_window"] - 1
    if number < 0:
        raise CommandError("nothing is settled yet: settlement comes 60 minutes after the first delivery")
    found = query(node, "window", number)
    if as_json:
        output.show_json(found)
        return
    at = {"closed": found["deadline_ms"], "settled": found["final_ms"]}.get(found["phase"])
    click.echo(f"window {number}, delivery {output.window(number)} Bangkok time: {PHASES[found['phase']]}"
               + ("" if at is None else f" {output.moment(at // 1000)}"))
    if not found["zones"]:
        click.echo("there is no balance in state: no meter counted then yet, or `bill_keep_days` have passed since"
                   if found["phase"] in ("settled", "final") else
                   f"there is no balance yet; `gridtokenx prices --window {number}` shows its indicative prices")
        return
    click.echo()
    for line in picture(found["totals"]):
        click.echo(line)
    click.echo()
    _zones(found)


def picture(totals: dict[str, int], rows: int = PICTURE_ROWS) -> list[str]:
    """Two columns of equal height, in proportion: where the window's GT came from, and where it went."""
    sources = [("injected by meters", totals["minted_wh"], "█"), ("supplied by utilities", totals["supplied_wh"], "▒")]
    sinks = [("consumed", totals["consumed_wh"], "█"), ("taken by utilities", totals["taken_wh"], "▒"),
             ("lost on the way", totals["losses_wh"], "░")]
    whole = totals["minted_wh"] + totals["supplied_wh"]
    left, right = _column(sources, whole, rows), _column(sinks, whole, rows)
    height = max(len(left), len(right))
    wide = max(len(text) for text, _ in left) if left else 0
    traded = f"{format_kwh(totals['sold_wh'])} kWh traded"
    lines = []
    for at in range(height):
        text, fill = left[at] if at < len(left) else ("", " ")
        other, mark = right[at] if at < len(right) else ("", " ")
        middle = traded if at == height // 2 else ""
        link = "━" if at in (0, height - 1) else " "
        lines.append(f"{text:>{wide}} {fill * 6}{middle.center(24, link)}{mark * 6} {other}".rstrip())
    lines.append(f"{format_kwh(whole) + ' kWh':>{wide}} {'':6}{'='.center(24)}{'':6} "
                 f"{format_kwh(totals['consumed_wh'] + totals['taken_wh'] + totals['losses_wh'])} kWh")
    return lines


def _column(parts: Sequence[tuple[str, int, str]], whole: int, rows: int) -> list[tuple[str, str]]:
    """Rows of (label, fill): each part gets its share of `rows`, at least one if it is not zero."""
    column: list[tuple[str, str]] = []
    for name, wh, fill in parts:
        if wh:
            count = max(1, round(rows * wh / whole)) if whole else 1
            column += [(f"{name} {format_kwh(wh)} kWh" if at == count // 2 else "", fill) for at in range(count)]
    return column


def _zones(found: Any) -> None:
    names = ("minted", "supplied", "bought", "consumed", "sold", "taken", "losses", "imports", "exports")
    rows = [[row["name"], *(kwh_column(row[f"{name}_wh"]) for name in names),
             f"{row['residual_wh']:,} of {row['tolerance_wh']:,}", _zone_mark(row)] for row in found["zones"]]
    totals = found["totals"]
    rows.append(["in all", *(kwh_column(totals[f"{name}_wh"]) for name in names), "", ""])
    output.table(["zone, kWh", *names, "residual Wh", ""], rows, right=tuple(range(1, 11)))
    source = totals["minted_wh"] + totals["supplied_wh"]
    sink = totals["consumed_wh"] + totals["losses_wh"] + totals["taken_wh"]
    click.echo(f"\nGT: minted {totals['minted_wh']:,} + supplied {totals['supplied_wh']:,} = {source:,} Wh; consumed "
               f"{totals['consumed_wh']:,} + lost {totals['losses_wh']:,} + taken {totals['taken_wh']:,} = {sink:,} "
               + ("Wh: exact" if found["exact"] else "Wh: DOES NOT BALANCE"))


def _zone_mark(row: Any) -> str:
    marks = []
    if row["flagged"]:
        marks.append("FLAGGED")
    if not row["boundary_meters"]:
        marks.append("no boundary meters")
    if row["estimated"]:
        marks.append(f"{row['estimated']} of {row['meters']} readings estimated")
    return ", ".join(marks)
