"""From a Keras model to what quantization without training needs: a float file, ranges, and layers apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.export.tflite import float_tflite
from slimcam.compression.keras_graph import kind
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.normal_form.normalize import NormalForm, normalize
from slimcam.compression.quantization.equalize import equalize
from slimcam.compression.quantization.post_training import Ranges, exceptions, observed_ranges, refuse_recurrent
from slimcam.compression.quantization.schemes import PERCENTILE, Scheme, by_pattern

V = TypeVar("V")

Batches = Callable[[], Iterable[NDArray[np.float32] | list[NDArray[np.float32]]]]
"""Gives batches of inputs, as for `observed_ranges`."""


@dataclass(frozen=True)
class Prepared:
    """What `post_training.quantized` needs of a model.

    Attributes:
        content: Of the float `.tflite` file.
        ranges: Ranges of its activations, for a scheme in integers.
        exceptions: `LayerPolicy` of operators that are not as the scheme says, by the name of their output.
    """

    content: bytes
    ranges: Ranges | None = None
    exceptions: Mapping[str, str] = field(default_factory=dict)


def form_for(model: Any, scheme: Scheme) -> NormalForm:
    """The normal form for int8, or the model as it is where nothing computes in integers.

    Raises:
        CompressionError: as for `normalize`.
    """
    if not scheme.facts.integer:
        return NormalForm(model, (), {layer.name: layer.name for layer in _layers(model)})
    return normalize(model, int8=True)


def of_layers(patterns: Mapping[str, V], model: Any, form: NormalForm) -> dict[str, V]:
    """What patterns of names say of a model's layers, by name, as `by_pattern` tells.

    Args:
        patterns: Values by pattern.
        model: The model.
        form: Its form, from `form_for`.

    Raises:
        CompressionError: A pattern matches no layer.
    """
    names = list(
        dict.fromkeys(
            form.origins[operation.name] for operation in form.model.operations if kind(operation) != "InputLayer"
        )
    )
    known = {layer.name: layer_spec(layer) for layer in _layers(model)}
    kernels = [name for name in names if (spec := known.get(name)) is not None and spec.kernels]
    return by_pattern(patterns, names, kernels)


def prepare(
    form: NormalForm,
    scheme: Scheme,
    batches: Batches | None = None,
    policies: Mapping[str, str] | None = None,
    *,
    percentile: float = PERCENTILE,
    input_range: Sequence[float] = (),
) -> Prepared:
    """Equalizes channels where the scheme is in integers, converts to float, and takes the ranges of activations.

    Args:
        form: From `form_for`; its model is changed in place by a scheme in integers.
        scheme: One without training.
        batches: Inputs that ranges are taken from, for a scheme in integers.
        policies: `LayerPolicy` of layers that are not as the scheme says, from `of_layers`.
        percentile: As for `observed_ranges`.
        input_range: As for `observed_ranges`.

    Raises:
        ConversionError: TFLite has no form for a layer, or a recurrent layer is to be int8.
        CompressionError: There are no batches, and the scheme needs some.
    """
    if scheme.facts.integer:
        refuse_recurrent(form.model)
        equalize(form.model, batches() if batches is not None else ())
    content = float_tflite(form.model)
    ranges = None
    if scheme.facts.integer:
        ranges = observed_ranges(content, batches() if batches is not None else (), percentile, input_range)
    return Prepared(content, ranges, exceptions(content, policies or {}, form.origins))


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers(include_self=False))
