"""Microseconds of a model's convolution and dense layers at other channel counts, without running them.

A kernel's time is linear in how often its parts run: once for each step of the inner loop, each tile, each row of
tiles, each byte that it fetches. The model's own operators, profiled one by one, give these rates for each kernel by
least squares; the table applies them to every pair of input and output channels that pruning could leave.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.benchmark.a53.device import L1_BYTES, L2_BYTES, Device
from slimcam.deploy.benchmark.a53.latency import MODEL, Constants, operator_cost, size_bytes, weights
from slimcam.deploy.benchmark.a53.least_squares import nonnegative
from slimcam.deploy.benchmark.a53.profile import Profile, ProfiledOperator
from slimcam.deploy.common.files import write_text

STEP = 16


_TILE = re.compile(r"ukernel_(?:(\d+)x(\d+)(?:c\d+)?|(\d+)p(\d+)c)_")


@dataclass(frozen=True)
class Layer:
    """One convolution or dense operator at every channel count.

    Attributes:
        name: Name of the layer, as the graph has it.
        kind: Kind of the operator.
        rows: Number of output pixels.
        taps: Number of taps of the filter, height times width.
        tile: Output channels that the kernel makes at a time; a part of them costs as much as all.
        inputs, outputs: channel counts, ascending; a depthwise convolution has one list, `inputs` is `[0]` there.
        microseconds: Microseconds by input and output channels.
    """

    name: str
    kind: str
    rows: int
    taps: int
    tile: int
    inputs: list[int]
    outputs: list[int]
    microseconds: list[list[float]]

    def at(self, inputs: int, outputs: int) -> float:
        """Microseconds at any channel counts: whole tiles of outputs, linear between the entries and beyond them."""
        outputs = self.tile * math.ceil(outputs / self.tile)
        table = np.array(self.microseconds)
        across = [_interpolate(outputs, self.outputs, row) for row in table]
        return across[0] if len(across) == 1 else _interpolate(inputs, self.inputs, np.array(across))


@dataclass(frozen=True)
class CostTable:
    """The layers of a model on one thread of a device.

    Attributes:
        device: Name of the device.
        clock_mhz: Clock of the device.
        timing_model: Timing model that predicted the profile behind the table.
        model_sha256: SHA-256 of the profiled file.
        fit_error: Mean and largest relative error with which the rates reproduce the profiled operators.
        prediction_error: Relative error band of the timing model itself.
        layers: Layers in the order of the graph.
        other_us_per_kb: Microseconds of all other operators, by kind, for each kB of output.
    """

    device: str
    clock_mhz: float
    timing_model: str
    model_sha256: str
    fit_error: dict[str, float]
    prediction_error: float
    layers: list[Layer]
    other_us_per_kb: dict[str, float]

    def estimate_ms(self, profile: Profile) -> float:
        """Milliseconds of a model of the same layers, pruned: the sum over its operators.

        Raises:
            ValueError: it has other layers.
        """
        pruned = [operator for operator in profile.operators if weights(operator)]
        shapes = [(operator.kind, _rows(operator), _taps(operator)) for operator in pruned]
        if shapes != [(layer.kind, layer.rows, layer.taps) for layer in self.layers]:
            raise ValueError("the cost table is of a model with other layers; make one of the model before its pruning")
        total = sum(layer.at(*channels(operator)) for layer, operator in zip(self.layers, pruned, strict=True))
        total += sum(self.other_us(operator) for operator in profile.operators if not weights(operator))
        return total / 1e3

    def other_us(self, operator: ProfiledOperator) -> float:
        """Microseconds of an operator that is neither a convolution nor dense: by the bytes of its output."""
        return self.other_us_per_kb.get(operator.kind, 0.0) * size_bytes(operator.output) / 1e3


def make_cost_table(profile: Profile, sha256: str, device: Device, constants: Constants) -> CostTable:
    """Makes the table of a profiled model, from 16 channels to what the model has in steps of 16.

    Raises:
        ValueError: the model has no convolution or dense layer that a known kernel runs.
    """
    took = {
        place: operator_cost(profile, operator).ms(device, constants) * 1e3
        for place, operator in enumerate(profile.operators)
    }
    layered = [place for place, operator in enumerate(profile.operators) if weights(operator) and operator.uses]
    groups: dict[str, list[int]] = defaultdict(list)
    for place in layered:
        groups[_kernel(profile, profile.operators[place])].append(place)
    if not groups:
        raise ValueError("the model has no convolution or dense layer to make a cost table of")
    rates, errors = {}, []
    for kernel, places in groups.items():
        features = np.array([_features(kernel, _geometry(profile.operators[place])) for place in places])
        times = np.array([took[place] for place in places])
        rates[kernel] = nonnegative(features / times[:, None], np.ones(len(times)))
        errors.extend(np.abs(features @ rates[kernel] / times - 1))
    layers = []
    for place in layered:
        operator = profile.operators[place]
        kernel = _kernel(profile, operator)
        shape = _geometry(operator)
        ins = [0] if operator.kind == "DEPTHWISE_CONV_2D" else list(_steps(shape.inputs))
        outs = list(_steps(shape.outputs))
        rate = rates[kernel]
        table = [
            [round(float(_features(kernel, replace(shape, inputs=i, outputs=o)) @ rate), 3) for o in outs] for i in ins
        ]
        layers.append(Layer(operator.layer, operator.kind, shape.rows, shape.taps, _tile(kernel)[1], ins, outs, table))
    kilobytes: dict[str, float] = defaultdict(float)
    other: dict[str, float] = defaultdict(float)
    for place, operator in enumerate(profile.operators):
        if not weights(operator):
            kilobytes[operator.kind] += size_bytes(operator.output) / 1e3
            other[operator.kind] += took[place]
    return CostTable(
        device=device.name,
        clock_mhz=device.clock_mhz,
        timing_model=MODEL,
        model_sha256=sha256,
        fit_error={"mean": round(float(np.mean(errors)), 4), "max": round(float(np.max(errors)), 4)},
        prediction_error=constants.band,
        layers=layers,
        other_us_per_kb={kind: round(other[kind] / kilobytes[kind], 6) for kind in other if kilobytes[kind]},
    )


def write_cost_table(table: CostTable, path: Path) -> None:
    """Writes it as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(table)) + "\n")


def read_cost_table(path: Path) -> CostTable:
    """Reads what `write_cost_table` wrote.

    Raises:
        ValueError: the file is damaged or no cost table.
    """
    try:
        content: Mapping[str, object] = json.loads(path.read_text())
        layers = [Layer(**layer) for layer in content["layers"]]  # type: ignore[attr-defined]
        return CostTable(**{**content, "layers": layers})  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a cost table; make it again with slimcam-benchmark") from error


def _kernel(profile: Profile, operator: ProfiledOperator) -> str:
    """The microkernel that does most of an operator's work."""
    return next(iter(profile.by_symbol(operator)))


@dataclass(frozen=True)
class _Geometry:
    """What of an operator decides its time: output pixels, input pixels, taps, channels, bytes of an element."""

    rows: int
    pixels: int
    taps: int
    inputs: int
    outputs: int
    width: int


def _geometry(operator: ProfiledOperator) -> _Geometry:
    kernel = weights(operator)
    assert kernel is not None
    pixels = math.prod(operator.inputs[0].shape[:-1])
    width = 4 if kernel.dtype == "float32" else 1
    return _Geometry(_rows(operator), pixels, _taps(operator), *channels(operator), width)


def _rows(operator: ProfiledOperator) -> int:
    return math.prod(operator.output.shape[:-1])


def _taps(operator: ProfiledOperator) -> int:
    kernel = weights(operator)
    assert kernel is not None
    return math.prod(kernel.shape[1:3]) if len(kernel.shape) == 4 else 1


def channels(operator: ProfiledOperator) -> tuple[int, int]:
    """Input and output channels of an operator with weights; a convolution by channel has no inputs of its own."""
    kernel = weights(operator)
    assert kernel is not None
    inputs = 0 if operator.kind == "DEPTHWISE_CONV_2D" else kernel.shape[-1]
    return inputs, operator.output.shape[-1]


def _tile(kernel: str) -> tuple[int, int]:
    """Rows and columns of a kernel's tile; a convolution by channel has 0 rows and counts its channels."""
    found = _TILE.search(kernel)
    rows, columns, _, channels = (int(part) if part else 0 for part in found.groups()) if found else (4, 8, 0, 0)
    return (0, channels) if channels else (rows, columns)


def _features(kernel: str, shape: _Geometry) -> NDArray[np.float64]:
    """How often the parts of a kernel run, and the bytes that it moves, those beyond the second-level cache apart."""
    tile_rows, tile_columns = _tile(kernel)
    across = math.ceil(shape.outputs / tile_columns)
    fetched = shape.pixels * (shape.inputs or shape.outputs) * shape.width
    stored = shape.rows * shape.outputs * shape.width
    spilled = max(0, fetched + stored - L2_BYTES)
    if not tile_rows:
        tiles = shape.rows * across
        # Each pixel goes through all channels: those under the filter, the filter, the bias and the output. If they do
        # not fit into the first-level cache together, every pixel fetches all of them again.
        turn = (2 * shape.taps + 2) * shape.outputs * shape.width
        thrashed = shape.rows * turn if turn > L1_BYTES else 0
        return np.array([tiles * shape.taps, tiles, shape.rows, fetched, stored, spilled, thrashed, 1.0])
    down, steps = math.ceil(shape.rows / tile_rows), shape.taps * shape.inputs * shape.width
    tiles = down * across
    own = shape.outputs * steps
    return np.array([tiles * steps, tiles * shape.taps, tiles, down, own, fetched, stored, spilled, 1.0])


def _steps(channels: int) -> Iterator[int]:
    """16, 32, ... up to the first multiple of 16 that is not below the number of channels."""
    return iter(range(STEP, STEP * math.ceil(channels / STEP) + 1, STEP)) if channels >= STEP else iter((channels,))


def _interpolate(at: float, places: Sequence[int], values: NDArray[np.float64]) -> float:
    if len(places) == 1:
        return float(values[0]) * (at / places[0] if places[0] else 1.0)
    right = min(max(int(np.searchsorted(places, at)), 1), len(places) - 1)
    left = right - 1
    slope = (values[right] - values[left]) / (places[right] - places[left])
    return float(values[left] + slope * (at - places[left]))
