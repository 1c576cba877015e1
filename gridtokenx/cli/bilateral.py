"""`gridtokenx bilateral`: a trade with one partner, outside the book.

One owner writes an offer to a file and signs it; the other looks at it and sends it to the chain. Accounts with
several keys add the signatures that they need to the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import CommandError, ask, send, signing_options, unlock
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.units import parse_kwh, parse_price

if TYPE_CHECKING:
    from gridtokenx.client import Client
    from gridtokenx.ledger.operations import BilateralTrade

FORMAT = "gridtokenx bilateral offer 1"
VALID_BLOCKS = 8_640
"""A day of blocks on a quiet chain."""


@click.group()
def bilateral() -> None:
    """Trade energy of one delivery window with one partner, at any price from 0; both owners sign.

    The seller's meter injects what the path loses besides; the buyer pays wheeling, fee and VAT as for any trade.
    """


@bilateral.command()
@click.argument("quantity", metavar="KWH")
@click.argument("price", metavar="THB_PER_KWH")
@click.option("--from", "sell_meter", required=True, type=click.IntRange(1), help="The seller's meter.")
@click.option("--to", "buy_meter", required=True, type=click.IntRange(1), help="The buyer's meter.")
@click.option("--window", required=True, metavar="TIME", help="Start of delivery in Bangkok time.")
@click.option("--path", metavar="CORRIDOR,...", help="From the seller's zone to the buyer's.  [default: the first with "
                                                     "room for it]")
@click.option("--blocks", type=click.IntRange(1, 1_000_000), default=VALID_BLOCKS, show_default=True,
              help="For how many blocks the offer can be accepted.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@signing_options
def offer(quantity: str, price: str, sell_meter: int, buy_meter: int, window: str, path: str | None, blocks: int,
          out: Path, node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
          as_json: bool) -> None:
    """Offer KWH (as delivered to the buyer) at a price per injected kWh, signed with your key, to a file."""
    import secrets

    from gridtokenx.ledger.operations import BilateralTrade
    from gridtokenx.market.agreements import Agreement

    del timeout_s
    wh, mthb, number = parse_kwh(quantity), parse_price(price), output.parse_window(window)
    if out.exists():
        raise CommandError(f"{out} exists already: name another file")
    key = unlock(key_file, passphrase_file)

    async def look(client: Client) -> tuple[bytes, Agreement]:
        status = await client.status()
        ends = [await client.call("meter", meter) for meter in (sell_meter, buy_meter)]
        for meter, end in zip((sell_meter, buy_meter), ends, strict=True):
            if end is None:
                raise CommandError(f"there is no meter {meter}; `gridtokenx account` lists an account's")
        chosen = await _path(client, ends[0]["zone"], ends[1]["zone"], path, number, wh)
        return status["chain_id"], Agreement(sell_meter, buy_meter, number, mthb, wh, chosen,
                                             status["height"] + blocks, secrets.token_bytes(8))

    chain_id, terms = ask(node, look)
    _write(out, chain_id, BilateralTrade(terms, (terms.sign(key, chain_id),)))
    if as_json:
        output.show_json(json.loads(out.read_text()))
    else:
        click.echo(f"{out} holds the offer with your signature. Hand it to the other owner, who runs "
                   f"`gridtokenx bilateral accept {out}`")


async def _path(client: Client, start: int, end: int, text: str | None, window: int, wh: int) -> tuple[int, ...]:
    """The corridors named, or the first path with room. Raises CommandError naming those there are."""
    paths = await client.call("paths", start, end)
    listed = ", ".join(",".join(map(str, entry["path"])) or "none (one zone)" for entry in paths)
    if text is not None:
        try:
            wanted = [int(part) for part in text.split(",")]
        except ValueError as error:
            raise CommandError(f"--path {text!r}: give corridor numbers with commas; there are {listed}") from error
        if wanted not in [entry["path"] for entry in paths]:
            raise CommandError(f"--path {text} is none of the market's; there are {listed}")
        return tuple(wanted)
    rows = await client.call("capacities", window)
    for entry in paths:
        injected = -(-wh * 1_000_000 // (1_000_000 - entry["loss_ppm"]))
        at, room = start, injected
        for number in entry["path"]:
            forward = rows[number]["first"] == at
            at = rows[number]["second" if forward else "first"]
            room = min(room, rows[number]["forward_left_wh" if forward else "backward_left_wh"])
        if room >= injected:
            return tuple(entry["path"])
    raise CommandError(f"no path has room for {output.kwh(wh)} in that window; `gridtokenx grid corridors` shows what "
                       f"is left. Paths: {listed}")


@bilateral.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """What an offer says, and whose signatures under it are good."""
    from gridtokenx.crypto.hashing import Domain
    from gridtokenx.crypto.keys import signed_bytes, verify_known

    chain_id, trade = _read(file)
    terms = trade.terms
    message = signed_bytes(Domain.AGREEMENT, chain_id, terms.payload())
    good = verify_known([(key, signature, message) for key, signature in trade.signatures])
    output.facts([
        ("chain", chain_id.hex()), ("delivery", f"{output.window(terms.window)} Bangkok time"),
        ("from", f"meter {terms.sell_meter}"), ("to", f"meter {terms.buy_meter}"),
        ("delivered", output.kwh(terms.delivered_wh)), ("price", f"{output.price(terms.price_mthb_kwh)} injected"),
        ("path", ", ".join(map(str, terms.path)) or "inside one zone"),
        ("until", f"block {terms.until_height}"),
        *[("signed by", encode_address(key) + ("" if fine else " - NOT VALID"))
          for (key, _), fine in zip(trade.signatures, good, strict=True)]])


@bilateral.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@signing_options
def sign(file: Path, node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
         as_json: bool) -> None:
    """Add your signature to an offer of an account that several keys sign for."""
    del node, timeout_s
    chain_id, trade = _read(file)
    key = unlock(key_file, passphrase_file)
    if key.public in [public for public, _ in trade.signatures]:
        raise CommandError(f"{encode_address(key.public)} has signed it already")
    from attrs import evolve

    signed = evolve(trade, signatures=(*trade.signatures, trade.terms.sign(key, chain_id)))
    _write(file, chain_id, signed)
    if as_json:
        output.show_json(json.loads(file.read_text()))
    else:
        click.echo(f"{file} has {len(signed.signatures)} signatures")


@bilateral.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@signing_options
def accept(file: Path, node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
           as_json: bool) -> None:
    """Accept an offer as the other meter's owner: the trade is made, and returns once it is final."""
    chain_id, trade = _read(file)
    key = unlock(key_file, passphrase_file)

    async def look(client: Client) -> bytes:
        return bytes((await client.status())["chain_id"])

    if ask(node, look) != chain_id:
        raise CommandError(f"{file} was offered on another chain, {chain_id.hex()}")
    if key.public in [public for public, _ in trade.signatures]:
        raise CommandError("this is your own offer: the other owner accepts it")
    state = send(node, key, [trade], timeout_s)
    if as_json:
        output.show_json(state)
        return
    number, delivered_wh, injected_wh = state["receipts"][0][1]
    output.facts([("trade", number), ("final", f"in block {state['height']}"),
                  ("delivered", output.kwh(delivered_wh)), ("injected", output.kwh(injected_wh))])


def _write(file: Path, chain_id: bytes, trade: BilateralTrade) -> None:
    t = trade.terms
    file.write_text(json.dumps({
        "format": FORMAT, "chain_id": chain_id.hex(), "sell_meter": t.sell_meter, "buy_meter": t.buy_meter,
        "window": t.window, "price_mthb_kwh": t.price_mthb_kwh, "delivered_wh": t.delivered_wh, "path": list(t.path),
        "until_height": t.until_height, "salt": t.salt.hex(),
        "signatures": [[key.hex(), signature.hex()] for key, signature in trade.signatures]}, indent=2) + "\n")


def _read(file: Path) -> tuple[bytes, BilateralTrade]:
    """Chain and trade of an offer's file. Raises CommandError saying what is wrong with it."""
    from gridtokenx.ledger.operations import BilateralTrade
    from gridtokenx.ledger.receipts import Failed

    try:
        table: dict[str, Any] = json.loads(file.read_text())
        if table["format"] != FORMAT:
            raise CommandError(f"{file} is no offer of this version: its format is {table['format']!r}, not {FORMAT!r}")
        trade = BilateralTrade.parse((
            table["sell_meter"], table["buy_meter"], table["window"], table["price_mthb_kwh"], table["delivered_wh"],
            tuple(table["path"]), table["until_height"], bytes.fromhex(table["salt"]),
            tuple((bytes.fromhex(key), bytes.fromhex(signature)) for key, signature in table["signatures"])))
        return bytes.fromhex(table["chain_id"]), trade
    except (OSError, ValueError, KeyError, TypeError, Failed) as error:
        raise CommandError(f"{file} is no offer as `gridtokenx bilateral offer` writes it: {error!r}") from error
