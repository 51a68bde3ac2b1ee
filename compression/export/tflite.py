"""TensorFlow Lite models, as bytes, for one image at a time."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from slimcam.compression.errors import ConversionError
from slimcam.compression.export.graph import Graph
from slimcam.compression.export.rounding import rounded_alike
from slimcam.compression.normal_form.normalize import in_float32
from slimcam.compression.quantization import ranges
from slimcam.compression.quantization.keras2 import to_tf_keras
from slimcam.deploy.common.messages import one_line


def float_tflite(model: keras.Model | Graph, *, sparse: bool = False) -> bytes:
    """Converts to float32, with batch normalization folded into the convolutions.

    Args:
        model: any Keras 3 model; on a backend other than TensorFlow, one that `keras2.to_tf_keras` takes. Or a graph.
        sparse: Stores kernels with enough zeros without them: a smaller file, and on ARM the condition for XNNPACK's
            sparse kernels (docs/pruning.md).

    Raises:
        ConversionError: TensorFlow Lite has no form for a layer of the model, or weights are not finite.
    """
    _require_finite(model)
    converter = _converter(_on_tensorflow(model))
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    return _convert(converter, model.name)


def int8_tflite(model: tf_keras.Model) -> bytes:
    """Converts a quantization-aware model to int8 from input to output, with the ranges that it learned.

    Ranges that an int8 runtime would refuse are widened first, in `model` itself, so that the model goes on computing
    what the file computes (see `ranges.widen`); a bias that is one number throughout is changed by the last bit.

    Args:
        model: from `qat.quantize_aware`, calibrated or trained.

    Raises:
        ConversionError: the model cannot be converted, something in it would stay float, or weights are not finite.
    """
    _require_finite(model)
    ranges.widen(model)
    _tell_biases_apart(model)
    content = rounded_alike(_convert(_int8(_converter(model)), model.name))
    _require_int8(content, model.name)
    return content


def _require_finite(model: keras.Model | tf_keras.Model | Graph) -> None:
    """Refuses weights that are no numbers: the converter dies of them, and takes the process along."""
    holders = [model] if isinstance(model, Graph) else model.layers
    for holder, weight in [(each, weight) for each in holders for weight in each.weights]:
        values = np.asarray(weight)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ConversionError(
                f"model '{model.name}': weights '{holder.name}/{weight.name}' are not finite: a training diverged; "
                "lower its learning rate, or start from other weights"
            )


def _tell_biases_apart(model: tf_keras.Model) -> None:
    """Changes the last bit of one channel of each bias whose channels are all one number.

    MLIR keeps such a constant as one number, and the converter quantizes it for all channels with the scale of the
    first one's weights: a bias of 1/2, as in a hard sigmoid, then is off by the ratio of the scales.
    """
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        for name in ("bias", "beta"):
            variable = getattr(inner, name, None)
            if variable is None:
                continue
            values = variable.numpy()
            if values.size > 1 and values.flat[0] and np.all(values == values.flat[0]):
                values.flat[0] = np.nextafter(values.flat[0], np.float32(0))
                variable.assign(values)


def _on_tensorflow(model: keras.Model | Graph) -> Any:
    if isinstance(model, Graph):
        return model
    model = in_float32(model)
    return model if keras.backend.backend() == "tensorflow" else to_tf_keras(model)


def _converter(model: Any) -> Any:
    signature = [tf.TensorSpec((1, *x.shape[1:]), x.dtype, name=x.name.split(":")[0]) for x in model.inputs]
    function = tf.function(lambda *inputs: model(inputs[0] if len(inputs) == 1 else list(inputs), training=False))
    concrete = function.get_concrete_function(*signature)
    # Given the function instead of the model, the converter freezes the graph itself instead of going through a
    # SavedModel: ten times faster, and the variables of a Keras 3 model become constants.
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], concrete)


def _int8(converter: Any) -> Any:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return converter


def _convert(converter: Any, name: str) -> bytes:
    with warnings.catch_warnings():
        # "Statistics for quantized inputs were expected": they are in the model, the converter does not look there.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        try:
            content = bytes(converter.convert())
        except Exception as error:  # the converter raises ConverterError, RuntimeError, ValueError and SystemError
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConversionError(f"model '{name}' cannot be converted to TensorFlow Lite: {reason}") from error
    require_runtime(content, name)
    return content


def with_all_tensors(content: bytes) -> Interpreter:
    """Opens a file so that all its tensors can be read: without a delegate, which keeps none of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
        interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    return interpreter


def require_runtime(content: bytes, name: str) -> None:
    """Opens the file once: the converter writes some that the runtime does not take."""
    try:
        Interpreter(model_content=content).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"model '{name}' is converted, but the TensorFlow Lite runtime refuses the file: {one_line(error)}"
        ) from error


def _require_int8(content: bytes, name: str) -> None:
    tensors = Interpreter(model_content=content).get_tensor_details()
    others = [tensor["name"] for tensor in tensors if tensor["dtype"] not in (np.int8, np.int32)]
    if others:
        raise ConversionError(
            f"model '{name}' is not int8 throughout: {len(others)} of {len(tensors)} tensors are float, the first is "
            f"'{others[0]}'; calibrate the model, and write it in normal form (compression.normalize)"
        )
