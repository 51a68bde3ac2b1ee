"""Where a quantization-aware model quantizes: which weights, and the outputs of which layers.

An int8 operator quantizes once, after all that the converter fuses into it: a convolution, its batch normalization and
its ReLU are one operator, and so are a sum and its ReLU. What a concatenation alone reads is written in the scale of
the concatenation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras import quantize_config, quantizers
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapperV2

from slimcam.compression.errors import UnsupportedLayerError
from slimcam.compression.layers.outputs import ACTIVATION_OUTPUTS, Int8Output
from slimcam.compression.layers.table import LAYERS


class KernelQuantizer(quantizers.LastValueQuantizer):  # type: ignore[misc]
    """Symmetric int8 weights with a scale for each channel that the kernel writes; weights that are zero stay zero.

    The last is what tfmot's prune-preserving scheme does for its own quantizers: no gradient reaches those weights.

    Args:
        writes: How many of the last axes count those channels; 0 for one scale for the whole kernel.
    """

    def __init__(self, writes: int) -> None:
        super().__init__(num_bits=8, per_axis=writes > 0, symmetric=True, narrow_range=True)
        self.writes = writes

    def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
        return super().build(self._arranged(tensor_shape), name, layer)

    def __call__(self, inputs: Any, training: bool, weights: Any, **options: Any) -> Any:
        inputs = inputs * tf.cast(tf.not_equal(inputs, 0), inputs.dtype)
        arranged = tf.reshape(inputs, self._arranged(inputs.shape)) if self.writes > 1 else inputs
        quantized = super().__call__(arranged, training, weights, **options)
        return tf.reshape(quantized, inputs.shape) if self.writes > 1 else quantized

    def largest(self, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The largest absolute weight of each channel, or of all."""
        values = np.abs(kernel).reshape(-1, *kernel.shape[kernel.ndim - self.writes :])
        return np.asarray(values.max(axis=0).reshape(-1) if self.writes else values.max())

    def _arranged(self, shape: Any) -> list[int]:
        sizes = [int(size) for size in shape]
        if self.writes < 2:
            return sizes
        first = len(sizes) - self.writes
        return [*sizes[:first], *[1] * (self.writes - 1), int(np.prod(sizes[first:]))]

    def get_config(self) -> dict[str, Any]:
        return {"writes": self.writes}


class LayerQuantization(quantize_config.QuantizeConfig):  # type: ignore[misc]
    """What tfmot's wrapper quantizes of one layer.

    Attributes:
        changes: Options of the layer that differ in the quantization-aware model.

    Args:
        kernel: Attribute that holds the layer's kernel, None for a layer without.
        writes: As for `KernelQuantizer`.
        output: Whether the output is quantized.
        limits: Range of the output, None for one that is observed.
    """

    def __init__(self, kernel: str | None, writes: int, output: bool, limits: Sequence[float] | None = None) -> None:
        self.kernel, self.writes, self.output, self.limits = kernel, writes, output, limits
        self.changes: dict[str, Any] = {}

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return [(getattr(layer, self.kernel), KernelQuantizer(self.writes))] if self.kernel else []

    def set_quantize_weights(self, layer: Any, quantize_weights: Sequence[Any]) -> None:
        for value in quantize_weights:
            setattr(layer, self.kernel or "", value)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:  # noqa: ARG002
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: Sequence[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:  # noqa: ARG002
        if not self.output:
            return []
        if self.limits is not None:
            return [quantizers.FixedQuantizer(8, *self.limits, narrow_range=False)]
        return [quantizers.MovingAverageQuantizer(8, per_axis=False, symmetric=False, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "writes": self.writes, "output": self.output, "limits": self.limits}


class LayerWrapper(QuantizeWrapperV2):  # type: ignore[misc]
    """tfmot's wrapper, which trains kernels, for layers that may be frozen."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if not self.layer.trainable:
            self._non_trainable_weights.extend(self._trainable_weights)
            self._trainable_weights.clear()


OBJECTS = {
    "KernelQuantizer": KernelQuantizer,
    "LayerQuantization": LayerQuantization,
    "LayerWrapper": LayerWrapper,
}
"""What a saved model refers to."""


def layer_quantizations(model: tf_keras.Model, float_kernels: Collection[str] = ()) -> dict[str, LayerQuantization]:
    """Decides for each layer of a model what is quantized, by its name.

    A ReLU with a limit other than 6 loses it to the range of its output, which cuts off at the same value.

    Args:
        model: tf_keras, in normal form.
        float_kernels: Names of layers whose weights are not quantized.

    Raises:
        UnsupportedLayerError: layers have no int8 form. The message names all of them.
    """
    layers = [layer for layer in model.layers if not isinstance(layer, tf_keras.layers.InputLayer)]
    readers = _readers(model)
    outputs = {layer.name: _output(layer) for layer in layers}
    unknown = [f"{layer.name} ({_title(layer)})" for layer in layers if outputs[layer.name] is None]
    unknown += [f"{layer.name} ({_title(layer)}, before what folds into none)" for layer in layers if _is_alone(layer)]
    if unknown:
        raise UnsupportedLayerError(
            f"model {model.name!r} cannot be quantized: no int8 form for {', '.join(unknown)}; write the model in "
            "normal form (compression.normalize), and replace what is named even then, for example by Conv2D + "
            "BatchNormalization + ReLU"
        )
    found = {}
    for layer in layers:
        output = outputs[layer.name]
        assert output is not None
        if all(source is _sources(layer)[0] for source in _sources(layer)) and _kind(layer) == "Concatenate":
            output = Int8Output(passes=True)
        cut_off = _kind(layer) == "ReLU" and layer.max_value is not None and float(layer.max_value) != 6
        if cut_off:
            output = replace(output, limits=(0.0, float(layer.max_value)))
        quantized = not output.passes and not _goes_on(layer, output, readers)
        kernel = (None, 0) if layer.name in float_kernels else _kernel(layer)
        found[layer.name] = LayerQuantization(*kernel, output=quantized, limits=output.limits)
        found[layer.name].changes = {"max_value": None} if cut_off else {}
    return found


def _readers(model: tf_keras.Model) -> dict[str, list[Any]]:
    readers: dict[str, list[Any]] = defaultdict(list)
    inside = {id(layer) for layer in model.layers}
    for layer in model.layers:
        for node in layer.outbound_nodes:
            if id(node.outbound_layer) in inside:
                readers[layer.name].append(node.outbound_layer)
    for tensor in model.outputs:
        readers[tensor._keras_history.layer.name].append(None)
    return readers


def _sources(layer: Any) -> list[Any]:
    return [source for node in layer.inbound_nodes for source, *_ in node.iterate_inbound()]


def _goes_on(layer: Any, output: Int8Output, readers: dict[str, list[Any]]) -> bool:
    """Whether what a layer writes is quantized by the one layer that reads it."""
    if len(readers[layer.name]) != 1:
        return False
    (reader,) = readers[layer.name]
    if reader is None:
        return False
    if _kind(reader) == "BatchNormalization" or (_is_relu(reader) and output.fuses):
        return True
    while reader is not None and (spec := LAYERS.get(_kind(reader))) and spec.output and spec.output.passes:
        following = readers[reader.name]
        reader = following[0] if len(following) == 1 else None
    return reader is not None and _kind(reader) == "Concatenate" and output.limits is None


def _is_relu(layer: Any) -> bool:
    return _kind(layer) == "ReLU" or (_kind(layer) == "Activation" and _function(layer) == "relu")


def _is_alone(layer: Any) -> bool:
    """Whether batch normalization follows what it does not fold into."""
    return _kind(layer) == "BatchNormalization" and _kind(_sources(layer)[0]) not in ("Conv2D", "DepthwiseConv2D")


def _output(layer: Any) -> Int8Output | None:
    if _kind(layer) == "Activation":
        return ACTIVATION_OUTPUTS.get(_function(layer))
    if getattr(layer, "activation", None) is not None and _function(layer) not in ("linear", "relu", "relu6"):
        return None
    spec = LAYERS.get(_kind(layer))
    return None if spec is None else spec.output


def _kernel(layer: Any) -> tuple[str | None, int]:
    """The attribute of a layer's kernel, and how many of its last axes count what it writes."""
    spec = LAYERS.get(_kind(layer))
    if spec is None or not spec.kernels:
        return None, 0
    (kernel,) = spec.kernels
    # TFLite's quantizer takes one scale of a dense kernel, and of one whose outputs are not on its last axis.
    per_channel = kernel.writes[-1] == -1 and _kind(layer) != "Dense"
    name = "depthwise_kernel" if kernel.depthwise else kernel.name
    return name, len(kernel.writes) if per_channel else 0


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _function(layer: Any) -> str:
    return getattr(layer.activation, "__name__", "")


def _title(layer: Any) -> str:
    function = f", {_function(layer)}" if getattr(layer, "activation", None) is not None else ""
    return f"{_kind(layer)}{function}"
