"""Magnitude pruning: which weights become zero and when, and that they are zero in the int8 file too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_utils import is_pruned_m_by_n

from slimcam.compression.export.tflite import int8_tflite, with_all_tensors
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.config import MagnitudeConfig
from slimcam.compression.pruning.magnitude import pruning_callbacks, sparsity_aware, strip, zeros
from slimcam.compression.quantization import qat
from slimcam.compression.quantization.equalize import equalize
from slimcam.compression.quantization.keras2 import adopt_weights, to_tf_keras

L = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 127 / 128, (64, 12, 12, 3)).astype(np.float32)
TRUTH = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)


def network() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(8, 3, strides=2, use_bias=False, name="conv")(inputs)))
    x = L.ReLU()(L.Dense(16, name="dense")(L.Flatten()(x)))
    return keras.Model(inputs, L.Dense(4, name="out")(x), name="net")


def trained(model: Any, ratio: float = 0.8, folder: Path | None = None, **options: Any) -> Any:
    """Trains 24 steps in three epochs and gives the weights back to the Keras 3 model."""
    settings = {name: options.pop(name) for name in ("keep", "ratios") if name in options}
    twin = sparsity_aware(to_tf_keras(model), ratio, MagnitudeConfig(**{"frequency": 4, **options}), **settings)
    twin.compile(tf_keras.optimizers.Adam(0.01), "mse")
    twin.fit(IMAGES, TRUTH, batch_size=8, epochs=3, verbose=0, callbacks=pruning_callbacks(folder))
    adopt_weights(model, strip(twin))
    return model


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def sparse(events: Path) -> Any:
    return trained(network(), folder=events, keep=["last"], ratios={"conv": 0.7})


def shares(model: Any) -> dict[str, float]:
    return {name: zero / size for name, (zero, size) in zeros(model).items()}


def test_the_smallest_weights_of_each_kernel_become_zero_by_its_own_share(sparse: Any) -> None:
    assert shares(sparse) == {"conv": pytest.approx(0.7, abs=0.01), "dense": pytest.approx(0.8, abs=0.01), "out": 0}
    assert float(np.abs(np.asarray(sparse.get_layer("norm").moving_mean)).max()) > 0


def test_sparsity_and_threshold_of_each_kernel_grow_in_tensorboard(sparse: Any, events: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.util import tensor_util

    assert sparse
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(events.rglob("events*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                run = str(path.parent.relative_to(events))
                number = float(tensor_util.make_ndarray(value.tensor))
                found.setdefault(f"{run}: {value.tag}", []).append((event.step, number))
    assert sorted(found) == [
        f"sparsity: {what}/{layer}/kernel" for what in ("sparsity", "threshold") for layer in ("conv", "dense")
    ]
    steps, shares = zip(*found["sparsity: sparsity/dense/kernel"], strict=True)
    assert steps == (0, 8, 16, 24)  # the begin of each epoch, and the end
    assert shares[0] == 0
    assert 0.5 < shares[1] < shares[2] <= shares[3] == pytest.approx(0.8, abs=0.01)
    assert found["sparsity: threshold/dense/kernel"][-1][1] > 0


def test_zeros_stay_zero_through_quantization_aware_training_and_in_the_file(sparse: Any) -> None:
    form = normalize(sparse, int8=True).model
    equalize(form, [IMAGES])
    gone = {name: np.asarray(form.get_layer(name).kernel) == 0 for name in ("conv", "dense")}
    model = qat.quantize_aware(to_tf_keras(form), input_range=qat.PIXEL_RANGE)
    qat.calibrate(model, [IMAGES])
    qat.freeze_batch_norm(model)
    model.compile(tf_keras.optimizers.AdamW(0.01, weight_decay=0.01), "mse")
    model.fit(IMAGES, TRUTH, batch_size=16, epochs=2, verbose=0)
    interpreter = with_all_tensors(int8_tflite(model))
    kernels = {}
    for tensor in interpreter.get_tensor_details():
        size = int(np.prod(tensor["shape"]))
        if tensor["dtype"] == np.int8 and size in (3 * 3 * 3 * 8, 200 * 16) and len(tensor["shape"]) > 1:
            kernels["conv" if size == 3 * 3 * 3 * 8 else "dense"] = interpreter.get_tensor(tensor["index"])
    assert set(kernels) == set(gone)
    for name, kernel in kernels.items():
        # What is written comes first in TFLite, last in Keras.
        zero = np.moveaxis(gone[name], -1, 0).reshape(len(kernel), -1)
        found = kernel.reshape(len(kernel), -1)
        assert zero.mean() == pytest.approx({"conv": 0.7, "dense": 0.8}[name], abs=0.01)
        assert not found[zero].any()
        assert (found[~zero] != 0).mean() > 0.8


def test_two_of_four_weights_along_the_input_channels_become_zero() -> None:
    model = trained(network(), m_by_n=[2, 4], keep=["conv"])
    assert shares(model) == {"conv": 0, "dense": pytest.approx(0.5), "out": pytest.approx(0.5)}
    assert is_pruned_m_by_n(model.get_layer("dense").kernel.value, (2, 4))


def test_blocks_of_dense_kernels_are_chosen_as_a_whole() -> None:
    config = MagnitudeConfig(block_size=[4, 1], block_pooling="MAX", initial=0.8)
    twin = sparsity_aware(to_tf_keras(network()), 0.8, config, keep=["conv", "out"])
    wrapper = twin.get_layer("prune_low_magnitude_dense")
    wrapper.pruning_step.assign(1)
    _, mask = wrapper.pruning_obj._maybe_update_block_mask(wrapper.layer.kernel)
    zero = (np.asarray(mask) == 0).reshape(50, 4, 16)
    assert zero.mean() == pytest.approx(0.8, abs=0.01)
    np.testing.assert_array_equal(zero.all(axis=1), zero.any(axis=1))


@pytest.mark.parametrize(
    ("ratio", "options", "settings", "message"),
    [
        (0.0, {}, {}, r"^no weight of model 'net' is to become zero: it has 3 kernels that can be pruned"),
        (0.8, {}, {"keep": ["*"]}, r"of which keep leaves 3 whole"),
        (0.8, {}, {"keep": ["dens"]}, r"^keep: .* no layer of the model is called 'dens'; did you mean 'dense'\?"),
        (0.8, {}, {"ratios": {"x": 0.5}}, r"^ratios: .* no layer of the model is called 'x'"),
        (0.8, {"block_size": [4, 1]}, {}, r"^magnitude\.block_size is for dense kernels, and that of conv has more"),
        (0.8, {"policy": "xnnpack"}, {}, r"^magnitude\.policy=xnnpack: Could not find `Conv2D 3x3` layer"),
    ],
)
def test_what_cannot_be_is_one_line(
    ratio: float, options: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        sparsity_aware(to_tf_keras(network()), ratio, MagnitudeConfig(**options), **settings)
    assert "\n" not in str(error.value)


def test_the_policy_for_xnnpack_prunes_pointwise_convolutions_alone() -> None:
    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(L.Conv2D(8, 3, strides=2, name="first")(L.ZeroPadding2D(1)(inputs)))
    x = L.ReLU()(L.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = L.ReLU()(L.Conv2D(16, 1, name="pointwise")(x))
    model = keras.Model(inputs, L.Dense(4, name="out")(L.GlobalAveragePooling2D()(x)))
    twin = sparsity_aware(to_tf_keras(model), 0.8, MagnitudeConfig(policy="xnnpack"))
    assert [layer.name for layer in twin.layers if "prune" in layer.name] == ["prune_low_magnitude_pointwise"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 1.0}, r"magnitude\.initial is a share, 0 to below 1; got 1\.0"),
        ({"end": 0.0}, r"magnitude\.end is a share of the steps, above 0 to 1; got 0\.0"),
        ({"frequency": 0}, r"magnitude\.frequency 1 or more; got 3\.0 and 0"),
        ({"block_size": [4]}, r"magnitude\.block_size is a height and a width"),
        ({"m_by_n": [4, 2]}, r"magnitude\.m_by_n is zeros and the weights that they are of"),
        ({"m_by_n": [2, 4], "block_size": [4, 1]}, r"two patterns: give one of them"),
        ({"policy": "gpu"}, r"magnitude\.policy is one of all, xnnpack; got 'gpu'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MagnitudeConfig(**options)
