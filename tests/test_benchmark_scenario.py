"""What the benchmark of a simulated day hands to the simulator beside it, and what it says when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from test_scenario import text

from benchmarks import scenario_peer
from gridtokenx.scenario import parse_scenario, run
from gridtokenx.units import PPM


def test_the_peer_is_given_all_orders(tmp_path: Path) -> None:
    with run(parse_scenario(text(windows=2, session=2).replace("06:00:00", "10:00:00"))) as result:
        crossing = scenario_peer.write_orders(result, tmp_path / "orders.npz")
        orders = result.orders
    with np.load(tmp_path / "orders.npz") as made:
        quantity_wh, price = made["quantity_wh"], made["price"]
    sold, bought = (orders.filter(side=side) for side in ("sell", "buy"))
    assert quantity_wh.clip(min=0).sum() == sold["quantity_wh"].sum() > 0
    assert -quantity_wh.clip(max=0).sum() == bought["quantity_wh"].sum() > 0
    assert sorted(price[quantity_wh > 0]) == sorted(sold["price_mthb_kwh"])
    limits = np.sort(bought["price_mthb_kwh"].to_numpy())
    assert (np.sort(price[quantity_wh < 0]) < limits * (PPM - 33_000) / PPM).all()      # without losses and wheeling
    assert 0 <= crossing <= min(sold["quantity_wh"].sum(), bought["quantity_wh"].sum())


def test_where_curves_cross() -> None:
    quantity_wh, price = np.array([-300, -200, 100, 300, 400]), np.array([4000.0, 3000.0, 2000.0, 3000.0, 3500.0])
    assert scenario_peer.crossing_wh(quantity_wh, price) == 400
    assert scenario_peer.crossing_wh(quantity_wh[2:], price[2:]) == scenario_peer.crossing_wh(
        quantity_wh[:2], price[:2]) == 0


@pytest.mark.parametrize("interpreter", [sys.executable, "/nowhere/python"])
def test_an_interpreter_without_the_peer_is_refused(interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_peer, "MODULE", "no_such_simulator")
    with pytest.raises(scenario_peer.NoPeer, match=r"--assume .*python.*python -m venv .*pip install assume-framework"):
        scenario_peer.version(interpreter)
