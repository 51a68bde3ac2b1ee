"""The task of finding faces: the network, what it learns by, and what it is judged by."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from deploy.vision import align, detector
from training import detection, losses
from training.data.detection.scenes import ScenesConfig
from training.data.recognition.synthetic import SyntheticConfig
from training.detection import SIZES, encode, match
from training.detector import (
    Detection,
    DetectorConfig,
    DetectorLossConfig,
    DetectorTrainConfig,
    SceneBatches,
    judgement,
    network,
    objective,
)
from training.fit.config import FitConfig
from training.fit.fit import fit
from training.tasks.job import Job

SMALL = DetectorConfig(height=64, width=96, channels=[4, 8, 8, 8, 8], blocks=[1, 0, 1, 0])


def face(x: float, y: float, size: float) -> np.ndarray:
    return (align.TEMPLATE - align.TEMPLATE.mean(axis=0)) * (size / 72) + (x, y)


FACES = np.stack([face(30, 30, 26), face(70, 40, 44)])


class Drawn:
    """Scenes of one bright square a face, the same few again and again."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rng = np.random.default_rng(index % 4)
        points = np.stack([face(*rng.uniform(25, 55, 2), rng.uniform(20, 36))])
        image = np.full((64, 96, 3), 60, np.uint8)
        x, y, w, h = detection.face_boxes(points)[0].astype(int)
        image[max(y, 0) : y + h, max(x, 0) : x + w] = 220
        return SimpleNamespace(image=image, points=points)


def test_what_training_encodes_the_device_decodes():
    rows = encode(FACES, 64, 96)
    assert rows.shape == (detector.cells(64, 96).shape[0], detector.CHANNELS + 1)
    found = detector.decode(rows[:, : detector.CHANNELS], 64, 96, 0.5)
    assert len(found) == 2
    order = np.argsort(found.points[:, 0, 0])
    np.testing.assert_allclose(found.points[order], FACES, atol=1e-3)


def test_the_network_has_a_row_for_each_cell_and_says_at_first_that_all_are_empty():
    model = network(SMALL)
    assert model.output_shape == (None, len(detector.cells(64, 96)), detector.CHANNELS)
    output = model.predict(np.zeros((1, 64, 96, 3), np.float32), verbose=0)
    assert np.all(output[..., 0] < -3)
    odd = network(replace(SMALL, height=72, width=100))
    assert odd.output_shape[1] == len(detector.cells(72, 100))


def test_the_loss_is_nought_where_the_answer_is_right_and_not_judged_where_that_is_said():
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


def test_a_detector_learns_and_its_scenes_are_the_same_for_any_number_of_threads(tmp_path):
    one, many = (SceneBatches(Drawn(), 4, 400, workers) for workers in (1, 3))
    for a, b in zip(one.stream([64] * 3), many.stream([64] * 3), strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.truth, b.truth)
    keras.utils.set_random_seed(0)
    model = network(SMALL)
    config = FitConfig(epochs=0.6, batch_size=4, optimizer="adamw", learning_rate=5e-3, log_seconds=0.0)
    history = fit(model, one, config, objective(DetectorLossConfig()), tmp_path, keras=keras)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


def test_the_judgement_tells_recall_and_its_change_against_the_dense_model():
    scenes = [FACES[:1] + shift for shift in range(10)]
    perfect = [match(points, np.array([0.9], np.float32), points) for points in scenes]
    half = [
        match(points if i % 2 else points[:0], np.array([0.9] if i % 2 else [], np.float32), points)
        for i, points in enumerate(scenes)
    ]
    models = {"dense": perfect, "pruned": half, "quantized": half}
    found = judgement({"photos": models, "scenes": models}, [0.1])
    assert found.accuracies == {"dense": 1.0, "pruned": 0.5, "quantized": 0.5}
    assert found.changes["quantized"]["difference"] == pytest.approx(-0.5)
    assert [table.title for table in found.tables] == ["Faces found in photos", "Faces found in scenes"]
    for table in found.tables:
        assert all(len(cells) == len(table.columns) for cells in table.rows.values())
    assert set(found.figures["scenes"]) == set(SIZES)
    assert "recall 50.00 % of faces from 24 pixels on in 10 scenes" in found.facts[1]


def test_sections_of_another_task_are_refused(tmp_path):
    def task(data, model, **changes):
        train = DetectorTrainConfig()
        config = SimpleNamespace(data=data, model=model, train=train, **changes)
        return Detection(Job(config, {}, tmp_path, tmp_path, tmp_path))

    with pytest.raises(ValueError, match="set task=detection"):
        task(ScenesConfig(), SimpleNamespace()).build()
    with pytest.raises(ValueError, match="the scenes are 240x320, the model takes 64x96"):
        task(ScenesConfig(), SMALL).build()
    assert SyntheticConfig.task == "recognition"
    with pytest.raises(ValueError, match="channels are 5 numbers"):
        DetectorConfig(channels=[8])
    with pytest.raises(ValueError, match="weights of losses"):
        DetectorLossConfig(points_weight=-1)
