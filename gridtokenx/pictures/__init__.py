"""Pictures and reports of a chain, a run, or what is different between two: Matplotlib, drawn as SVG.

Matplotlib is optional (`gridtokenx[study]`) and imported on first use. Equal tables give equal bytes.
"""

from gridtokenx.pictures.canvas import Picture, canvas
from gridtokenx.pictures.difference import picture_of
from gridtokenx.pictures.plots import Plots
from gridtokenx.pictures.report import difference_report, report

__all__ = ["Picture", "Plots", "canvas", "difference_report", "picture_of", "report"]
