"""What a market did for its people, in numbers: each measure is defined here once, with its formula (docs/measures.md).

Sums run over the settled meter-windows that state holds; t is a window, i a meter, k a participant's account. Energies
are exact integers; ratios, means and money per kWh are floats for reading, never an input of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from attrs import frozen

from gridtokenx.grid.kinds import RENEWABLE
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_records import Carbon
from gridtokenx.ledger.records import Corridor
from gridtokenx.ledger.session import Session
from gridtokenx.market.rates import Rates, window_rates

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

HOURS_OF_A_WINDOW = 0.25
UG_PER_KG = 1_000_000_000
_RENEWABLE = [source.name.lower() for source in sorted(RENEWABLE)]


@frozen
class Measure:
    """One number. `value` is None where it is not defined: a share of nothing, a mean of nobody."""

    name: str
    value: float | int | None
    unit: str
    formula: str


Table = Callable[[str], pl.DataFrame]


def measures(chain: Chain, table: Table) -> pl.DataFrame:
    """All of them, one a row: measure, value, unit, formula. `table` reads the tables of the chain's frames by name."""
    return frame_of(_Measured(chain, table).all())


def frame_of(found: Iterable[Measure]) -> pl.DataFrame:
    """A row per measure: measure, value, unit, formula."""
    return pl.DataFrame([(each.name, None if each.value is None else float(each.value), each.unit, each.formula)
                         for each in found],
                        schema={"measure": pl.String, "value": pl.Float64, "unit": pl.String, "formula": pl.String},
                        orient="row")


def savings(chain: Chain, table: Table) -> pl.DataFrame:
    """A row per account with settled meters: what it pays, and what it would pay without trade (net billing), uTHB."""
    found = _savings(chain, table)
    return pl.DataFrame([(owner, alone, pays, alone - pays) for owner, (alone, _, pays) in found.items()],
                        schema={"account": pl.String, "alone_uthb": pl.Float64, "pays_uthb": pl.Int64,
                                "saved_uthb": pl.Float64}, orient="row")


def alone_uthb(chain: Chain, window: int, tariff: int, injected_wh: int, withdrawn_wh: int) -> float:
    """What a meter would pay for a window without trade, all from and to its utility."""
    rate = window_rates(Session(chain.state, chain.height + 1), chain.parameters, window)
    return _retail(rate, tariff, withdrawn_wh) - injected_wh * rate.buy_back / 1_000


def _retail(rate: Rates, tariff: int, withdrawn_wh: int) -> float:
    """What a utility charges for withdrawn energy, VAT included."""
    return withdrawn_wh * (rate.energy[tariff] + rate.ft) * (1 + rate.vat_ppm / 1e6) / 1_000


def gini(values: Sequence[float]) -> float | None:
    """Gini's coefficient, sum over all pairs |x - y| / (2 n sum x); None unless the sum is above zero.

    C. Gini, 1912; with losers among the values it may be above 1.
    """
    ordered = sorted(values)
    total = sum(ordered)
    if total <= 0:
        return None
    weighted = sum((2 * rank - len(ordered) - 1) * value for rank, value in enumerate(ordered, 1))
    return weighted / (len(ordered) * total)


def jain(values: Sequence[float]) -> float | None:
    """Jain's fairness index, (sum x)^2 / (n sum x^2); None when all are 0. R. Jain et al., DEC-TR-301, 1984."""
    squares = sum(value * value for value in values)
    return None if not squares else sum(values) ** 2 / (len(values) * squares)


def herfindahl(values: Iterable[float]) -> float | None:
    """Herfindahl-Hirschman index of shares, 0 to 1; None without any volume."""
    shares = list(values)
    total = sum(shares)
    return None if total <= 0 else sum((share / total) ** 2 for share in shares)


def _ratio(part: float, whole: float) -> float | None:
    return None if not whole else part / whole


class _Measured:
    def __init__(self, chain: Chain, table: Table) -> None:
        self.chain = chain
        self.table = table
        self.settled, self.bills = table("settlements"), table("bills")
        windows = self.settled["window"].unique().implode()
        self.trades, self.flows = (table(name).filter(pl.col("window").is_in(windows)) for name in ("trades", "flows"))

    def all(self) -> list[Measure]:
        return [*self._energy(), *self._prices(), *self._savings(), *self._grid(), *self._carbon()]

    def _energy(self) -> list[Measure]:
        by_window = self.settled.group_by("window").agg(pl.col("injected_wh", "withdrawn_wh").sum())
        matched = int(by_window.select(pl.min_horizontal("injected_wh", "withdrawn_wh").sum()).item())
        injected, withdrawn = (int(self.settled[name].sum()) for name in ("injected_wh", "withdrawn_wh"))
        bought = int(self.settled["bought_wh"].sum())
        short = self._lines("shortfall", "quantity_wh")
        surplus = self._lines("surplus", "quantity_wh")
        return [
            Measure("generation", injected, "Wh", "sum of injected"),
            Measure("demand", withdrawn, "Wh", "sum of withdrawn"),
            Measure("self_consumption", _ratio(matched, injected), "", "sum_t min(injected_t, withdrawn_t) / injected"),
            Measure("self_sufficiency", _ratio(matched, withdrawn), "",
                    "sum_t min(injected_t, withdrawn_t) / withdrawn"),
            Measure("peer_to_peer_share", _ratio(bought, withdrawn), "", "sum of delivered by trades / withdrawn"),
            Measure("imbalance", short + surplus, "Wh", "sum of sold but not injected + bought but not withdrawn"),
        ]

    def _prices(self) -> list[Measure]:
        delivered, price = self.trades["delivered_wh"], self.trades["price_mthb_kwh"]
        volume = int(delivered.sum())
        mean = _ratio(int((delivered * price).sum()), volume)
        spread = None if mean is None else (float((delivered * (price - mean) ** 2).sum()) / volume) ** 0.5
        sellers = self.trades.group_by("seller").agg(pl.col("delivered_wh").sum()).sort("seller")["delivered_wh"]
        return [
            Measure("trades", self.trades.height, "", "number of trades"),
            Measure("traded", volume, "Wh", "sum of delivered q"),
            Measure("price_mean", mean, "mTHB/kWh", "sum p q / sum q"),
            Measure("price_dispersion", spread, "mTHB/kWh", "(sum q (p - mean)^2 / sum q)^(1/2)"),
            Measure("seller_concentration", herfindahl(sellers.to_list()), "",
                    "sum over sellers (q_k / sum q)^2 (Herfindahl-Hirschman)"),
        ]

    def _savings(self) -> list[Measure]:
        found = list(_savings(self.chain, self.table).values())
        buyers = [alone - pays for alone, _, pays in found]
        mean = sum(buyers) / len(buyers) if buyers else None
        return [
            Measure("savings", sum(buyers), "uTHB", "sum_i withdrawn retail (1 + VAT) - injected buy-back - bill"),
            Measure("savings_on_retail", sum(retail - pays for _, retail, pays in found), "uTHB",
                    "sum_i withdrawn retail (1 + VAT) - bill"),
            Measure("savings_mean", mean, "uTHB", "savings / number of accounts with a meter"),
            Measure("savings_gini", gini(buyers), "", "sum_k,l |s_k - s_l| / (2 n sum s)"),
            Measure("savings_jain", jain(buyers), "", "(sum s)^2 / (n sum s^2)"),
        ]

    def _grid(self) -> list[Measure]:
        binding = self.flows.filter((pl.col("forward_left_wh") <= 0) | (pl.col("backward_left_wh") <= 0)).height
        trades = self.trades
        across = trades.filter(pl.col("buy_zone") != pl.col("sell_zone"))
        return [
            Measure("losses", int((trades["injected_wh"] - trades["delivered_wh"]).sum()), "Wh", "sum of q_in - q"),
            Measure("wheeling", int(trades["wheel_uthb"].sum()), "uTHB", "sum of wheeling paid by buyers"),
            Measure("between_zones", int(across["delivered_wh"].sum()), "Wh", "sum of q with another zone's seller"),
            Measure("congestion_rent", self._rent(), "uTHB",
                    "sum over binding corridor-windows of max(0, (p_to - p_from) x the net flow's sign) |net flow|"),
            Measure("binding", binding * HOURS_OF_A_WINDOW, "h", "corridor-windows with a residual of 0, times 1/4 h"),
        ]

    def _rent(self) -> float:
        """What the gap of the sellers' mean prices on both sides is worth where a corridor is full."""
        prices = self.trades.group_by("window", zone="sell_zone").agg(
            price=(pl.col("price_mthb_kwh") * pl.col("delivered_wh")).sum() / pl.col("delivered_wh").sum())
        priced = {(window, zone): price for window, zone, price in prices.rows()}
        full = self.flows.filter((pl.col("forward_left_wh") <= 0) | (pl.col("backward_left_wh") <= 0)).select(
            "window", "corridor", "net_forward_wh").sort("window", "corridor")
        rent = 0.0
        for window, number, net in full.rows():
            line: Corridor = self.chain.record(spaces.corridor(number))
            start, end = priced.get((window, line.first)), priced.get((window, line.second))
            if start is not None and end is not None:
                rent += max(0.0, (end - start) * net)
        return rent

    def _carbon(self) -> list[Measure]:
        factors: Carbon | None = self.chain.record(spaces.CARBON)
        versions = () if factors is None else factors.versions
        supplied = self.settled.group_by("window").agg(pl.col("supplied_wh").sum()).sort("window").rows()
        green = (self.trades.filter(pl.col("source").is_in(_RENEWABLE)).group_by("window")
                 .agg(pl.col("delivered_wh").sum()).sort("window").rows())
        grid = _step([(since, factor) for since, factor, *_ in versions])
        return [
            Measure("co2_of_supply", sum(wh * grid(window) for window, wh in supplied) / UG_PER_KG, "kg",
                    "sum_t supplied_t x the grid's factor_t"),
            Measure("co2_avoided", sum(wh * grid(window) for window, wh in green) / UG_PER_KG, "kg",
                    "sum_t renewable energy traded_t x the grid's factor_t"),
        ]

    def _lines(self, rule: str, column: str) -> int:
        return int(self.bills.filter(rule=rule)[column].sum())


def _savings(chain: Chain, table: Table) -> dict[str, tuple[float, float, int]]:
    """Of each account what it would pay without trade, all from and to its utility; what for its withdrawals alone;
    and what it pays."""
    settled = table("settlements")
    if settled.is_empty():
        return {}
    session, parameters = Session(chain.state, chain.height + 1), chain.parameters
    tariffs = table("meters").select("meter", "tariff")
    classes = tariffs["tariff"].unique().sort().to_list()
    priced = [(window, tariff, rates.energy[tariff] + rates.ft, rates.vat_ppm, rates.buy_back)
              for window in settled["window"].unique().sort().to_list()
              for rates in (window_rates(session, parameters, window),)
              for tariff in classes]
    rows = settled.join(tariffs, on="meter", how="left", maintain_order="left").join(
        pl.DataFrame(priced, schema=("window", "tariff", "retail", "vat_ppm", "buy_back"), orient="row"),
        on=("window", "tariff"), how="left", maintain_order="left")
    owners = rows["owner"].unique(maintain_order=True)
    place = rows["owner"].replace_strict(owners, np.arange(len(owners)), return_dtype=pl.Int64).to_numpy()
    injected, withdrawn, energy, vat, buy_back = (
        rows[name].to_numpy() for name in ("injected_wh", "withdrawn_wh", "retail", "vat_ppm", "buy_back"))
    retail = withdrawn * energy * (1 + vat / 1e6) / 1_000
    # One after the other, in the order of the rows: sums of other orders differ in their last bits.
    alone = np.bincount(np.repeat(place, 2), np.column_stack((retail, -(injected * buy_back / 1_000))).ravel())
    pays = np.zeros(len(owners), np.int64)
    np.add.at(pays, place, rows["pays_uthb"].to_numpy())
    sums = zip(alone.tolist(), np.bincount(place, retail).tolist(), pays.tolist(), strict=True)
    return dict(zip(owners.to_list(), sums, strict=True))


def _step(versions: list[tuple[int, int]]) -> Callable[[int], int]:
    """The value in force at a window; 0 before the first."""
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(versions))

    def at(window: int) -> int:
        return next((value for since, value in reversed(versions) if since <= window), 0)

    return at
