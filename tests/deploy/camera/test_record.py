from __future__ import annotations

import time

import numpy as np
import pytest

from slimcam.deploy.camera.record import Reservoir, Tally
from slimcam.deploy.types import Frame, Sighting, View


def test_a_reservoir_is_a_fair_sample_of_bounded_size() -> None:
    reservoir = Reservoir(size=500)
    for value in range(50_000):
        reservoir.add(value)
    assert len(reservoir.values) == 500
    assert reservoir.count == 50_000
    assert np.mean(reservoir.values) == pytest.approx(25_000, rel=0.1)


def view(number: int = 0, quality_issues: tuple[str, ...] = (), **milliseconds: float) -> View:
    frame = Frame(np.zeros((240, 320, 3), np.uint8), number, number / 10, time.monotonic(), lost=2)
    points = np.array([(120, 100), (160, 100), (140, 120), (125, 145), (155, 145)], np.float32)
    return View(frame, (Sighting(1, points, 0.9, quality_issues, None),), (), milliseconds)


def test_a_tally_counts_frames_faces_and_what_stages_took() -> None:
    tally = Tally()
    for number in range(4):
        tally.add(view(number, detect=float(number), result=10.0))
    assert (tally.frames, tally.lost, tally.faces) == (4, 8, 4)
    assert tally.latencies()["detect"].p50 == 1.5
    assert "embed" not in tally.latencies()
