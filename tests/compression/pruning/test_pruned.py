"""Pruning in one call, without a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from slimcam import compression
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.sparsity import penalized
from slimcam.compression.pruning.weight_criteria import l2

L = keras.layers


def network() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3, use_bias=False, name="a")(inputs)))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(64, 3, use_bias=False, name="b")(x)))
    return keras.Model(inputs, L.Dense(10, name="out")(L.GlobalAveragePooling2D()(x)), name="net")


def test_a_model_is_pruned_to_a_budget_and_keeps_its_interface(tmp_path: Path) -> None:
    model = network()
    found = compression.prune(model, target="macs", ratio=0.5)

    assert 0.4 * found.before.macs < found.after.macs <= 0.5 * found.before.macs
    assert found.model.output_shape == model.output_shape
    assert compression.cost(model) == found.before
    assert "parameters 20,330 -> " in str(found)

    found.plan.save(tmp_path / "plan.json")
    again = compression.prune(model, plan=compression.PruningPlan.load(tmp_path / "plan.json"))
    for ours, theirs in zip(again.model.get_weights(), found.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_inputs_serve_the_criterion_and_the_statistics() -> None:
    images = np.random.default_rng(0).normal(3, 1, (8, 16, 16, 3)).astype(np.float32)
    samples = compression.Samples(inputs=lambda: [images])
    found = compression.prune(network(), criterion="apoz", ratio=0.5, samples=samples)

    first = found.model.layers[2]
    assert np.abs(np.asarray(first.moving_mean)).max() > 0.1  # 0 before


def test_milliseconds_are_those_of_a_function() -> None:
    asked = []

    def milliseconds(model: Any) -> float:
        asked.append(model)
        return compression.cost(model).macs / 1e5

    found = compression.prune(network(), target="latency", budget="4x", latency=milliseconds, round_to=1)

    assert found.after.macs == pytest.approx(found.before.macs / 4, rel=0.05)
    assert len(asked) < 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.0}, r"^ratio is the share to remove, from 0 to below 1; got 1\.0$"),
        ({"ratios": {"b": 1.0}}, r"^ratios\.b is the share to remove, from 0 to below 1; got 1\.0$"),
        ({"keep": ["c*"]}, r"^keep: no group .* matches 'c\*'; known are a, b, "),
        ({"target": "macs", "budget": "5"}, r"^target=macs: 5 MACs cannot be reached; .* down to [\d,]+ MACs, \d+% of"),
        ({"target": "latency"}, r"^target=latency needs a device to measure on: give latency="),
        ({"round_to": 64, "minimum": 64}, r"^the plan is empty: with ratio=0.7 rounded to round_to=64"),
        ({"plan": compression.PruningPlan({}, {})}, r"^the pruning plan is empty: it names no channel group$"),
        ({"criterion": "taylor"}, r"^criterion taylor needs a loss, and none is given: "),
    ],
)
def test_bad_input_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        compression.prune(network(), **options)
    assert "\n" not in str(error.value)


def test_a_subclassed_model_is_refused_in_one_line() -> None:
    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(
        ValueError, match=r"cannot be traced: expected a functional .* got .*Own; build it with"
    ) as error:
        compression.prune(Own(name="own"), ratio=0.5)
    assert "\n" not in str(error.value)


def test_plans_of_one_model_are_compared_group_by_group() -> None:
    model = network()
    half, more = (compression.prune(model, ratio=0.5, keep=keep).plan for keep in ([], ["a"]))

    assert half.difference(half) == ""
    lines = half.difference(more).splitlines()
    assert [line.split() for line in lines] == [
        ["group", "channels", "first", "second", "in", "both"],
        ["a", "32", "16", "32", "16"],
    ]
    other = compression.PruningPlan({"a": (0,)}, {"a": 7})
    with pytest.raises(ValueError, match="the plans are of two models: group 'a' has 32 and 7 channels"):
        half.difference(other)


@pytest.mark.parametrize("penalty", ["group_lasso", "bn_scale"])
def test_a_penalty_makes_channels_small_that_the_loss_does_not_need(penalty: str) -> None:
    """Two of eight inputs decide the truth: channels of the hidden layer fade, some more than others."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(256, 8)).astype(np.float32)
    truth = inputs[:, :1] - inputs[:, 1:2]

    def trained(strength: float) -> np.ndarray[Any, Any]:
        keras.utils.set_random_seed(0)
        first = keras.Input((8,))
        hidden = L.BatchNormalization(name="norm")(L.Dense(16, use_bias=False, name="h")(first))
        model = keras.Model(first, L.Dense(1, name="out")(L.ReLU()(hidden)))
        with penalized(model, trace(model), penalty, strength):
            copy = keras.models.clone_model(model)
            copy.compile(keras.optimizers.Adam(0.01), "mse")
            copy.fit(inputs, truth, epochs=30, verbose=0)
        assert all(variable.regularizer is None for variable in model.trainable_variables)
        if penalty == "bn_scale":
            return np.abs(np.asarray(copy.get_layer("norm").gamma))
        return np.asarray(l2(copy, trace(copy))["h"][0])

    without, with_it = trained(1e-9), trained(0.01)
    assert with_it.mean() < 0.7 * without.mean()
    assert with_it.std() / with_it.mean() > 2 * without.std() / without.mean()


def test_a_penalty_on_scales_that_there_are_none_of_is_refused() -> None:
    first = keras.Input((8,))
    model = keras.Model(first, L.Dense(1)(L.Dense(4)(first)), name="plain")
    with pytest.raises(ValueError, match=r"sparse.penalty=bn_scale: plain has no channels that it is for"):
        penalized(model, trace(model), "bn_scale", 0.1).__enter__()
