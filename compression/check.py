"""What compression will make of a model, told before it is trained: every step on untrained weights, in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import kind
from slimcam.compression.layers.outputs import ACTIVATION_OUTPUTS
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.config import MagnitudeConfig, PruningRatioConfig
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.selection import plan
from slimcam.compression.pruning.surgery import cut
from slimcam.compression.quantization.schemes import Scheme


@dataclass
class Preflight:
    """What was found.

    Attributes:
        changes: What the normal form for quantization changes.
        frozen_share: Share of the channels that cannot be pruned.
        frozen: Why, with the number of channels of each reason.
        problems: What is not supported, each with the layers' names and what to do.
        undelegated: Operators that XNNPACK would not run.
        operators: Number of operators of the int8 file, None without a file.
        notes: What is worth knowing.
        seconds: What it took.
    """

    changes: tuple[Any, ...] = ()
    frozen_share: float = 0.0
    frozen: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    undelegated: list[str] = field(default_factory=list)
    operators: int | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{len(self.changes)} layers change for int8; {self.frozen_share:.0%} of the channels are frozen"]
        lines += [f"  frozen: {count} channels, {reason}" for reason, count in self.frozen.items()]
        lines += [f"  note: {note}" for note in self.notes]
        if self.operators is not None:
            taken = self.operators - len(self.undelegated)
            lines.append(f"XNNPACK runs {taken} of {self.operators} int8 operators")
        lines += [f"  not delegated: {problem}" for problem in self.undelegated]
        lines += [f"  NOT SUPPORTED: {problem}" for problem in self.problems]
        return "\n".join(lines)


_REASONS = 5


@contextmanager
def _collected(found: Preflight) -> Iterator[None]:
    """Within, an error ends the step, and is one of the problems."""
    try:
        yield
    except ValueError as error:  # a CompressionError, or what the device's runtime does not take
        found.problems.append(str(error))


def preflight(
    model: Any,
    ratio: PruningRatioConfig,
    *,
    scheme: Scheme = Scheme.QAT_INT8,
    input_range: Sequence[float] = (),
    magnitude: MagnitudeConfig | None = None,
) -> Preflight:
    """Normalizes, prunes, quantizes and converts a model with one random batch, and collects all that fails.

    Nothing is trained: what is told is whether the steps work, not how well. Needs Keras on TensorFlow.

    Args:
        model: Keras 3; it is not changed.
        ratio: how much is pruned.
        scheme: of quantization. Layers without an int8 form are a problem of one that is trained, and a note of one in
            integers that is not: they stay float.
        input_range: of the int8 input, as for `quantize_aware`; that of the batch if empty.
        magnitude: prunes single weights, in place of channels; of `ratio`, its share and its patterns count.
    """
    found, started = Preflight(), time.monotonic()
    with _collected(found):
        model = normalize(model).model
        with _collected(found):
            if magnitude is None:
                model = _prune(model, ratio, found)
            else:
                _prune_weights(model, ratio, magnitude)
        if scheme.facts.integer:
            _quantize(model, scheme, input_range, found)
        else:
            _convert(model, scheme)
    found.seconds = time.monotonic() - started
    return found


def _prune(model: Any, ratio: PruningRatioConfig, found: Preflight) -> Any:
    graph = trace(model)
    frozen = [
        group for group in graph.groups if not group.prunable and group.frozen not in ("model input", "model output")
    ]
    total = sum(group.size for group in graph.groups)
    found.frozen_share = sum(group.size for group in frozen) / total
    for group in frozen:
        found.frozen[group.frozen] = found.frozen.get(group.frozen, 0) + group.size
    found.frozen = dict(sorted(found.frozen.items(), key=lambda item: -item[1])[:_REASONS])
    smaller = cut(model, plan(graph, importance(model, graph, "l2"), ratio))
    if remark := cost(smaller).remark:
        found.notes.append(remark)
    return smaller


def _prune_weights(model: Any, ratio: PruningRatioConfig, magnitude: MagnitudeConfig) -> None:
    from slimcam.compression.pruning.magnitude import sparsity_aware
    from slimcam.compression.quantization.keras2 import adopt_weights, to_tf_keras

    twin = to_tf_keras(model)
    adopt_weights(model, twin)
    sparsity_aware(twin, ratio.ratio, magnitude, keep=ratio.keep, ratios=ratio.ratios)


def _quantize(model: Any, scheme: Scheme, input_range: Sequence[float], found: Preflight) -> None:
    # TensorFlow, tfmot and ai-edge-quantizer are needed from here on alone.
    from slimcam.compression.export.delegation import delegation_problems
    from slimcam.compression.export.tflite import float_tflite
    from slimcam.compression.quantization.equalize import equalize
    from slimcam.compression.quantization.post_training import observed_ranges, quantized
    from slimcam.deploy.inference.interpreter import Interpreter

    form = normalize(model, int8=True)
    found.changes = form.changes
    missing = unsupported(form.model)
    (found.problems if scheme.facts.trains else found.notes).extend(missing)
    with _collected(found):
        float_tflite(model)
    if missing and scheme.facts.trains:
        return
    batch = _batch(form.model)
    equalize(form.model, [batch])
    if scheme.facts.trains:
        content = _trainable_int8(form.model, batch, input_range)
    else:
        exact = float_tflite(form.model)
        content = quantized(exact, scheme, observed_ranges(exact, [batch], input_range=input_range))
    if scheme.facts.delegated:
        found.undelegated = [str(problem) for problem in delegation_problems(content, form.origins)]
        found.operators = Interpreter(content).delegation().total


def _trainable_int8(model: Any, batch: NDArray[np.float32], input_range: Sequence[float]) -> bytes:
    from slimcam.compression.export.tflite import int8_tflite
    from slimcam.compression.quantization.keras2 import to_tf_keras
    from slimcam.compression.quantization.qat import calibrate, quantize_aware

    trainable = quantize_aware(to_tf_keras(model), input_range=input_range)
    calibrate(trainable, [batch])
    return int8_tflite(trainable)


def _convert(model: Any, scheme: Scheme) -> None:
    from slimcam.compression.export.tflite import float_tflite
    from slimcam.compression.quantization.post_training import quantized

    content = float_tflite(model)
    if scheme is not Scheme.NONE:
        quantized(content, scheme)


def unsupported(model: Any) -> list[str]:
    """The layers of a model in normal form that have no int8 form, each with what to do."""
    found = []
    for layer in model.operations:
        spec = layer_spec(layer)
        if kind(layer) == "Activation":
            name = getattr(layer.activation, "__name__", "")
            if name not in ACTIVATION_OUTPUTS:
                found.append(f"layer {layer.name!r}: activation {name!r} has no int8 form; use relu, silu or hard_silu")
        elif kind(layer) != "InputLayer" and (spec is None or spec.output is None):
            found.append(
                f"layer {layer.name!r} ({kind(layer)}) has no int8 form; replace it, for example by Conv2D + "
                "BatchNormalization + ReLU, or register one (compression.register_layer)"
            )
    return found


def _batch(model: Any) -> NDArray[np.float32]:
    shapes = [tensor.shape for tensor in model.inputs]
    if len(shapes) != 1 or None in shapes[0][1:]:
        raise CompressionError(
            f"model {model.name!r} must have one input of fixed size; got {', '.join(map(str, shapes))}; build it with "
            "keras.Input((height, width, channels))"
        )
    (shape,) = shapes
    return np.random.default_rng(0).uniform(-1, 1, (4, *shape[1:])).astype(np.float32)
