"""Int8 quantization-aware training (QAT) of tf_keras models with tfmot, from the input to the output.

Weights are symmetric int8 per output channel, activations asymmetric int8 per tensor: what LiteRT and XNNPACK compute
with (https://ai.google.dev/edge/litert/models/quantization_spec).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras import quantize, quantizers
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

from slimcam.compression.errors import CompressionError
from slimcam.compression.quantization.layout import OBJECTS, LayerWrapper, layer_quantizations
from slimcam.compression.quantization.ranges import clipped_range
from slimcam.compression.quantization.schemes import PERCENTILE
from slimcam.deploy.common.files import hdf5

PIXEL_RANGE = (-1.0, 127 / 128)
"""Range of (pixel - 128) / 128: as an int8 input it has scale 1/128 and zero point 0, so the input is pixel - 128."""

_Extremes = NDArray[np.float32]


def quantize_aware(
    model: tf_keras.Model, *, input_range: Sequence[float] = (), float_kernels: Collection[str] = ()
) -> tf_keras.Model:
    """Returns a model that computes as its int8 version would, and that can still be trained.

    What the converter folds into a convolution (batch normalization, ReLU) is quantized once, after the last of it.
    Observers start at [-6, 6]: call `calibrate` before training.

    Args:
        model: functional and in normal form, as `to_tf_keras(normalize(model, int8=True).model)`; it is not changed.
        input_range: smallest and largest value of the inputs, for example `PIXEL_RANGE`; values outside are clipped.
            Observed like other activations if empty.
        float_kernels: Names of layers whose weights stay float; their inputs and outputs are int8 as others'.

    Raises:
        UnsupportedLayerError: layers cannot be quantized. The message names all of them.
        ValueError: `input_range` does not span zero.
    """
    if len(input_range) and not (input_range[0] <= 0 <= input_range[1] and input_range[0] < input_range[1]):
        raise ValueError(f"input_range must span zero, since int8 has to represent it exactly; got {list(input_range)}")
    quantizations = layer_quantizations(model, float_kernels)
    wrapped: dict[str, LayerWrapper] = {}
    tensors = {}
    for tensor in model.inputs:
        given = tf_keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor._keras_history.layer.name)
        tensors[id(tensor)] = given, QuantizeLayer(_input_quantizer(input_range))(given)
    computed = {key: quantized for key, (_, quantized) in tensors.items()}
    for node in _nodes(model):
        layer, first = node.layer, node.layer.name not in wrapped
        arguments, keywords = tf.nest.map_structure(
            lambda value: computed.get(id(value), value), (node.call_args, node.call_kwargs)
        )
        if first:
            copy = type(layer).from_config({**layer.get_config(), **quantizations[layer.name].changes})
            if layer.weights:
                copy.build(arguments[0].shape)
                copy.set_weights(layer.get_weights())
            wrapped[layer.name] = LayerWrapper(copy, quantizations[layer.name])
        result = wrapped[layer.name](*arguments, **keywords)
        computed.update((id(old), new) for old, new in zip(*map(tf.nest.flatten, (node.outputs, result)), strict=True))
    inputs = tf.nest.map_structure(lambda tensor: tensors[id(tensor)][0], model._nested_inputs)
    outputs = tf.nest.map_structure(lambda tensor: computed[id(tensor)], model._nested_outputs)
    return tf_keras.Model(inputs, outputs, name=model.name)


def exact(model: tf_keras.Model) -> tf_keras.Model:
    """What a model from `quantize_aware` computes with its weights if nothing is quantized; kernels are constants."""
    computed = {id(tensor): tensor for tensor in model.inputs}
    for node in _nodes(model):
        arguments, keywords = tf.nest.map_structure(
            lambda value: computed.get(id(value), value), (node.call_args, node.call_kwargs)
        )
        layer = node.layer
        if isinstance(layer, QuantizeWrapper):
            # The wrapper leaves its last quantized kernel in the layer, which would take a variable for one of its own.
            kernels = [tf.convert_to_tensor(weight) for weight, *_ in layer._weight_vars]
            layer.quantize_config.set_quantize_weights(layer.layer, kernels)
            result = layer.layer(*arguments, **{key: value for key, value in keywords.items() if key != "training"})
        else:
            (result,) = arguments
        computed.update((id(old), new) for old, new in zip(*map(tf.nest.flatten, (node.outputs, result)), strict=True))
    outputs = tf.nest.map_structure(lambda tensor: computed[id(tensor)], model._nested_outputs)
    return tf_keras.Model(model._nested_inputs, outputs, name=model.name)


def _input_quantizer(input_range: Sequence[float]) -> Any:
    if not len(input_range):
        return quantizers.AllValuesQuantizer(8, per_axis=False, symmetric=False, narrow_range=False)
    return quantizers.FixedQuantizer(8, *input_range, narrow_range=False)


def _nodes(model: tf_keras.Model) -> list[Any]:
    """The calls of a functional model in the order of computation, inputs left out."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def _scope() -> Any:
    return quantize.quantize_scope(OBJECTS)


def calibrate(model: tf_keras.Model, batches: Iterable[NDArray[np.float32]], percentile: float = PERCENTILE) -> None:
    """Sets the range of every weight from its values and of every activation from real inputs.

    An activation's range is that of `percentile` percent of the images at either end. In some networks one image in a
    hundred or so is an outlier that drives the last layers to many times what is usual: a range that held it would be
    too coarse for all others, and clipping gives even it a better output (docs/recipe.md). Activations are observed
    unquantized, weights quantized.

    Args:
        model: from `quantize_aware`; changed in place.
        batches: at least one, each `(N, ...)` as the model's input; a few hundred images in all do.
        percentile: 100 clips nothing.

    Raises:
        CompressionError: `batches` is empty.
    """
    for wrapper in wrappers(model):
        for weight, quantizer, limits in wrapper._weight_vars:
            largest = quantizer.largest(weight.numpy())
            limits["min_var"].assign(-largest)
            limits["max_var"].assign(largest)
    observer = _Observer()
    with _activation_quantizers(model, lambda _: observer):
        for batch in batches:
            model(batch, training=False)
    if not observer.seen:
        raise CompressionError("calibration needs at least one batch of inputs; got none")
    for limits, lows, highs in observer.seen.values():
        low, high = clipped_range(np.concatenate(lows), np.concatenate(highs), percentile)
        limits["min_var"].assign(low)
        limits["max_var"].assign(high)


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
    inputs = [layer for layer in model.layers if isinstance(layer, QuantizeLayer)]
    observing = [layer for layer in wrappers(model) if layer._output_quantizers]
    given = [(layer, layer.quantizer) for layer in inputs if _observes(layer.quantizer)]
    outputs = [(layer, layer._output_quantizers) for layer in observing if _observes(layer._output_quantizers[0])]
    for layer, quantizer in given:
        layer.quantizer = replacement(quantizer)
    for layer, found in outputs:
        layer._output_quantizers = [replacement(each) for each in found]
    try:
        yield
    finally:
        for layer, quantizer in given:
            layer.quantizer = quantizer
        for layer, found in outputs:
            layer._output_quantizers = found


def _observes(quantizer: Any) -> bool:
    return not isinstance(quantizer, quantizers.FixedQuantizer)


def wrappers(model: tf_keras.Model) -> list[Any]:
    """The layers of a model from `quantize_aware` that were layers of the given one, which each has as `layer`."""
    return [layer for layer in model.layers if isinstance(layer, QuantizeWrapper)]


def freeze_batch_norm(model: tf_keras.Model) -> None:
    """Makes batch normalization use, and keep, its moving statistics, gamma and beta, also while the model trains.

    The statistics then are those that the converter folds into the convolutions, and those that `calibrate` took the
    ranges with: where a batch's own statistics differ much, results out of range are clipped and pass no gradient.
    Freeze before `compile`, which decides what is trained; `save` and `load` keep it frozen.

    Args:
        model: from `quantize_aware`; changed in place.
    """
    for wrapper in wrappers(model):
        if isinstance(wrapper.layer, tf_keras.layers.BatchNormalization):
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
        with _scope():
            return tf_keras.models.load_model(path, compile=False)
    except (OSError, KeyError, TypeError) as error:
        raise CompressionError(f"{path} does not hold a model saved by quantization-aware training: {error}") from error
