"""The report's plots: narrow enough to be read on a phone, in one colour for each model throughout."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from pipeline import wording
from pipeline.table import Row
from training.verification import SUPPORT

WIDTH = 4.8  # inches; with 10 pt type, what a phone shows without zooming


@dataclass(frozen=True)
class Theme:
    """Colours of a plot. The three of the models stay apart for colour-blind readers (Okabe and Ito 2008)."""

    ink: str
    muted: str
    grid: str
    paper: str
    models: Mapping[str, str]


LIGHT = Theme(
    ink="#1c2127",
    muted="#5c6670",
    grid="#dfe3e8",
    paper="#ffffff",
    models={"dense": "#0072b2", "pruned": "#c4570a", "quantized": "#008a66"},
)
DARK = Theme(
    ink="#e8ebee",
    muted="#a0a9b2",
    grid="#343b43",
    paper="#181c20",
    models={"dense": "#5bb5ef", "pruned": "#f2994a", "quantized": "#3cc79b"},
)


@dataclass(frozen=True)
class Fit:
    """The course of one training: which stage, the model it makes, and its history (see `training.fit.fit`)."""

    title: str
    model: str
    history: Sequence[Mapping[str, float]]


def roc(variants: Mapping[str, Any], theme: Theme) -> Figure:
    """True against false accept rates, down to the rate that the impostor pairs support.

    Args:
        variants: by name, as in `evaluation.json`.
    """
    figure, axes = _figure(theme, 3.6)
    lowest = SUPPORT / min(variant["impostor_pairs"] for variant in variants.values())
    for name, variant in variants.items():
        false, true = np.array(variant["roc"]["far"]), np.array(variant["roc"]["tar"])
        shown = false >= lowest
        axes.plot(false[shown], true[shown], color=theme.models[name], linewidth=1.8, label=_roc_label(name, variant))
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(top=1.005)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g} %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
    axes.set_xlabel("false accept rate")
    axes.set_ylabel("true accept rate")
    axes.legend(loc="lower right", frameon=False, labelcolor="linecolor", handlelength=1.2, fontsize=9)
    return figure


def tradeoff(rows: Sequence[Row], theme: Theme) -> Figure:
    """Accuracy against latency, the area of a disc being the size of the file; bars are intervals and p90."""
    figure, axes = _figure(theme, 3.8)
    largest = max(row.size_mb for row in rows)
    order = sorted(rows, key=lambda row: row.accuracy or 0)
    middle = math.sqrt(min(row.p50_ms for row in rows) * max(row.p50_ms for row in rows))
    dense = next(row.accuracy for row in rows if row.change is None) or 0.0
    for rank, row in enumerate(order):
        color, area = theme.models[row.name], max(30.0, 1600 * row.size_mb / largest)
        accuracy = row.accuracy or 0.0
        low, high = dense + (row.low or 0.0), dense + (row.high or 0.0)
        axes.plot([row.p50_ms] * 2, [low, high], color=color, linewidth=1.2)
        axes.plot([row.p50_ms, row.p90_ms or row.p50_ms], [accuracy] * 2, color=color, linewidth=1.2)
        axes.scatter([row.p50_ms], [accuracy], s=area, color=color, alpha=0.85, linewidths=0, zorder=3)
        # The least accurate is named below its interval, the others above theirs, so that neighbours do not collide.
        above = rank > 0
        gap = 4 + (math.sqrt(area) / 2 if row.change is None else 0)
        axes.annotate(
            f"{row.name}\n{wording.milliseconds(row.p50_ms)} ms, {row.size_mb:.1f} MB",
            (row.p50_ms, high if above else low),
            xytext=(0, gap if above else -gap),
            textcoords="offset points",
            ha="right" if row.p50_ms > middle else "left",
            va="bottom" if above else "top",
            color=color,
            fontsize=9,
        )
    _log_latency(axes, rows)
    axes.margins(x=0.12, y=0.25)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("latency, ms (p50, bar to p90)")
    axes.set_ylabel("accuracy")
    return figure


def channels(kept: Mapping[str, Sequence[int]], sizes: Mapping[str, int], theme: Theme) -> Figure:
    """The share of channels that each group keeps, from the model's input (top) to its output.

    Args:
        kept: channel indices by group, `sizes` the channels it had.
    """
    names = list(kept)
    figure, axes = _figure(theme, 0.7 + 0.185 * len(names))
    places = np.arange(len(names))
    axes.barh(places, 1, color=theme.grid, height=0.72)
    axes.barh(places, [len(kept[name]) / sizes[name] for name in names], color=theme.models["pruned"], height=0.72)
    for place, name in zip(places, names, strict=True):
        text = f"{len(kept[name])} of {sizes[name]}"
        axes.text(1.02, place, text, va="center", color=theme.muted, fontsize=8)
    axes.set_yticks(places, [_shortened(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.set_xlabel("channels kept")
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure


def curves(fits: Sequence[Fit], theme: Theme) -> Figure:
    """The loss of each training, one above the other: their losses are of different kinds and do not compare."""
    figure = Figure(figsize=(WIDTH, 1.75 * len(fits)), layout="constrained", facecolor=theme.paper)
    panels = figure.subplots(len(fits), 1, squeeze=False)[:, 0]
    for fit, axes in zip(fits, panels, strict=True):
        _style(axes, theme)
        color = theme.models[fit.model]
        losses = [entry["loss"] for entry in fit.history]
        marker = "o" if len(losses) < 3 else None
        axes.plot([entry["epoch"] for entry in fit.history], losses, color=color, linewidth=1.6, marker=marker)
        axes.set_title(fit.title, loc="left", color=color, fontsize=10)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylabel("loss")
    panels[-1].set_xlabel("epochs")
    return figure


def png(figure: Figure) -> bytes:
    """The plot as a PNG, sharp on a phone's screen."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The plot as an SVG that is the same for the same figures."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "slimcam"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _figure(theme: Theme, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=theme.paper)
    axes = figure.subplots()
    _style(axes, theme)
    return figure, axes


def _style(axes: Any, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.grid(color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.muted, labelsize=9, length=0)
    axes.xaxis.label.set(color=theme.muted, size=9.5)
    axes.yaxis.label.set(color=theme.muted, size=9.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)


def _roc_label(name: str, variant: Mapping[str, Any]) -> str:
    rates = variant["tar"]
    if not rates:
        return name
    far = "0.01" if "0.01" in rates else next(iter(rates))
    return f"{name}: {wording.percent(rates[far], 1)} at {100 * float(far):g} %"


def _log_latency(axes: Any, rows: Sequence[Row]) -> None:
    latencies = [row.p50_ms for row in rows]
    if max(latencies) < 3 * min(latencies):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    axes.set_xscale("log")
    exponents = range(math.floor(math.log10(min(latencies))) - 1, math.ceil(math.log10(max(latencies))) + 1)
    ticks = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _shortened(name: str, longest: int = 24) -> str:
    return name if len(name) <= longest else f"…{name[1 - longest :]}"
