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
    return keras.ops.square(truth - outputs)[:, 0]


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


def gradients() -> np.ndarray[Any, Any]:
    """The gradient of each sample's squared output by the kernel, `(4, 2, 4)`."""
    active = np.maximum(INPUTS @ KERNEL, 0)
    outputs = active @ READ
    return 2 * outputs[:, :, None] * INPUTS[:, :, None] * ((active > 0) * READ[:, 0])[:, None, :]


def test_taylor_is_the_first_order_change_of_the_loss() -> None:
    expected = np.abs((gradients() * KERNEL).sum(axis=1)).mean(axis=0)

    assert scores("taylor", LABELED) == pytest.approx(expected, rel=1e-4)


def test_fisher_is_half_the_squared_weights_times_squared_gradients() -> None:
    expected = 0.5 * ((gradients() * KERNEL) ** 2).sum(axis=1).mean(axis=0)

    assert scores("fisher", LABELED) == pytest.approx(expected, rel=1e-4)


def test_the_label_free_hessian_is_that_of_the_squared_output() -> None:
    inputs = np.tile(INPUTS, (400, 1))
    active = (INPUTS @ KERNEL > 0) * READ[:, 0]
    jacobian = INPUTS[:, :, None] * active[:, None, :]
    expected = 0.5 * ((jacobian * KERNEL) ** 2).sum(axis=1).mean(axis=0)

    found = scores("hessian", Samples(inputs=lambda: np.split(inputs, 400)))

    assert found == pytest.approx(expected, rel=0.15)
    assert found[3] == 0  # nothing reads it


def test_a_filter_that_nothing_reads_matters_to_no_gradient() -> None:
    for criterion in ("taylor", "fisher", "hessian"):
        assert scores(criterion, LABELED)[3] == 0
        assert scores(criterion, LABELED)[:3].min() > 0


def test_random_scores_repeat_with_the_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        found.append(scores("random").tolist())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_a_criterion_without_its_loss_says_which_needs_none(criterion: str) -> None:
    with pytest.raises(ValueError, match=f"criterion {criterion} judges by a loss, and none is given: .* hessian"):
        scores(criterion, Samples(inputs=lambda: [INPUTS]))


@pytest.mark.parametrize("criterion", ["hessian", "activation", "apoz"])
def test_a_criterion_without_its_inputs_says_which_needs_none(criterion: str) -> None:
    with pytest.raises(ValueError, match=f"criterion {criterion} judges by inputs, and none are given: .* l1"):
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
