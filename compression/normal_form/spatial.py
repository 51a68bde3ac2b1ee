"""Pooling, resizing and concatenation in normal form, and layers that only training has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from slimcam.compression.normal_form.parts import Parts, Rule, as_image

L = keras.layers

_MOST_INPUTS = 5


def _left_out(layer: Any, make: Parts) -> Callable[..., Any]:  # noqa: ARG001
    return lambda x, **_: x


def _average(layer: Any, make: Parts) -> Callable[..., Any]:
    """The mean over a window as a depthwise convolution, or as global pooling where the window is the image."""
    height, width = layer.pool_size
    padding = layer.padding

    def call(x: Any) -> Any:
        if tuple(x.shape[1:3]) == (height, width) and padding == "valid":
            return make(L.GlobalAveragePooling2D, keepdims=True)(x)
        channels = x.shape[-1]
        kernel = np.full((height, width, channels, 1), 1 / (height * width), np.float32)
        means = _depthwise(make, kernel, layer.strides, x.shape[1:3], padding=padding)
        if padding == "valid" or None in x.shape[1:3]:
            return means(x)
        return make(L.Rescaling, _border_factors(layer, x.shape[1:3]), suffix="border")(means(x))

    return call if layer.data_format == "channels_last" else make.keep(layer)


def _depthwise(make: Parts, kernel: Any, strides: tuple[int, int], image: tuple[int, int], **options: Any) -> Any:
    """A depthwise convolution that is not trained, by a kernel `(height, width, channels, 1)`.

    TensorFlow has depthwise convolutions of unequal strides on some processors alone. Along an axis of one pixel the
    stride counts nothing; elsewhere it is a convolution whose kernel is zero between different channels.
    """
    options = {"use_bias": False, "trainable": False, **options}
    size = kernel.shape[:2]
    for axis, other in ((0, 1), (1, 0)):
        if image[axis] == size[axis] == 1:
            strides = (strides[other], strides[other])
    if strides[0] == strides[1]:
        return make(L.DepthwiseConv2D, size, strides=strides, weights=[kernel], **options)
    channels = kernel.shape[2]
    diagonal = kernel * np.eye(channels, dtype=np.float32)
    return make(L.Conv2D, channels, size, strides=strides, weights=[diagonal], **options)


def _border_factors(layer: Any, shape: tuple[int, int]) -> Any:
    """Pixels of a window over those of them that lie in the image, `(height, width, 1)`."""
    ones = np.ones((1, *shape, 1), np.float32)
    kernel = np.ones((*layer.pool_size, 1, 1), np.float32)
    count = keras.ops.conv(ones, kernel, strides=layer.strides, padding=layer.padding)
    return (np.prod(layer.pool_size) / keras.ops.convert_to_numpy(count)[0]).tolist()


def _maximum(layer: Any, make: Parts) -> Callable[..., Any] | None:
    """Pooling of single pixels picks every nth: a depthwise convolution by one."""
    if tuple(layer.pool_size) != (1, 1):
        return None

    def call(x: Any) -> Any:
        kernel = np.ones((1, 1, x.shape[-1], 1), np.float32)
        return _depthwise(make, kernel, layer.strides, x.shape[1:3])(x)

    return call


def _nearest(layer: Any, make: Parts) -> Callable[..., Any] | None:
    """Repeated pixels: concatenation with itself along the channels, read as more columns, then as more rows."""
    if layer.interpolation != "nearest":
        return None

    def call(x: Any) -> Any:
        rows, columns = layer.size
        height, width, channels = x.shape[1:]
        if None in (height, width):
            return make.keep(layer)(x)
        if columns > 1:
            x = make(L.Concatenate, suffix="columns")([x] * columns)
        x = make(L.Reshape, (height, 1, width * columns * channels), suffix="wide")(x)
        if rows > 1:
            x = make(L.Concatenate, suffix="rows")([x] * rows)
        return make(L.Reshape, (height * rows, width * columns, channels))(x)

    return call


def _concatenation(layer: Any, make: Parts) -> Callable[..., Any]:
    """Concatenations of no more tensors than XNNPACK takes at a time."""

    def call(tensors: Any) -> Any:
        if len(tensors) <= _MOST_INPUTS:
            return make.keep(layer)(tensors)
        while len(tensors) > _MOST_INPUTS:
            first, rest = tensors[:_MOST_INPUTS], tensors[_MOST_INPUTS:]
            tensors = [make(L.Concatenate, axis=layer.axis, suffix="first")(first), *rest]
        return make(L.Concatenate, axis=layer.axis)(tensors)

    return call


def _as_2d(kind: type, **options: Callable[[Any], Any]) -> Rule:
    """A layer along one axis as the layer of images of one row."""

    def rule(layer: Any, make: Parts) -> Callable[..., Any]:
        given = {name: value(layer) for name, value in options.items()}
        return as_image(make, make(kind, **given))

    return rule


def _pooling(kind: type) -> Rule:
    return _as_2d(
        kind,
        pool_size=lambda layer: (1, int(np.ravel(layer.pool_size)[0])),
        strides=lambda layer: (1, int(np.ravel(layer.strides)[0])),
        padding=lambda layer: layer.padding,
    )


def _global(kind: type) -> Rule:
    def rule(layer: Any, make: Parts) -> Callable[..., Any]:
        pooling = make(kind, keepdims=layer.keepdims)

        def call(x: Any, **_: Any) -> Any:
            y = pooling(make(L.Reshape, (1, *x.shape[1:]), suffix="image")(x))
            return make(L.Reshape, (1, x.shape[-1]), suffix="restored")(y) if layer.keepdims else y

        return call

    return rule


_AUGMENTATION = tuple(
    name
    for name in dir(L)
    if name.startswith(("Random", "AugMix", "AutoContrast", "CutMix", "Equalization", "MixUp", "Solarization"))
)

FLAT: dict[str, Rule] = dict.fromkeys(("Identity", *_AUGMENTATION), _left_out)
"""Augmentation belongs before the model: a deployed model has none."""

INT8: dict[str, Rule] = {
    "AveragePooling2D": _average,
    "MaxPooling2D": _maximum,
    "UpSampling2D": _nearest,
    "Concatenate": _concatenation,
    "MaxPooling1D": _pooling(L.MaxPooling2D),
    "AveragePooling1D": _pooling(L.AveragePooling2D),
    "GlobalAveragePooling1D": _global(L.GlobalAveragePooling2D),
    "GlobalMaxPooling1D": _global(L.GlobalMaxPooling2D),
    "ZeroPadding1D": _as_2d(L.ZeroPadding2D, padding=lambda layer: ((0, 0), tuple(layer.padding))),
    "Cropping1D": _as_2d(L.Cropping2D, cropping=lambda layer: ((0, 0), tuple(layer.cropping))),
    "UpSampling1D": _as_2d(L.UpSampling2D, size=lambda layer: (1, layer.size)),
    **dict.fromkeys(("AlphaDropout", "GaussianDropout", "GaussianNoise", "StochasticDepth"), _left_out),
}
