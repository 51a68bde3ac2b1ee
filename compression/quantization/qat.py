"""Int8 quantization-aware training (QAT) of tf_keras models with tfmot, from the input to the output.

Weights are symmetric int8 per output channel, activations asymmetric int8 per tensor: what LiteRT and XNNPACK compute
with (https://ai.google.dev/edge/litert/models/quantization_spec).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras import quantize, quantize_layer, quantizers
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_layout_transform,
    default_8bit_quantize_scheme,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

from slimcam.compression.errors import CompressionError, UnsupportedLayerError
from slimcam.deploy.common.files import hdf5

PIXEL_RANGE = (-1.0, 127 / 128)
"""Range of (pixel - 128) / 128: as an int8 input it has scale 1/128 and zero point 0, so the input is pixel - 128."""


_OUTSIDE = 0.05
"""Share of the images whose smallest, or largest, activation is clipped: the outlier images."""

_Extremes = NDArray[np.float32]


def quantize_aware(model: tf_keras.Model, *, input_range: tuple[float, float] = PIXEL_RANGE) -> tf_keras.Model:
    """Returns a model that computes as its int8 version would, and that can still be trained.

    What the converter folds into a convolution (batch normalization, ReLU) is quantized once, after the last of it.
    Observers start at [-6, 6]: call `calibrate` before training.

    Args:
        model: functional, for example from `keras2.to_tf_keras`; it is not changed.
        input_range: smallest and largest value of the input; values outside are clipped.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized. The message names it.
        ValueError: `input_range` does not span zero.
    """
    low, high = input_range
    if not low <= 0 <= high or low == high:
        raise ValueError(f"input_range must span zero, since int8 has to represent it exactly; got [{low}, {high}]")
    with quantize.quantize_scope():
        try:
            return quantize.quantize_apply(quantize.quantize_annotate_model(model), _Scheme(low, high))
        except RuntimeError as error:
            raise UnsupportedLayerError(
                f"model '{model.name}' cannot be quantized: {str(error).split('. ')[0]}; replace the layer by one "
                f"that has an int8 form, such as Conv2D + BatchNormalization + ReLU, Add or pooling"
            ) from error


class _Scheme(default_8bit_quantize_scheme.Default8BitQuantizeScheme):  # type: ignore[misc]
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._low = low
        self._high = high

    def get_layout_transformer(self) -> Any:
        return _FixedInputLayout(self._low, self._high)


class _FixedInputLayout(default_8bit_quantize_layout_transform.Default8BitQuantizeLayoutTransform):  # type: ignore[misc]
    """tfmot's layout, with input quantizers whose range is known instead of observed."""

    def __init__(self, low: float, high: float) -> None:
        self._low = low
        self._high = high

    def apply(self, model: tf_keras.Model, layer_quantize_map: dict[str, Any]) -> Any:
        transformed, layer_quantize_map = super().apply(model, layer_quantize_map)
        for layer in transformed.layers:
            if isinstance(layer, quantize_layer.QuantizeLayer):
                layer.quantizer = quantizers.FixedQuantizer(8, self._low, self._high, narrow_range=False)
        return transformed, layer_quantize_map


def calibrate(model: tf_keras.Model, batches: Iterable[NDArray[np.float32]]) -> None:
    """Sets the range of every weight from its values and of every activation from real inputs.

    An activation's range is that of all but one in twenty images at either end. In some networks one image in a
    hundred or so is an outlier that drives the last layers to many times what is usual: a range that held it would be
    too coarse for all others, and clipping gives even it a better output (docs/recipe.md). Activations are observed
    unquantized, weights quantized.

    Args:
        model: from `quantize_aware`; changed in place.
        batches: at least one, each `(N, ...)` as the model's input; a few hundred images in all do.

    Raises:
        CompressionError: `batches` is empty.
    """
    wrappers = [layer for layer in model.layers if isinstance(layer, QuantizeWrapper)]
    for wrapper in wrappers:
        for weight, _, limits in wrapper._weight_vars:
            largest = np.abs(weight.numpy())
            largest = largest.max(axis=tuple(range(largest.ndim - limits["max_var"].shape.rank)))
            limits["min_var"].assign(-largest)
            limits["max_var"].assign(largest)
    observer = _Observer()
    with _activation_quantizers(model, lambda _: observer):
        for batch in batches:
            model(batch, training=False)
    if not observer.seen:
        raise CompressionError("calibration needs at least one batch of inputs; got none")
    for limits, lows, highs in observer.seen.values():
        low, high = _range(np.concatenate(lows), np.concatenate(highs))
        limits["min_var"].assign(low)
        limits["max_var"].assign(high)


def _range(lows: _Extremes, highs: _Extremes) -> tuple[float, float]:
    """What an activation is quantized in, of its smallest and largest value in each image."""
    low, high = float(np.quantile(lows, _OUTSIDE)), float(np.quantile(highs, 1 - _OUTSIDE))
    if low == high == 0:  # a few images alone activate it
        low, high = float(lows.min()), float(highs.max())
    # Zero must be representable: it is what padding adds.
    return min(0.0, low), max(0.0, high)


class _Observer:
    """Stands in for the activation quantizers: records what they are given and passes it on unquantized."""

    def __init__(self) -> None:
        self.seen: dict[Any, tuple[dict[str, Any], list[_Extremes], list[_Extremes]]] = {}

    def __call__(self, inputs: Any, _training: bool, weights: dict[str, Any]) -> Any:
        _, lows, highs = self.seen.setdefault(weights["max_var"].ref(), (weights, [], []))
        values = np.asarray(inputs).reshape(len(inputs), -1)
        lows.append(values.min(axis=1))
        highs.append(values.max(axis=1))
        return inputs


@dataclass(frozen=True)
class _Fixed:
    """Quantizes as another quantizer does, and never moves the range."""

    quantizer: Any

    def __call__(self, inputs: Any, _training: bool, weights: dict[str, Any]) -> Any:
        return self.quantizer(inputs, False, weights=weights)


@contextmanager
def fixed_ranges(model: tf_keras.Model) -> Iterator[None]:
    """Within, training leaves the ranges of activations as they are; those of weights follow the weights.

    tfmot moves them towards the extremes of each batch, those of its outlier images too; a model learns best within the
    ranges that the device will have.

    Args:
        model: from `quantize_aware`, calibrated.
    """
    with _activation_quantizers(model, _Fixed):
        yield


@contextmanager
def _activation_quantizers(model: tf_keras.Model, replacement: Callable[[Any], Any]) -> Iterator[None]:
    """Replaces each quantizer of an activation within the block."""
    wrappers = [layer for layer in model.layers if isinstance(layer, QuantizeWrapper)]
    outputs = [(wrapper, wrapper._output_quantizers) for wrapper in wrappers]
    activations = [(each, each.quantizer) for wrapper in wrappers for each in wrapper._quantize_activations]
    for wrapper, found in outputs:
        wrapper._output_quantizers = [replacement(each) for each in found]
    for activation, quantizer in activations:
        activation.quantizer = replacement(quantizer)
    try:
        yield
    finally:
        for wrapper, found in outputs:
            wrapper._output_quantizers = found
        for activation, quantizer in activations:
            activation.quantizer = quantizer


def freeze_batch_norm(model: tf_keras.Model) -> None:
    """Makes batch normalization use, and keep, its moving statistics, gamma and beta, also while the model trains.

    The statistics then are those that the converter folds into the convolutions, and those that `calibrate` took the
    ranges with: where a batch's own statistics differ much, results out of range are clipped and pass no gradient.
    Freeze before `compile`, which decides what is trained; `save` and `load` keep it frozen.

    Args:
        model: from `quantize_aware`; changed in place.
    """
    for wrapper in model.layers:
        if isinstance(wrapper, QuantizeWrapper) and isinstance(wrapper.layer, tf_keras.layers.BatchNormalization):
            wrapper.layer.trainable = False
            # tfmot's wrapper keeps a list of its own, blind to the layer's flag.
            own = {id(weight) for weight in wrapper.layer.weights}
            wrapper._trainable_weights[:] = [each for each in wrapper._trainable_weights if id(each) not in own]


def save(model: tf_keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model from `quantize_aware` as one HDF5 file, without its optimizer."""
    with hdf5(Path(path)) as partial, warnings.catch_warnings():
        # The format that tf_keras recommends instead does not know tfmot's wrappers.
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        model.save(partial, save_format="h5", include_optimizer=False)


def load(path: str | os.PathLike[str]) -> tf_keras.Model:
    """Reads what `save` wrote; the model computes exactly as the saved one did.

    Raises:
        FileNotFoundError: there is no such file.
        CompressionError: the file holds no such model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no quantization-aware model at {path}")
    try:
        with quantize.quantize_scope():
            return tf_keras.models.load_model(path, compile=False)
    except (OSError, KeyError, TypeError) as error:
        raise CompressionError(f"{path} does not hold a model saved by quantization-aware training: {error}") from error
