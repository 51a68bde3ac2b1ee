"""Files of quantization-aware models some layers of which are not int8.

TFLite's converter quantizes every kernel between int8 activations. So the model is converted in float, and quantized in
the ranges that it has learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tf_keras
from numpy.typing import NDArray

from slimcam.compression.export.delegation import layers_of, read_operators
from slimcam.compression.export.tflite import float_tflite
from slimcam.compression.quantization import post_training, qat, ranges
from slimcam.compression.quantization.schemes import PERCENTILE, Scheme


def trained_file(
    model: tf_keras.Model,
    policies: Mapping[str, str],
    batches: Iterable[NDArray[np.float32]],
    percentile: float = PERCENTILE,
) -> bytes:
    """Converts a quantization-aware model to int8 but for some layers.

    Args:
        model: from `qat.quantize_aware`, calibrated or trained. As by `int8_tflite`, ranges in it may be widened.
        policies: `LayerPolicy` of the layers that are not int8, by name.
        batches: as for `calibrate`: for tensors within what is quantized once, whose ranges the model does not have.
        percentile: as for `calibrate`.

    Raises:
        ConversionError: the model cannot be converted.
    """
    ranges.widen(model)
    content = float_tflite(qat.exact(model))
    learned = ranges.own_ranges(model)
    names = {layer.layer.name: layer.layer.name for layer in qat.wrappers(model)}
    (given,) = [limits for name, limits in learned.items() if name not in names]
    found = dict(post_training.observed_ranges(content, batches, percentile, given))
    for operator in read_operators(content):
        tensor = operator.output.name
        # The name of what is quantized comes first: that of a ReLU before that of its convolution.
        known = [learned[name] for name in layers_of(tensor, names) if name in learned]
        if known:
            found[tensor] = known[0]
    return post_training.quantized(content, Scheme.PTQ_INT8, found, post_training.exceptions(content, policies, names))
