"""`gridtokenx proof` asks a node for a light proof; `gridtokenx verify-proof` checks one with the genesis alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from gridtokenx.cli import output
from gridtokenx.cli.session import CommandError, json_option, node_option, query
from gridtokenx.json_form import plain

if TYPE_CHECKING:
    from gridtokenx.light.verify import Proven

_BIG = 1 << 32


def _number(text: str, what: str, most: int = _BIG) -> int:
    if not text.isascii() or not text.isdigit() or not int(text) < most:
        raise CommandError(f"{what} is a whole number below {most}, not {text!r}")
    return int(text)


def _hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CommandError(f"{what} is written in hexadecimal, not {text!r}") from None


def _account(address: str) -> list[bytes]:
    from gridtokenx.cli.account import address_of
    from gridtokenx.ledger import spaces

    public = address_of(address)
    return [spaces.account(public), spaces.energy(public)]


def _parameter(name: str) -> list[bytes]:
    from gridtokenx.ledger import spaces
    from gridtokenx.ledger.parameters import BY_NAME

    if name not in BY_NAME:
        raise CommandError(f"there is no parameter {name!r}; there are {', '.join(sorted(BY_NAME))}")
    return [spaces.parameter(BY_NAME[name].number)]


def _by_numbers(space: str, *names: str, most: int = _BIG) -> Callable[..., list[bytes]]:
    def keys(*texts: str) -> list[bytes]:
        from gridtokenx.ledger import spaces

        return [getattr(spaces, space)(*(_number(text, name, most) for text, name in zip(texts, names, strict=True)))]
    return keys


_KINDS: dict[str, tuple[tuple[str, ...], Callable[..., list[bytes]]]] = {
    "account": (("ADDRESS",), _account),
    "participant": (("ID",), _by_numbers("participant", "a participant's id")),
    "meter": (("ID",), _by_numbers("meter", "a meter's id")),
    "order": (("ID",), _by_numbers("order", "an order's id", most=1 << 64)),
    "trade": (("WINDOW", "NUMBER"), _by_numbers("trade", "a window", "a number")),
    "reading": (("WINDOW", "METER"), _by_numbers("reading", "a window", "a meter's id")),
    "settlement": (("WINDOW", "METER"), _by_numbers("settlement", "a window", "a meter's id")),
    "balance": (("WINDOW", "ZONE"), _by_numbers("balance", "a window", "a zone", most=1 << 24)),
    "certificate": (("SERIAL",), _by_numbers("certificate", "a serial number", most=1 << 63)),
    "claim": (("WINDOW", "METER"), _by_numbers("claim", "a window", "a meter's id")),
    "parameter": (("NAME",), _parameter),
    "record": (("KEY",), lambda key: [_hex(key, "a state key")]),
    "transaction": (("ID",), lambda name: [_hex(name, "a transaction's id")]),
}


@click.command(epilog="Kinds: " + "; ".join(" ".join((kind, *names)) for kind, (names, _) in _KINDS.items()))
@click.argument("kind", type=click.Choice(list(_KINDS)), metavar="KIND")
@click.argument("names", nargs=-1, required=True, metavar="WHICH...")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="Write it here, as CBOR, or as JSON if the name ends in .json. Without it JSON is printed.")
@node_option
def proof(kind: str, names: tuple[str, ...], out: Path | None, node: str | None) -> None:
    """Fetch a proof that a record is, or is not, in the state of a final block; or that a transaction is in one.

    It can be checked by anyone who knows the chain's genesis: `gridtokenx verify-proof`.
    """
    from gridtokenx.light.format import decode_proof, to_json

    wanted, keys_of = _KINDS[kind]
    if len(names) != len(wanted):
        raise click.UsageError(f"a proof of a {kind} takes {' '.join(wanted)}")
    keys = keys_of(*names)
    raw = query(node, "prove_transaction", keys[0]) if kind == "transaction" else query(node, "prove", keys)
    made = decode_proof(raw)
    text = json.dumps(to_json(made), indent=1)
    if out is None:
        click.echo(text)
        return
    out.write_bytes(text.encode() if out.suffix == ".json" else raw)
    click.echo(f"{out}: {out.stat().st_size:,} bytes; check it with `gridtokenx verify-proof {out} --genesis FILE`",
               err=True)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--genesis", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The chain's genesis file, from a source that you trust.")
@click.option("--genesis-hash", metavar="HEX", help="Instead: the hash of block 0, in hexadecimal.")
@json_option
def verify_proof(file: Path, genesis: Path | None, genesis_hash: str | None, as_json: bool) -> None:
    """Check the proof in FILE and show what it proves. Needs no node and no network.

    Every step from the authorities in the genesis to the records is checked; what fails is named, with exit code 1.
    """
    from gridtokenx.light.format import MAX_PROOF_BYTES
    from gridtokenx.light.verify import Trust, read_proof, verify

    if (genesis is None) == (genesis_hash is None):
        raise click.UsageError("give either --genesis FILE or --genesis-hash HEX")
    if genesis is not None:
        from gridtokenx.ledger.genesis import load_genesis

        trust = Trust.of_hash(load_genesis(genesis).header().hash)
    else:
        trust = Trust.of_hash(_hex(genesis_hash or "", "the hash of block 0"))
    with file.open("rb") as opened:
        data = opened.read(4 * MAX_PROOF_BYTES)
    proven = verify(read_proof(data), trust)
    if as_json:
        output.show_json(_as_table(proven))
        return
    _show(proven)


def _record(key: bytes, value: bytes) -> Any:
    """The record's fields by name, or the bytes of what has none."""
    from gridtokenx.ledger.schema import decode_value

    try:
        record = decode_value(key, value)
    except Exception:  # noqa: BLE001 - it is proven whatever this program can make of it
        return value
    if isinstance(record, bytes):
        return record
    return {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}


def _space(key: bytes) -> str:
    from gridtokenx.ledger.spaces import ChainRecord, Space

    try:
        return (f"chain {ChainRecord(key[1]).name.lower()}" if key[0] == Space.CHAIN else Space(key[0]).name.lower())
    except (ValueError, IndexError):
        return "unknown"


def _as_table(proven: Proven) -> dict[str, Any]:
    header = proven.header
    return {
        "chain_id": header.chain_id, "height": header.height, "hash": header.hash, "timestamp_ms": header.timestamp_ms,
        "epoch": header.epoch, "certified_height": proven.certified.height, "authorities": len(proven.members),
        "records": [{"space": _space(key), "key": key, "present": value is not None,
                     "record": None if value is None else _record(key, value)}
                    for key, value in proven.records.items()],
        "transactions": [{"id": entry.id, "index": entry.index, "transaction": entry.raw, "receipts": _receipts(entry)}
                         for entry in proven.transactions],
    }


def _receipts(entry: Any) -> list[list[Any]]:
    from gridtokenx.ledger.receipts import decode_receipt

    return [[int(outcome.code), list(outcome.data)] for outcome in decode_receipt(entry.receipt).outcomes]


def _show(proven: Proven) -> None:
    header = proven.header
    output.facts([
        ("chain", header.chain_id.hex()),
        ("final block", f"{header.height} at {output.moment_ms(header.timestamp_ms)}, {header.hash.hex()}"),
        ("finalized by", f"a quorum of {len(proven.members)} authorities of epoch {proven.certified.epoch}"
                         + ("" if proven.certified == header else f", in block {proven.certified.height} after it")),
    ])
    for key, value in proven.records.items():
        click.echo(f"\n{_space(key)} {key[1:].hex()}" + (": NOT in the state" if value is None else ""))
        record = None if value is None else _record(key, value)
        if isinstance(record, dict):
            output.facts([(name, plain(field, name)) for name, field in record.items()])
        elif record is not None:
            output.facts([("value", plain(record))])
    for entry in proven.transactions:
        click.echo(f"\ntransaction {entry.id.hex()}")
        output.facts([("number", entry.index), ("receipts", json.dumps(plain(_receipts(entry))))])
    click.echo("\nPROVEN")
