"""How much each layer of a network loses to int8, and how closely a file follows its model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

from slimcam.compression.export.tflite import with_all_tensors

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
    weights, which magnifies every difference, is rated as a trained one.

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


def file_steps(content: bytes, model: tf_keras.Model, images: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """How far each operator of an int8 file is from what the model's layers give for the same inputs, by layer.

    The mean difference in steps of the operator's output: rounding gives less than one. Each operator is compared on
    the file's own inputs, so that differences do not add up along the network; those whose layers cannot be told by the
    names in the file are left out, and those of layers that are called more than once.

    Args:
        content: the file, from `int8_tflite(model)`, run by TFLite's own kernels.
        model: from `qat.quantize_aware`, calibrated.
        images: `(N, ...)` for each input of the model.
    """
    interpreter = with_all_tensors(content)
    details = {int(each["index"]): each for each in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    layers = {layer.name: (place, layer) for place, layer in enumerate(model.layers) if len(layer.inbound_nodes) == 1}
    computed = {int(index) for each in operators for index in each["outputs"]}
    computed |= {int(each["index"]) for each in interpreter.get_input_details()}
    seen: dict[int, list[Any]] = {index: [] for index in computed}
    for image in zip(*images, strict=True):
        for tensor, value in zip(interpreter.get_input_details(), image, strict=True):
            scale, zero_point = tensor["quantization"]
            quantized = np.clip(np.round(value / scale) + zero_point, -128, 127).astype(np.int8)
            interpreter.set_tensor(tensor["index"], quantized[np.newaxis])
        interpreter.invoke()
        for index, values in seen.items():
            values.append(interpreter.get_tensor(index)[0])
    found: dict[str, float] = {}
    for operator in operators:
        inputs = [int(index) for index in operator["inputs"] if int(index) in computed]
        output = int(operator["outputs"][0])
        layer = _named(details[output], layers)
        sources = [_named(details[index], layers) for index in inputs]
        if layer is None or None in sources or layer in sources:
            continue
        try:
            part = tf_keras.Model([source.output for source in sources], layer.output)
        except ValueError:  # another layer lies between, whose name the file does not have
            continue
        given = [tf.constant(_real(seen[index], details[index])) for index in inputs]
        expected = np.asarray(part(given[0] if len(given) == 1 else given, training=False))
        scale, zero_point = details[output]["quantization"]
        steps = np.clip(expected / scale + zero_point, -128, 127).reshape(len(expected), -1)
        found[layer.name] = float(np.abs(np.stack(seen[output]).reshape(steps.shape) - steps).mean())
    return found


def _real(values: Sequence[Any], detail: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero_point = detail["quantization"]
    real: NDArray[np.float32] = ((np.stack(values).astype(np.float32) - zero_point) * scale).astype(np.float32)
    return real


def _named(detail: dict[str, Any], layers: dict[str, tuple[int, Any]]) -> Any:
    """The last layer of those that a tensor is named after, with an output of its size; None where there is none."""
    size = math.prod(detail["shape"])
    return max(_candidates(detail["name"], size, layers), default=(0, None), key=lambda found: found[0])[1]


def _candidates(name: str, size: int, layers: dict[str, tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    for part in re.split("[/;]", name):
        if part in layers:
            place, layer = layers[part]
            if not isinstance(layer.output, (list, tuple)) and math.prod(layer.output.shape[1:]) == size:
                yield place, layer
