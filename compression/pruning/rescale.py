"""Kernel-norm rescaling: kernels before BatchNormalization get the norm of freshly initialized ones.

A layer before BatchNormalization computes the same whatever its kernel's norm, and the larger the norm, the less a step
of a given learning rate turns the kernel (van Laarhoven 2017, "L2 regularization versus batch and weight
normalization"; Hoffer et al. 2018, "Norm matters"). Training makes norms grow. So fine-tuning of trained kernels learns
more slowly than its learning rate says; rescaling restores the effective learning rate.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import keras
import numpy as np

from slimcam.compression.keras_graph import calls, kind, tensor_key
from slimcam.compression.layers.spec import LayerSpec
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import weight


def rescale_kernels(model: Any) -> list[str]:
    """Gives each kernel that only BatchNormalization reads the norm of what its initializer samples.

    The moving statistics follow, and the scale makes up for what the normalization's epsilon then weighs against them:
    the model, changed in place, computes what it did, by these statistics and by those of any batch that has them. A
    normalization without a scale has the epsilon in its moving variance instead, which holds until the statistics are
    measured again. Layers that are called more than once stay as they are.

    Returns:
        The names of the rescaled layers, in the order of computation.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
    """
    return [layer.name for layer, spec, norm in normalized_layers(model) if _rescale(layer, spec, norm)]


def normalized_layers(model: Any) -> list[tuple[Any, LayerSpec, Any]]:
    """The linear layers that only a BatchNormalization reads, each with its facts and with that normalization.

    They come in the order of computation; layers that are called more than once are left out.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
    """
    nodes = calls(model)
    used = Counter(node.operation.name for node in nodes)
    readers = defaultdict(list)
    for node in nodes:
        for tensor in node.input_tensors:
            readers[tensor_key(tensor)].append(node.operation)
    for tensor in model.outputs:
        readers[tensor_key(tensor)].append(None)
    found = []
    for node in nodes:
        layer, spec = node.operation, layer_spec(node.operation)
        if spec is None or not spec.kernels or used[layer.name] > 1 or not _is_linear(layer):
            continue
        reader, *others = readers[tensor_key(node.outputs[0])]
        if not others and reader is not None and kind(reader) == "BatchNormalization" and used[reader.name] == 1:
            found.append((layer, spec, reader))
    return found


def _is_linear(layer: Any) -> bool:
    return getattr(layer, "activation", keras.activations.linear) is keras.activations.linear


def _rescale(layer: Any, spec: LayerSpec, norm: Any) -> bool:
    total = 1.0
    for each in spec.kernels:
        kernel = weight(layer, each.name)
        trained, fresh = _norm(kernel), _norm(getattr(layer, each.initializer)(kernel.shape))
        if trained == 0 or fresh == 0:
            continue
        kernel.assign(kernel * (fresh / trained))
        total *= fresh / trained
    kernels = {each.name for each in spec.kernels}
    for name in spec.output_weights:
        other = weight(layer, name)
        if name not in kernels and other is not None:
            other.assign(other * total)
    norm.moving_mean.assign(norm.moving_mean * total)
    wanted = (norm.moving_variance + norm.epsilon) * total**2
    if norm.scale:
        norm.moving_variance.assign(norm.moving_variance * total**2)
        norm.gamma.assign(norm.gamma * keras.ops.sqrt((norm.moving_variance + norm.epsilon) / wanted))
    else:
        norm.moving_variance.assign(keras.ops.maximum(wanted - norm.epsilon, 0.0))
    return total != 1.0


def _norm(kernel: Any) -> float:
    """Per element: the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(keras.ops.convert_to_numpy(kernel)))))
