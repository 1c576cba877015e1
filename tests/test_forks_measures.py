"""Measures against sums made by hand."""

from __future__ import annotations

import pytest
from ledger_support import SUPPLY, genesis
from test_forks_frames import day

import gridtokenx
from gridtokenx.forks import Chain
from gridtokenx.forks.measures import gini, herfindahl, jain

ON_PEAK = 5_798_200


@pytest.fixture(scope="module")
def chain() -> Chain:
    return day()


def found(chain: Chain) -> dict[str, float | None]:
    return dict(chain.frames.measures().select("measure", "value").rows())


def test_fairness_of_hand_made_savings() -> None:
    assert gini([1, 1, 1]) == 0
    assert gini([0, 0, 3]) == pytest.approx(2 / 3)
    assert gini([1, 3]) == pytest.approx(1 / 4)
    assert gini([]) is None and gini([-1, 1]) is None
    assert jain([2, 2]) == 1
    assert jain([4, 0]) == pytest.approx(0.5)
    assert jain([0]) is None
    assert herfindahl([1, 1]) == pytest.approx(0.5)
    assert herfindahl([]) is None


def test_energy_is_what_the_meters_said(chain: Chain) -> None:
    values = found(chain)
    assert values["generation"] == 3 * 1_050
    assert values["demand"] == 3 * 1_310
    assert values["self_consumption"] == 1
    assert values["self_sufficiency"] == pytest.approx(1_050 / 1_310)
    trades = chain.frames.trades()
    assert values["traded"] == trades["delivered_wh"].sum()
    assert values["peer_to_peer_share"] == pytest.approx(trades["delivered_wh"].sum() / (3 * 1_310))
    assert values["losses"] == (trades["injected_wh"] - trades["delivered_wh"]).sum()
    assert values["between_zones"] == values["traded"]
    assert values["seller_concentration"] == 1
    assert values["binding"] == 0
    short = sum(max(0, sold - 1_050) for sold in trades["injected_wh"])
    assert values["imbalance"] == short + sum(max(0, bought - 1_300) for bought in trades["delivered_wh"])


def test_savings_are_the_bill_without_trade_less_the_bill(chain: Chain) -> None:
    alone = 3 * (1_310 * (ON_PEAK + SUPPLY.ft) * 1.07 - 1_050 * SUPPLY.buy_back) / 1_000
    assert found(chain)["savings"] == pytest.approx(alone - chain.frames.settlements()["pays_uthb"].sum())


def test_without_trade_nothing_is_saved_and_nothing_undefined_is_said() -> None:
    values = found(gridtokenx.new_chain(genesis()))
    assert values["savings"] == 0
    for name in ("price_mean", "price_dispersion", "self_consumption", "savings_gini", "seller_concentration"):
        assert values[name] is None, name
