"""Small fits on Keras' backend: `python small_fits.py TASK OPTIONS FOLDER [TASK OPTIONS FOLDER ...]`.

A task is `run` (a fit to its end), `stop` (half of it), `die` (half of it, ended by SIGKILL) or `refuse` (what it says
of options that it does not take goes to `error.txt`). Options are those of the fit and `loss.sample`, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.devices import join_processes
from slimcam.training.fit.fit import fit
from slimcam.training.tasks.recognition.centers import sampled_centers
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.model import with_classifier
from slimcam.training.tasks.recognition.task import objective


class StoppedError(Exception):
    pass


def until_half(end):
    def stream(self, sizes, start=0):
        for step, batch in enumerate(WHOLE(self, sizes, start), start):
            if step == len(sizes) // 2:
                end()
            yield batch

    return stream


def stop():
    raise StoppedError


def die():
    os.kill(os.getpid(), signal.SIGKILL)


WHOLE = Batches.stream
STREAMS = {"run": WHOLE, "refuse": WHOLE, "stop": until_half(stop), "die": until_half(die)}


def faces() -> FaceSet:
    rng = np.random.default_rng(0)
    labels = np.arange(48, dtype=np.int32) % 4
    pixels = rng.integers(0, 255, (4, 112, 112, 3))[labels] + rng.normal(0, 20, (48, 112, 112, 3))
    return FaceSet(np.clip(pixels, 0, 255).astype(np.uint8), labels, tuple("abcd"))


def network():
    """The initial weights are NumPy's: each backend would draw its own."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3)(x))
    model = keras.Model(inputs, keras.layers.Dense(8, name="embedding")(x))
    draw = np.random.default_rng(1)
    for weight in model.trainable_variables:
        if len(weight.shape) > 1:
            weight.assign(draw.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape))
    return model


def main() -> None:
    join_processes(keras)
    arguments = iter(sys.argv[1:])
    for task, options, name in zip(arguments, arguments, arguments, strict=True):
        folder, chosen = Path(name), json.loads(options)
        loss = LossConfig(scale=8.0, sample=chosen.pop("sample", 1.0))
        settings = {"epochs": 2, "batch_size": 12, "learning_rate": 0.02, "log_seconds": 0, "checkpoint_seconds": 0}
        config = FitConfig(**{**settings, **chosen})
        sampled = sampled_centers(loss, 4, 8, config.batch_size, seed=1) if loss.sample < 1 else None
        model = with_classifier(network(), 4, keras=keras)
        Batches.stream = STREAMS[task]
        batches = Batches(faces(), config.batch_size, AugmentConfig(), seed=1, workers=1)
        try:
            history = fit(model, batches, config, objective(loss), folder, keras=keras, sampled=sampled)
        except StoppedError:
            continue
        except ValueError as error:
            if task != "refuse":
                raise
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(str(error))
            continue
        np.savez(folder / "result.npz", *model.get_weights())
        (folder / "result.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main()
