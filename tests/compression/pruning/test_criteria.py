"""Each criterion on a network small enough to be computed by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from slimcam.compression.pruning.config import Criterion, PruningRatioConfig
from slimcam.compression.pruning.criteria import CRITERIA
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.samples import Samples

L = keras.layers

KERNEL = np.array([[1.0, 2.0, -3.0, 2.0], [0.0, 2.0, 4.0, 2.1]], dtype=np.float32)
READ = np.array([[1.0], [2.0], [0.5], [0.0]], dtype=np.float32)
INPUTS = np.array([[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0], [-2.0, 1.0]], dtype=np.float32)


def network() -> Any:
    """Two inputs, four channels `h` through a ReLU, one output that reads them by `READ`."""
    inputs = keras.Input((2,))
    hidden = L.Dense(4, use_bias=False, name="h")(inputs)
    model = keras.Model(inputs, L.Dense(1, use_bias=False, name="out")(L.ReLU()(hidden)))
    model.get_layer("h").kernel.assign(KERNEL)
    model.get_layer("out").kernel.assign(READ)
    return model


def scores(criterion: str, samples: Samples | None = None, model: Any = None, **options: Any) -> Any:
    model = model or network()
    options = {"normalization": "none", **options}
    return importance(model, trace(model), criterion, samples, **options)["h"]


def squared(truth: Any, outputs: Any) -> Any:
    return keras.ops.square(keras.ops.subtract(truth, outputs))[:, 0]


LABELED = Samples(
    inputs=lambda: [INPUTS],
    labeled=lambda: [(row[None], np.zeros((1, 1), np.float32)) for row in INPUTS],
    loss=squared,
)


def test_every_name_has_a_function() -> None:
    assert set(CRITERIA) == set(Criterion)


def test_norms_of_the_weights() -> None:
    assert scores("l1") == pytest.approx([1, 4, 7, 4.1])
    assert scores("l2") == pytest.approx([1, 8**0.5, 5, (4 + 2.1**2) ** 0.5])


def test_fpgm_spares_the_filter_that_others_stand_for() -> None:
    points = KERNEL.T
    expected = [sum(np.linalg.norm(point - other) for other in points) for point in points]

    found = scores("fpgm")

    assert found == pytest.approx(expected, rel=1e-5)
    assert found.argmin() in (1, 3)  # these two are nearly the same


def test_lamp_is_the_share_of_the_squares_of_those_as_large() -> None:
    squares = np.array([1, 8, 25, 4 + 2.1**2])
    order = np.sort(squares)
    expected = [square / order[order >= square].sum() for square in squares]

    assert scores("lamp") == pytest.approx(expected, rel=1e-5)


def test_activation_and_apoz_are_those_behind_the_activation() -> None:
    active = np.maximum(INPUTS @ KERNEL, 0)

    assert scores("activation", LABELED) == pytest.approx(active.mean(axis=0), rel=1e-5)
    assert scores("apoz", LABELED) == pytest.approx((active > 0).mean(axis=0))


def derivatives() -> np.ndarray[Any, Any]:
    """The derivative of each sample's output by a factor of each channel, `(4, 4)`."""
    return np.asarray(np.maximum(INPUTS @ KERNEL, 0) * READ[:, 0])


def of_loss() -> np.ndarray[Any, Any]:
    """The same of the squared output."""
    return np.asarray(2 * derivatives().sum(axis=1, keepdims=True) * derivatives())


def test_taylor_is_the_first_order_change_of_the_loss() -> None:
    assert scores("taylor", LABELED) == pytest.approx(np.abs(of_loss()).mean(axis=0), rel=1e-4)


def test_fisher_is_half_the_squared_derivative_of_the_loss() -> None:
    assert scores("fisher", LABELED) == pytest.approx(0.5 * (of_loss() ** 2).mean(axis=0), rel=1e-4)


def test_the_label_free_hessian_is_that_of_the_squared_output() -> None:
    inputs = np.tile(INPUTS, (400, 1))

    found = scores("hessian", Samples(inputs=lambda: np.split(inputs, 400)))

    assert found == pytest.approx(0.5 * (derivatives() ** 2).mean(axis=0), rel=0.15)
    assert found[3] == 0  # nothing reads it


def stream() -> Any:
    """A residual stream of four channels, normalized, read by a block, by another convolution, and by the output."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", name="h")(inputs)))
    y = L.ReLU()(L.Conv2D(6, 3, padding="same", groups=2, name="grouped")(x))
    x = L.Add()([x, L.BatchNormalization()(L.Conv2D(4, 1, name="back")(y))])
    outputs = L.Dense(3, name="out")(L.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            for held in layer.weights:
                held.assign(np.random.default_rng(1).uniform(0.5, 1.5, held.shape))
    return model


def test_a_derivative_is_that_of_the_channel_wherever_it_is_read() -> None:
    """Of a grouped convolution too: against differences of what the model gives with the channel scaled."""
    model = stream()
    graph = trace(model)
    (group,) = [group for group in graph.prunable if group.name == "h"]
    images = np.random.default_rng(2).normal(size=(1, 4, 4, 3)).astype(np.float32)
    samples = Samples(
        labeled=lambda: [(images, np.zeros((1, 3), np.float32))],
        loss=lambda truth, outputs: keras.ops.sum(keras.ops.subtract(outputs, truth), axis=-1),
    )

    found = importance(model, graph, "taylor", samples, normalization="none")["h"]

    expected = []
    for channel in range(4):
        losses = []
        for factor in (0.999, 1.001):
            scaled = keras.models.clone_model(model)
            scaled.set_weights(model.get_weights())
            for each in group.reading:
                held = scaled.get_layer(each.layer).kernel
                value = keras.ops.convert_to_numpy(held).copy()
                outputs = value.shape[-1] // each.blocks
                for number, (position, own) in enumerate(zip(each.positions, each.channels, strict=True)):
                    block = 0 if each.block is None else int(each.block[number])
                    if own == channel:
                        value[..., position, block * outputs : (block + 1) * outputs] *= factor
                held.assign(value)
            losses.append(float(keras.ops.convert_to_numpy(scaled(images)).sum()))
        expected.append(abs(losses[1] - losses[0]) / 0.002)
    assert {each.layer for each in group.reading} == {"grouped", "out"}
    assert found == pytest.approx(expected, rel=1e-2)


def test_outgoing_is_the_norm_of_the_weights_that_read() -> None:
    assert scores("outgoing") == pytest.approx(READ[:, 0])
    assert PruningRatioConfig().criterion == "outgoing"


def test_a_filter_that_nothing_reads_matters_to_no_gradient() -> None:
    for criterion in ("taylor", "fisher", "hessian"):
        assert scores(criterion, LABELED)[3] == 0
        assert scores(criterion, LABELED)[:3].min() > 0


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "hessian"])
def test_frozen_layers_count_as_others_do_and_stay_frozen(criterion: str) -> None:
    model = network()
    model.trainable = False

    assert scores(criterion, LABELED, model) == pytest.approx(scores(criterion, LABELED), rel=1e-5)
    assert not model.trainable_variables


def test_random_scores_repeat_with_the_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        found.append(scores("random").tolist())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_a_criterion_without_its_loss_says_which_needs_none(criterion: str) -> None:
    with pytest.raises(ValueError, match=f"criterion {criterion} needs a loss, and none is given: .* hessian"):
        scores(criterion, Samples(inputs=lambda: [INPUTS]))


@pytest.mark.parametrize("criterion", ["hessian", "activation", "apoz"])
def test_a_criterion_without_its_inputs_says_which_needs_none(criterion: str) -> None:
    with pytest.raises(ValueError, match=f"criterion {criterion} needs inputs, and none are given: .* outgoing"):
        scores(criterion)
    with pytest.raises(ValueError, match=f"criterion {criterion} needs at least one batch"):
        scores(criterion, Samples(inputs=lambda: []))


def two_producers() -> Any:
    inputs = keras.Input((2,))
    a, b = L.Dense(2, use_bias=False, name="h"), L.Dense(2, use_bias=False, name="b")
    model = keras.Model(inputs, L.Dense(1)(L.Add()([a(inputs), b(inputs)])))
    a.kernel.assign([[1.0, 3.0], [0.0, 0.0]])
    b.kernel.assign([[8.0, 4.0], [0.0, 0.0]])
    return model


@pytest.mark.parametrize(
    ("reduction", "expected"), [("mean", [4.5, 3.5]), ("sum", [9, 7]), ("max", [8, 4]), ("first", [1, 3])]
)
def test_the_values_of_several_layers_become_one(reduction: str, expected: list[float]) -> None:
    assert scores("l1", model=two_producers(), reduction=reduction) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("mean", [(0.5 + 8 / 6) / 2, (1.5 + 4 / 6) / 2]),
        ("max", [1.0, 1.0 * (1 + 0.5) / (1 / 3 + 1)]),
        ("gaussian", [0.0, 0.0]),
    ],
)
def test_layers_and_groups_are_normalized(normalization: str, expected: list[float]) -> None:
    found = scores("l1", model=two_producers(), normalization=normalization)

    expected = [value / max(expected) for value in expected] if normalization == "max" else expected
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("criterion", "same_as"), [("l1", "mean"), ("lamp", "none"), ("hessian", "none")])
def test_values_that_compare_between_groups_stay_as_they_are(criterion: str, same_as: str) -> None:
    def seeded(normalization: str) -> Any:
        keras.utils.set_random_seed(0)
        return scores(criterion, LABELED, normalization=normalization)

    np.testing.assert_array_equal(seeded("auto"), seeded(same_as))


def test_a_criterion_of_ones_own_is_a_function_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_criterion.py").write_text(
        "import numpy as np\n"
        "def last(model, graph, samples):\n    return {group.name: np.arange(group.size) for group in graph.prunable}\n"
        "def few(model, graph, samples):\n    return {group.name: np.ones(3) for group in graph.prunable}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert PruningRatioConfig(criterion="own_criterion:last").criterion == "own_criterion:last"
    assert scores("own_criterion:last").tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"criterion own_criterion:few: group 'h' needs values of shape \(4,\)"):
        scores("own_criterion:few")
    with pytest.raises(ValueError, match=r"criterion own_criterion:none: expected module:name of your own"):
        scores("own_criterion:none")
    with pytest.raises(ValueError, match=r"criterion no_such_module:f: expected module:name of your own"):
        scores("no_such_module:f")
    sys.modules.pop("own_criterion")
