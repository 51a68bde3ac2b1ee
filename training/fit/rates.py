"""Learning rates of single variables, for tf_keras, whose optimizers have one for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_rates(optimizer: Any, factors: Mapping[int, float]) -> Any:
    """A class of optimizers as the given one, with learning rates of some variables scaled; 0 freezes.

    These variables do not decay.

    Args:
        optimizer: of tf_keras.
        factors: of the learning rate, by the `id` of the variable.
    """

    class Scaled(optimizer):  # type: ignore[misc]
        _factor = 1.0

        @property
        def learning_rate(self) -> Any:
            return super().learning_rate if self._factor == 1.0 else super().learning_rate * self._factor

        @learning_rate.setter
        def learning_rate(self, value: Any) -> None:
            optimizer.learning_rate.fset(self, value)

        def update_step(self, gradient: Any, variable: Any) -> None:
            # Read while the step is traced, once for each variable.
            self._factor = factors.get(id(variable), 1.0)
            try:
                super().update_step(gradient, variable)
            finally:
                self._factor = 1.0

        def _use_weight_decay(self, variable: Any) -> bool:
            return id(variable) not in factors and bool(super()._use_weight_decay(variable))

    return Scaled
