"""`python -m slimcam.training.tools.profile`: how fast a model trains on this machine, and what takes the time.

Everything is measured side by side in one run: the training step as Keras has it and with each thing that
`slimcam.training.fit.accelerate` changes, the same at several image sizes, the optimizer alone, and the input pipeline
alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from slimcam.training.data.images import IMAGE_SIZE
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.accelerate import accelerated
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.recognition.losses import distillation
from slimcam.training.tasks.recognition.model import ModelConfig, build


def main() -> None:
    """Prints one line for each measurement: images (or updates) a second."""
    options = _options()
    model = _model(options)
    print(f"{model.name}: {model.count_params():,} weights, batches of {options.batch}, {keras.backend.backend()}")
    plain = FitConfig()
    bfloat16 = FitConfig(precision="bfloat16", sizes=[IMAGE_SIZE])
    size = int(model.inputs[0].shape[1])
    variants: list[tuple[str, Any, int, bool]] = [
        ("as Keras has it", model, size, False),
        ("as Keras has it, compiled by XLA", model, size, True),
        ("fused normalization", accelerated(model, plain), size, False),
        ("fused normalization, bfloat16", accelerated(model, bfloat16), size, False),
    ]
    variants += [(f"the same at {small} px", accelerated(model, bfloat16), small, False) for small in options.sizes]
    for name, learner, pixels, xla in variants:
        step = _step(learner, pixels, options.batch, xla)
        _report(name, _rate(step, options.seconds) * options.batch, "images/s")
    _report("optimizer alone (AdamW)", _rate(_update(model), options.seconds), "updates/s")
    _report("input pipeline alone", _rate(_pipeline(options.batch), options.seconds) * options.batch, "images/s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.profile", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("model", nargs="?", help="a .keras file (default: ResNet-50 with an embedding of 128)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[96, 80, 64], help="further image sizes, in pixels")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each measurement (default: %(default)s)")
    return parser.parse_args()


def _model(options: argparse.Namespace) -> Any:
    if options.model is None:
        return build(ModelConfig(embedding_size=128))
    return keras.saving.load_model(options.model, compile=False)


def _step(model: Any, size: int, batch: int, xla: bool) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
    targets = rng.normal(size=(batch, int(model.output_shape[-1]))).astype(np.float32)
    learner = keras.Model(model.inputs, model.outputs[0])
    learner.compile(optimizer=_optimizer(), loss=distillation, jit_compile=xla)
    return lambda: learner.train_on_batch(images, targets)


def _update(model: Any) -> Callable[[], object]:
    variables = model.trainable_variables
    optimizer = _optimizer()
    optimizer.build(variables)
    gradients = [keras.ops.ones(variable.shape) for variable in variables]
    return lambda: optimizer.apply(gradients, variables)


def _pipeline(batch: int) -> Callable[[], object]:
    images = np.random.default_rng(0).integers(0, 256, (256, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    faces = FaceSet(images, np.zeros(len(images), np.int32), ("one",))
    stream = Batches(faces, batch, AugmentConfig(), seed=0).stream([IMAGE_SIZE] * 1_000_000)
    return lambda: next(stream)


def _optimizer() -> Any:
    return keras.optimizers.AdamW(learning_rate=1e-4, weight_decay=0.01, global_clipnorm=1.0)


def _rate(step: Callable[[], object], seconds: float) -> float:
    for _ in range(3):  # tracing, compiling, first allocations
        step()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        count += 1
    return count / elapsed


def _report(name: str, rate: float, unit: str) -> None:
    print(f"{name:40} {rate:10.1f} {unit}", flush=True)


if __name__ == "__main__":
    main()
