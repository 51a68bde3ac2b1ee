"""Milliseconds of a network that is not cut yet, on the configured target: what `prune.target=latency` asks.

An emulated Cortex-A53 has a cost table of the model, so that a plan costs no more than a sum. Any other target
measures: each plan that the search asks for is cut, converted to int8 and timed in turn with the unpruned float32
model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.export.tflite import float_tflite
from slimcam.compression.keras_graph import calls, tensor_key
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.budget import MEASURED_TOLERANCE, Measure
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.surgery import cut
from slimcam.compression.quantization.post_training import post_training_int8
from slimcam.deploy.benchmark.a53.cost_table import CostTable, Layer, channels
from slimcam.deploy.benchmark.a53.latency import weights
from slimcam.deploy.benchmark.a53.profile import Profile, Tensor
from slimcam.deploy.benchmark.emulated import EmulatedConfig, profile_with_costs
from slimcam.deploy.benchmark.targets import measure_on_target

logger = logging.getLogger(__name__)

_SAMPLES, _SECONDS = 50, 2.0
"""Of each measurement, at the most: the search makes a dozen."""


def latency(model: Any, graph: ChannelGraph, target: Any, folder: Path) -> Measure:
    """Milliseconds of plans, as int8 files with one thread; the whole is the unpruned float32 model.

    Args:
        model: Keras 3 model in normal form.
        graph: the model's, from `trace`.
        target: Options of the target, as in `slimcam-benchmark target=`.
        folder: Gets the TFLite files.

    Raises:
        OSError, ValueError, RuntimeError: as measuring on the target does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dense = folder / "dense.tflite"
    dense.write_bytes(float_tflite(model))
    if isinstance(target, EmulatedConfig):
        return Measure(_milliseconds({"dense": dense}, target)["dense"], _by_table(model, graph, target, folder))
    quick = replace(target, threads=1, samples=min(target.samples, _SAMPLES), seconds=min(target.seconds, _SECONDS))
    whole = _milliseconds({"dense": dense}, quick)["dense"]

    def measured(plan: PruningPlan) -> float:
        pruned = folder / "pruned.tflite"
        pruned.write_bytes(_int8(normalize(cut(model, plan, graph), int8=True).model))
        found = _milliseconds({"dense": dense, "pruned": pruned}, quick)
        # In turn, so that the load of the machine cancels.
        milliseconds = whole * found["pruned"] / found["dense"]
        logger.info(f"latency: {plan.removed:.1%} of the channels removed: {milliseconds:.3g} ms")
        return milliseconds

    return Measure(whole, measured, MEASURED_TOLERANCE)


def _milliseconds(models: Mapping[str, Path], target: Any) -> dict[str, float]:
    options: dict[str, Any] = {"threads": 1}
    if isinstance(target, EmulatedConfig):
        options |= {"parity_check": False, "cost_table": None, "operators": False}
    records = measure_on_target(models, replace(target, **options))
    # The least of a target that measures: what other processes add is none of the network's.
    return {each.model.name: each.typical_ms if each.latency_ms is None else each.latency_ms.min for each in records}


def _int8(model: Any) -> bytes:
    """Converts with random ranges: they decide no latency."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.inputs[0].shape[1:])).astype(np.float32)
    return post_training_int8(model, [images])


def _by_table(model: Any, graph: ChannelGraph, target: EmulatedConfig, folder: Path) -> Callable[[PruningPlan], float]:
    """The sum over the operators of the unpruned int8 model, each at the channels that a plan leaves it."""
    form, file = normalize(model, int8=True), folder / "dense_int8.tflite"
    file.write_bytes(_int8(form.model))
    logger.info(f"latency: counting what one inference executes on the emulated {target.device}")
    profile, table = profile_with_costs(file, target)
    parts = _parts(model, graph, form.origins, profile, table)

    def milliseconds(plan: PruningPlan) -> float:
        kept = graph.kept(plan.kept)
        return sum(part(kept) for part in parts) / 1e3

    return milliseconds


def _parts(
    model: Any, graph: ChannelGraph, origins: Mapping[str, str], profile: Profile, table: CostTable
) -> list[Callable[[NDArray[np.bool_]], float]]:
    """Of each operator, from the variables that stay to microseconds."""
    nodes = {node.operation.name: node for node in calls(model)}
    layers = iter(table.layers)
    parts: list[Callable[[NDArray[np.bool_]], float]] = []
    unknown = []
    for operator in profile.operators:
        # Keras numbers the scopes of a model that is called once more.
        names = (operator.layer, re.sub(r"_\d+$", "", operator.layer))
        node = next((nodes[origins.get(name, name)] for name in names if origins.get(name, name) in nodes), None)
        made = None if node is None else _channels(graph, node.outputs[0], operator.output)
        if weights(operator) and operator.uses:
            read = None if node is None else _channels(graph, node.input_tensors[0], operator.inputs[0])
            parts.append(_kernel(next(layers), *channels(operator), read, made))
            if made is None:
                unknown.append(operator.layer)
        else:
            parts.append(_other(table.other_us(operator), made))
    if unknown:
        logger.warning(f"latency: no layer of the model is found for {', '.join(unknown[:3])}: they are taken to stay")
    return parts


def _kernel(layer: Layer, inputs: int, outputs: int, read: Any, made: Any) -> Callable[[NDArray[np.bool_]], float]:
    def microseconds(kept: NDArray[np.bool_]) -> float:
        left = inputs if read is None or not inputs else int(kept[read].sum())
        return layer.at(left, outputs if made is None else int(kept[made].sum()))

    return microseconds


def _other(whole: float, made: Any) -> Callable[[NDArray[np.bool_]], float]:
    return lambda kept: whole if made is None else whole * float(kept[made].mean())


def _channels(graph: ChannelGraph, tensor: Any, found: Tensor) -> Any:
    """The variables of a tensor of the model, where it has as many channels as that of the file."""
    if tensor is None:
        return None
    variables = graph.tensors[tensor_key(tensor)].variables
    return variables if found.shape and len(variables) == found.shape[-1] else None
