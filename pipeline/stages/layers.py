"""What is told of single layers, for the report and beside the losses in TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimcam.deploy.common.files import write_text
from slimcam.pipeline.stages.artifacts import LAYERS
from slimcam.training.fit.events import write_events
from slimcam.training.fit.files import EVENTS

if TYPE_CHECKING:
    from slimcam.compression.pruning.plan import PruningPlan
    from slimcam.compression.quantization.errors import LayerError

_HALF_STEP = 0.5 / 127


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer of a quantized model.

    Attributes:
        error: What it loses.
        before: What it lost before quantization-aware training, if there was any.
        limits: Range of its output, None for a layer that is not quantized in a range of its own.
    """

    error: LayerError
    before: LayerError | None = None
    limits: tuple[float, float] | None = None


def write_layers(out: Path, layers: Mapping[str, QuantizedLayer], *, own: bool, steps: int = 0) -> None:
    """Writes `layers.json`, and the figures as events: those before training at step 0, the others at the last.

    Args:
        layers: by name.
        own: whether errors are of each layer alone, or what those before it lose is included.
        steps: of the training.
    """
    told = {name: asdict(layer) for name, layer in layers.items()}
    write_text(out / LAYERS, json.dumps({"own": own, "layers": told}, indent=2))
    events = out / EVENTS
    if earlier := {name: layer.before for name, layer in layers.items() if layer.before is not None}:
        write_events(events, 0, _errors(earlier))
    limits = {name: layer.limits for name, layer in layers.items() if layer.limits is not None}
    ranges = {
        f"range/{name}/{end}": value for name, both in limits.items() for end, value in zip(_ENDS, both, strict=True)
    }
    write_events(events, steps, _errors({name: layer.error for name, layer in layers.items()}) | ranges)


_ENDS = ("low", "high")


def _errors(errors: Mapping[str, LayerError]) -> dict[str, float]:
    found = {f"sqnr_db/{name}": error.sqnr_db for name, error in errors.items()}
    return found | {f"cosine/{name}": error.cosine for name, error in errors.items()}


def write_widths(out: Path, plan: PruningPlan, model: Any, steps: int) -> None:
    """Writes the channels that each group has, before and after, and the share of each kernel that is zero in int8."""
    import keras

    from slimcam.compression.layers.table import layer_spec
    from slimcam.compression.layers.weights import weight

    write_events(out / EVENTS, 0, {f"channels/{name}": float(size) for name, size in plan.sizes.items()})
    values = {f"channels/{name}": float(len(kept)) for name, kept in plan.kept.items()}
    for layer in model._flatten_layers(include_self=False):
        for kernel in () if (spec := layer_spec(layer)) is None else spec.kernels:
            array = np.abs(keras.ops.convert_to_numpy(weight(layer, kernel.name)))
            others = tuple(axis for axis in range(array.ndim) if axis - array.ndim not in kernel.writes)
            zero = array <= _HALF_STEP * array.max(axis=others, keepdims=True)
            values[f"zero_in_int8/{layer.name}/{kernel.name}"] = float(zero.mean())
    write_events(out / EVENTS, steps, values)
