"""The faster copy of a model computes what the model computes, and learns what it learns."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from slimcam.training.fit.accelerate import accelerated
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.own_backbones import small_resnet
from slimcam.training.tasks.recognition.losses import distillation

IMAGES = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)


@pytest.fixture(params=[8, 16, 6], ids="{} channels".format)
def model(request):
    """Of widths that the fused kernel is fast at, and of others."""
    keras.utils.set_random_seed(0)
    features = small_resnet(input_shape=(32, 32, 3), width=request.param)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(features.output)
    return keras.Model(features.input, keras.layers.Flatten()(pooled))


def trained(model, steps=3):
    learner = keras.Model(model.inputs, model.outputs[0])
    learner.compile(optimizer=keras.optimizers.SGD(0.05), loss=distillation, jit_compile=False)
    targets = np.random.default_rng(1).normal(size=(8, model.output_shape[-1])).astype(np.float32)
    for _ in range(steps):
        learner.train_on_batch(IMAGES, targets)
    return learner


def test_the_copy_starts_equal_and_learns_the_same(model):
    copy = accelerated(model, FitConfig())
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES), atol=1e-5)
    for a, b in zip(trained(copy).get_weights(), trained(model).get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_the_copy_leaves_the_model_alone(model):
    before = model.get_weights()
    trained(accelerated(model, FitConfig()))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("own", "steps", "momentum"), [(0.999, 100, 0.9), (0.999, 20000, 0.999), (0.99, 2, 0.5)])
def test_moving_statistics_forget_initial_ones_within_the_fit(own, steps, momentum):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=own)(inputs))
    copy = accelerated(model, FitConfig(), steps)
    assert copy.layers[-1].momentum == pytest.approx(momentum)
    assert accelerated(model, FitConfig()).layers[-1].momentum == own
    for _ in range(steps if steps <= 100 else 0):
        copy(IMAGES[:, :8, :8] + 3.0, training=True)
    if steps == 100:
        np.testing.assert_allclose(copy.layers[-1].moving_mean, 3.0 + IMAGES[:, :8, :8].mean((0, 1, 2)), atol=1e-3)


def test_bfloat16_is_for_feature_maps_and_not_for_weights_or_embeddings(model):
    copy = accelerated(model, FitConfig(precision="bfloat16"))
    kinds = {layer.name: layer.compute_dtype for layer in copy.layers}
    assert kinds[model.layers[-1].name] == "float32"
    assert sum(kind == "bfloat16" for kind in kinds.values()) > 10
    assert {weight.dtype for weight in copy.get_weights()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES), atol=0.05)


def test_a_normalization_without_scale_is_left_as_keras_has_it():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(scale=False)(inputs))
    copy = accelerated(model, FitConfig())
    pixels = IMAGES[:, :8, :8]
    np.testing.assert_allclose(copy(pixels, training=True), model(pixels, training=True), atol=1e-5)
