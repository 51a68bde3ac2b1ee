"""Fitting: both Kerases, every loss, and going on after a kill."""

from __future__ import annotations

import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
import tf_keras

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.training.data.recognition.batches import Batches, resize
from slimcam.training.data.recognition.faces import FaceSet, Verification
from slimcam.training.data.recognition.pairs import sample_pairs
from slimcam.training.data.recognition.teacher_targets import TeacherTargets
from slimcam.training.fit import fit as fitting
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.fit import fit, learning_rate
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.model import with_classifier, with_features
from slimcam.training.tasks.recognition.task import held_out_accuracy, objective
from slimcam.training.tasks.recognition.teacher import ImageTargets
from slimcam.training.tasks.recognition.verification import Accuracy, pair_scores

CLASSES, EMBEDDING = 4, 8
DISTIL = LossConfig(classification="none", distillation_weight=1.0)


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


def batches(targets=None) -> Batches:
    table = None if targets is None else ImageTargets(TeacherTargets(targets))
    return Batches(faces(), batch_size=12, augment=None, seed=1, targets=table)


def pooled():
    """An embedder that takes images of any size."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(inputs, keras.layers.Flatten(name="embedding")(keras.layers.Conv2D(EMBEDDING, 1)(x)))


def targets() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(CLASSES, EMBEDDING)).astype(np.float32)[faces().labels]


def run(module, loss: LossConfig, work, *, epochs: float = 10.0, targets=None, held_out=None, **options):
    module.utils.set_random_seed(0)
    model = embedder(module)
    if loss.classifies:
        model = with_classifier(model, CLASSES, keras=module)
    config = FitConfig(epochs=epochs, batch_size=12, learning_rate=0.02, log_seconds=0.0, **options)
    return model, fit(
        model,
        batches(targets),
        config,
        objective(loss),
        work,
        keras=module,
        validate=held_out and held_out_accuracy(held_out),
    )


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
@pytest.mark.parametrize("classification", ["softmax", "cosface", "arcface"])
def test_a_classification_loss_falls(module, classification, tmp_path):
    _, history = run(module, LossConfig(classification=classification, scale=8.0), tmp_path)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_distillation_alone_and_mixed_brings_embeddings_to_the_targets(module, tmp_path):
    mixed = LossConfig(classification="cosface", scale=8.0, distillation_weight=1.0)
    for name, loss in (("alone", DISTIL), ("mixed", mixed)):
        model, history = run(module, loss, tmp_path / name, epochs=25, targets=targets(), optimizer="adamw")
        assert history[-1]["loss"] < 0.6 * history[0]["loss"]
        batch = batches().batch(0, 16)
        output = model.predict(batch.images, verbose=0)
        output = output["embedding"] if loss.classifies else output
        truth = targets()[batch.indices]
        cosine = np.sum(output * truth, 1) / np.linalg.norm(output, axis=1) / np.linalg.norm(truth, axis=1)
        assert cosine.mean() > 0.8


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {"optimizer": "adamw"}, {"ema": 0.9}], ids=str)
def test_a_stopped_fit_resumes_to_the_same_weights(module, options, tmp_path, monkeypatch):
    loss = LossConfig(scale=8.0)
    whole, history = run(module, loss, tmp_path / "whole", epochs=2, **options)

    class StoppedError(Exception):
        pass

    original, served = Batches.stream, []

    def stop_after_five(self, sizes, start=0):
        for batch in original(self, sizes, start):
            if len(served) == 5:
                raise StoppedError
            served.append(batch)
            yield batch

    monkeypatch.setattr(Batches, "stream", stop_after_five)
    with pytest.raises(StoppedError):
        run(module, loss, tmp_path / "parts", epochs=2, checkpoint_seconds=0.0, **options)
    monkeypatch.undo()
    resumed, again = run(module, loss, tmp_path / "parts", epochs=2, **options)
    assert [entry["step"] for entry in again] == [entry["step"] for entry in history]
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_small_images_first_train_the_model_of_the_full_size(tmp_path, monkeypatch):
    seen = []
    original = Batches.batch

    def watched(self, step, size):
        seen.append((step, size))
        return original(self, step, size)

    monkeypatch.setattr(Batches, "batch", watched)
    keras.utils.set_random_seed(0)
    model = pooled()
    config = FitConfig(epochs=5, batch_size=12, learning_rate=0.02, log_seconds=0.0, sizes=[8, 16])
    before = model.get_weights()
    history = fit(model, batches(targets()), config, objective(DISTIL), tmp_path, keras=keras)
    assert [size for _, size in sorted(seen)] == [8] * 10 + [16] * 10
    assert history[-1]["loss"] < history[0]["loss"]
    assert model.input_shape == (None, 16, 16, 3)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("classification", ["none", "cosface"])
def test_a_feature_map_is_learned_beside_the_embedding_in_every_size(classification, tmp_path):
    keras.utils.set_random_seed(0)
    model = pooled()
    layer = next(layer.name for layer in model.layers if "conv" in layer.name)
    loss = LossConfig(classification, scale=8.0, distillation_weight=1.0, features_weight=1.0, features_layer=layer)
    learner = with_classifier(model, CLASSES, keras=keras) if loss.classifies else model
    # A map of another size than the student's, of its colors.
    maps = np.stack([resize(image, 7) for image in faces().images]).astype(np.float16)
    taught = replace(batches(), targets=ImageTargets(TeacherTargets(targets(), maps)))
    learner = with_features(learner, layer, taught.targets.channels, keras=keras)
    config = FitConfig(epochs=30, batch_size=12, optimizer="adamw", learning_rate=0.02, log_seconds=0.0, sizes=[8, 16])
    history = fit(learner, taught, config, objective(loss), tmp_path, keras=keras)
    parts = [name for name in history[0] if name.endswith("_loss")]
    assert len(parts) == (3 if loss.classifies else 2)
    assert history[-1]["features_loss"] < 0.9 * history[0]["features_loss"]
    assert history[-1]["embedding_loss"] < 0.9 * history[0]["embedding_loss"]


def test_a_layer_that_is_not_there_is_named_with_the_nearest():
    model = pooled()
    layer = next(layer.name for layer in model.layers if "conv" in layer.name)
    with pytest.raises(ValueError, match=f"has no layer '{layer}x'; did you mean '{layer}'"):
        with_features(model, f"{layer}x", 3, keras=keras)
    with pytest.raises(ValueError, match="not a map"):
        with_features(model, "embedding", 3, keras=keras)


def test_a_model_of_one_size_refuses_others(tmp_path):
    with pytest.raises(ValueError, match=r"fit\.sizes: functional.* does not take images of any size"):
        run(keras, DISTIL, tmp_path, targets=targets(), sizes=[8, 16])


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_feature_maps_learn_as_float32_ones_do_and_are_that_where_it_is_slow(
    fast, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(fitting, "multiplies_bfloat16", lambda _: fast)
    losses, kinds = [], []
    for precision in ("float32", "bfloat16"):
        keras.utils.set_random_seed(0)
        model = pooled()
        config = FitConfig(epochs=5, batch_size=12, learning_rate=0.02, log_seconds=0.0, precision=precision)
        history = fit(model, batches(targets()), config, objective(DISTIL), tmp_path / precision, keras=keras)
        losses.append(history[-1]["loss"])
        kinds.append({str(weight.dtype) for weight in model.get_weights()})
    assert losses[0] == pytest.approx(losses[1], abs=0.03)
    assert kinds == [{"float32"}, {"float32"}]
    assert (losses[0] == losses[1]) != fast
    assert ("no instructions for it" in caplog.text) != fast


@pytest.mark.parametrize(
    "options",
    [{"precision": "bfloat16"}, {"sizes": [8, 16]}, {"optimizer": "muon"}, {"devices": 2}, {"accumulate": 2}],
    ids=str,
)
def test_tf_keras_trains_in_float32_in_one_size_on_one_device_and_without_muon(options, tmp_path):
    with pytest.raises(ValueError, match=rf"fit\.{next(iter(options))}=.*for Keras 3 alone"):
        run(tf_keras, DISTIL, tmp_path, targets=targets(), **options)


def test_two_batches_whose_gradients_are_averaged_are_one_of_twice_the_size(tmp_path):
    results = []
    for size, accumulate in ((12, 1), (6, 2)):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((16, 16, 3))
        outputs = keras.layers.Dense(EMBEDDING)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3, strides=4)(inputs)))
        model = keras.Model(inputs, outputs)
        config = FitConfig(epochs=2.0, batch_size=size, accumulate=accumulate, warmup=0.0, final_fraction=1.0)
        stream = replace(batches(targets()), batch_size=size)
        history = fit(model, stream, config, objective(DISTIL), tmp_path / str(size), keras=keras)
        assert history[-1]["step"] == 8 * accumulate
        results.append(model.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_several_devices_are_refused_where_the_backend_has_no_data_parallelism(tmp_path):
    with pytest.raises(ValueError, match=r"fit\.devices=2: several devices train on JAX alone: set backend=jax"):
        run(keras, DISTIL, tmp_path, targets=targets(), devices=2)


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_the_average_of_the_weights_is_the_result(module, tmp_path):
    """With a decay of nearly one the average stays near the first step; the weights themselves do not."""
    module.utils.set_random_seed(0)
    start = embedder(module).trainable_variables
    moved = []
    for ema in (0.0, 0.9999):
        model, _ = run(module, DISTIL, tmp_path / str(ema), epochs=5, targets=targets(), ema=ema)
        pairs = zip(model.trainable_variables, start, strict=True)
        moved.append(max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs))
    assert moved[1] < 0.2 * moved[0]


def test_the_best_validated_weights_are_the_result(tmp_path, monkeypatch):
    accuracies = iter([0.6, 0.9, 0.7])
    seen = []

    def fold(scores, pairs):
        seen.append(scores)
        return Accuracy(next(accuracies), 0.0, np.zeros(len(pairs), bool))

    monkeypatch.setattr("slimcam.training.tasks.recognition.verification.fold_accuracy", fold)
    held_out = Verification(faces(), sample_pairs(faces().labels, 40))
    model, history = run(keras, DISTIL, tmp_path, epochs=3, targets=targets(), validations=3, held_out=held_out)
    assert [entry["accuracy"] for entry in history if "accuracy" in entry] == [0.6, 0.9, 0.7]
    pixels = normalized(np.stack([resize(image, 16) for image in held_out.faces.images]), InputSpec())
    np.testing.assert_allclose(pair_scores(model.predict(pixels, verbose=0), held_out.pairs), seen[1], atol=1e-4)


def test_a_fit_ends_early_when_validations_bring_nothing_better_and_stays_ended(tmp_path):
    accuracies = iter([0.6, 0.9, 0.7, 0.8, 0.95])
    config = FitConfig(epochs=3.0, batch_size=12, validations=6, patience=2, log_seconds=0.0)
    model = embedder(keras)
    for _ in range(2):
        history = fit(
            model,
            batches(targets()),
            config,
            objective(DISTIL),
            tmp_path,
            keras=keras,
            validate=lambda _: next(accuracies),
        )
        assert [entry["accuracy"] for entry in history if "accuracy" in entry] == [0.6, 0.9, 0.7, 0.8]
        assert history[-1]["step"] == 8
    with pytest.raises(ValueError, match="patience counts validations"):
        FitConfig(patience=1)


def test_more_images_a_batch_than_there_are_is_refused(tmp_path):
    config = FitConfig(batch_size=100_000)
    with pytest.raises(ValueError, match=r"fit\.batch_size is 100000, but there are 48 images: give 48 or less"):
        fit(
            embedder(keras),
            replace(batches(targets()), batch_size=100_000),
            config,
            objective(DISTIL),
            tmp_path,
            keras=keras,
        )


def test_weights_are_validated_and_kept_with_recalibrated_statistics(tmp_path):
    keras.utils.set_random_seed(0)
    model, seen = embedder(keras), []

    def statistics(learner):
        return next(layer for layer in learner.layers if isinstance(layer, keras.layers.BatchNormalization)).moving_mean

    def recalibrate(learner):
        statistics(learner).assign(np.full(8, 7.0, np.float32))

    def accuracy(learner):
        seen.append(np.asarray(statistics(learner)).copy())
        return 0.5

    config = FitConfig(epochs=1.0, batch_size=12, validations=2, log_seconds=0.0)
    options = {"validate": accuracy, "recalibrate": recalibrate}
    fit(model, batches(targets()), config, objective(DISTIL), tmp_path, keras=keras, **options)
    np.testing.assert_array_equal(seen, np.full((2, 8), 7.0))
    np.testing.assert_array_equal(statistics(model), np.full(8, 7.0))
    with np.load(tmp_path / "checkpoint.npz") as saved:  # training itself goes on with its own
        assert not any(np.array_equal(saved[name], np.full(8, 7.0)) for name in saved.files)


def test_validation_needs_people_held_out(tmp_path):
    with pytest.raises(ValueError, match=r"set fit\.validations=0"):
        run(keras, DISTIL, tmp_path, targets=targets(), validations=1)


def test_class_centers_stay_at_unit_length(tmp_path):
    model, _ = run(keras, LossConfig(scale=8.0), tmp_path, epochs=1)
    kernel = model.get_layer("cosines").get_weights()[0]
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.0, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_fit(tmp_path):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        run(keras, DISTIL, tmp_path, targets=np.full((48, EMBEDDING), np.nan, np.float32))


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
