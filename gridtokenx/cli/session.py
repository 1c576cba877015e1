"""What most commands share: which node to ask, which key to sign with, and how long to wait."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gridtokenx.client import code_name
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError, leaves
from gridtokenx.units import WINDOW_SECONDS

if TYPE_CHECKING:
    from gridtokenx.client import Client
    from gridtokenx.ledger.operations.base import Operation

CONFIG_NAME = "gridtokenx.toml"
NETWORK_KEY_VARIABLE = "GRIDTOKENX_NETWORK_KEY"
"""Names the file with the key of a private network, for commands that are given --node."""
VALID_BLOCKS = 600
"""How many blocks a transaction made here stays valid: a minute under load, longer on a quiet chain."""

HINTS = {
    "UNFUNDED": "the balance does not reach; `gridtokenx account` shows what is free",
    "WINDOW_CLOSED": "trading ends 15 minutes before delivery; `gridtokenx status` shows the market clock",
    "WINDOW_NOT_OPEN": "trading begins seven days before delivery",
    "OUT_OF_TICK": "prices are multiples of 0.01 THB/kWh",
    "OUT_OF_LOT": "quantities are multiples of 0.1 kWh",
    "OUT_OF_BAND": "`gridtokenx trade prices` shows the band that limits must keep to",
    "NO_CAPACITY": "the meter cannot inject or withdraw that much in one window",
    "NOT_METER_OWNER": "the meter belongs to another account; `gridtokenx account` lists yours",
    "UNKNOWN_METER": "`gridtokenx account` lists the account's meters",
    "PRICE_LIMIT": "prices are 0 to 1 000 THB/kWh",
    "QUANTITY_LIMIT": "split it: `gridtokenx parameters` shows order_most_wh",
    "BAD_TIME_IN_FORCE": "--good-till must lie between now and the gate, 15 minutes before delivery",
    "BAD_CONDITIONS": "an iceberg shows at least a 20th; --min-fill is at most the quantity; --post-only is for orders "
                      "that stay",
    "KILLED": "so much was not to be had at this limit, and nothing traded; `gridtokenx trade book ZONE --landed buy` "
              "shows what is",
    "WOULD_TRADE": "post-only, and there is a counterpart at this price; nothing traded",
    "UNKNOWN_PROFILE": "`gridtokenx trade filters` lists the filter profiles",
    "HALTED": "the window is halted; `gridtokenx trade status` shows until when. Orders can be cancelled",
    "WORK_LEFT": "resting orders are being traded with each other; send it again in the next block",
    "BOOK_FULL": "the books are full; cancel orders of your own, or try later",
    "LICENCE_EXPIRED": "the licence has expired: it can only cancel, until a registrar renews it",
    "ORDER_CHANGED": "an order to be replaced was filled or amended in this block; look and try again",
    "NOT_APPLIED": "all or nothing, and one of them could not be done",
    "ORDER_IN_ALL_OR_NOTHING": "only cancels followed by post-only orders can be all or nothing",
    "NOT_GRID_OPERATOR": "needs the key of a grid operator (or, for halts, of the market operator)",
    "UNKNOWN_CORRIDOR": "`gridtokenx grid corridors` lists them",
    "SET_ALREADY": "another capacity was set in the same block; send it again",
    "BAD_AGREEMENT": "`gridtokenx bilateral show` says what is in the offer and who signed it",
    "AGREED_ALREADY": "these terms were carried out; a new offer makes a new trade",
    "NO_PATH": "`gridtokenx bilateral offer --path` takes one of the paths that it lists",
    "NO_RESIDUAL": "the path is full; `gridtokenx grid corridors` shows what is left",
    "DUES": "the account owes utilities more than its credit limit; until that is paid it may only cancel",
    "UNKNOWN_ORDER": "it is filled, cancelled or expired; `gridtokenx order list` shows what is open",
    "VERSION_TOO_LATE": "--since must lie in the future of the market clock; `gridtokenx status` shows it",
    "DAY_BEGUN": "name the holidays so far as they are on the chain; `gridtokenx tariffs` lists them",
    "OTHER_CLASS": "`gridtokenx tariffs` shows the class's name and voltage",
    "TOO_FEW_CLAIMS": "`gridtokenx certificate list` shows an account's claims; 1 MWh on one meter makes a certificate",
    "CERTIFICATE_RETIRED": "a retired certificate is used up; `gridtokenx certificate show` says for whom",
    "NOT_CERTIFICATE_OWNER": "`gridtokenx certificate show` says whose it is",
    "NOT_OFFERED": "`gridtokenx certificate list --offered` shows what is for sale",
    "PRICE_CHANGED": "`gridtokenx certificate show` has the present price",
}
"""What to do about the codes that people meet most."""

Result = TypeVar("Result")


class CommandError(GridTokenXError):
    """Something the person at the terminal can mend; the message says how."""


class RefusedError(CommandError):
    """A node did not take the transaction; `code` is the name of the reason's code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


node_option = click.option(
    "--node", "node", envvar="GRIDTOKENX_NODE", metavar="ADDRESS",
    help="The node to ask, such as /ip4/127.0.0.1/tcp/9401/p2p/12D3KooW…; several, separated by commas, are tried in "
         "turn.  [env: GRIDTOKENX_NODE; default: the one configured in this folder]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts as integers in base units.")


def _dialled(listen: str) -> str:
    """The address at which a node that listens on `listen` is reached from the same machine."""
    return listen.replace("/ip4/0.0.0.0/", "/ip4/127.0.0.1/").replace("/ip6/::/", "/ip6/::1/")


def configured_node() -> tuple[str, str | None]:
    """Address and network key of the node configured in this folder. Raises CommandError if there is none."""
    from gridtokenx.crypto.keystore import read_public
    from gridtokenx.network.identity import with_peer_id
    from gridtokenx.node.config import load_config, load_network_key

    path = Path(os.environ.get("GRIDTOKENX_CONFIG", CONFIG_NAME))
    if not path.is_file():
        raise CommandError(
            f"which node? There is no {path} here. Give --node ADDRESS or set GRIDTOKENX_NODE (a node prints its "
            "address when it starts), or run this in a folder made by `gridtokenx init`")
    config = load_config(path)
    public, _ = read_public(config.node.key_file)
    return with_peer_id(_dialled(config.network.listen[0]), public), load_network_key(config)


def chosen_nodes(node: str | None) -> tuple[list[str], str | None]:
    """The addresses named by --node with the key of GRIDTOKENX_NETWORK_KEY, or the configured node's."""
    if not node:
        address, network_key = configured_node()
        return [address], network_key
    key_file = os.environ.get(NETWORK_KEY_VARIABLE)
    if not key_file:
        return split_addresses(node), None
    from gridtokenx.node.config import read_network_key

    return split_addresses(node), read_network_key(Path(key_file))


def split_addresses(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def ask(node: str | None, work: Callable[[Client], Awaitable[Result]]) -> Result:
    """Runs `work` with a connection to the node. Raises ClientError or what `work` raises."""
    import trio

    from gridtokenx.client import NoNode, connect

    addresses, network_key = chosen_nodes(node)

    async def run() -> Result:
        async with connect(addresses, network_key=network_key) as client:
            return await work(client)

    try:
        return trio.run(run)
    except BaseExceptionGroup as group:
        for error in leaves(group):
            if isinstance(error, GridTokenXError):
                raise error from group
        raise
    except NoNode as error:
        raise CommandError(f"{error}\nIs it running, and is this its address? A node prints its address when it starts "
                           "(`gridtokenx start`); --node or GRIDTOKENX_NODE names another") from error


def query(node: str | None, method: str, *parameters: Any) -> Any:
    """The node's answer to one query."""
    async def work(client: Client) -> Any:
        return await client.call(method, *parameters)

    return ask(node, work)


def unlock(key_file: Path, passphrase_file: Path | None) -> PrivateKey:
    """The key in `key_file`, with its passphrase from a file or the terminal. Raises KeystoreError, CommandError."""
    from gridtokenx.crypto.keystore import load_key, read_public
    from gridtokenx.node.config import read_passphrase_file

    _, encrypted = read_public(key_file)
    if not encrypted:
        return load_key(key_file, None)
    if passphrase_file is not None:
        return load_key(key_file, read_passphrase_file(passphrase_file))
    if not sys.stdin.isatty():
        raise CommandError(f"{key_file} is encrypted and there is no terminal to ask on: give --passphrase-file")
    return load_key(key_file, str(click.prompt(f"Passphrase of {key_file}", hide_input=True)))


def signing_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds what every command needs that sends a transaction."""
    options = (
        node_option,
        click.option("--key", "key_file", envvar="GRIDTOKENX_KEY", required=True,
                     type=click.Path(dir_okay=False, path_type=Path),
                     help="Key file of the account that pays and signs.  [env: GRIDTOKENX_KEY]"),
        click.option("--passphrase-file", type=click.Path(dir_okay=False, path_type=Path),
                     help="Read the key's passphrase from here instead of asking."),
        click.option("--timeout", "timeout_s", type=click.IntRange(1, 600), default=15, show_default=True,
                     help="Seconds to wait for finality."),
        json_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def send(node: str | None, key: PrivateKey, operations: Sequence[Operation], timeout_s: int, *,
         all_or_nothing: bool = False, partly: bool = False) -> dict[str, Any]:
    """Signs `operations` as one transaction, submits it and waits until it is final; its state, with `id`.

    Raises CommandError if it is refused, not final in time, or an operation failed: the message has the code's name.
    With `partly` an operation that failed is the caller's to look at.
    """
    from gridtokenx.client import Account

    async def work(client: Client) -> dict[str, Any]:
        status = await client.status()
        parameters = await client.parameters()
        owner = await client.account(key.public)
        if owner is None:
            raise CommandError(f"{encode_address(key.public)} has no money on this chain, and fees are paid in THB: "
                               "ask an issuer for a deposit, or anyone for a transfer")
        account = Account(key, status["chain_id"], owner["nonce"])
        signed = account.sign(operations, valid_until_height=status["height"] + VALID_BLOCKS,
                              fee_uthb=parameters["min_fee_uthb"] * len(operations), all_or_nothing=all_or_nothing)
        [submission] = await client.submit([signed.raw])
        if not submission.accepted:
            name = code_name(submission.code)
            raise RefusedError(f"refused: {name}: {submission.message}"
                               + (f" ({HINTS[name]})" if name in HINTS else ""), name)
        [state] = await client.wait([signed.id], timeout_s * 1000)
        return {"id": signed.id, **state}

    state = ask(node, work)
    identity = state["id"].hex()
    if state["state"] == "refused":
        raise CommandError(f"refused: {code_name(state['code'])}: {state['reason']}")
    if state["state"] == "evicted":
        raise CommandError(f"this node gave it up: {code_name(state['code'])}: {state['reason']}; another may still "
                           f"hold it. Look again with `gridtokenx transaction {identity}`")
    if state["state"] != "final":
        raise CommandError(f"not final after {timeout_s} s; it may still become so. Look again with "
                           f"`gridtokenx transaction {identity}`")
    if state["code"] and not partly:
        failed = [code for code, _ in state["receipts"] if code > 2]
        # The others of an all-or-nothing transaction only say that one of them failed.
        name = code_name(next((code for code in failed if code_name(code) != "NOT_APPLIED"), state["code"]))
        raise CommandError(f"final in block {state['height']}, but it failed with {name}"
                           + (f": {HINTS[name]}" if name in HINTS else ""))
    return state


async def next_window(client: Client) -> int:
    """The first delivery window that is open for trading."""
    return int((await client.status())["market_time_s"]) // WINDOW_SECONDS + 2


async def zone_names(client: Client) -> list[str]:
    """The zones' names, by number."""
    return [row["name"] for row in await client.call("prices", (await client.status())["window"])]


def zone_number(zone: str, names: list[str]) -> int:
    """A zone by name or number. Raises CommandError naming those there are."""
    folded = [name.lower() for name in names]
    if zone.lower() in folded:
        return folded.index(zone.lower())
    if zone.isdigit() and int(zone) < len(names):
        return int(zone)
    raise CommandError(f"no zone {zone!r}; there are {', '.join(names)}")
