"""Tiny real TFLite models for every test that needs one; and processes that tests start hear Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter as interpreter_module
from hypothesis import settings

from slimcam.deploy.common.console import log_to_console
from slimcam.deploy.inference.bundle import Bundle, InputSpec, write_bundle

SIZE = 32
EMBEDDING = 8

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes says how busy the machine is.
settings.register_profile("slimcam", deadline=None)
settings.load_profile("slimcam")


@pytest.fixture(autouse=True)
def console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees the lines that the user of a console script sees, whatever a test before it changed."""
    # Applications ask Hydra for tracebacks, which they make lines of.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    log_to_console(to_stdout=("slimcam.pipeline", "slimcam.training"))


@pytest.fixture(scope="session")
def float_model() -> bytes:
    """Float32, `(1, 32, 32, 3)` to `(1, 8)`: every operator can be delegated."""
    return _convert(_network(), int8=False)


@pytest.fixture(scope="session")
def int8_model() -> bytes:
    """The same after post-training quantization, int8 in and out."""
    return _convert(_network(), int8=True)


@pytest.fixture(scope="session")
def split_model() -> bytes:
    """int8 with an average pooling in the middle, which XNNPACK leaves to TFLite."""
    import keras

    return _convert(_network(keras.layers.AveragePooling2D(2)), int8=True)


@pytest.fixture(scope="session")
def island_model() -> bytes:
    """int8 with a sine in the middle, which TFLite has in float only."""
    import keras

    return _convert(_network(keras.ops.sin), int8=True)


@pytest.fixture
def make_bundle(tmp_path: Path, int8_model: bytes) -> Callable[..., Bundle]:
    """Writes a bundle of the int8 model, with what the test changes."""

    def make(folder: Path = tmp_path / "bundle", **changes: Any) -> Bundle:
        images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
        facts: dict[str, Any] = {
            "name": "tiny",
            "model": int8_model,
            "input": InputSpec(SIZE, SIZE),
            "task": "recognition",
            "golden_input": images,
            "golden_output": embeddings_of(int8_model, images),
            "provenance": {"stage": "test"},
            "license": "none",
            "card": "# tiny\n",
        }
        return write_bundle(folder, **{**facts, **changes})

    return make


def embeddings_of(int8_model: bytes, images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, Any]:
    """What the int8 model gives for uint8 images, computed with TFLite's reference kernels."""
    interpreter = interpreter_module.Interpreter(
        model_content=int8_model, experimental_op_resolver_type=interpreter_module.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in images:
        scale, zero_point = taken["quantization"]
        pixels = (image.astype(np.float64) - 128.0) / 128.0
        quantized = np.clip(np.round(pixels / scale + zero_point), -128, 127).astype(np.int8)
        interpreter.set_tensor(taken["index"], quantized[np.newaxis])
        interpreter.invoke()
        scale, zero_point = given["quantization"]
        rows.append((interpreter.get_tensor(given["index"])[0].astype(np.float32) - zero_point) * scale)
    return np.array(rows, np.float32)


def _network(extra: Any = None) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), batch_size=1)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
    y = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = keras.layers.Add()([x, y])
    if extra is not None:
        x = extra(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(image, keras.layers.Flatten()(keras.layers.Conv2D(EMBEDDING, 1)(x)))


def _convert(network: Any, *, int8: bool) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if int8:
        rng = np.random.default_rng(0)
        samples = rng.uniform(-1, 1, (8, 1, SIZE, SIZE, 3)).astype(np.float32)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model
