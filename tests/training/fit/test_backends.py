"""A fit begun on one backend goes on with another as if it had never stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")

# Does the tasks `stop OPTIONS FOLDER` (half of a fit) and `run OPTIONS FOLDER` (to its end) on one backend. The initial
# weights are numpy's: each backend would draw its own.
DRIVER = """
import json, sys
from pathlib import Path
import keras, numpy as np
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.fit import fit
from slimcam.training.tasks.recognition.model import with_classifier
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.task import objective

rng = np.random.default_rng(0)
labels = np.arange(48, dtype=np.int32) % 4
pixels = rng.integers(0, 255, (4, 112, 112, 3))[labels] + rng.normal(0, 20, (48, 112, 112, 3))
faces = FaceSet(np.clip(pixels, 0, 255).astype(np.uint8), labels, tuple("abcd"))

class Stopped(Exception):
    pass

def stopping(self, sizes, start=0):
    for step, batch in enumerate(whole_stream(self, sizes, start), start):
        if step == len(sizes) // 2:
            raise Stopped
        yield batch

def network():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3)(x))
    model = keras.Model(inputs, keras.layers.Dense(8, name="embedding")(x))
    draw = np.random.default_rng(1)
    for weight in model.trainable_variables:
        if len(weight.shape) > 1:
            weight.assign(draw.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape))
    return with_classifier(model, 4, keras=keras)

whole_stream = Batches.stream
for task, options, folder in zip(*[iter(sys.argv[1:])] * 3):
    model = network()
    batches = Batches(faces, 12, AugmentConfig(), seed=1, workers=1)
    settings = {"epochs": 2, "batch_size": 12, "learning_rate": 0.02, "log_seconds": 0, "checkpoint_seconds": 0}
    config = FitConfig(**settings, **json.loads(options))
    Batches.stream = stopping if task == "stop" else whole_stream
    try:
        history = fit(model, batches, config, objective(LossConfig(scale=8.0)), Path(folder), keras=keras)
    except Stopped:
        continue
    np.savez(Path(folder) / "result.npz", *model.get_weights())
    (Path(folder) / "result.json").write_text(json.dumps(history))
"""

# What is fitted, and how far the backends may be apart for rounding, relative.
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "sgd": ({"optimizer": "sgd"}, 1e-3),
    "adamw_ema_sizes": ({"optimizer": "adamw", "ema": 0.9, "sizes": [24, 32]}, 1e-3),
    "muon": ({"optimizer": "muon", "clip_norm": 0.0}, 1e-3),
    "bfloat16": ({"optimizer": "sgd", "precision": "bfloat16"}, 0.02),
}


def work(backend: str, *tasks: tuple[str, str], root: Path) -> None:
    """Does (task, folder) for every case, on a backend of its own process."""
    arguments: list[str] = []
    for case, (options, _) in CASES.items():
        for task, folder in tasks:
            arguments += [task, json.dumps(options), str(root / case / folder)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case: whole on either backend, and begun on each and ended on the other."""
    root = tmp_path_factory.mktemp("fits")
    work("tensorflow", ("run", "tensorflow"), ("stop", "to_jax"), root=root)
    work("jax", ("run", "jax"), ("run", "to_jax"), ("stop", "to_tensorflow"), root=root)
    work("tensorflow", ("run", "to_tensorflow"), root=root)
    return root


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((folder / "result.json").read_text())]


@pytest.mark.parametrize("name", ["jax", "to_jax", "to_tensorflow"])
@pytest.mark.parametrize("case", list(CASES))
def test_a_fit_on_two_backends_is_that_on_one(case: str, name: str, fits: Path) -> None:
    tolerance = CASES[case][1]
    expected = losses(fits / case / "tensorflow")
    assert len(expected) == 8
    np.testing.assert_allclose(losses(fits / case / name), expected, rtol=tolerance)
    whole, result = (np.load(fits / case / folder / "result.npz") for folder in ("tensorflow", name))
    assert result.files == whole.files
    for key in whole.files:
        np.testing.assert_allclose(result[key], whole[key], atol=10 * tolerance * np.abs(whole[key]).max() + 1e-6)
