"""Budgets: what is counted without cutting, and the largest plan that fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.budget import Measure, measure, meet, per_cost
from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.pruned import prune
from slimcam.compression.pruning.selection import plan
from slimcam.compression.pruning.surgery import cut
from slimcam.compression.quantization.post_training import post_training_int8
from tests.compression.pruning.constructs import CONSTRUCTS

L = keras.layers


def network() -> Any:
    """Every kind of kernel, a shortcut, and a layer that is called twice."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = stem = L.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Conv2D(48, 1, name="wide")(x)
    x = L.SeparableConv2D(40, 3, padding="same", name="separable")(L.DepthwiseConv2D(3, padding="same")(x))
    twice = L.Conv2D(40, 1, name="twice")
    x = twice(L.ReLU()(twice(x)))
    x = L.Add()([stem, L.Conv2D(32, 1, name="shortcut")(x)])
    x = L.Conv2DTranspose(24, 2, strides=2, name="up")(x)
    return keras.Model(inputs, L.Dense(10, name="out")(L.GlobalAveragePooling2D()(L.ReLU()(x))))


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any, Any]:
    model = network()
    graph = trace(model)
    return model, graph, importance(model, graph)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.8])
def test_what_is_counted_without_cutting_is_what_the_cut_model_has(
    parts: tuple[Any, Any, Any], ratio: float, allocation: str
) -> None:
    model, graph, scores = parts
    found = plan(graph, scores, PruningRatioConfig(ratio, allocation=allocation, round_to=2))
    truth = cost(cut(model, found))

    assert measure(model, graph, "parameters").of(found) == truth.parameters
    assert measure(model, graph, "macs").of(found) == pytest.approx(truth.macs)
    assert measure(model, graph, "channels").of(found) == found.channels[1]
    assert measure(model, graph, "macs").whole == pytest.approx(cost(model).macs)


@pytest.mark.parametrize("construct", CONSTRUCTS.values(), ids=CONSTRUCTS)
def test_the_weights_of_every_construct_are_counted(construct: Any) -> None:
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.Conv2D(2, 1)(construct(inputs)))
    graph = trace(model)
    found = plan(graph, importance(model, graph), PruningRatioConfig(0.5, round_to=1))

    assert measure(model, graph, "parameters").of(found) == cost(cut(model, found)).parameters


def test_the_bytes_of_the_int8_file_are_estimated_to_two_percent() -> None:
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for filters in (64, 128, 128):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, padding="same", use_bias=False)(x)))
    model = keras.Model(inputs, L.Conv2D(32, 1)(L.GlobalAveragePooling2D(keepdims=True)(x)))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    content = post_training_int8(normalize(model, int8=True).model, [images])

    assert measure(model, trace(model), "size").whole == pytest.approx(len(content), rel=0.02)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("macs", {"ratio": 0.5}),
        ("macs", {"budget": "5x"}),
        ("parameters", {"budget": "2000"}),
        ("parameters", {"ratio": 0.9}),
        ("channels", {"budget": "100"}),
        ("channels", {"budget": "1.5x"}),
        ("size", {"budget": "0.012"}),
    ],
)
def test_a_budget_is_met_and_hardly_undercut(
    parts: tuple[Any, Any, Any], target: str, options: dict[str, Any], allocation: str
) -> None:
    model, graph, scores = parts
    config = PruningRatioConfig(target=target, allocation=allocation, round_to=1, **options)
    counted = measure(model, graph, target)

    found = meet(graph, scores, config, counted)

    limit = config.limit(counted.whole)
    assert 0.93 * limit < counted.of(found) <= limit
    found.validate(graph)


@pytest.mark.parametrize("target", ["macs", "parameters"])
def test_by_cost_more_importance_is_left_within_a_budget(parts: tuple[Any, Any, Any], target: str) -> None:
    model, graph, _ = parts
    raw, left = importance(model, graph, normalization="none"), {}
    for allocation in ("uniform", "global", "cost"):
        options = {"target": target, "ratio": 0.5, "round_to": 1, "allocation": allocation}
        found = prune(model, normalization="none", **options).plan
        left[allocation] = sum(raw[name][list(kept)].sum() for name, kept in found.kept.items())

    assert left["cost"] > max(left["uniform"], left["global"])


def test_a_group_with_large_steps_leaves_the_budget_to_the_others(parts: tuple[Any, Any, Any]) -> None:
    _, graph, scores = parts

    def milliseconds(found: Any) -> float:
        """The last step of `stem` takes as long as forty channels."""
        return 40.0 * (found.counts["stem"] // 32) + found.channels[1]

    whole = plan(graph, scores, PruningRatioConfig(0.0))
    without_last_step = milliseconds(whole) - 40 - 4
    config = PruningRatioConfig(target="latency", budget=f"{without_last_step}", round_to=4)
    found = meet(graph, scores, config, Measure(milliseconds(whole), milliseconds))

    assert milliseconds(found) == without_last_step
    assert found.counts == {**found.sizes, "stem": 28}
    found.validate(graph)


def test_a_channel_costs_what_the_target_loses_with_it(parts: tuple[Any, Any, Any]) -> None:
    model, graph, scores = parts
    priced = per_cost(graph, scores, measure(model, graph, "parameters"))

    # `up` reads 32 channels by kernels of 2 x 2 and has a bias; `out` gives 10 numbers by each of its channels.
    assert priced["up"] == pytest.approx(scores["up"] / (2 * 2 * 32 + 1 + 10))


def test_where_a_device_measures_channels_cost_their_macs(parts: tuple[Any, Any, Any]) -> None:
    model = parts[0]
    asked = []

    def milliseconds(found: Any) -> float:
        asked.append(found)
        return cost(found).macs / 1000

    options = {"ratio": 0.5, "round_to": 1, "allocation": "cost"}
    found = prune(model, target="latency", latency=milliseconds, **options).plan

    by_macs = prune(model, target="macs", **options).plan
    # As it is measured, a budget is met to two percent.
    assert all(abs(found.counts[name] - count) <= 1 for name, count in by_macs.counts.items())
    assert len(asked) <= 14


def test_the_budget_goes_before_the_ratio() -> None:
    assert PruningRatioConfig(0.5, target="macs").limit(100) == 50
    assert PruningRatioConfig(0.5, target="macs", budget="4x").limit(100) == 25
    assert PruningRatioConfig(0.5, target="latency", budget="20").limit(100) == 20
    assert PruningRatioConfig(0.5, target="size", budget="2.5").limit(1e8) == 2.5e6


@pytest.mark.parametrize("budget", ["x", "0", "-3", "0.5x", "five", "nan", "20 ms"])
def test_a_budget_that_is_none_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="budget is a number above 0, or a factor like 5x; got"):
        PruningRatioConfig(target="macs", budget=budget)


def test_groups_with_a_ratio_of_their_own_are_left_to_it(parts: tuple[Any, Any, Any]) -> None:
    model, graph, scores = parts
    config = PruningRatioConfig(0.6, target="macs", round_to=1, ratios={"up": 0.25, "t*": 0.0})

    found = meet(graph, scores, config, measure(model, graph, "macs"))

    assert found.counts["up"] == 18
    assert found.counts["separable"] == found.sizes["separable"]  # as `twice`, which unites its input and its output
    assert measure(model, graph, "macs").of(found) <= 0.4 * cost(model).macs


def test_what_cannot_be_reached_says_how_far_one_can_go_and_what_stays(parts: tuple[Any, Any, Any]) -> None:
    model, graph, scores = parts
    config = PruningRatioConfig(target="macs", budget="1000", round_to=8, keep=["stem"])
    with pytest.raises(
        ValueError, match=r"1,000 MACs cannot be reached; with round_to=8 and minimum=1 one can go "
    ) as e:
        meet(graph, scores, config, measure(model, graph, "macs"))
    lowest = int(str(e.value).split("down to ")[1].split(" MACs")[0].replace(",", ""))
    assert "channels that stay whole: keep=stem: 32, model output: 10" in str(e.value)

    found = meet(graph, scores, replace(config, budget=str(lowest)), measure(model, graph, "macs"))
    assert cost(cut(model, found)).macs == lowest


def test_a_budget_that_is_met_already_says_so(parts: tuple[Any, Any, Any]) -> None:
    model, graph, scores = parts
    with pytest.raises(ValueError, match=r"target=parameters: the model has [\d,]+ parameters already"):
        meet(graph, scores, PruningRatioConfig(target="parameters", budget="1e9"), measure(model, graph, "parameters"))


def test_ratios_of_their_own_that_meet_the_budget_already_are_the_plan(parts: tuple[Any, Any, Any]) -> None:
    model, graph, scores = parts
    config = PruningRatioConfig(0.01, target="macs", round_to=1, ratios={"up": 0.5})

    found = meet(graph, scores, config, measure(model, graph, "macs"))

    assert {name for name, size in found.sizes.items() if found.counts[name] < size} == {"up"}


def test_a_plan_that_removes_nothing_says_why(parts: tuple[Any, Any, Any]) -> None:
    _, graph, scores = parts
    with pytest.raises(ValueError, match=r"the plan is empty: with ratio=0\.1 rounded to round_to=48"):
        meet(graph, scores, PruningRatioConfig(0.1, round_to=48), None)


def test_a_measured_target_is_asked_for_few_plans(parts: tuple[Any, Any, Any]) -> None:
    _, graph, scores = parts
    asked = []

    def milliseconds(found: Any) -> float:
        asked.append(found)
        return 0.5 + found.channels[1] / 10

    config = PruningRatioConfig(target="latency", budget="10", round_to=1)
    found = meet(graph, scores, config, Measure(50.0, milliseconds, tolerance=0.03))

    assert 9.7 <= milliseconds(found) <= 10
    assert len(asked) <= 12


def test_latency_needs_a_device(parts: tuple[Any, Any, Any]) -> None:
    model, graph, _ = parts
    with pytest.raises(ValueError, match="target=latency needs a device to measure on"):
        measure(model, graph, "latency")


@pytest.mark.parametrize(("option", "value"), [("keep", ["sten"]), ("ratios", {"sten": 0.5})])
def test_a_pattern_that_matches_nothing_is_refused(parts: tuple[Any, Any, Any], option: str, value: Any) -> None:
    _, graph, scores = parts
    with pytest.raises(ValueError, match=rf"^{option}: no group .* matches 'sten'; did you mean 'stem'\?"):
        plan(graph, scores, PruningRatioConfig(**{option: value}))


def test_what_stays_whole_is_told_with_the_reason(parts: tuple[Any, Any, Any]) -> None:
    _, graph, scores = parts
    found = plan(graph, scores, PruningRatioConfig(0.5, scope="inner", keep=["separable"]))

    assert found.reasons == {"keep=separable": 40, "outside blocks (scope=inner)": 56, "model output": 10}
    before, after = found.channels
    assert found.removed == pytest.approx(1 - after / before)
    assert f"{before} {after}" in " ".join(str(found).split())
    with pytest.raises(ValueError, match=r"nothing to prune with scope=all and keep=\['\*'\]"):
        plan(graph, scores, PruningRatioConfig(keep=["*"]))
