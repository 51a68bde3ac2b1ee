"""Labels that are the mean of a detector's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE
from slimcam.training.data.detection.relabel import averaged, mean_answer
from slimcam.training.data.detection.scene import Picture
from slimcam.training.data.detection.scenes import ScenesConfig
from slimcam.training.data.recognition.synthetic import draw_face

YUNET = Path(__file__).parents[4] / ".." / "shared" / "detectors" / "yunet_n_dynamic.onnx"


def test_answers_near_the_label_are_averaged():
    rng = np.random.default_rng(0)
    answers = (TEMPLATE + rng.normal(0, 2, (400, 5, 2))).astype(np.float32)
    mean = mean_answer(TEMPLATE, answers)
    assert mean is not None
    assert np.abs(mean - TEMPLATE).max() < 0.5


def test_answers_of_another_face_and_none_do_not_count():
    near, far = TEMPLATE + 1, TEMPLATE + 60
    answers = np.stack([near] * 4 + [far] * 6 + [np.full((5, 2), np.nan)] * 2).astype(np.float32)
    assert mean_answer(TEMPLATE, answers) == pytest.approx(near)


def test_with_too_few_answers_there_is_no_mean():
    answers = np.stack([TEMPLATE] * 3 + [np.full((5, 2), np.nan)] * 9).astype(np.float32)
    assert mean_answer(TEMPLATE, answers) is None


def test_a_missing_labeler_and_one_without_photos_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.onnx"):
        averaged([Picture(draw_face(0, 0), TEMPLATE)], tmp_path / "nowhere.onnx", tmp_path)
    with pytest.raises(ValueError, match=r"data\.labeler is for photos"):
        ScenesConfig(labeler="yunet.onnx")
    assert averaged([], tmp_path / "nowhere.onnx", tmp_path) == ([], 0)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="cannot read it as a YuNet model"):
        averaged([Picture(draw_face(0, 0), TEMPLATE)], tmp_path / "text.onnx", tmp_path)


@pytest.mark.skipif(not YUNET.is_file(), reason="../shared, with YuNet in it, is not there")
def test_answers_are_kept(tmp_path):
    pictures = [Picture(draw_face(person, 0), TEMPLATE) for person in range(3)]
    first = averaged(pictures, YUNET, tmp_path)
    kept = sorted(tmp_path.iterdir())
    stamp = kept[0].stat().st_mtime_ns
    again = averaged(pictures, YUNET, tmp_path)
    assert sorted(tmp_path.iterdir()) == kept
    assert kept[0].stat().st_mtime_ns == stamp
    assert all(np.array_equal(one.points, other.points) for one, other in zip(first[0], again[0], strict=True))
