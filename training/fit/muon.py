"""Muon for networks of convolutions."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):  # type: ignore[misc]
    """Keras' Muon, of convolutions' kernels too; what is no matrix, and depthwise kernels, follow AdamW.

    A step turns the momentum of a kernel into the nearest orthogonal matrix, `(height * width * inputs, outputs)`, so
    that all directions are learned at the same rate, the weak ones too. Jordan et al. 2024, "Muon: an optimizer for
    hidden layers in neural networks"; its size is that of a step of AdamW (Liu et al. 2025, "Muon is scalable for LLM
    training", eq. 4), so that learning rates and decay of AdamW hold.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) not in (2, 4) or variable.shape[-1] == 1

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        flat = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(flat, steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        return x * (self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])))
