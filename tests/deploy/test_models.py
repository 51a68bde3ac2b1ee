"""The models that come with slimcam: whole, small, int8 and ready to run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.inference.bundle import load_bundle
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision.detector import open_detector
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.recognition.synthetic import draw_face

MODELS = Path(__file__).parents[2] / "deploy" / "models"


def test_the_recognizer_is_int8_fully_delegated_and_reproduces_its_golden_embeddings():
    recognizer = Recognizer(MODELS / "recognizer")
    interpreter = recognizer.interpreter
    assert recognizer.bundle.model.stat().st_size <= 2.8e6
    assert interpreter.input.dtype == interpreter.output.dtype == np.int8
    assert (interpreter.input.scale, interpreter.input.zero_point) == (1 / 128, 0)
    assert interpreter.delegation().complete
    assert recognizer.bundle.thresholds
    assert "non-commercial research" in recognizer.bundle.license
    assert "non-commercial research" in recognizer.bundle.card.read_text()


@pytest.mark.parametrize("shift", [(0, 1), (0, -1), (1, 0), (-1, 0)])
def test_the_recognizer_is_refused_where_faces_come_to_it_shifted_by_a_pixel(shift: tuple[int, int]) -> None:
    bundle = load_bundle(MODELS / "recognizer")
    shifted = np.roll(bundle.golden_input, shift, axis=(1, 2))
    with pytest.raises(BundleError, match="gives another output on this device"):
        Recognizer(replace(bundle, inputs=replace(bundle.inputs, golden=(shifted,))))


def test_the_recognizer_tells_that_a_face_is_like_itself_and_not_like_noise():
    recognizer = Recognizer(MODELS / "recognizer")
    face = recognizer.bundle.golden_input[:1]
    noise = np.random.default_rng(0).integers(0, 255, size=face.shape, dtype=np.uint8)
    same, mirrored, other = recognizer.embed(np.concatenate([face, face[:, :, ::-1], noise]))
    assert same @ mirrored > 0.5
    assert same @ mirrored > same @ other


def test_the_detector_that_comes_with_slimcam_finds_rendered_faces_and_nothing_else():
    folder = MODELS / "detector"
    detector = open_detector(folder)
    assert (folder / "model.tflite").stat().st_size <= 400_000
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 470_000
    assert detector.model.interpreter.delegation().complete
    assert detector.threshold == detector.model.bundle.thresholds["0.1"]
    canvas = np.full((360, 640, 3), 100, np.uint8)
    assert len(detector.detect(canvas)) == 0
    expected = []
    for person, (left, top) in enumerate(((60, 40), (300, 150), (480, 60))):
        canvas[top : top + 112, left : left + 112] = draw_face(person, 0)
        expected.append(np.add(rendered_points(sample_person(person), sample_shot(person, 0)), (left, top)))
    found = detector.detect(canvas).points
    assert len(found) == 3
    off = np.linalg.norm(found[:, np.newaxis] - np.array(expected), axis=3).mean(axis=2)
    assert sorted(off.argmin(axis=1)) == [0, 1, 2]
    assert off.min(axis=1).max() < 8  # of rendered faces, whose eyes are 35 pixels apart
