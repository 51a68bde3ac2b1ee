"""Losses against their definitions in numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.faces import UNLABELED
from slimcam.training.tasks.recognition import losses
from slimcam.training.tasks.recognition.config import LossConfig, TeacherConfig, TrainConfig
from slimcam.training.tasks.recognition.model import with_classifier

RNG = np.random.default_rng(0)
COSINES = RNG.uniform(-0.95, 0.95, size=(6, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 4, 0], np.int32)


def cross_entropy(logits):
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -logs[np.arange(len(LABELS)), LABELS]


def loss_of(classification, cosines=COSINES, margin=0.3):
    loss = losses.classification(LossConfig(classification=classification, margin=margin, scale=16.0))
    return keras.ops.convert_to_numpy(loss(LABELS[:, None], cosines))


def with_margin(change):
    moved = COSINES.copy()
    rows = np.arange(len(LABELS))
    moved[rows, LABELS] = change(COSINES[rows, LABELS])
    return cross_entropy(16.0 * moved)


def test_softmax_is_the_cross_entropy_of_scaled_cosines():
    np.testing.assert_allclose(loss_of("softmax"), cross_entropy(16.0 * COSINES), rtol=1e-4)


def test_cosface_takes_the_margin_from_the_true_cosine():
    np.testing.assert_allclose(loss_of("cosface"), with_margin(lambda cosine: cosine - 0.3), rtol=1e-4)


def test_arcface_adds_the_margin_to_the_true_angle():
    np.testing.assert_allclose(loss_of("arcface"), with_margin(lambda c: np.cos(np.arccos(c) + 0.3)), rtol=1e-3)


def test_arcface_stays_monotonic_where_the_angle_would_pass_pi():
    cosines = np.tile(np.linspace(-1, 1, 400, dtype=np.float32)[:, None], (1, 2))
    cosines[:, 1] = 0.0
    loss = losses.classification(LossConfig(classification="arcface", margin=0.5, scale=16.0))
    values = keras.ops.convert_to_numpy(loss(np.zeros(400, np.int32), cosines))
    assert np.all(np.diff(values) <= 1e-5)


NORMS = np.array([[10.0], [20.0], [30.0], [20.0], [20.0], [20.0]], np.float32)


def adaface_loss(norms=NORMS, cosines=COSINES):
    loss = losses.classification(LossConfig(classification="adaface", margin=0.4, scale=16.0))
    return keras.ops.convert_to_numpy(loss(LABELS, np.hstack([cosines, norms])))


def test_adaface_moves_the_margin_from_the_angle_to_the_cosine_with_the_norm():
    # Norms of mean 20 and deviation 6.3246 (five degrees of freedom): one is 1.5811 deviations below, one above.
    quality = 0.333 * np.array([-1.58089, 0.0, 1.58089, 0.0, 0.0, 0.0])
    expected = with_margin(lambda cosine: np.cos(np.arccos(cosine) - 0.4 * quality) - 0.4 * (1 + quality))
    np.testing.assert_allclose(adaface_loss(), expected, rtol=1e-3)


def test_adaface_of_average_images_is_cosface():
    np.testing.assert_allclose(
        adaface_loss(np.full((6, 1), 7.0, np.float32)), loss_of("cosface", margin=0.4), rtol=1e-3
    )


def test_adaface_clips_the_quality_of_extreme_images():
    # 99 images alike and one far off, nine deviations: at most the whole margin.
    cosines, labels = np.zeros((100, 2), np.float32), np.zeros(100, np.int32)
    norms = np.r_[np.full(99, 5.0), 95.0].astype(np.float32)[:, None]
    loss = losses.classification(LossConfig(classification="adaface", margin=0.4, scale=1.0))
    far = keras.ops.convert_to_numpy(loss(labels, np.hstack([cosines, norms])))[-1]
    logit = np.cos(np.pi / 2 - 0.4) - 0.8
    assert far == pytest.approx(np.log(np.exp(logit) + 1) - logit, rel=1e-4)


@pytest.mark.parametrize("classification", ["softmax", "cosface", "arcface"])
def test_an_unlabeled_face_is_not_classified(classification):
    loss = losses.classification(LossConfig(classification=classification))
    values = keras.ops.convert_to_numpy(loss(np.where(LABELS == 0, UNLABELED, LABELS), COSINES))
    np.testing.assert_array_equal(values == 0, LABELS == 0)


@pytest.mark.parametrize("classification", ["softmax", "cosface", "arcface"])
def test_gradients_are_finite_at_the_ends_of_the_cosine(classification):
    import tensorflow as tf

    cosines = tf.Variable([[1.0, -1.0], [-1.0, 1.0]])
    loss = losses.classification(LossConfig(classification=classification))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(np.array([0, 0], np.int32), cosines))
    assert np.isfinite(tape.gradient(value, cosines).numpy()).all()


def test_adaface_has_finite_gradients_and_none_through_the_norm():
    import tensorflow as tf

    cosines, norms = tf.Variable([[1.0, -1.0], [-1.0, 1.0]]), tf.Variable([[3.0], [5.0]])
    loss = losses.classification(LossConfig(classification="adaface"))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(np.array([0, 0], np.int32), tf.concat([cosines, norms], axis=1)))
    by_cosines, by_norms = tape.gradient(value, [cosines, norms])
    assert np.isfinite(by_cosines.numpy()).all()
    np.testing.assert_array_equal(by_norms.numpy(), 0)


def test_distillation_ignores_lengths_and_is_zero_for_the_same_direction():
    a = RNG.normal(size=(4, 8)).astype(np.float32)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses.distillation(3 * a, a / 7)), 0.0, atol=1e-6)
    b = RNG.normal(size=(4, 8)).astype(np.float32)
    cosine = np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses.distillation(a, b)), 1 - cosine, rtol=1e-5)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no loss: give a classification"):
        LossConfig(classification="none")


def test_distillation_without_a_teacher_is_refused():
    distilling = LossConfig(distillation_weight=1.0)
    with pytest.raises(ValueError, match=r"give train\.teacher\.path"):
        TrainConfig(loss=distilling)
    assert TrainConfig(loss=distilling, teacher=TeacherConfig(path="teacher.onnx")).loss is distilling


def test_features_are_compared_channel_by_channel_in_the_size_of_the_student():
    truth = RNG.normal(size=(2, 8, 8, 3)).astype(np.float16) * np.array([1.0, 10.0, 0.0]) + np.array([5.0, 0.0, 2.0])
    halves = truth.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    deviation = np.sqrt(halves.var(axis=(0, 1, 2)) + 1e-2)
    standard = (halves - halves.mean(axis=(0, 1, 2))) / deviation
    same = keras.ops.convert_to_numpy(losses.features(truth, truth))
    assert np.all(same > 0)
    whole = (truth - truth.mean(axis=(0, 1, 2))) / np.sqrt(truth.var(axis=(0, 1, 2)) + 1e-2)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses.features(truth, whole)), 0.0, atol=1e-4)
    # Antialiased halving is wider than a mean of four; a standardized map is near nought on the whole.
    near = keras.ops.convert_to_numpy(losses.features(truth, standard.astype(np.float32)))
    assert near.shape == (2,)
    assert np.all(near < 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": LossConfig("none", distillation_weight=1.0, features_weight=1.0)}, r"give train\.teacher\.features"),
        ({"augment": AugmentConfig(elastic=0.5)}, r"give train\.teacher\.views"),
        ({"augment": AugmentConfig(mixup=0.5), "teacher": TeacherConfig("teacher.onnx", views=2)}, "and imitate it"),
        ({"balance": 2.0}, "balance is 0 to 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{"teacher": TeacherConfig(path="teacher.onnx")} | options)


@pytest.mark.parametrize(("classification", "subcenters"), [("cosface", 1), ("arcface", 3), ("adaface", 2)])
def test_the_loss_of_embeddings_is_that_of_the_classifier(classification, subcenters):
    config = LossConfig(classification, distillation_weight=0.5, classification_weight=2.0, subcenters=subcenters)
    rng = np.random.default_rng(0)
    embeddings, taught = rng.normal(size=(2, 6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, 2, 1, UNLABELED])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Activation("linear", name="embedding")(inputs))
    learner = with_classifier(model, 3, subcenters=subcenters, norms=config.norms, keras=keras)
    outputs = learner(embeddings)
    expected = 2.0 * losses.classification(config)(labels, outputs["cosines"])
    expected += 0.5 * losses.distillation(taught, outputs["embedding"])

    found = losses.embedding_loss(config, learner.get_layer("cosines").get_weights()[0])((labels, taught), embeddings)

    np.testing.assert_allclose(found, expected, rtol=1e-5)
