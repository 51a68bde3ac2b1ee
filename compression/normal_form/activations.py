"""Activations in normal form: ReLU with or without a limit, sigmoid, tanh, and what is composed of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from slimcam.compression.normal_form.parts import Parts, Rule, as_image, chain

L = keras.layers


def activation(function: Any, make: Parts, *, suffix: str = "") -> Callable[..., Any]:
    """Returns what computes an activation function of Keras with layers that XNNPACK has in int8, where there are such.

    Args:
        suffix: Appended to the name of what applies the function itself.
    """
    name = getattr(function, "__name__", "")
    if name not in _COMPOSED or not str(getattr(function, "__module__", "")).startswith("keras."):
        return make(L.Activation, function, suffix=suffix)
    return _COMPOSED[name](make, suffix)


def _nothing(make: Parts, suffix: str) -> Callable[..., Any]:  # noqa: ARG001
    return lambda x, **_: x


def _gated(gate: Callable[..., Any], make: Parts, suffix: str) -> Callable[..., Any]:
    product = make(L.Multiply, suffix=suffix)
    return lambda x, **_: product([x, gate(x)])


def _silu(make: Parts, suffix: str) -> Callable[..., Any]:
    return _gated(make(L.Activation, "sigmoid", suffix=_joined(suffix, "sigmoid")), make, suffix)


def _hard_sigmoid(make: Parts, suffix: str) -> Callable[..., Any]:
    """relu6(x + 3) / 6, as a clip of x / 6 + 1/2 to [0, 1]."""
    shift = make(L.Rescaling, 1 / 6, 0.5, suffix=_joined(suffix, "shift"))
    return chain(shift, make(L.ReLU, max_value=1.0, suffix=suffix))


def _hard_silu(make: Parts, suffix: str) -> Callable[..., Any]:
    return _gated(_hard_sigmoid(make, _joined(suffix, "gate")), make, suffix)


def _joined(*suffixes: str) -> str:
    return "_".join(filter(None, suffixes))


_COMPOSED: dict[str, Callable[[Parts, str], Callable[..., Any]]] = {
    "linear": _nothing,
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "relu6": lambda make, suffix: make(L.ReLU, max_value=6.0, suffix=suffix),
    "leaky_relu": lambda make, suffix: make(L.LeakyReLU, negative_slope=0.2, suffix=suffix),
}


def _activation_layer(layer: Any, make: Parts) -> Callable[..., Any] | None:
    return activation(layer.activation, make) if getattr(layer.activation, "__name__", "") in _COMPOSED else None


def _relu(layer: Any, make: Parts) -> Callable[..., Any] | None:
    if layer.threshold or layer.max_value is not None or not layer.negative_slope:
        return None
    return make(L.LeakyReLU, negative_slope=float(layer.negative_slope))


def _prelu(layer: Any, make: Parts) -> Callable[..., Any] | None:
    """x + (1 - alpha) relu(-x), for one alpha a channel."""
    (alpha,) = layer.get_weights()
    channels = alpha.shape[-1]
    if alpha.size != channels:
        return None
    negative = chain(make(L.Rescaling, -1.0, suffix="negated"), make(L.ReLU, suffix="negative"))
    kernel = (1 - alpha).reshape(1, 1, channels, 1)
    scaled = make(L.DepthwiseConv2D, 1, suffix="slope", use_bias=False, weights=[kernel])
    total = make(L.Add)
    return as_image(make, lambda x: total([x, scaled(negative(x))]))


def _maximum(sign: float) -> Rule:
    """max(a, b) = a + relu(b - a), and min(a, b) = a - relu(a - b)."""

    def rule(layer: Any, make: Parts) -> Callable[..., Any]:  # noqa: ARG001
        def call(tensors: Any) -> Any:
            first, *others = tensors
            for other in others:
                pair = [other, first] if sign > 0 else [first, other]
                excess = make(L.ReLU, suffix="excess")(make(L.Subtract, suffix="difference")(pair))
                first = make(L.Add if sign > 0 else L.Subtract)([first, excess])
            return first

        return call

    return rule


def _pairwise(layer: Any, make: Parts) -> Callable[..., Any]:
    """Merges of two tensors at a time: TFLite's of more have no int8 kernel in XNNPACK."""

    def call(tensors: Any) -> Any:
        if len(tensors) == 2:
            return make.keep(layer)(tensors)
        total = tensors[0]
        for other in tensors[1:]:
            total = make(type(layer))([total, other])
        return total

    return call


def _kept(layer: Any, make: Parts) -> Callable[..., Any]:
    return make.keep(layer)


def _unflattened(rule: Rule) -> Rule:
    """Merges before flattening instead of behind it.

    Where all operands are reshaped alike, the converter reshapes the result instead, and then lacks the scale between.
    """

    def written(layer: Any, make: Parts) -> Callable[..., Any] | None:
        merged = rule(layer, make)
        assert merged is not None

        def call(tensors: Any) -> Any:
            sources = [_flattened(tensor) for tensor in tensors]
            if any(source is None or source.shape != sources[0].shape for source in sources):
                return merged(tensors)
            return make(L.Flatten, suffix="flat")(merged(sources))

        return call

    return written


def _flattened(tensor: Any) -> Any:
    """What a tensor is the flattened form of; None for other tensors."""
    operation, node, _ = tensor._keras_history
    if not isinstance(operation, L.Flatten):
        return None
    return operation._inbound_nodes[node].input_tensors[0]


def _average(layer: Any, make: Parts) -> Callable[..., Any]:  # noqa: ARG001
    return lambda tensors: make(L.Rescaling, 1 / len(tensors))(make(L.Add, suffix="sum")(tensors))


def _scaled_sum(layer: Any, make: Parts) -> Callable[..., Any]:
    """The sum of a shortcut and a scaled branch, as in InceptionResNetV2."""
    scaled, total = make(L.Rescaling, float(layer.scale), suffix="scaled"), make(L.Add)
    return lambda tensors: total([tensors[0], scaled(tensors[1])])


def _layer_scale(layer: Any, make: Parts) -> Callable[..., Any]:
    return make(L.Rescaling, np.asarray(layer.gamma).tolist())


def _scaled_norm(layer: Any, make: Parts) -> Callable[..., Any] | None:
    """Batch normalization with the gamma that equalization works on."""
    if layer.scale:
        return None
    beta, mean, variance = layer.get_weights() if layer.center else (None, *layer.get_weights())
    weights = [np.ones_like(mean), *([] if beta is None else [beta]), mean, variance]
    options = {"axis": layer.axis, "momentum": layer.momentum, "epsilon": layer.epsilon, "center": layer.center}
    return make(L.BatchNormalization, **options, weights=weights)


INT8: dict[str, Rule] = {
    "Activation": _activation_layer,
    "ReLU": _relu,
    "PReLU": _prelu,
    "Maximum": _maximum(1.0),
    "Minimum": _maximum(-1.0),
    "Add": _unflattened(_pairwise),
    "Subtract": _unflattened(_kept),
    "Multiply": _unflattened(_pairwise),
    "Average": _average,
    "CustomScaleLayer": _scaled_sum,
    "LayerScale": _layer_scale,
    "BatchNormalization": _scaled_norm,
}
