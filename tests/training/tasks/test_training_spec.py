"""What a stage asks of a training reaches the fit, whatever the task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks import imitation
from slimcam.training.tasks.classification import task as classification
from slimcam.training.tasks.classification.config import ClassifierLossConfig
from slimcam.training.tasks.detection import task as detection
from slimcam.training.tasks.detection.config import DetectorLossConfig
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition import task as recognition
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.task import TrainingSpec

L = keras.layers


@pytest.mark.parametrize(
    ("module", "kind", "loss"),
    [
        (classification, classification.Classification, ClassifierLossConfig()),
        (detection, detection.Detection, DetectorLossConfig()),
        (recognition, recognition.Recognition, LossConfig("none", distillation_weight=1.0)),
    ],
)
def test_rates_recalibration_and_title_reach_the_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: Any, kind: Any, loss: Any
) -> None:
    given: dict[str, Any] = {}
    for place in (module, imitation):
        monkeypatch.setattr(place, "fit", lambda *_, **options: given.update(options) or [], raising=False)
    for name in ("validator", "_batches", "_targets", "input"):
        monkeypatch.setattr(kind, name, lambda *_: None, raising=False)
    monkeypatch.setattr(module, "training_batches", lambda *_: None, raising=False)
    monkeypatch.setattr(module, "SceneBatches", lambda *_: None, raising=False)
    job = Job(SimpleNamespace(train=SimpleNamespace(epoch_scenes=1, workers=1)), {}, tmp_path, tmp_path, tmp_path)
    task = kind(job)
    task.__dict__["data"] = SimpleNamespace(scenes=[], train=SimpleNamespace(unlabeled=0))
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, L.Flatten()(L.Conv2D(2, 4)(inputs)))
    rates = {id(weight): 0.5 for weight in model.weights}
    spec = TrainingSpec(FitConfig(), loss, "dense", None, keras, "a title", np.copy, rates, begin=1.5)

    task.learn(model, spec, job)

    assert (given["title"], given["recalibrate"], given["rates"], given["begin"]) == ("a title", np.copy, rates, 1.5)
