"""How much each layer of a network loses to int8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

_SILENT = 1e-30


@dataclass(frozen=True)
class LayerError:
    """What separates a quantized output from the exact one.

    Attributes:
        cosine: Of the two, all values taken together.
        sqnr_db: Signal-to-quantization-noise ratio in dB.
    """

    cosine: float
    sqnr_db: float


def error_of(found: NDArray[Any], exact: NDArray[Any]) -> LayerError | None:
    """The error of an output; None where the exact one is zero throughout."""
    found, exact = np.asarray(found, np.float64).ravel(), np.asarray(exact, np.float64).ravel()
    if not np.any(exact):
        return None
    noise = float(np.mean((found - exact) ** 2)) + _SILENT
    length = float(np.linalg.norm(found) * np.linalg.norm(exact))
    cosine = float(found @ exact) / length if length else 0.0
    return LayerError(cosine, 10 * math.log10(float(np.mean(exact**2)) / noise))


def layer_errors(model: tf_keras.Model, images: NDArray[np.float32]) -> dict[str, LayerError]:
    """The error of each layer's output, by the layer's name.

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
        quantized = np.asarray(wrapper(inputs, training=False))
        # As a tensor, which the layer does not take for one more weight of its own.
        exact = [tf.convert_to_tensor(weight) for weight, *_ in wrapper._weight_vars]
        wrapper.quantize_config.set_quantize_weights(wrapper.layer, exact)
        error = error_of(quantized, np.asarray(wrapper.layer(inputs)))
        if error is not None:
            found[wrapper.layer.name] = error
    return found


def layer_sqnr(model: tf_keras.Model, images: NDArray[np.float32]) -> dict[str, float]:
    """The signal-to-quantization-noise ratio of each layer's output in dB: that of `layer_errors`."""
    return {name: error.sqnr_db for name, error in layer_errors(model, images).items()}


def _listed(outputs: Any, count: int) -> list[Any]:
    return [outputs] if count == 1 else list(outputs)
