"""Rates of a window from tariffs and calendar."""

from __future__ import annotations

from ledger_support import genesis

from gridtokenx.ledger.session import Session
from gridtokenx.market.rates import Rates, window_rates

MONDAY_9 = 1_778_464_800 // 900         # 11 May 2026 in Bangkok


def test_rates_of_a_window() -> None:
    made = genesis()
    session = Session(made.view(), 1)
    peak = window_rates(session, made.parameters, MONDAY_9)
    assert peak == Rates(True, (5_798_200, 5_113_500, 4_329_700, 4_183_900, 4_102_500), 162_300, 2_200_000, 70_000)
    assert peak.retail(0) == 5_960_500
    assert peak.highest_retail == 5_960_500
    night = window_rates(session, made.parameters, MONDAY_9 - 1)
    assert not night.on_peak
    assert night.retail(4) == 2_584_900 + 162_300


def test_retail_is_never_negative() -> None:
    rates = Rates(True, (100, 200), -150, 0, 70_000)
    assert rates.retail(0) == 0
    assert rates.highest_retail == 50
