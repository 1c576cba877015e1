"""`gridtokenx trade`: trades, prices, the order book, and whether a window trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.account import address_of
from gridtokenx.cli.session import (
    ask,
    json_option,
    next_window,
    node_option,
    zone_names,
    zone_number,
)
from gridtokenx.units import format_rate

if TYPE_CHECKING:
    from gridtokenx.client import Client

MAX_LISTED = 500


@click.group()
def trade() -> None:
    """List trades, prices, the order book, halts and filters."""


@trade.command("list")
@click.option("--account", metavar="ADDRESS|KEYFILE", help="Only this account's.")
@click.option("--window", metavar="TIME", help="Only of this delivery window, oldest first.")
@click.option("--zone", help="With --window: only with buyers in this zone.")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=20, show_default=True)
@node_option
@json_option
def list_(account: str | None, window: str | None, zone: str | None, limit: int, node: str | None,
          as_json: bool) -> None:
    """List trades, newest first."""
    where: dict[str, Any] = {}
    if zone is not None and window is None:
        raise click.UsageError("--zone goes with --window")
    if account is not None and window is not None:
        raise click.UsageError("--account and --window exclude each other")
    if account is not None:
        where["account"] = address_of(account)
    if window is not None:
        where["window"] = output.parse_window(window)

    async def look(client: Client) -> tuple[Any, list[str]]:
        names = await zone_names(client)
        if zone is not None:
            where["zone"] = zone_number(zone, names)
        return await client.call("trades", where, limit), names

    trades, names = ask(node, look)
    if as_json:
        output.show_json(trades)
        return
    output.table(["block", "delivery", "zone", "seller", "buyer", "delivered", "price", "value", "wheeling", "fee+VAT"],
                 [[t["height"], output.window(t["window"]), names[t["buy_zone"]], f"meter {t['sell_meter']}",
                   f"meter {t['buy_meter']}", output.kwh(t["delivered_wh"]), output.price(t["price_mthb_kwh"]),
                   output.thb_short(t["value_uthb"]), output.thb_short(t["wheel_uthb"]),
                   output.thb_short(t["fee_uthb"] + t["vat_uthb"])] for t in trades],
                 right=(0, 5, 6, 7, 8, 9), empty="no trades")


@trade.command()
@click.option("--window", metavar="TIME", help="Start of delivery.  [default: the next window open for trading]")
@node_option
@json_option
def prices(window: str | None, node: str | None, as_json: bool) -> None:
    """Prices per zone of one delivery window: best bid and ask, trades, and the band that limits must keep to."""
    async def look(client: Client) -> tuple[int, Any]:
        number = await chosen_window(client, window)
        return number, await client.call("prices", number)

    number, rows = ask(node, look)
    if as_json:
        output.show_json(rows)
        return
    click.echo(f"delivery {output.window(number)} Bangkok time; THB/kWh")
    output.table(["zone", "bid", "ask", "last", "low", "high", "trades", "traded", "band"],
                 [[row["name"], *(_optional(row[f"{name}_mthb_kwh"]) for name in (
                     "bid", "ask", "last_price", "low_price", "high_price")), row["trades"],
                   output.kwh(row["traded_wh"]),
                   f"{_optional(row['band_low_mthb_kwh'])}-{_optional(row['band_high_mthb_kwh'])}"] for row in rows],
                 right=(1, 2, 3, 4, 5, 6, 7))


@trade.command()
@click.argument("zone")
@click.option("--window", metavar="TIME", help="Start of delivery.  [default: the next window open for trading]")
@click.option("--levels", type=click.IntRange(1, 200), default=10, show_default=True)
@click.option("--landed", type=click.Choice(["buy", "sell"]),
              help="Instead: what a buy or sell in ZONE would meet, from all zones, as it arrives there.")
@node_option
@json_option
def book(zone: str, window: str | None, levels: int, landed: str | None, node: str | None, as_json: bool) -> None:
    """The order book of ZONE for one delivery window, best prices first."""
    if landed is not None:
        _landed(zone, window, levels, landed, node, as_json)
        return

    async def look(client: Client) -> tuple[int, Any]:
        number = await chosen_window(client, window)
        return number, await client.call("book", number, zone_number(zone, await zone_names(client)), levels)

    number, depth = ask(node, look)
    if as_json:
        output.show_json(depth)
        return
    click.echo(f"{zone}, delivery {output.window(number)} Bangkok time; THB/kWh")
    rows = [[*_level(depth["bids"], at), *reversed(_level(depth["asks"], at))]
            for at in range(max(len(depth["bids"]), len(depth["asks"])))]
    output.table(["orders", "kWh", "bid", "ask", "kWh", "orders"], rows, right=(0, 1, 2, 3, 4, 5),
                 empty="the book is empty")


def _landed(zone: str, window: str | None, levels: int, side: str, node: str | None, as_json: bool) -> None:
    async def look(client: Client) -> tuple[int, Any, list[str]]:
        number, names = await chosen_window(client, window), await zone_names(client)
        return number, await client.call("landed", number, zone_number(zone, names), ("buy", "sell").index(side),
                                         levels), names

    number, rows, names = ask(node, look)
    if as_json:
        output.show_json(rows)
        return
    what = "landed, what a buyer pays with losses and wheeling" if side == "buy" else "netback, what a seller gets"
    click.echo(f"{zone}, delivery {output.window(number)} Bangkok time; THB/kWh {what}")
    output.table(["landed" if side == "buy" else "netback", "limit", "kWh", "orders", "zone", "corridors",
                  "path carries"],
                 [[format_rate(row["landed_uthb_kwh"]), _optional(row["price_mthb_kwh"]),
                   output.kwh(row["shown_wh"]).removesuffix(" kWh"), row["orders"], names[row["zone"]],
                   " ".join(map(str, row["path"])) or "-",
                   "-" if row["path_wh"] is None else output.kwh(row["path_wh"])] for row in rows],
                 right=(0, 1, 2, 3, 6), empty="nothing is offered" if side == "buy" else "nobody asks for anything")


@trade.command()
@click.option("--window", metavar="TIME", help="Start of delivery.  [default: the next window open for trading]")
@node_option
@json_option
def status(window: str | None, node: str | None, as_json: bool) -> None:
    """Whether a delivery window trades, until when, what the breaker counts; and which windows are halted."""
    async def look(client: Client) -> tuple[Any, Any]:
        return (await client.call("trading", await chosen_window(client, window)),
                await client.call("halts", MAX_LISTED))

    found, halted = ask(node, look)
    if as_json:
        output.show_json({**found, "halts": halted})
        return
    breaker = found["breaker"]
    until = found["halted_until_ms"]
    output.facts([
        ("delivery", f"{output.window(found['window'])} Bangkok time"),
        ("trading", {
            "early": f"opens {output.moment(found['opens_ms'] // 1000)}",
            "open": f"open until {output.moment(found['gate_ms'] // 1000)}",
            "halted": "halted until " + ("it is resumed" if until is None else output.moment(until // 1000)),
            "closed": f"closed since {output.moment(found['gate_ms'] // 1000)}"}[found["phase"]]
         + (", resting orders are being traded with each other" if found["uncrossing"] else "")),
        ("band", f"{output.price(found['band_low_mthb_kwh'])} to {output.price(found['band_high_mthb_kwh'])}"),
        ("trades", found["trades"]),
        ("breaker", f"{output.kwh(breaker['injected_wh'])} of {output.kwh(breaker['least_wh'])}, {breaker['buyers']} "
                    f"buyers and {breaker['sellers']} sellers of {breaker['participants']} each"
                    + ("" if breaker["average_mthb_kwh"] is None
                       else f", on average {output.price(breaker['average_mthb_kwh'])}")),
    ])
    if halted:
        click.echo()
        output.table(["halted delivery", "until"], [
            [output.window(row["window"]), "resumed" if row["halted_until_ms"] is None
             else output.moment(row["halted_until_ms"] // 1000)] for row in halted])


@trade.command()
@node_option
@json_option
def filters(node: str | None, as_json: bool) -> None:
    """The filter profiles that a buyer can name: which sources, and sellers in which zones, it accepts."""
    from gridtokenx.grid.kinds import Source

    async def look(client: Client) -> tuple[Any, list[str]]:
        return await client.call("profiles"), await zone_names(client)

    rows, names = ask(node, look)
    if as_json:
        output.show_json(rows)
        return
    output.table(["number", "name", "sources", "zones"], [
        [row["profile"], row["name"], _bits(row["sources"], [source.name.lower() for source in Source]),
         _bits(row["zones"], names)] for row in rows], right=(0,))


def _bits(mask: int, names: list[str]) -> str:
    found = [name for bit, name in enumerate(names) if mask >> bit & 1]
    return "all" if len(found) == len(names) else ", ".join(found)


async def chosen_window(client: Client, window: str | None) -> int:
    return await next_window(client) if window is None else output.parse_window(window)


def _level(levels: list[Any], at: int) -> list[object]:
    if at >= len(levels):
        return ["", "", ""]
    price, energy_wh, orders = levels[at]
    return [orders, output.kwh(energy_wh).removesuffix(" kWh"), _optional(price)]


def _optional(price: int | None) -> str:
    return "-" if price is None else output.price(price).removesuffix(" THB/kWh")
