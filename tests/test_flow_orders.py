"""Flows with all order fields: Parquet files through `market replay`, compared with the plain model."""

from __future__ import annotations

import json
from pathlib import Path

import model_orderbook as model
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner
from long_orderbook import Draw
from test_orderbook_model import operations

from gridtokenx.cli import cli as main
from gridtokenx.flow import FlowError, read_flow, replay
from gridtokenx.flow_orders import TRADE_COLUMNS, OrderFlow, write_orders

# where a trade's columns stand in the model's tuples
PLACES = {"maker": 0, "taker": 1, "delivered_wh": 2, "injected_wh": 3, "wheel_uthb": 4, "operation": 7, "window": 8,
          "price_mthb_kwh": 9, "seller_zone": 10, "buyer_zone": 11, "path": 13}


def drawn(seed: int) -> tuple[OrderFlow, list[tuple[int, ...]], list[int]]:
    """A random flow of every kind, and the model's trades and codes; `operation` counts through the whole flow."""
    draw = Draw(seed)
    zones, corridors, profiles = draw.grid()
    batches = [batch for batch in draw.stream(zones, corridors, profiles, 150) if not isinstance(batch, str)]
    book = model.Book(zones, corridors, profiles)
    for window in (7, 8):
        book.open(window)
    ops: list[model.Operation] = []
    times: list[int] = []
    trades: list[tuple[int, ...]] = []
    codes = []
    for number, batch in enumerate(batches):
        made, results, _ = book.process(batch, 10 * number)
        trades += [(*trade[:7], trade[7] + len(ops), *trade[8:]) for trade in made]
        codes += [result[5] for result in results]
        ops += batch
        times += [10 * number] * len(batch)
    return (OrderFlow(operations(ops), np.array(times, np.int64), 5, tuple(zones), tuple(corridors), tuple(profiles)),
            trades, codes)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_flow_of_all_fields_trades_as_the_model_does(seed: int, tmp_path: Path) -> None:
    flow, trades, codes = drawn(seed)
    write_orders(tmp_path / "a.parquet", flow)
    again = read_flow(tmp_path / "a.parquet")
    assert isinstance(again, OrderFlow)
    assert again.operations.tobytes() == flow.operations.tobytes() and again.now_ms.tolist() == flow.now_ms.tolist()
    assert (again.prefill, again.zones, again.corridors, again.profiles) == (
        5, flow.zones, flow.corridors, flow.profiles)
    result = replay(again)
    assert result.codes.tolist() == codes
    expected = {name: [trade[place] for trade in trades] for name, place in PLACES.items()}
    assert {name: column.tolist() for name, column in result.trades.items()} == expected
    assert list(result.trades) == list(TRADE_COLUMNS) and len(trades) > 5
    out = tmp_path / "trades.parquet"
    done = CliRunner().invoke(main, ["market", "replay", str(tmp_path / "a.parquet"), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["operations"] == len(codes) - 5 and report["digest"] == result.digest.hex()
    assert report["refused"] == sum(code >= model.UNKNOWN for code in codes[5:])
    assert parquet.read_table(out).to_pydict() == expected


def small(path: Path, **columns: list[int]) -> Path:
    given = {"order_id": [1, 2], "kind": [0, 0], "side": [1, 0], "price_mthb_kwh": [4000, 4000],
             "quantity_wh": [500, 300], "participant": [1, 2]} | columns
    parquet.write_table(pyarrow.table({name: column for name, column in given.items() if column}), path)
    return path


def test_columns_that_are_missing_are_zero(tmp_path: Path) -> None:
    result = replay(read_flow(small(tmp_path / "a")))
    assert result.trades["delivered_wh"].tolist() == [300] and result.trades["window"].tolist() == [0]
    assert list(replay(OrderFlow(operations([]), np.empty(0, np.int64))).trades) == list(TRADE_COLUMNS)


@pytest.mark.parametrize(("columns", "message"), [
    ({"side": []}, "columns side missing"), ({"colour": [1, 2]}, "colour unknown"),
    ({"zone": [0, 256]}, "column zone .* 0 to 255"), ({"order_id": [-1, 2]}, "column order_id")])
def test_odd_columns_are_named(tmp_path: Path, columns: dict[str, list[int]], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        read_flow(small(tmp_path / "odd", **columns))


@pytest.mark.parametrize("zones", ["x", "{}", "[1]", "[[1]]", "[[1, 2.5]]", "[[0, 0], [1, true]]", "[" * 5000])
def test_odd_grids_are_named(tmp_path: Path, zones: str) -> None:
    table = parquet.read_table(small(tmp_path / "odd"))
    parquet.write_table(table.replace_schema_metadata({"zones": zones}), tmp_path / "odd")
    if zones == "{}":
        assert read_flow(tmp_path / "odd").zones == ((0, 0),)       # type: ignore[union-attr]
        return
    with pytest.raises(FlowError, match="zones"):
        read_flow(tmp_path / "odd")


def test_a_grid_that_the_engine_refuses_ends_with_its_message(tmp_path: Path) -> None:
    table = parquet.read_table(small(tmp_path / "odd"))
    parquet.write_table(table.replace_schema_metadata({"zones": "[[600000, 0]]"}), tmp_path / "odd")
    done = CliRunner().invoke(main, ["market", "replay", str(tmp_path / "odd")])
    assert done.exit_code == 1 and "600000" in done.output
