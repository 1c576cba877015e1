"""Queries about the network and its blocks: status, block, transaction, peers, authorities, parameters."""

from __future__ import annotations

from typing import Any

import click

from gridtokenx.cli import output
from gridtokenx.cli.session import CommandError, json_option, node_option, query
from gridtokenx.client import code_name
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.json_form import plain


@click.command()
@node_option
@json_option
def status(node: str | None, as_json: bool) -> None:
    """What the network is doing, as one node sees it."""
    answer = query(node, "status")
    if as_json:
        output.show_json(answer)
        return
    role = f"validator ({answer['authority']})" if answer["authority"] else "observer"
    pairs: list[tuple[str, object]] = [
        ("node", f"{answer['name']}, {role}, version {answer['version']}, "
                 f"up {output.duration_ms(answer['uptime_ms'])}"),
        ("chain", f"{answer['chain_name']} ({answer['chain_id'].hex()[:16]}…)"),
        ("final block", f"{answer['height']} at {output.moment_ms(answer['timestamp_ms'])}, {answer['hash'].hex()}"),
        ("state root", answer["state_root"].hex()),
        ("consensus", f"epoch {answer['epoch']}, view {answer['view']}, leader {answer['leader']}, "
                      f"delta {answer['delta_ms']} ms"),
        ("market clock", f"{output.moment(answer['market_time_s'])} Bangkok time, x {answer['market_rate']}"),
        ("delivering", output.window(answer["window"])),
        ("peers", answer["peers"]),
        ("pending", f"{answer['pending_transactions']} transactions"),
    ]
    if answer.get("confirmation_p50_ms") is not None:
        pairs.append(("confirmation", f"{answer['confirmation_p50_ms']} ms (median of the latest, at this node)"))
    pairs.append(("blocks by", ", ".join(f"{name} {count}" for name, count in answer["produced"].items())))
    output.facts(pairs)


@click.command()
@click.argument("height", type=click.IntRange(0), required=False)
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="How many of the latest.")
@node_option
@json_option
def block(height: int | None, limit: int, node: str | None, as_json: bool) -> None:
    """Show the final block at HEIGHT, or list the latest ones."""
    if height is None:
        _latest(node, limit, as_json)
        return
    answer = query(node, "block", height)
    if answer is None:
        raise CommandError(f"no final block at height {height} on this node; `gridtokenx status` shows its head")
    if as_json:
        output.show_json(answer)
        return
    output.facts([(name.replace("_", " "), _shown(name, value)) for name, value in answer.items()])


def _latest(node: str | None, limit: int, as_json: bool) -> None:
    top = query(node, "status")["height"]
    blocks = query(node, "blocks", max(0, top - limit + 1), limit)
    if as_json:
        output.show_json(blocks)
        return
    output.table(
        ["height", "time", "producer", "transactions", "trades", "energy", "hash"],
        [[b["height"], output.moment_ms(b["timestamp_ms"]), b["proposer"], len(b["transaction_ids"]), b["trades"],
          output.kwh(b["traded_wh"]), b["hash"].hex()[:16]] for b in reversed(blocks)],
        right=(0, 3, 4, 5))


def _shown(name: str, value: Any) -> object:
    if name == "timestamp_ms":
        return f"{output.moment_ms(value)} Bangkok time ({value})"
    if name == "transaction_ids":
        return ", ".join(identity.hex() for identity in value) or "none"
    shown = plain(value, name)
    if isinstance(shown, dict):
        return ", ".join(f"{key} {item}" for key, item in shown.items())
    return shown


@click.command()
@click.argument("identity", metavar="ID")
@node_option
@json_option
def transaction(identity: str, node: str | None, as_json: bool) -> None:
    """What became of the transaction with hexadecimal ID."""
    try:
        raw = bytes.fromhex(identity)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise CommandError("a transaction's id is 64 hexadecimal digits")
    answer = query(node, "transaction", raw)
    if as_json:
        output.show_json(answer)
        return
    pairs: list[tuple[str, object]] = [("state", answer["state"])]
    if answer["state"] == "final":
        pairs += [("block", f"{answer['height']}, number {answer['index']}"), ("result", code_name(answer["code"]))]
        pairs += [(f"operation {at}", _outcome(outcome)) for at, outcome in enumerate(answer["receipts"], 1)]
    if answer.get("reason"):
        pairs.append(("reason", f"{code_name(answer['code'])}: {answer['reason']}"))
    output.facts(pairs)


def _outcome(outcome: Any) -> str:
    """One operation's receipt, `[code, data...]`."""
    if isinstance(outcome, list) and outcome and isinstance(outcome[0], int):
        data = " ".join(str(item) for item in plain(outcome[1:]))
        return f"{code_name(outcome[0])} {data}".rstrip()
    return str(plain(outcome))


@click.command()
@node_option
@json_option
def peers(node: str | None, as_json: bool) -> None:
    """The node's peers."""
    answer = query(node, "peers")
    if as_json:
        output.show_json(answer)
        return
    rows = [[peer["name"] or "-", "authority" if peer["authority"] else "peer", _connection(peer), peer["address"],
             f"{peer['sent_bytes']:,}", f"{peer['received_bytes']:,}", peer["dropped"],
             encode_address(peer["public"])] for peer in sorted(answer, key=lambda peer: str(peer["name"]))]
    output.table(["name", "kind", "connection", "address", "sent bytes", "received", "dropped", "identity"], rows,
                 right=(4, 5, 6), empty="no peers: this node is alone; check [network] bootstrap and the firewall")


def _connection(peer: dict[str, Any]) -> str:
    if not peer["connected"]:
        return f"none: {peer['error'] or 'not dialled yet'}"
    linked = ", linked" if peer["linked"] else ""
    return f"{'out' if peer['outbound'] else 'in'}, {output.duration_ms(peer['connected_s'] * 1000)}{linked}"


@click.command()
@node_option
@json_option
def authorities(node: str | None, as_json: bool) -> None:
    """Who takes turns to produce blocks, and what each produced."""
    answer = query(node, "authorities")
    if as_json:
        output.show_json(answer)
        return
    produced = query(node, "status")["produced"]
    output.table(["turn", "name", "blocks", "address"],
                 [[at, entry["name"], produced.get(entry["name"], 0), encode_address(entry["public"])]
                  for at, entry in enumerate(answer)], right=(0, 2))


@click.command()
@node_option
@json_option
def parameters(node: str | None, as_json: bool) -> None:
    """The rules in force, as numbers: each with its unit and what it does."""
    from gridtokenx.ledger.parameters import BY_NAME

    answer = query(node, "parameters")
    if as_json:
        output.show_json(answer)
        return
    output.table(["parameter", "value", "unit", "what it does"],
                 [[name, f"{value:,}", BY_NAME[name].unit if name in BY_NAME else "",
                   BY_NAME[name].help if name in BY_NAME else ""] for name, value in answer.items()], right=(1,))
