from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.deploy.camera.rolling_latency import RATE_SECONDS, Latencies
from slimcam.deploy.types import STAGES, Frame, View

IMAGE = np.zeros((2, 2, 3), np.uint8)


def view(captured: float, lost: int = 0, **milliseconds: float) -> View:
    return View(Frame(IMAGE, 0, 0.0, captured, lost), (), (), milliseconds)


def test_percentiles_are_those_of_numpy_in_the_order_of_the_stages() -> None:
    rng = np.random.default_rng(0)
    spent = rng.gamma(2, 5, (200, len(STAGES)))
    latencies = Latencies(60)
    for i, row in enumerate(spent):
        latencies.add(view(100 + i / 10, **dict(zip(STAGES, row.tolist(), strict=True))))
    summary = latencies.summary(120)
    assert tuple(summary) == STAGES
    for column, stage in enumerate(STAGES):
        expected = dict(zip(("p50", "p90", "p99"), np.percentile(spent[:, column], (50, 90, 99)), strict=True))
        assert summary[stage] == pytest.approx({**expected, "count": 200}, abs=6e-4)


def test_frames_count_by_when_they_were_answered_and_old_ones_no_more() -> None:
    latencies = Latencies(10)
    latencies.add(view(0, detect=1, result=500))  # answered at 0.5
    latencies.add(view(1, detect=3, result=500))
    assert latencies.summary(10.4)["detect"] == {"p50": 2.0, "p90": 2.8, "p99": 2.98, "count": 2}
    assert latencies.summary(10.6)["detect"]["count"] == 1
    assert latencies.summary(12) == {}
    assert (latencies.frames, latencies.history(12), latencies.rate(12)) == (2, [], 0)


def test_stages_that_a_frame_lacks_do_not_count() -> None:
    latencies = Latencies()
    for captured, milliseconds in ((0, {"detect": 5.0}), (1, {"detect": 7.0, "embed": 9.0}), (2, {"match": math.nan})):
        latencies.add(view(captured, **milliseconds))
    summary = latencies.summary(3)
    assert {stage: figures["count"] for stage, figures in summary.items()} == {"detect": 2, "embed": 1}


def test_the_rate_is_that_of_the_last_seconds_and_sinks_when_the_camera_stalls() -> None:
    latencies = Latencies()
    assert latencies.rate(0) == 0
    for i in range(100):
        latencies.add(view(i / 25, result=20))
    end = 99 / 25 + 0.02
    assert latencies.rate(end) == pytest.approx(25, rel=1e-6)
    assert latencies.rate(end + 3) == pytest.approx(25 * 2 / 5, rel=0.05)
    assert latencies.rate(end + RATE_SECONDS) == 0


def test_lost_frames_add_up() -> None:
    latencies = Latencies(1)
    for captured in range(5):
        latencies.add(view(captured, lost=captured))
    assert (latencies.frames, latencies.lost) == (5, 10)


def test_the_history_is_in_steps_oldest_first_with_gaps() -> None:
    latencies = Latencies(60)
    for captured, result in ((1.0, 100), (1.1, 200), (5.0, 40), (9.5, 10)):
        latencies.add(view(captured, result=result))
    history = latencies.history(10)
    assert [(step["age"], step["p50"]) for step in history] == [(8, 150), (4, 40), (0, 10)]
    assert [step["age"] for step in latencies.history(10, step=5)] == [5, 0]


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.floats(0, 1e4), max_size=120))
def test_only_the_newest_frames_are_kept(frames: int, spent: list[float]) -> None:
    latencies = Latencies(1e9, frames)
    for i, milliseconds in enumerate(spent):
        latencies.add(view(i, result=milliseconds))
    summary = latencies.summary(1e6)
    assert latencies.frames == len(spent)
    if spent:
        kept = spent[-frames:]
        assert summary["result"]["count"] == len(kept)
        assert summary["result"]["p50"] == pytest.approx(np.median(kept), abs=1e-3)
    else:
        assert summary == {}


def test_one_thread_adds_while_another_asks() -> None:
    latencies = Latencies(1e9, 64)
    stop = threading.Event()

    def add() -> None:
        i = 0
        while not stop.is_set():
            i += 1
            latencies.add(view(i, **dict.fromkeys(STAGES, float(i))))

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for _ in range(200):
            figures = list(latencies.summary(1e9).values())
            assert all(stage == figures[0] for stage in figures)  # no row is half written
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(("seconds", "frames"), [(0, 10), (-1, 10), (math.nan, 10), (60, 0)])
def test_a_window_without_extent_is_refused(seconds: float, frames: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Latencies(seconds, frames)
