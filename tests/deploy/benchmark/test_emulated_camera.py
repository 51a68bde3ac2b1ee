from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.deploy.benchmark.a53.stages import RatePrediction, StagePrediction
from slimcam.deploy.benchmark.emulated_camera import (
    CameraPrediction,
    CameraRequest,
    Gap,
    compare_answers,
    pixel_gap,
    prediction_table,
)
from slimcam.deploy.latency.record import Estimate
from slimcam.deploy.types import Frame

FACE: dict[str, Any] = {
    "track": 1,
    "points": [[30, 30], [60, 30], [45, 48], [32, 64], [58, 64]],
    "quality_issues": [],
    "looked_at": True,
    "person": "a",
    "score": 0.7,
}


def answer(*faces: dict[str, Any]) -> dict[str, Any]:
    return {"number": 4, "seconds": 0.4, "faces": list(faces)}


def test_the_same_answers_have_no_differences() -> None:
    assert compare_answers([answer(FACE)], [answer(FACE)]) == ([], Gap(0.0, 0.0))
    near = {**FACE, "points": [[x + 0.1, y] for x, y in FACE["points"]], "score": 0.705}
    assert compare_answers([answer(near)], [answer(FACE)]) == ([], Gap(0.1, 0.005))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"person": None}, "frame 4, face 1: person a here, None on the emulated ARM"),
        ({"person": "b"}, "person a here, b"),
        ({"quality_issues": ["small"]}, r"quality_issues \[\] here"),
        ({"looked_at": False, "score": None}, "looked_at True here"),
        ({"track": 2}, "frame 4: faces 1 here, 2 on the emulated ARM"),
        ({"score": 0.6}, "scores differ by 0.100"),
        ({"points": [[x + 3, y] for x, y in FACE["points"]]}, "points are 3.00 pixels apart"),
        ({"points": [[float("nan"), y] for _, y in FACE["points"]]}, "points are nan pixels apart"),
    ],
)
def test_other_answers_are_told(change: dict[str, Any], message: str) -> None:
    differences, _ = compare_answers([answer({**FACE, **change})], [answer(FACE)])
    assert any(re.search(message, line) for line in differences), differences


def test_a_face_or_frame_that_lacks_is_a_difference_and_other_pixels_excuse_figures_alone() -> None:
    assert compare_answers([answer()], [answer(FACE)])[0] == ["frame 4: faces 1 here, none on the emulated ARM"]
    assert compare_answers([], [answer(FACE)])[0] == ["0 frames on the emulated ARM, 1 on this machine"]
    far = {**FACE, "score": 0.6, "quality_issues": ["small"], "points": [[x + 3, y] for x, y in FACE["points"]]}
    assert compare_answers([answer(far)], [answer(FACE)], compare_figures=False) == ([], Gap(3.0, 0.1))
    assert compare_answers([answer({**FACE, "person": None})], [answer(FACE)], compare_figures=False)[0]


def test_pixels_are_compared_without_wrapping_around() -> None:
    black, white = (Frame(np.full((2, 2, 3), value, np.uint8), 0, 0.0, 0.0) for value in (0, 255))
    assert pixel_gap([black], [white]) == (255, 255.0)
    assert pixel_gap([black, black], [black, white]) == (255, 127.5)


def request(source: str, **changes: Any) -> CameraRequest:
    return CameraRequest(source=source, detector="d", recognizer="r", threshold=0.4, margin=0.05, **changes)


def test_what_cannot_be_emulated_is_refused(tmp_path: Path) -> None:
    for source in ("0", "rtsp://user:secret@camera/", str(tmp_path / "none.mp4")):
        with pytest.raises(FileNotFoundError, match="an emulated device has no camera") as refusal:
            request(source)
        assert "secret" not in str(refusal.value)
    with pytest.raises(ValueError, match="1 frame or more"):
        request(str(tmp_path), frames=0)


def test_a_prediction_is_json_and_a_table() -> None:
    estimate = Estimate(1.0, 2.0, 3.0)
    prediction = CameraPrediction(
        device="Snapdragon 625",
        clock_mhz=2000.0,
        warmup=2,
        frames=5,
        size=(640, 360),
        stages=[StagePrediction("detect", estimate, 4_000_000, {"models": 3_000_000, "python": 1_000_000})],
        rates=[RatePrediction(1, 5, 2, estimate, 4.0, Estimate(333.33, 500.0, 1000.0))],
        seen=[answer(FACE)],
        differences=["frame 4: faces 1 here, none on the emulated ARM"],
        gap=Gap(0.01, 0.0002),
        decoded_gap=Gap(0.3, 0.004),
        decoding=(4, 0.8),
    )
    assert json.loads(json.dumps(asdict(prediction)))["rates"][0]["faces"] == 1
    text = prediction_table(prediction)
    assert "4.00 M" in text
    assert "75%" in text
    assert prediction.differences[0] in text
    assert max(map(len, text.splitlines())) <= 140
