"""Kernels before BatchNormalization get the norm of freshly initialized ones; the model computes what it did."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.compression.pruning.rescale import rescale_kernels

IMAGES = np.random.default_rng(0).normal(size=(8, 12, 12, 3)).astype(np.float32)


def trained(outputs, inputs):
    """A model with kernels of far larger norms than initial ones, and statistics that are not the initial ones."""
    rng = np.random.default_rng(1)
    model = keras.Model(inputs, outputs)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.moving_mean.shape
            values = [
                *(rng.normal(size=shape) for weight in (layer.gamma, layer.beta) if weight is not None),
                5 * rng.normal(size=shape),
                rng.uniform(5, 50, shape),
            ]
            layer.set_weights([value.astype(np.float32) for value in values])
        elif layer.get_weights():
            layer.set_weights([rng.normal(size=value.shape).astype(np.float32) for value in layer.get_weights()])
    return model


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (layers.Conv2D, {"filters": 16, "kernel_size": 3}),
        (layers.Conv2D, {"filters": 15, "kernel_size": 3, "use_bias": False, "groups": 3}),
        (layers.Conv2DTranspose, {"filters": 16, "kernel_size": 3}),
        (layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 4}),
        (layers.SeparableConv2D, {"filters": 16, "kernel_size": 3}),
        (layers.Dense, {"units": 16}),
    ],
)
def test_the_kernel_gets_the_norm_of_a_freshly_initialized_one_and_the_model_computes_the_same(made, options):
    keras.utils.set_random_seed(0)
    layer = made(**options)
    inputs = keras.Input((12, 12, 3))
    model = trained(layers.BatchNormalization()(layer(inputs)), inputs)
    before = model.predict(IMAGES, verbose=0)
    assert rescale_kernels(model) == [layer.name]
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-4)
    fresh = made(**options)
    fresh.build((None, 12, 12, 3))
    for now, initial in zip(layer.get_weights(), fresh.get_weights(), strict=True):
        if initial.ndim > 1:
            assert now.std() == pytest.approx(initial.std(), rel=0.25)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_model_computes_the_same_by_statistics_that_are_measured_again(factor):
    """The epsilon weighs more, or less, against the variance of a kernel of another norm."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    layer = layers.Conv2D(16, 3)
    model = keras.Model(inputs, layers.BatchNormalization()(layer(inputs)))
    layer.kernel.assign(layer.kernel * factor)
    recalibrate_batch_norm(model, [IMAGES])
    before = model(IMAGES, training=True)
    assert rescale_kernels(model) == [layer.name]
    recalibrate_batch_norm(model, [IMAGES])
    for training in (False, True):
        np.testing.assert_allclose(model(IMAGES, training=training), before, rtol=1e-3, atol=1e-3)


def test_a_normalization_without_a_scale_has_the_epsilon_in_its_variance():
    inputs = keras.Input((12, 12, 3))
    layer = layers.Conv2D(16, 3)
    model = trained(layers.BatchNormalization(scale=False)(layer(inputs)), inputs)
    before = model(IMAGES)
    assert rescale_kernels(model) == [layer.name]
    np.testing.assert_allclose(model(IMAGES), before, rtol=1e-3, atol=1e-4)


def test_kernels_whose_norm_matters_stay():
    inputs = keras.Input((12, 12, 3))
    active = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu", name="active")(inputs))
    twice = layers.Conv2D(4, 3, name="twice")(active)
    added = layers.Add()([layers.BatchNormalization()(twice), twice])
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    normalized = layers.BatchNormalization()(shared(shared(added)))
    bare = layers.Conv2D(4, 3, name="bare")(normalized)
    before_norm = layers.Conv2D(4, 1, name="output")(bare)
    model = trained([before_norm, layers.BatchNormalization()(before_norm)], inputs)
    weights = model.get_weights()
    assert rescale_kernels(model) == []
    for was, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def test_a_kernel_of_equal_weights_has_a_norm_too():
    inputs = keras.Input((12, 12, 3))
    layer = layers.Conv2D(4, 3, use_bias=False)
    model = keras.Model(inputs, layers.BatchNormalization()(layer(inputs)))
    layer.set_weights([np.full((3, 3, 3, 4), 2.0, np.float32)])
    assert rescale_kernels(model) == [layer.name]
    assert 0 < np.abs(layer.get_weights()[0]).max() < 1


def test_a_kernel_of_zeros_stays():
    inputs = keras.Input((12, 12, 3))
    layer = layers.Conv2D(4, 3)
    model = keras.Model(inputs, layers.BatchNormalization()(layer(inputs)))
    layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    assert rescale_kernels(model) == []
    assert np.isfinite(model.predict(IMAGES, verbose=0)).all()
