"""Muon: kernels of convolutions take orthogonal steps, everything else those of AdamW."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from slimcam.training.fit.muon import Muon

RATE = 0.01


def step(shape: tuple[int, ...], optimizer: keras.optimizers.Optimizer) -> np.ndarray:
    """What the first step takes off a variable of zeros, for a gradient whose directions differ by ten in length."""
    gradient = np.random.default_rng(0).normal(size=shape) * np.geomspace(1, 10, shape[-1])
    variable = keras.Variable(np.zeros(shape, np.float32))
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient.astype(np.float32))])
    return -np.asarray(variable)


@pytest.mark.parametrize("shape", [(3, 3, 4, 12), (1, 1, 24, 8), (10, 20)])
def test_a_step_of_a_kernel_is_as_long_in_all_directions_and_as_long_as_one_of_adamw(shape: tuple[int, ...]) -> None:
    taken = step(shape, Muon(RATE, weight_decay=0.0)).reshape(-1, shape[-1])
    lengths = np.linalg.svd(taken, compute_uv=False)
    # Five iterations bring singular values to about one, not to one exactly (Jordan et al. 2024).
    assert lengths.max() < 2 * lengths.min()
    assert np.sqrt(np.mean(taken**2)) == pytest.approx(0.2 * RATE, rel=0.25)


@pytest.mark.parametrize("shape", [(3, 3, 8, 1), (16,)])
def test_depthwise_kernels_and_vectors_take_the_step_of_adamw(shape: tuple[int, ...]) -> None:
    ours = step(shape, Muon(RATE, weight_decay=0.0))
    np.testing.assert_allclose(ours, step(shape, keras.optimizers.AdamW(RATE, weight_decay=0.0)), rtol=1e-4)
