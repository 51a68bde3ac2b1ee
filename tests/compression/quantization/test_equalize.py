"""Channels get similar ranges, the model computes what it did, and what factors cannot pass stays."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from slimcam.compression.quantization import qat
from slimcam.compression.quantization.equalize import equalize
from slimcam.compression.quantization.keras2 import to_tf_keras

IMAGES = np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype(np.float32)


def uneven(model, *names):
    """Makes one channel in eight of what these layers write thirty times as large as the others."""
    for name in names:
        layer = model.get_layer(name)
        weights = layer.get_weights()
        strong = np.where(np.arange(weights[0].shape[-1]) % 8 == 0, 30, 1).astype(np.float32)
        layer.set_weights([weights[0] * strong, *weights[1:]])
    return model


def peaks(model, name):
    values = keras.Model(model.inputs, model.get_layer(name).output).predict(IMAGES, verbose=0)
    return np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)


def test_a_residual_stream_is_equalized_and_the_model_computes_the_same():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    stem = layers.BatchNormalization(name="stem")(layers.Conv2D(32, 3, padding="same")(inputs))
    x = layers.ReLU()(stem)
    inside = layers.ReLU()(layers.BatchNormalization(name="inside")(layers.Conv2D(16, 1)(x)))
    inside = layers.ZeroPadding2D()(inside)
    inside = layers.DepthwiseConv2D(3, name="depthwise")(inside)
    x = layers.Add(name="sum")([x, layers.BatchNormalization(name="end")(layers.Conv2D(32, 1)(inside))])
    x = layers.MaxPooling2D()(layers.LeakyReLU()(x))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Dropout(0.1)(x))
    model = uneven(keras.Model(inputs, layers.Dense(8, name="head")(x)), "stem", "inside", "end")
    before, uneven_before = model.predict(IMAGES, verbose=0), peaks(model, "pool")
    assert equalize(model, [IMAGES]) == 3  # the stream, the inside of its block before and after the depthwise kernel
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-4)
    spread = [np.std(np.log(values)) for values in (peaks(model, "pool"), uneven_before)]
    assert spread[0] < 0.7 * spread[1]


@pytest.mark.parametrize("reach", [2.0, 50.0])
def test_channels_below_the_limit_of_relu6_are_equalized_and_those_that_reach_it_keep_theirs(reach):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.ReLU(max_value=6, name="cut")(layers.BatchNormalization(name="first")(layers.Conv2D(16, 3)(inputs)))
    x = layers.AveragePooling2D(2)(x)
    model = keras.Model(inputs, layers.Conv2D(8, 1, name="head")(x))
    gamma, *others = model.get_layer("first").get_weights()
    gamma = np.where(np.arange(16) % 8 == 0, reach, 0.1).astype(np.float32)
    model.get_layer("first").set_weights([gamma, *others])
    before, was = model.predict(IMAGES, verbose=0), peaks(model, "cut")
    assert equalize(model, [IMAGES]) == 1
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-4)
    now = peaks(model, "cut")
    assert now.max() <= 6
    assert np.std(np.log(now)) < 0.7 * np.std(np.log(was))
    if reach == 50:
        np.testing.assert_array_equal(model.get_layer("first").gamma.numpy()[::8], gamma[::8])


def test_int8_loses_less_of_even_channels():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.ReLU()(layers.BatchNormalization(name="first")(layers.Conv2D(32, 3)(inputs)))
    x = layers.GlobalAveragePooling2D()(x)
    model = uneven(keras.Model(inputs, layers.Dense(8, name="head")(x)), "first")
    kernel, bias = model.get_layer("head").get_weights()
    kernel[::8] /= 30  # what is strong is read weakly: all channels matter alike
    model.get_layer("head").set_weights([kernel, bias])
    images = IMAGES.clip(*qat.PIXEL_RANGE)
    exact = model.predict(images, verbose=0)

    def error():
        quantized = qat.quantize_aware(to_tf_keras(model))
        qat.calibrate(quantized, [images])
        return np.square(quantized.predict(images, verbose=0) - exact).mean()

    before = error()
    equalize(model, [images])
    assert error() < 0.5 * before


@pytest.mark.parametrize(
    "between",
    [
        layers.ReLU(threshold=0.5),
        layers.Activation("sigmoid"),
        layers.BatchNormalization(scale=False),
        layers.LayerNormalization(),
        layers.Conv2D(32, 3, groups=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_factors_cannot_pass_stays_as_it_is(between):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(32, 3, name="first")(inputs)
    x = layers.LayerNormalization()(between(x))
    model = uneven(keras.Model(inputs, layers.Conv2D(8, 1)(x)), "first")
    weights = model.get_weights()
    assert equalize(model, [IMAGES]) == 0
    for was, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def test_a_sum_with_a_constant_stays_as_it_is():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.Add()([layers.Conv2D(32, 3, name="first")(inputs), np.ones((1, 1, 1, 32), np.float32)])
    model = uneven(keras.Model(inputs, layers.Conv2D(8, 1)(x)), "first")
    assert equalize(model, [IMAGES]) == 0


def test_outputs_inputs_and_shared_layers_stay_as_they_are():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 8))
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    seen = layers.Conv2D(8, 1, name="seen")(shared(shared(inputs)))
    model = uneven(keras.Model(inputs, [seen, layers.Conv2D(4, 1)(seen)]), "shared", "seen")
    assert equalize(model, [np.repeat(IMAGES, 3, axis=-1)[..., :8]]) == 0


def test_dead_channels_and_layers_that_are_dead_throughout_stay_finite():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.ReLU()(layers.Conv2D(16, 3, name="half")(inputs))
    x = layers.ReLU()(layers.Conv2D(16, 1, name="dead")(x))
    model = keras.Model(inputs, layers.Conv2D(4, 1, name="head")(x))
    for name, channels in (("half", slice(8)), ("dead", slice(None))):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[..., channels] = 0
        model.get_layer(name).set_weights([kernel, bias])
    before = model.predict(IMAGES, verbose=0)
    assert equalize(model, [IMAGES]) == 2
    assert all(np.isfinite(value).all() for value in model.get_weights())
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-5)


def test_an_image_that_is_not_a_number_is_refused():
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 1)(layers.Conv2D(8, 3, name="first")(inputs)))
    with pytest.raises(ValueError, match="not finite"):
        equalize(model, [np.full_like(IMAGES, np.nan)])


def test_without_a_batch_there_is_nothing_to_go_by():
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 1)(layers.Conv2D(8, 3)(inputs)))
    with pytest.raises(ValueError, match="at least one batch"):
        equalize(model, [])


def test_factors_pass_transposed_and_separable_kernels_and_batch_norm_without_beta():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.ReLU()(layers.Conv2DTranspose(16, 3, name="transposed")(inputs))
    x = layers.ReLU()(layers.SeparableConv2D(16, 3, name="separable")(x))
    x = layers.ReLU()(layers.BatchNormalization(center=False)(layers.Conv2DTranspose(16, 3)(x)))
    model = uneven(keras.Model(inputs, layers.Conv2D(4, 1)(x)), "separable")
    before = model.predict(IMAGES, verbose=0)
    assert equalize(model, [IMAGES]) == 3
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-3)
