"""The models that come with slimcam: whole, small, int8 and ready to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.runtime import Recognizer

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


def test_the_recognizer_tells_that_a_face_is_like_itself_and_not_like_noise():
    recognizer = Recognizer(MODELS / "recognizer")
    face = recognizer.bundle.golden_input[:1]
    noise = np.random.default_rng(0).integers(0, 255, size=face.shape, dtype=np.uint8)
    same, mirrored, other = recognizer.embed(np.concatenate([face, face[:, :, ::-1], noise]))
    assert same @ mirrored > 0.5
    assert same @ mirrored > same @ other
