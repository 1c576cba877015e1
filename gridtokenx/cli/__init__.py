"""The `gridtokenx` command. Each group of commands is one module, imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from gridtokenx import __version__
from gridtokenx.errors import GridTokenXError

# Name -> (module, what it does). The second part is shown by --help without importing the module.
COMMANDS = {
    "init": ("init", "Make a node's folder: configuration, key and data directory."),
    "keys": ("keys", "Make, show and import key files."),
    "start": ("start", "Run a node in the foreground."),
    "gateway": ("gateway", "Serve HTTP over a node's data, only reading."),
    "signer": ("signer", "Sign for an operator's own accounts, for programs with a token."),
    "status": ("chain", "What the network is doing, as one node sees it."),
    "block": ("chain", "Show a block, or the latest ones."),
    "transaction": ("chain", "What became of a transaction."),
    "peers": ("chain", "The node's peers."),
    "authorities": ("chain", "Who takes turns to produce blocks, and what each produced."),
    "parameters": ("chain", "The rules in force, as numbers."),
    "account": ("account", "Money, participant and meters of an account."),
    "transfer": ("account", "Send THB to another account."),
    "order": ("order", "Place, amend, cancel and list orders."),
    "trade": ("trade", "Trades, prices, the order book, halts, filters."),
    "bilateral": ("bilateral", "Trade with one partner, outside the book."),
    "bill": ("settlement", "An account's bill of a day, line by line."),
    "window": ("settlement", "A delivery window's whole balance, as a picture and a table."),
    "grid": ("grid", "Corridors, halts, and zones that do not add up."),
    "proof": ("proof", "Fetch a proof of a record or transaction."),
    "verify-proof": ("proof", "Check a proof with the genesis alone."),
    "snapshot": ("snapshot", "Make a snapshot of a node's state, or a node from one."),
    "backup": ("backup", "Copy a node's data while it runs."),
    "repair": ("backup", "Find what is damaged in a node's data, and mend it."),
    "audit": ("audit", "Derive a chain anew from its blocks, and say what differs."),
    "prices": ("tariffs", "Indicative prices of the zones."),
    "tariffs": ("tariffs", "What utilities charge and pay, and since when."),
    "certificate": ("certificate", "Certificates of renewable energy: list, issue, sell, retire."),
    "fork": ("fork", "Take a chain as of any height, to try things on."),
    "sim": ("sim", "Write and run scenarios: a population that trades, simulated."),
    "market": ("market", "Run files of orders through the matching engine."),
}


class Commands(click.Group):
    """Finds a command's module by name; errors that the package raises on purpose end without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gridtokenx.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GridTokenXError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gridtokenx")
def cli() -> None:
    """GridTokenX: a peer network for trading electricity. 1 kWh = 1 GT; money is THB.

    Queries and orders go to one node, given by --node, by GRIDTOKENX_NODE, or by the configuration in the
    present folder (gridtokenx.toml) or in GRIDTOKENX_CONFIG. Keys stay on this machine.
    """


def main() -> None:
    """Entry point of the `gridtokenx` command."""
    sys.exit(cli())
