"""What is different between two chains, as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gridtokenx.pictures.canvas import COLOURS, GREY, Picture, canvas, nothing, time_axis, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gridtokenx.forks.compare import Difference

BAHT = 1_000_000
KWH = 1_000
_QUARTER = 1 / 96       # of a day: the width of a bar
_TICKS = 5              # on a third of the width


def picture_of(difference: Difference) -> Picture:
    """Energy traded by window, flows by corridor, bills by kind of line: this less other."""
    figure, (traded, flows, bills) = canvas(1, 3, height=3.8)
    _traded(traded, difference)
    _flows(flows, difference)
    _bills(bills, difference)
    return Picture("difference", "Difference", "This less the other: energy traded by window, net energy over each "
                   "corridor by window, and what all accounts together pay by line of their bills.", figure)


def _traded(axes: Axes, difference: Difference) -> None:
    axes.set_title("traded, kWh")
    change = difference.prices.filter(measure="traded_wh").group_by("window", "delivery").agg(
        pl.col("change").sum()).sort("window")
    if change.is_empty():
        nothing(axes, "no difference")
        return
    values = (change["change"] / KWH).to_list()
    axes.bar(times(change), values, width=_QUARTER, align="edge",
             color=[COLOURS[2] if value >= 0 else COLOURS[3] for value in values])
    axes.axhline(0, color=GREY, linewidth=0.8)
    time_axis(axes, times(change), _TICKS)


def _flows(axes: Axes, difference: Difference) -> None:
    axes.set_title("flow forward, kWh")
    change = difference.flows.sort("corridor", "window")
    if change.is_empty():
        nothing(axes, "no difference")
        return
    for corridor in sorted(change["corridor"].unique().to_list()):
        one = change.filter(corridor=corridor)
        axes.scatter(times(one), (one["change"] / KWH).to_list(), s=10, color=COLOURS[corridor % len(COLOURS)],
                     label=str(corridor))
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.legend(title="corridor", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=6, handletextpad=0,
                columnspacing=0.6, frameon=False)
    time_axis(axes, times(change.sort("window")), _TICKS)


def _bills(axes: Axes, difference: Difference) -> None:
    axes.set_title("bills, THB")
    change = difference.bills.group_by("rule").agg(pl.col("change").sum()).filter(pl.col("change") != 0).sort("rule")
    if change.is_empty():
        nothing(axes, "no difference")
        return
    values = (change["change"] / BAHT).to_list()
    bars = axes.barh([rule.replace("_", " ") for rule in change["rule"]], values,
                     color=[COLOURS[3] if value > 0 else COLOURS[2] for value in values])
    # One kind of line may dwarf all others, so each says what it is.
    axes.bar_label(bars, [f"{value:+,.2f}" for value in values], padding=3, fontsize=8)
    axes.margins(x=0.6)
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.invert_yaxis()
