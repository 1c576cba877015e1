"""The pictures of a chain or a run: merit order, prices by zone, energy balance, flows, bills, savings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl
from attrs import field, frozen

from gridtokenx.forks.errors import ForkError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Corridor, Zone
from gridtokenx.pictures.canvas import COLOURS, GREY, Picture, canvas, legend, nothing, time_axis, times

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

Table = Callable[[str], pl.DataFrame]
BAHT = 1_000_000
KWH = 1_000
# Lines of a bill that belong together in a picture.
_KINDS = {
    "purchase": "bought", "sale": "sold", "wheeling": "wheeling", "trade_fee": "fee and VAT of trades",
    "trade_vat": "fee and VAT of trades", "energy": "from the utility", "ft": "from the utility",
    "supply_vat": "VAT of the utility", "buy_back": "bought back", "shortfall": "imbalance", "surplus": "imbalance",
    "shortfall_vat": "imbalance",
}


@frozen(eq=False)
class Plots:
    """`chain.plot`, `result.plot`: every method gives a `Picture`, drawn from the tables as they stand.

    `table(name)` reads one of `chain.frames`; orders may be a run's own. `groups` has columns account and group.
    """

    _chain: Chain
    _table: Table
    _orders: pl.DataFrame | None = None
    _groups: pl.DataFrame | None = None
    _windows: range | None = None
    _zones: list[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        zones: list[str] = []
        while (found := self._chain.record(spaces.zone(len(zones)))) is not None:
            zone: Zone = found
            zones.append(zone.name)
        object.__setattr__(self, "_zones", zones)

    def all(self) -> list[Picture]:
        return [self.merit_order(), self.prices(), self.energy(), self.flows(), self.bills(), self.savings()]

    # ------------------------------------------------------------ trade

    def merit_order(self, window: int | None = None) -> Picture:
        """Offers from the cheapest, bids from the dearest, in one window: that with the most of the smaller side.

        Losses, wheeling and corridors are left out here: trade between zones needs more than that curves cross.
        Raises ForkError for a window without orders.
        """
        orders = self._table("orders") if self._orders is None else self._orders
        figure, axes = canvas()
        chosen = _busiest(orders) if window is None else window
        part = orders.filter(window=chosen)
        if part.is_empty():
            if window is not None:
                raise ForkError(f"window {window} has no orders; {_span(orders)}")
            nothing(axes, "no orders")
            return Picture("merit-order", "Merit order", "There are no orders to show.", figure)
        for side, colour, name, down in (("sell", COLOURS[1], "offers", False), ("buy", COLOURS[0], "bids", True)):
            one = part.filter(side=side).sort("price_mthb_kwh", "meter", descending=[down, False])
            if one.height:
                edges = [0.0, *(one["quantity_wh"].cum_sum() / KWH).to_list()]
                prices = (one["price_mthb_kwh"] / 1_000).to_list()
                axes.step(edges, [prices[0], *prices], where="pre", color=colour, linewidth=1.8, label=name)
        axes.set_xlabel("energy, kWh")
        axes.set_ylabel("limit price, THB/kWh")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
        begin = part["delivery"][0]
        return Picture("merit-order", f"Merit order, {begin:%Y-%m-%d %H:%M}",
                       "Offers from the cheapest and bids from the dearest, all zones together, as they were last "
                       "made for the window with the most to trade. Losses, wheeling and corridors are left out, so "
                       "less is traded than where the curves cross.", figure)

    def prices(self) -> Picture:
        """What sellers got per kWh delivered, by the buyers' zone and window, weighted by energy."""
        prices = self._within(self._table("trades")).group_by("window", "delivery", zone="buy_zone").agg(
            traded_wh=pl.col("delivered_wh").sum(), cost=(pl.col("delivered_wh") * pl.col("price_mthb_kwh")).sum(),
        ).with_columns(average_mthb_kwh=pl.col("cost") / pl.col("traded_wh"))
        figure, axes = canvas()
        title, caption = "Price by zone", ("Mean price of the window's trades by the buyers' zone, weighted by "
                                           "energy. The fainter a point, the less was traded.")
        if prices.is_empty():
            nothing(axes, "no trades")
            return Picture("prices", title, caption, figure)
        most = prices["traded_wh"].max() or 1
        for zone in sorted(prices["zone"].unique().to_list()):
            one = prices.filter(zone=zone).sort("window")
            at, colour = times(one), COLOURS[zone % len(COLOURS)]
            height = (one["average_mthb_kwh"] / 1_000).to_list()
            axes.plot(at, height, color=colour, linewidth=0.8, alpha=0.5, label=self._zones[zone])
            shares = (one["traded_wh"] / most).to_list()
            axes.scatter(at, height, color=colour, s=14, alpha=[0.25 + 0.75 * share for share in shares])
        axes.set_ylabel("THB/kWh")
        time_axis(axes, times(prices.sort("window")))
        legend(axes, 7)
        return Picture("prices", title, caption, figure)

    # ------------------------------------------------------------ energy

    def energy(self) -> Picture:
        """What was used in each window, by where it came from, beside what was made."""
        settled = self._within(self._table("settlements"))
        figure, axes = canvas()
        title, caption = "Energy balance", (
            "All metered withdrawals, split into what was bought from others and what the utilities supplied, and all "
            "injections (line). What houses use of their own roof in the same quarter hour passes no meter.")
        if settled.is_empty():
            nothing(axes, "nothing is settled yet")
            return Picture("energy", title, caption, figure)
        sums = settled.group_by("window", "delivery").agg(
            pl.col("injected_wh", "withdrawn_wh", "supplied_wh").sum()).sort("window")
        at = times(sums)
        supplied = (pl.min_horizontal("supplied_wh", "withdrawn_wh") / KWH)
        used = sums.select(traded=pl.col("withdrawn_wh") / KWH - supplied, supplied=supplied)
        axes.stackplot(at, used["traded"].to_list(), used["supplied"].to_list(), labels=["bought from others",
                       "from the utilities"], colors=[COLOURS[2], "#B8C4CC"], step="post")
        axes.step(at, (sums["injected_wh"] / KWH).to_list(), where="post", color=COLOURS[1], linewidth=1.6,
                  label="injected")
        axes.set_ylabel("kWh per quarter hour")
        time_axis(axes, at)
        legend(axes)
        return Picture("energy", title, caption, figure)

    def flows(self) -> Picture:
        """Net flow over each corridor that carried anything, from its first zone to its second."""
        full = self._within(self._table("flows")).filter(
            (pl.col("forward_left_wh") <= 0) | (pl.col("backward_left_wh") <= 0)).select("window", "corridor")
        used = self._within(self._table("net_flows"))
        figure, axes = canvas()
        title, caption = "Flows between zones", (
            "Net energy over each corridor, above zero from the first zone to the second. Crosses mark windows in "
            "which nothing was left in one direction.")
        if used.is_empty():
            nothing(axes, "nothing flowed between zones")
            return Picture("flows", title, caption, figure)
        windows = self._all_windows(used)
        for corridor in sorted(used["corridor"].unique().to_list()):
            line: Corridor = self._chain.record(spaces.corridor(corridor))
            one = windows.join(used.filter(corridor=corridor).drop("delivery"), on="window", how="left")
            at, colour = times(one), COLOURS[corridor % len(COLOURS)]
            height = (one["net_forward_wh"].fill_null(0) / KWH).to_list()
            axes.step(at, height, where="post", color=colour, linewidth=1.3,
                      label=f"{self._zones[line.first]} → {self._zones[line.second]}")
            bound = one.join(full.filter(corridor=corridor), on="window", how="semi").with_columns(
                pl.col("net_forward_wh").fill_null(0))
            axes.scatter(times(bound), (bound["net_forward_wh"] / KWH).to_list(), color=colour, marker="x", s=26)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_ylabel("kWh per quarter hour")
        time_axis(axes, times(windows))
        legend(axes, 5)
        return Picture("flows", title, caption, figure)

    # ------------------------------------------------------------ money

    def bills(self) -> Picture:
        """What an account pays (right) and receives (left) on average, by kind of line and group."""
        bills = self._within(self._table("bills")).with_columns(
            kind=pl.col("rule").replace_strict(_KINDS, default=pl.col("rule").str.replace_all("_", " ")))
        figure, axes = canvas(height=2.2)
        title, caption = "Bills", ("Mean over the accounts of a group: to the right what is paid, to the left what is "
                                   "received; the diamond is the whole. Charges of a month are left out.")
        if bills.is_empty():
            nothing(axes, "no bills yet")
            return Picture("bills", title, caption, figure)
        grouped = self._grouped(bills)
        sizes = dict(grouped.group_by("group").agg(pl.col("owner").n_unique()).rows())
        sums = {(group, kind): total / BAHT / sizes[group] for group, kind, total in
                grouped.group_by("group", "kind").agg(pl.col("amount_uthb").sum()).rows()}
        groups = sorted(sizes)
        figure.set_figheight(1.6 + 0.4 * len(groups))
        kinds = [kind for kind in dict.fromkeys([*_KINDS.values(), *sorted(bills["kind"].unique().to_list())])
                 if any((group, kind) in sums for group in groups)]
        right, left = dict.fromkeys(groups, 0.0), dict.fromkeys(groups, 0.0)
        for number, kind in enumerate(kinds):
            values = [sums.get((group, kind), 0.0) for group in groups]
            begins = [(right if value > 0 else left)[group] for group, value in zip(groups, values, strict=True)]
            axes.barh(groups, values, left=begins, height=0.6, color=COLOURS[number % len(COLOURS)], label=kind)
            for group, value in zip(groups, values, strict=True):
                (right if value > 0 else left)[group] += value
        axes.scatter([right[group] + left[group] for group in groups], groups, marker="D", color="black", s=22,
                     zorder=3)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel("THB per account")
        axes.invert_yaxis()
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
        return Picture("bills", title, caption, figure)

    def savings(self) -> Picture:
        """What each account pays less than without trade, from the least to the most."""
        saved = self._table("savings").sort("saved_uthb", "account")
        figure, axes = canvas(height=2.8)
        title, caption = "Savings", ("What each account pays less than it would alone with its utility (net billing), "
                                     "accounts from the least to the most. Below zero it has lost.")
        if saved.is_empty():
            nothing(axes, "no bills yet")
            return Picture("savings", title, caption, figure)
        grouped = self._grouped(saved.rename({"account": "owner"})).sort("saved_uthb", "owner").with_row_index("place")
        for number, group in enumerate(sorted(grouped["group"].unique().to_list())):
            one = grouped.filter(group=group)
            axes.vlines(one["place"].to_list(), 0, (one["saved_uthb"] / BAHT).to_list(), label=group, linewidth=2,
                        color=COLOURS[number % len(COLOURS)])
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_ylabel("THB")
        axes.set_xlabel("accounts")
        axes.legend(loc="best")
        return Picture("savings", title, caption, figure)

    # ------------------------------------------------------------ inside

    def _within(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame if self._windows is None else frame.filter(
            pl.col("window").is_between(self._windows.start, self._windows.stop - 1))

    def _all_windows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Every window from the first to the last of `frame`, with its beginning."""
        ordered = frame.sort("window")
        first, last = ordered["window"][0], ordered["window"][-1]
        return pl.DataFrame({"window": range(first, last + 1)}).with_columns(
            delivery=ordered["delivery"][0] + pl.duration(minutes=15) * pl.int_range(0, last - first + 1))

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With a column `group`: a run's groups, else the zone that an account's first meter is in."""
        known: Any = self._groups
        if known is None:
            names = dict(enumerate(self._zones))
            known = self._table("meters").group_by("owner", maintain_order=True).first().select(
                account="owner", group=pl.col("zone").replace_strict(names, return_dtype=pl.String))
        return frame.join(known, left_on="owner", right_on="account", how="left", maintain_order="left").with_columns(
            pl.col("group").fill_null("others"))


def _busiest(orders: pl.DataFrame) -> int:
    """The window in which the smaller of both sides is largest, -1 without any."""
    if orders.is_empty():
        return -1
    sides = orders.group_by("window").agg(
        buy=pl.col("quantity_wh").filter(side="buy").sum(), sell=pl.col("quantity_wh").filter(side="sell").sum())
    ranked = sides.with_columns(less=pl.min_horizontal("buy", "sell"), more=pl.max_horizontal("buy", "sell"))
    found: int = ranked.sort("less", "more", "window", descending=[True, True, False])["window"][0]
    return found


def _span(orders: pl.DataFrame) -> str:
    if orders.is_empty():
        return "no window has any"
    windows: list[int] = orders["window"].to_list()
    return f"windows {min(windows)} to {max(windows)} have some"
