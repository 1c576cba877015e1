"""What is different between two chains: tidy tables with one measure a row, `this` beside `other`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from attrs import frozen

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain
    from gridtokenx.pictures import Picture

_TRADE_SUMS = ("delivered_wh", "injected_wh", "value_uthb", "wheel_uthb", "fee_uthb", "vat_uthb")
_ENERGY_SUMS = ("minted_wh", "consumed_wh", "supplied_wh", "taken_wh", "losses_wh", "imports_wh", "exports_wh")


@frozen
class Difference:
    """Rows that differ alone, but for `totals` and `measures`, which have all. `change` is this less other.

    prices: trade by window and zone. flows: net energy forward by window and corridor. bills: what each account pays
    for each line of its windows. accounts: all money of each account.
    """

    totals: pl.DataFrame
    measures: pl.DataFrame
    prices: pl.DataFrame
    flows: pl.DataFrame
    bills: pl.DataFrame
    accounts: pl.DataFrame

    @property
    def same(self) -> bool:
        """Nothing that is compared here differs."""
        return self.totals.filter(pl.col("change") != 0).is_empty() and all(
            frame.is_empty() for frame in (self.prices, self.flows, self.bills, self.accounts))

    def plot(self) -> Picture:
        """Energy, flows and bills that differ, as one picture."""
        from gridtokenx.pictures import picture_of
        return picture_of(self)


def compare(this: Chain, other: Chain) -> Difference:
    """`this` against `other`, as both stand now."""
    return Difference(
        _joined(_totals(this), _totals(other), ["measure"]).select("measure", "this", "other", "change"),
        _measures(this, other),
        _changed(_prices(this), _prices(other), ["window", "delivery", "zone", "measure"]),
        _changed(_flows(this), _flows(other), ["window", "delivery", "corridor"]),
        _changed(_bills(this), _bills(other), ["owner", "rule"]),
        _changed(_accounts(this), _accounts(other), ["account"]))


def _totals(chain: Chain) -> pl.DataFrame:
    trades = chain.frames.trades()
    energy = chain.frames.energy()
    names = ["trades", *(f"traded.{name}" for name in _TRADE_SUMS), *(f"settled.{name}" for name in _ENERGY_SUMS)]
    values = [trades.height, *(int(trades[name].sum()) for name in _TRADE_SUMS),
              *(int(energy[name].sum()) for name in _ENERGY_SUMS)]
    return pl.DataFrame({"measure": names, "value": values}, schema={"measure": pl.String, "value": pl.Int64})


def _measures(this: Chain, other: Chain) -> pl.DataFrame:
    """A measure that one of them does not define has no change."""
    one, two = (chain.frames.measures().select("measure", "value", "unit") for chain in (this, other))
    return one.rename({"value": "this"}).join(two.rename({"value": "other"}), on=["measure", "unit"], how="left",
                                              maintain_order="left").select(
        "measure", "unit", "this", "other", change=pl.col("this") - pl.col("other"))


def _prices(chain: Chain) -> pl.DataFrame:
    by_zone = chain.frames.trades().group_by("window", "delivery", zone="buy_zone", maintain_order=True).agg(
        trades=pl.len().cast(pl.Int64), traded_wh=pl.col("delivered_wh").sum(), value_uthb=pl.col("value_uthb").sum(),
        last_mthb_kwh=pl.col("price_mthb_kwh").last())
    return by_zone.unpivot(
        ["trades", "traded_wh", "value_uthb", "last_mthb_kwh"], index=["window", "delivery", "zone"],
        variable_name="measure", value_name="value")


def _flows(chain: Chain) -> pl.DataFrame:
    return chain.frames.net_flows().select("window", "delivery", "corridor", value="net_forward_wh")


def _bills(chain: Chain) -> pl.DataFrame:
    return chain.frames.bills().group_by("owner", "rule").agg(value=pl.col("amount_uthb").sum())


def _accounts(chain: Chain) -> pl.DataFrame:
    return chain.frames.accounts().select("account", value="total_uthb")


def _joined(this: pl.DataFrame, other: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """In the order of the keys; what only one of them has is 0 in the other."""
    both = this.rename({"value": "this"}).join(other.rename({"value": "other"}), on=keys, how="full", coalesce=True,
                                               maintain_order="left_right")
    filled = both.with_columns(pl.col("this").fill_null(0), pl.col("other").fill_null(0))
    return filled.with_columns(change=pl.col("this") - pl.col("other"))


def _changed(this: pl.DataFrame, other: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return _joined(this, other, keys).filter(pl.col("change") != 0).sort(keys)
