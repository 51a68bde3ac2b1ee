from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from matplotlib.colors import same_color

from slimcam.pipeline.report import plots, wording
from slimcam.pipeline.report.plots import DARK, LIGHT, Fit
from slimcam.pipeline.report.table import Row

ROWS = (
    Row("dense", 98.0, 24.0, 1.0, 1.0, p90_ms=26.0, accuracy=0.93),
    Row("pruned", 10.0, 2.2, 9.8, 10.9, p90_ms=2.4, accuracy=0.92, change=-0.01, low=-0.02, high=0.0),
    Row("quantized", 2.7, 2.9, 36.3, 8.3, p90_ms=3.1, accuracy=0.925, change=-0.005, low=-0.01, high=0.0),
)


def test_curves_of_errors_end_where_the_data_no_longer_support_them() -> None:
    rates = np.logspace(-5, 0, 50)
    line = {"x": rates.tolist(), "y": (rates**0.1).tolist()}
    lines = {"dense": {**line, "label": "75.0 % at 1 %"}, "pruned": {**line, "label": ""}}
    curves = {"x": "false accept rate", "y": "true accept rate", "x_is_share": True, "lowest": 1e-3, "lines": lines}
    axes = plots.errors(curves, LIGHT).axes[0]
    assert axes.get_xlim()[0] == 1e-3
    for drawn in axes.get_lines():
        assert np.min(drawn.get_xdata()) >= 1e-3
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dense: 75.0 % at 1 %", "pruned"]
    assert axes.get_xlabel() == "false accept rate"


def test_a_model_has_one_colour_in_all_plots() -> None:
    tradeoff = plots.tradeoff(ROWS, "accuracy", LIGHT).axes[0]
    named = {text.get_text().split()[0]: text.get_color() for text in tradeoff.texts}
    curve = plots.curves([Fit("fine-tuning", "pruned", [{"epoch": 1.0, "loss": 2.0}])], LIGHT).axes[0].get_lines()[0]
    assert named == dict(LIGHT.models)
    assert same_color(curve.get_color(), named["pruned"])


def test_latencies_far_apart_get_a_logarithmic_axis() -> None:
    assert plots.tradeoff(ROWS, "accuracy", LIGHT).axes[0].get_xscale() == "log"
    near = [replace(row, p50_ms=20 + place) for place, row in enumerate(ROWS)]
    assert plots.tradeoff(near, "accuracy", LIGHT).axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("latencies", [(24.0, 2.2, 2.9), (0.389, 0.138, 0.056), (24.0, 2.2, 2.2), (24.0, 23.0, 22.0)])
def test_names_in_the_tradeoff_stand_apart_and_inside(latencies: tuple[float, ...]) -> None:
    rows = [replace(row, p50_ms=p50, p90_ms=1.1 * p50) for row, p50 in zip(ROWS, latencies, strict=True)]
    figure = plots.tradeoff(rows, "accuracy", LIGHT)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert not box.count_overlaps(boxes[place + 1 :])


@pytest.mark.parametrize("groups", [1, 40])
def test_every_channel_group_has_its_row(groups: int) -> None:
    sizes = {f"a_rather_long_name_of_a_layer_{i}": 64 for i in range(groups)}
    figure = plots.channels({name: range(24) for name in sizes}, sizes, LIGHT)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["24 of 64"] * groups
    assert [label.get_text() for label in axes.get_yticklabels()][-1].endswith(f"layer_{groups - 1}")


def test_a_plot_is_the_same_bytes_for_the_same_figures() -> None:
    first, second = (plots.svg(plots.tradeoff(ROWS, "accuracy", DARK)) for _ in range(2))
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")
    image = cv2.imdecode(np.frombuffer(plots.png(plots.tradeoff(ROWS, "accuracy", LIGHT)), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] == round(plots.WIDTH * 200)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (wording.count(24_637_312), "24.6 M"),
        (wording.count(1_108_000_000), "1.11 G"),
        (wording.count(512), "512"),
        (wording.milliseconds(0.3514), "0.351"),
        (wording.milliseconds(300.0), "300"),
        (wording.points(-0.0027), "-0.27"),
        (wording.points(-0.00001), "0.00"),
        (wording.points(0.004), "+0.40"),
        (wording.times(36.72), "36.7x"),
        (wording.times(None), wording.UNKNOWN),
        (wording.percent(0.97924), "97.92 %"),
    ],
)
def test_figures_are_worded_for_people(said: str, wanted: str) -> None:
    assert said == wanted
