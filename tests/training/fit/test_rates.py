"""Learning rates of single variables."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from slimcam.training.fit.rates import with_rates


@pytest.mark.parametrize("kind", [tf_keras.optimizers.SGD, tf_keras.optimizers.AdamW])
def test_a_factor_scales_the_steps_of_its_variable_alone_and_zero_freezes(kind: type) -> None:
    tf_keras.utils.set_random_seed(0)
    layers = [tf_keras.layers.Dense(3, use_bias=False, kernel_initializer="ones") for _ in range(3)]
    inputs = tf_keras.Input((3,))
    model = tf_keras.Model(inputs, tf_keras.layers.Concatenate()([layer(inputs) for layer in layers]))
    half, frozen, whole = (layer.kernel for layer in layers)
    model.compile(with_rates(kind, {id(half): 0.5, id(frozen): 0.0})(learning_rate=1.0), "mse", jit_compile=False)
    model.optimizer.learning_rate = 0.01
    images = np.ones((4, 3), np.float32)
    model.train_on_batch(images, np.zeros((4, 9), np.float32))
    moved = [1 - weight.numpy()[0, 0] for weight in (half, frozen, whole)]
    assert moved[1] == 0
    assert moved[2] > 0
    assert moved[0] == pytest.approx(moved[2] / 2, rel=0.01)
