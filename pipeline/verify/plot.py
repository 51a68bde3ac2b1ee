"""ROC, DET and histograms of scores: a row of plots for each set of faces, a color for each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from slimcam.pipeline.report.plots import LIGHT, style
from slimcam.training.tasks.recognition.scorecard import Scorecard
from slimcam.training.tasks.recognition.verification import SUPPORT

# Colors that stay apart for color-blind readers (Okabe and Ito 2008).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")

_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.6g} %")


def draw(sets: Mapping[str, Mapping[str, Scorecard]]) -> Figure:
    """Draws the scorecards of each model on each set."""
    figure = Figure(figsize=(13.0, 3.8 * len(sets)), layout="constrained", facecolor=LIGHT.paper)
    panels = figure.subplots(len(sets), 3, squeeze=False)
    for (name, cards), (roc, det, histogram) in zip(sets.items(), panels, strict=True):
        for axes in (roc, det, histogram):
            style(axes, LIGHT)
        lowest = SUPPORT / min(card.impostors for card in cards.values())
        for number, (model, card) in enumerate(cards.items()):
            color = COLORS[number % len(COLORS)]
            false, true = card.roc
            shown = false >= lowest
            roc.plot(false[shown], true[shown], color=color, linewidth=1.6, label=model)
            # An error of none has no place on a logarithmic axis.
            det.plot(false[shown], np.where(true < 1, 1 - true, np.nan)[shown], color=color, linewidth=1.6, label=model)
            for shares, line in ((card.genuine_histogram, "-"), (card.impostor_histogram, "--")):
                histogram.stairs(shares, card.edges, color=color, linestyle=line, linewidth=1.2)
        _shares(roc, "false accept rate", "true accept rate")
        _shares(det, "false accept rate", "false reject rate")
        det.set_yscale("log")
        det.yaxis.set_major_formatter(_PERCENT)
        roc.set_title(f"{name}: ROC", loc="left", fontsize=10)
        det.set_title("DET", loc="left", fontsize=10)
        histogram.set_title("scores: genuine solid, impostors dashed", loc="left", fontsize=10)
        histogram.set_xlabel("cosine")
        histogram.yaxis.set_major_formatter(_PERCENT)
        roc.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def _shares(axes: Any, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
