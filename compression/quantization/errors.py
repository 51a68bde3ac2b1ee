"""How much each layer of a quantization-aware model loses to int8."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

_SILENT = 1e-30


def layer_sqnr(model: tf_keras.Model, images: NDArray[np.float32]) -> dict[str, float]:
    """The signal-to-quantization-noise ratio of each layer's output in dB, by the layer's name.

    A layer's own error: its weights and output quantized, against the same layer in float on the same inputs, those
    that the quantized layers before it give. So errors do not add up along the network, and a network with random
    weights, which magnifies every difference, is judged as a trained one.

    Args:
        model: from `qat.quantize_aware`, calibrated.
        images: `(N, ...)`, one input of the model.
    """
    wrappers = [
        layer
        for layer in model.layers
        if isinstance(layer, QuantizeWrapper) and (layer._weight_vars or layer._output_quantizers)
    ]
    observed = tf_keras.Model(model.inputs, [wrapper.input for wrapper in wrappers])
    found = {}
    for wrapper, inputs in zip(wrappers, _listed(observed(images, training=False), len(wrappers)), strict=True):
        quantized = np.asarray(wrapper(inputs, training=False), np.float64)
        wrapper.quantize_config.set_quantize_weights(wrapper.layer, [weight for weight, *_ in wrapper._weight_vars])
        exact = np.asarray(wrapper.layer(inputs), np.float64)
        if np.any(exact):
            noise = float(np.mean((quantized - exact) ** 2)) + _SILENT
            found[wrapper.layer.name] = 10 * math.log10(float(np.mean(exact**2)) / noise)
    return found


def _listed(outputs: Any, count: int) -> list[Any]:
    return [outputs] if count == 1 else list(outputs)
