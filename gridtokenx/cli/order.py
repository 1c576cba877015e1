"""`gridtokenx order`: place, amend, cancel, replace and list orders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve

from gridtokenx.cli import output
from gridtokenx.cli.account import address_of
from gridtokenx.cli.session import (
    HINTS,
    CommandError,
    RefusedError,
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

SELF_TRADE = {"newest": 0, "oldest": 1, "both": 2}
MAX_LISTED = 500
MAX_OPERATIONS = 64
"""Of one transaction."""
MAX_TRIES = 5
WINDOW_MS = 900_000


@click.group()
def order() -> None:
    """Place, amend, cancel, replace and list orders.

    Every order is for one 15-minute delivery window, which closes for trading 15 minutes before delivery.
    """


@order.command()
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.argument("quantity", metavar="KWH")
@click.argument("price", metavar="THB_PER_KWH", required=False)
@click.option("--market", is_flag=True, help="Instead of a price: at whatever is offered within the price band.")
@click.option("--window", metavar="TIME",
              help="Start of delivery in Bangkok time, such as 2025-04-21T14:30.  [default: the next one open]")
@click.option("--meter", type=click.IntRange(1), help="The meter's number.  [default: the account's only one]")
@click.option("--ioc", is_flag=True, help="Immediate or cancel: take what is there, leave nothing.")
@click.option("--fok", is_flag=True, help="Fill or kill: all of it at once, or nothing.")
@click.option("--good-till", metavar="TIME", help="A quarter hour in Bangkok time at which it expires.  [default: the "
                                                  "window's gate]")
@click.option("--post-only", is_flag=True, help="Refuse it if it would trade at once.")
@click.option("--min-fill", metavar="KWH", help="At arrival trade at least so much, or nothing.")
@click.option("--iceberg", metavar="KWH", help="Show only so much at a time, at least a 20th of the quantity.")
@click.option("--self-trade", type=click.Choice(list(SELF_TRADE)), default="newest", show_default=True,
              help="Which order goes when it meets one of your own: this one, the other, or both.")
@click.option("--filter", "profile", metavar="NAME|NUMBER",
              help="A buyer's filter profile: accepted sources and zones (`gridtokenx trade filters`).")
@signing_options
def place(side: str, quantity: str, price: str | None, market: bool, window: str | None, meter: int | None, ioc: bool,
          fok: bool, good_till: str | None, post_only: bool, min_fill: str | None, iceberg: str | None,
          self_trade: str, profile: str | None, node: str | None, key_file: Path, passphrase_file: Path | None,
          timeout_s: int, as_json: bool) -> None:
    """Place an order, for example: buy 1.5 4.20. Returns once it is final, with what traded at once.

    A buyer's limit includes wheeling and losses but not fee and VAT; a seller's is what it receives.
    """
    from gridtokenx.ledger.operations import PlaceOrder
    from gridtokenx.market.orders import Force, SelfTrade, Side

    if (price is None) != market:
        raise click.UsageError("give either a price or --market")
    if ioc + fok + (good_till is not None) > 1:
        raise click.UsageError("--ioc, --fok and --good-till exclude each other")
    if post_only and (ioc or fok or min_fill is not None):
        raise click.UsageError("--post-only goes with neither --ioc, --fok nor --min-fill")
    if iceberg is not None and (ioc or fok):
        raise click.UsageError("--iceberg is for orders that stay: not with --ioc or --fok")
    if fok and min_fill is not None:
        raise click.UsageError("--fok fills all: --min-fill adds nothing")
    if profile is not None and side == "sell":
        raise click.UsageError("--filter is a buyer's")
    force = Force.IOC if ioc else Force.FOK if fok else Force.GOOD_TILL_TIME if good_till else Force.GOOD_TILL_GATE
    operation = PlaceOrder(
        meter or 0, 0, Side.BUY if side == "buy" else Side.SELL, 0 if price is None else parse_price(price),
        parse_kwh(quantity), force, output.parse_window(good_till) * WINDOW_MS if good_till else 0,
        minimum_wh=_optional_kwh(min_fill), display_wh=_optional_kwh(iceberg), self_trade=SelfTrade(
            SELF_TRADE[self_trade]), post_only=post_only, market=market)
    number = None if window is None else output.parse_window(window)
    key = unlock(key_file, passphrase_file)

    async def look(client: Client) -> PlaceOrder:
        return evolve(
            operation, meter=meter or _only_meter(await client.call("participant", key.public)),
            window=await next_window(client) if number is None else number,
            profile=0 if profile is None else _profile(profile, await client.call("profiles")))

    operation = ask(node, look)
    state = send(node, key, [operation], timeout_s)
    _show_placed(state, operation.window, as_json)


def _optional_kwh(text: str | None) -> int:
    return 0 if text is None else parse_kwh(text)


def _profile(text: str, profiles: list[Any]) -> int:
    """A filter profile by name or number. Raises CommandError naming those there are."""
    for entry in profiles:
        if text.lower() == entry["name"].lower() or text == str(entry["profile"]):
            return int(entry["profile"])
    raise CommandError(f"no filter profile {text!r}; there are "
                       + ", ".join(f"{entry['profile']} ({entry['name']})" for entry in profiles))


def _show_placed(state: Any, window: int, as_json: bool) -> None:
    if as_json:
        output.show_json(state)
        return
    number, filled_wh, resting_wh, cancelled_wh = state["receipts"][0][1]
    output.facts([
        ("order", number), ("final", f"in block {state['height']}"),
        ("delivery", f"{output.window(window)} Bangkok time"),
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
@click.option("--price", metavar="THB_PER_KWH", help="The new limit.  [default: as it is]")
@click.option("--quantity", metavar="KWH", help="The new total, what is filled included.  [default: as it is]")
@click.option("--post-only", is_flag=True, help="Refuse the amend if the order would trade.")
@signing_options
def amend(number: int, price: str | None, quantity: str | None, post_only: bool, node: str | None, key_file: Path,
          passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Change price or quantity of the order with this NUMBER.

    Less at the same price keeps its place; anything else goes to the end of the queue, and may trade.
    """
    from gridtokenx.ledger.operations import AmendOrder

    if price is None and quantity is None:
        raise click.UsageError("give --price, --quantity or both")
    new_price = None if price is None else parse_price(price)
    new_wh = None if quantity is None else parse_kwh(quantity)
    key = unlock(key_file, passphrase_file)
    found = query(node, "order", number)
    if found is None:
        raise CommandError(f"order {number} is not open: {HINTS['UNKNOWN_ORDER']}")
    state = send(node, key, [AmendOrder(
        number, found["price_mthb_kwh"] if new_price is None else new_price,
        found["quantity_wh"] if new_wh is None else new_wh, post_only)], timeout_s)
    _show_placed(state, found["window"], as_json)


@order.command()
@click.argument("numbers", metavar="NUMBER...", type=click.IntRange(1), nargs=-1, required=True)
@signing_options
def cancel(numbers: tuple[int, ...], node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
           as_json: bool) -> None:
    """Cancel the orders with these numbers (64 at most); what they held can be used from the next block on."""
    from gridtokenx.ledger.operations import CancelOrder

    if len(numbers) > MAX_OPERATIONS:
        raise click.UsageError(f"{len(numbers)} orders; at most {MAX_OPERATIONS} at once, or `order cancel-all`")
    state = send(node, unlock(key_file, passphrase_file), [CancelOrder(number) for number in numbers], timeout_s)
    if as_json:
        output.show_json(state)
    else:
        output.facts([("final", f"in block {state['height']}"),
                      ("cancelled", output.kwh(sum(data[1] for _, data in state["receipts"])))])


@order.command("cancel-all")
@click.option("--window", metavar="TIME", help="Only of this delivery window.")
@click.option("--meter", type=click.IntRange(1), help="Only of this meter.")
@signing_options
def cancel_all(window: str | None, meter: int | None, node: str | None, key_file: Path, passphrase_file: Path | None,
               timeout_s: int, as_json: bool) -> None:
    """Cancel all open orders of the account. What is filled or expires meanwhile is passed over."""
    from gridtokenx.ledger.operations import CancelOrder

    number = None if window is None else output.parse_window(window)
    key = unlock(key_file, passphrase_file)
    orders = cancelled_wh = tries = 0
    seen: set[int] = set()
    while True:
        found = [o["order"] for o in query(node, "orders", key.public, MAX_LISTED)
                 if number in (None, o["window"]) and meter in (None, o["meter"]) and o["order"] not in seen]
        if not found:
            break
        batch = found[:MAX_OPERATIONS]
        try:
            state = send(node, key, [CancelOrder(entry) for entry in batch], timeout_s, partly=True)
        except RefusedError as error:       # one of them has just been filled: look again
            tries += 1
            if error.code != "UNKNOWN_ORDER" or tries == MAX_TRIES:
                raise
            continue
        seen.update(batch)
        gone = [data[1] for code, data in state["receipts"] if not code]
        orders, cancelled_wh = orders + len(gone), cancelled_wh + sum(gone)
    if as_json:
        output.show_json({"orders": orders, "cancelled_wh": cancelled_wh})
    else:
        output.facts([("orders", orders), ("cancelled", output.kwh(cancelled_wh))])


@order.command()
@click.option("--cancel", "cancels", type=click.IntRange(1), multiple=True, metavar="NUMBER", help="Repeat for more.")
@click.option("--place", "places", type=(click.Choice(["buy", "sell"]), str, str), multiple=True,
              metavar="SIDE KWH THB_PER_KWH", help="A post-only order; repeat for more.")
@click.option("--window", metavar="TIME", help="Of the new orders.  [default: the next one open]")
@click.option("--meter", type=click.IntRange(1), help="Of the new orders.  [default: the account's only one]")
@signing_options
def requote(cancels: tuple[int, ...], places: tuple[tuple[str, str, str], ...], window: str | None, meter: int | None,
            node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Replace orders by post-only ones, all together or not at all; the old ones' money is used for the new.

    For example: requote --cancel 7 --cancel 8 --place buy 1 4.00 --place sell 1 4.40
    """
    from gridtokenx.ledger.operations import CancelOrder, PlaceOrder
    from gridtokenx.market.orders import Side

    if (not cancels and not places) or len(cancels) + len(places) > MAX_OPERATIONS:
        raise click.UsageError(f"give 1 to {MAX_OPERATIONS} of --cancel and --place together")
    orders = [PlaceOrder(meter or 0, 0, Side.BUY if side == "buy" else Side.SELL, parse_price(price),
                         parse_kwh(quantity), post_only=True) for side, quantity, price in places]
    number = None if window is None else output.parse_window(window)
    key = unlock(key_file, passphrase_file)

    async def look(client: Client) -> list[PlaceOrder]:
        at = await next_window(client) if number is None else number
        own = meter or (_only_meter(await client.call("participant", key.public)) if orders else 0)
        return [evolve(entry, meter=own, window=at) for entry in orders]

    placed = ask(node, look)
    state = send(node, key, [*[CancelOrder(entry) for entry in cancels], *placed], timeout_s, all_or_nothing=True)
    if as_json:
        output.show_json(state)
        return
    output.facts([("final", f"in block {state['height']}"), ("cancelled", len(cancels)), (
        "placed", ", ".join(str(data[0]) for _, data in state["receipts"][len(cancels):]) or "none")])


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
    output.table(["order", "delivery", "meter", "side", "price", "left", "of", "hidden"],
                 [[o["order"], output.window(o["window"]), o["meter"], ("buy", "sell")[o["side"]],
                   output.price(o["price_mthb_kwh"]), output.kwh(o["remaining_wh"]), output.kwh(o["quantity_wh"]),
                   output.kwh(o["hidden_wh"]) if o["hidden_wh"] else ""]
                  for o in orders], right=(0, 2, 4, 5, 6, 7), empty="no open orders")
