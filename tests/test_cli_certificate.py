"""`gridtokenx certificate` on a chain in memory: what people type, and what they read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from certificate_support import claimed_chain
from click.testing import CliRunner
from ledger_support import THB, key

from gridtokenx.cli import certificate as commands
from gridtokenx.cli import cli
from gridtokenx.cli.session import CommandError
from gridtokenx.client import code_name
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.ledger import certificate_queries


class Node:
    """Answers commands from the chain: queries as the rpc does, transactions in a block each."""

    def __init__(self) -> None:
        self.chain = claimed_chain()

    def query(self, node: str | None, method: str, *parameters: Any) -> Any:
        del node
        function = {"certificate_offers": "offers"}.get(method, method)
        return getattr(certificate_queries, function)(self.chain.head, *parameters)

    def ask(self, node: str | None, work: Callable[[Any], Awaitable[Any]]) -> Any:
        outer = self

        class Client:
            async def call(self, method: str, *parameters: Any) -> Any:
                return outer.query(node, method, *parameters)

        waiting = work(Client()).__await__()
        try:
            next(waiting)
        except StopIteration as done:
            return done.value
        raise AssertionError("the client waits")

    def send(self, node: str | None, signer: PrivateKey, operations: list[Any], timeout_s: int) -> dict[str, Any]:
        del node, timeout_s
        outcomes = self.chain.do(signer, *operations)
        for outcome in outcomes:
            if not outcome.ok:
                raise CommandError(code_name(outcome.code))
        return {"height": self.chain.head.header.height, "id": bytes(32),
                "receipts": [[int(outcome.code), list(outcome.data)] for outcome in outcomes]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    node = Node()
    for name in ("query", "ask", "send"):
        monkeypatch.setattr(commands, name, getattr(node, name))
    for house in ("house 0", "house 1"):
        save_key(tmp_path / f"{house[-1]}.key", key(house), None)
    return tmp_path


def run(folder: Path, *arguments: str, by: int = 0, fails: bool = False) -> str:
    result = CliRunner().invoke(cli, ["certificate", *arguments],
                                env={"GRIDTOKENX_KEY": str(folder / f"{by}.key")})
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_from_claims_to_retirement(folder: Path) -> None:
    mine, other = str(folder / "0.key"), str(folder / "1.key")
    assert "no certificates" in (shown := run(folder, "list", mine))
    assert "3400 kWh" in shown and "solar" in shown
    assert "1 to 3" in run(folder, "issue", "1", "--count", "3")
    assert "TOO_FEW_CLAIMS" in run(folder, "issue", "1", fails=True)
    assert "35.50 THB" in run(folder, "offer", "1", "35.50")
    assert "not for sale any more" in run(folder, "offer", "1", "--withdraw")
    run(folder, "offer", "2", "20", "--to", other)
    run(folder, "offer", "1", "40")
    listed = run(folder, "list", "--offered", "--source", "solar")
    assert listed.index("to one account") < listed.index("40")
    assert "bought for 20" in run(folder, "buy", "2", by=1)
    assert "PRICE_CHANGED" in run(folder, "buy", "1", "--price", "39", by=1, fails=True)
    assert encode_address(key("house 1").public) in run(folder, "transfer", "3", other)
    run(folder, "retire", "3", "--for", "Chiang Mai University", "--purpose", "campus 2026", by=1)
    shown = run(folder, "show", "3")
    assert "Chiang Mai University" in shown and "campus 2026" in shown and "475,000 g CO2" in shown
    table = json.loads(run(folder, "show", "3", "--json"))
    assert (table["status"], table["owner"], table["avoided_g"]) == (
        "retired", encode_address(key("house 1").public), 475_000)
    rows = json.loads(run(folder, "list", other, "--json"))
    assert [row["certificate"] for row in rows["certificates"]] == [2, 3]
    assert json.loads(run(folder, "list", "--offered", "--json"))[0]["price_uthb"] == 40 * THB


def test_what_cannot_be_says_why(folder: Path) -> None:
    for words, arguments in (
            ("no certificate 9", ("show", "9")), ("no certificate 9", ("buy", "9")),
            ("name an account", ("list",)),
            ("goes with --offered", ("list", str(folder / "0.key"), "--source", "wind")),
            ("give a price", ("offer", "1")), ("give a price", ("offer", "1", "5", "--withdraw")),
            ("more than 0", ("offer", "1", "0")), ("more than 0", ("buy", "1", "--price", "0"))):
        assert words in run(folder, *arguments, fails=True)
    run(folder, "issue", "1")
    assert "not for sale" in run(folder, "buy", "1", by=1, fails=True)
