from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras

from slimcam.training.tasks.classification.config import ClassifierLossConfig, ClassifierTrainConfig
from slimcam.training.tasks.classification.losses import classes

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 3)).astype(np.float32)
TAUGHT = RNG.normal(size=(4, 3)).astype(np.float32)
LABELS = np.array([[0], [2], [1], [2]], np.float32)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def test_labels_are_smoothed_over_all_classes():
    wanted = 0.8 * np.eye(3)[LABELS[:, 0].astype(int)] + 0.2 / 3
    found = classes(ClassifierLossConfig(label_smoothing=0.2))(LABELS, LOGITS)
    np.testing.assert_allclose(np.asarray(found), -(wanted * log_softmax(LOGITS)).sum(axis=1), rtol=1e-5)


def test_distillation_is_the_divergence_of_softmaxes_at_the_temperature():
    config = ClassifierLossConfig(classification_weight=0.0, distillation_weight=0.5, temperature=2.0)
    taught, found = log_softmax(TAUGHT / 2), log_softmax(LOGITS / 2)
    expected = 0.5 * 4 * (np.exp(taught) * (taught - found)).sum(axis=1)
    loss = classes(config)
    np.testing.assert_allclose(np.asarray(loss(np.hstack([LABELS, TAUGHT]), LOGITS)), expected, rtol=1e-4)
    np.testing.assert_allclose(np.asarray(loss(np.hstack([LABELS, LOGITS]), LOGITS)), 0, atol=1e-6)


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_a_model_of_either_keras_learns_by_it(module):
    inputs = module.Input((5,))
    model = module.Model(inputs, module.layers.Dense(3)(inputs))
    model.compile(module.optimizers.SGD(0.5), loss=classes(ClassifierLossConfig(distillation_weight=1.0)))
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    losses = [float(model.train_on_batch(x, np.hstack([LABELS, TAUGHT]))) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(ValueError, match="one of them above"):
        ClassifierLossConfig(classification_weight=0.0)
    with pytest.raises(ValueError, match="no dense model to imitate before it is trained"):
        ClassifierTrainConfig(loss=ClassifierLossConfig(distillation_weight=1.0))
