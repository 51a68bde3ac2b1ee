from __future__ import annotations

import keras
import numpy as np

from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm


def test_batch_norm_statistics_become_those_of_the_images() -> None:
    images = np.random.default_rng(0).uniform((-1, 0, 1), 2, (64, 16, 16, 3)).astype(np.float32)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm", momentum=0.9)(inputs))
    recalibrate_batch_norm(model, np.split(images, 4))
    norm = model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean.numpy(), images.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), images.var(axis=(0, 1, 2)), rtol=0.02)
    assert norm.momentum == 0.9


def test_no_images_leave_the_statistics_alone() -> None:
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
    recalibrate_batch_norm(model, [])
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean.numpy(), 0.0)
