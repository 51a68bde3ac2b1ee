"""The report's plots: narrow enough to be read on a phone, in one color for each model throughout."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from slimcam.pipeline.report import wording
from slimcam.pipeline.report.table import Row

WIDTH = 4.8  # inches; with 10 pt type, what a phone shows without zooming

_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.6g} %")
_FIGURE_SPACE = "\u2007"
_PLAIN = FuncFormatter(lambda value, _: f"{value:.6g}")


@dataclass(frozen=True)
class Theme:
    """Colors of a plot. The three of the models stay apart for color-blind readers (Okabe and Ito 2008)."""

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
    """The course of one training: which stage, the model it makes, and its history (see
    `slimcam.training.fit.fit.fit`).
    """

    title: str
    model: str
    history: Sequence[Mapping[str, float]]


def errors(curves: Mapping[str, Any], theme: Theme) -> Figure:
    """What is found against the errors made on the way, down to the rate that the data support.

    Args:
        curves: `slimcam.training.tasks.task.Curves` as in `evaluation.json`.
    """
    figure, axes = _figure(theme, 3.6)
    for name, line in curves["lines"].items():
        x, y = np.array(line["x"]), np.array(line["y"])
        shown = x >= curves["lowest"]
        label = ": ".join(text for text in (name, line["label"]) if text)
        axes.plot(x[shown], y[shown], color=theme.models[name], linewidth=1.8, label=label)
    axes.set_xscale("log")
    axes.set_xlim(left=curves["lowest"])
    axes.set_ylim(top=1.005)
    axes.xaxis.set_major_formatter(_PERCENT if curves["x_is_share"] else _PLAIN)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel(curves["x"])
    axes.set_ylabel(curves["y"])
    axes.legend(loc="lower right", frameon=False, labelcolor="linecolor", handlelength=1.2, fontsize=9)
    return figure


def tradeoff(rows: Sequence[Row], measure: str, theme: Theme) -> Figure:
    """Accuracy against latency, the area of a disc being the size of the file; bars are intervals and p90."""
    figure, axes = _figure(theme, 3.8)
    largest = max(row.size_mb for row in rows)
    dense = next(row.accuracy for row in rows if row.change is None) or 0.0
    marks = []
    for row in rows:
        color, area = theme.models[row.name], max(30.0, 1600 * row.size_mb / largest)
        accuracy, slowest = row.accuracy or 0.0, row.p90_ms or row.p50_ms
        low, high = dense + (row.low or 0.0), dense + (row.high or 0.0)
        axes.plot([row.p50_ms] * 2, [low, high], color=color, linewidth=1.2)
        axes.plot([row.p50_ms, slowest], [accuracy] * 2, color=color, linewidth=1.2)
        axes.scatter([row.p50_ms], [accuracy], s=area, color=color, edgecolors=theme.paper, zorder=3)
        marks.append(_Mark(row.p50_ms, slowest, accuracy, low, high, radius=math.sqrt(area) / 2))
    _log_latency(axes, rows)
    axes.margins(x=0.12, y=0.25)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("latency, ms (p50, bar to p90)")
    axes.set_ylabel(measure)
    texts = [f"{row.name}\n{wording.milliseconds(row.p50_ms)} ms, {wording.megabytes(row.size_mb)} MB" for row in rows]
    _name_marks(figure, axes, marks, texts, [theme.models[row.name] for row in rows])
    return figure


def pareto(rows: Mapping[str, Row], front: Sequence[str], measure: str, theme: Theme) -> Figure:
    """Accuracy against latency of several runs, those that no other beats joined by a line; names are below it."""
    figure, axes = _figure(theme, 3.4 + 0.17 * len(rows))
    best = sorted((rows[name].p50_ms, rows[name].accuracy or 0.0) for name in front)
    axes.plot(*zip(*best, strict=True), color=theme.models["quantized"], linewidth=1.2, drawstyle="steps-post")
    marks = []
    colors = [theme.models["quantized"] if name in front else theme.muted for name in rows]
    numbers = [str(number) for number in range(1, len(rows) + 1)]
    # A space as wide as a digit keeps the names in line.
    aligned = [number.rjust(len(numbers[-1]), _FIGURE_SPACE) for number in numbers]
    for row, color in zip(rows.values(), colors, strict=True):
        accuracy = row.accuracy or 0.0
        axes.scatter([row.p50_ms], [accuracy], s=36, color=color, edgecolors=theme.paper, zorder=3)
        marks.append(_Mark(row.p50_ms, row.p50_ms, accuracy, accuracy, accuracy, radius=3))
    _log_latency(axes, list(rows.values()))
    axes.margins(x=0.08, y=0.12)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel("latency, ms (p50)")
    axes.set_ylabel(measure)
    figure.legend(
        [Line2D([], [], linestyle="", color=color) for color in colors],
        [
            f"{number}  {_shortened(name, 56)}, {wording.megabytes(row.size_mb)} MB"
            for number, (name, row) in zip(aligned, rows.items(), strict=True)
        ],
        loc="outside lower left",
        frameon=False,
        handlelength=0,
        handletextpad=0,
        labelcolor="linecolor",
        fontsize=8,
        labelspacing=0.25,
    )
    _name_marks(figure, axes, marks, numbers, colors)
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
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel("channels kept")
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure


def sensitivity(found: Any, suggested: Mapping[str, float], theme: Theme) -> Figure:
    """What is left when a group alone loses channels, a row a group, from the model's input (top) to its output.

    Args:
        found: `slimcam.compression.pruning.sensitivity.Sensitivity`.
        suggested: ratio of each group, marked.
    """
    names = list(found.removed)
    figure, axes = _figure(theme, 0.9 + 0.185 * len(names))
    places = np.repeat(np.arange(len(names)), [len(found.removed[name]) for name in names])
    shares = np.concatenate([found.removed[name] for name in names])
    lost = found.whole - np.concatenate([found.left[name] for name in names])
    discs = axes.scatter(shares, places, s=60, c=lost, cmap="viridis_r", vmin=0, edgecolors=theme.muted, linewidths=0.4)
    axes.scatter([suggested[name] for name in names], range(len(names)), marker="|", s=90, color=theme.models["pruned"])
    bar = figure.colorbar(discs, ax=axes, orientation="horizontal", aspect=40, shrink=0.8)
    bar.set_label(f"{found.measure} lost; upright: the suggested ratio", color=theme.muted, size=9)
    bar.ax.tick_params(colors=theme.muted, labelsize=8)
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.set_xlabel("channels of the group removed")
    return figure


def curves(fits: Sequence[Fit], theme: Theme) -> Figure:
    """The loss of each training, one above the other: their losses are of different kinds and do not compare."""
    figure = Figure(figsize=(WIDTH, 1.75 * len(fits)), layout="constrained", facecolor=theme.paper)
    panels = figure.subplots(len(fits), 1, squeeze=False)[:, 0]
    for fit, axes in zip(fits, panels, strict=True):
        style(axes, theme)
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
    style(axes, theme)
    return figure, axes


def style(axes: Any, theme: Theme) -> None:
    """Gives axes the colors of a theme."""
    axes.set_facecolor(theme.paper)
    axes.grid(color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.muted, labelsize=9, length=0)
    axes.xaxis.label.set(color=theme.muted, size=9.5)
    axes.yaxis.label.set(color=theme.muted, size=9.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)


@dataclass(frozen=True)
class _Mark:
    """A disc of `radius` points at (`x`, `y`), its upright bar from `low` to `high`, and its level one to `right`."""

    x: float
    right: float
    y: float
    low: float
    high: float
    radius: float

    def boxes(self, axes: Any) -> list[Bbox]:
        """What it covers, in pixels; the disc first."""
        (x, y), (_, low), (_, high), (right, _) = axes.transData.transform(
            [(self.x, self.y), (self.x, self.low), (self.x, self.high), (self.right, self.y)]
        )
        radius = self.radius * axes.figure.dpi / 72
        disc = Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
        return [disc, Bbox.from_extents(x - 1, low, x + 1, high), Bbox.from_extents(x, y - 1, right, y + 1)]


def _name_marks(figure: Figure, axes: Any, marks: Sequence[_Mark], texts: Sequence[str], colors: Sequence[str]) -> None:
    """Writes each text above, below or beside its mark, where it collides with least."""
    figure.draw_without_rendering()  # fixes the layout, without which there are no pixels to compare
    taken = [box for mark in marks for box in mark.boxes(axes)]
    for mark, text, color in zip(marks, texts, colors, strict=True):
        label = axes.annotate(
            text, (mark.x, mark.y), xytext=(0, 0), textcoords="offset points", color=color, fontsize=9
        )

        def collisions(place: dict[str, Any], label: Any = label) -> int:
            label.set(**place)
            box = label.get_window_extent()
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            inside = inside and axes.bbox.containsy(box.y0) and axes.bbox.containsy(box.y1)
            return int(box.count_overlaps(taken)) + (0 if inside else len(taken))

        label.set(**min(_places(mark, axes), key=collisions))
        taken.append(label.get_window_extent())


def _places(mark: _Mark, axes: Any) -> Iterator[dict[str, Any]]:
    """Where a mark's text may stand, the best first: its offset in points, and how it is aligned there."""
    whole = Bbox.union(mark.boxes(axes))
    x, y = axes.transData.transform((mark.x, mark.y))
    points, gap = 72 / axes.figure.dpi, 3
    for offset, side in (((whole.y1 - y) * points + gap, "bottom"), ((whole.y0 - y) * points - gap, "top")):
        for aligned in ("center", "left", "right"):
            yield {"position": (0, offset), "ha": aligned, "va": side}
    yield {"position": ((whole.x1 - x) * points + gap, 0), "ha": "left", "va": "center"}
    yield {"position": ((whole.x0 - x) * points - gap, 0), "ha": "right", "va": "center"}


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
