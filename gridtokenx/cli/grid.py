"""`gridtokenx grid`: what the grid's operators look after - zones whose electricity does not add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import ask, json_option, node_option, zone_names, zone_number
from gridtokenx.units import format_kwh

if TYPE_CHECKING:
    from gridtokenx.client import Client


@click.group()
def grid() -> None:
    """Zones whose electricity does not add up, and which meter may be wrong."""


@grid.command()
@click.option("--zone", help="Only of this zone.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@node_option
@json_option
def flags(zone: str | None, limit: int, node: str | None, as_json: bool) -> None:
    """List flags, newest first: windows in which a zone's energy went missing, or came from nowhere."""
    async def look(client: Client) -> tuple[Any, list[str]]:
        names = await zone_names(client)
        return await client.call("flags", None if zone is None else zone_number(zone, names), limit), names

    found, names = ask(node, look)
    if as_json:
        output.show_json(found)
        return
    output.table(["delivery", "zone", "missing Wh", "tolerance Wh", "block", ""],
                 [[output.window(flag["window"]), names[flag["zone"]], f"{flag['residual_wh']:,}",
                   f"{flag['tolerance_wh']:,}", flag["height"],
                   f"explained by a correction in block {flag['cleared']}" if flag["cleared"] else ""]
                  for flag in found], right=(2, 3, 4), empty="no flags: every zone's electricity adds up")


@grid.command()
@click.argument("zone")
@click.option("--windows", type=click.IntRange(1, 672), default=96, show_default=True,
              help="How many settled windows to look back.")
@click.option("--limit", type=click.IntRange(1, 100), default=5, show_default=True)
@node_option
@json_option
def suspects(zone: str, windows: int, limit: int, node: str | None, as_json: bool) -> None:
    """Which meters of ZONE would explain its missing energy best, if they showed a wrong part of the truth.

    A hint to where to send an inspector, not a proof: look at more windows, and at how far the first is ahead.
    """
    async def look(client: Client) -> tuple[Any, str]:
        names = await zone_names(client)
        number = zone_number(zone, names)
        found: Any = await client.call("suspects", number, windows, limit)
        for row in found["meters"]:
            row["owner"] = (await client.call("meter", row["meter"]))["owner"]
            row["licence"] = (await client.call("participant", row["owner"]))["licence"]
        return found, names[number]

    found, name = ask(node, look)
    if as_json:
        output.show_json(found)
        return
    click.echo(f"{name}: {format_kwh(found['residual_wh'])} kWh missing in {found['windows']} settled windows with "
               "boundary readings")
    output.table(["meter", "owner's licence", "register", "explains", "missing per Wh shown", "windows"],
                 [[row["meter"], row["licence"], row["register"], f"{row['share_ppm'] / 10_000:.1f} %",
                   f"{row['slope_ppm'] / 1_000_000:.2f} Wh", row["windows"]] for row in found["meters"]],
                 right=(0, 3, 4, 5), empty="no meter's readings go with what is missing; it takes 8 windows to tell")
