"""A converted network goes on learning: its weights come back into a Keras model of its shape."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from slimcam import compression
from slimcam.compression.errors import CompressionError
from slimcam.compression.export.restore import restore_weights
from slimcam.compression.pruning.rescale import rescale_kernels
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.preprocessing import dequantized, quantized

L = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 127 / 128, (32, 16, 16, 3)).astype(np.float32)


def network(seed: int, outputs: int = 8, width: int = 12) -> Any:
    """Kernels of each kind, with normalization and without, and statistics that are not those of a new model."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 16, 3))
    x = stem = L.ReLU()(L.BatchNormalization(name="stem_bn")(L.Conv2D(width, 3, use_bias=False, name="stem")(inputs)))
    x = L.ReLU()(L.BatchNormalization(name="deep_bn")(L.DepthwiseConv2D(3, padding="same", name="deep")(x)))
    x = L.Add()([stem, L.Conv2D(width, 1, name="plain")(x)])
    x = L.Dense(outputs, name="head")(L.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x, name="net")
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 2, layer.gamma.shape) for _ in range(4)])
    return model


def test_the_float_file_of_a_network_makes_another_one_compute_the_same() -> None:
    model, other = network(1), network(2)
    assert restore_weights(other, [compression.float_tflite(model)], [IMAGES[:16], IMAGES[16:]]) == []
    np.testing.assert_allclose(other.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)


def test_statistics_are_those_of_the_images_so_that_training_begins_where_the_file_ended() -> None:
    model, other = network(1), network(2)
    restore_weights(other, [compression.float_tflite(model)], [IMAGES])
    np.testing.assert_allclose(other(IMAGES, training=True), model(IMAGES, training=False), atol=1e-4)


def test_the_channels_of_a_kernel_have_one_norm_however_little_the_file_scales_them_by() -> None:
    model, other = network(1), network(2)
    for name in ("stem_bn", "deep_bn"):
        gamma = model.get_layer(name).gamma
        gamma.assign(gamma * np.logspace(-5, 0, 12))
    restore_weights(other, [compression.float_tflite(model)], [IMAGES])
    rescale_kernels(other)
    for name in ("stem", "deep"):
        norms = np.linalg.norm(np.reshape(other.get_layer(name).kernel, (-1, 12)), axis=0)
        np.testing.assert_allclose(norms, norms.mean(), rtol=1e-4)
    # By the statistics of the batch too, in which the normalization's epsilon outweighs no channel.
    np.testing.assert_allclose(other(IMAGES, training=True), model(IMAGES, training=False), rtol=1e-3, atol=1e-4)


def test_int8_weights_become_float() -> None:
    model, other = network(1), network(2)
    form = compression.normalize(model, int8=True).model
    content = compression.post_training_int8(form, [IMAGES])
    assert restore_weights(other, [content], [IMAGES]) == []
    runtime = Interpreter(content)
    (found,) = runtime.run(quantized(IMAGES[:1], runtime.input))
    wanted = dequantized(found, runtime.output)
    np.testing.assert_allclose(other(IMAGES[:1], training=False), wanted, atol=0.1 * np.abs(wanted).max())


def test_of_several_files_it_is_the_mean_of_what_their_layers_compute() -> None:
    models, mean = (network(1), network(2)), network(3)
    assert restore_weights(mean, [compression.float_tflite(model) for model in models], [IMAGES]) == []
    for name in ("plain", "head"):
        for part in ("kernel", "bias"):
            wanted = np.mean([getattr(model.get_layer(name), part) for model in models], axis=0)
            np.testing.assert_allclose(getattr(mean.get_layer(name), part), wanted, atol=1e-6)

    def folded(model: Any) -> Any:
        norm = model.get_layer("stem_bn")
        return np.array(model.get_layer("stem").kernel) * norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)

    np.testing.assert_allclose(folded(mean), np.mean([folded(model) for model in models], axis=0), atol=1e-5)


def test_files_of_other_shapes_have_no_mean() -> None:
    contents = [compression.float_tflite(network(1, width=width)) for width in (12, 13)]
    with pytest.raises(
        CompressionError, match=r"of networks of other shapes: stem is \(3, 3, 3, 12\) and \(3, 3, 3, 13\)"
    ):
        restore_weights(network(2), contents, [IMAGES])


def test_layers_of_another_shape_keep_their_own_weights_and_are_named() -> None:
    other = network(2, outputs=5)
    before = np.array(other.get_layer("head").kernel)
    assert restore_weights(other, [compression.float_tflite(network(1))], [IMAGES]) == ["head"]
    np.testing.assert_array_equal(other.get_layer("head").kernel, before)


@pytest.mark.parametrize(
    ("other", "batches", "message"),
    [
        (
            network(2, width=13),
            [IMAGES],
            "deep reads 13 channels, that of the file 12: the model must be",
        ),
        (keras.Model(i := keras.Input((8,)), L.Dense(2)(i)), [IMAGES], "none of them in the model's shape: it must be"),
        (network(2), [], "restored with images to measure statistics by; got none"),
    ],
)
def test_what_cannot_be_restored_is_said(other: Any, batches: list[Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        restore_weights(other, [compression.float_tflite(network(1))], batches)
