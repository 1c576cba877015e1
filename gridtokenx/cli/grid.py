"""`gridtokenx grid`: what the grid's operators look after - zones whose electricity does not add up."""

from __future__ import annotations

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
    zone_names,
    zone_number,
)
from gridtokenx.units import format_decimal, format_kwh, parse_decimal

if TYPE_CHECKING:
    from gridtokenx.client import Client


@click.group()
def grid() -> None:
    """Corridors and what they carry; halts; zones whose electricity does not add up, and which meter may be wrong."""


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


# ------------------------------------------------------------------ corridors and halts


@grid.command()
@click.option("--window", metavar="TIME", help="Start of delivery in Bangkok time.  [default: the next one open]")
@node_option
@json_option
def corridors(window: str | None, node: str | None, as_json: bool) -> None:
    """What each corridor can carry in a delivery window, and what is left of it, in each direction."""
    async def look(client: Client) -> tuple[int, Any, list[str]]:
        number = await next_window(client) if window is None else output.parse_window(window)
        return number, await client.call("capacities", number), await zone_names(client)

    number, rows, names = ask(node, look)
    if as_json:
        output.show_json(rows)
        return
    click.echo(f"delivery {output.window(number)} Bangkok time")
    output.table(["corridor", "from", "to", "carries", "left", "loss", "wheeling"],
                 [[row["corridor"], names[row[start]], names[row[end]], output.kwh(row[f"{way}_wh"]),
                   output.kwh(row[f"{way}_left_wh"]), f"{row['loss_ppm'] / 10_000:g} %",
                   f"{format_decimal(row['wheel_uthb_kwh'], 6, 4)} THB/kWh"]
                  for row in rows
                  for way, start, end in (("forward", "first", "second"), ("backward", "second", "first"))],
                 right=(0, 3, 4, 5, 6), empty="there are no corridors: every zone trades by itself")


@grid.command()
@click.argument("corridor", type=click.IntRange(0, 255))
@click.argument("forward", metavar="FORWARD_KW")
@click.argument("backward", metavar="BACKWARD_KW")
@click.option("--window", required=True, metavar="TIME", help="The first delivery window, in Bangkok time.")
@click.option("--last", metavar="TIME", help="The last one, at most 96 in all.  [default: the first]")
@signing_options
def capacity(corridor: int, forward: str, backward: str, window: str, last: str | None, node: str | None,
             key_file: Path, passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Set what CORRIDOR carries in each direction, as a grid operator. Trades made before stand."""
    from gridtokenx.ledger.operations import SetCapacity

    first, final = _windows(window, last)
    state = send(node, unlock(key_file, passphrase_file), [SetCapacity(
        corridor, first, final, parse_decimal(forward, 3, "power in kW"), parse_decimal(backward, 3, "power in kW"))],
        timeout_s)
    _show_done(state, as_json)


@grid.command()
@click.argument("window", metavar="TIME")
@click.option("--last", metavar="TIME", help="The last window, at most 96 in all.  [default: only this one]")
@signing_options
def halt(window: str, last: str | None, node: str | None, key_file: Path, passphrase_file: Path | None,
         timeout_s: int, as_json: bool) -> None:
    """Halt trading in the window that begins at TIME until it is resumed; orders can still be cancelled."""
    _halt(window, last, True, node, key_file, passphrase_file, timeout_s, as_json)


@grid.command()
@click.argument("window", metavar="TIME")
@click.option("--last", metavar="TIME", help="The last window, at most 96 in all.  [default: only this one]")
@signing_options
def resume(window: str, last: str | None, node: str | None, key_file: Path, passphrase_file: Path | None,
           timeout_s: int, as_json: bool) -> None:
    """Resume trading, also before the breaker's time is over. What crosses by then is traded first."""
    _halt(window, last, False, node, key_file, passphrase_file, timeout_s, as_json)


def _halt(window: str, last: str | None, halted: bool, node: str | None, key_file: Path,
          passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    from gridtokenx.ledger.operations import HaltWindows

    first, final = _windows(window, last)
    _show_done(send(node, unlock(key_file, passphrase_file), [HaltWindows(first, final, halted)], timeout_s), as_json)


def _windows(window: str, last: str | None) -> tuple[int, int]:
    first = output.parse_window(window)
    final = first if last is None else output.parse_window(last)
    if not first <= final < first + 96:
        raise CommandError(f"{final - first + 1} windows; 1 to 96 in order are allowed in one transaction")
    return first, final


def _show_done(state: Any, as_json: bool) -> None:
    if as_json:
        output.show_json(state)
    else:
        output.facts([("final", f"in block {state['height']}"), ("windows", state["receipts"][0][1][0])])
