"""The worked studies run as they are, in short form, and find what they say."""

from __future__ import annotations

import ast
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_scenario import text

from gridtokenx.pictures import Picture
from gridtokenx.scenario import parse_scenario, run
from testnet.layout import FOLDER

EXAMPLES = FOLDER.parent / "examples"


def study(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_wheeling_takes_from_the_savings(tmp_path: Path) -> None:
    frame: pl.DataFrame = study("wheeling")["main"](True, tmp_path / "made")
    free, full = frame.sort("charge_thb_kwh").rows(named=True)
    assert free["wheeling"] == 0 < full["wheeling"]
    assert free["peer_to_peer_share"] >= full["peer_to_peer_share"] > 0
    assert free["savings_mean"] > full["savings_mean"]
    assert (tmp_path / "made" / "wheeling.svg").read_bytes().startswith(b"<?xml")


def test_a_lost_corridor_keeps_zones_apart(tmp_path: Path) -> None:
    difference = study("lost_corridor")["main"](True, tmp_path / "made")
    change = dict(difference.measures.select("measure", "change").rows())
    assert change["between_zones"] < 0 < change["binding"] <= 3
    assert change["co2_of_supply"] > 0 > change["savings"]
    assert "Difference" in (tmp_path / "made" / "lost_corridor.html").read_text("utf-8")


def test_an_auction_has_one_price(tmp_path: Path) -> None:
    frame: pl.DataFrame = study("clearing")["main"](True, tmp_path / "made")
    assert frame.height == 4 and frame["efficiency"].is_between(0, 1).all()
    truthful = frame.filter(strategy="truthful")
    dispersion = dict(truthful.select("mechanism", "price_dispersion").rows())
    assert dispersion["uniform-price"] < dispersion["continuous"]


def test_twice_the_sun_on_what_is_there(tmp_path: Path) -> None:
    """On two chains with the same people, in the place of two forks of a node's directory."""
    compare: Callable[..., Any] = study("doubled_sun")["compare"]
    first = parse_scenario(text(windows=1, session=1).replace("06:00:00", "10:00:00"))
    with run(first) as one, run(first) as other:
        difference = compare(one.chain, other.chain, 4, tmp_path)
        change = dict(difference.measures.select("measure", "change").rows())
        assert change["generation"] > 0 and not difference.same
        said = {label.get_text() for label in difference.plot().figure.axes[2].texts}
        lines = difference.bills.group_by("rule").agg(thb=pl.col("change").sum() / 1e6).filter(pl.col("thb") != 0)
        assert said == {f"{thb:+,.2f}" for thb in lines["thb"]}
    assert (tmp_path / "doubled_sun.svg").exists() and (tmp_path / "doubled_sun.html").exists()


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each cell ends with is shown, as a notebook does it."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text("utf-8"))
    known: dict[str, Any] = {}
    shown: list[Any] = []
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, cell["id"], "exec"), known)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), cell["id"], "eval"), known))
    pictures = [each for each in shown if isinstance(each, Picture)]
    assert len(pictures) == 3 and all(each._repr_svg_() for each in pictures)
    assert isinstance(shown[-1], str) and len(shown[-1]) == 64
    assert (tmp_path / "first_steps.html").exists()
