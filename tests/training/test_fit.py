"""Fitting: both Kerases, every loss, and going on after a kill."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tf_keras

from training.data.augment import AugmentConfig
from training.data.batches import Batches
from training.data.faces import FaceSet
from training.fit import fit, learning_rate
from training.models import with_classifier
from training.recipe import FitConfig, LossConfig

CLASSES, EMBEDDING = 4, 8


def faces(count: int = 48) -> FaceSet:
    """Images whose brightness pattern tells their identity."""
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    patterns = rng.integers(0, 255, size=(CLASSES, 112, 112, 3))
    noisy = patterns[labels] + rng.normal(0, 20, size=(count, 112, 112, 3))
    return FaceSet(np.clip(noisy, 0, 255).astype(np.uint8), labels, tuple("abcd"))


def embedder(module):
    inputs = module.Input((16, 16, 3))
    x = module.layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = module.layers.ReLU()(module.layers.BatchNormalization()(x))
    x = module.layers.Dense(EMBEDDING)(module.layers.Flatten()(x))
    return module.Model(inputs, module.layers.Activation("linear", name="embedding")(x))


def batches(augment: AugmentConfig | None = None) -> Batches:
    return Batches(faces(), size=16, batch_size=12, augment=augment, seed=1)


def run(module, loss: LossConfig, work, *, epochs: float = 10.0, targets=None, **options):
    module.utils.set_random_seed(0)
    model = embedder(module)
    if loss.classifies:
        model = with_classifier(model, CLASSES, keras=module)
    config = FitConfig(epochs=epochs, batch_size=12, learning_rate=0.02, log_seconds=0.0, **options)
    return model, fit(model, batches(), config, loss, work, keras=module, targets=targets)


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
@pytest.mark.parametrize("classification", ["softmax", "cosface", "arcface"])
def test_a_classification_loss_falls(module, classification, tmp_path):
    _, history = run(module, LossConfig(classification=classification, scale=8.0), tmp_path)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_distillation_alone_and_mixed_brings_embeddings_to_the_targets(module, tmp_path):
    targets = np.random.default_rng(1).normal(size=(CLASSES, EMBEDDING)).astype(np.float32)[faces().labels]
    alone = LossConfig(classification="none", distillation_weight=1.0)
    mixed = LossConfig(classification="cosface", scale=8.0, distillation_weight=1.0)
    for name, loss in (("alone", alone), ("mixed", mixed)):
        model, history = run(module, loss, tmp_path / name, epochs=25, targets=targets, optimizer="adamw")
        assert history[-1]["loss"] < 0.6 * history[0]["loss"]
        batch = batches().batch(0)
        output = model.predict(batch.images, verbose=0)
        output = output["embedding"] if loss.classifies else output
        truth = targets[batch.indices]
        cosine = np.sum(output * truth, 1) / np.linalg.norm(output, axis=1) / np.linalg.norm(truth, axis=1)
        assert cosine.mean() > 0.8


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stopped_fit_resumes_to_the_same_weights(module, optimizer, tmp_path, monkeypatch):
    loss = LossConfig(scale=8.0)
    whole, history = run(module, loss, tmp_path / "whole", epochs=2, optimizer=optimizer)

    class StoppedError(Exception):
        pass

    original, served = Batches.stream, []

    def stop_after_five(self, start=0):
        for batch in original(self, start):
            if len(served) == 5:
                raise StoppedError
            served.append(batch)
            yield batch

    monkeypatch.setattr(Batches, "stream", stop_after_five)
    with pytest.raises(StoppedError):
        run(module, loss, tmp_path / "parts", epochs=2, optimizer=optimizer, checkpoint_seconds=0.0)
    monkeypatch.undo()
    resumed, again = run(module, loss, tmp_path / "parts", epochs=2, optimizer=optimizer)
    assert [entry["step"] for entry in again] == [entry["step"] for entry in history]
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_class_centres_stay_at_unit_length(tmp_path):
    model, _ = run(keras, LossConfig(scale=8.0), tmp_path, epochs=1)
    kernel = model.get_layer("cosines").get_weights()[0]
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.0, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_fit(tmp_path):
    targets = np.full((48, EMBEDDING), np.nan, np.float32)
    loss = LossConfig(classification="none", distillation_weight=1.0)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        run(keras, loss, tmp_path, targets=targets)


def test_no_space_left_keeps_the_last_checkpoint_and_no_half_written_one(tmp_path, monkeypatch):
    loss = LossConfig(scale=8.0)
    run(keras, loss, tmp_path, epochs=0.25)
    before = (tmp_path / "checkpoint.npz").read_bytes()

    def full(file, **_):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(OSError, match="No space left"):
        run(keras, loss, tmp_path, epochs=1, checkpoint_seconds=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


def test_the_learning_rate_warms_up_and_then_falls_to_its_final_fraction():
    config = FitConfig(learning_rate=1.0, warmup=0.1, final_fraction=0.01)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))
