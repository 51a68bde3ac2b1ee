"""A trained model to a small `.tflite` file in one call: no task, no training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError, UntraceableModelError
from slimcam.compression.export.delegation import delegation_problems
from slimcam.compression.export.graph import Graph
from slimcam.compression.export.tflite import float_tflite
from slimcam.compression.keras_graph import functional
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.pruned import Pruned, prune
from slimcam.compression.pruning.samples import Samples
from slimcam.compression.quantization.errors import error_of
from slimcam.compression.quantization.post_training import observed_ranges, quantized, softmax_in_float
from slimcam.compression.quantization.preparation import Batches, Prepared, form_for, of_layers, prepare
from slimcam.compression.quantization.schemes import PERCENTILE, Scheme, default_scheme, require_alone
from slimcam.deploy.common.choices import choose
from slimcam.deploy.common.files import atomic
from slimcam.deploy.common.text_table import grid
from slimcam.deploy.inference.interpreter import Delegation, Interpreter
from slimcam.deploy.inference.preprocessing import agreement, dequantized
from slimcam.deploy.inference.preprocessing import quantized as in_steps

RANDOM_INPUTS = 16
"""Inputs that are sampled at random where no samples are given."""


@dataclass(frozen=True)
class Fidelity:
    """How closely an output of the file follows that of the model which was given.

    Attributes:
        output: Name of the output.
        cosine: Cosine of the two, the mean over the inputs.
        least: Smallest of these cosines.
        sqnr_db: Signal-to-quantization-noise ratio in dB; `None` where the output is zero throughout.
    """

    output: str
    cosine: float
    least: float
    sqnr_db: float | None


@dataclass(frozen=True)
class Compressed:
    """A compressed model, and how it came about.

    Attributes:
        content: Of the `.tflite` file.
        scheme: Scheme of its quantization.
        model: The model in float that was quantized; a smaller Keras 3 model where channels were pruned.
        pruned: What was pruned, if anything.
        parameters: Number of weights of the model that was given.
        fidelity: For each output, in their order.
        inputs: What fidelity was measured on, in a few words.
        delegation: How much of the file XNNPACK runs.
        undelegated: The operators that it leaves out: of int8 files each with its layer and the reason, if they are
            known, of others their number by kind.
    """

    content: bytes
    scheme: Scheme
    model: Any
    pruned: Pruned | None
    parameters: int
    fidelity: tuple[Fidelity, ...]
    inputs: str
    delegation: Delegation
    undelegated: tuple[str, ...]

    def save(self, path: Path | str) -> None:
        """Writes the `.tflite` file atomically."""
        with atomic(Path(path)) as partial:
            partial.write_bytes(self.content)

    def __str__(self) -> str:
        if self.pruned is None:
            return self.summary()
        return f"{self.pruned}\n{self.summary()}"

    def summary(self) -> str:
        """What the file is, without what was pruned."""
        size, before = len(self.content) / 1e6, 4 * self.parameters / 1e6
        lines = [
            f"{self.scheme} ({self.scheme.facts.text}): {size:.3g} MB; the weights in float32 were {before:.3g} MB"
        ]
        lines.append(f"XNNPACK runs {self.delegation.delegated} of {self.delegation.total} operators")
        lines += [f"  not delegated: {problem}" for problem in self.undelegated]
        lines.append(f"fidelity to the model that was given, on {self.inputs}:")
        rows = [["output", "cosine", "least", "SQNR, dB"]]
        for each in self.fidelity:
            sqnr = "–" if each.sqnr_db is None else f"{each.sqnr_db:.1f}"
            rows.append([each.output, f"{each.cosine:.5f}", f"{each.least:.5f}", sqnr])
        lines.append(grid(rows))
        if self.pruned is not None:
            lines.append("no weight was trained after the cut: fine-tune model and quantize again before it is used")
        return "\n".join(lines)


def compress(
    model: Any,
    samples: Samples | None = None,
    *,
    scheme: str | None = None,
    layers: Mapping[str, str] | None = None,
    percentile: float = PERCENTILE,
    input_range: Sequence[float] = (),
    plan: PruningPlan | None = None,
    latency: Callable[[Any], float] | None = None,
    **pruning: Any,
) -> Compressed:
    """Prunes a model where that is asked for, quantizes it without training, and converts it.

        samples = compression.Samples(inputs=lambda: [images])
        compressed = compression.compress(compression.load_model("my.keras"), samples)
        print(compressed)
        compressed.save("my.tflite")

    What pruning takes is not trained back. Needs Keras on TensorFlow for what is quantized in integers.

    Args:
        model: From `load_model`, or any functional or sequential Keras 3 model; it is not changed.
        samples: Inputs as the model reads them. Ranges of activations and the statistics of batch normalization after
            a cut are taken from them, and fidelity is measured on them; without any, on random inputs.
        scheme: One of `Scheme` without training; `ptq_int8` with samples, `weights_int8` without any, if absent. In
            `ptq_int8` softmax stays float, unless `layers` says otherwise.
        layers: `LayerPolicy` of layers that are not as the scheme says, by pattern of their name, as for `by_pattern`.
        percentile: Percentage of the samples whose activations a range holds.
        input_range: Smallest and largest value of an input, from which random ones are sampled, -1 to 1 if empty; the
            int8 input spans it, and that of the samples if empty.
        plan: Channels to keep; chosen by the options if absent.
        latency: From a Keras model to its milliseconds, for `target="latency"`.
        pruning: Options of `PruningRatioConfig`; with none, and no plan, all channels stay.

    Raises:
        CompressionError: The model, the samples or the options do not serve; the message says why.
    """
    chosen = default_scheme(samples) if scheme is None else choose("scheme", Scheme, scheme)
    inputs = None if samples is None else samples.inputs
    require_alone(chosen, inputs)
    require_fixed_size(model)
    pruned = None
    if plan is not None or pruning:
        if isinstance(model, Graph):
            raise UntraceableModelError(
                f"{model.name} shows no layers, so no channel can be pruned; give a file of Keras 3"
            )
        pruned = prune(model, plan=plan, samples=samples, latency=latency, **pruning)
    smaller = model if pruned is None else pruned.model
    prepared, origins = _prepared(smaller, chosen, inputs, layers or {}, percentile, input_range)
    content = prepared.content
    if chosen is not Scheme.NONE:
        floats = softmax_in_float(content) if chosen is Scheme.PTQ_INT8 else {}
        content = quantized(content, chosen, prepared.ranges, {**floats, **prepared.exceptions})
    span = tuple(input_range) or (-1.0, 1.0)
    fidelity, count = _fidelity(content, model, inputs or (lambda: [_random(model, span)]))
    delegation = Interpreter(content).delegation()
    return Compressed(
        content,
        chosen,
        smaller,
        pruned,
        model.parameters if isinstance(model, Graph) else model.count_params(),
        fidelity,
        f"{count} random inputs from {span[0]:g} to {span[1]:g}" if inputs is None else f"{count} samples",
        delegation,
        _undelegated(content, chosen, origins, delegation),
    )


def require_fixed_size(model: Any) -> None:
    """Raises:
    CompressionError: the model takes inputs of any size.
    """
    if not isinstance(model, Graph):
        functional(model)
    for tensor in model.inputs:
        if tensor.shape is None or None in tuple(tensor.shape)[1:]:
            raise CompressionError(
                f"the model takes inputs of open size {tuple(tensor.shape)}, and a .tflite file has one size: load it "
                "with a size (model.input_size, or load_model(path, (height, width))), or build it with one"
            )


def _prepared(
    model: Any,
    scheme: Scheme,
    inputs: Batches | None,
    layers: Mapping[str, str],
    percentile: float,
    input_range: Sequence[float],
) -> tuple[Prepared, Mapping[str, str]]:
    if not isinstance(model, Graph):
        form = form_for(model, scheme)
        policies = of_layers(layers, model, form)
        prepared = prepare(form, scheme, inputs, policies, percentile=percentile, input_range=input_range)
        return prepared, form.origins
    if layers:
        raise CompressionError(f"layers: {model.name} shows no layers; leave them out, or give a .keras file")
    content = float_tflite(model)
    if not scheme.facts.integer or inputs is None:
        return Prepared(content), {}
    return Prepared(content, observed_ranges(content, inputs(), percentile, input_range)), {}


def _fidelity(content: bytes, model: Any, batches: Batches) -> tuple[tuple[Fidelity, ...], int]:
    """Of each output, and the number of inputs."""
    interpreter = Interpreter(content)
    found: list[list[NDArray[np.float32]]] = [[] for _ in interpreter.outputs]
    exact: list[list[NDArray[np.float32]]] = [[] for _ in interpreter.outputs]
    for batch in batches():
        arrays = batch if isinstance(batch, list) else [batch]
        for kept, values in zip(exact, _outputs(model, arrays), strict=True):
            kept.extend(values)
        for sample in zip(*arrays, strict=True):
            given = [
                in_steps(value[np.newaxis], tensor) for value, tensor in zip(sample, interpreter.inputs, strict=True)
            ]
            for kept, value, tensor in zip(found, interpreter.run(*given), interpreter.outputs, strict=True):
                kept.append(dequantized(value, tensor)[0])
    names = _output_names(model)
    results = []
    for name, ours, theirs in zip(names, map(np.stack, found), map(np.stack, exact), strict=True):
        cosines = np.minimum(agreement(ours, theirs), 1.0)
        error = error_of(ours, theirs)
        sqnr = None if error is None else error.sqnr_db
        results.append(Fidelity(name, float(cosines.mean()), float(cosines.min()), sqnr))
    return tuple(results), len(exact[0])


def _outputs(model: Any, arrays: list[Any]) -> Iterator[NDArray[np.float32]]:
    given = arrays[0] if len(arrays) == 1 else arrays
    computed = model(arrays) if isinstance(model, Graph) else keras.tree.flatten(model.predict_on_batch(given))
    for values in computed:
        yield np.asarray(values, np.float32)


def _output_names(model: Any) -> list[str]:
    if isinstance(model, Graph):
        return list(model.output_names)
    return [tensor._keras_history[0].name for tensor in functional(model).outputs]


def _random(model: Any, span: Sequence[float]) -> list[NDArray[Any]]:
    rng = np.random.default_rng(0)
    sampled = []
    for tensor in model.inputs:
        kind = np.dtype(getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype))
        if not np.issubdtype(kind, np.floating):
            raise CompressionError(f"the model takes {kind}, of which none can be sampled at random: give samples")
        sampled.append(rng.uniform(span[0], span[1], (RANDOM_INPUTS, *tuple(tensor.shape)[1:])).astype(kind))
    return sampled


def _undelegated(content: bytes, scheme: Scheme, origins: Mapping[str, str], delegation: Delegation) -> tuple[str, ...]:
    left_out = [each.split(maxsplit=1) for each in delegation.left_out]
    if scheme.facts.delegated:
        indices = {int(index) for index, _ in left_out}
        return tuple(str(each) for each in delegation_problems(content, origins) if each.operator in indices)
    return tuple(f"{count} {kind}" for kind, count in Counter(kind for _, kind in left_out).items())
