from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.graph import ChannelGraph, trace
from slimcam.compression.pruning.groups import Group, WeightSlice
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.schedule import width_schedule
from slimcam.compression.pruning.selection import blocks_of, keep_best, plan
from slimcam.compression.pruning.surgery import cut

L = keras.layers


def chain(*filters: int) -> Any:
    inputs = x = keras.Input((4, 4, 3))
    for index, count in enumerate(filters):
        x = L.Conv2D(count, 1, name=f"conv{index}")(x)
    return keras.Model(inputs, L.Conv2D(2, 1, name="out")(x))


@pytest.fixture
def graph() -> ChannelGraph:
    return trace(chain(64, 20, 6))


@pytest.fixture
def scores() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"conv0": rng.uniform(0.5, 1.5, 64), "conv1": rng.uniform(0.5, 1.5, 20), "conv2": rng.uniform(0.5, 1.5, 6)}


def counts(found: PruningPlan) -> list[int]:
    return [len(channels) for channels in found.kept.values()]


@pytest.mark.parametrize(
    ("round_to", "minimum", "expected"),
    [(1, 1, [19, 6, 2]), (8, 1, [16, 8, 6]), (16, 1, [16, 16, 6]), (1, 7, [19, 7, 6])],
)
def test_uniform_keeps_the_nearest_multiple_at_least_one_and_never_more_than_there_are(
    graph: ChannelGraph, scores: dict[str, Any], round_to: int, minimum: int, expected: list[int]
) -> None:
    assert counts(plan(graph, scores, PruningRatioConfig(0.7, round_to=round_to, minimum=minimum))) == expected


def test_the_channels_of_the_highest_scores_stay_in_order(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    scores["conv2"] = np.array([5, 1, 4, 2, 6, 3.0])

    assert plan(graph, scores, PruningRatioConfig(0.5, round_to=1)).kept["conv2"] == (0, 2, 4)


def test_equal_scores_keep_the_first_channels(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    scores["conv2"] = np.ones(6)

    assert plan(graph, scores, PruningRatioConfig(0.5, round_to=1)).kept["conv2"] == (0, 1, 2)


def test_global_takes_from_the_group_with_the_unimportant_channels(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    scores["conv0"][:60] = 0.01

    found = plan(graph, scores, PruningRatioConfig(0.6, allocation="global", round_to=1))

    assert len(found.kept["conv1"]) == 20
    assert sum(counts(found)) == 36


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7])
def test_global_meets_the_ratio_to_within_one_rounding_step(
    graph: ChannelGraph, scores: dict[str, Any], ratio: float
) -> None:
    found = plan(graph, scores, PruningRatioConfig(ratio, allocation="global", round_to=8))

    assert abs(sum(counts(found)) - (1 - ratio) * 90) <= 8


def test_scope_inner_on_a_network_without_shortcuts_says_so(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="scope=inner: no block of the model has a shortcut"):
        plan(graph, scores, PruningRatioConfig(scope="inner"))


def test_missing_scores_are_named(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    del scores["conv1"]

    with pytest.raises(ValueError, match="'conv1' needs 20 scores"):
        plan(graph, scores, PruningRatioConfig())


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratio": 1.0},
        {"ratio": -0.1},
        {"scope": "outer"},
        {"allocation": "fair"},
        {"allocation": "cost", "normalization": "gaussian"},
        {"round_to": 0},
        {"minimum": 0},
    ],
)
def test_impossible_pruning_ratios_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PruningRatioConfig(**wrong)


def test_a_plan_survives_the_disk(graph: ChannelGraph, scores: dict[str, Any], tmp_path: Path) -> None:
    found = plan(graph, scores, PruningRatioConfig())
    found.save(tmp_path / "plan.json")

    assert PruningPlan.load(tmp_path / "plan.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"kept": {}}', '{"kept": {"a": 1}, "sizes": {}}'])
def test_a_file_that_is_no_plan_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)

    with pytest.raises(ValueError, match=r"plan\.json: not a pruning plan"):
        PruningPlan.load(tmp_path / "plan.json")


def test_a_plan_prints_as_a_table(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    lines = str(plan(graph, scores, PruningRatioConfig())).splitlines()

    assert lines[1].split() == ["conv0", "64", "16", "75%"]
    assert lines[-3].split() == ["chosen", "from", "90", "30", "67%"]
    assert lines[-2].split() == ["model", "output", "2", "2", "0%"]
    assert lines[-1].split() == ["all", "channels", "92", "32", "65%"]


def test_a_plan_for_another_model_is_refused(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    found = plan(graph, scores, PruningRatioConfig())

    with pytest.raises(ValueError, match="another model: its group 'conv0' has 64 channels, this model's has 32"):
        found.validate(trace(chain(32, 20, 6)))
    with pytest.raises(ValueError, match="another model: this one has no channel group 'conv2'"):
        found.validate(trace(chain(64, 20)))


@pytest.mark.parametrize("channels", [(), (1, 0), (0, 0), (-1, 2), (3, 6)])
def test_impossible_channels_are_refused(graph: ChannelGraph, channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="channels 0 to 5"):
        PruningPlan({"conv2": channels}, {"conv2": 6}).validate(graph)


def test_channels_that_must_stay_are_refused(graph: ChannelGraph) -> None:
    with pytest.raises(ValueError, match=r"'out' cannot be pruned \(model output\)"):
        PruningPlan({"out": (0,)}, {"out": 2}).validate(graph)


def test_widths_fall_by_the_same_share_to_exactly_those_of_the_target(
    graph: ChannelGraph, scores: dict[str, Any]
) -> None:
    target = plan(graph, scores, PruningRatioConfig(0.7, round_to=8))

    assert width_schedule(target, graph, 3, 8) == [
        {"conv0": 40, "conv1": 16, "conv2": 6},
        {"conv0": 24, "conv1": 8, "conv2": 6},
        {"conv0": 16, "conv1": 8, "conv2": 6},
    ]
    assert width_schedule(target, graph, 1, 8) == [{"conv0": 16, "conv1": 8, "conv2": 6}]


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    ratio=st.floats(0.0, 0.99),
    round_to=st.sampled_from([1, 4, 8, 16]),
    minimum=st.integers(1, 20),
    steps=st.integers(1, 6),
)
def test_widths_never_grow_and_end_at_the_target(
    sizes: list[int], ratio: float, round_to: int, minimum: int, steps: int
) -> None:
    names = [str(index) for index in range(len(sizes))]
    config = PruningRatioConfig(ratio, round_to=round_to, minimum=minimum)
    rows = [np.arange(size) for size in sizes]
    slices = [(WeightSlice(name, "kernel", -1, row, row, True),) for name, row in zip(names, rows, strict=True)]
    parts = zip(names, slices, rows, strict=True)
    groups = [Group(name, (name,), "", False, producing, row) for name, producing, row in parts]
    graph = ChannelGraph(tuple(groups), {}, {}, {})
    target = plan(graph, {group.name: np.ones(group.size) for group in groups}, config)

    found = [dict(target.sizes), *width_schedule(target, graph, steps, round_to)]

    assert found[-1] == {name: len(kept) for name, kept in target.kept.items()}
    for before, after in pairwise(found):
        assert all(1 <= after[name] <= before[name] for name in names)
        between = [after[name] for name in names if found[-1][name] < after[name] < before[name]]
        assert all(width % round_to == 0 or width == 2 for width in between)


def grouped(x: Any) -> Any:
    return L.Conv2D(16, 3, groups=4, name="grouped")(x)


def normalized(x: Any) -> Any:
    return L.GroupNormalization(4, name="normalized")(x)


def shuffled(x: Any) -> Any:
    x = L.Permute((1, 2, 4, 3))(L.Reshape((4, 4, 4, 4))(L.Conv2D(16, 1, groups=4, name="grouped")(x)))
    return L.Conv2D(16, 1, groups=4, name="again")(L.Reshape((4, 4, 16))(x))


@pytest.mark.parametrize("block", [grouped, normalized, shuffled])
def test_each_of_several_cuts_fits_what_the_one_before_left(block: Callable[[Any], Any]) -> None:
    """The target has one channel in each group, and rounding would reach it before the last cut."""
    inputs = keras.Input((4, 4, 3))
    x = block(L.Conv2D(16, 1, name="first")(inputs))
    model = keras.Model(inputs, L.Conv2D(2, 1, name="out")(x))
    graph = trace(model)
    target = plan(graph, importance(model, graph), PruningRatioConfig(0.9, round_to=1))
    assert min(target.counts.values()) == min(group.blocks for group in graph.prunable)

    for widths in width_schedule(target, graph, 4, 1):
        graph = trace(model)
        model = cut(model, keep_best(importance(model, graph), widths, blocks_of(graph)), graph)

    assert model.get_layer("first").filters == target.counts["first"] == 4
    assert model(np.zeros((1, 4, 4, 3))).shape[-1] == 2


def test_two_plans_after_each_other_are_one(graph: ChannelGraph, scores: dict[str, Any]) -> None:
    first = keep_best(scores, {"conv0": 40, "conv1": 20, "conv2": 4})
    left = {name: scores[name][list(kept)] for name, kept in first.kept.items()}
    counts = {"conv0": 16, "conv1": 8, "conv2": 4}

    assert first.then(keep_best(left, counts)) == keep_best(scores, counts)
    first.then(keep_best(left, counts)).validate(graph)


def test_a_plan_for_another_width_does_not_follow(scores: dict[str, Any]) -> None:
    first = keep_best(scores, {"conv0": 40, "conv1": 20, "conv2": 4})

    with pytest.raises(ValueError, match="not for the model that the first one leaves"):
        first.then(first)
