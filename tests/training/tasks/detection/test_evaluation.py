"""What a detector is evaluated by."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.vision import align
from slimcam.deploy.vision.detector import open_detector
from slimcam.training.data.detection.labels import EvaluationPhotograph
from slimcam.training.data.detection.rendered_faces import rendered_frames
from slimcam.training.tasks.detection.evaluation import PHOTOGRAPHS, evaluation, find_boxed
from slimcam.training.tasks.detection.metrics import SIZES, match, match_boxes


def face(x: float, y: float, size: float) -> np.ndarray:
    return (align.TEMPLATE - align.TEMPLATE.mean(axis=0)) * (size / 72) + (x, y)


FACES = np.stack([face(30, 30, 26), face(70, 40, 44)])


def test_the_evaluation_tells_recall_and_its_change_against_the_dense_model():
    scenes = [FACES[:1] + shift for shift in range(10)]
    perfect = [match(points, np.array([0.9], np.float32), points) for points in scenes]
    half = [
        match(points if i % 2 else points[:0], np.array([0.9] if i % 2 else [], np.float32), points)
        for i, points in enumerate(scenes)
    ]
    models = {"dense": perfect, "pruned": half, "quantized": half}
    found = evaluation({"photos": models, "scenes": models}, [0.1])
    assert found.accuracies == {"dense": 1.0, "pruned": 0.5, "quantized": 0.5}
    assert found.changes["quantized"]["difference"] == pytest.approx(-0.5)
    assert [table.title for table in found.tables] == ["Faces found in photos", "Faces found in scenes"]
    for table in found.tables:
        assert all(len(cells) == len(table.columns) for cells in table.rows.values())
    assert set(found.figures["scenes"]) == set(SIZES)
    assert "recall 50.00 % of faces from 24 pixels on in 10 scenes" in found.facts[1]


def test_thresholds_are_those_of_real_photographs_where_there_are_some():
    composed = [match(FACES, np.array([0.9, 0.8], np.float32), FACES)] * 10
    boxes = align.face_boxes(FACES)
    nothing = np.zeros((0, 4), np.float32)
    away = np.concatenate([FACES, FACES[:1] + 200])
    real = [match_boxes(away, np.array([0.7, 0.6, 0.5], np.float32), boxes, nothing)] * 10
    sets = {"scenes": {"dense": composed, "quantized": composed}}
    alone = evaluation(sets, [0.1])
    both = evaluation({**sets, PHOTOGRAPHS: {"dense": real, "quantized": real}}, [0.1])
    assert alone.thresholds == {}, "no false face in ten scenes"
    assert both.thresholds["0.1"] == pytest.approx(0.5, abs=1e-3)
    assert both.accuracies == alone.accuracies, "gates look at composed scenes, whose truth is known to the last face"
    assert both.tables[1].title == "Faces found in photographs"
    assert all(row[-1] is None for row in both.tables[1].rows.values()), "points are not known there"


def test_a_bundle_is_evaluated_by_photographs_in_pixels_of_its_input(tmp_path):
    """The committed detector on a rendered face of 640x480, beside boxes too small to count and one to ignore."""
    bundle = Path(__file__).parents[4] / "deploy" / "models" / "detector"
    image = cv2.resize(rendered_frames(240, 320, 1)[0], (640, 480))
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    (found,) = open_detector(bundle).detect(image).boxes
    boxes = np.stack([found, (10, 10, 15, 20)]).astype(np.float32)
    nothing = np.zeros((0, 4), np.float32)
    photograph = EvaluationPhotograph(
        tmp_path / "a.png", boxes, ("face", "tiny"), nothing, np.full((2, 5, 2), np.nan, np.float32)
    )
    (result,) = find_boxed(bundle, [photograph], 240, 320, 1)
    assert result.truth.tolist()[:1] == [0]
    assert result.sizes.tolist() == pytest.approx([found[2] / 2])
    ignored = EvaluationPhotograph(tmp_path / "a.png", nothing, (), found[None], FACES[:0])
    assert find_boxed(bundle, [ignored], 240, 320, 1)[0].scores.max(initial=0) < 0.5
    with pytest.raises(ValueError, match=r"gone\.png: cannot be read as a picture"):
        find_boxed(bundle, [EvaluationPhotograph(tmp_path / "gone.png", nothing, (), nothing, FACES[:0])], 240, 320, 1)
