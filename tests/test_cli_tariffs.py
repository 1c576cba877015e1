"""`gridtokenx tariffs` and `gridtokenx prices` on a chain without a network between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from ledger_support import START_MS, Chain, genesis, trading_chain

from gridtokenx.cli import cli, session, settlement, tariffs
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import save_key
from gridtokenx.grid.kinds import Voltage
from gridtokenx.ledger import tariff_queries
from gridtokenx.ledger.operations import Operation, PublishCalendar, PublishRate, PublishSchedule, PublishTariff
from gridtokenx.ledger.tariff_records import Series

WINDOW = START_MS // 900_000


class Client:
    """Answers as a node would."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    async def status(self) -> dict[str, Any]:
        return {"window": self.chain.now_ms // 900_000, "market_time_s": self.chain.now_ms // 1000}

    async def call(self, method: str, *parameters: Any) -> Any:
        names = {"tariffs": "tariffs", "rates": "rates", "indicative": "indicative_prices"}
        return getattr(tariff_queries, names[method])(self.chain.head, *parameters)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    chain = trading_chain(1)
    chain.do(REGULATOR_KEY, PublishRate(Series.FT, chain.window, -50_000))

    def asked(node: str | None, work: Callable[[Any], Any]) -> Any:
        return trio.run(work, Client(chain))

    monkeypatch.setattr(tariffs, "ask", asked)

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return command


REGULATOR_KEY = PrivateKey(b"regulator".ljust(32, b"."))


def test_what_is_in_force_since_when(run: Callable[..., str]) -> None:
    shown = run("tariffs")
    assert "on-peak" in shown
    assert "0.1623 THB/kWh" in shown
    assert "-0.0500 THB/kWh" in shown
    assert "5.7982" in shown
    assert "Mon Tue Wed Thu Fri 09:00-22:00" in shown
    assert "no calendar of 2026" in shown
    tables = json.loads(run("tariffs", "--json"))
    assert tables["series"]["ft"][0] == {"since": 0, "value": 162_300}
    assert len(tables["classes"]) == 5


def test_prices(run: Callable[..., str]) -> None:
    shown = run("prices")
    assert "as orders stand now" in shown
    assert "5.96 THB/kWh" in shown
    assert json.loads(run("prices", "--json"))[1]["name"] == "South"


@pytest.mark.parametrize("arguments, operation", [
    (["rate", "ft", "0.3972"], PublishRate(Series.FT, WINDOW + 60, 397_200)),
    (["rate", "ft", "--", "-0.1"], PublishRate(Series.FT, WINDOW + 60, -100_000)),
    (["rate", "vat", "10"], PublishRate(Series.VAT, WINDOW + 60, 100_000)),
    (["rate", "buy-back", "2.20"], PublishRate(Series.BUY_BACK, WINDOW + 60, 2_200_000)),
    (["class", "5", "residential 1.2", "--block", "150:3.2484", "--block", "4.2218", "--service", "24.62"],
     PublishTariff(5, "residential 1.2", Voltage.BELOW_12_KV, WINDOW + 60, 3_248_400, 3_248_400, 24_620_000, 0,
                   ((150_000, 3_248_400), (0, 4_221_800)))),
    (["class", "0", "big", "--voltage", "69 kV and above", "--on-peak", "4.1025", "--off-peak", "2.5849", "--demand",
      "74.14"], PublishTariff(0, "big", Voltage.FROM_69_KV, WINDOW + 60, 4_102_500, 2_584_900, 0, 74_140_000)),
    (["hours", "9-12", "18-22", "--weekdays", "1-7"],
     PublishSchedule(WINDOW + 60, 0b111 << 9 | 0b1111 << 18, 0b1111111)),
    (["holidays", "2026", "2026-12-31", "2026-06-03"], PublishCalendar(2026, (20_607, 20_818))),
])
def test_publishing(arguments: list[str], operation: Operation, tmp_path: Path,
                    monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    save_key(tmp_path / "erc.key", REGULATOR_KEY, None)
    sent: list[Operation] = []

    def take(node: str | None, key: PrivateKey, operations: list[Operation], timeout_s: int) -> dict[str, Any]:
        sent.extend(operations)
        return {"height": 7}

    monkeypatch.setattr(tariffs, "send", take)
    # --since is 2026-05-12 00:00, 15 hours after the chain's beginning
    options = [] if arguments[0] == "holidays" else ["--since", "2026-05-12T00:00"]
    command, rest = arguments[0], arguments[1:]
    result = CliRunner().invoke(cli, ["tariffs", command, *options, "--key", str(tmp_path / "erc.key"), *rest])
    assert result.exit_code == 0, result.output
    assert sent == [operation]
    assert "block 7" in result.output
    # And a chain takes it.
    chain = Chain(genesis())
    [outcome] = chain.do(REGULATOR_KEY, operation)
    assert outcome.ok or operation.KIND == 40       # class 0 has another name here


@pytest.mark.parametrize("arguments, message", [
    (["class", "5", "x"], "either --on-peak and --off-peak, or --block"),
    (["class", "5", "x", "--on-peak", "5"], "either --on-peak and --off-peak, or --block"),
    (["hours", "22-9"], "no span within 0-24"),
    (["holidays", "2026", "1 May"], "no date such as 2026-05-01"),
    (["rate", "ft", "0.36721234"], "at most 6"),
])
def test_mistakes_are_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    save_key(tmp_path / "erc.key", REGULATOR_KEY, None)
    options = [] if arguments[0] == "holidays" else ["--since", "2026-05-12T00:00"]
    result = CliRunner().invoke(cli, ["tariffs", *arguments, *options, "--key", str(tmp_path / "erc.key")])
    assert result.exit_code != 0
    assert message in result.output


def test_the_lines_of_a_month(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"meter": 1, "month": 24_323, "billed": True, "tariff": 1, "withdrawn_wh": 268_600, "supplied_wh": 267_500,
             "demand_w": 1_600, "lines": [
                 {"rule": 20, "quantity": 1, "rate": 24_620_000, "amount_uthb": 24_620_000},
                 {"rule": 22, "quantity": 117_500, "rate": 973_400, "amount_uthb": 114_374_500}]},
            {"meter": 2, "month": 24_323, "billed": False, "tariff": 0, "withdrawn_wh": 0, "supplied_wh": 0,
             "demand_w": 0, "lines": []}]
    asked: list[Any] = []

    def answer(node: str | None, *parameters: Any) -> Any:
        asked.append(parameters)
        return rows

    monkeypatch.setattr(settlement, "query", answer)
    who = encode_address(REGULATOR_KEY.public)
    shown = CliRunner().invoke(cli, ["bill", who, "--month", "2026-12"]).output
    assert asked == [("month", REGULATOR_KEY.public, 12 * 2026 + 11)]
    for text in ("117.5 kWh", "0.9734", "114.3745", "138.9945", "1.6 kW", "counted so far"):
        assert text in shown
    assert CliRunner().invoke(cli, ["bill", who, "--month", "2026-12", "--day", "2026-12-01"]).exit_code == 2
    assert "no month" in CliRunner().invoke(cli, ["bill", who, "--month", "May"]).output


def test_refusals_say_what_to_do() -> None:
    for name in ("VERSION_TOO_LATE", "DAY_BEGUN", "OTHER_CLASS"):
        assert "gridtokenx" in session.HINTS[name]
