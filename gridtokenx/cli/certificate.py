"""`gridtokenx certificate`: certificates of renewable energy, from claims to retirement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.account import address_of
from gridtokenx.cli.session import CommandError, ask, json_option, node_option, query, send, signing_options, unlock
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.units import parse_thb

MAX_LISTED = 500
SOURCES = ("solar", "wind", "hydro", "biomass", "geothermal")
serial_argument = click.argument("serial", type=click.IntRange(1))


@click.group()
def certificate() -> None:
    """Certificates of renewable energy, 1 MWh each: list, issue, transfer, sell, retire.

    Claims come from the energy that meters of renewable sources injected, seven days after its delivery. 1 MWh of
    claims on one meter makes a certificate.
    """


@certificate.command("list")
@click.argument("address", metavar="[ADDRESS|KEYFILE]", required=False)
@click.option("--offered", is_flag=True, help="Those for sale, cheapest first within a source.")
@click.option("--source", type=click.Choice(SOURCES), help="With --offered: only of this source.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only serial numbers above this one.")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=50, show_default=True)
@node_option
@json_option
def list_(address: str | None, offered: bool, source: str | None, after: int, limit: int, node: str | None,
          as_json: bool) -> None:
    """List an account's certificates and the claims that it can still make into some, or those for sale."""
    if offered == (address is not None):
        raise click.UsageError("name an account, or give --offered")
    if source is not None and not offered:
        raise click.UsageError("--source goes with --offered")
    if offered:
        rows = query(node, "certificate_offers", None if source is None else _source_number(source), limit)
        if as_json:
            output.show_json(rows)
            return
        _table(rows, empty="no certificates are for sale")
        return
    assert address is not None
    owner = address_of(address)

    async def look(client: Any) -> tuple[Any, Any]:
        return await client.call("certificates", owner, after, limit), await client.call("claims", owner)

    rows, claims = ask(node, look)
    if as_json:
        output.show_json({"certificates": rows, "claims": claims})
        return
    _table(rows, empty="no certificates")
    click.echo()
    output.table(["claims on", "source", "energy", "ready", "delivered"],
                 [[f"meter {row['meter']}", _source_name(row["source"]), output.kwh(row["held_wh"]), row["ready"],
                   _span(row)] for row in claims], right=(2, 3), empty="no claims")


def _table(rows: list[Any], *, empty: str) -> None:
    output.table(["serial", "source", "meter", "delivered", "avoided", "status"],
                 [[row["certificate"], _source_name(row["source"]), row["meter"], _span(row),
                   f"{row['avoided_g']:,} g", _status(row)] for row in rows], right=(0, 2, 4), empty=empty)


@certificate.command()
@serial_argument
@node_option
@json_option
def show(serial: int, node: str | None, as_json: bool) -> None:
    """Show the certificate with this SERIAL number, retired or not."""
    found = query(node, "certificate", serial)
    if found is None:
        raise CommandError(f"there is no certificate {serial}")
    if as_json:
        output.show_json(found)
        return
    facts: list[tuple[str, object]] = [
        ("certificate", serial), ("energy", f"1 MWh of {_source_name(found['source'])}, meter {found['meter']}"),
        ("delivered", _span(found)), ("owner", encode_address(found["owner"])), ("status", _status(found)),
        ("avoided", f"{found['avoided_g']:,} g CO2"), ("credit", f"{found['credit_g']:,} g CO2"),
        ("issued", f"{output.moment(found['issued_ms'] // 1000)} Bangkok time, in block {found['height']}"),
    ]
    if found["buyer"]:
        facts.append(("only for", encode_address(found["buyer"])))
    if found["retired_ms"]:
        facts += [("retired for", found["beneficiary"]), ("purpose", found["purpose"]),
                  ("retired", f"{output.moment(found['retired_ms'] // 1000)} Bangkok time")]
    output.facts(facts)


@certificate.command()
@click.argument("meter", type=click.IntRange(1))
@click.option("--count", type=click.IntRange(1, 64), default=1, show_default=True)
@signing_options
def issue(meter: int, count: int, node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
          as_json: bool) -> None:
    """Make certificates of the account's oldest claims on METER, 1 MWh each."""
    from gridtokenx.ledger.operations import IssueCertificates

    state = send(node, unlock(key_file, passphrase_file), [IssueCertificates(meter, count)], timeout_s)
    if as_json:
        output.show_json(state)
        return
    first, made = state["receipts"][0][1]
    output.facts([("final", f"in block {state['height']}"),
                  ("certificates", first if made == 1 else f"{first} to {first + made - 1}")])


@certificate.command()
@serial_argument
@click.argument("to", metavar="ADDRESS|KEYFILE")
@signing_options
def transfer(serial: int, to: str, node: str | None, key_file: Path, passphrase_file: Path | None, timeout_s: int,
             as_json: bool) -> None:
    """Give certificate SERIAL to another account."""
    from gridtokenx.ledger.operations import TransferCertificate

    receiver = address_of(to)
    _done(send(node, unlock(key_file, passphrase_file), [TransferCertificate(serial, receiver)], timeout_s), as_json,
          ("certificate", f"{serial} now belongs to {encode_address(receiver)}"))


@certificate.command()
@serial_argument
@click.argument("price", metavar="[THB]", required=False)
@click.option("--to", metavar="ADDRESS|KEYFILE", help="Only this account may buy it.")
@click.option("--withdraw", is_flag=True, help="Take the offer back.")
@signing_options
def offer(serial: int, price: str | None, to: str | None, withdraw: bool, node: str | None, key_file: Path,
          passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Offer certificate SERIAL for THB, such as 35.50. A new offer replaces the old one."""
    from gridtokenx.ledger.operations import OfferCertificate

    if withdraw == (price is not None) or (withdraw and to is not None):
        raise click.UsageError("give a price, or --withdraw alone")
    uthb = 0 if price is None else parse_thb(price)
    if uthb <= 0 and not withdraw:
        raise CommandError("the price must be more than 0 THB; `certificate transfer` gives a certificate away")
    buyer = b"" if to is None else address_of(to)
    _done(send(node, unlock(key_file, passphrase_file), [OfferCertificate(serial, uthb, buyer)], timeout_s), as_json,
          ("certificate", f"{serial} is not for sale any more" if withdraw else f"{serial} costs {output.thb(uthb)}"))


@certificate.command()
@serial_argument
@click.option("--price", metavar="THB", help="Buy only at this price.  [default: what it costs now]")
@signing_options
def buy(serial: int, price: str | None, node: str | None, key_file: Path, passphrase_file: Path | None,
        timeout_s: int, as_json: bool) -> None:
    """Buy certificate SERIAL at its price; money and certificate change hands together."""
    from gridtokenx.ledger.operations import BuyCertificate

    key = unlock(key_file, passphrase_file)
    if price is not None:
        uthb = parse_thb(price)
    else:
        found = query(node, "certificate", serial)
        if found is None:
            raise CommandError(f"there is no certificate {serial}")
        uthb = found["price_uthb"]
    if uthb <= 0:
        raise CommandError(f"certificate {serial} is not for sale" if price is None
                           else "the price must be more than 0 THB")
    _done(send(node, key, [BuyCertificate(serial, uthb)], timeout_s), as_json,
          ("certificate", f"{serial} bought for {output.thb(uthb)}"))


@certificate.command()
@serial_argument
@click.option("--for", "beneficiary", required=True, metavar="NAME", help="Whose use of electricity it covers.")
@click.option("--purpose", required=True, metavar="TEXT", help="What for, such as the year and place of the use.")
@signing_options
def retire(serial: int, beneficiary: str, purpose: str, node: str | None, key_file: Path,
           passphrase_file: Path | None, timeout_s: int, as_json: bool) -> None:
    """Use certificate SERIAL up, once and for good; for whom and what stays on record."""
    from gridtokenx.ledger.operations import RetireCertificate

    _done(send(node, unlock(key_file, passphrase_file), [RetireCertificate(serial, beneficiary, purpose)], timeout_s),
          as_json, ("certificate", f"{serial} is retired for {beneficiary}"))


def _done(state: dict[str, Any], as_json: bool, fact: tuple[str, object]) -> None:
    if as_json:
        output.show_json(state)
    else:
        output.facts([("final", f"in block {state['height']}"), fact])


def _source_number(name: str) -> int:
    from gridtokenx.grid.kinds import Source

    return int(Source[name.upper()])


def _source_name(number: int) -> str:
    from gridtokenx.grid.kinds import Source

    return Source(number).name.lower()


def _span(row: Any) -> str:
    """The quarter hours that the energy is of: from the first's beginning to the last's end."""
    return f"{output.window(row['first_window'])[:16]} to {output.window(row['last_window'] + 1)[:16]}"


def _status(row: Any) -> str:
    if row["status"] == "offered":
        return f"for sale at {output.thb(row['price_uthb'])}" + (" to one account" if row["buyer"] else "")
    return str(row["status"])
