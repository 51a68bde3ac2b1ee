"""Muon for networks of convolutions; Keras' own leaves these to AdamW, and is not the same from version to version."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the quintic iteration: singular values of 0.01 and of 1 alike are between 0.7 and 1.2 after five."""
_LENGTH = 0.2
"""Root mean square of a step for a learning rate of 1; that of AdamW is 0.2 to 0.4."""


class Muon(keras.optimizers.AdamW):  # type: ignore[misc]
    """Muon for kernels, AdamW for vectors and depthwise kernels.

    A step turns the momentum of a kernel, `(height * width * inputs, outputs)`, into the nearest orthogonal matrix, so
    that the weak directions are learned as fast as the strong ones. Jordan et al. 2024, "Muon: an optimizer for hidden
    layers in neural networks"; steps are as long as those of AdamW (Liu et al. 2025, "Muon is scalable for LLM
    training", eq. 4), so that its learning rates and weight decays hold.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        shape = tuple(variable.shape)
        if len(shape) not in (2, 4) or shape[-1] == 1:
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self._momentums[self._get_variable_index(variable)]
        self.assign(momentum, _MOMENTUM * momentum + gradient)
        matrix = ops.reshape(gradient + _MOMENTUM * momentum, (-1, shape[-1]))
        length = _LENGTH * math.sqrt(max(matrix.shape))
        step = ops.reshape(orthogonalized(matrix), shape)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * length * step)


def orthogonalized(matrix: Any) -> Any:
    """About the nearest matrix whose singular values are all 1, `(N, M)`, by Newton-Schulz iterations."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    x = x / (ops.norm(x) + 1e-7)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = ops.matmul(x, ops.transpose(x))
        x = first * x + ops.matmul(third * square + fifth * ops.matmul(square, square), x)
    return x if wide else ops.transpose(x)
