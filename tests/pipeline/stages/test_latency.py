"""Milliseconds of plans: by the cost table of an emulated device, and by measuring."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import pytest

from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.selection import plan
from slimcam.deploy.benchmark.a53.cost_table import CostTable, Layer
from slimcam.deploy.benchmark.a53.profile import Profile, ProfiledOperator, Tensor, Use
from slimcam.deploy.benchmark.emulated import EmulatedConfig
from slimcam.deploy.latency.host import HostConfig
from slimcam.pipeline.stages import latency

L = keras.layers


def network() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(L.Conv2D(32, 3, name="a")(inputs))
    x = L.ReLU(name="b_relu")(L.Conv2D(64, 3, name="b")(x))
    return keras.Model(inputs, L.Conv2D(8, 1, name="out")(L.GlobalAveragePooling2D(keepdims=True, name="pool")(x)))


def operator(kind: str, name: str, inputs: int, outputs: int) -> ProfiledOperator:
    tensors = (Tensor("x", (1, 4, 4, inputs), "int8"),)
    if kind == "CONV_2D":
        tensors += (Tensor("w", (outputs, 3, 3, inputs), "int8"),)
    return ProfiledOperator(
        kind, tensors, Tensor(f"net_1/{name}_1/{kind}", (1, 4, 4, outputs), "int8"), (Use(0, 1, 0, 0, 0, 0),)
    )


def layer(name: str, inputs: int, outputs: int) -> Layer:
    """A microsecond for each pair of an input and an output channel."""
    steps = [[16, inputs], [16, outputs]]
    table = [[float(i * o) for o in steps[1]] for i in steps[0]]
    return Layer(name, "CONV_2D", 16, 9, 1, steps[0], steps[1], table)


def test_a_cost_table_prices_the_channels_that_a_plan_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operators = (
        operator("CONV_2D", "a", 3, 32),
        operator("CONV_2D", "b", 32, 64),
        operator("MEAN", "pool", 64, 64),
        operator("CONV_2D", "out", 64, 8),
    )
    layers = [layer("a", 3, 32), layer("b", 32, 64), layer("out", 64, 8)]
    table = CostTable("toy", 1000.0, "toy", "", {}, 0.1, layers, {"MEAN": 10.0})
    profile = Profile("toy", "1", "XNNPACK", 4, (), (), operators)
    monkeypatch.setattr(latency, "profile_with_costs", lambda *_: (profile, table))
    monkeypatch.setattr(latency, "_milliseconds", lambda models, _: dict.fromkeys(models, 100.0))
    model = network()
    graph = trace(model)

    found = latency.latency(model, graph, EmulatedConfig(), tmp_path)

    half = plan(graph, importance(model, graph), PruningRatioConfig(0.5))
    assert found.whole == 100
    pool = 10.0 * (4 * 4 * 64 / 1e3)
    assert found.of(half) == pytest.approx((3 * 16 + 16 * 32 + 32 * 8 + pool / 2) / 1e3)


def test_other_targets_measure_each_plan_in_turn_with_the_unpruned_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = network()
    graph = trace(model)
    found = latency.latency(model, graph, HostConfig(threads=[1, 2], samples=5, seconds=0.1, warmup=1), tmp_path)

    milliseconds = found.of(plan(graph, importance(model, graph), PruningRatioConfig(0.5)))

    assert found.whole > 0
    assert 0 < milliseconds < 10 * found.whole
    told = next(record.message for record in caplog.records if "of the channels removed" in record.message)
    assert re.fullmatch(r"latency: 46.2% of the channels removed: \S+ ms", told)
