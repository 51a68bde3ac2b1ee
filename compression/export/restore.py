"""The weights of a converted network in a Keras model again, so that it goes on learning.

A file holds kernels and biases; BatchNormalization is folded into them. What it was before does not matter: the
statistics of a layer's output are measured on images, and its scale and offset are such that the layer computes what
the file's does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.export.delegation import layers_of, operator_kinds, root_of
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import Kernel, weight
from slimcam.compression.pruning.rescale import normalized_layers

_Array = NDArray[np.float32]

_TYPES = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32, schema.TensorType.FLOAT32: np.float32}


@dataclass(frozen=True)
class _Weights:
    """What the file has of a layer.

    Attributes:
        kernel: in the order of Keras' axes.
        bias: `(outputs,)`.
    """

    kernel: _Array
    bias: _Array


def restore_weights(model: Any, contents: Sequence[bytes], batches: Iterable[_Array]) -> list[str]:
    """Gives the layers of a model the weights that a file has of layers of these names; int8 ones become float.

    Of several files it is their mean, layer by layer: networks that were trained on from the same weights can be
    averaged, and the mean is often better than each (Wortsman et al. 2022, "Model soups", section 3).

    A layer that writes another number of channels than the file's, an embedding of another size, keeps its own. Of one
    that BatchNormalization alone follows, the statistics are those over the batches. In inference the model then
    computes what the file does, but for the rounding of int8.

    Args:
        model: Keras 3, functional; changed in place.
        contents: of one `.tflite` file or of several.
        batches: at least one, each `(N, ...)` as the model's input.

    Returns:
        The names of the layers with weights that keep their own, in the order of computation.

    Raises:
        CompressionError: The file holds weights of none of the layers, or one of them reads another number of channels;
            or several files differ in the shape of a layer.
        ConversionError: The bytes are not a TFLite model.
        UntraceableModelError: The model is not functional, or a layer of it is a model itself.
    """
    names = [layer.name for layer in model.layers if _kernel_of(layer)]
    found = _mean([_read(content, names) for content in contents])
    norms = {layer.name: norm for layer, _, norm in normalized_layers(model)}
    restored: dict[str, Any] = {}
    for layer in model.layers:
        norm = norms.get(layer.name)
        if layer.name in found and _take(layer, norm, found[layer.name]):
            restored[layer.name] = norm
    if not restored:
        raise CompressionError(
            f"the file holds weights of {len(found)} layers of {model.name}, none of them in the model's shape: "
            "it must be of the same backbone, pruned in the same way"
        )
    used = [norm for norm in restored.values() if norm is not None]
    _measure(model, used, batches)
    taken = {*restored, *(norm.name for norm in used)}
    return [layer.name for layer in model.layers if layer.weights and layer.name not in taken]


def _mean(files: Sequence[Mapping[str, _Weights]]) -> Mapping[str, _Weights]:
    """The mean of what several files have of each layer."""
    first, *others = files
    for other in others:
        shapes, own = ({name: each.kernel.shape for name, each in file.items()} for file in (other, first))
        if shapes != own:
            name = next(name for name in {**own, **shapes} if own.get(name) != shapes.get(name))
            raise CompressionError(
                f"the files to average are of networks of other shapes: {name} is {own.get(name, 'absent')} and "
                f"{shapes.get(name, 'absent')}"
            )
    return {
        name: _Weights(*(np.mean([getattr(file[name], part) for file in files], axis=0) for part in ("kernel", "bias")))
        for name in first
    }


def _kernel_of(layer: Any) -> Kernel | None:
    """The one kernel of a layer; none of a layer that has several, or no kernel."""
    spec = layer_spec(layer)
    return spec.kernels[0] if spec is not None and len(spec.kernels) == 1 else None


def _take(layer: Any, norm: Any, found: _Weights) -> bool:
    """Gives a layer its weights, and has its BatchNormalization add the bias alone; False where they do not fit."""
    facts = _kernel_of(layer)
    assert facts is not None
    own, bias, kernel = weight(layer, facts.name), weight(layer, "bias"), found.kernel
    if facts.depthwise:
        # A file's kernel is `(1, height, width, channels)`.
        reads, given = own.shape[-2] * own.shape[-1], kernel.shape[-1]
    else:
        reads, given = own.shape[-2], kernel.shape[-2]
    if reads != given:
        raise CompressionError(
            f"{layer.name} reads {reads} channels, that of the file {given}: the model must be pruned as that was, "
            "by the same ratio and in the same multiples"
        )
    # A dense layer may have become a convolution of 1x1.
    if not facts.depthwise and _long(own.shape) != _long(kernel.shape):
        return False
    if not (norm.scale and norm.center) if norm is not None else bias is None and np.any(found.bias):
        return False
    kernel = kernel.reshape(own.shape)
    if norm is None:
        own.assign(kernel)
        if bias is not None:
            bias.assign(found.bias)
        return True
    norms = _relative_norms(kernel, depthwise=facts.depthwise)
    own.assign(kernel / norms.reshape(kernel.shape[2:] if facts.depthwise else -1))
    if bias is not None:
        bias.assign(np.zeros_like(found.bias))
    # In this order, as `get_weights` has it: scale, offset, moving mean, moving variance.
    norm.set_weights([norms, found.bias, np.zeros_like(norms), np.ones_like(norms) - norm.epsilon])
    return True


def _relative_norms(kernel: _Array, *, depthwise: bool) -> _Array:
    """The norm of each output channel's kernel, over the root of the mean square of all, `(outputs,)`; 1 where it is 0.

    A kernel in a file is multiplied by what BatchNormalization scaled its channel by, often by so little that the
    normalization's epsilon would outweigh the variance of what the channel writes.
    """
    flat = kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1] if depthwise else kernel.shape[-1])
    norms = np.linalg.norm(flat, axis=0)
    mean = max(np.sqrt(np.mean(np.square(norms))), np.finfo(np.float32).tiny)
    relative: _Array = np.where(norms > 0, norms / mean, 1.0).astype(np.float32)
    return relative


def _long(shape: Iterable[int]) -> list[int]:
    return [length for length in shape if length > 1]


def _measure(model: Any, norms: list[Any], batches: Iterable[_Array]) -> None:
    """Sets the statistics of normalizations to those of what they are given, and the scale and offset by them.

    Statistics change nothing that the model computes in inference: all are of one pass.
    """
    if not norms:
        return
    watched = keras.Model(model.inputs, [norm.input for norm in norms])
    sums = [np.zeros((2, norm.gamma.shape[0])) for norm in norms]
    counts = np.zeros(len(norms))
    for batch in batches:
        for index, values in enumerate(keras.tree.flatten(watched([batch], training=False))):
            flat = keras.ops.convert_to_numpy(values).reshape(-1, values.shape[-1]).astype(np.float64)
            sums[index] += [flat.sum(0), np.square(flat).sum(0)]
            counts[index] += len(flat)
    if not counts.all():
        raise CompressionError("weights are restored with images to measure statistics by; got none")
    for norm, (total, squares), count in zip(norms, sums, counts, strict=True):
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0.0)
        scale = keras.ops.convert_to_numpy(norm.gamma)
        norm.gamma.assign(scale * np.sqrt(variance + norm.epsilon))
        norm.beta.assign(keras.ops.convert_to_numpy(norm.beta) + scale * mean)
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)


def _read(content: bytes, names: Iterable[str]) -> Mapping[str, _Weights]:
    """The kernels and biases of a file, by the layer that the converter names them after."""
    root = root_of(content)
    graph = root.Subgraphs(0)
    origins = {name: name for name in names}
    found: dict[str, _Weights] = {}
    for index, kind in enumerate(operator_kinds(root)):
        order = _ORDERS.get(kind)
        inputs = [graph.Tensors(i) for i in graph.Operators(index).InputsAsNumpy() if i >= 0]
        if order is None or len(inputs) < 2:
            continue
        kernel = _values(root, inputs[1])
        bias = _values(root, inputs[2]) if len(inputs) > 2 else None
        named = [*layers_of(inputs[1].Name().decode(), origins), *layers_of(_output(graph, index), origins)]
        if kernel is not None and named:
            kernel = kernel.transpose(order)
            outputs = graph.Tensors(graph.Operators(index).Outputs(0)).ShapeAsNumpy()[-1]
            found.setdefault(named[0], _Weights(kernel, np.zeros(outputs, np.float32) if bias is None else bias))
    return found


_ORDERS = {"CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (0, 1, 2, 3), "FULLY_CONNECTED": (1, 0)}
"""The axes of a file's kernel in the order of Keras'."""


def _output(graph: Any, index: int) -> str:
    return str(graph.Tensors(graph.Operators(index).Outputs(0)).Name().decode())


def _values(root: Any, tensor: Any) -> _Array | None:
    """The numbers of a constant tensor, as float32; none of a tensor that is computed, or of another type."""
    buffer = root.Buffers(tensor.Buffer())
    if not buffer.DataLength() or tensor.Type() not in _TYPES:
        return None
    values: _Array = buffer.DataAsNumpy().view(_TYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy()).astype(np.float32)
    quantization = tensor.Quantization()
    if quantization is None or not quantization.ScaleLength():
        return values
    along = [1] * values.ndim
    along[quantization.QuantizedDimension()] = quantization.ScaleLength()
    points = quantization.ZeroPointAsNumpy().astype(np.float32).reshape(along)
    result: _Array = (values - points) * quantization.ScaleAsNumpy().reshape(along)
    return result
