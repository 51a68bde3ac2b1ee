"""Kernels of which the direction alone counts, brought to the length of fresh ones.

A layer before BatchNormalization computes the same whatever its kernel's length, and the longer the kernel, the less a
step of a given learning rate turns it (van Laarhoven 2017, "L2 regularization versus batch and weight normalization";
Hoffer et al. 2018, "Norm matters"). Training lengthens kernels step by step. So what goes on from trained ones learns
more slowly than its learning rate says, unless they are shortened first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import keras
import numpy as np

from compression.keras_graph import calls, kind, tensor_key

# By the kind of a layer that is linear in each of its kernels: these, and what draws them.
_KERNELS = {
    **dict.fromkeys(
        ("Dense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
        (("kernel", "kernel_initializer"),),
    ),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), (("kernel", "depthwise_initializer"),)),
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D"),
        (("depthwise_kernel", "depthwise_initializer"), ("pointwise_kernel", "pointwise_initializer")),
    ),
}


def rescale(model: Any) -> list[str]:
    """Gives each kernel that only BatchNormalization reads the length of what its initializer draws.

    The moving statistics follow, so that the model, changed in place, computes what it did, but
    for channels that hardly vary (where the shortened variance would be less than the normalisation's epsilon). Layers
    that are called more than once stay as they are.

    Returns:
        The names of the rescaled layers, in the order of computation.

    Raises:
        ValueError: the model is not functional, or a layer of it is a model itself.
    """
    nodes = calls(model)
    used = Counter(node.operation.name for node in nodes)
    readers = defaultdict(list)
    for node in nodes:
        for tensor in node.input_tensors:
            readers[tensor_key(tensor)].append(node.operation)
    for tensor in model.outputs:
        readers[tensor_key(tensor)].append(None)
    rescaled = []
    for node in nodes:
        layer = node.operation
        if used[layer.name] > 1 or kind(layer) not in _KERNELS or layer.activation is not keras.activations.linear:
            continue
        reader, *others = readers[tensor_key(node.outputs[0])]
        if others or reader is None or kind(reader) != "BatchNormalization" or used[reader.name] > 1:
            continue
        if _shorten(layer, reader):
            rescaled.append(layer.name)
    return rescaled


def _shorten(layer: Any, norm: Any) -> bool:
    total = 1.0
    for name, initializer in _KERNELS[kind(layer)]:
        kernel = getattr(layer, name)
        length, fresh = _length(kernel), _length(getattr(layer, initializer)(kernel.shape))
        if length == 0 or fresh == 0:
            continue
        kernel.assign(kernel * (fresh / length))
        total *= fresh / length
    if layer.use_bias:
        layer.bias.assign(layer.bias * total)
    norm.moving_mean.assign(norm.moving_mean * total)
    scaled = (norm.moving_variance + norm.epsilon) * total**2 - norm.epsilon
    norm.moving_variance.assign(keras.ops.maximum(scaled, 0.0))
    return total != 1.0


def _length(kernel: Any) -> float:
    """Per element: the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(keras.ops.convert_to_numpy(kernel)))))
