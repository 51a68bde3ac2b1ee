"""Convolutions and dense layers in normal form: a linear two-dimensional convolution, then its activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from slimcam.compression.normal_form.activations import activation
from slimcam.compression.normal_form.parts import Parts, Rule, as_image, chain

L = keras.layers


def _values(layer: Any) -> dict[str, Any]:
    return {weight.name: keras.ops.convert_to_numpy(weight) for weight in layer.weights}


def _separable(layer: Any, make: Parts) -> Callable[..., Any]:
    """A depthwise convolution, then a pointwise one."""
    values = _values(layer)
    one = layer.rank == 1
    strides, dilation = (np.ravel(value).tolist() for value in (layer.strides, layer.dilation_rate))
    depthwise = make(
        L.DepthwiseConv1D if one else L.DepthwiseConv2D,
        layer.kernel_size,
        suffix="depthwise",
        weights=[values["depthwise_kernel"]],
        strides=strides[0] if one else layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=dilation[0] if one else layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
    )
    pointwise = make(
        L.Conv1D if one else L.Conv2D,
        layer.filters,
        1,
        weights=[values[name] for name in ("pointwise_kernel", "bias") if name in values],
        use_bias=layer.use_bias,
        activation=layer.activation,
        kernel_regularizer=layer.pointwise_regularizer,
    )
    return chain(depthwise, pointwise)


def _linear(layer: Any, make: Parts) -> Callable[..., Any] | None:
    """The same layer without its activation, then the activation."""
    if layer.activation is keras.activations.linear:
        return None
    options = _options(layer)
    return chain(
        make(type(layer), **options, weights=layer.get_weights()),
        activation(layer.activation, make, suffix="activation"),
    )


def _options(layer: Any) -> dict[str, Any]:
    """Options of a layer for one without an activation; what initializes or constrains weights is left out."""
    config = {name: value for name, value in layer.get_config().items() if not name.endswith("_initializer")}
    for name in ("name", "trainable", "dtype", "activation", "build_config"):
        config.pop(name, None)
    return {
        **config,
        **{name: getattr(layer, name) for name in config if name.endswith(("_regularizer", "_constraint"))},
    }


def _dense(layer: Any, make: Parts) -> Callable[..., Any]:
    """A 1x1 convolution, whose weights have a scale for each output; TFLite's quantizer gives a dense layer one."""
    kernel, *bias = layer.get_weights()
    convolution = make(
        L.Conv2D,
        layer.units,
        1,
        weights=[kernel[np.newaxis, np.newaxis], *bias],
        use_bias=layer.use_bias,
        kernel_regularizer=layer.kernel_regularizer,
    )
    follow = activation(layer.activation, make, suffix="activation")
    return as_image(make, chain(convolution, follow))


def _convolution_1d(layer: Any, make: Parts) -> Callable[..., Any]:
    """A convolution of images of one row."""
    depthwise = isinstance(layer, L.DepthwiseConv1D)
    causal = layer.padding == "causal"
    kernel, *bias = layer.get_weights()
    size, dilation = int(np.ravel(layer.kernel_size)[0]), int(np.ravel(layer.dilation_rate)[0])
    stride = int(np.ravel(layer.strides)[0])
    # Keras gives both strides of a depthwise convolution one value; along the single row the other one counts nothing.
    options: dict[str, Any] = {
        "strides": (stride, stride) if depthwise else (1, stride),
        "dilation_rate": (1, dilation),
        "padding": "valid" if causal else layer.padding,
        "use_bias": layer.use_bias,
        "weights": [kernel[np.newaxis], *bias],
    }
    if depthwise:
        convolution = make(L.DepthwiseConv2D, (1, size), depth_multiplier=layer.depth_multiplier, **options)
    else:
        convolution = make(L.Conv2D, layer.filters, (1, size), groups=layer.groups, **options)
    steps = [convolution, activation(layer.activation, make, suffix="activation")]
    if causal:
        steps.insert(0, make(L.ZeroPadding2D, ((0, 0), (dilation * (size - 1), 0)), suffix="causal"))
    return as_image(make, chain(*steps))


FLAT: dict[str, Rule] = dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable)

INT8: dict[str, Rule] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D", "Conv2DTranspose"), _linear),
    **dict.fromkeys(("Conv1D", "DepthwiseConv1D"), _convolution_1d),
    "Dense": _dense,
}
