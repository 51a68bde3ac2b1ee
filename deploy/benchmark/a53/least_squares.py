"""Least squares whose answer is not negative, as costs are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nonnegative(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector x >= 0 that makes |matrix @ x - target| least.

    Reference: Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.

    Args:
        matrix: `(N, K)`.
        target: `(N,)`.
    """
    scale = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(scale > 0, scale, 1.0)
    active = np.zeros(scaled.shape[1], bool)
    rates = np.zeros(scaled.shape[1])
    for _ in range(3 * len(rates)):
        gradient = scaled.T @ (target - scaled @ rates)
        gradient[active] = -np.inf
        if active.all() or gradient.max() <= 1e-10:
            break
        active[int(np.argmax(gradient))] = True
        while True:
            trial = np.zeros_like(rates)
            trial[active] = np.linalg.lstsq(scaled[:, active], target, rcond=None)[0]
            if (trial[active] > 0).all():
                rates = trial
                break
            shrinking = active & (trial <= 0)
            step = np.min(rates[shrinking] / np.maximum(rates[shrinking] - trial[shrinking], 1e-300))
            rates = rates + step * (trial - rates)
            active &= rates > 1e-12
            rates[~active] = 0.0
            if not active.any():
                break
    return rates / np.where(scale > 0, scale, 1.0)
