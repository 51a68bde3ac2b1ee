"""A head that sees a sample of the identities at each step."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import UNLABELED, FaceSet
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.fit import fit
from slimcam.training.tasks.recognition.centers import CENTERS, sample, sampled_centers
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.model import COSINES, with_classifier
from slimcam.training.tasks.recognition.task import objective

PEOPLE, EMBEDDING, BATCH = 60, 8, 12


def faces(identities: int = PEOPLE) -> FaceSet:
    rng = np.random.default_rng(0)
    labels = np.arange(2 * PEOPLE, dtype=np.int32) % PEOPLE
    pixels = rng.integers(0, 255, (PEOPLE, 112, 112, 3), dtype=np.uint8)[labels]
    return FaceSet(pixels, labels, tuple(map(str, range(identities))))


def trained(loss: LossConfig, work, *, sampled=None, kernel=None, epochs=2.0, optimizer="sgd", **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.ReLU()(keras.layers.Conv2D(8, 3, strides=4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(EMBEDDING, name="embedding")(keras.layers.Flatten()(x)))
    count = PEOPLE if sampled is None else sampled.count
    learner = with_classifier(model, count, kernel, keras=keras, subcenters=loss.subcenters, norms=loss.norms)
    config = FitConfig(epochs, BATCH, optimizer, learning_rate=0.02, log_seconds=0.0, **options)
    batches = Batches(faces(), BATCH, None, seed=1)
    history = fit(learner, batches, config, objective(loss), work, keras=keras, sampled=sampled)
    return [entry["loss"] for entry in history], learner


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        (LossConfig(scale=8.0), "sgd"),
        (LossConfig(classification="arcface", scale=8.0, subcenters=3), "adamw"),
        (LossConfig(classification="adaface", scale=8.0), "sgd"),
    ],
    ids=str,
)
def test_a_sample_of_all_identities_is_the_whole_head(loss, optimizer, tmp_path):
    kernel = np.random.default_rng(1).normal(size=(EMBEDDING, loss.subcenters * PEOPLE)).astype(np.float32)
    kernel /= np.linalg.norm(kernel, axis=0)
    sampled = sampled_centers(replace(loss, sample=1.0), PEOPLE, EMBEDDING, BATCH, seed=0, kernel=kernel)
    np.testing.assert_array_equal(sampled.kernel, kernel)
    expected, whole = trained(loss, tmp_path / "whole", kernel=kernel, optimizer=optimizer)
    found, _ = trained(loss, tmp_path / "sampled", sampled=sampled, optimizer=optimizer)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(sampled.kernel, whole.get_layer(COSINES).get_weights()[0], atol=1e-4)


def test_sampled_identities_are_learned_and_a_stopped_fit_resumes_to_the_same_centers(tmp_path, monkeypatch):
    loss = LossConfig(scale=8.0, sample=0.3)

    def centers():
        return sampled_centers(loss, PEOPLE, EMBEDDING, BATCH, seed=0)

    whole = centers()
    assert whole.count == 18
    losses, _ = trained(loss, tmp_path / "whole", sampled=whole, epochs=6)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert set(whole.arrays) == {CENTERS, "cosines_kernel_momentum"}
    np.testing.assert_allclose(np.linalg.norm(whole.kernel, axis=0), 1.0, atol=1e-5)

    class StoppedError(Exception):
        pass

    def stopping(self, sizes, start=0):
        for step in range(start, 25):
            yield self.batch(step, sizes[step])
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "stream", stopping)
        with pytest.raises(StoppedError):
            trained(loss, tmp_path / "parts", sampled=centers(), epochs=6, checkpoint_seconds=0.0)
    resumed = centers()
    again, _ = trained(loss, tmp_path / "parts", sampled=resumed, epochs=6)
    np.testing.assert_allclose(again, losses, rtol=1e-4)
    np.testing.assert_allclose(resumed.kernel, whole.kernel, atol=1e-4)


def test_a_sample_has_the_identities_of_the_batch_and_others_each_once_and_each_as_likely():
    labels = np.array([7, 3, UNLABELED, 7], np.int32)
    times = np.zeros(20)
    for step in range(2000):
        chosen, places = sample(labels, 20, 8, (0, step))
        assert len(set(chosen.tolist())) == 8
        np.testing.assert_array_equal(chosen[places[labels != UNLABELED]], [7, 3, 7])
        assert places[2] == UNLABELED
        times[chosen] += 1
    assert times[[3, 7]].tolist() == [2000, 2000]
    others = np.delete(times, [3, 7]) / 2000
    np.testing.assert_allclose(others, 6 / 18, atol=0.05)


def test_a_sample_is_never_smaller_than_a_batch_nor_larger_than_all():
    assert sampled_centers(LossConfig(sample=0.01), 50, EMBEDDING, BATCH, seed=0).count == BATCH
    assert sampled_centers(LossConfig(sample=0.01), 5, EMBEDDING, BATCH, seed=0).count == 5
    assert sampled_centers(LossConfig(sample=0.5), 50, EMBEDDING, BATCH, seed=0).count == 25


def test_a_share_is_above_0_and_up_to_1():
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"loss\.sample is a share, above 0 and up to 1"):
            LossConfig(sample=share)


def test_centers_of_another_number_are_refused():
    with pytest.raises(ValueError, match="take as many subcenters"):
        sampled_centers(LossConfig(sample=0.5), 50, EMBEDDING, BATCH, 0, np.zeros((EMBEDDING, 49), np.float32))
