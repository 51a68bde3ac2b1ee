"""The loss of a detector against its definition."""

from __future__ import annotations

import numpy as np

from slimcam.deploy.vision import align, detector
from slimcam.training.tasks.detection import losses
from slimcam.training.tasks.detection.config import DetectorLossConfig
from slimcam.training.tasks.detection.targets import encode


def face(x: float, y: float, size: float) -> np.ndarray:
    return (align.TEMPLATE - align.TEMPLATE.mean(axis=0)) * (size / 72) + (x, y)


FACES = np.stack([face(30, 30, 26), face(70, 40, 44)])


def test_the_loss_is_nought_where_the_answer_is_right_and_where_a_cell_is_ignored():
    truth = encode(FACES, 64, 96)[None]
    right = truth[..., : detector.CHANNELS].copy()
    right[..., 0] *= 3
    loss = losses.detection(DetectorLossConfig())
    assert float(np.max(loss(truth, right))) < 1e-4
    ignored = truth[..., detector.CHANNELS] < 0
    assert ignored.any()
    other = right.copy()
    other[ignored] = 24.0
    assert float(np.max(loss(truth, other))) < 1e-4
    positive = truth[..., detector.CHANNELS] > 0
    for channel, change in ((0, -30.0), (1, 2.0), (11, 2.0)):
        wrong = right.copy()
        wrong[positive, channel] += change
        assert float(np.max(loss(truth, wrong))) > 0.05
    false = right.copy()
    false[truth[..., detector.CHANNELS] == 0] = 4.0
    assert float(np.max(loss(truth, false))) > 1.0


def test_focal_loss_is_that_of_its_paper():
    truth = encode(FACES, 64, 96)[None]
    scores = np.random.default_rng(0).normal(size=truth.shape[:2]).astype(np.float32)
    answer = truth[..., : detector.CHANNELS].copy()
    answer[..., 0] = scores
    flag = truth[..., detector.CHANNELS]
    p = 1 / (1 + np.exp(-scores))
    right = np.where(flag > 0, p, 1 - p)
    alpha = np.where(flag > 0, 0.25, 0.75)
    expected = np.sum(np.where(flag < 0, 0, -alpha * (1 - right) ** 2 * np.log(right))) / np.sum(flag > 0)
    found = losses.detection(DetectorLossConfig(points_weight=0.0))(truth, answer)
    np.testing.assert_allclose(float(np.asarray(found)[0]), expected, rtol=1e-4)


def test_a_model_that_is_imitated_pulls_where_it_sees_faces():
    loss = DetectorLossConfig(distillation_weight=1.0)
    truth = encode(FACES, 64, 96)[None]
    taught = truth[..., : detector.CHANNELS].copy()
    answer = losses.detection(loss)(np.concatenate([truth, taught], axis=2), taught)
    other = taught.copy()
    other[truth[..., detector.CHANNELS] > 0, 5] += 1.0
    moved = losses.detection(loss)(np.concatenate([truth, other], axis=2), taught)
    assert float(np.asarray(moved)[0]) > float(np.asarray(answer)[0]) + 0.01


def test_of_a_face_known_by_its_box_the_size_and_the_middle_of_the_points_are_learned():
    truth = encode(FACES, 64, 96, boxed=np.array([True, True]))[None]
    answer = truth[..., : detector.CHANNELS].copy()
    answer[..., 0] *= 3
    loss = losses.detection(DetectorLossConfig())
    positive = truth[..., detector.CHANNELS] > 0
    spread = answer.copy()
    spread[positive, 2:] += np.array([2, 0, -2, 0, 0, 1, 0, -1, 0, 0])
    assert float(np.max(loss(truth, spread))) < 1e-4, "where in the face its points are is not known"
    for changed in (slice(1, 2), slice(2, None, 2), slice(3, None, 2)):
        wrong = answer.copy()
        wrong[positive, changed] += 2.0
        assert float(np.max(loss(truth, wrong))) > 0.05
    missed = answer.copy()
    missed[positive, 0] = -8.0
    assert float(np.max(loss(truth, missed))) > 0.05
