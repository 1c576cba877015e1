"""Pictures and reports: drawn from any chain, the same bytes for the same data, and pages that stand alone."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
from browser_support import browser_page, find_browser
from click.testing import CliRunner
from ledger_support import THB, genesis
from node_support import Cluster, small_genesis
from study_pictures import look_at_file
from test_scenario import text

import gridtokenx
from gridtokenx.cli import cli
from gridtokenx.forks import ForkError
from gridtokenx.scenario import Result, parse_scenario, run

NAMES = ["merit-order", "prices", "energy", "flows", "bills", "savings"]


@pytest.fixture(scope="module")
def result() -> Iterator[Result]:
    with run(parse_scenario(text(windows=40, session=40).replace("06:00:00", "08:00:00"))) as made:
        yield made


class Page(HTMLParser):
    """What a page would fetch or run, its pictures, and what is not closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def svgs(page: Page) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(base64.b64decode(link.partition(",")[2])) for link in page.links if len(link) > 10]


def test_a_report_stands_alone(result: Result, tmp_path: Path) -> None:
    content = result.report(tmp_path / "report.html").read_text("utf-8")
    page = Page(content)
    assert not page.open and "script" not in page.tags
    assert all(link.startswith("data:") for link in page.links)
    assert page.tags.count("img") == len(svgs(page)) == len(NAMES)
    assert result.hash in content and "default-src 'none'" in content
    shares = result.measures.filter(measure="self_consumption")["value"][0]
    assert f"{shares:.4g}" in content
    again = result.plot.bills().svg()
    assert base64.b64encode(again).decode() in content          # the same bytes for the same data


def test_pictures_show_what_the_tables_hold(result: Result, tmp_path: Path) -> None:
    pictures = result.plot.all()
    assert [each.name for each in pictures] == NAMES
    order, prices, energy, flows, bills, savings = (each.figure.axes[0] for each in pictures)
    assert {line.get_label() for line in order.lines} == {"offers", "bids"}
    zones = set(result.trades["buy_zone"])
    assert len([line for line in prices.lines if not line.get_label().startswith("_")]) == len(zones)
    injected = sum(energy.lines[0].get_ydata())
    assert injected == pytest.approx(result.table("settlements").filter(
        pl.col("window").is_in(list(result.windows)))["injected_wh"].sum() / 1000)
    assert {label.get_text() for label in bills.get_yticklabels()} == {"roofs", "homes"}
    assert flows.get_ylabel() and savings.get_ylabel()
    whole = result.people()["account"].len()
    segments = sum(len(lines.get_segments()) for lines in savings.collections)
    assert segments == whole
    assert pictures[0].save(tmp_path / "order.png").read_bytes()[:4] == b"\x89PNG"
    assert pictures[0]._repr_svg_().startswith("<?xml")


def test_the_merit_order_is_that_of_the_last_orders(result: Result) -> None:
    window = result.orders["window"][0]
    drawn = result.plot.merit_order(window).figure.axes[0]
    for line in drawn.lines:
        side = {"offers": "sell", "bids": "buy"}[str(line.get_label())]
        mine = result.orders.filter(window=window, side=side)
        assert line.get_xdata()[-1] == pytest.approx(mine["quantity_wh"].sum() / 1000)      # type: ignore[index]
    with pytest.raises(ForkError, match=f"window 5 has no orders; windows {window} to"):
        result.plot.merit_order(5)
    traded = result.trades.group_by("window", meter="sell_meter").agg(pl.col("injected_wh").sum())
    both = result.orders.filter(side="sell").join(traded, on=["window", "meter"])
    assert both.height == traded.height and (both["injected_wh"] <= both["quantity_wh"]).all()


def test_an_empty_chain_has_pictures_too() -> None:
    with gridtokenx.new_chain(genesis()) as chain:
        for picture in chain.plot.all():
            ElementTree.fromstring(picture.svg())


def test_a_fork_and_its_parent_side_by_side(tmp_path: Path) -> None:
    cluster = Cluster(small_genesis(1), tmp_path / "cluster")
    try:
        cluster.run(500)
        cluster.checkpoint(0)
        with gridtokenx.fork(cluster.members[0].path) as chain:
            chain.override.balance(chain.key("me").public, THB)
            chain.dump(tmp_path / "changed")
        with gridtokenx.fork(cluster.members[0].path) as chain:
            chain.dump(tmp_path / "same")
        runner = CliRunner()
        out = tmp_path / "out.html"
        for name, options, said in (("changed", ["--to", str(tmp_path / "same")], "1,000,000"),
                                    ("same", ["--parent"], "There is none.")):
            done = runner.invoke(cli, ["fork", "report", str(tmp_path / name), "--out", str(out), *options])
            assert done.exit_code == 0, done.output
            assert said in out.read_text("utf-8")
        assert runner.invoke(cli, ["fork", "--out", "x"]).exit_code == 2
    finally:
        cluster.close()


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text(windows=1))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(cli, ["sim", "run", str(tmp_path / "a.toml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and "pip install 'gridtokenx[study]'" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.processes
@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine (scripts/browser.sh installs one)")
async def test_a_real_browser_shows_a_report_without_a_complaint(result: Result, tmp_path: Path) -> None:
    with run(parse_scenario(text(windows=2)), seed=9) as other:
        paths = result.report(tmp_path / "report.html", other.chain), result.plot.bills().save(tmp_path / "bills.svg")
    async with browser_page(tmp_path / "profile") as page:
        for path in paths:
            drawn = await look_at_file(page, path, tmp_path)
            assert drawn == (len(NAMES) + 1 if path.suffix == ".html" else 0)
