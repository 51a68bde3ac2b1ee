"""The task of finding faces."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from slimcam.deploy.vision import align, detector_output
from slimcam.training.data.detection.scene import Scene
from slimcam.training.data.detection.scenes import ScenesConfig
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.fit import fit
from slimcam.training.tasks.detection import metrics
from slimcam.training.tasks.detection.batches import SceneBatches
from slimcam.training.tasks.detection.config import DetectorConfig, DetectorLossConfig, DetectorTrainConfig
from slimcam.training.tasks.detection.network import network
from slimcam.training.tasks.detection.targets import encode
from slimcam.training.tasks.detection.task import Detection, objective, recall_on
from slimcam.training.tasks.job import Job

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
        x, y, w, h = metrics.face_boxes(points)[0].astype(int)
        image[max(y, 0) : y + h, max(x, 0) : x + w] = 220
        return Scene(image, points)


def test_what_training_encodes_the_device_decodes():
    rows = encode(FACES, 64, 96)
    assert rows.shape == (detector_output.cell_centers(64, 96).shape[0], detector_output.CHANNELS + 1)
    found = detector_output.decode_faces(rows[:, : detector_output.CHANNELS], 64, 96, 0.5)
    assert len(found) == 2
    order = np.argsort(found.points[:, 0, 0])
    np.testing.assert_allclose(found.points[order], FACES, atol=1e-3)


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


def test_a_validation_is_the_recall_of_the_model_in_training():
    scenes = [Scene(np.full((64, 96, 3), value, np.uint8), FACES) for value in (10, 20)]
    rows = encode(FACES, 64, 96)[:, : detector_output.CHANNELS]
    blind = np.full_like(rows, -8.0)

    class Model:
        def __init__(self, outputs):
            self.outputs = outputs

        def predict_on_batch(self, images):
            assert images.shape == (2, 64, 96, 3)
            return np.stack(self.outputs)

    large = align.face_sizes(FACES) >= 24
    assert recall_on(scenes)(Model([rows, rows])) == 1.0
    assert recall_on(scenes)(Model([rows, blind])) == 0.5
    assert large.any()
