"""Weights by least squares after a cut."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from slimcam import compression
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.reconstruct import reconstruct
from slimcam.compression.pruning.surgery import cut

L = keras.layers

KEPT = (0, 2, 3, 5)


def network(*, redundant: bool) -> Any:
    """Eight channels of `h`; where they are redundant, each of the last four is a mixture of the first four."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    hidden = L.Conv2D(8, 3, name="h")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(6, 3, strides=2, use_bias=False, name="read")(hidden)))
    outputs = L.Dense(5, name="out")(L.Concatenate()([L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)]))
    other = L.Conv2D(4, 3, padding="valid", name="biased")(hidden)
    model = keras.Model(inputs, L.Concatenate()([outputs, L.GlobalAveragePooling2D()(other)]))
    layer = model.get_layer("h")
    layer.bias.assign(np.linspace(-1, 1, 8))
    if redundant:
        mixing = np.random.default_rng(0).normal(size=(len(KEPT), 4))
        kernel, bias = (keras.ops.convert_to_numpy(held).copy() for held in (layer.kernel, layer.bias))
        gone = [channel for channel in range(8) if channel not in KEPT]
        kernel[..., gone], bias[gone] = kernel[..., KEPT] @ mixing, bias[list(KEPT)] @ mixing + 0.5
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
    return model


def smaller(model: Any, batches: list[Any]) -> tuple[Any, Any, list[str]]:
    """The cut copy as it is, the reconstructed one, and the layers that were changed."""
    graph = trace(model)
    plan = PruningPlan({"h": KEPT}, {"h": 8})
    plain, solved = cut(model, plan, graph), cut(model, plan, graph)
    names = reconstruct(solved, model, plan, graph, batches)
    compression.recalibrate_batch_norm(plain, batches)
    return plain, solved, names


IMAGES = np.random.default_rng(3).normal(size=(64, 12, 12, 3)).astype(np.float32)
UNSEEN = np.random.default_rng(4).normal(size=(16, 12, 12, 3)).astype(np.float32)


def test_what_kept_channels_tell_of_removed_ones_is_not_lost() -> None:
    """Removed channels that are mixtures of kept ones are made up for whole, their constant too."""
    model = network(redundant=True)
    compression.recalibrate_batch_norm(model, [IMAGES])
    plain, solved, names = smaller(model, [IMAGES[:32], IMAGES[32:]])

    wanted, scale = model.predict(UNSEEN, verbose=0), float(np.abs(model.predict(UNSEEN, verbose=0)).max())
    assert sorted(names) == ["biased", "read"]
    assert np.abs(solved.predict(UNSEEN, verbose=0) - wanted).max() < 0.02 * scale
    assert np.abs(plain.predict(UNSEEN, verbose=0) - wanted).max() > 0.2 * scale


def test_what_they_do_not_tell_is_lost_as_before() -> None:
    model = network(redundant=False)
    compression.recalibrate_batch_norm(model, [IMAGES])
    plain, solved, _ = smaller(model, [IMAGES])

    wanted = model.predict(UNSEEN, verbose=0)
    lost = [float(((each.predict(UNSEEN, verbose=0) - wanted) ** 2).mean()) for each in (plain, solved)]
    assert lost[1] < lost[0]


def test_losses_of_the_layers_before_are_made_up_for() -> None:
    """Two groups cut one behind the other: the second reader sees what the first cut has left."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((10, 10, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, name="a")(inputs)))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, name="b")(x)))
    model = keras.Model(inputs, L.Conv2D(8, 1, name="c")(x))
    images = np.random.default_rng(5).normal(size=(128, 10, 10, 3)).astype(np.float32)
    compression.recalibrate_batch_norm(model, [images])
    options = {"ratio": 0.5, "criterion": "hessian", "samples": compression.Samples(inputs=lambda: [images])}

    plain = compression.prune(model, **options, reconstruct=False).model
    solved = compression.prune(model, **options).model

    unseen = np.random.default_rng(6).normal(size=(32, 10, 10, 3)).astype(np.float32)
    wanted = model.predict(unseen, verbose=0)
    lost = [float(((each.predict(unseen, verbose=0) - wanted) ** 2).mean()) for each in (plain, solved)]
    assert lost[1] < 0.8 * lost[0]


def test_the_model_itself_stays_as_it_was() -> None:
    model = network(redundant=True)
    before = [each.copy() for each in model.get_weights()]
    compression.prune(model, ratio=0.5, round_to=1, samples=compression.Samples(inputs=lambda: [IMAGES]))

    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("batches", [[], [IMAGES[:1]]])
def test_few_images_do_no_harm(batches: list[Any]) -> None:
    model = network(redundant=False)
    _, solved, _ = smaller(model, batches)
    assert np.isfinite(solved.predict(UNSEEN, verbose=0)).all()
