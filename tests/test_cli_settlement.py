"""`gridtokenx bill`, `window` and `grid` on a chain without a network between: what people read and are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from ledger_support import THB, Chain, key, trading_chain

from gridtokenx.cli import cli, grid, settlement
from gridtokenx.client import NoNode
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger import queries, settlement_queries
from gridtokenx.ledger.operations import PlaceOrder
from gridtokenx.market.orders import BUY, SELL

SELLER = encode_address(key("house 0").public)
STRANGER = encode_address(key("stranger").public)


class Client:
    """Answers as a node would."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    async def status(self) -> dict[str, Any]:
        return {"window": self.chain.now_ms // 900_000, "market_time_s": self.chain.now_ms // 1000}

    async def account(self, address: bytes) -> Any:
        return queries.account(self.chain.head, address)

    async def call(self, method: str, *parameters: Any) -> Any:
        state = self.chain.head
        if method == "prices":
            return queries.zones(state)
        if method == "settled":
            return settlement_queries.settled_windows(state)
        module = queries if method in ("meter", "participant") else settlement_queries
        return getattr(module, method)(state, *parameters)


@pytest.fixture(scope="module")
def settled() -> tuple[Chain, int]:
    """The worked example of docs/settlement.md 5."""
    chain = trading_chain(2, money=100 * THB)
    window = chain.window
    chain.do(key("house 0"), PlaceOrder(1, window, SELL, 4500, 1000))
    chain.do(key("house 1"), PlaceOrder(2, window, BUY, 5000, 800))
    chain.settle(window, {1: (700, 300), 2: (50, 1_200)})
    return chain, window


@pytest.fixture
def run(settled: tuple[Chain, int], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def asked(node: str | None, work: Callable[[Any], Any]) -> Any:
        return trio.run(work, Client(settled[0]))

    def queried(node: str | None, method: str, *parameters: Any) -> Any:
        async def work(client: Client) -> Any:
            return await client.call(method, *parameters)
        return asked(node, work)

    for module in (settlement, grid):
        monkeypatch.setattr(module, "ask", asked)
    monkeypatch.setattr(settlement, "query", queried)
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def test_a_bill_of_one_window_is_the_worked_example(run: Callable[..., Result], settled: tuple[Chain, int]) -> None:
    shown = run("bill", SELLER, "--window", str(settled[1]))
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.output.splitlines()]
    assert ["5", "sales", "0.825", "-3.712500"] in lines            # many rates: none is shown
    assert ["6", "energy", "from", "the", "utility", "0.300", "5.7982", "1.739460"] in lines
    assert ["8", "VAT", "of", "energy", "and", "Ft", "0.300", "7", "%", "0.125171"] in lines
    assert ["in", "all", "-0.842519"] in lines
    table = json.loads(run("bill", SELLER, "--window", str(settled[1]), "--json").output)
    assert [entry["window"] for entry in table["windows"]] == [settled[1]]
    assert "pays_uthb" not in table             # of the day, not of the window


def test_a_bill_of_a_day_adds_up(run: Callable[..., Result], settled: tuple[Chain, int]) -> None:
    chain, window = settled
    day = (window * 900 + 25_200) // 86_400
    expected = settlement_queries.bill(chain.head, key("house 0").public, day)
    shown = run("bill", SELLER).output
    assert expected["pays_uthb"] == -842_519
    assert "receives in all  0.842519 THB" in shown
    assert json.loads(run("bill", SELLER, "--json").output)["pays_uthb"] == expected["pays_uthb"]


def test_a_window_shows_where_its_energy_came_from_and_went(run: Callable[..., Result],
                                                            settled: tuple[Chain, int]) -> None:
    shown = run("window", str(settled[1])).output
    assert "GT: minted 750 + supplied 825 = 1,575 Wh; consumed 1,500 + lost 25 + taken 50 = 1,575 Wh: exact" in shown
    assert "no boundary meters" in shown
    assert f"window {settled[1]}" in run("window").output           # the last that is settled
    table = json.loads(run("window", str(settled[1]), "--json").output)
    assert table["exact"] is True and table["totals"]["losses_wh"] == 25
    assert "no balance yet; `gridtokenx prices" in run("window", str(settled[1] + 400)).output
    assert "no meter counted then yet" in run("window", "5").output


def test_flags_and_suspects_of_a_sound_zone(run: Callable[..., Result]) -> None:
    assert "every zone's electricity adds up" in run("grid", "flags").output
    assert "it takes 8 windows" in run("grid", "suspects", "North").output


@pytest.mark.parametrize(("arguments", "words"), [
    (["bill", "nobody.key"], "neither an address, which begins with gtx1, nor a key file"),
    (["bill", "gtx1nonsense"], "address 'gtx1nonsense'"),
    (["bill", STRANGER], "not on this chain yet"),
    (["bill", SELLER, "--day", "2025-13-45"], "no day; give one such as 2025-04-21"),
    (["bill", SELLER, "--month", "May"], "'May' is no month; give one such as 2025-04"),
    (["bill", SELLER, "--window", "2026-04-21T09:07"], "quarter hour"),
    (["window", "yesterday"], "quarter hour"),
    (["grid", "suspects", "Nowhere"], "no zone 'Nowhere'; there are North"),
    (["audit"], "name a data directory"),
])
def test_mistakes_are_told_with_what_to_do(run: Callable[..., Result], arguments: list[str], words: str,
                                           tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code != 0
    assert words in result.output


def test_a_node_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise NoNode("no node answers:\n  /ip4/127.0.0.1/tcp/1: refused")

    monkeypatch.setattr("gridtokenx.client.connect", nobody)
    result = CliRunner().invoke(cli, ["window", "5", "--node", "/ip4/127.0.0.1/tcp/1"])
    assert result.exit_code == 1
    for words in ("no node answers", "refused", "Is it running", "GRIDTOKENX_NODE"):
        assert words in result.output
