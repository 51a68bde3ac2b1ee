"""Batch normalization in normal form: with a factor, so that channels can be equalized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from slimcam.compression.normal_form.parts import Parts, Rule


def _with_scale(layer: Any, make: Parts) -> Callable[..., Any] | None:
    if layer.scale:
        return None
    center = [np.asarray(layer.beta)] if layer.center else []
    statistics = [np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)]
    return make(
        keras.layers.BatchNormalization,
        axis=layer.axis,
        momentum=layer.momentum,
        epsilon=layer.epsilon,
        center=layer.center,
        weights=[np.ones_like(statistics[0]), *center, *statistics],
    )


INT8: dict[str, Rule] = {"BatchNormalization": _with_scale}
