from __future__ import annotations

import keras
import numpy as np

from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.training.data.recognition.batches import sample_batches


def test_batch_norm_statistics_become_those_of_the_images():
    images = np.random.default_rng(0).integers(0, 255, size=(64, 16, 16, 3), dtype=np.uint8)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm", momentum=0.9)(inputs))
    before = model.get_layer("norm").moving_mean.numpy().copy()
    recalibrate_batch_norm(model, sample_batches(images, 64, InputSpec(16, 16), 16))
    pixels = normalized(images, InputSpec())
    norm = model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean.numpy(), pixels.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), pixels.var(axis=(0, 1, 2)), rtol=0.02)
    assert np.any(norm.moving_mean.numpy() != before)
    assert norm.momentum == 0.9


def test_no_images_leave_the_statistics_alone():
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
    recalibrate_batch_norm(model, sample_batches(np.zeros((8, 16, 16, 3), np.uint8), 0, InputSpec(16, 16), 16))
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean.numpy(), 0.0)
