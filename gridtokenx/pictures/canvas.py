"""The canvas that all pictures share: size, colours, axes of time, and SVG that is the same for the same data."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from attrs import frozen

from gridtokenx.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the colour-blind.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C6D31", "#5B5B5B", "#332288", "#999933",
           "#88CCEE", "#AA4499")
GREY = "#8A8A8A"
WIDTH, HEIGHT = 9.0, 3.6        # inches
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.7,
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8, "axes.titlesize": 10,
}


@frozen(eq=False)
class Picture:
    """One picture with its title and what it shows in words. Notebooks show it; `save` writes .svg, .png or .pdf."""

    name: str
    title: str
    caption: str
    figure: Figure

    def svg(self) -> bytes:
        return self._written("svg")

    def save(self, path: str | Path) -> Path:
        """Writes the picture; the ending of `path` is the format."""
        out = Path(path)
        out.write_bytes(self._written(out.suffix[1:].lower() or "svg"))
        return out

    def _written(self, kind: str) -> bytes:
        matplotlib = optional("matplotlib", "a picture")
        raw = BytesIO()
        dateless: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        with matplotlib.rc_context(_STYLE | {"svg.hashsalt": self.name}):
            self.figure.savefig(raw, format=kind, metadata=dateless, dpi=120)
        return raw.getvalue()

    def _repr_svg_(self) -> str:
        return self.svg().decode()


def canvas(rows: int = 1, columns: int = 1, *, height: float = HEIGHT, **options: Any) -> tuple[Figure, Any]:
    """A figure without a window of its own, and its axes (an array when there are several)."""
    matplotlib = optional("matplotlib", "a picture")
    figures = optional("matplotlib.figure", "a picture")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, **options)
    return figure, axes


def times(frame: pl.DataFrame, column: str = "delivery") -> Any:
    """Times of Thailand, without their zone: axes show them as they are."""
    return frame[column].dt.replace_time_zone(None).to_list()


def time_axis(axes: Axes, shown: Any, ticks: int = 9) -> None:
    """Hours below the axis, days where they change."""
    dates = optional("matplotlib.dates", "a picture")
    locator = dates.AutoDateLocator(minticks=min(3, ticks // 2), maxticks=ticks)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    if len(shown) > 1 and shown[0] != shown[-1]:
        axes.set_xlim(shown[0], shown[-1])


def nothing(axes: Axes, said: str) -> None:
    """Says that there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, said, ha="center", va="center", color=GREY, transform=axes.transAxes)


def legend(axes: Axes, columns: int = 6) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=columns, borderaxespad=0.6)
