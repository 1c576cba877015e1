"""`gridtokenx account` and `gridtokenx transfer`: money, participant and meters of an account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import (
    CommandError,
    ask,
    json_option,
    node_option,
    send,
    signing_options,
    unlock,
    zone_names,
)
from gridtokenx.crypto.bech32m import decode_address, encode_address
from gridtokenx.units import parse_thb

if TYPE_CHECKING:
    from gridtokenx.client import Client


def address_of(text: str) -> bytes:
    """The address in `text`: `gtx1…`, or the path of a key file. Raises AddressError, KeystoreError, CommandError."""
    if text.lower().startswith("gtx1"):
        return decode_address(text)
    path = Path(text)
    if not path.is_file():
        raise CommandError(f"{text!r} is neither an address, which begins with gtx1, nor a key file that is here")
    from gridtokenx.crypto.keystore import read_public

    return read_public(path)[0]


@click.command()
@click.argument("address", metavar="ADDRESS|KEYFILE")
@node_option
@json_option
def account(address: str, node: str | None, as_json: bool) -> None:
    """Show money, participant and meters of an account, named by its address or its key file."""
    public = address_of(address)

    async def look(client: Client) -> tuple[Any, Any, list[Any], Any, list[Any]]:
        found = await client.account(public)
        holder = await client.call("participant", public)
        meters = [await client.call("meter", meter) for meter in (holder or {}).get("meters", ())]
        return found, holder, meters, await client.call("energy", public), await zone_names(client)

    found, holder, meters, energy, zones = ask(node, look)
    if found is None:
        raise CommandError(f"{encode_address(public)} is not on this chain yet: it becomes an account with the first "
                           "THB it receives")
    if as_json:
        output.show_json({**found, "participant": holder, "meters": meters, "energy": energy})
        return
    output.facts([
        ("address", encode_address(public)), ("next nonce", found["nonce"]),
        ("balance", f"{output.thb(found['balance_uthb'])}, free to spend"),
        ("in bids", output.thb(found["bids_uthb"])),
        ("earned", f"{output.thb(found['proceeds_uthb'])}, paid out when its windows settle"),
        ("locked", f"{output.thb(found['locked_uthb'])}, for deliveries sold"),
        ("in all", output.thb(found["total_uthb"])),
        *([("owes", f"{output.thb(found['dues_uthb'])} to utilities: money that comes in pays it first")]
          if found["dues_uthb"] else []),
        ("participant", _participant(holder, zones)),
        *([("energy", ", ".join(f"{name} {output.kwh(energy[f'{name}_wh'])}" for name in (
            "minted", "delivered", "received", "burned")) + " (1 kWh = 1 GT)")] if any(energy.values()) else []),
    ])
    if meters:
        click.echo()
        output.table(["meter", "zone", "network", "source", "injects at most", "withdraws at most"],
                     [_meter(meter, zones) for meter in meters], right=(0, 4, 5))


def _participant(holder: Any, zones: list[Any]) -> str:
    from gridtokenx.grid.kinds import Role

    if holder is None:
        return "none: a registrar enters licence holders"
    return (f"{holder['participant']}, licence {holder['licence']}, {Role(holder['role']).name.lower()} in "
            f"{zones[holder['zone']]}, until {output.moment(holder['expires_ms'] // 1000)} (market time)")


def _meter(meter: Any, zones: list[Any]) -> list[object]:
    from gridtokenx.grid.kinds import Network, Source

    return [meter["meter"], zones[meter["zone"]], Network(meter["network"]).name, Source(meter["source"]).name.lower(),
            f"{meter['injection_w']:,} W", f"{meter['withdrawal_w']:,} W"]


@click.command()
@click.argument("to", metavar="ADDRESS|KEYFILE")
@click.argument("amount", metavar="THB")
@click.option("--memo", default="", help="At most 64 bytes, public.")
@signing_options
def transfer(to: str, amount: str, memo: str, node: str | None, key_file: Path, passphrase_file: Path | None,
             timeout_s: int, as_json: bool) -> None:
    """Send THB, such as 12.50, to an account; returns once it is final."""
    from gridtokenx.ledger.operations import Transfer

    receiver, uthb = address_of(to), parse_thb(amount)
    if uthb <= 0:
        raise CommandError("the amount must be more than 0 THB")
    if len(memo.encode()) > 64:
        raise CommandError(f"the memo has {len(memo.encode())} bytes; at most 64 are allowed")
    state = send(node, unlock(key_file, passphrase_file), [Transfer(receiver, uthb, memo.encode())], timeout_s)
    if as_json:
        output.show_json(state)
    else:
        output.facts([("final", f"in block {state['height']}"), ("transaction", state["id"].hex()),
                      ("sent", f"{output.thb(uthb)} to {encode_address(receiver)}")])
