"""Random networks: the normal form computes what the network does, each int8 operator what its layers do.

A few of each here; more by `SLIMCAM_NETWORKS=500 pytest tests/compression/test_random_networks.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from slimcam import compression
from slimcam.compression.quantization.errors import file_steps
from slimcam.deploy.inference.interpreter import Interpreter

L, ops = keras.layers, keras.ops
SHAPE = (12, 12, 3)
ACTIVATIONS = ("relu", "relu6", "silu", "hard_silu", "hard_sigmoid", "sigmoid", "tanh", "leaky_relu", "linear")

NUMBER = int(os.environ.get("SLIMCAM_NETWORKS", "0"))
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def many(few: int) -> Any:
    """Settings of a test that trains nothing: a few networks, or as many as are asked for."""
    return settings(max_examples=NUMBER or few, derandomize=not NUMBER, suppress_health_check=SLOW, print_blob=True)


def activation(draw: Any) -> Any:
    return L.Activation(draw(st.sampled_from(ACTIVATIONS)))


def convolution(x: Any, draw: Any) -> Any:
    filters, size = draw(st.sampled_from([4, 8])), draw(st.sampled_from([1, 3]))
    return L.Conv2D(filters, size, padding="same", use_bias=draw(st.booleans()))(x)


def normalized(x: Any, draw: Any) -> Any:
    return activation(draw)(L.BatchNormalization(scale=draw(st.booleans()))(convolution(x, draw)))


def pre_activated(x: Any, draw: Any) -> Any:
    return convolution(activation(draw)(L.BatchNormalization()(x)), draw)


def depthwise(x: Any, draw: Any) -> Any:
    multiplier = draw(st.sampled_from([1, 2]))
    return L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(x)))


def separable(x: Any, draw: Any) -> Any:
    return activation(draw)(L.SeparableConv2D(draw(st.sampled_from([4, 8])), 3, padding="same")(x))


def grouped(x: Any, _: Any) -> Any:
    return L.ReLU()(L.Conv2D(8, 3, padding="same", groups=2)(L.Conv2D(8, 1)(x)))


def residual(x: Any, draw: Any) -> Any:
    y = L.Conv2D(x.shape[-1], 3, padding="same")(activation(draw)(x))
    return L.ReLU()(L.Add()([L.BatchNormalization()(y), x]))


def branches(x: Any, draw: Any) -> Any:
    parts = [convolution(x, draw), L.AveragePooling2D(3, 1, padding="same")(x), L.MaxPooling2D(3, 1, padding="same")(x)]
    return L.Concatenate()(parts[: draw(st.integers(2, 3))])


def excited(x: Any, draw: Any) -> Any:
    y = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.Conv2D(x.shape[-1], 1, activation=draw(st.sampled_from(["sigmoid", "hard_sigmoid"])))(L.Conv2D(4, 1)(y))
    return L.Multiply()([x, y])


def arithmetic(x: Any, draw: Any) -> Any:
    factor = draw(st.sampled_from([0.5, -0.25, 2.0]))
    return draw(st.sampled_from([lambda: x * factor + 0.5, lambda: x - factor, lambda: ops.clip(x, -1.0, 1.0)]))()


def nested(x: Any, draw: Any) -> Any:
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, normalized(inner, draw))(x)


def resized(x: Any, _: Any) -> Any:
    return L.UpSampling2D()(L.AveragePooling2D(2)(x))


BLOCKS: tuple[Callable[[Any, Any], Any], ...] = (
    normalized,
    pre_activated,
    depthwise,
    separable,
    grouped,
    residual,
    branches,
    excited,
    arithmetic,
    nested,
    resized,
)


@st.composite
def networks(draw: Any) -> Any:
    keras.utils.set_random_seed(draw(st.integers(0, 1000)))
    image = keras.Input(SHAPE)
    x = L.Rescaling(0.5, 0.1)(image) if draw(st.booleans()) else image
    x = normalized(x, draw)
    chosen = draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4))
    note(" ".join(block.__name__ for block in chosen))
    for block in chosen:
        x = block(x, draw)
    x = L.Conv2D(4, 1)(L.GlobalAveragePooling2D(keepdims=True)(L.ReLU()(convolution(x, draw))))
    model = keras.Model(image, L.Flatten()(x))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    for layer in model._flatten_layers(include_self=False):
        for weight in layer.weights if not isinstance(layer, keras.Model) else ():
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("beta", "bias", "moving_mean"):
                weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def images(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-1, 127 / 128, (count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("int8", [False, True])
@many(10)
@given(model=networks())
def test_normal_form_computes_the_same(int8: bool, model: Any) -> None:
    x = images(4)
    expected = np.asarray(model(x, training=False))
    found = np.asarray(compression.normalize(model, int8=int8).model(x, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@many(4)
@given(model=networks())
def test_each_int8_operator_computes_what_its_layers_do(model: Any) -> None:
    x = images(8)
    normal = compression.normalize(model, int8=True).model
    compression.equalize(normal, [x])
    trainable = compression.quantize_aware(compression.to_tf_keras(normal), input_range=(-1.0, 127 / 128))
    compression.calibrate(trainable, [x])
    content = compression.int8_tflite(trainable)
    delegation = Interpreter(content).delegation()
    assert delegation.left_out == ()
    steps = file_steps(content, trainable, [x])
    note(str(steps))
    assert len(steps) >= 0.8 * delegation.total
    # Rounding of the last bit: a product is off by less than a step, a mean by one.
    assert max(steps.values()) < 1
