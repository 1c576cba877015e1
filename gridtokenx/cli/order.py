"""`gridtokenx order`: place, cancel and list orders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.account import address_of
from gridtokenx.cli.session import (
    CommandError,
    ask,
    json_option,
    next_window,
    node_option,
    query,
    send,
    signing_options,
    unlock,
)
from gridtokenx.units import parse_kwh, parse_price

if TYPE_CHECKING:
    from gridtokenx.client import Client

FORCES = {"gate": "GOOD_TILL_GATE", "time": "GOOD_TILL_TIME", "ioc": "IOC"}
MAX_LISTED = 500


@click.group()
def order() -> None:
    """Place, cancel and list orders.

    Every order is for one 15-minute delivery window, which closes for trading 15 minutes before delivery.
    """


@order.command()
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.argument("quantity", metavar="KWH")
@click.argument("price", metavar="THB_PER_KWH")
@click.option("--window", metavar="TIME",
              help="Start of delivery in Bangkok time, such as 2025-04-21T14:30.  [default: the next one open]")
@click.option("--meter", type=click.IntRange(1), help="The meter's number.  [default: the account's only one]")
@click.option("--force", type=click.Choice(list(FORCES)), default="gate", show_default=True,
              help="How long it stays: until the gate, until --until, or not at all.")
@click.option("--until", metavar="TIME", help="With --force time: quarter hour in Bangkok time at which it expires.")
@signing_options
def place(side: str, quantity: str, price: str, window: str | None, meter: int | None, force: str, until: str | None,
          node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Place an order, for example: buy 1.5 4.20. Returns once it is final, with what traded at once.

    A buyer's limit includes wheeling and losses but not fee and VAT; a seller's is what it receives.
    """
    from gridtokenx.ledger.operations import PlaceOrder
    from gridtokenx.market.orders import Force, Side

    quantity_wh, limit_mthb = parse_kwh(quantity), parse_price(price)
    if (until is None) == (force == "time"):
        raise click.UsageError("--force time and --until go together")
    key = unlock(key_file, passphrase_file)

    async def look(client: Client) -> tuple[Any, int]:
        return await client.call("participant", key.public), await next_window(client)

    holder, order_window = ask(node, look)
    if window is not None:
        order_window = output.parse_window(window)
    state = send(node, key, [PlaceOrder(
        meter if meter is not None else _only_meter(holder), order_window, Side.BUY if side == "buy" else Side.SELL,
        limit_mthb, quantity_wh, Force[FORCES[force]],
        output.parse_window(until) * 900_000 if until is not None else 0)], timeout_s)
    if as_json:
        output.show_json(state)
        return
    number, filled_wh, resting_wh, cancelled_wh = state["receipts"][0][1]
    output.facts([
        ("order", number), ("final", f"in block {state['height']}"),
        ("delivery", f"{output.window(order_window)} Bangkok time"),
        ("traded", output.kwh(filled_wh)), ("resting", output.kwh(resting_wh)),
        ("cancelled", output.kwh(cancelled_wh)),
    ])


def _only_meter(holder: Any) -> int:
    if holder is None:
        raise CommandError("this account is no participant: a registrar enters licence holders and their meters")
    meters = holder["meters"]
    if len(meters) != 1:
        raise CommandError(f"this account has {len(meters)} meters: name one with --meter"
                           + (f" ({', '.join(map(str, meters))})" if meters else ""))
    return int(meters[0])


@order.command()
@click.argument("number", type=click.IntRange(1))
@signing_options
def cancel(number: int, node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
           as_json: bool) -> None:
    """Cancel the order with this NUMBER; what it held can be used from the next block on."""
    from gridtokenx.ledger.operations import CancelOrder

    state = send(node, unlock(key_file, passphrase_file), [CancelOrder(number)], timeout_s)
    if as_json:
        output.show_json(state)
    else:
        output.facts([("final", f"in block {state['height']}"),
                      ("cancelled", output.kwh(state["receipts"][0][1][1]))])


@order.command("list")
@click.argument("address", metavar="ADDRESS|KEYFILE")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=50, show_default=True)
@node_option
@json_option
def list_(address: str, limit: int, node: str | None, as_json: bool) -> None:
    """List an account's open orders, those whose gate closes first at the top."""
    orders = query(node, "orders", address_of(address), limit)
    if as_json:
        output.show_json(orders)
        return
    output.table(["order", "delivery", "meter", "side", "price", "left", "of"],
                 [[o["order"], output.window(o["window"]), o["meter"], ("buy", "sell")[o["side"]],
                   output.price(o["price_mthb_kwh"]), output.kwh(o["remaining_wh"]), output.kwh(o["quantity_wh"])]
                  for o in orders], right=(0, 2, 4, 5, 6), empty="no open orders")
