"""Quantization without training: a float TFLite file in, a quantized one out, by recipes of ai-edge-quantizer.

Beside TFLite's own converter (MobileNetV2 and EfficientNetB0, docs/quantization.md) it is as exact, has 4-bit weights,
takes ranges that others found, and leaves single operators as they are.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any

import keras
import numpy as np
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.recipe_manager import RecipeManager
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError, ConversionError
from slimcam.compression.export.delegation import layers_of, read_operators
from slimcam.compression.export.rounding import rounded_alike
from slimcam.compression.export.tflite import float_tflite, require_runtime, with_all_tensors
from slimcam.compression.quantization.errors import LayerError, error_of
from slimcam.compression.quantization.ranges import clipped_range
from slimcam.compression.quantization.schemes import PERCENTILE, LayerPolicy, Scheme
from slimcam.deploy.common.messages import one_line

Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest value of each tensor of activations, by name."""

_ALL = qtyping.TFLOperationName.ALL_SUPPORTED


def quantized(
    content: bytes,
    scheme: Scheme,
    ranges: Ranges | None = None,
    exceptions: Mapping[str, str] | None = None,
    *,
    float_ends: bool = False,
) -> bytes:
    """Quantizes a float model.

    Args:
        content: of a float `.tflite` file; for a scheme in integers, of a model in normal form for int8.
        scheme: one without training.
        ranges: from `observed_ranges`, for a scheme in integers.
        exceptions: `LayerPolicy` of operators that are not to be as the scheme says, by the name of their output.
        float_ends: Whether input and output are float32 also where activations are int8. Where they are int16 they are
            always: a camera's pixels are made int8 or float32.

    Raises:
        ConversionError: The quantizer, or the runtime afterwards, refuses the model.
        CompressionError: The scheme is trained, or in integers and `ranges` are absent.
    """
    if scheme not in _RECIPES:
        raise CompressionError(f"{scheme} is not a scheme of quantization after training")
    if scheme.facts.integer and not ranges:
        raise CompressionError(f"{scheme} needs ranges of activations (observed_ranges); got none")
    recipe = RecipeManager()
    _RECIPES[scheme](recipe, ".*")
    for tensor, policy in (exceptions or {}).items():
        _POLICIES[LayerPolicy(policy)](recipe, f"^{re.escape(tensor)};?$")
    if float_ends or scheme is Scheme.PTQ_INT16X8:
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            recipe.add_quantization_config(".*", end, None, AlgorithmName.NO_QUANTIZE)
    quantizer = Quantizer(bytearray(content), recipe.get_quantization_recipe())
    observed = {name: {"min": _bound(low), "max": _bound(high)} for name, (low, high) in (ranges or {}).items()}
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            # A progress bar that cannot be switched off, and a warning of tensors that are kept.
            warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
            result = quantizer.quantize(observed, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError) as error:
        raise ConversionError(f"the model cannot be quantized as {scheme}: {one_line(error)}") from error
    file = rounded_alike(bytes(result.quantized_model))
    require_runtime(file, scheme)
    return file


def post_training_int8(model: Any, batches: Iterable[NDArray[np.float32] | list[NDArray[np.float32]]]) -> bytes:
    """An int8 `.tflite` file of a Keras model in normal form for int8, without training.

    Args:
        model: from `normalize(model, int8=True)`.
        batches: as for `observed_ranges`.

    Raises:
        ConversionError: The model has recurrent layers, cannot be converted or quantized, or the runtime refuses it
            afterwards.
        CompressionError: `batches` is empty.
    """
    refuse_recurrent(model)
    content = float_tflite(model)
    return quantized(content, Scheme.PTQ_INT8, observed_ranges(content, batches))


def refuse_recurrent(model: Any) -> None:
    """Raises:
    ConversionError: A layer is recurrent, which has no int8 form.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN):
            raise ConversionError(
                f"layer {layer.name!r} ({type(layer).__name__}) has no int8 form; replace it by convolutions, or take "
                "a scheme in float arithmetic, float16 for example"
            )


def observed_ranges(
    content: bytes,
    batches: Iterable[NDArray[np.float32] | list[NDArray[np.float32]]],
    percentile: float = PERCENTILE,
    input_range: Sequence[float] = (),
) -> Ranges:
    """The ranges of the activations of a float model over images.

    Args:
        content: of a float `.tflite` file.
        batches: at least one, each `(N, ...)` as the model's input, or a list of such for several inputs.
        percentile: of the images' extremes that a range holds, as for `qat.calibrate`.
        input_range: smallest and largest value of the input; those of the images if empty.

    Raises:
        CompressionError: `batches` is empty.
    """
    interpreter = with_all_tensors(content)
    given = interpreter.get_input_details()
    known = {int(index) for node in interpreter._get_ops_details() for index in node["outputs"]}
    known |= {int(each["index"]) for each in given}
    tensors = [each for each in interpreter.get_tensor_details() if each["index"] in known]
    lows: dict[str, list[float]] = {}
    highs: dict[str, list[float]] = {}
    listed = (batch if isinstance(batch, list) else [batch] for batch in batches)
    for images in (images for batch in listed for images in zip(*batch, strict=True)):
        for each, image in zip(given, images, strict=True):
            interpreter.set_tensor(each["index"], image[np.newaxis])
        interpreter.invoke()
        for tensor in tensors:
            values = interpreter.get_tensor(tensor["index"])
            lows.setdefault(tensor["name"], []).append(float(values.min()))
            highs.setdefault(tensor["name"], []).append(float(values.max()))
    if not lows:
        raise CompressionError("quantization after training needs images to take ranges from; got none")
    ranges = {name: clipped_range(np.array(lows[name]), np.array(highs[name]), percentile) for name in lows}
    if len(input_range):
        ranges |= {each["name"]: (input_range[0], input_range[1]) for each in given}
    return ranges


def exceptions(content: bytes, policies: Mapping[str, str], origins: Mapping[str, str]) -> dict[str, str]:
    """The policies of layers as those of a file's operators, by the name of their output.

    Args:
        content: of a `.tflite` file.
        policies: by the name of the Keras layer.
        origins: layer of the Keras model by the name of the layer that was converted, as in `NormalForm.origins`.
    """
    found = {}
    for operator in read_operators(content):
        for layer in layers_of(operator.output.name, origins):
            if layer in policies:
                found[operator.output.name] = policies[layer]
    return found


def softmax_in_float(content: bytes) -> dict[str, str]:
    """Policies that keep softmax, and what only reshapes it, in float, as for `quantized`.

    In int8 its steps are 1/256, so that all of a thousand classes may be 0, and XNNPACK has no kernel for it; in float
    it has one.

    Args:
        content: of the float `.tflite` file.
    """
    found: dict[str, str] = {}
    for operator in read_operators(content):
        passed = operator.kind == "RESHAPE" and any(tensor.name in found for tensor in operator.inputs)
        if operator.kind == "SOFTMAX" or passed:
            found[operator.output.name] = LayerPolicy.FLOAT.value
    return found


def tensor_errors(content: bytes, file: bytes, images: NDArray[np.float32]) -> dict[str, LayerError]:
    """The error of each operator's output of a quantized file, what the operators before it lose included.

    Args:
        content: of the float `.tflite` file that it was made of.
        file: from `quantized`.
        images: `(N, ...)` as the float model's input.
    """
    exact, found = ({operator.output.name for operator in read_operators(each)} for each in (content, file))
    names = [operator.output.name for operator in read_operators(content) if operator.output.name in exact & found]
    pairs = zip(*(_values(each, names, images) for each in (file, content)), strict=True)
    errors = {name: error_of(given, wanted) for name, (given, wanted) in zip(names, pairs, strict=True)}
    return {name: error for name, error in errors.items() if error is not None}


def _values(content: bytes, names: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """What tensors hold for images, as real numbers."""
    interpreter = with_all_tensors(content)
    (given,) = interpreter.get_input_details()
    tensors = {each["name"]: each for each in interpreter.get_tensor_details()}
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for image in images:
        interpreter.set_tensor(given["index"], _stepped(image[np.newaxis], given))
        interpreter.invoke()
        for name in names:
            scale, zero_point = tensors[name]["quantization"]
            found = interpreter.get_tensor(tensors[name]["index"]).astype(np.float32)
            values[name].append((found - zero_point) * scale if scale else found)
    return [np.stack(values[name]) for name in names]


def _stepped(image: NDArray[np.float32], tensor: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero_point = tensor["quantization"]
    if not scale:
        return image
    limits = np.iinfo(tensor["dtype"])
    steps: NDArray[Any] = np.clip(np.round(image / scale + zero_point), limits.min, limits.max).astype(tensor["dtype"])
    return steps


def _bound(value: float) -> NDArray[np.float32]:
    return np.array([[value]], np.float32)


def _static(bits: int) -> Callable[[RecipeManager, str], None]:
    return lambda recipe, pattern: recipe.add_static_config(pattern, _ALL, bits, 8)


def _weights(bits: int) -> Callable[[RecipeManager, str], None]:
    return lambda recipe, pattern: recipe.add_weight_only_config(pattern, _ALL, bits)


def _dynamic(recipe: Any, pattern: str) -> None:
    recipe.add_dynamic_config(pattern, _ALL, 8)


def _float16(recipe: Any, pattern: str) -> None:
    recipe.add_weight_only_config(pattern, _ALL, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)


def _float(recipe: Any, pattern: str) -> None:
    recipe.add_quantization_config(pattern, _ALL, None, AlgorithmName.NO_QUANTIZE)


_RECIPES: dict[Scheme, Callable[[RecipeManager, str], None]] = {
    Scheme.PTQ_INT8: _static(8),
    Scheme.MIXED: _static(8),
    Scheme.PTQ_INT16X8: _static(16),
    Scheme.DYNAMIC: _dynamic,
    Scheme.WEIGHTS_INT8: _weights(8),
    Scheme.WEIGHTS_INT4: _weights(4),
    Scheme.FLOAT16: _float16,
}

_POLICIES: dict[LayerPolicy, Callable[[RecipeManager, str], None]] = {
    LayerPolicy.INT8: _static(8),
    LayerPolicy.INT8_WEIGHTS: _weights(8),
    LayerPolicy.FLOAT: _float,
}
