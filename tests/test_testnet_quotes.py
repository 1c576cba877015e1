"""The households of the testnet: where they live, what their meters can do, what they order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testnet.households import (
    POPULATION_THOUSANDS,
    PROFILE_START_S,
    WINDOW_S,
    ProfileError,
    apportion,
    load_households,
)
from testnet.quotes import LOT_WH, TICK_MTHB, Act, Prices, Quote, Side, forecast_wh, quotes

NINE = PROFILE_START_S // WINDOW_S + 36
PRICES = Prices(buyback_mthb=2200, retail_mthb=6165, wheeling_mthb=200, fee_ppm=5000)


def test_shares_add_up_and_follow_the_weights() -> None:
    shares = apportion(200, POPULATION_THOUSANDS)
    assert sum(shares.values()) == 200
    assert shares == {"Bangkok": 25, "Central": 19, "East": 16, "West": 11, "North": 34, "Northeast": 66, "South": 29}
    assert apportion(3, {"a": 1, "b": 1}) == {"a": 2, "b": 1}


def test_two_hundred_households_of_which_102_have_pv_live_in_seven_zones() -> None:
    households = load_households()
    assert len(households) == 200
    assert sum(household.pv_w > 0 for household in households) == 102
    for zone, share in apportion(200, POPULATION_THOUSANDS).items():
        homes = [household for household in households if household.zone == zone]
        assert len(homes) == share
        assert any(home.pv_w for home in homes) and not all(home.pv_w for home in homes)
    assert [h.zone for h in load_households(seed=2)] != [h.zone for h in households]


def test_meters_can_do_what_their_profiles_ask() -> None:
    for household in load_households():
        assert household.injection_w // 4 >= household.pv_wh.max()
        assert household.withdrawal_w // 4 >= household.load_wh.max()


def test_profiles_start_at_midnight_and_repeat() -> None:
    household = load_households(1)[0]
    first = PROFILE_START_S // WINDOW_S
    assert household.window(first) == (int(household.load_wh[0]), int(household.pv_wh[0]))
    assert household.window(first + 14 * 96 + 5) == household.window(first + 5)


def test_unusable_profiles_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.npz"):
        load_households(path=tmp_path / "absent.npz")
    with pytest.raises(ProfileError, match="1 to 200"):
        load_households(201)


def all_quotes(prices: Prices = PRICES, window: int = NINE + 8) -> list[Quote]:
    return [quote for household in load_households()
            for quote in quotes(household, window, prices, np.random.default_rng([7, household.index]))]


def test_no_quote_makes_a_household_worse_off_than_the_utility() -> None:
    found = all_quotes()
    assert {quote.side for quote in found} == {Side.BUY, Side.SELL}
    assert {quote.act for quote in found} == set(Act)
    for quote in found:
        assert quote.quantity_wh >= LOT_WH and quote.quantity_wh % LOT_WH == 0
        assert quote.limit_mthb % TICK_MTHB == 0
        if quote.side is Side.SELL:
            assert quote.limit_mthb >= PRICES.buyback_mthb
        else:
            assert quote.limit_mthb * (1_000_000 + PRICES.fee_ppm) <= PRICES.retail_mthb * 1_000_000
        assert 0 <= quote.at < 1


def test_the_same_seed_quotes_the_same() -> None:
    assert all_quotes() == all_quotes()


def test_nobody_quotes_where_wheeling_eats_the_gain() -> None:
    assert all_quotes(Prices(buyback_mthb=2200, retail_mthb=2800, wheeling_mthb=700, fee_ppm=0)) == []


def test_forecasts_err_around_the_truth() -> None:
    household = next(household for household in load_households() if household.pv_w)
    load_wh, pv_wh = household.window(NINE + 12)
    chance = np.random.default_rng(1)
    forecasts = [forecast_wh(household, NINE + 12, chance) for _ in range(2000)]
    assert abs(float(np.mean(forecasts)) - (pv_wh - load_wh)) < 0.05 * (pv_wh + load_wh)
    assert float(np.std(forecasts)) > 0.05 * (pv_wh + load_wh)
